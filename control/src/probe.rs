//! Asks a workspace itself: whether it accepts, whether it is ready, whether it computes.
//!
//! The port is asked directly and often, so that a user's first byte follows a workspace's first accept by
//! milliseconds.

use crate::Address;
use config::ReadyProbe;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// A local connect that takes longer meets a full backlog: ask anew.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(250);
/// A ready probe that takes longer has failed, for now.
const READY_TIMEOUT: Duration = Duration::from_secs(2);
/// How much of a ready probe's answer is looked at.
const READY_BODY: usize = 4 << 10;
/// How long a busy probe may take as a whole.
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// How much JSON a busy probe may answer.
const ASK_BODY: usize = 1 << 20;
/// Between two connects, first and last: fresh programs take long enough for the steps to reach the last.
const CONNECT_PAUSE: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(10));
/// Between two requests, first and last: an application that answers "not yet" has work to do.
const READY_PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(50));

/// Waits until a workspace accepts connections and, with a `ready` probe, until that succeeds.
///
/// Never gives up: the caller's deadline drops it, at any time without harm. `host` is the `Host` header.
pub async fn probe(address: &Address, ready: Option<&ReadyProbe>, host: &str) {
    let mut pause = CONNECT_PAUSE.0;
    while !accepts(address).await {
        sleep(pause).await;
        pause = (pause * 2).min(CONNECT_PAUSE.1);
    }
    let Some(ready) = ready else { return };
    let mut pause = READY_PAUSE.0;
    while !is_ready(address, ready, host).await {
        sleep(pause).await;
        pause = (pause * 2).min(READY_PAUSE.1);
    }
}

/// Asks a workspace for JSON: `GET path`, status 200, in [`ASK_TIMEOUT`], at most [`ASK_BODY`] long.
///
/// # Errors
/// Why there is none; nothing of it is the workspace's owner's fault for sure.
pub async fn ask_json(address: &Address, path: &str, host: &str) -> Result<serde_json::Value, AskError> {
    let asked = async {
        let answer = get(address, path, host).await?;
        if answer.status != StatusCode::OK {
            return Err(AskError::Status(answer.status));
        }
        let body = Limited::new(answer.body, ASK_BODY);
        let bytes = body.collect().await.map_err(|e| AskError::Body(e.to_string()))?.to_bytes();
        serde_json::from_slice(&bytes).map_err(AskError::Json)
    };
    timeout(ASK_TIMEOUT, asked).await.unwrap_or(Err(AskError::TooSlow(ASK_TIMEOUT)))
}

/// Why a workspace did not answer with JSON.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No connection.
    #[error("it does not accept connections")]
    Connect(#[source] std::io::Error),
    /// The path of the template makes no request.
    #[error("the path makes no request")]
    Request(#[source] http::Error),
    /// It does not speak HTTP.
    #[error("it did not answer in HTTP")]
    Exchange(#[source] hyper::Error),
    /// Another status than 200.
    #[error("it answered with status {0}")]
    Status(StatusCode),
    /// The body broke off or is too long.
    #[error("its body cannot be read: {0}")]
    Body(String),
    /// The body is not JSON.
    #[error("its body is not JSON")]
    Json(#[source] serde_json::Error),
    /// No whole answer in time.
    #[error("it took longer than {0:?}")]
    TooSlow(Duration),
}

/// Whether a connection can be made now. The connection is closed at once.
async fn accepts(address: &Address) -> bool {
    let connect = async {
        match address {
            Address::Tcp(address) => TcpStream::connect(address).await.is_ok(),
            Address::Unix(path) => UnixStream::connect(path).await.is_ok(),
        }
    };
    timeout(CONNECT_TIMEOUT, connect).await.unwrap_or(false)
}

/// Whether the ready probe succeeds now.
async fn is_ready(address: &Address, ready: &ReadyProbe, host: &str) -> bool {
    let asked = async {
        let answer = get(address, &ready.path, host).await.ok()?;
        let beginning = match &ready.contains {
            Some(_) => beginning(answer.body, READY_BODY).await,
            None => Vec::new(),
        };
        Some(answers_ready(ready, answer.status, &beginning))
    };
    timeout(READY_TIMEOUT, asked).await.ok().flatten().unwrap_or(false)
}

/// Whether an answer is the one that the ready probe wants.
fn answers_ready(ready: &ReadyProbe, status: StatusCode, body: &[u8]) -> bool {
    let status_fits = ready.status.map_or(status.as_u16() < 500, |wanted| status == wanted);
    let body_fits = ready.contains.as_deref().is_none_or(|wanted| {
        wanted.is_empty() || body.windows(wanted.len()).any(|part| part == wanted.as_bytes())
    });
    status_fits && body_fits
}

/// The first bytes of a body, as far as it comes.
async fn beginning(mut body: Incoming, most: usize) -> Vec<u8> {
    let mut read = Vec::new();
    while read.len() < most
        && let Some(Ok(frame)) = body.frame().await
    {
        if let Some(data) = frame.data_ref() {
            let room = most - read.len();
            read.extend_from_slice(&data[..data.len().min(room)]);
        }
    }
    read
}

/// An answer whose body is still to be read.
struct Answer {
    status: StatusCode,
    body: Incoming,
    /// Drives the connection; ends with this value, whatever became of the body.
    _connection: JoinSet<()>,
}

async fn get(address: &Address, path: &str, host: &str) -> Result<Answer, AskError> {
    match address {
        Address::Tcp(address) => {
            exchange(TcpStream::connect(address).await.map_err(AskError::Connect)?, path, host).await
        }
        Address::Unix(socket) => {
            exchange(UnixStream::connect(socket).await.map_err(AskError::Connect)?, path, host).await
        }
    }
}

/// One request on a connection of its own.
async fn exchange<S>(stream: S, path: &str, host: &str) -> Result<Answer, AskError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(AskError::Request)?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(AskError::Exchange)?;
    let mut driven = JoinSet::new();
    driven.spawn(async move {
        // What breaks the connection breaks the exchange, too, which tells it.
        connection.await.ok();
    });
    let (head, body) = sender.send_request(request).await.map_err(AskError::Exchange)?.into_parts();
    Ok(Answer { status: head.status, body, _connection: driven })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UnixListener};

    fn ready(status: Option<u16>, contains: Option<&str>) -> ReadyProbe {
        ReadyProbe { path: "/health?x=1".into(), status, contains: contains.map(String::from) }
    }

    /// Answers the n-th connection with the n-th text (the last one for ever) and keeps what it was asked.
    async fn server(answers: &'static [&'static str]) -> (Address, Arc<AtomicUsize>, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let mut tasks = JoinSet::new();
        let counter = asked.clone();
        tasks.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = [0; 1024];
                let read = stream.read(&mut head).await.unwrap();
                if read == 0 {
                    continue; // a mere connect
                }
                let head = String::from_utf8_lossy(&head[..read]).to_lowercase();
                assert!(head.contains("host: alice.lab.localhost\r\n"), "{head}");
                let n = counter.fetch_add(1, SeqCst).min(answers.len() - 1);
                stream.write_all(answers[n].as_bytes()).await.unwrap();
            }
        });
        (address, asked, tasks)
    }

    const HOST: &str = "alice.lab.localhost";

    #[test]
    fn the_ready_probe_judges_status_and_beginning() {
        let table = [
            (None, None, 200, "", true),
            (None, None, 404, "", true),
            (None, None, 499, "", true),
            (None, None, 500, "", false),
            (None, None, 503, "", false),
            (Some(204), None, 204, "", true),
            (Some(204), None, 200, "", false),
            (Some(503), None, 503, "", true),
            (None, Some("ok"), 200, "all ok now", true),
            (None, Some("ok"), 200, "no", false),
            (None, Some("ok"), 500, "ok", false),
            (None, Some(""), 200, "", true),
        ];
        for (status, contains, given, body, fits) in table {
            let judged = answers_ready(
                &ready(status, contains),
                StatusCode::from_u16(given).unwrap(),
                body.as_bytes(),
            );
            assert_eq!(judged, fits, "{status:?} {contains:?} {given} {body:?}");
        }
    }

    #[tokio::test]
    async fn a_workspace_that_begins_to_accept_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let address = Address::Unix(socket.clone());
        let mut waiting = std::pin::pin!(probe(&address, None, HOST));
        assert!(timeout(Duration::from_millis(30), &mut waiting).await.is_err(), "nothing listens yet");
        let _listener = UnixListener::bind(&socket).unwrap();
        timeout(Duration::from_secs(5), waiting).await.unwrap();
    }

    #[tokio::test]
    async fn a_workspace_is_ready_only_when_its_probe_succeeds() {
        let (address, asked, _tasks) = server(&[
            "HTTP/1.1 503 Not yet\r\ncontent-length: 0\r\n\r\n",
            "nonsense\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nnot",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        ])
        .await;
        timeout(Duration::from_secs(5), probe(&address, Some(&ready(Some(200), Some("ok"))), HOST))
            .await
            .unwrap();
        assert_eq!(asked.load(SeqCst), 4);
    }

    #[tokio::test]
    async fn json_is_asked_for_and_every_other_answer_is_an_error() {
        let (address, _, _tasks) = server(&[
            "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{\"busy\":1}",
            "HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\n{}",
            "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n{",
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}",
            "nonsense\r\n\r\n",
        ])
        .await;
        let ask = || ask_json(&address, "/api", HOST);
        assert_eq!(ask().await.unwrap(), serde_json::json!({"busy": 1}));
        assert!(matches!(ask().await, Err(AskError::Status(StatusCode::FORBIDDEN))));
        assert!(matches!(ask().await, Err(AskError::Json(_))));
        assert!(matches!(ask().await, Err(AskError::Body(_))));
        assert!(matches!(ask().await, Err(AskError::Exchange(_))));
        let nowhere = Address::Unix("/nonexistent/socket".into());
        assert!(matches!(ask_json(&nowhere, "/", HOST).await, Err(AskError::Connect(_))));
        assert!(matches!(ask_json(&address, "no path", HOST).await, Err(AskError::Request(_))));
    }

    #[tokio::test]
    async fn json_without_end_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 1024];
            assert!(stream.read(&mut head).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
            while stream.write_all(&[b' '; 4096]).await.is_ok() {}
        });
        assert!(matches!(ask_json(&address, "/", HOST).await, Err(AskError::Body(_))));
        timeout(Duration::from_secs(5), tasks.join_next()).await.expect("the connection was closed");
    }
}
