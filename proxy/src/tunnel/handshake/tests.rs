use super::*;
use crate::request::tests::head;
use tokio::io::{DuplexStream, duplex};

const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
/// The answer to [`KEY`] (RFC 6455 §1.3).
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn asked() -> RequestHeader {
    let offers = [
        KEY,
        ("upgrade", "websocket"),
        ("connection", "Upgrade"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-extensions", "permessage-deflate; client_max_window_bits, x-other"),
        ("sec-websocket-protocol", "v1.kernel.websocket.jupyter.org, chat"),
    ];
    head("GET", "alice.lab.test", "/api/kernels/1/channels?session_id=2", &offers)
}

/// A 101 that is right, with one line in place of its own, or one more.
fn switch(line: &str) -> String {
    let name = line.split(':').next().unwrap();
    let good = [
        "Upgrade: websocket".to_owned(),
        "Connection: keep-alive, Upgrade".to_owned(),
        format!("Sec-WebSocket-Accept: {ACCEPT}"),
    ];
    let kept: Vec<String> = good.into_iter().filter(|own| !own.starts_with(name)).collect();
    format!("HTTP/1.1 101 Switching Protocols\r\n{}\r\n{line}\r\n\r\n", kept.join("\r\n"))
}

/// What we make of a workspace's whole answer, and what it was asked.
async fn answer_to(came: &[u8]) -> (Result<Answer, Refusal>, String) {
    let (mut ours, mut workspace) = duplex(1 << 20);
    workspace.write_all(came).await.unwrap();
    workspace.shutdown().await.unwrap();
    let answer = open(&mut ours, &asked(), &HostName::parse("lab.test").unwrap()).await;
    drop(ours);
    let mut sent = Vec::new();
    workspace.read_to_end(&mut sent).await.unwrap();
    (answer, String::from_utf8(sent).unwrap())
}

async fn refusal_of(came: &[u8]) -> String {
    let (answer, _) = answer_to(came).await;
    let refusal = answer.expect_err(&came.escape_ascii().to_string());
    assert_eq!(refusal.code, Code::BadUpstream);
    refusal.detail
}

#[tokio::test]
async fn a_good_101_opens_with_its_early_bytes_and_nothing_but_what_a_101_says() {
    let more = "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\
        Set-Cookie: a=b\r\nSet-Cookie: __Host-usher-ws=forged\r\nServer: x\r\nUsher-Error: x\r\n\
        Content-Length: 5\r\nX-Own: 1";
    let came = format!("{}{}", switch(more), "\u{1}early");
    let (answer, sent) = answer_to(came.as_bytes()).await;
    let Answer::Open(opened) = answer.unwrap() else { panic!("not open") };
    assert_eq!(opened.early, b"\x01early");
    assert_eq!(opened.reserved, 0x40);
    let mut lines: Vec<String> = opened
        .head
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            "connection: Upgrade".to_owned(),
            format!("sec-websocket-accept: {ACCEPT}"),
            "sec-websocket-extensions: permessage-deflate".to_owned(),
            "sec-websocket-protocol: chat".to_owned(),
            "set-cookie: a=b".to_owned(),
            "upgrade: websocket".to_owned(),
        ]
    );
    assert!(sent.starts_with("GET /api/kernels/1/channels?session_id=2 HTTP/1.1\r\n"), "{sent}");
    assert!(sent.ends_with("\r\n\r\n"), "{sent}");
}

#[tokio::test]
async fn a_101_that_is_not_the_answer_to_this_handshake_is_refused() {
    for line in [
        "Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "Sec-WebSocket-Accept:",
        "Upgrade: h2c",
        "Upgrade: websocket, h2c",
        "Connection: keep-alive",
        "Sec-WebSocket-Extensions: x-unasked",
        "Sec-WebSocket-Extensions: permessage-deflate, x-unasked",
        "Sec-WebSocket-Extensions: permessage-deflate, permessage-deflate",
        "Sec-WebSocket-Extensions: x-other; a=\"1, x-unasked\"",
        "Sec-WebSocket-Protocol: mqtt",
        "Sec-WebSocket-Protocol: chat, v1.kernel.websocket.jupyter.org",
        "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Protocol: chat",
        "Sec-WebSocket-Protocol: CHAT",
    ] {
        refusal_of(switch(line).as_bytes()).await;
    }
    assert!(answer_to(switch("Date: now").as_bytes()).await.0.is_ok(), "the others are right");
}

#[tokio::test]
async fn what_is_no_answer_is_refused() {
    for came in
        ["", "HTTP/1.1 101", "SSH-2.0-OpenSSH\r\n", "\u{1}\u{2}frames", "HTTP/1.1 200 OK\nbroken\u{0}"]
    {
        refusal_of(came.as_bytes()).await;
    }
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(HEAD_MAX));
    assert!(refusal_of(endless.as_bytes()).await.contains("too large"));
}

#[tokio::test]
async fn at_most_eight_interim_answers_are_awaited() {
    let interim = |count: usize| "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".repeat(count);
    let eight = format!("{}{}", interim(8), switch("Date: now"));
    assert!(matches!(answer_to(eight.as_bytes()).await.0, Ok(Answer::Open(_))));
    let nine = format!("{}{}", interim(9), switch("Date: now"));
    assert!(refusal_of(nine.as_bytes()).await.contains("interim"));
}

#[tokio::test]
async fn another_answer_is_made_one_that_ends_here() {
    let came = "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\nServer: x\r\nClear-Site-Data: \"*\"\r\n\
        Content-Type: text/plain\r\n\r\n4\r\nnope\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n\r\nsmuggled";
    let (answer, _) = answer_to(came.as_bytes()).await;
    let Answer::Other(head, body) = answer.unwrap() else { panic!("open") };
    assert_eq!(head.status, 403);
    assert_eq!(body, "nope");
    let mut names: Vec<&str> = head.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["connection", "content-length", "content-type"]);
    assert_eq!(head.headers["connection"], "close");
}

#[tokio::test]
async fn a_handshake_may_come_byte_by_byte() {
    let (mut ours, mut workspace): (DuplexStream, DuplexStream) = duplex(1 << 16);
    let came = format!("{}frame", switch("Date: now"));
    let drip = tokio::spawn(async move {
        for byte in came.bytes() {
            workspace.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        workspace
    });
    let answer = open(&mut ours, &asked(), &HostName::parse("lab.test").unwrap()).await;
    assert!(matches!(answer, Ok(Answer::Open(_))));
    drip.await.unwrap();
}
