//! WebSockets through the edge: none dies, none leaks, and nothing passes unchecked.

use futures_util::future::join_all;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tests::{Answer, Person, Usher, chance, handshake};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;

/// How many clients open sockets at the same time.
const CLIENTS: usize = 16;

/// What surely arrives in one piece.
const SHORT: usize = 20;
/// More than a frame's 16-bit length can say, and than one read takes.
const LONGEST: usize = 70_000;

/// Opens so many sockets, one after the other on each client, and uses each once.
///
/// Half of the messages are short, the others of any length; half of the sockets end with a Close
/// frame, the others without a word.
async fn open_and_echo(alice: &Person, sockets: usize) {
    let left = AtomicUsize::new(sockets);
    let dead = AtomicUsize::new(0);
    let client = async |mut chance: fastrand::Rng| {
        while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
            let mut socket = alice.socket("/ws").await.unwrap_or_else(|answer| panic!("{}", answer.text()));
            let longest = if chance.bool() { SHORT } else { LONGEST };
            let message = "alive".repeat(chance.usize(1..=longest / 5));
            if !socket.answers(&message).await {
                dead.fetch_add(1, Ordering::Relaxed);
            }
            if chance.bool() {
                socket.close().await;
            }
        }
    };
    let mut chance = chance();
    let begun = Instant::now();
    join_all((0..CLIENTS).map(|_| client(chance.fork()))).await;
    let dead = dead.into_inner();
    eprintln!("{sockets} sockets in {:.0?}, {dead} dead after the 101", begun.elapsed());
    assert_eq!(dead, 0);
}

#[tokio::test]
async fn no_socket_is_dead_after_its_101() {
    let usher = Usher::start("").await;
    let alice = Person::at_work(&usher, "alice").await;
    open_and_echo(&alice, 1_000).await;
}

#[tokio::test]
#[ignore = "soak: minutes of work; `make soak` runs it"]
async fn of_nine_thousand_sockets_none_is_dead_after_its_101() {
    let usher = Usher::start("").await;
    let alice = Person::at_work(&usher, "alice").await;
    open_and_echo(&alice, 9_000).await;
}

#[tokio::test]
async fn large_messages_and_many_small_ones_arrive_whole() {
    let usher = Usher::start("").await;
    let alice = Person::at_work(&usher, "alice").await;
    let mut socket = alice.socket("/ws").await.unwrap();
    for size in [0, 1, 125, 126, 65_535, 65_536, 1 << 19] {
        let message = Message::binary(vec![7; size]);
        socket.send(message.clone()).await;
        assert_eq!(socket.receive().await, message, "{size} bytes");
    }
    for i in 0..1_000 {
        socket.send(Message::text(i.to_string())).await;
    }
    for i in 0..1_000 {
        assert_eq!(socket.receive().await, Message::text(i.to_string()));
    }
}

fn rude() -> String {
    let program = env!("CARGO_BIN_EXE_rude");
    format!("[templates.demo]\ncommand = [\"{program}\", \"{{socket}}\"]\nconnect = \"socket\"\n")
}

/// Speaks for itself: what comes back to this head and these bytes after it, until the connection ends.
async fn raw(usher: &Usher, alice: &Person, path: &str, after: &str) -> String {
    let client = usher.client();
    let origin = client.origin(&alice.host());
    let cookies = alice.jar.field(&alice.host()).expect("alice is logged in");
    let head = handshake(&client, &alice.host(), path, &[("Origin", &origin), ("Cookie", &cookies)]);
    let mut stream = client.connect(&alice.host()).await.expect("the listener accepts");
    stream.write_all((head + after).as_bytes()).await.expect("a head fits into the socket");
    let mut answer = Vec::new();
    // A connection that is reset has ended, too.
    let read = tokio::time::timeout(tests::SOON * 4, stream.read_to_end(&mut answer)).await;
    let _reset = read.unwrap_or_else(|_| panic!("{path}: the connection was left open"));
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn an_answer_that_is_no_proper_101_opens_nothing() {
    let usher = Usher::start(&rude()).await;
    let alice = Person::at_work(&usher, "alice").await;
    let paths = [
        "/refused",
        "/other-upgrade",
        "/wrong-key",
        "/no-key",
        "/extension",
        "/subprotocol",
        "/early",
        "/endless",
        "/interim",
    ];
    for path in paths {
        let answer = raw(&usher, &alice, path, "").await;
        assert!(answer.starts_with("HTTP/1.1 "), "{path}: {answer}");
        assert!(!answer.starts_with("HTTP/1.1 101"), "{path} was let through: {answer}");
        assert!(!answer.contains("LEAK"), "{path}: bytes came through unchecked: {answer}");
    }
}

#[tokio::test]
async fn a_101_that_nobody_asked_for_is_a_bad_answer() {
    let usher = Usher::start(&rude()).await;
    let alice = Person::at_work(&usher, "alice").await;
    let answer: Answer = alice.fetch(http::Method::GET, "/unasked").send().await;
    assert_eq!(answer.status, http::StatusCode::BAD_GATEWAY, "{}", answer.text());
    assert!(!answer.text().contains("LEAK"));
}

#[tokio::test]
async fn bytes_before_the_101_never_reach_the_workspace() {
    let usher = Usher::start(&rude()).await;
    let alice = Person::at_work(&usher, "alice").await;
    for path in ["/wrong-key", "/refused", "/"] {
        let answer = raw(&usher, &alice, path, "SMUGGLED").await;
        assert!(!answer.contains("LEAK"), "{path}: {answer}");
    }
    let received = alice.fetch(http::Method::GET, "/received").send().await;
    assert!(!received.text().contains("SMUGGLED"), "bytes came through unchecked: {}", received.text());
}
