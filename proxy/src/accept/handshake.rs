//! One TLS handshake: within its time, counted, and kept from HTTP where an authority only asks for a challenge.

use crate::connection::{Socket, Wire};
use crate::edge::Edge;
use crate::metrics::Handshake;
use rustls::server::{Acceptor, ResolvesServerCert};
use rustls::{Error, HandshakeKind, ProtocolVersion, ServerConnection};
use std::io;
use std::net::SocketAddr;
use std::time::Instant;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};

/// A fatal alert `unrecognized_name` (RFC 6066 §3) as a record of its own (RFC 8446 §5.1, §6).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

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
    let Some(under_way) = under_way else {
        counted.ended(Handshake::Limited);
        return None;
    };
    let shaken = tokio::select! {
        biased;
        shaken = timeout(within, accept(edge, tls, tcp)) => shaken,
        () = under_way.ended() => {
            edge.limits.ended_for_another();
            counted.ended(Handshake::Limited);
            return None;
        }
    };
    match shaken {
        Ok(Ok(stream)) if is_challenge(&stream) => {
            counted.ended(Handshake::Challenge);
            drop(under_way);
            // It has seen what it came for (RFC 8737 §3); whether it hears the end is its own affair.
            let _ = timeout(within, { stream }.shutdown()).await;
            None
        }
        Ok(Ok(stream)) => {
            counted.done(kind(stream.get_ref().1), begun.elapsed());
            Some(Wire::Tls(Box::new(stream)))
        }
        Ok(Err(Refused::UnknownName)) => {
            counted.ended(Handshake::UnknownName);
            None
        }
        Ok(Err(Refused::Failed(error))) => {
            counted.ended(failure(&error));
            None
        }
        Err(_) => {
            counted.ended(Handshake::Timeout);
            None
        }
    }
}

/// Why there is no connection.
enum Refused {
    /// There is no certificate for the name that the client asks for, if it names one.
    UnknownName,
    Failed(io::Error),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// A handshake, after a look at whom the client wants: rustls itself would say `access_denied` to who wants nobody.
async fn accept(edge: &Edge, tls: &TlsAcceptor, tcp: TcpStream) -> Result<TlsStream<Socket>, Refused> {
    let mut begun = LazyConfigAcceptor::new(Acceptor::default(), Socket(tcp)).await?;
    if edge.resolver.resolve(begun.client_hello()).is_none() {
        begun.io.write_all(&UNRECOGNIZED_NAME).await?;
        return Err(Refused::UnknownName);
    }
    Ok(begun.into_stream(tls.config().clone()).await?)
}

fn is_challenge(stream: &TlsStream<Socket>) -> bool {
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
        Some(Error::PeerIncompatible(_) | Error::NoApplicationProtocol) => Handshake::Incompatible,
        Some(Error::AlertReceived(_)) => Handshake::RefusedByClient,
        Some(_) => Handshake::Error,
        None => Handshake::Left,
    }
}
