//! Usher is killed, and comes back.

use http::{Method, StatusCode};
use tests::{Person, SOON, Usher, wait_for};

#[tokio::test]
async fn a_killed_usher_finds_its_workspaces_again() {
    let usher = Usher::start("").await;
    let mut alice = Person::at_work(&usher, "alice").await;
    alice.fetch(Method::PUT, "/note").body("before").send().await;
    let before = usher.workspace_processes();
    assert_eq!(before.len(), 1);

    let usher = usher.kill_and_restart().await;
    alice.moved_to(&usher);
    alice.await_phase("ready").await;
    assert_eq!(usher.workspace_processes(), before, "the workspace was not carried over");
    let note = alice.fetch(Method::GET, "/note").send().await;
    assert_eq!((note.status, note.text().as_str()), (StatusCode::OK, "before"));
    alice.socket("/ws").await.unwrap().echoes("and on it goes").await;
}

#[tokio::test]
async fn an_adopted_workspace_can_be_stopped() {
    let usher = Usher::start("").await;
    let mut alice = Person::at_work(&usher, "alice").await;
    let usher = usher.kill_and_restart().await;
    alice.moved_to(&usher);
    alice.await_phase("ready").await;
    assert!(alice.press("stop").await.status.is_success());
    alice.await_phase("stopped").await;
    assert_eq!(usher.workspace_processes(), []);
}

#[tokio::test]
async fn a_workspace_that_died_while_usher_was_away_is_not_routed_to() {
    let usher = Usher::start("").await;
    let mut alice = Person::at_work(&usher, "alice").await;
    let processes = usher.workspace_processes();
    let usher =
        usher.killed_and_restarted_after(|| processes.into_iter().for_each(tests::processes::kill)).await;
    alice.moved_to(&usher);
    let answer = wait_for("it to know what runs", SOON, async || {
        Some(alice.fetch(Method::GET, "/note").send().await)
            .filter(|answer| answer.error_code() != "starting")
    })
    .await;
    assert_eq!(answer.status, StatusCode::FAILED_DEPENDENCY, "{}", answer.text());
    alice.visit("/").await;
    alice.await_phase("ready").await;
    assert_eq!(usher.workspace_processes().len(), 1);
}

#[tokio::test]
async fn a_second_usher_on_the_same_state_does_not_start() {
    let usher = Usher::start("").await;
    let (succeeded, text) = usher.command(&["serve"]);
    assert!(!succeeded, "{text}");
}
