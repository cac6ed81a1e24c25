//! What a template makes for each user, in pods of a real cluster.

use serde_json::{Value, json};
use tests::{Cluster, Person, Realm, STARTED, wait_for};

const KEYS: &str = r#"resources.limits = { memory = { expression = "user.name == 'alice' ? '192Mi' : '128Mi'" } }
environment = { TEAM = { expression = "'team of ' + user.name" } }"#;

/// What is given to the workspace of a running pod: its limit of memory and its variable.
async fn given(realm: &Realm, name: &str) -> (Value, Value) {
    let pod = format!("{name}-0");
    wait_for("the pod runs", STARTED, async || {
        let arguments = ["get", "pod", &pod, "--output=json", "--namespace", &realm.workspaces];
        let pod: Value = serde_json::from_str(&realm.cluster().try_kubectl(&arguments).await.ok()?).ok()?;
        let is_there = pod["status"]["phase"] == "Running" && pod["metadata"]["deletionTimestamp"].is_null();
        let container = &pod["spec"]["containers"][0];
        let mut variables = container["env"].as_array()?.iter();
        let team = variables.find(|variable| variable["name"] == "TEAM")?["value"].clone();
        is_there.then(|| (container["resources"]["limits"]["memory"].clone(), team))
    })
    .await
}

async fn ready(person: &Person) {
    wait_for("the workspace is ready", STARTED, async || {
        (person.status().await["phase"] == "ready").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_pod_has_the_values_of_its_user_also_where_another_usher_starts_what_one_that_died_wanted() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let setup = realm.setup(&realm.demo(KEYS)).await;
    let usher = setup.clone().start().await;
    for (name, memory) in [("alice", "192Mi"), ("bob", "128Mi")] {
        let person = Person::logged_in(&usher, name).await;
        ready(&person).await;
        let expected = (json!(memory), json!(format!("team of {name}")));
        assert_eq!(given(&realm, name).await, expected);
        assert!(person.press("stop").await.status.is_success());
    }
    drop(usher);

    // As a replica leaves it that was killed between the want and the start.
    let wanted = format!("usher.dev/wanted={}", json!({ "at_ms": 1, "replica": "gone" }));
    let arguments = ["annotate", "statefulset", "alice", &wanted, "--namespace", &realm.workspaces];
    cluster.kubectl(&arguments).await;
    let _other = setup.start().await;
    assert_eq!(given(&realm, "alice").await, (json!("192Mi"), json!("team of alice")));
}
