//! Many first visits at once.

use futures_util::future::join_all;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tests::{Person, Usher, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const USERS: usize = 200;
const CAP: usize = 8;

#[tokio::test]
async fn two_hundred_users_at_once_are_served_in_order_and_none_is_refused() {
    let rest = format!("[spawn]\nconcurrent = {CAP}\nqueue = {USERS}\n");
    let usher = Usher::start(&rest).await;
    let people = join_all((0..USERS).map(|i| {
        let usher = &usher;
        async move { Person::logged_in(usher, &format!("u{i}")).await }
    }));
    let watched = wait_for("all to be ready", Duration::from_secs(240), async || {
        let status = usher.status().await;
        let phases = phases(&status);
        let starting = phases.get("starting").copied().unwrap_or_default();
        assert!(starting <= CAP, "{starting} start at the same time");
        assert_eq!(phases.get("failed"), None, "{status}");
        (phases.get("ready") == Some(&USERS)).then_some(())
    });
    let (people, ()) = tokio::join!(people, watched);
    for person in &people {
        assert_eq!(person.status().await["phase"], "ready");
    }
}

/// How many workspaces are in each phase.
fn phases(status: &Value) -> BTreeMap<&str, usize> {
    let mut phases = BTreeMap::new();
    for phase in status["workspaces"].as_array().into_iter().flatten().filter_map(|w| w["phase"].as_str()) {
        *phases.entry(phase).or_default() += 1;
    }
    phases
}

#[tokio::test]
async fn whoever_waits_sees_a_position_that_only_gets_better() {
    let usher = Usher::start(
        r#"
        [spawn]
        concurrent = 1
        [templates.demo]
        command = ["{usher}", "demo", "--socket", "{socket}", "--start-delay", "700"]
        connect = "socket"
        "#,
    )
    .await;
    let mut people = Vec::new();
    for name in ["anna", "bert", "carl", "dora"] {
        people.push(Person::at_the_door(&usher, name).await);
    }
    // They come right after each other: on a busy machine a login takes as long as a start.
    for person in &mut people {
        person.visit("/").await;
    }
    let last = people.last().expect("four people");
    let mut positions = Vec::new();
    wait_for("the last in the queue to be ready", Duration::from_secs(60), async || {
        let status = last.status().await;
        if let Some(position) = status["position"].as_u64() {
            positions.push(position);
        }
        (status["phase"] == "ready").then_some(())
    })
    .await;
    assert!(positions.is_sorted_by(|a, b| a >= b), "{positions:?}");
    assert!(positions.first() > positions.last(), "the position never moved: {positions:?}");
}

#[tokio::test]
async fn ten_tabs_start_one_workspace() {
    let usher = Usher::start("").await;
    let mut alice = Person::logged_in(&usher, "alice").await;
    alice.await_phase("ready").await;
    alice.press("stop").await;
    alice.await_phase("stopped").await;
    let tabs = (0..10).map(|_| {
        let mut tab = alice.clone();
        async move { tab.visit("/").await.1.status }
    });
    join_all(tabs).await;
    alice.visit("/").await;
    alice.await_phase("ready").await;
    assert_eq!(usher.workspace_processes().len(), 1);
}

/// A browser has six connections to a host: were they all streams, the next tab would hang blank.
#[tokio::test]
async fn one_browser_holds_at_most_four_streams_whichever_cores_its_connections_are_on() {
    let usher = Usher::start("").await;
    let alice = Person::logged_in(&usher, "alice").await;
    alice.await_phase("ready").await;
    alice.press("stop").await;
    alice.await_phase("stopped").await;
    let cookies = alice.jar.field(&alice.host()).expect("a session");
    let authority = usher.client().authority(&alice.host());
    let ask = format!(
        "GET /.usher/events HTTP/1.1\r\nHost: {authority}\r\nCookie: {cookies}\r\nSec-Fetch-Site: same-origin\r\n\r\n"
    );
    let mut streams = Vec::new();
    for _ in 0..24 {
        let mut stream = usher.client().connect(&alice.host()).await.expect("it listens");
        stream.write_all(ask.as_bytes()).await.expect("it reads");
        let mut status = [0; "HTTP/1.1 200".len()];
        stream.read_exact(&mut status).await.expect("it answers");
        streams.push((status, stream));
    }
    let open = streams.iter().filter(|(status, _)| status == b"HTTP/1.1 200").count();
    assert_eq!(open, 4);
}
