//! Over real sockets, plain and TLS; what Pingora does with a connection is done by Pingora's own session.

use super::fixture::plain;
use super::*;
use crate::drain::Drain;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

async fn sockets() -> (TcpStream, TcpStream, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, address) = listener.accept().await.unwrap();
    server.set_nodelay(true).unwrap();
    (client, server, address)
}

fn wrap(wire: Wire, client: SocketAddr, drain: &Drain) -> Conn {
    let listener = ListenerFacts { tls: wire.is_tls(), public_port: 8080, loopback: true, redirects: false };
    Conn::new(wire, Arc::new(listener), client, &fixture::TLS, drain.slot(None))
}

/// What has come by now, at once: one read sees one segment where nothing else was written since.
async fn read_once(client: &mut TcpStream) -> Vec<u8> {
    let mut buf = vec![0; 64 * 1024];
    let read = client.read(&mut buf).await.unwrap();
    buf.truncate(read);
    buf
}

/// What has arrived and was not read: over loopback that is all that was sent.
fn arrived(client: &TcpStream) -> Vec<u8> {
    let mut buf = vec![0; 64 * 1024];
    let there = match rustix::net::recv(client, &mut buf[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((there, _)) => there,
        Err(error) => {
            assert_eq!(error, Errno::WOULDBLOCK);
            0
        }
    };
    buf.truncate(there);
    buf
}

/// How many TLS records these bytes are (RFC 8446 §5.1).
fn records(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let [_, _, _, high, low, rest @ ..] = bytes {
        bytes = &rest[usize::from(u16::from_be_bytes([*high, *low]))..];
        count += 1;
    }
    count
}

#[tokio::test]
async fn small_writes_leave_together_at_the_flush_and_not_before() {
    let (mut client, mut conn) = plain().await;
    conn.write_all(b"head ").await.unwrap();
    conn.write_all(b"body").await.unwrap();
    assert_eq!(arrived(&client), b"");
    conn.flush().await.unwrap();
    assert_eq!(read_once(&mut client).await, b"head body");
    assert_eq!(conn.out.capacity(), 0, "an idle connection keeps no buffer");
}

#[tokio::test]
async fn a_large_write_takes_the_gathered_bytes_with_it_in_order() {
    let (mut client, mut conn) = plain().await;
    let large = vec![b'x'; 3 * 1024 * 1024];
    let expected = large.clone();
    let read = tokio::spawn(async move {
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.unwrap();
        all
    });
    conn.write_all(b"head ").await.unwrap();
    conn.write_all(&large).await.unwrap();
    AsyncWriteExt::shutdown(&mut conn).await.unwrap();
    drop(conn);
    let all = read.await.unwrap();
    assert_eq!(&all[..5], b"head ");
    assert!(all[5..] == expected, "{} bytes came", all.len());
}

#[tokio::test]
async fn what_was_gathered_does_not_wait_while_the_client_is_waited_for() {
    let (mut client, mut conn) = plain().await;
    conn.write_all(b"the beginning").await.unwrap();
    let waiting = tokio::spawn(async move { conn.read_u8().await });
    assert_eq!(read_once(&mut client).await, b"the beginning");
    client.write_all(b"!").await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), b'!');
}

/// What Pingora does with a connection until a head came or failed.
async fn read_head(conn: Conn) -> pingora::Result<bool> {
    conn.link().await_head();
    let mut session = ServerSession::new_http1(Box::new(conn) as Stream);
    session.set_keepalive(Some(60));
    let read = session.read_request().await;
    if read.is_err() {
        session.shutdown().await;
    }
    read
}

#[tokio::test(start_paused = true)]
async fn a_head_that_drips_gets_408_within_its_deadline() {
    let (mut client, conn) = plain().await;
    let begun = Instant::now();
    let server = tokio::spawn(read_head(conn));
    client.write_all(b"GET / HTTP/1.1\r\nHost: a").await.unwrap();
    let (mut read, mut write) = client.into_split();
    // Each byte comes in time for a timeout that is per read.
    let drip = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(3)).await;
            if write.write_all(b"a").await.is_err() {
                return;
            }
        }
    });
    let mut answer = Vec::new();
    let answered = tokio::time::timeout(HEAD_DEADLINE * 6, read.read_to_end(&mut answer)).await;
    answered.expect("it is not waited for the drip").unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 408 ")
            && answer.to_ascii_lowercase().contains("\r\nusher-error: request_timeout\r\n"),
        "{answer}"
    );
    assert!(server.await.unwrap().is_err());
    assert!(begun.elapsed() < HEAD_DEADLINE + Duration::from_secs(2), "{:?}", begun.elapsed());
    drip.abort();
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_wait_longer_than_a_head_for_its_next_request() {
    let (mut client, mut conn) = plain().await;
    conn.link().await_head();
    let link = conn.link().clone();
    client.write_all(b"first").await.unwrap();
    assert_eq!(conn.read(&mut [0; 16]).await.unwrap(), 5);
    // The head was whole, its answer went out, and the next one is awaited: all without another read.
    link.head_complete();
    link.await_head();
    let waited = tokio::time::timeout(HEAD_DEADLINE * 3, conn.read_u8()).await;
    assert!(waited.is_err(), "it must wait on, not fail: {waited:?}");
    client.write_all(b"n").await.unwrap();
    assert_eq!(conn.read_u8().await.unwrap(), b'n');
}

#[tokio::test(start_paused = true)]
async fn a_body_has_no_head_deadline() {
    let (mut client, mut conn) = plain().await;
    conn.link().await_head();
    client.write_all(b"head").await.unwrap();
    assert_eq!(conn.read(&mut [0; 16]).await.unwrap(), 4);
    conn.link().head_complete();
    assert!(tokio::time::timeout(HEAD_DEADLINE * 3, conn.read_u8()).await.is_err());
}

#[tokio::test]
async fn requests_learn_the_facts_of_their_connection_from_the_session() {
    let (mut client, conn) = plain().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut session = ServerSession::new_http1(Box::new(conn));
    session.read_request().await.unwrap();
    let link = Link::of(&session).unwrap();
    assert_eq!(link.facts().client, client.local_addr().unwrap());
    assert_eq!(link.facts().server_name, None);
    assert_eq!(link.facts().listener.public_port, 8080);
}

#[tokio::test]
async fn a_dropped_connection_gives_its_slot_back() {
    let drain = Drain::default();
    let (_client, server, address) = sockets().await;
    let conn = wrap(Wire::Plain(server), address, &drain);
    assert_eq!(drain.slots(), 1);
    drop(conn);
    assert_eq!(drain.slots(), 0);
}

#[tokio::test]
async fn over_tls_head_and_body_are_one_record_and_the_server_name_is_known() {
    let (mut tls_client, mut conn) = over_tls().await;
    assert_eq!(conn.link().facts().server_name.as_deref(), Some("alice.lab.test"));
    assert!(conn.is_http2());
    // Session tickets came with the handshake.
    let before = records(&arrived(tls_client.get_ref().0));
    conn.write_all(b"head ").await.unwrap();
    conn.write_all(b"body").await.unwrap();
    conn.flush().await.unwrap();
    assert_eq!(records(&arrived(tls_client.get_ref().0)), before + 1);
    let mut buf = [0; 64];
    let read = tls_client.read(&mut buf).await.unwrap();
    assert_eq!(&buf[..read], b"head body");
}

/// A client that chose HTTP/2, and our connection to it.
async fn over_tls() -> (tokio_rustls::client::TlsStream<TcpStream>, Conn) {
    let made = rcgen::generate_simple_self_signed(vec!["alice.lab.test".to_owned()]).unwrap();
    let certificate = CertificateDer::from_pem_slice(made.cert.pem().as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let (client, server, address) = sockets().await;
    let (shaken, client) =
        tokio::join!(acceptor(certificate.clone(), key).accept(Socket(server)), connect(certificate, client));
    (client, wrap(Wire::Tls(Box::new(shaken.unwrap())), address, &Drain::default()))
}

#[tokio::test]
async fn an_http2_client_that_never_sends_its_preface_is_dropped_and_a_quiet_one_is_not() {
    for (sent, ends) in [(0, true), (23, true), (24, false)] {
        let (mut client, mut conn) = over_tls().await;
        client.write_all(&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..sent]).await.unwrap();
        client.flush().await.unwrap();
        let mut buf = [0; 64];
        if sent > 0 {
            assert_eq!(conn.read(&mut buf).await.unwrap(), sent);
        }
        tokio::time::pause();
        let read = tokio::time::timeout(HEAD_DEADLINE * 2, conn.read(&mut buf)).await;
        tokio::time::resume();
        assert_eq!(read.is_ok_and(|read| read.is_err()), ends, "{sent} bytes");
    }
}

fn acceptor(certificate: CertificateDer<'static>, key: PrivateKeyDer<'static>) -> tokio_rustls::TlsAcceptor {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config).into()
}

async fn connect(
    root: CertificateDer<'static>,
    tcp: TcpStream,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(root).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::try_from("Alice.lab.test").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap()
}
