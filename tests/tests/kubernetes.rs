//! Workspaces as pods of a real cluster: what users are promised, whatever happens to pods, cluster and Usher.

use http::{Method, StatusCode};
use std::time::Duration;
use tests::{Cluster, Person, Realm, wait_for};

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

#[tokio::test]
async fn a_visit_starts_a_pod_that_serves_and_keeps_its_files_over_a_stop() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let usher = realm.setup("").await.start().await;
    let alice = Person::logged_in(&usher, "alice").await;
    await_phase(&alice, "ready").await;
    let saved = alice.fetch(Method::PUT, "/note").body("kept").send().await;
    assert!(saved.status.is_success(), "{} {}", saved.status, saved.text());
    alice.socket("/ws").await.unwrap().echoes("hello").await;

    assert!(alice.press("stop").await.status.is_success());
    await_phase(&alice, "stopped").await;
    let mut alice = alice;
    alice.visit("/").await;
    await_phase(&alice, "ready").await;
    let note = alice.fetch(Method::GET, "/note").send().await;
    assert_eq!((note.status, note.text().as_str()), (StatusCode::OK, "kept"));
}
