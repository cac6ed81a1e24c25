//! One TLS handshake: within its time, counted, and kept from HTTP where an authority only asks for a challenge.

use crate::connection::Wire;
use crate::edge::Edge;
use crate::metrics::Handshake;
use rustls::{Error, HandshakeKind, ProtocolVersion, ServerConnection};
use std::io;
use std::net::SocketAddr;
use std::time::Instant;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Shakes hands with a client, if it may just now. None where there is nothing more to do with the connection: scanners
/// and clients that do not trust the certificate do this all day, so it is counted and not logged.
pub(super) async fn shake(
    edge: &Edge,
    tls: &TlsAcceptor,
    tcp: TcpStream,
    client: SocketAddr,
) -> Option<Wire> {
    let (counted, begun) = (&edge.metrics.handshakes, Instant::now());
    let (under_way, within) = {
        let config = edge.config.load();
        (edge.limits.handshake(&config, client.ip()), config.tls.handshake_timeout)
    };
    let Some(_under_way) = under_way else {
        counted.ended(Handshake::Limited);
        return None;
    };
    match timeout(within, tls.accept(tcp)).await {
        Ok(Ok(stream)) if is_challenge(&stream) => {
            counted.ended(Handshake::Challenge);
            // It has seen what it came for (RFC 8737 §3); whether it hears the end is its own affair.
            let _ = timeout(within, { stream }.shutdown()).await;
            None
        }
        Ok(Ok(stream)) => {
            counted.done(kind(stream.get_ref().1), begun.elapsed());
            Some(Wire::Tls(Box::new(stream)))
        }
        Ok(Err(error)) => {
            counted.ended(failure(&error));
            None
        }
        Err(_) => {
            counted.ended(Handshake::Timeout);
            None
        }
    }
}

fn is_challenge(stream: &TlsStream<TcpStream>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(certs::ACME_TLS)
}

fn kind(connection: &ServerConnection) -> Handshake {
    let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
    match (connection.protocol_version(), resumed) {
        (Some(ProtocolVersion::TLSv1_2), false) => Handshake::Full12,
        (Some(ProtocolVersion::TLSv1_2), true) => Handshake::Resumed12,
        (_, false) => Handshake::Full13,
        (_, true) => Handshake::Resumed13,
    }
}

fn failure(error: &io::Error) -> Handshake {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        // Of a server's handshake rustls says this alone where the resolver has no certificate.
        Some(Error::General(_)) => Handshake::UnknownName,
        Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => Handshake::Incompatible,
        Some(Error::AlertReceived(_)) => Handshake::RefusedByClient,
        Some(_) => Handshake::Error,
        None => Handshake::Left,
    }
}
