//! What a stranger can write into the log: little, and never what lets somebody in.

use tests::{Person, SOON, Usher, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// No text of a client's is longer than 256 bytes in an event: method, host and path, and some of our own.
const LINE_MAX: usize = 4 * 256;

#[tokio::test]
async fn a_stranger_writes_no_long_lines_into_the_log() {
    let usher = Usher::start("").await;
    let long = "M".repeat(9000);
    let odd = vec![0xff; 9000];
    let host = usher.client().authority("alice.lab.localhost");
    for request in [
        format!("{long} / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes(),
        format!("GET /{long} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes(),
        [b"GET / HTTP/1.1\r\nHost: ", odd.as_slice(), b"\r\n\r\n"].concat(),
    ] {
        let before = usher.logs.all().len();
        let mut stream = usher.client().connect("alice.lab.localhost").await.expect("it listens");
        stream.write_all(&request).await.expect("it reads");
        stream.read_u8().await.expect("it answers");
        let event = wait_for("the request's event", SOON, async || {
            let logs = usher.logs.all();
            logs[before..].lines().find(|line| line.contains("http.method")).map(str::to_owned)
        })
        .await;
        assert!(event.len() <= LINE_MAX, "{} bytes: {event}", event.len());
    }
}

#[tokio::test]
async fn nothing_that_lets_somebody_in_stands_in_the_log() {
    let usher = Usher::start("").await;
    let alice = Person::logged_in(&usher, "alice").await;
    alice.await_phase("ready").await;
    let tickets = alice.trail.iter().flat_map(|url| url.query_pairs().map(|(_, value)| value.into_owned()));
    let secrets: Vec<String> = ["lab.localhost", &alice.host()]
        .iter()
        .filter_map(|host| alice.jar.field(host))
        .flat_map(|field| {
            field.split("; ").filter_map(|pair| Some(pair.split_once('=')?.1.to_owned())).collect::<Vec<_>>()
        })
        .chain(tickets)
        .filter(|secret| secret.len() >= 32)
        .collect();
    assert!(secrets.len() >= 3, "two sessions and a ticket: {secrets:?}");
    let logs = usher.logs.all();
    for secret in secrets {
        assert!(!logs.contains(&secret), "{secret}");
    }
}
