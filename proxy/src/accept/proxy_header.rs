//! The header of the PROXY protocol, with which a load balancer begins each connection that it passes on
//! (HAProxy's *The PROXY protocol, versions 1 & 2*).
//!
//! Exactly the header's bytes are taken: what follows is TLS or HTTP, and is the next reader's.

mod parse;

use crate::metrics::BadProxyHeader;
use parse::{SIGNATURE, Source, V2_HEAD, v1, v2, v2_length};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long the header may take. The protocol asks for 3 s at least: a lost segment is sent again within that.
const DEADLINE: Duration = Duration::from_secs(5);
/// The longest header of version 1, its line break included (§2.1).
const V1_MAX: usize = 107;
/// The longest rest of a header of version 2. Addresses take 36 bytes; what load balancers add to them, names and ids,
/// some hundred.
const V2_MAX: usize = 2048;

/// Why there is no header to go by.
#[derive(Debug)]
enum Failed {
    /// The connection ended before its first byte: a load balancer that looks whether somebody is there.
    Empty,
    /// It is none, or too long.
    Bad(BadProxyHeader),
    /// The connection failed.
    Io,
}

impl From<io::Error> for Failed {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

/// Reads the header of a connection that `peer` opened: where the client is.
///
/// # Errors
/// The connection is to be closed; with the reason, if it is one to count.
pub(super) async fn read(
    tcp: &mut TcpStream,
    peer: SocketAddr,
) -> Result<SocketAddr, Option<BadProxyHeader>> {
    match timeout(DEADLINE, header(tcp)).await {
        Ok(Ok(Source::Client(client))) => Ok(client),
        Ok(Ok(Source::Peer)) => Ok(peer),
        Ok(Err(Failed::Bad(reason))) => Err(Some(reason)),
        Ok(Err(Failed::Empty)) => Err(None),
        Ok(Err(Failed::Io)) => Err(Some(BadProxyHeader::Unreadable)),
        Err(_) => Err(Some(BadProxyHeader::TooSlow)),
    }
}

async fn header(tcp: &mut TcpStream) -> Result<Source, Failed> {
    let unreadable = || Failed::Bad(BadProxyHeader::Unreadable);
    // No header of either version is shorter than the signature of version 2.
    let mut start = [0; SIGNATURE.len()];
    match tcp.read(&mut start).await? {
        0 => return Err(Failed::Empty),
        came => tcp.read_exact(&mut start[came..]).await?,
    };
    if start == *SIGNATURE {
        let mut head = [0; V2_HEAD];
        tcp.read_exact(&mut head).await?;
        let length = v2_length(&head);
        if length > V2_MAX {
            return Err(Failed::Bad(BadProxyHeader::TooLong));
        }
        let mut rest = vec![0; length];
        tcp.read_exact(&mut rest).await?;
        return v2(&head, &rest).ok_or_else(unreadable);
    }
    if !start.starts_with(b"PROXY ") {
        return Err(unreadable());
    }
    let line = line(tcp, &start).await?;
    v1(&line).ok_or_else(unreadable)
}

/// The rest of a line that begins so. Bytes are looked at before they are taken: none behind the line is.
async fn line(tcp: &mut TcpStream, start: &[u8]) -> Result<Vec<u8>, Failed> {
    let mut line = start.to_vec();
    let mut ahead = [0; V1_MAX];
    loop {
        let room = V1_MAX - line.len();
        if room == 0 {
            return Err(Failed::Bad(BadProxyHeader::TooLong));
        }
        let seen = tcp.peek(&mut ahead[..room]).await?;
        if seen == 0 {
            return Err(Failed::Io);
        }
        let end = ahead[..seen].iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(seen, |end| end + 1);
        tcp.read_exact(&mut ahead[..taken]).await?;
        line.extend_from_slice(&ahead[..taken]);
        if end.is_some() {
            return Ok(line);
        }
    }
}

#[cfg(test)]
mod tests;
