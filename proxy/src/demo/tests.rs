//! The demo over a real Unix socket.

use super::*;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

const DEADLINE: Duration = Duration::from_secs(10);

/// A demo that runs until it is dropped.
struct Demo {
    socket: PathBuf,
    task: AbortHandle,
}

impl Drop for Demo {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Demo {
    /// Starts it in a home and waits until it accepts.
    async fn start(home: &Path) -> Self {
        let socket = home.join("demo.sock");
        let listen = cli::DemoListen { socket: Some(socket.clone()), port: None, address: None };
        let home = home.to_owned();
        let task = tokio::spawn(async move {
            let _ = start(&cli::Demo { listen, start_delay: 0 }, home).await;
        });
        let demo = Self { socket, task: task.abort_handle() };
        let accepts = async {
            while UnixStream::connect(&demo.socket).await.is_err() {
                tokio::task::yield_now().await
            }
        };
        timeout(DEADLINE, accepts).await.expect("the demo accepts");
        demo
    }

    async fn ask(&self, request: Request<Full<bytes::Bytes>>) -> (http::response::Parts, bytes::Bytes) {
        let stream = TokioIo::new(UnixStream::connect(&self.socket).await.unwrap());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        let asked = async {
            let response: Response<hyper::body::Incoming> = sender.send_request(request).await.unwrap();
            let (head, body) = response.into_parts();
            (head, body.collect().await.unwrap().to_bytes())
        };
        tokio::select! {
            answer = timeout(DEADLINE, asked) => answer.expect("the demo answers"),
            ended = connection => panic!("the connection ended before the answer: {ended:?}"),
        }
    }

    async fn open(&self, path: &str) -> tokio_tungstenite::WebSocketStream<UnixStream> {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        tokio_tungstenite::client_async(format!("ws://demo{path}"), stream).await.unwrap().0
    }
}

fn get(path: &str) -> Request<Full<bytes::Bytes>> {
    Request::get(path).header("host", "demo").body(Full::default()).unwrap()
}

fn put(path: &str, body: impl Into<bytes::Bytes>) -> Request<Full<bytes::Bytes>> {
    Request::put(path).header("host", "demo").body(Full::new(body.into())).unwrap()
}

#[tokio::test]
async fn the_page_runs_under_a_policy_without_anything_inline() {
    let home = tempfile::tempdir().unwrap();
    let demo = Demo::start(home.path()).await;
    let (head, body) = demo.ask(get("/")).await;
    assert_eq!(head.status, StatusCode::OK);
    assert!(head.headers["content-security-policy"].to_str().unwrap().contains("script-src 'self';"));
    let html = String::from_utf8(body.to_vec()).unwrap();
    assert!(!html.contains("<style") && !html.contains(" style=") && !html.contains("<script>"));
    assert_eq!(demo.ask(get("/deep/link?x=1")).await.1, body, "a deep link leads to the page");
    for path in ["/demo.css", "/demo.js"] {
        assert!(html.contains(&format!("\"{path}\"")), "{path}");
        assert_eq!(demo.ask(get(path)).await.0.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn the_note_survives_a_restart() {
    let home = tempfile::tempdir().unwrap();
    let demo = Demo::start(home.path()).await;
    assert_eq!(demo.ask(get("/note")).await.1, "");
    assert_eq!(demo.ask(put("/note", "milk, bread")).await.0.status, StatusCode::NO_CONTENT);
    drop(demo);
    let demo = Demo::start(home.path()).await;
    assert_eq!(demo.ask(get("/note")).await.1, "milk, bread");
    let (head, _) = demo.ask(put("/note", vec![b'x'; note::MAX + 1])).await;
    assert_eq!(head.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(demo.ask(get("/note")).await.1, "milk, bread");
}

#[tokio::test]
async fn the_echo_gives_text_and_bytes_back_and_closes_when_told() {
    let home = tempfile::tempdir().unwrap();
    let demo = Demo::start(home.path()).await;
    let mut socket = demo.open("/ws").await;
    for message in [Message::text("hello"), Message::binary(vec![0, 255, 7])] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(timeout(DEADLINE, socket.next()).await.unwrap().unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
    assert!(matches!(timeout(DEADLINE, socket.next()).await.unwrap(), Some(Ok(Message::Close(_)))));
}

#[tokio::test]
async fn the_clock_ticks_as_text() {
    let home = tempfile::tempdir().unwrap();
    let demo = Demo::start(home.path()).await;
    let mut socket = demo.open("/clock").await;
    let mut last = None;
    for _ in 0..2 {
        let tick = timeout(DEADLINE, socket.next()).await.unwrap().unwrap().unwrap();
        let time: jiff::Timestamp = tick.to_text().unwrap().parse().unwrap();
        assert!(last.is_none_or(|last| last < time), "{last:?} {time}");
        last = Some(time);
    }
}

#[tokio::test]
async fn a_request_that_is_no_handshake_is_asked_for_one() {
    let home = tempfile::tempdir().unwrap();
    let demo = Demo::start(home.path()).await;
    let (head, _) = demo.ask(get("/ws")).await;
    assert_eq!(
        (head.status, &head.headers["upgrade"]),
        (StatusCode::UPGRADE_REQUIRED, &"websocket".parse().unwrap())
    );
}

#[tokio::test]
async fn it_tells_the_headers_that_it_was_sent() {
    let home = tempfile::tempdir().unwrap();
    let demo = Demo::start(home.path()).await;
    let mut request = get("/headers");
    request.headers_mut().insert("x-usher-user", "alice".parse().unwrap());
    let (_, body) = demo.ask(request).await;
    let fields: Vec<(String, String)> = serde_json::from_slice(&body).unwrap();
    assert_eq!(fields, [("host".into(), "demo".into()), ("x-usher-user".into(), "alice".into())]);
}

#[tokio::test]
async fn a_download_has_the_size_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let demo = Demo::start(home.path()).await;
    for bytes in [0, 1, 65_536, 200_001] {
        let (head, body) = demo.ask(get(&format!("/big?bytes={bytes}"))).await;
        assert_eq!(head.headers["content-length"], bytes.to_string().as_str());
        assert_eq!(body.len(), bytes);
    }
    assert_eq!(demo.ask(get("/big?bytes=99999999999")).await.0.status, StatusCode::BAD_REQUEST);
    assert_eq!(demo.ask(get("/big")).await.0.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_socket_left_behind_makes_room_and_a_file_does_not() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("demo.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let listener = bind(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    drop(listener);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "mine").unwrap();
    assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
}

#[tokio::test(start_paused = true)]
async fn a_slow_start_takes_the_time_that_it_was_given() {
    let before = Instant::now();
    warm_up(Duration::from_millis(1700)).await;
    assert_eq!(before.elapsed(), Duration::from_millis(1700));
}
