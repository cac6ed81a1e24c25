//! WebSockets through an usher.

use crate::http_client::{Answer, Client};
use crate::tls::Stream;
use crate::wait::SOON;
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};

/// How a WebSocket ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Closed {
    /// With a Close frame: its code and reason; 1005 when it had none.
    Frame(u16, String),
    /// Without.
    Cut(String),
}

/// An open WebSocket.
pub struct Socket {
    inner: WebSocketStream<Box<dyn Stream>>,
}

impl Socket {
    /// Connects to a host's path with these further header fields.
    ///
    /// # Errors
    /// The answer, when it is not a 101.
    pub async fn open(
        client: &Client,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Box<Answer>> {
        let stream = client.connect(host).await.expect("the listener accepts");
        let scheme = if client.certificate.is_some() { "wss" } else { "ws" };
        let address = format!("{scheme}://{}{path}", client.authority(host));
        let mut request = address.into_client_request().expect("a test's address is valid");
        let added = client.added.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in headers.iter().copied().chain(added).filter(|(_, value)| !value.is_empty()) {
            let name: http::HeaderName = name.parse().expect("a test's header name is valid");
            request.headers_mut().append(name, value.parse().expect("a test's header value is valid"));
        }
        let opened = tokio::time::timeout(SOON, tokio_tungstenite::client_async(request, stream)).await;
        match opened.expect("an answer to the upgrade") {
            Ok((inner, _)) => Ok(Self { inner }),
            Err(Error::Http(answer)) => {
                let (parts, body) = answer.into_parts();
                let body = Bytes::from(body.unwrap_or_default());
                Err(Box::new(Answer { status: parts.status, headers: parts.headers, body }))
            }
            Err(error) => panic!("the upgrade of {host}{path} broke: {error}"),
        }
    }

    /// Sends one message.
    pub async fn send(&mut self, message: Message) {
        self.inner.send(message).await.expect("the socket is open");
    }

    /// Sends one message, where the socket may have ended.
    ///
    /// # Errors
    /// When it has.
    pub async fn try_send(&mut self, message: Message) -> Result<(), Error> {
        self.inner.send(message).await
    }

    /// The next message that is data.
    pub async fn receive(&mut self) -> Message {
        loop {
            let message = tokio::time::timeout(SOON, self.inner.next()).await.expect("a message in time");
            match message.expect("the socket is open").expect("the socket is sound") {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    /// Sends a text and waits until the workspace has sent it back.
    pub async fn echoes(&mut self, text: &str) {
        self.send(Message::text(text)).await;
        while self.receive().await.into_text().is_ok_and(|got| !got.contains(text)) {}
    }

    /// Whether the workspace sends a text back, before the socket ends or too much time passes.
    pub async fn answers(&mut self, text: &str) -> bool {
        let exchange = async {
            self.try_send(Message::text(text)).await.ok()?;
            self.inner.next().await?.ok()?.into_text().ok()
        };
        matches!(tokio::time::timeout(SOON, exchange).await, Ok(Some(got)) if got.as_str() == text)
    }

    /// Ends it with a Close frame, as a page does that is left.
    pub async fn close(mut self) {
        // Fails only when the other side was quicker.
        let _ended = self.inner.close(None).await;
    }

    /// Reads on until the socket ends, answering pings.
    pub async fn closed(&mut self) -> Closed {
        loop {
            match self.inner.next().await {
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Closed::Frame(frame.code.into(), frame.reason.to_string());
                }
                Some(Ok(Message::Close(None))) => return Closed::Frame(1005, String::new()),
                Some(Ok(_)) => {}
                Some(Err(error)) => return Closed::Cut(error.to_string()),
                None => return Closed::Cut("end of stream".to_owned()),
            }
        }
    }
}

/// The head of an upgrade as bytes, for tests that speak for themselves.
pub fn handshake(client: &Client, host: &str, path: &str, headers: &[(&str, &str)]) -> String {
    let mut head = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        client.authority(host)
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head + "\r\n"
}
