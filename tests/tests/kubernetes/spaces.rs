//! Workspaces in several namespaces, by template and by user.

use crate::shown;
use http::{Method, StatusCode};
use serde_json::json;
use tests::{Cluster, Person, Realm, STARTED, Usher, wait_for};

/// Another namespace beside a realm's own two, deleted with them.
async fn another(realm: &Realm) -> String {
    let name = format!("{}-more", realm.workspaces);
    let labels = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
    let metadata = json!({ "name": name, "labels": labels });
    let cluster = realm.cluster();
    cluster.apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata })).await;
    wait_for("the namespace's service account", STARTED, async || {
        cluster.try_kubectl(&["get", "serviceaccount", "default", "--namespace", &name]).await.ok()
    })
    .await;
    name
}

/// How many replicas somebody's set has in a namespace; none = there is none.
async fn replicas(realm: &Realm, namespace: &str, name: &str) -> Option<String> {
    let set = format!("statefulset/{name}");
    let arguments = ["get", &set, "--namespace", namespace, "--output=jsonpath={.spec.replicas}"];
    realm.cluster().try_kubectl(&arguments).await.ok()
}

/// Has an operator delete what alice has in a namespace.
async fn delete(realm: &Realm, usher: &Usher, namespace: &str, how: &[&str]) {
    let (deleted, said) = usher.command(&[&["delete", "alice"], how].concat());
    assert!(deleted, "{said}");
    wait_for("alice's set to be gone", STARTED, async || {
        replicas(realm, namespace, "alice").await.is_none().then_some(())
    })
    .await;
}

/// Alice's are in the second namespace, or in the first when the rule has changed.
fn by_user(realm: &Realm, second: &str, who: &str) -> String {
    let (first, rule) = (&realm.workspaces, format!("user.name == '{who}'"));
    realm.demo(&format!("namespace = {{ expression = \"{rule} ? '{second}' : '{first}'\" }}"))
}

#[tokio::test]
async fn a_user_is_where_the_template_says_and_stays_there_whatever_it_says_later() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let second = another(&realm).await;
    let first = realm.workspaces.clone();
    let usher = realm.setup_among(&second, &by_user(&realm, &second, "alice")).await.start().await;
    let mut alice = Person::at_work_in_cluster(&usher, "alice").await;
    let mut bob = Person::at_work_in_cluster(&usher, "bob").await;
    for (name, theirs, other) in [("alice", &second, &first), ("bob", &first, &second)] {
        assert_eq!(replicas(&realm, theirs, name).await.as_deref(), Some("1"), "{name}");
        assert_eq!(replicas(&realm, other, name).await, None, "{name}");
    }
    alice.fetch(Method::PUT, "/note").body("kept").send().await;
    delete(&realm, &usher, &second, &[]).await;

    // By the rule as it is now both belong elsewhere: bob's runs where it is, and alice's files are where they were.
    let usher = usher.replaced_by(realm.setup_among(&second, &by_user(&realm, &second, "bob")).await).await;
    alice.moved_to(&usher);
    bob.moved_to(&usher);
    bob.reaches("ready").await;
    alice.visit("/").await;
    alice.reaches("ready").await;
    assert_eq!(alice.fetch(Method::GET, "/note").send().await.text(), "kept");
    for (name, theirs, other) in [("alice", &second, &first), ("bob", &first, &second)] {
        assert_eq!(replicas(&realm, theirs, name).await.as_deref(), Some("1"), "{name}");
        assert_eq!(replicas(&realm, other, name).await, None, "{name}");
    }
    // Without its files nothing of it is left, and the rule is asked again.
    delete(&realm, &usher, &second, &["--with-volume"]).await;
    alice.visit("/").await;
    alice.reaches("ready").await;
    assert_eq!(replicas(&realm, &first, "alice").await.as_deref(), Some("1"));
    drop_namespace(&realm, &second).await;
}

async fn serves_newcomers(usher: &Usher) {
    wait_for("it to serve newcomers", STARTED, async || {
        (usher.admin("/readyz").send().await.status == StatusCode::OK).then_some(())
    })
    .await;
}

#[tokio::test]
async fn files_from_before_there_were_several_namespaces_are_found() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let second = another(&realm).await;
    let usher = realm.setup("").await.start().await;
    let mut alice = Person::at_work_in_cluster(&usher, "alice").await;
    alice.fetch(Method::PUT, "/note").body("kept").send().await;
    delete(&realm, &usher, &realm.workspaces, &[]).await;
    let usher = usher.replaced_by(realm.setup_among(&second, &by_user(&realm, &second, "alice")).await).await;
    alice.moved_to(&usher);
    serves_newcomers(&usher).await;
    alice.visit("/").await;
    alice.reaches("ready").await;
    assert_eq!(alice.fetch(Method::GET, "/note").send().await.text(), "kept");
    assert_eq!(replicas(&realm, &second, "alice").await, None);
    drop_namespace(&realm, &second).await;
}

#[tokio::test]
async fn what_two_ushers_know_to_be_unused_is_stopped_in_every_namespace() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let second = another(&realm).await;
    let idle = "[workspaces]\nidle_after = \"5s\"\nwarn_before = \"1s\"\n";
    let rest = format!("{}{idle}", by_user(&realm, &second, "alice"));
    let setup = realm.setup_among(&second, &rest).await;
    let ushers: [Usher; 2] = [setup.clone().start().await, setup.start().await];
    let (alice, bob) = tokio::join!(
        Person::at_work_in_cluster(&ushers[0], "alice"),
        Person::at_work_in_cluster(&ushers[1], "bob")
    );
    for person in [&alice, &bob] as [&Person; 2] {
        let status = person.reaches("stopped").await;
        assert_eq!(status["stopped"]["code"], "idle", "{status}");
    }
    assert_eq!(replicas(&realm, &second, "alice").await.as_deref(), Some("0"));
    drop_namespace(&realm, &second).await;
}

#[tokio::test]
async fn a_namespace_that_is_lost_is_nothing_to_the_others() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let second = another(&realm).await;
    let setup = realm.setup_among(&second, &by_user(&realm, &second, "alice")).await;
    let usher = setup.clone().start().await;
    let mut alice = Person::at_work_in_cluster(&usher, "alice").await;
    let mut bob = Person::at_work_in_cluster(&usher, "bob").await;
    realm.cluster().kubectl(&["delete", "rolebinding", "--all", "--namespace", &second]).await;
    wait_for("the namespace to be out of sight", STARTED, async || {
        let blind = usher.metric("usher_kubernetes_watches_blind{resource=\"statefulsets\"}").await;
        (blind == Some(1.0)).then_some(())
    })
    .await;
    Person::at_work_in_cluster(&usher, "carol").await;

    let usher = usher.replaced_by(setup).await;
    bob.moved_to(&usher);
    alice.moved_to(&usher);
    bob.reaches("ready").await;
    // Until it has waited long enough for the one that is lost it asks for nobody to be sent to it.
    serves_newcomers(&usher).await;
    Person::at_work_in_cluster(&usher, "dora").await;
    alice.visit("/").await;
    let status = alice.reaches("failed").await;
    assert_eq!(status["cause"]["code"], "not_permitted", "{status}");

    // Files that are kept go where they can be seen; of whom there are none, they may be where nobody sees.
    let (deleted, said) = usher.command(&["delete", "bob"]);
    assert!(deleted, "{said}");
    wait_for("bob's to be known to nobody", STARTED, async || {
        let known = usher.status().await.to_string();
        (!known.contains("\"bob\"")).then_some(())
    })
    .await;
    let (deleted, said) = usher.command(&["delete", "bob", "--with-volume"]);
    assert!(deleted, "{said}");
    wait_for("bob's files to be gone", STARTED, async || {
        shown(&realm, "persistentvolumeclaim/home-bob-0", "{.metadata.name}").await.is_none().then_some(())
    })
    .await;
    for name in ["bob", "nobody"] {
        let (deleted, said) = usher.command(&["delete", name, "--with-volume"]);
        assert!(!deleted && said.contains(&second), "{name}: {said}");
    }
    drop_namespace(&realm, &second).await;
}

async fn drop_namespace(realm: &Realm, name: &str) {
    realm.cluster().kubectl(&["delete", "namespace", "--wait=false", name]).await;
}
