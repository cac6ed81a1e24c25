//! Workspaces as pods of a real cluster: what users are promised, whatever happens to pods, cluster and Usher.

mod causes;
mod endings;
mod journeys;
mod outages;
mod replicas;
mod spaces;

use std::time::Duration;
use tests::{Person, Realm, Usher, wait_for};

/// For what a controller, a kubelet and a container do one after the other on a busy machine.
const STARTED: Duration = Duration::from_secs(60);

/// Waits for a phase as long as pods take.
async fn await_phase(person: &Person, phase: &str) -> serde_json::Value {
    wait_for(&format!("{} to be {phase}", person.name), STARTED, async || {
        let status = person.status().await;
        (status["phase"] == phase).then_some(status)
    })
    .await
}

/// Somebody whose workspace is ready.
async fn at_work(usher: &Usher, name: &str) -> Person {
    let person = Person::logged_in(usher, name).await;
    await_phase(&person, "ready").await;
    person
}

/// What kubectl prints of a workspace's object: `statefulset/alice`, `pod/alice-0`.
async fn shown(realm: &Realm, object: &str, jsonpath: &str) -> Option<String> {
    let output = format!("--output=jsonpath={jsonpath}");
    let arguments = ["get", object, "--namespace", &realm.workspaces, &output];
    realm.cluster().try_kubectl(&arguments).await.ok()
}

/// Which instance runs.
async fn pod_uid(realm: &Realm, name: &str) -> String {
    shown(realm, &format!("pod/{name}-0"), "{.metadata.uid}").await.expect("there is a pod")
}
