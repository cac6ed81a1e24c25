//! The demo's WebSockets: an echo, a clock that ticks whether anybody listens or not, and what the handshake told.

use super::routes;
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    CONNECTION, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The largest message that is echoed.
const MESSAGE_MAX: usize = 1 << 20;
const TICK: Duration = Duration::from_secs(1);

/// Sends back what text and binary messages it gets.
pub(super) async fn echo(request: Request) -> Response<Body> {
    upgrade(request, async |mut socket| {
        while let Some(message) = socket.next().await {
            match message? {
                message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message).await?,
                // Reading on answers a ping, and a close, after which nothing more comes.
                Message::Close(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        Ok(())
    })
}

/// Sends the time each second, as text; what it gets is thrown away.
pub(super) async fn clock(request: Request) -> Response<Body> {
    upgrade(request, async |mut socket| {
        let mut ticks = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                    socket.send(Message::text(now)).await?;
                }
                message = socket.next() => match message {
                    Some(message) => drop(message?),
                    None => return Ok(()),
                },
            }
        }
    })
}

/// Sends the header fields of its handshake, as `/headers` does those of a request, and closes.
pub(super) async fn told(request: Request) -> Response<Body> {
    let fields = routes::received(request.headers()).to_string();
    upgrade(request, async |mut socket| {
        socket.send(Message::text(fields)).await?;
        socket.close(None).await
    })
}

/// Answers a handshake and gives the socket to its task (RFC 6455 §4.2.2); subprotocols are not offered.
fn upgrade<F>(request: Request, talk: impl FnOnce(Socket) -> F + Send + 'static) -> Response<Body>
where
    F: Future<Output = Result<(), tungstenite::Error>> + Send,
{
    let headers = request.headers();
    let asks = headers.get(UPGRADE).is_some_and(|to| to.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let version = headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|version| version == "13");
    let (Some(key), true, true) = (headers.get(SEC_WEBSOCKET_KEY), asks, version) else {
        return (StatusCode::UPGRADE_REQUIRED, [(UPGRADE, "websocket")], "a WebSocket, please")
            .into_response();
    };
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes())).expect("base64 is a field value");
    // The task ends with its socket, and the process with neither.
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
        let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_MAX));
        let socket =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(config)).await;
        // However it ended, the other side has seen it or is gone.
        let _ = talk(socket).await;
    });
    let answer = [
        (CONNECTION, HeaderValue::from_static("Upgrade")),
        (UPGRADE, HeaderValue::from_static("websocket")),
        (SEC_WEBSOCKET_ACCEPT, accept),
    ];
    (StatusCode::SWITCHING_PROTOCOLS, answer).into_response()
}
