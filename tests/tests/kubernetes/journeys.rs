//! The life of a workspace, and what others do to it.

use crate::{STARTED, at_work, await_phase, pod_uid, shown};
use http::{Method, StatusCode};
use serde_json::json;
use tests::{Closed, Cluster, Person, Realm, wait_for};

#[tokio::test]
async fn a_visit_starts_a_pod_that_serves_and_keeps_its_files_over_a_stop() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let usher = realm.setup("").await.start().await;
    let mut alice = at_work(&usher, "alice").await;
    let saved = alice.fetch(Method::PUT, "/note").body("kept").send().await;
    assert!(saved.status.is_success(), "{} {}", saved.status, saved.text());
    alice.socket("/ws").await.unwrap().echoes("hello").await;

    assert!(alice.press("stop").await.status.is_success());
    let status = await_phase(&alice, "stopped").await;
    assert_eq!(status["stopped"]["code"], "asked", "{status}");
    alice.visit("/").await;
    await_phase(&alice, "ready").await;
    let note = alice.fetch(Method::GET, "/note").send().await;
    assert_eq!((note.status, note.text().as_str()), (StatusCode::OK, "kept"));
}

#[tokio::test]
async fn a_workspace_that_nobody_uses_is_marked_and_then_stopped() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let usher = realm.setup("[workspaces]\nidle_after = \"4s\"\nwarn_before = \"1s\"\n").await.start().await;
    let alice = at_work(&usher, "alice").await;
    let mut socket = alice.socket("/ws").await.unwrap();
    let mark = "{.metadata.annotations.usher\\.dev/mark}";
    wait_for("the mark", STARTED, async || {
        shown(&realm, "statefulset/alice", mark).await.filter(|mark| mark.contains("idle"))
    })
    .await;
    let closed = tokio::time::timeout(STARTED, socket.closed()).await.expect("stopped in time");
    assert!(matches!(closed, Closed::Frame(4503, _)), "{closed:?}");
    let status = await_phase(&alice, "stopped").await;
    assert_eq!(status["stopped"]["code"], "idle", "{status}");
    assert_eq!(shown(&realm, "statefulset/alice", "{.spec.replicas}").await.unwrap(), "0");
    assert_eq!(shown(&realm, "statefulset/alice", mark).await.unwrap(), "", "the mark is still there");
}

#[tokio::test]
async fn a_pod_that_somebody_deletes_is_followed_to_its_successor() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let usher = realm.setup("").await.start().await;
    let alice = at_work(&usher, "alice").await;
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
    let alice = at_work(&usher, "alice").await;
    for (replicas, phase) in [("--replicas=0", "stopped"), ("--replicas=1", "ready")] {
        cluster.kubectl(&["scale", "statefulset/alice", replicas, "--namespace", &realm.workspaces]).await;
        await_phase(&alice, phase).await;
    }
}

#[tokio::test]
async fn a_killed_usher_finds_running_workspaces_and_starts_nothing_anew() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let usher = realm.setup("").await.start().await;
    let mut alice = at_work(&usher, "alice").await;
    let before = pod_uid(&realm, "alice").await;
    let usher = usher.kill_and_restart().await;
    alice.moved_to(&usher);
    await_phase(&alice, "ready").await;
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
    let status = await_phase(&alice, "failed").await;
    assert_eq!(status["cause"]["code"], "not_the_owner", "{status}");
    assert!(status["cause"]["hint"].as_str().unwrap().contains("that usher did not make"), "{status}");
    assert_eq!(shown(&realm, "statefulset/alice", "{.metadata.resourceVersion}").await, version);
}
