//! Usher is told to end.

use http::StatusCode;
use rustix::process::Signal;
use std::time::Duration;
use tests::{Closed, Person, SOON, Usher, wait_for};

const QUICK: &str = "[drain]\ndelay = \"0s\"\nafter = \"0s\"\nspread = \"1s\"\n";
const PATIENT: &str = "[drain]\ndelay = \"0s\"\nafter = \"10m\"\nspread = \"30s\"\n";

#[tokio::test]
async fn an_empty_usher_ends_at_once() {
    let mut usher = Usher::start(PATIENT).await;
    usher.signal(Signal::TERM);
    assert!(usher.ended(SOON).await.success());
}

#[tokio::test]
async fn sockets_are_closed_with_1012_and_workspaces_live_on() {
    let mut usher = Usher::start(QUICK).await;
    let mut alice = Person::at_work(&usher, "alice").await;
    let mut socket = alice.socket("/ws").await.unwrap();
    let before = usher.workspace_processes();
    usher.signal(Signal::TERM);
    let closed = socket.closed().await;
    assert!(matches!(closed, Closed::Frame(1012, _)), "{closed:?}");
    assert!(usher.ended(SOON).await.success());
    assert_eq!(usher.workspace_processes(), before, "a drain is no stop");

    let usher = usher.replaced_by(tests::Setup::new(QUICK)).await;
    alice.moved_to(&usher);
    alice.await_phase("ready").await;
}

#[tokio::test]
async fn a_drain_waits_for_sockets_and_a_second_signal_does_not() {
    let mut usher = Usher::start(PATIENT).await;
    let alice = Person::at_work(&usher, "alice").await;
    let mut socket = alice.socket("/ws").await.unwrap();
    usher.signal(Signal::TERM);
    wait_for("readiness to fail", SOON, async || {
        (usher.admin("/readyz").send().await.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    socket.echoes("still open").await;
    usher.signal(Signal::TERM);
    let closed = socket.closed().await;
    assert!(matches!(closed, Closed::Frame(1012, _)), "{closed:?}");
    assert!(usher.ended(SOON).await.success());
}

#[tokio::test]
async fn readiness_fails_before_the_listener_closes() {
    let mut usher = Usher::start("[drain]\ndelay = \"10s\"\nafter = \"0s\"\nspread = \"0s\"\n").await;
    let alice = Person::at_work(&usher, "alice").await;
    usher.signal(Signal::TERM);
    wait_for("readiness to fail", SOON, async || {
        (usher.admin("/readyz").send().await.status == StatusCode::SERVICE_UNAVAILABLE).then_some(())
    })
    .await;
    let answer = alice.fetch(http::Method::GET, "/note").send().await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert!(usher.ended(SOON + Duration::from_secs(10)).await.success());
}
