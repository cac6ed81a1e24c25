//! What counts as use, and what happens to a workspace that nobody uses.

use http::Method;
use std::time::{Duration, Instant};
use tests::{Closed, Person, Socket, Usher, wait_for};
use tokio_tungstenite::tungstenite::Message;

/// Short enough for a test, long enough for a busy machine to send something in half of it.
const IDLE: Duration = Duration::from_secs(4);
const REST: &str = "[workspaces]\nidle_after = \"4s\"\nwarn_before = \"1s\"\n";
/// How long a workspace may outlive its idle time: the loop's tick, the second look, the stop itself.
const LATE: Duration = Duration::from_secs(20);

async fn idle_usher() -> Usher {
    Usher::start(REST).await
}

/// Waits for the reaper; the socket must be told why.
async fn assert_reaped(socket: &mut Socket) {
    match tokio::time::timeout(IDLE + LATE, socket.closed()).await.expect("reaped in time") {
        Closed::Frame(4503, reason) => assert!(!reason.is_empty(), "Close 4503 without a reason"),
        other => panic!("not told why: {other:?}"),
    }
}

#[tokio::test]
async fn a_workspace_that_nobody_uses_is_stopped() {
    let usher = idle_usher().await;
    let alice = Person::at_work(&usher, "alice").await;
    wait_for("the idle workspace to stop", IDLE + LATE, async || {
        (alice.status().await["phase"] == "stopped").then_some(())
    })
    .await;
    wait_for("its processes to be gone", tests::SOON, async || {
        usher.workspace_processes().is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_silent_open_socket_does_not_keep_its_workspace() {
    let usher = idle_usher().await;
    let alice = Person::at_work(&usher, "alice").await;
    let mut socket = alice.socket("/ws").await.unwrap();
    assert_reaped(&mut socket).await;
}

#[tokio::test]
async fn a_workspace_that_talks_to_itself_is_reaped() {
    let usher = idle_usher().await;
    let alice = Person::at_work(&usher, "alice").await;
    let mut socket = alice.socket("/clock").await.unwrap();
    assert_reaped(&mut socket).await;
}

#[tokio::test]
async fn pings_and_pongs_keep_no_workspace() {
    let usher = idle_usher().await;
    let alice = Person::at_work(&usher, "alice").await;
    let mut socket = alice.socket("/ws").await.unwrap();
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(IDLE / 4);
    let closed = loop {
        assert!(begun.elapsed() < IDLE + LATE, "pings kept the workspace");
        ticks.tick().await;
        if socket.try_send(Message::Ping("are you there".into())).await.is_err() {
            break socket.closed().await;
        }
        if socket.try_send(Message::Pong("i am".into())).await.is_err() {
            break socket.closed().await;
        }
        if let Ok(closed) = tokio::time::timeout(Duration::from_millis(10), socket.closed()).await {
            break closed;
        }
    };
    assert!(matches!(closed, Closed::Frame(4503, _)), "{closed:?}");
}

#[tokio::test]
async fn a_data_frame_each_half_period_keeps_a_workspace() {
    let usher = idle_usher().await;
    let alice = Person::at_work(&usher, "alice").await;
    let mut socket = alice.socket("/ws").await.unwrap();
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(IDLE / 2);
    while begun.elapsed() < IDLE * 4 {
        ticks.tick().await;
        socket.echoes("still here").await;
    }
    let status = alice.status().await;
    assert_eq!(status["phase"], "ready", "{status}");
    assert!(!status["why_alive"].is_null(), "{status}");
    assert_reaped(&mut socket).await;
}

#[tokio::test]
async fn background_polling_that_the_template_lists_is_no_use() {
    let rest = r#"
        [workspaces]
        idle_after = "4s"
        warn_before = "1s"
        [templates.demo]
        command = ["{usher}", "demo", "--socket", "{socket}"]
        connect = "socket"
        background = ["GET /note", "GET /head*"]
    "#;
    let usher = Usher::start(rest).await;
    let alice = Person::at_work(&usher, "alice").await;
    wait_for("a polled workspace to stop", IDLE + LATE, async || {
        let answers = [alice.fetch(Method::GET, "/note"), alice.fetch(Method::GET, "/headers?poll=1")];
        for ask in answers {
            ask.send().await;
        }
        (alice.status().await["phase"] == "stopped").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_workspace_that_says_it_is_busy_is_kept() {
    let rest = r#"
        [workspaces]
        idle_after = "4s"
        warn_before = "1s"
        [templates.demo]
        command = ["{usher}", "demo", "--socket", "{socket}"]
        connect = "socket"
        [templates.demo.busy]
        path = "/headers"
        expression = "size(json) > 0"
        every = "1s"
    "#;
    let usher = Usher::start(rest).await;
    let alice = Person::at_work(&usher, "alice").await;
    let begun = Instant::now();
    let reason = wait_for("four idle periods to pass", IDLE * 5, async || {
        let status = alice.status().await;
        assert_eq!(status["phase"], "ready", "{status}");
        (begun.elapsed() > IDLE * 4).then(|| status["why_alive"].to_string())
    })
    .await;
    assert!(reason.contains("busy"), "{reason}");
}

#[tokio::test]
async fn nobody_keeps_a_workspace_beyond_its_age() {
    let usher =
        Usher::start("[workspaces]\nidle_after = \"1h\"\nmax_age = \"4s\"\nwarn_before = \"1s\"\n").await;
    let alice = Person::at_work(&usher, "alice").await;
    wait_for("the old workspace to stop", IDLE + LATE, async || {
        alice.press("extend").await;
        alice.fetch(Method::GET, "/note").send().await;
        (alice.status().await["phase"] == "stopped").then_some(())
    })
    .await;
}
