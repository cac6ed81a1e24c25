//! The life of a workspace, and what others do to it.

use crate::{pod_uid, shown};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tests::{Closed, Cluster, Person, Realm, STARTED, Usher, wait_for};

/// How many writes of workspaces' objects an Usher has made, but for those that the server refused because a
/// controller had just written the object: they are made anew, and how many there are is chance.
async fn writes(usher: &Usher) -> usize {
    let text = usher.admin("/metrics").send().await.text();
    let calls = text.lines().filter(|line| line.starts_with("usher_kubernetes_requests_total{"));
    let of_workspaces = calls.filter(|line| line.contains("\"statefulsets\"") || line.contains("\"pods\""));
    let of_workspaces = of_workspaces.filter(|line| !line.contains("result=\"conflict\""));
    let writes = of_workspaces.filter(|line| {
        ["create", "patch", "delete", "get", "list"]
            .iter()
            .any(|verb| line.contains(&format!("verb=\"{verb}\"")))
    });
    let counts = writes.map(|line| line.rsplit_once(' ').expect("a sample has a value").1);
    counts.map(|count| count.parse::<usize>().expect("calls are counted whole")).sum()
}

#[tokio::test]
async fn a_spawn_takes_two_calls_of_the_api() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let usher = realm.setup("").await.start().await;
    // At its start it looks whether the namespace is there.
    let before = writes(&usher).await;
    let mut alice = Person::at_work_in_cluster(&usher, "alice").await;
    assert_eq!(writes(&usher).await - before, 2, "the first start: created with its want, then started");
    for made in ["statefulset/alice", "persistentvolumeclaim/home-alice-0"] {
        let installation = shown(&realm, made, r"{.metadata.annotations.usher\.dev/records}").await;
        assert_eq!(installation.as_ref(), Some(&realm.records), "{made}");
    }
    assert!(alice.press("stop").await.status.is_success());
    alice.reaches("stopped").await;
    assert_eq!(writes(&usher).await - before, 3, "a stop");
    alice.visit("/").await;
    alice.reaches("ready").await;
    assert_eq!(writes(&usher).await - before, 5, "a start of what is there: its want, then its start");
}

#[tokio::test]
async fn a_start_that_a_broken_template_holds_up_goes_on_with_the_mended_one_when_somebody_tries_again() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let broken = realm.demo("node_selector = { disk = \"none-has-it\" }");
    let usher = realm.setup(&broken).await.start().await;
    let mut alice = Person::logged_in(&usher, "alice").await;
    wait_for("the cause", STARTED, async || {
        (alice.status().await["cause"]["code"] == "unschedulable").then_some(())
    })
    .await;
    let before = pod_uid(&realm, "alice").await;

    let usher = usher.replaced_by(realm.setup("").await).await;
    alice.moved_to(&usher);
    alice.reaches("starting").await;
    assert_eq!(pod_uid(&realm, "alice").await, before, "what is on its way is taken over as it is");
    assert!(alice.try_again().await.status.is_success());
    alice.reaches("ready").await;
    assert_ne!(pod_uid(&realm, "alice").await, before);
}

/// Waits until the cluster has none of this name any more.
async fn gone(realm: &Realm, object: &str) {
    wait_for(&format!("{object} to be gone"), STARTED, async || {
        shown(realm, object, "{.metadata.name}").await.is_none().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_workspace_that_is_deleted_takes_its_files_along_only_if_so_asked() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let usher = realm.setup("").await.start().await;
    let mut alice = Person::at_work_in_cluster(&usher, "alice").await;
    alice.fetch(Method::PUT, "/note").body("kept").send().await;
    let (deleted, said) = usher.command(&["delete", "alice"]);
    assert!(deleted, "{said}");
    gone(&realm, "statefulset/alice").await;
    gone(&realm, "pod/alice-0").await;
    assert!(shown(&realm, "persistentvolumeclaim/home-alice-0", "{.metadata.name}").await.is_some());

    alice.visit("/").await;
    alice.reaches("ready").await;
    assert_eq!(alice.fetch(Method::GET, "/note").send().await.text(), "kept");
    let (deleted, said) = usher.command(&["delete", "alice", "--with-volume"]);
    assert!(deleted, "{said}");
    gone(&realm, "statefulset/alice").await;
    gone(&realm, "persistentvolumeclaim/home-alice-0").await;
    wait_for("nothing of it to be known", STARTED, async || {
        (!usher.command(&["delete", "alice", "--with-volume"]).0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_comes_back_while_their_files_are_deleted_waits_for_that_and_has_new_ones() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let usher = realm.setup("").await.start().await;
    let mut alice = Person::at_work_in_cluster(&usher, "alice").await;
    let saved = alice.fetch(Method::PUT, "/note").body("old").send().await;
    assert!(saved.status.is_success(), "{} {}", saved.status, saved.text());
    let hold = async |finalizers: Value| {
        let patch = json!({ "metadata": { "finalizers": finalizers } }).to_string();
        let claim = ["patch", "persistentvolumeclaim/home-alice-0", "--type=merge", "--patch", &patch];
        cluster.kubectl(&[&claim[..], &["--namespace", &realm.workspaces]].concat()).await;
    };
    hold(json!(["usher.test/held"])).await;
    let (deleted, said) = usher.command(&["delete", "alice", "--with-volume"]);
    assert!(deleted, "{said}");
    gone(&realm, "pod/alice-0").await;
    alice.visit("/").await;
    assert_eq!(alice.status().await["phase"], "stopping");
    gone(&realm, "statefulset/alice").await;
    hold(Value::Null).await;
    alice.reaches("ready").await;
    let note = alice.fetch(Method::GET, "/note").send().await.text();
    assert_ne!(note, "old");
}

#[tokio::test]
async fn files_that_a_deletion_kept_can_be_deleted_later_and_only_by_who_may() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let usher = realm.setup("").await.start().await;
    let claim = "persistentvolumeclaim/home-alice-0";
    for by_owner in [false, true] {
        let alice = Person::at_work_in_cluster(&usher, "alice").await;
        let (deleted, said) = usher.command(&["delete", "alice"]);
        assert!(deleted, "{said}");
        wait_for("the workspace to be unknown", STARTED, async || {
            (!usher.command(&["delete", "alice"]).0).then_some(())
        })
        .await;
        assert!(shown(&realm, claim, "{.metadata.name}").await.is_some());
        if by_owner {
            let owner = json!({ "iss": "https://id.example.org", "sub": "7" }).to_string();
            let note = |owner: &str| format!("usher.dev/owner={owner}");
            let theirs = shown(&realm, claim, "{.metadata.annotations.usher\\.dev/owner}").await.unwrap();
            let (namespace, other) = (&realm.workspaces, note(&owner));
            cluster.kubectl(&["annotate", "--overwrite", claim, &other, "--namespace", namespace]).await;
            let refused = alice.delete("alice", true).await;
            assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.text());
            assert!(shown(&realm, claim, "{.metadata.name}").await.is_some(), "somebody else's");
            cluster
                .kubectl(&["annotate", "--overwrite", claim, &note(&theirs), "--namespace", namespace])
                .await;
            let deleted = alice.delete("alice", true).await;
            assert!(!deleted.status.is_server_error(), "{}", deleted.text());
        } else {
            let (deleted, said) = usher.command(&["delete", "alice", "--with-volume"]);
            assert!(deleted, "{said}");
        }
        wait_for("the files to be gone", STARTED, async || {
            shown(&realm, claim, "{.metadata.name}").await.is_none().then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_usher_without_its_rights_says_what_lacks_and_where() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let usher = realm.setup("").await.start().await;
    cluster.kubectl(&["delete", "role", "usher", "--namespace", &realm.workspaces]).await;
    let account = format!("--as=system:serviceaccount:{}:usher", realm.records);
    let ask = ["auth", "can-i", "create", "statefulsets.apps", &account, "--namespace", &realm.workspaces];
    wait_for("the role to be forgotten", STARTED, async || cluster.try_kubectl(&ask).await.err()).await;
    let (started, said) = usher.command(&["serve"]);
    assert!(!started, "{said}");
    let lacks = format!(
        "may not watch statefulsets.apps, create statefulsets.apps, patch statefulsets.apps, watch pods, list persistentvolumeclaims in namespace {}",
        realm.workspaces
    );
    assert!(said.contains(&lacks), "{said}");
}

#[tokio::test]
async fn a_visit_starts_a_pod_that_serves_and_keeps_its_files_over_a_stop() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let usher = realm.setup("").await.start().await;
    let mut alice = Person::at_work_in_cluster(&usher, "alice").await;
    let saved = alice.fetch(Method::PUT, "/note").body("kept").send().await;
    assert!(saved.status.is_success(), "{} {}", saved.status, saved.text());
    alice.socket("/ws").await.unwrap().echoes("hello").await;

    assert!(alice.press("stop").await.status.is_success());
    let status = alice.reaches("stopped").await;
    assert_eq!(status["stopped"]["code"], "asked", "{status}");
    alice.visit("/").await;
    alice.reaches("ready").await;
    let note = alice.fetch(Method::GET, "/note").send().await;
    assert_eq!((note.status, note.text().as_str()), (StatusCode::OK, "kept"));
}

#[tokio::test]
async fn a_workspace_that_nobody_uses_is_marked_and_then_stopped() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let usher = realm.setup("[workspaces]\nidle_after = \"4s\"\nwarn_before = \"1s\"\n").await.start().await;
    let alice = Person::at_work_in_cluster(&usher, "alice").await;
    let mut socket = alice.socket("/ws").await.unwrap();
    let mark = "{.metadata.annotations.usher\\.dev/mark}";
    // Told of as it comes: it stands for a second or two.
    let marked = ["wait", "statefulset/alice", &format!("--for=jsonpath={mark}"), "--timeout=50s"];
    cluster.kubectl(&[&marked[..], &["--namespace", &realm.workspaces]].concat()).await;
    let closed = tokio::time::timeout(STARTED, socket.closed()).await.expect("stopped in time");
    assert!(matches!(closed, Closed::Frame(4503, _)), "{closed:?}");
    let status = alice.reaches("stopped").await;
    assert_eq!(status["stopped"]["code"], "idle", "{status}");
    assert_eq!(shown(&realm, "statefulset/alice", "{.spec.replicas}").await.unwrap(), "0");
    assert_eq!(shown(&realm, "statefulset/alice", mark).await.unwrap(), "", "the mark is still there");
}

#[tokio::test]
async fn a_pod_that_somebody_deletes_is_followed_to_its_successor() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let usher = realm.setup("").await.start().await;
    let alice = Person::at_work_in_cluster(&usher, "alice").await;
    let first = pod_uid(&realm, "alice").await;
    alice.fetch(Method::PUT, "/note").body("kept").send().await;
    let mut socket = alice.socket("/ws").await.unwrap();

    cluster.kubectl(&["delete", "pod", "alice-0", "--wait=false", "--namespace", &realm.workspaces]).await;
    let closed = tokio::time::timeout(STARTED, socket.closed()).await.expect("cut off in time");
    assert!(matches!(closed, Closed::Frame(4503, _)), "{closed:?}");
    let note = wait_for("the successor to serve", STARTED, async || {
        let note = alice.fetch(Method::GET, "/note").send().await;
        (note.status == StatusCode::OK).then(|| note.text())
    })
    .await;
    assert_eq!(note, "kept");
    assert_ne!(pod_uid(&realm, "alice").await, first);
    alice.socket("/ws").await.unwrap().echoes("again").await;
}

#[tokio::test]
async fn kubectl_scale_is_a_way_to_stop_and_to_start() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let usher = realm.setup("").await.start().await;
    let alice = Person::at_work_in_cluster(&usher, "alice").await;
    for (replicas, phase) in [("--replicas=0", "stopped"), ("--replicas=1", "ready")] {
        cluster.kubectl(&["scale", "statefulset/alice", replicas, "--namespace", &realm.workspaces]).await;
        alice.reaches(phase).await;
    }
}

#[tokio::test]
async fn a_killed_usher_finds_running_workspaces_and_starts_nothing_anew() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let usher = realm.setup("").await.start().await;
    let mut alice = Person::at_work_in_cluster(&usher, "alice").await;
    let before = pod_uid(&realm, "alice").await;
    let usher = usher.kill_and_restart().await;
    alice.moved_to(&usher);
    alice.reaches("ready").await;
    alice.socket("/ws").await.unwrap().echoes("and on it goes").await;
    assert_eq!(pod_uid(&realm, "alice").await, before);
}

#[tokio::test]
async fn a_workspace_of_another_identity_is_not_touched() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let owner = json!({ "iss": "https://id.example.org", "sub": "7" }).to_string();
    let labels = json!({
        "usher.dev/workspace": "alice", "usher.dev/template": "demo", "app.kubernetes.io/managed-by": "usher",
    });
    cluster
        .apply(&json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {
                "name": "alice", "namespace": realm.workspaces, "labels": labels,
                "annotations": { "usher.dev/owner": owner },
            },
            "spec": {
                "replicas": 0,
                "selector": { "matchLabels": { "usher.dev/workspace": "alice" } },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": { "containers": [{ "name": "workspace", "image": "nothing" }] },
                },
            },
        }))
        .await;
    let version = shown(&realm, "statefulset/alice", "{.metadata.resourceVersion}").await;
    let usher = realm.setup("").await.start().await;
    let mut alice = Person::new(&usher, "alice");
    let (_, answer) = alice.visit("/").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}", answer.text());
    assert_eq!(shown(&realm, "statefulset/alice", "{.metadata.resourceVersion}").await, version);
}

#[tokio::test]
async fn a_stateful_set_that_usher_did_not_make_is_not_adopted() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let labels = json!({ "app": "alice" });
    cluster
        .apply(&json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": { "name": "alice", "namespace": realm.workspaces },
            "spec": {
                "replicas": 0,
                "selector": { "matchLabels": labels },
                "template": {
                    "metadata": { "labels": labels },
                    "spec": { "containers": [{ "name": "workspace", "image": "nothing" }] },
                },
            },
        }))
        .await;
    let version = shown(&realm, "statefulset/alice", "{.metadata.resourceVersion}").await;
    let usher = realm.setup("").await.start().await;
    let alice = Person::logged_in(&usher, "alice").await;
    let status = alice.reaches("failed").await;
    assert_eq!(status["cause"]["code"], "not_the_owner", "{status}");
    assert!(status["cause"]["hint"].as_str().unwrap().contains("that usher did not make"), "{status}");
    assert_eq!(shown(&realm, "statefulset/alice", "{.metadata.resourceVersion}").await, version);
}
