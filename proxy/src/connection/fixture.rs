//! A client's socket, and Pingora's session on our connection at its other end.

use super::{Conn, Wire};
use crate::drain::Drain;
use crate::edge::ListenerFacts;
use config::{Tls, TlsVersion};
use pingora::proxy::Session;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One that has browsers remember https for a minute.
pub const TLS: Tls = Tls {
    min_version: TlsVersion::V1_2,
    handshake_timeout: Duration::from_secs(10),
    hsts_max_age: Duration::from_secs(60),
};

/// A connected pair over loopback.
pub async fn plain() -> (TcpStream, Conn) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (server, address) = listener.accept().await.unwrap();
    server.set_nodelay(true).unwrap();
    let facts = ListenerFacts { tls: false, public_port: 8080, loopback: true, redirects: false };
    let conn = Conn::new(Wire::Plain(server), Arc::new(facts), address, &TLS, Drain::default().slot(None));
    (client, conn)
}

/// A client that has sent these bytes, and the session that has read the head among them.
pub async fn session(sent: &[u8]) -> (TcpStream, Session) {
    let (mut client, conn) = plain().await;
    client.write_all(sent).await.unwrap();
    let mut session = Session::new_h1(Box::new(conn));
    session.read_request().await.unwrap();
    (client, session)
}

/// Ends a session as Pingora does after its filters answered; whether its connection could be used again.
pub async fn finish(session: Session) -> bool {
    matches!(session.downstream_session.finish().await, Ok(Some(_)))
}

/// All that comes until the server closes.
pub async fn read_all(client: &mut TcpStream) -> String {
    let mut all = Vec::new();
    client.read_to_end(&mut all).await.unwrap();
    String::from_utf8(all).unwrap()
}

/// Reads until this text came.
pub async fn read_until(client: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    while !all.ends_with(end.as_bytes()) {
        let mut byte = [0];
        client.read_exact(&mut byte).await.unwrap();
        all.push(byte[0]);
    }
    String::from_utf8(all).unwrap()
}
