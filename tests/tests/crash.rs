//! Usher is killed at each named point of a start and a stop: no orphan, no lost file, no second process.
//!
//! Needs a binary built with `usher-control/crash-points`; `USHER_CRASH_ROUNDS` says how often each point is
//! visited, once by default. The order is left to chance, so that each point meets what the others leave.

use http::Method;
use std::time::Duration;
use tests::{Person, Setup, Usher, chance, wait_for};

/// The points of `control::crash::POINTS` that a visit and a stop pass.
const SPAWN: [&str; 5] =
    ["spawn.asked", "spawn.intent-recorded", "spawn.forked", "spawn.process-recorded", "spawn.told"];
const STOP: [&str; 6] = [
    "stop.asked",
    "stop.intent-recorded",
    "stop.signalled",
    "stop.killed",
    "stop.all-ended",
    "stop.end-recorded",
];

/// Past this an usher that should have died did not.
const DEATH: Duration = Duration::from_secs(20);

/// Each point as often as there are rounds.
fn in_any_order<const N: usize>(points: [&'static str; N]) -> Vec<&'static str> {
    let rounds: usize =
        std::env::var("USHER_CRASH_ROUNDS").map_or(1, |rounds| rounds.parse().expect("a number of rounds"));
    let mut all = points.repeat(rounds);
    chance().shuffle(&mut all);
    eprintln!("{N} points, {} kills", all.len());
    all
}

fn dying_at(point: &str) -> Setup {
    Setup::new("").environment("USHER_CRASH_AT", point)
}

/// Waits for the death that was ordered.
async fn died(usher: &mut Usher, point: &str) {
    let status = tokio::time::timeout(DEATH, usher.ended(DEATH * 2)).await;
    let status = status.unwrap_or_else(|_| panic!("{point} was never passed"));
    assert!(!status.success(), "{point}: it ended in good order");
}

/// After whatever happened, a visit finds one workspace with its note, and a stop leaves nothing.
async fn assert_whole(usher: &Usher, alice: &mut Person, point: &str) {
    alice.visit("/").await;
    alice.await_phase("ready").await;
    assert_eq!(alice.fetch(Method::GET, "/note").send().await.text(), "kept", "{point}: the file was lost");
    assert_eq!(usher.workspace_processes().len(), 1, "{point}: not one process");
    alice.press("stop").await;
    alice.await_phase("stopped").await;
    assert_eq!(usher.workspace_processes(), [], "{point}: an orphan is left");
}

/// A state in which alice has a file, and nothing runs.
async fn alice_with_a_note() -> (Usher, Person) {
    let usher = Usher::start("").await;
    let alice = Person::at_work(&usher, "alice").await;
    alice.fetch(Method::PUT, "/note").body("kept").send().await;
    alice.press("stop").await;
    alice.await_phase("stopped").await;
    (usher, alice)
}

#[tokio::test]
async fn killed_at_any_point_of_a_start_it_leaves_no_orphan_and_loses_no_file() {
    let (mut usher, mut alice) = alice_with_a_note().await;
    for point in &in_any_order(SPAWN) {
        usher = usher.replaced_by(dying_at(point)).await;
        alice.moved_to(&usher);
        alice.try_visit("/").await;
        died(&mut usher, point).await;
        usher = usher.replaced_by(Setup::new("")).await;
        alice.moved_to(&usher);
        assert_whole(&usher, &mut alice, point).await;
    }
}

#[tokio::test]
async fn killed_at_any_point_of_a_stop_it_leaves_no_orphan_and_loses_no_file() {
    let (mut usher, mut alice) = alice_with_a_note().await;
    for point in &in_any_order(STOP) {
        usher = usher.replaced_by(dying_at(point).stubborn(*point == "stop.killed")).await;
        alice.moved_to(&usher);
        alice.visit("/").await;
        alice.await_phase("ready").await;
        // The answer may be cut off by the death.
        let _cut = alice.fetch(Method::POST, "/.usher/stop").try_send().await;
        died(&mut usher, point).await;
        usher = usher.replaced_by(Setup::new("")).await;
        alice.moved_to(&usher);
        wait_for("the interrupted stop to be settled", DEATH, async || {
            let phase = alice.status().await["phase"].clone();
            (phase == "stopped" || phase == "ready").then_some(())
        })
        .await;
        assert_whole(&usher, &mut alice, point).await;
    }
}
