//! Three Ushers before one cluster: any serves anyone, and they agree without talking to each other.

use crate::{pod_uid, shown};
use http::{Method, StatusCode};
use std::time::Duration;
use tests::{Cluster, Person, Realm, STARTED, Usher, wait_for};

const IDLE: &str = "[workspaces]\nidle_after = \"5s\"\nwarn_before = \"1s\"\n";

async fn three(realm: &Realm, rest: &str) -> [Usher; 3] {
    let setup = realm.setup(rest).await;
    [setup.clone().start().await, setup.clone().start().await, setup.start().await]
}

/// The same person with the same cookies at another Usher.
fn at(person: &Person, usher: &Usher) -> Person {
    let mut person = person.clone();
    person.moved_to(usher);
    person
}

#[tokio::test]
async fn any_of_three_serves_anyone_and_one_start_is_made_of_three_wishes() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let ushers = three(&realm, "").await;
    let alice = Person::logged_in(&ushers[0], "alice").await;
    let everywhere = ushers.each_ref().map(|usher| at(&alice, usher));
    for alice in &everywhere {
        // A session that was made a moment ago is known to the others a moment later.
        wait_for("the session to be known", STARTED, async || {
            (alice.press("start").await.status.is_success()).then_some(())
        })
        .await;
    }
    for alice in &everywhere {
        alice.reaches("ready").await;
        alice.socket("/ws").await.unwrap().echoes("hello").await;
    }
    let made = "{.items[?(@.reason=='SuccessfulCreate')].message}";
    let output = format!("--output=jsonpath={made}");
    let events = cluster.kubectl(&["get", "events", "--namespace", &realm.workspaces, &output]).await;
    assert_eq!(events.matches("create Pod").count() + events.matches("Create Pod").count(), 1, "{events}");

    let [first, second, third] = ushers;
    let before = pod_uid(&realm, "alice").await;
    let mut kept = everywhere[1].socket("/ws").await.unwrap();
    let first = first.kill_and_restart().await;
    kept.echoes("none of my business").await;
    let alice = at(&alice, &first);
    alice.reaches("ready").await;
    assert_eq!(alice.fetch(Method::GET, "/note").send().await.status, StatusCode::OK);
    assert_eq!(pod_uid(&realm, "alice").await, before);
    drop((second, third));
}

#[tokio::test]
async fn a_workspace_is_idle_only_when_none_of_three_knows_of_a_use() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let ushers = three(&realm, IDLE).await;
    let alice = Person::at_work_in_cluster(&ushers[0], "alice").await;
    let used = at(&alice, &ushers[2]);
    used.reaches("ready").await;
    let mut socket = used.socket("/ws").await.unwrap();
    let before = pod_uid(&realm, "alice").await;
    // Four times as long as one that is not used may run: whichever leads, it hears of the use by another.
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    for _ in 0..20 {
        ticks.tick().await;
        socket.echoes("busy").await;
    }
    assert_eq!(pod_uid(&realm, "alice").await, before);
    for usher in &ushers {
        assert_eq!(at(&alice, usher).status().await["phase"], "ready");
    }
    alice.reaches("stopped").await;
    assert_eq!(shown(&realm, "statefulset/alice", "{.spec.replicas}").await.unwrap(), "0");
    for usher in &ushers {
        let status = at(&alice, usher).reaches("stopped").await;
        assert_eq!(status["stopped"]["code"], "idle", "{status}");
    }
}
