//! One site by https alone: what leads there, what says so, which certificate is for whom, and the operator's side.

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::sync::Arc;
use tests::{Certificate, Client, DOMAIN, Person, SOON, Setup, Usher, handshake};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const REDIRECT: &str = "[[listeners]]\naddress = \"127.0.0.1:0\"\nprotocol = \"redirect\"\n";
const CLEARTEXT: &str = "[[listeners]]\naddress = \"127.0.0.1:0\"\nprotocol = \"http\"\n";

fn certificate() -> Certificate {
    Certificate::for_names(&[DOMAIN, &format!("*.{DOMAIN}")])
}

/// One with https, and a listener that leads there.
async fn site(rest: &str) -> (Usher, SocketAddr) {
    let usher = Setup::new(&format!("{rest}\n{REDIRECT}")).certificate(&certificate()).start().await;
    let redirect = usher.listeners()[1];
    (usher, redirect)
}

/// The whole answer to these bytes, as text.
async fn answer_to(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.expect("usher listens");
    stream.write_all(request.as_bytes()).await.expect("the kernel takes it");
    let mut answer = Vec::new();
    // An upgrade's connection may stay: its answer has no body.
    let is_whole = |answer: &[u8]| request.contains("Upgrade: ") && answer.ends_with(b"\r\n\r\n");
    while !is_whole(&answer) {
        let read = timeout(SOON, stream.read_buf(&mut answer)).await.expect("it answers");
        if read.expect("it does not reset") == 0 {
            break;
        }
    }
    String::from_utf8(answer).expect("it is text")
}

fn field<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let head = answer.split("\r\n\r\n").next().unwrap_or_default();
    let fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
}

#[tokio::test]
async fn cleartext_leads_to_the_same_by_https_and_nowhere_else() {
    let (usher, redirect) = site("").await;
    let https = usher.client().address.port();
    let host = format!("alice.{DOMAIN}");
    let ours = |target: &str| Some(format!("https://{host}:{https}{target}"));
    for (method, target, named, expected) in [
        ("GET", "/", host.clone(), ours("/")),
        ("GET", "/a%20b?x=1&y=%2f", format!("{host}:80"), ours("/a%20b?x=1&y=%2f")),
        ("HEAD", "/x", host.to_uppercase(), ours("/x")),
        ("POST", "/form", host.clone(), ours("/form")),
        ("GET", "//evil.example/", host.clone(), ours("//evil.example/")),
        ("GET", "/\\evil.example/", host.clone(), None),
        ("GET", &format!("http://{host}/x?y"), host.clone(), ours("/x?y")),
        ("GET", "http://evil.example/x", host.clone(), None),
        ("GET", "http://evil.example/x", "evil.example".to_owned(), None),
        ("GET", "/", "evil.example".to_owned(), None),
        ("GET", "/", format!("{host}.evil.example"), None),
        ("GET", "/", format!("{host}@evil.example"), None),
        ("GET", "/", format!("evil.example/.{host}"), None),
        ("GET", &format!("http://evil.example@{host}/"), format!("evil.example@{host}"), None),
        ("GET", "/", format!("{host}:99999"), None),
        ("GET", "/%0d%0aSet-Cookie:%20x=1", host.clone(), ours("/%0d%0aSet-Cookie:%20x=1")),
        ("GET", "/\rSet-Cookie:x=1", host.clone(), ours("/%0DSet-Cookie:x=1")),
        ("GET", "/\r\nSet-Cookie: x=1", host.clone(), None),
    ] {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: {named}\r\nConnection: close\r\n\r\n");
        let answer = answer_to(redirect, &request).await;
        assert_eq!(field(&answer, "location"), expected.as_deref(), "{request}{answer}");
        assert_eq!(answer.starts_with("HTTP/1.1 308 "), expected.is_some(), "{request}{answer}");
        assert_eq!(field(&answer, "set-cookie"), None);
        assert_eq!(field(&answer, "strict-transport-security"), None, "not over cleartext (RFC 6797 §7.2)");
    }
    let foreign =
        answer_to(redirect, "GET / HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n").await;
    assert!(foreign.starts_with("HTTP/1.1 404 "), "{foreign}");
    assert!(
        foreign.contains(&format!("https://{DOMAIN}:{https}/")),
        "the portal is told by https: {foreign}"
    );
}

#[tokio::test]
async fn a_websocket_is_led_on_as_well_and_the_portal_is_where_https_is() {
    let (usher, redirect) = site("").await;
    let (alice, cleartext) = (Person::at_work(&usher, "alice").await, Client::at(redirect, None));
    let host = alice.host();
    let (origin, cookies) = (cleartext.origin(&host), alice.jar.field(&host).unwrap());
    let fields = [("origin", origin.as_str()), ("cookie", &cookies)];
    let answer = answer_to(redirect, &handshake(&cleartext, &host, "/ws", &fields)).await;
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    assert_eq!(field(&answer, "usher-error"), Some("https_needed"));
    assert_eq!(field(&answer, "location"), Some(format!("{}/ws", usher.client().origin(&host)).as_str()));
}

#[tokio::test]
async fn redirects_count_as_requests_of_their_address() {
    let (_usher, redirect) = site("[limits]\nrequests_per_address = 2\n").await;
    let client = Client::at(redirect, None);
    for expected in [308, 308, 429] {
        assert_eq!(client.get(DOMAIN, "/").send().await.status.as_u16(), expected);
    }
}

#[tokio::test]
async fn an_authority_that_asks_for_what_is_unknown_is_told_404_on_every_host_and_listener() {
    let (usher, redirect) = site("").await;
    for client in [usher.client(), Client::at(redirect, None)] {
        for host in [DOMAIN.to_owned(), format!("nobody.{DOMAIN}")] {
            let answer = client.get(&host, "/.well-known/acme-challenge/token").send().await;
            assert_eq!((answer.status, answer.error_code()), (StatusCode::NOT_FOUND, "not_found"), "{host}");
        }
    }
    let foreign = Client::at(redirect, None).get("foreign.test", "/.well-known/acme-challenge/token");
    assert_eq!(foreign.send().await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn every_answer_by_https_says_to_come_so_again_and_none_over_cleartext() {
    const NAME: &str = "strict-transport-security";
    let setup = Setup::new(&format!("[tls]\nhsts_max_age = \"1h\"\n{CLEARTEXT}"));
    let usher = setup.certificate(&certificate()).start().await;
    let alice = Person::at_work(&usher, "alice").await;
    let said = alice.fetch(Method::GET, "/").send().await;
    assert_eq!((said.status, said.field(NAME)), (StatusCode::OK, "max-age=3600"));
    let client = usher.client();
    for (host, path) in [
        (DOMAIN.to_owned(), "/"),
        (DOMAIN.to_owned(), "/assets/login.js"),
        (alice.host(), "/.usher/status"),
        (format!("1nobody.{DOMAIN}"), "/"),
    ] {
        let answer = client.get(&host, path).send().await;
        assert_eq!(answer.field(NAME), "max-age=3600", "{host}{path}: {}", answer.status);
    }
    let cleartext = Client::at(usher.listeners()[1], None).get(DOMAIN, "/").send().await;
    assert_eq!(cleartext.field(NAME), "");
}

#[tokio::test]
async fn a_connection_for_one_certificate_serves_no_host_of_another() {
    let (certificate, other) = (certificate(), Certificate::for_names(&["login.test"]));
    let other_table = other.tables().replacen("[certificates.files]", "[certificates.other]", 1);
    let setup = Setup::new(&other_table).root("portal = \"login.test\"\n");
    let usher = setup.certificate(&certificate).start().await;
    let stream = certificate.connect(usher.client().address, &format!("alice.{DOMAIN}"), "h2").await.unwrap();
    let builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    for (host, expected) in [
        (format!("alice.{DOMAIN}"), StatusCode::UNAUTHORIZED),
        (format!("bob.{DOMAIN}"), StatusCode::UNAUTHORIZED),
        ("login.test".to_owned(), StatusCode::MISDIRECTED_REQUEST),
        ("foreign.test".to_owned(), StatusCode::MISDIRECTED_REQUEST),
        (format!("1bob.{DOMAIN}"), StatusCode::NOT_FOUND),
    ] {
        let request = Request::get(format!("https://{}/", usher.client().authority(&host)));
        let request = request.body(Full::<Bytes>::default()).unwrap();
        let answer = timeout(SOON, sender.send_request(request)).await.expect("an answer").unwrap();
        assert_eq!(answer.status(), expected, "{host}");
        answer.into_body().collect().await.unwrap();
    }
}

#[tokio::test]
async fn the_admin_address_may_speak_tls_and_ask_for_a_certificate() {
    let ours = Certificate::for_names(&["admin.test"]);
    let (certificate, key) = (ours.certificate(), ours.private_key());
    let pair = format!("certificate = {certificate:?}\nprivate_key = {key:?}\n");
    let usher = Setup::new("").admin(&pair).start().await;
    let admin = Client::at(usher.admin_address(), Some(ours.clone()));
    assert_eq!(admin.get("admin.test", "/livez").send().await.status, StatusCode::OK);
    let from_page = admin.get("admin.test", "/livez").with("origin", "https://admin.test").send().await;
    assert_eq!(from_page.status, StatusCode::FORBIDDEN);
    assert!(Client::at(usher.admin_address(), None).get("127.0.0.1", "/livez").try_send().await.is_err());

    let asking = format!("{pair}client_authority = {certificate:?}\n");
    let usher = Setup::new("").admin(&asking).start().await;
    let admin = Client::at(usher.admin_address(), Some(ours.clone()));
    assert!(admin.get("admin.test", "/livez").try_send().await.is_err(), "without a certificate");
    // Signed by itself, it is an authority of its own.
    let identified = Arc::new(ours.identified_client());
    let name = "admin.test".try_into().unwrap();
    let tcp = TcpStream::connect(usher.admin_address()).await.unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(identified).connect(name, tcp).await.unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: admin.test\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
}
