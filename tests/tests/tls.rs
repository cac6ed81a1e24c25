//! Over TLS: HTTP/2 and `wss`, with the operator's own certificate; and what becomes of handshakes.

use futures_util::StreamExt;
use futures_util::stream::{self, FuturesUnordered};
use http::{Method, StatusCode};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion, version};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tests::{Certificate, DOMAIN, Person, SOON, Setup, Usher, h2_answer, wait_for, wait_instead_of};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// TLS 1.2 with a suite that every browser has (RFC 5289).
const ECDHE_GCM: [u16; 2] = [0xc02b, 0xc02f];
/// The same with a suite of which there are old attacks.
const ECDHE_CBC: [u16; 4] = [0xc009, 0xc013, 0xc00a, 0xc014];
/// Without forward secrecy.
const RSA: [u16; 2] = [0x009c, 0x002f];

/// Alerts (RFC 8446 §6).
const HANDSHAKE_FAILURE: u8 = 40;
const UNRECOGNIZED_NAME: u8 = 112;
const PROTOCOL_VERSION: u8 = 70;

fn certificate() -> Certificate {
    Certificate::for_names(&[DOMAIN, &format!("*.{DOMAIN}")])
}

async fn secure_usher() -> Usher {
    secure_with("", &certificate()).await
}

async fn secure_with(rest: &str, certificate: &Certificate) -> Usher {
    Setup::new(rest).certificate(certificate).start().await
}

async fn shake(usher: &Usher, client: &Arc<ClientConfig>, host: &str) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from(host.to_owned()).expect("a test's host is a DNS name");
    let tcp = TcpStream::connect(usher.client().address).await?;
    TlsConnector::from(client.clone()).connect(name, tcp).await
}

/// How a client and usher shook hands. One request long, so that tickets come, too.
async fn visit(usher: &Usher, client: &Arc<ClientConfig>, host: &str) -> HandshakeKind {
    let mut stream = shake(usher, client, host).await.expect("usher shakes hands");
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("usher reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("usher answers and closes");
    assert!(answer.starts_with(b"HTTP/1.1 "), "{}", String::from_utf8_lossy(&answer));
    stream.get_ref().1.handshake_kind().expect("they have shaken hands")
}

/// The first message of a client that speaks no more than this version.
fn hello(version: [u8; 2], suites: &[u16], host: Option<&str>) -> Vec<u8> {
    let counted =
        |bytes: &[u8]| [&u16::try_from(bytes.len()).expect("it is short").to_be_bytes()[..], bytes].concat();
    let extension = |kind: u16, body: &[u8]| [&kind.to_be_bytes()[..], &counted(body)].concat();
    let name = |host: &str| extension(0, &counted(&[&[0][..], &counted(host.as_bytes())].concat()));
    let extensions = [
        host.map(name).unwrap_or_default(),
        extension(0x000a, &counted(&[0x00, 0x1d, 0x00, 0x17])),
        extension(0x000b, &[1, 0]),
        extension(0x000d, &counted(&[0x04, 0x03, 0x08, 0x04, 0x04, 0x01])),
    ]
    .concat();
    let suites: Vec<u8> = suites.iter().flat_map(|suite| suite.to_be_bytes()).collect();
    let body = [&version[..], &[7; 32], &[0], &counted(&suites), &[1, 0], &counted(&extensions)].concat();
    let length = &u32::try_from(body.len()).expect("it is short").to_be_bytes()[1..];
    let message = [&[1][..], length, &body].concat();
    [&[22, 3, 1][..], &counted(&message)].concat()
}

/// All that usher says to these bytes, until it closes.
async fn said_to(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("usher listens");
    stream.write_all(bytes).await.expect("the kernel takes it");
    let mut said = Vec::new();
    // It may well reset the connection: what came before is what counts.
    let _ = timeout(SOON, stream.read_to_end(&mut said)).await.expect("it closes");
    said
}

/// One fatal alert, and nothing else.
fn alert(which: u8) -> Vec<u8> {
    vec![21, 3, 3, 0, 2, 2, which]
}

async fn handshakes(usher: &Usher, version: &str, result: &str) -> f64 {
    // In the order of the alphabet, as they are encoded.
    let sample = format!("usher_tls_handshakes_total{{result=\"{result}\",version=\"{version}\"}}");
    usher.metric(&sample).await.unwrap_or_else(|| panic!("no {sample}"))
}

/// Waits until so many ended so: a connection may be closed before it is counted.
async fn await_handshakes(usher: &Usher, result: &str, count: f64) {
    wait_instead_of(&format!("{count} {result}"), SOON, async || {
        let counted = handshakes(usher, "none", result).await;
        if counted == count { Ok(()) } else { Err(counted) }
    })
    .await;
}

#[tokio::test]
async fn both_versions_are_spoken_and_counted_and_nothing_older_or_weaker_is() {
    let certificate = certificate();
    let usher = secure_with("", &certificate).await;
    for (version, label) in [(&version::TLS12, "1.2"), (&version::TLS13, "1.3")] {
        assert_eq!(
            visit(&usher, &Arc::new(certificate.client(version, &[])), DOMAIN).await,
            HandshakeKind::Full
        );
        assert_eq!(handshakes(&usher, label, "ok").await, 1.0);
    }
    assert_eq!(usher.metric("usher_tls_handshake_duration_seconds_count").await, Some(2.0));
    let said = async |version, suites: &[u16]| {
        said_to(usher.client().address, &hello(version, suites, Some(DOMAIN))).await
    };
    assert_eq!(said([3, 3], &ECDHE_GCM).await[..3], [22, 3, 3], "it goes on with what browsers have");
    for old in [[3, 0], [3, 1], [3, 2]] {
        assert_eq!(said(old, &ECDHE_CBC).await, alert(PROTOCOL_VERSION), "{old:?}");
    }
    assert_eq!(said([3, 3], &ECDHE_CBC).await, alert(HANDSHAKE_FAILURE));
    assert_eq!(said([3, 3], &RSA).await, alert(HANDSHAKE_FAILURE));
    await_handshakes(&usher, "incompatible", 5.0).await;
}

#[tokio::test]
async fn tls_1_2_is_refused_where_the_configuration_says_so() {
    let certificate = certificate();
    let usher = secure_with("[tls]\nmin_version = \"1.3\"\n", &certificate).await;
    let said = said_to(usher.client().address, &hello([3, 3], &ECDHE_GCM, Some(DOMAIN))).await;
    assert_eq!(said, alert(PROTOCOL_VERSION));
    visit(&usher, &Arc::new(certificate.client(&version::TLS13, &[])), DOMAIN).await;
}

#[tokio::test]
async fn the_protocol_is_chosen_by_usher_and_a_challenge_is_no_http() {
    let certificate = certificate();
    let usher = secure_with("", &certificate).await;
    for (offered, chosen) in [
        (&["http/1.1", "h2"][..], Some("h2")),
        (&["acme-tls/1", "http/1.1"], Some("http/1.1")),
        (&["http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let client = Arc::new(certificate.client(&version::TLS13, offered));
        let stream = shake(&usher, &client, DOMAIN).await.unwrap();
        let is = stream.get_ref().1.alpn_protocol().map(|is| String::from_utf8(is.to_vec()).unwrap());
        assert_eq!(is.as_deref(), chosen, "{offered:?}");
    }
    // Of a challenge there is none; beside a protocol that is not spoken here it is chosen, and leads to nothing.
    for (offered, shakes) in
        [(&["acme-tls/1"][..], false), (&["spdy/1"], false), (&["acme-tls/1", "x"], true)]
    {
        let client = Arc::new(certificate.client(&version::TLS13, offered));
        let shaken = shake(&usher, &client, DOMAIN).await;
        assert_eq!(shaken.is_ok(), shakes, "{offered:?}: {shaken:?}");
        if let Ok(mut stream) = shaken {
            let mut said = Vec::new();
            timeout(SOON, stream.read_to_end(&mut said)).await.expect("it is closed").unwrap();
            assert!(said.is_empty());
        }
    }
    assert_eq!(handshakes(&usher, "none", "challenge").await, 1.0);
}

/// A client that keeps what it is given, and speaks this version.
fn returning(certificate: &Certificate, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut client = certificate.client(version, &["http/1.1"]);
    client.resumption = Resumption::in_memory_sessions(64);
    Arc::new(client)
}

#[tokio::test]
async fn who_comes_again_resumes_after_a_restart_as_well_and_under_its_own_name_alone() {
    let certificate = certificate();
    let usher = secure_with("", &certificate).await;
    let clients = [&version::TLS12, &version::TLS13].map(|version| returning(&certificate, version));
    for client in &clients {
        assert_eq!(visit(&usher, client, DOMAIN).await, HandshakeKind::Full);
        assert_eq!(visit(&usher, client, DOMAIN).await, HandshakeKind::Resumed);
        assert_eq!(visit(&usher, client, &format!("alice.{DOMAIN}")).await, HandshakeKind::Full);
    }
    let usher = usher.kill_and_restart().await;
    for (client, label) in clients.iter().zip(["1.2", "1.3"]) {
        assert_eq!(visit(&usher, client, DOMAIN).await, HandshakeKind::Resumed, "{label}");
        assert_eq!(handshakes(&usher, label, "resumed").await, 1.0);
    }
}

#[tokio::test]
async fn a_name_that_is_not_served_and_none_at_all_get_an_alert_and_no_certificate() {
    let usher = secure_usher().await;
    let address = usher.client().address;
    for host in [None, Some("other.test"), Some("a.alice.lab.localhost")] {
        assert_eq!(
            said_to(address, &hello([3, 3], &ECDHE_GCM, host)).await,
            alert(UNRECOGNIZED_NAME),
            "{host:?}"
        );
    }
    await_handshakes(&usher, "unknown_name", 3.0).await;
    assert_eq!(said_to(address, b"GET / HTTP/1.1\r\n\r\n").await.first(), Some(&21));
    await_handshakes(&usher, "error", 1.0).await;
}

#[tokio::test]
async fn a_handshake_that_drips_ends_at_its_time() {
    let usher = secure_with("[tls]\nhandshake_timeout = \"1s\"\n", &certificate()).await;
    let message = hello([3, 3], &ECDHE_GCM, Some(DOMAIN));
    assert!(said_to(usher.client().address, &message[..20]).await.is_empty());
    wait_for("the timeout to be counted", SOON, async || {
        (handshakes(&usher, "none", "timeout").await == 1.0).then_some(())
    })
    .await;
    drop(TcpStream::connect(usher.client().address).await.unwrap());
    wait_for("who left to be counted", SOON, async || {
        (handshakes(&usher, "none", "left").await == 1.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_address_that_has_shaken_hands_enough_is_closed_without_a_word() {
    let certificate = certificate();
    let usher = secure_with("[limits]\nhandshakes_per_address = 3\n", &certificate).await;
    let client = Arc::new(certificate.client(&version::TLS13, &[]));
    for _ in 0..3 {
        visit(&usher, &client, DOMAIN).await;
    }
    let said = said_to(usher.client().address, &hello([3, 3], &ECDHE_GCM, Some(DOMAIN))).await;
    assert!(said.is_empty(), "{said:?}");
    assert_eq!(handshakes(&usher, "none", "limited").await, 1.0);
    assert_eq!(usher.metric("usher_limited_total{limit=\"handshakes_per_address\"}").await, Some(1.0));
}

#[tokio::test]
async fn behind_a_load_balancer_the_clients_own_address_counts() {
    let setup = Setup::new("[limits]\nhandshakes_per_address = 1\n").listener("proxy_protocol = true\n");
    let setup = setup.root("trusted_proxies = [\"127.0.0.1/32\"]\n").certificate(&certificate());
    let usher = setup.start().await;
    for (client, shakes) in [("192.0.2.1", true), ("192.0.2.1", false), ("192.0.2.2", true)] {
        let header = format!("PROXY TCP4 {client} 127.0.0.1 4000 443\r\n");
        let shaken = usher.client().introduced(header.as_bytes()).connect(DOMAIN).await;
        assert_eq!(shaken.is_ok(), shakes, "{client}");
    }
    // What it asks for itself is for all of them.
    for _ in 0..3 {
        usher.client().introduced(b"PROXY UNKNOWN\r\n").connect(DOMAIN).await.unwrap();
    }
    assert_eq!(handshakes(&usher, "none", "limited").await, 1.0);
}

#[tokio::test]
async fn who_does_not_answer_keeps_an_address_to_its_share_and_makes_room_again() {
    let certificate = certificate();
    // A quarter of them for one address.
    let limits = "[limits]\nhandshakes_per_address = 1000000\nhandshakes = 4\n";
    let usher = secure_with(limits, &certificate).await;
    let address = usher.client().address;
    let mut silent = TcpStream::connect(address).await.unwrap();
    silent.write_all(&[22]).await.unwrap();
    // The silent one may still be on its way to its core.
    wait_for("one to be turned away", SOON, async || {
        said_to(address, &hello([3, 3], &ECDHE_GCM, Some("other.test"))).await.is_empty().then_some(())
    })
    .await;
    assert!(usher.metric("usher_limited_total{limit=\"handshakes_per_address\"}").await >= Some(1.0));
    drop(silent);
    let client = Arc::new(certificate.client(&version::TLS13, &[]));
    wait_for("room", SOON, async || shake(&usher, &client, DOMAIN).await.ok().map(drop)).await;
}

/// A connection from an address of this machine's own.
async fn from(source: [u8; 4], to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("there are descriptors");
    socket.bind((source, 0).into()).expect("all of 127.0.0.0/8 is this machine's");
    socket.connect(to).await.expect("usher listens")
}

#[tokio::test]
async fn who_fills_all_places_with_silent_connections_from_many_addresses_keeps_no_newcomer_out() {
    let certificate = certificate();
    let limits = "[limits]\nhandshakes = 8\n[tls]\nhandshake_timeout = \"1m\"\n";
    let usher = secure_with(limits, &certificate).await;
    let address = usher.client().address;
    let mut silent = Vec::new();
    for last in (1..=8).chain(1..=8) {
        silent.push(from([127, 0, 1, last], address).await);
    }
    let closed: FuturesUnordered<_> =
        silent.iter_mut().map(async |stream| stream.read(&mut [0]).await).collect();
    timeout(SOON, closed.take(8).collect::<Vec<_>>()).await.expect("there are places for eight only");

    let client = TlsConnector::from(Arc::new(certificate.client(&version::TLS13, &[])));
    for newcomer in 1..=3 {
        let tcp = from([127, 0, 2, newcomer], address).await;
        client.connect(ServerName::try_from(DOMAIN).unwrap(), tcp).await.unwrap();
    }
    // The first one takes the place of a silent one; a later one may find that the one before has left.
    wait_for("the ninth to be counted", SOON, async || {
        (handshakes(&usher, "none", "limited").await >= 9.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_made_up_names_leave_nothing_behind() {
    let usher = secure_usher().await;
    let address = usher.client().address;
    let lines = async || usher.admin("/metrics").send().await.text().lines().count();
    let ask = |count: std::ops::Range<usize>| {
        stream::iter(count).for_each_concurrent(64, async |n| {
            let name = format!("{:x}.{DOMAIN}.test", n * 2_654_435_761);
            let said = said_to(address, &hello([3, 3], &ECDHE_GCM, Some(&name))).await;
            assert_eq!(said, alert(UNRECOGNIZED_NAME), "{name}");
        })
    };
    ask(0..1_000).await;
    let (before, told) = (usher.memory("Anonymous"), lines().await);
    ask(1_000..10_000).await;
    await_handshakes(&usher, "unknown_name", 10_000.0).await;
    assert_eq!(lines().await, told, "no metric by name");
    let grown = usher.memory("Anonymous").saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB");
}

#[tokio::test]
async fn the_road_leads_over_tls() {
    let usher = secure_usher().await;
    let alice = Person::at_work(&usher, "alice").await;
    assert_eq!(alice.fetch(Method::GET, "/").send().await.status, StatusCode::OK);
    let mut socket = alice.socket("/ws").await.unwrap();
    socket.echoes("over wss").await;
}

#[tokio::test]
async fn a_workspace_is_reached_over_http_2() {
    let usher = secure_usher().await;
    let alice = Person::at_work(&usher, "alice").await;
    let cookies = alice.jar.field(&alice.host()).unwrap();
    let headers =
        [("cookie", cookies.as_str()), ("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")];
    let answer = h2_answer(&usher.client(), &alice.host(), "/headers", &headers).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert!(!answer.text().contains("__Host-usher"), "our cookie reached the workspace: {}", answer.text());
}

#[tokio::test]
async fn another_host_over_the_same_http_2_connection_is_judged_by_itself() {
    let usher = secure_usher().await;
    let bob = Person::at_work(&usher, "bob").await;
    let cookies = bob.jar.field(&bob.host()).unwrap();
    let headers =
        [("cookie", cookies.as_str()), ("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors")];
    let answer = h2_answer(&usher.client(), &format!("alice.{DOMAIN}"), "/headers", &headers).await.unwrap();
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text());
}
