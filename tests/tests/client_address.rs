//! Where a client is: by what the operator's proxies say, and by nothing that anybody else says.

use http::{Method, StatusCode};
use std::io::ErrorKind;
use tests::{Certificate, Client, DOMAIN, Person, SOON, Setup, Usher, h2_answer, wait_for};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n";
/// The same client in version 2, with something behind its address.
const HEADER: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xc0\0\x02\x01\xc6\x33\x64\x01\xdc\x04\x01\xbb\x04\0\x01\0";
/// A load balancer that speaks for itself.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

const LOOPBACK: &str = "trusted_proxies = [\"127.0.0.0/8\"]\n";
const ELSEWHERE: &str = "trusted_proxies = [\"192.0.2.0/24\"]\n";

/// What reads from this header of these proxies.
fn reading(trusted: &str, header: &str) -> Setup {
    Setup::new("").root(&format!("{trusted}client_address = \"{header}\"\n"))
}

/// What begins with a header of the PROXY protocol.
fn introduced(trusted: &str) -> Setup {
    Setup::new("").root(trusted).listener("proxy_protocol = true\n")
}

/// The client's address as the log has it of one request to the portal.
async fn logged(usher: &Usher, client: &Client) -> String {
    let requests = usher.logs.events("request");
    // By a path of its own: the event of a tunnel comes late.
    let path = format!("/asked-after-{}", requests.len());
    client.get(DOMAIN, &path).send().await;
    wait_for("the request's event", SOON, async || {
        let requests = usher.logs.events("request");
        let request = requests.iter().find(|event| event["http.path"] == *path)?;
        Some(request["client.ip"].as_str().expect("it has an address").to_owned())
    })
    .await
}

/// The address that somebody's workspace is told.
async fn told(person: &Person) -> String {
    let answer = person.fetch(Method::GET, "/headers").send().await;
    let text = answer.text().to_lowercase();
    let rest = text.split("x-forwarded-for\"").nth(1).unwrap_or_else(|| panic!("{text}"));
    rest.split('"').nth(1).expect("a header has a value").to_owned()
}

#[tokio::test]
async fn a_load_balancer_says_who_connects_by_either_version_of_the_proxy_protocol() {
    let certificate = Certificate::for_names(&[DOMAIN, &format!("*.{DOMAIN}")]);
    for setup in [introduced(LOOPBACK), introduced(LOOPBACK).certificate(&certificate)] {
        let usher = setup.start().await;
        for (name, header) in [("alice", LINE), ("bob", HEADER)] {
            let person = Person::before(usher.client().introduced(header), name).log_in().await;
            person.await_phase("ready").await;
            assert_eq!(told(&person).await, "192.0.2.1");
            person.socket("/ws").await.expect("a socket, too").echoes("hello").await;
        }
        assert_eq!(logged(&usher, &usher.client().introduced(HEADER)).await, "192.0.2.1");
        assert_eq!(logged(&usher, &usher.client().introduced(LOCAL)).await, "127.0.0.1");
    }
}

#[tokio::test]
async fn a_load_balancer_says_who_connects_over_http_2_as_well() {
    let certificate = Certificate::for_names(&[DOMAIN, &format!("*.{DOMAIN}")]);
    let usher = introduced(LOOPBACK).certificate(&certificate).start().await;
    let answer = h2_answer(&usher.client().introduced(LINE), DOMAIN, "/", &[]).await.unwrap();
    assert!(answer.status.is_success() || answer.status.is_redirection(), "{}", answer.text());
    let addresses = async || Some(usher.logs.values("request", "client.ip")).filter(|all| !all.is_empty());
    assert_eq!(wait_for("the request's event", SOON, addresses).await, ["192.0.2.1"]);
}

/// What comes back on a connection that begins so.
async fn answer_to(usher: &Usher, sent: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(usher.client().address).await.expect("the listener accepts");
    // It may be closed already.
    let _sent = stream.write_all(sent).await;
    let _ended = stream.shutdown().await;
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer).await {
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    answer
}

#[tokio::test]
async fn a_connection_without_the_header_is_closed_without_a_word_and_counted() {
    let usher = introduced(LOOPBACK).start().await;
    let long = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat();
    for (sent, reason) in [
        (&b"GET / HTTP/1.1\r\nHost: lab.localhost\r\n\r\n"[..], "unreadable"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x01\x02", "unreadable"),
        (&LINE[..30], "unreadable"),
        (&long, "too_long"),
    ] {
        let sample = format!("usher_bad_proxy_headers_total{{reason=\"{reason}\"}}");
        let before = usher.metric(&sample).await.expect("it is there at 0");
        assert_eq!(answer_to(&usher, sent).await, b"", "{sent:?}");
        let counted = async || usher.metric(&sample).await.filter(|now| *now == before + 1.0);
        wait_for("the connection to be counted", SOON, counted).await;
    }
    assert_eq!(answer_to(&usher, b"").await, b"", "who only looks whether somebody is there");
    assert_eq!(usher.logs.events("request").len(), 0);
    let counted = usher.metric("usher_bad_proxy_headers_total{reason=\"unreadable\"}").await;
    assert_eq!(counted, Some(3.0), "is not counted");
}

#[tokio::test]
async fn who_is_no_proxy_says_nothing_of_others() {
    let usher = introduced(ELSEWHERE).start().await;
    let request = [LINE, b"GET / HTTP/1.1\r\nHost: lab.localhost\r\n\r\n"].concat();
    assert_eq!(answer_to(&usher, &request).await, b"");
    assert_eq!(usher.metric("usher_bad_proxy_headers_total{reason=\"untrusted\"}").await, Some(1.0));

    for (header, field) in [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=203.0.113.9")] {
        let usher = reading(ELSEWHERE, header).start().await;
        let forger = usher.client().adding(header, field);
        assert_eq!(logged(&usher, &forger).await, "127.0.0.1");
        let mallory = Person::before(forger, "mallory").log_in().await;
        mallory.await_phase("ready").await;
        assert_eq!(told(&mallory).await, "127.0.0.1");
    }
}

#[tokio::test]
async fn a_proxys_header_is_read_from_the_right() {
    let trusted = "trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\", \"fd00::/8\"]\n";
    let usher = reading(trusted, "x-forwarded-for").start().await;
    for (field, expected) in [
        ("192.0.2.1", "192.0.2.1"),
        ("203.0.113.9, 192.0.2.1", "192.0.2.1"),
        ("203.0.113.9, 192.0.2.1, 10.0.0.2, fd00::2", "192.0.2.1"),
        ("203.0.113.9, [2001:db8::1]:4711", "2001:db8::1"),
        ("192.0.2.1, what is this", "127.0.0.1"),
    ] {
        assert_eq!(
            logged(&usher, &usher.client().adding("x-forwarded-for", field)).await,
            expected,
            "{field}"
        );
    }
    let alice = Person::before(usher.client().adding("x-forwarded-for", "203.0.113.9, 192.0.2.1"), "alice");
    let alice = alice.log_in().await;
    alice.await_phase("ready").await;
    assert_eq!(told(&alice).await, "192.0.2.1", "nothing of what she made up is left");

    let usher = reading(trusted, "forwarded").start().await;
    for (field, expected) in [
        ("for=203.0.113.9, for=192.0.2.1;proto=https, for=\"[fd00::2]:80\"", "192.0.2.1"),
        ("for=\"203.0.113.9, for=192.0.2.1", "192.0.2.1"),
        ("for=192.0.2.1, for=unknown", "127.0.0.1"),
        ("for=192.0.2.1, for=_lb1, for=10.0.0.2", "10.0.0.2"),
    ] {
        assert_eq!(logged(&usher, &usher.client().adding("forwarded", field)).await, expected, "{field}");
    }
}

#[tokio::test]
async fn a_proxy_behind_a_load_balancer_is_believed_if_it_is_trusted_itself() {
    let trusted =
        "trusted_proxies = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\nclient_address = \"x-forwarded-for\"\n";
    let usher = introduced(trusted).start().await;
    for (from, expected) in [("10.0.0.7", "198.51.100.7"), ("192.0.2.1", "192.0.2.1")] {
        let line = format!("PROXY TCP4 {from} 10.0.0.1 1 2\r\n");
        let client = usher.client().introduced(line.as_bytes()).adding("x-forwarded-for", "198.51.100.7");
        assert_eq!(logged(&usher, &client).await, expected);
    }
}

#[tokio::test]
async fn rules_see_the_address_that_the_proxy_names() {
    let rest = "[access]\nallow = \"request.address == '192.0.2.1'\"\ntemplate = \"'demo'\"\n";
    let usher =
        Setup::new(rest).root(&format!("{LOOPBACK}client_address = \"x-forwarded-for\"\n")).start().await;
    let from = |address: &str| Person::before(usher.client().adding("x-forwarded-for", address), "alice");
    from("192.0.2.1").log_in().await;
    let (url, answer) = from("192.0.2.2").visit("/").await;
    assert_eq!((url.path(), answer.status), ("/login", StatusCode::FORBIDDEN), "{}", answer.text());
}
