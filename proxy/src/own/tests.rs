//! With a toy router, over real sockets and Pingora's own session.

use super::*;
use crate::access::route::Place;
use crate::connection::Link;
use crate::connection::fixture::{finish, read_all, read_until, session};
use crate::request::Intent;
use axum::Extension;
use axum::routing::{get, post};
use futures_util::stream::{self, Stream};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;

const CONFIG: &str = r#"
domain = "lab.localhost"
access = { allow = "true", template = "'demo'" }
listeners = [{ address = "127.0.0.1:8080" }]
[templates.demo]
command = ["demo", "{port}"]
connect = "port"
"#;

fn asked(session: &Session) -> Asked {
    let config = config::Config::parse("test", CONFIG, &|_| None).unwrap();
    Asked {
        own: Arc::new(Own { place: Place::Portal, caller: None }),
        host: config::HostName::parse("lab.localhost").unwrap(),
        connection: ConnectionFacts::clone(Link::of(session).unwrap().facts()),
        config: Arc::new(config),
        method: session.req_header().method.clone(),
        intent: Intent::Script,
        request_id: "4711".into(),
    }
}

async fn serve(router: Router, mut session: Session) -> (Result<()>, bool) {
    let asked = asked(&session);
    session.set_keepalive(Some(60));
    let body = match read_body(&mut session).await.unwrap() {
        Ok(body) => body,
        Err(code) => panic!("{code:?}"),
    };
    let answered = answer(&router, &mut session, asked, body, &mut None).await;
    let reused = answered.is_ok() && finish(session).await;
    (answered, reused)
}

#[tokio::test]
async fn an_endpoint_sees_path_query_body_and_who_asks() {
    let echo = async |Extension(asked): Extension<Asked>, uri: Uri, body: String| {
        format!("{} {uri} {body} {}", asked.host, asked.request_id)
    };
    let router = Router::new().route("/login", post(echo));
    let sent = b"POST /login?next=%2F HTTP/1.1\r\nHost: lab.localhost\r\nContent-Length: 5\r\n\r\nalice";
    let (mut client, session) = session(sent).await;
    let (answered, reused) = serve(router, session).await;
    answered.unwrap();
    assert!(reused);
    let answer = read_until(&mut client, "4711").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nlab.localhost /login?next=%2F alice 4711"), "{answer}");
}

#[tokio::test]
async fn head_is_answered_without_a_body_and_with_its_length() {
    let router = Router::new().route("/", get(async || "twelve bytes"));
    let (mut client, session) = session(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    serve(router, session).await.0.unwrap();
    let answer = read_all(&mut client).await;
    assert!(answer.contains("Content-Length: 12\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_not_read() {
    let told = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", BODY_MAX + 1);
    let (_client, mut large) = session(told.as_bytes()).await;
    assert_eq!(read_body(&mut large).await.unwrap(), Err(Code::BodyTooLarge));

    let chunk = format!("{:x}\r\n{}\r\n", BODY_MAX, "x".repeat(BODY_MAX));
    let (mut client, mut untold) =
        session(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let writer = tokio::spawn(async move {
        client.write_all(format!("{chunk}1\r\nx\r\n0\r\n\r\n").as_bytes()).await.unwrap();
        client
    });
    assert_eq!(read_body(&mut untold).await.unwrap(), Err(Code::BodyTooLarge));
    drop(writer.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_not_waited_for_for_ever() {
    let (_client, mut session) = session(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nal").await;
    assert_eq!(read_body(&mut session).await.unwrap(), Err(Code::RequestTimeout));
}

/// A body whose events come as they like, and that tells when it is dropped.
struct Events {
    first: Option<&'static str>,
    _dropped: oneshot::Sender<()>,
}

impl Stream for Events {
    type Item = std::result::Result<&'static str, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.first.take() {
            Some(event) => Poll::Ready(Some(Ok(event))),
            None => Poll::Pending,
        }
    }
}

#[tokio::test]
async fn an_event_arrives_at_once_and_a_client_that_leaves_ends_the_stream() {
    let (dropped, ended) = oneshot::channel();
    let events =
        Arc::new(std::sync::Mutex::new(Some(Events { first: Some("data: 1\n\n"), _dropped: dropped })));
    let router = Router::new()
        .route("/events", get(async move || Body::from_stream(events.lock().unwrap().take().unwrap())));
    let (mut client, session) = session(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let server = tokio::spawn(serve(router, session));
    let answer = read_until(&mut client, "data: 1\n\n\r\n").await;
    assert!(answer.contains("Transfer-Encoding: chunked\r\n"), "{answer}");
    drop(client);
    ended.await.unwrap_err();
    assert!(server.await.unwrap().0.is_err());
}

#[tokio::test]
async fn a_stream_that_ends_by_itself_keeps_the_connection() {
    let parts = || stream::iter(["one ", "two"].map(Ok::<_, std::convert::Infallible>));
    let router = Router::new().route("/", get(async move || Body::from_stream(parts())));
    let (mut client, session) = session(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let (answered, reused) = serve(router, session).await;
    answered.unwrap();
    assert!(reused);
    let answer = read_until(&mut client, "0\r\n\r\n").await;
    assert!(answer.ends_with("4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n"), "{answer}");
}
