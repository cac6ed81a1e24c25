//! Over real sockets, with Pingora's own session.

use super::*;
use crate::connection::fixture::{finish, read_all, read_until, session};
use tokio::io::AsyncWriteExt;

fn refused() -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(b"no"));
    *response.status_mut() = StatusCode::FORBIDDEN;
    response
}

#[tokio::test]
async fn an_answer_leaves_the_connection_open_for_the_next_request() {
    let (mut client, mut session) = session(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    session.set_keepalive(Some(60));
    send(&mut session, refused()).await.unwrap();
    let answer = read_until(&mut client, "no").await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("Content-Length: 2\r\n"), "{answer}");
    assert!(finish(session).await);
}

#[tokio::test]
async fn an_answer_to_head_has_the_length_and_no_body() {
    let (mut client, mut session) = session(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    send(&mut session, refused()).await.unwrap();
    assert!(!finish(session).await);
    let answer = read_all(&mut client).await;
    assert!(answer.contains("Content-Length: 2\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_small_body_is_read_away_and_never_becomes_the_next_request() {
    let sent = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 27\r\n\r\nGET /admin HTTP/1.1\r\nA: b\r\n";
    let (mut client, mut session) = session(sent).await;
    session.set_keepalive(Some(60));
    send(&mut session, refused()).await.unwrap();
    let answer = read_until(&mut client, "no").await;
    assert!(answer.contains("keep-alive"), "{answer}");
    assert!(finish(session).await, "the body was read to its end");
}

#[tokio::test]
async fn a_large_body_closes_the_connection_and_the_answer_still_arrives() {
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 4 * DRAIN_MAX);
    let (mut client, mut session) = session(head.as_bytes()).await;
    session.set_keepalive(Some(60));
    client.write_all(&vec![b'x'; DRAIN_MAX / 2]).await.unwrap();
    let server = tokio::spawn(async move {
        send(&mut session, refused()).await.unwrap();
        finish(session).await
    });
    let answer = read_all(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("no"), "{answer}");
    assert!(answer.contains("Connection: close\r\n"), "{answer}");
    assert!(!server.await.unwrap(), "what is left of the body must not be read as a request");
}

#[tokio::test]
async fn a_body_that_is_only_sent_when_asked_for_is_not_waited_for() {
    let sent = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n";
    let (mut client, mut session) = session(sent).await;
    session.set_keepalive(Some(60));
    let server = tokio::spawn(async move { send(&mut session, refused()).await });
    let answer = read_until(&mut client, "no").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    drop(client);
    server.await.unwrap().unwrap();
}
