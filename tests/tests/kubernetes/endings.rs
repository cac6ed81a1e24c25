//! Pods that end by another hand than Usher's: whoever looks is told why, and the workspace comes back as it should.

use crate::{pod_uid, shown};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tests::{Closed, Cluster, Person, Realm, STARTED, Usher, wait_for};

/// So soon after its first sign a cause is shown.
const OWED: Duration = Duration::from_secs(5);

/// Does something to alice's pod, and waits until she is told of this cause: on the page of a tab that is opened
/// while it ends, and on the socket of one that is open.
async fn is_told(alice: &Person, code: &str, deed: impl Future<Output = ()>) -> Value {
    let mut socket = alice.socket("/ws").await.expect("a running workspace takes WebSockets");
    socket.echoes("hello").await;
    deed.await;
    let done = Instant::now();
    let (told, status) = wait_for(&format!("{code} to be told"), STARTED, async || {
        let status = alice.status().await;
        (status["cause"]["code"] == code).then(|| (done.elapsed(), status))
    })
    .await;
    assert!(told < OWED, "{code} was told after {told:?}");
    let words = status["cause"]["detail"].as_str().expect("a cause has words");
    let (_, page) = alice.clone().visit("/deep/link").await;
    assert!(page.text().contains(words), "the page does not say {words:?}: {}", page.text());
    let closed = tokio::time::timeout(STARTED, socket.closed()).await.expect("cut off in time");
    assert_eq!(closed, Closed::Frame(4503, words.to_owned()));
    status
}

/// Waits until the successor of this pod serves alice, with her files.
async fn comes_back(realm: &Realm, alice: &Person, before: &str) {
    let note = wait_for("the successor to serve", STARTED, async || {
        let note = alice.fetch(Method::GET, "/note").send().await;
        (note.status == StatusCode::OK).then(|| note.text())
    })
    .await;
    assert_eq!(note, "kept");
    assert_ne!(pod_uid(realm, "alice").await, before);
}

async fn with_a_note(usher: &Usher) -> Person {
    let alice = Person::at_work_in_cluster(usher, "alice").await;
    let saved = alice.fetch(Method::PUT, "/note").body("kept").send().await;
    assert!(saved.status.is_success(), "{}", saved.text());
    alice
}

#[tokio::test]
async fn who_comes_while_a_deleted_or_an_evicted_pod_ends_is_told_so_and_goes_on_in_its_successor() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let usher = realm.setup("").await.start().await;
    let alice = with_a_note(&usher).await;
    let in_namespace = ["--namespace", &*realm.workspaces];
    let before = pod_uid(&realm, "alice").await;
    is_told(&alice, "removed", async {
        let delete = [&["delete", "pod", "alice-0", "--wait=false"], &in_namespace[..]].concat();
        cluster.kubectl(&delete).await;
    })
    .await;
    comes_back(&realm, &alice, &before).await;

    // As the kubelet writes it when its node runs short. The real one cannot be made to: its eviction manager does nothing
    // where it does not find the device of the image's file system, and here it never does.
    let before = pod_uid(&realm, "alice").await;
    let evicted = json!({ "status": {
        "phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory.",
    } });
    let status = is_told(&alice, "evicted", async {
        let (subresource, patch) = ("--subresource=status", format!("--patch={evicted}"));
        let arguments = ["patch", "pod", "alice-0", subresource, "--type=merge", &patch];
        cluster.kubectl(&[&arguments[..], &in_namespace].concat()).await;
    })
    .await;
    assert!(status["cause"]["hint"].as_str().unwrap().contains("low on resource: memory"), "{status}");
    comes_back(&realm, &alice, &before).await;
}

#[tokio::test]
async fn a_drain_is_told_and_the_workspace_comes_back_when_there_is_a_node_again() {
    let cluster = Cluster::alone();
    let realm = Realm::new(&cluster).await;
    let usher = realm.setup("").await.start().await;
    let alice = with_a_note(&usher).await;
    let before = pod_uid(&realm, "alice").await;
    let drain =
        ["drain", "node1", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=60s"];
    let drained = cluster.kubectl(&drain);
    tokio::pin!(drained);
    let status = is_told(&alice, "drained", async {
        let condition = "{.status.conditions[?(@.type=='DisruptionTarget')].reason}";
        let asked = wait_for("the eviction", STARTED, async || {
            shown(&realm, "pod/alice-0", condition).await.filter(|reason| reason == "EvictionByEvictionAPI")
        });
        tokio::select! {
            _ = asked => {}
            _ = &mut drained => {}
        }
    })
    .await;
    assert!(status["cause"]["hint"].as_str().unwrap().contains("kubectl drain of node node1"), "{status}");
    drained.await;
    // There is one node, and it takes nobody: that is what holds the start up now.
    wait_for("the want of a node to be told", STARTED, async || {
        (alice.status().await["cause"]["code"] == "unschedulable").then_some(())
    })
    .await;
    cluster.kubectl(&["uncordon", "node1"]).await;
    comes_back(&realm, &alice, &before).await;
}

#[tokio::test]
async fn who_comes_while_an_operator_scales_to_0_is_told_and_gets_it_started_again() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let usher = realm.setup("").await.start().await;
    let mut alice = with_a_note(&usher).await;
    let before = pod_uid(&realm, "alice").await;
    let mut socket = alice.socket("/ws").await.expect("a running workspace takes WebSockets");
    socket.echoes("hello").await;
    let namespace = &realm.workspaces;
    cluster.kubectl(&["scale", "statefulset/alice", "--replicas=0", "--namespace", namespace]).await;
    let words = "The workspace was stopped by an operator of the cluster.";
    let closed = tokio::time::timeout(STARTED, socket.closed()).await.expect("cut off in time");
    assert_eq!(closed, Closed::Frame(4503, words.to_owned()));
    let status = alice.status().await;
    assert_eq!(status["stopped"]["code"], "by_hand", "{status}");
    // A tab that is opened now says so, and has it started again.
    let (_, page) = alice.visit("/deep/link").await;
    assert!(page.text().contains(words), "{}", page.text());
    comes_back(&realm, &alice, &before).await;

    cluster.kubectl(&["scale", "statefulset/alice", "--replicas=0", "--namespace", namespace]).await;
    let status = alice.reaches("stopped").await;
    assert_eq!(status["stopped"]["code"], "by_hand", "it stays known: {status}");
    alice.visit("/").await;
    let status = alice.reaches("ready").await;
    assert_eq!(status["stopped"], Value::Null);
    assert!(alice.press("stop").await.status.is_success());
    let status = alice.reaches("stopped").await;
    assert_eq!(status["stopped"]["code"], "asked", "{status}");
}
