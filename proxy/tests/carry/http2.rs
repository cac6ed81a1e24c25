//! HTTP/2 clients, over TLS, before an HTTP/1.1 workspace.

use crate::OK;
use crate::floor::{Floor, HOST, SOON, Setup, read_head, until, upstream};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

type AnyBody = http_body_util::combinators::BoxBody<Bytes, Infallible>;

/// An edge with TLS whose workspace is here.
async fn floor(more: &'static str, workspace: std::net::SocketAddr) -> (Floor, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(vec![HOST.to_owned()]).unwrap();
    let certificate = CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap();
    let tls = Some((made.cert.pem(), made.signing_key.serialize_pem()));
    let floor = Floor::new(Setup { tls, more }).await;
    floor.is_ready_at(workspace);
    (floor, certificate)
}

/// An HTTP/2 connection; the handle ends with it.
async fn connect(floor: &Floor, root: CertificateDer<'static>) -> (SendRequest<AnyBody>, JoinHandle<()>) {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let tcp = TcpStream::connect(floor.address).await.unwrap();
    let name = ServerName::try_from(HOST).unwrap();
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (send, connection) =
        http2::handshake::<_, _, AnyBody>(TokioExecutor::new(), TokioIo::new(tls)).await.unwrap();
    (send, tokio::spawn(async move { drop(connection.await) }))
}

fn request<B>(floor: &Floor, method: &str, path: &str, body: B) -> Request<AnyBody>
where
    B: Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static,
{
    let origin = floor.origin().replace("http:", "https:");
    Request::builder()
        .method(method)
        .uri(format!("{origin}{path}"))
        .header("origin", origin)
        .header("cookie", &floor.cookie)
        .body(body.boxed())
        .unwrap()
}

fn get(floor: &Floor, path: &str) -> Request<AnyBody> {
    let mut request = request(floor, "GET", path, Full::default());
    request.headers_mut().remove("origin");
    request
}

async fn whole(response: Response<Incoming>) -> (StatusCode, Bytes) {
    let status = response.status();
    (status, response.into_body().collect().await.unwrap().to_bytes())
}

/// Answers, and keeps all that it is sent.
async fn recorder() -> (std::net::SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let record = Arc::new(Mutex::new(Vec::new()));
    let kept = record.clone();
    let to = upstream(move |mut tcp| {
        let kept = kept.clone();
        async move {
            let mut buf = [0; 4096];
            while let Ok(read @ 1..) = tcp.read(&mut buf).await {
                let got = {
                    let mut all = kept.lock().unwrap();
                    all.extend_from_slice(&buf[..read]);
                    String::from_utf8_lossy(&all).into_owned()
                };
                let last = got.rsplit("HTTP/1.1\r\n").next().unwrap().to_ascii_lowercase();
                let chunked = last.contains("transfer-encoding: chunked");
                if !chunked || last.ends_with("0\r\n\r\n") {
                    let _ = tcp.write_all(OK.as_bytes()).await;
                }
            }
        }
    })
    .await;
    (to, record)
}

#[tokio::test]
async fn a_held_request_waits_with_its_body_and_both_reach_the_workspace_whole() {
    let made = rcgen::generate_simple_self_signed(vec![HOST.to_owned()]).unwrap();
    let root = CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap();
    let tls = Some((made.cert.pem(), made.signing_key.serialize_pem()));
    let floor = Floor::new(Setup { tls, more: "" }).await;
    let (mut send, _connection) = connect(&floor, root).await;
    let body = Bytes::from(vec![b'x'; 200 * 1024]);
    let mut held = request(&floor, "GET", "/held", Full::new(body.clone()));
    // With an origin it would be a browser's.
    held.headers_mut().remove("origin");
    let answered = tokio::spawn(send.send_request(held));
    crate::is_starting(&floor).await;
    floor.is_ready_at(upstream(crate::echo).await);
    assert_eq!(whole(answered.await.unwrap().unwrap()).await, (StatusCode::OK, body));
}

#[tokio::test]
async fn connect_is_refused_by_us() {
    let (to, _) = recorder().await;
    let (floor, root) = floor("", to).await;
    let (mut send, _connection) = connect(&floor, root).await;
    let connect = Request::connect(format!("{HOST}:443")).body(Full::new(Bytes::new()).boxed()).unwrap();
    let refused = send.send_request(connect).await.unwrap();
    assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(refused.headers()["usher-error"], "method_not_allowed");
    assert!(!refused.headers().contains_key("server"));
}

#[tokio::test]
async fn a_body_without_a_length_ends_once() {
    let (to, record) = recorder().await;
    let (floor, root) = floor("", to).await;
    let (mut send, _connection) = connect(&floor, root).await;
    assert_eq!(whole(send.send_request(get(&floor, "/")).await.unwrap()).await.0, StatusCode::OK);
    let parts = futures_util::stream::iter(
        ["one ", "two", ""].map(|part| Ok::<_, Infallible>(Frame::data(Bytes::from_static(part.as_bytes())))),
    );
    let posted = send.send_request(request(&floor, "POST", "/post", StreamBody::new(parts))).await.unwrap();
    assert_eq!(whole(posted).await, (StatusCode::OK, Bytes::from_static(b"ok")));
    // Whatever came after the last chunk would be read as the beginning of the next request.
    assert_eq!(whole(send.send_request(get(&floor, "/next")).await.unwrap()).await.0, StatusCode::OK);
    let record = String::from_utf8_lossy(&record.lock().unwrap()).into_owned();
    let body = record.split("POST /post").nth(1).unwrap().split("GET /next").next().unwrap();
    assert_eq!(body.matches("0\r\n\r\n").count(), 1, "{body}");
}

#[tokio::test]
async fn events_of_ours_stream_and_end_with_their_client() {
    let (to, _) = recorder().await;
    let (floor, root) = floor("", to).await;
    let (mut send, connection) = connect(&floor, root).await;
    assert_eq!(whole(send.send_request(get(&floor, "/")).await.unwrap()).await.0, StatusCode::OK);
    let mut events = send.send_request(get(&floor, "/.usher/events")).await.unwrap();
    assert_eq!(events.status(), StatusCode::OK);
    let first = tokio::time::timeout(SOON, events.frame()).await.expect("an event comes").unwrap().unwrap();
    assert!(String::from_utf8_lossy(first.data_ref().unwrap()).contains("ready"));
    drop((events, send));
    connection.abort();
}

#[tokio::test]
async fn an_upstream_that_breaks_off_breaks_the_stream_off_and_no_more() {
    let to = upstream(|mut tcp| async move {
        while let Some(head) = read_head(&mut tcp).await {
            if head.starts_with("GET /half") {
                let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await;
                return;
            }
            let _ = tcp.write_all(OK.as_bytes()).await;
        }
    })
    .await;
    let (floor, root) = floor("", to).await;
    let (mut send, _connection) = connect(&floor, root).await;
    assert_eq!(whole(send.send_request(get(&floor, "/")).await.unwrap()).await.0, StatusCode::OK);
    let half = send.send_request(get(&floor, "/half")).await.unwrap();
    half.into_body().collect().await.unwrap_err();
    assert_eq!(whole(send.send_request(get(&floor, "/")).await.unwrap()).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_drain_tells_http_2_clients_to_go_away_and_closes_when_their_streams_end() {
    let (to, _) = recorder().await;
    let (mut floor, root) = floor(crate::QUICK, to).await;
    let (mut send, connection) = connect(&floor, root).await;
    assert_eq!(whole(send.send_request(get(&floor, "/")).await.unwrap()).await.0, StatusCode::OK);
    let drained = tokio::spawn(async move { floor.drain().await });
    until("the connection is closed", || connection.is_finished()).await;
    tokio::time::timeout(SOON, drained).await.expect("it ends with the last connection").unwrap();
}

#[tokio::test]
async fn what_an_application_says_of_https_is_replaced_by_what_the_site_says() {
    const NAME: &str = "strict-transport-security";
    let says = upstream(async |mut tcp: TcpStream| {
        while read_head(&mut tcp).await.is_some() {
            let head = format!("HTTP/1.1 200 OK\r\n{NAME}: max-age=0\r\n{NAME}: includeSubDomains\r\n");
            let _ = tcp.write_all(format!("{head}content-length: 0\r\n\r\n").as_bytes()).await;
        }
    })
    .await;
    for (more, expected) in
        [("tls = { hsts_max_age = '1h' }\n", &["max-age=3600"][..]), ("tls = { hsts_max_age = '0s' }\n", &[])]
    {
        let (floor, certificate) = floor(more, says).await;
        let (mut send, _connection) = connect(&floor, certificate).await;
        let answer = send.send_request(get(&floor, "/")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers().get_all(NAME).iter().collect::<Vec<_>>(), expected);
    }
}
