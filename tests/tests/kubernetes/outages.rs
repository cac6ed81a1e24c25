//! The API server is away: what runs serves on, what is to start says why it does not, and all is true again soon.

use crate::shown;
use http::Method;
use serde_json::Value;
use std::time::{Duration, Instant};
use tests::{Cluster, Part, Person, Realm, STARTED, wait_for};

/// So soon a start that cannot be says so: within a second, and what a busy machine takes to show it.
const TOLD: Duration = Duration::from_secs(2);
/// So soon after its return the table is true.
const TRUE_AGAIN: Duration = Duration::from_secs(5);

/// Which instances of two workspaces there are, by the cluster.
async fn replicas(realm: &Realm, name: &str) -> Option<String> {
    shown(realm, &format!("statefulset/{name}"), "{.spec.replicas}").await
}

#[tokio::test]
async fn while_the_api_server_is_silent_what_runs_serves_on_and_the_table_is_true_soon_after() {
    let cluster = Cluster::alone();
    let realm = Realm::new(&cluster).await;
    let usher = realm.setup("").await.start().await;
    let alice = Person::at_work_in_cluster(&usher, "alice").await;
    let bob = Person::at_work_in_cluster(&usher, "bob").await;
    assert!(bob.press("stop").await.status.is_success());
    bob.reaches("stopped").await;
    let mut socket = alice.witness("/ws").await;

    cluster.pause(Part::ApiServer);
    let pressed = Instant::now();
    // Without the API nobody can be asked for a start; the visit is answered all the same, and says why.
    assert!(bob.press("start").await.status.is_success());
    let (said, status) = wait_for("the cause on bob's page", STARTED, async || {
        let status = bob.status().await;
        (status["cause"]["code"] == "cluster_unreachable").then(|| (pressed.elapsed(), status))
    })
    .await;
    assert!(said < TOLD, "it was said after {said:?}: {status}");
    // Longer than it takes to be blind.
    let blind = "usher_kubernetes_watches_blind{resource=\"statefulsets\"} 1";
    wait_for("blindness", STARTED, async || usher.metric(blind).await).await;
    // Whose address it is now the cluster cannot tell. The workspace itself does, on the connection that is open,
    // and once that is silent for long nobody does.
    for text in ["written meanwhile", "and again"] {
        socket.echoes("still here").await;
        let note = alice.fetch(Method::PUT, "/note").body(text).send().await;
        assert!(note.status.is_success(), "{} {}", note.status, note.text());
        assert_eq!(alice.status().await["cause"], Value::Null);
    }
    wait_for("the word of a workspace that says nothing to be too old", STARTED, async || {
        (alice.status().await["cause"]["code"] == "cluster_unreachable").then_some(())
    })
    .await;
    let refused = alice.fetch(Method::GET, "/note").send().await;
    assert_eq!(
        (refused.status.as_u16(), refused.field("usher-error")),
        (503, "unseen"),
        "{}",
        refused.text()
    );
    socket.echoes("still here").await;
    assert_eq!(alice.fetch(Method::GET, "/note").send().await.text(), "and again");

    cluster.resume(Part::ApiServer);
    cluster.api_is_ready().await;
    let back = Instant::now();
    cluster.kubectl(&["scale", "statefulset/alice", "--replicas=0", "--namespace", &realm.workspaces]).await;
    let late = wait_for("the table to show what kubectl did", STARTED, async || {
        let phase = alice.status().await["phase"].clone();
        (phase == "stopping" || phase == "stopped").then(|| back.elapsed())
    })
    .await;
    assert!(late < TRUE_AGAIN, "the table was true {late:?} after the API's return");
    assert!(bob.press("start").await.status.is_success());
    bob.reaches("ready").await;
    assert_eq!(replicas(&realm, "bob").await.unwrap(), "1");
}

#[tokio::test]
async fn an_api_server_that_is_killed_and_comes_back_costs_nothing_that_runs() {
    let cluster = Cluster::alone();
    let realm = Realm::new(&cluster).await;
    let usher = realm.setup("").await.start().await;
    let alice = Person::at_work_in_cluster(&usher, "alice").await;
    let mut socket = alice.socket("/ws").await.unwrap();
    for _ in 0..2 {
        cluster.kill(Part::ApiServer);
        socket.echoes("still here").await;
        cluster.start_again(Part::ApiServer);
        cluster.api_is_ready().await;
        socket.echoes("and here").await;
    }
    // After a restart every watch begins with a list anew, and the table follows on.
    cluster.kubectl(&["scale", "statefulset/alice", "--replicas=0", "--namespace", &realm.workspaces]).await;
    alice.reaches("stopped").await;
    let mut carol = Person::new(&usher, "carol");
    carol.visit("/").await;
    carol.reaches("ready").await;
}

#[tokio::test]
async fn a_lost_node_keeps_the_files_and_is_told_and_what_keeps_none_moves_on() {
    let cluster = Cluster::alone();
    let realm = Realm::new(&cluster).await;
    let access = "[access]\nallow = \"true\"\ntemplate = \"user.name\"\n";
    let bob = realm
        .demo("volume = \"none\"\nidle_after = \"never\"")
        .replace("[templates.demo]", "[templates.bob]");
    let alice = realm.demo("").replace("[templates.demo]", "[templates.alice]");
    let usher = realm.setup(&format!("{access}{alice}{bob}")).await.start().await;
    let alice = Person::at_work_in_cluster(&usher, "alice").await;
    let bob = Person::at_work_in_cluster(&usher, "bob").await;
    cluster.kill(Part::Kubelet);
    // The node's containers serve on, and nobody cuts their users off.
    let ready = "{.status.conditions[?(@.type=='Ready')].status}";
    wait_for("the cluster to miss the node", STARTED, async || {
        shown(&realm, "pod/alice-0", ready).await.filter(|ready| ready == "False")
    })
    .await;
    alice.socket("/ws").await.unwrap().echoes("still here").await;

    // Both are stopped: the pod of the one that keeps no files goes, that of the other waits for its node.
    for person in [&alice, &bob] {
        assert!(person.press("stop").await.status.is_success());
    }
    bob.reaches("stopped").await;
    let status = alice.status().await;
    assert_eq!(status["phase"], "stopping", "{status}");
    assert_eq!(status["cause"]["code"], "node_lost", "{status}");
    assert!(status["cause"]["detail"].as_str().unwrap().contains("files are safe"), "{status}");
    cluster.start_again(Part::Kubelet);
    alice.reaches("stopped").await;
}
