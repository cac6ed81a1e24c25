//! Our own connection under Pingora: plain TCP or TLS, given back whole for the tunnel.
//!
//! It does four things that the bare stream does not: it gathers small writes until the flush, so that head and
//! body leave as one segment or TLS record; it holds a request's head to a deadline, which Pingora's timeouts
//! (one per read) cannot; it puts our answer in place of Pingora's own to a head that cannot be read; and it carries
//! the facts of the connection to every request on it, HTTP/1.1 or HTTP/2.

mod unread;
mod wire;

pub use wire::{Socket, Wire};

use crate::client_address;
use crate::drain::Slot;
use crate::edge::ListenerFacts;
use crate::head;
use crate::log::RequestEvent;
use crate::refusal::Code;
use async_trait::async_trait;
use config::Proxies;
use http::{HeaderMap, HeaderValue};
use pingora::http::ResponseHeader;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;

/// Within which a request's head must be complete, from its first byte on.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Up to which writes are gathered; half a TLS record, as large as most heads with a small body.
const GATHER: usize = 8 * 1024;
/// How long a last answer may take to leave before the connection is dropped.
const FAREWELL: Duration = Duration::from_secs(5);
/// What an HTTP/2 client sends first (RFC 9113 §3.4), in bytes.
const PREFACE: u8 = 24;

/// Facts of one connection, for its requests: Pingora hands them on in the `ProxyDigest`'s user data.
#[derive(Debug, Clone)]
pub struct ConnectionFacts {
    /// The listener it came in by.
    pub listener: Arc<ListenerFacts>,
    /// The client's address: the peer's, or what a proxy says that is trusted.
    pub client: SocketAddr,
    /// The server name of the TLS handshake, lower case.
    pub server_name: Option<String>,
    /// What answers over it say of https: `Strict-Transport-Security`.
    pub transport_security: Option<HeaderValue>,
}

impl ConnectionFacts {
    /// The facts for one request of the connection: a trusted proxy sends those of many clients over one.
    pub fn of_request(self: &Arc<Self>, headers: &HeaderMap, proxies: &Proxies) -> Arc<Self> {
        let client = client_address::of(self.client.ip(), headers, proxies);
        if client == self.client.ip().to_canonical() {
            return self.clone();
        }
        Arc::new(Self { client: SocketAddr::new(client, 0), ..Self::clone(self) })
    }
}

/// [`Link::head`]: no head is read.
const NONE: u8 = 0;
/// A head is awaited; its first byte may come when it likes.
const AWAITED: u8 = 1;
/// The first bytes of a head came.
const BEGUN: u8 = 2;

/// What the requests of a connection share with it.
#[derive(Debug)]
pub struct Link {
    facts: Arc<ConnectionFacts>,
    head: AtomicU8,
    /// The event of the request whose head never was a whole one: the last on its connection.
    unread: OnceLock<Box<RequestEvent<'static>>>,
}

impl Link {
    /// The facts of the connection.
    pub fn facts(&self) -> &Arc<ConnectionFacts> {
        &self.facts
    }

    /// The next bytes are a request's head: it must be complete within [`HEAD_DEADLINE`] of its first byte.
    pub fn await_head(&self) {
        self.head.store(AWAITED, Relaxed);
    }

    /// The head is complete.
    pub fn head_complete(&self) {
        self.head.store(NONE, Relaxed);
    }

    /// The event of a request that was refused here, since its head could not be read.
    pub fn unread(&self) -> Option<&RequestEvent<'static>> {
        self.unread.get().map(Box::as_ref)
    }

    /// The link of the connection that a Pingora session is on.
    pub fn of(session: &pingora::protocols::http::ServerSession) -> Option<Arc<Self>> {
        let digest = session.digest()?.proxy_digest.as_ref()?;
        digest.user_data.as_ref()?.downcast_ref::<Arc<Self>>().cloned()
    }
}

/// One client's connection.
pub struct Conn {
    wire: Wire,
    /// What was written and not flushed: `out[sent..]`.
    out: Vec<u8>,
    sent: usize,
    link: Arc<Link>,
    /// How much of the HTTP/2 preface is still to come.
    preface: u8,
    /// Runs from the first byte of a head that did not come whole, or until the preface did.
    deadline: Option<Pin<Box<Sleep>>>,
    /// What only Pingora asks for; none in a tunnel.
    digests: Option<Digests>,
    /// Its place among the connections of the process; given back when it is dropped.
    _slot: Slot,
}

/// Facts of a connection as Pingora wants them, some hundred bytes of it.
struct Digests {
    proxy: Arc<ProxyDigest>,
    socket: Arc<SocketDigest>,
}

impl Conn {
    /// Wraps an accepted connection, after its TLS handshake if there is one.
    ///
    /// `tls` is what holds for connections with TLS.
    pub fn new(
        wire: Wire,
        listener: Arc<ListenerFacts>,
        client: SocketAddr,
        tls: &config::Tls,
        slot: Slot,
    ) -> Self {
        let transport_security = wire.is_tls().then(|| head::transport_security(tls)).flatten();
        let server_name = wire.server_name();
        let facts = Arc::new(ConnectionFacts { listener, client, server_name, transport_security });
        let link = Arc::new(Link { facts, head: AtomicU8::new(NONE), unread: OnceLock::new() });
        let socket = SocketDigest::from_raw_fd(wire.id());
        // Known already: it saves Pingora a `getpeername` per connection.
        let _ = socket.peer_addr.set(Some(client.into()));
        let preface = if wire.alpn() == Some(b"h2") { PREFACE } else { 0 };
        let response = Box::new(ResponseHeader::build(200, Some(0)).expect("200 is a status"));
        Self {
            digests: Some(Digests {
                proxy: Arc::new(ProxyDigest::new(response, Some(Box::new(link.clone())))),
                socket: Arc::new(socket),
            }),
            wire,
            out: Vec::new(),
            sent: 0,
            link,
            preface,
            deadline: None,
            _slot: slot,
        }
    }

    /// What its requests share with it.
    pub fn link(&self) -> &Arc<Link> {
        &self.link
    }

    /// Takes it from Pingora for good: it keeps nothing that only Pingora asks for.
    pub fn leave_pingora(&mut self) {
        self.digests = None;
    }

    /// Whether the client chose HTTP/2 in the TLS handshake.
    pub fn is_http2(&self) -> bool {
        self.wire.alpn() == Some(b"h2")
    }

    /// Completes when the client has ended its side or is gone, however much of what it sent is still unread.
    pub async fn left(&self) -> io::Result<()> {
        self.wire.peer_ended().await
    }

    /// Answers a head that will not be read: once, and in place of whatever Pingora would say.
    fn refuse(&mut self, code: Code, waited: Duration) {
        let Self { link, out, .. } = self;
        link.unread.get_or_init(|| {
            let (answer, event) = unread::refuse(code, &link.facts, waited);
            out.extend_from_slice(&answer);
            Box::new(event)
        });
    }

    /// Writes out what was gathered.
    fn poll_gathered(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.out.len() {
            let written = ready!(Pin::new(&mut self.wire).poll_write(cx, &self.out[self.sent..]))?;
            self.took(written)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Notes that the wire took so many of the gathered bytes; an idle connection keeps no buffer.
    fn took(&mut self, written: usize) -> io::Result<()> {
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.sent += written;
        if self.sent >= self.out.len() {
            self.out = Vec::new();
            self.sent = 0;
        }
        Ok(())
    }

    /// Writes what was gathered and what comes now in one go; tells how much of the latter was taken.
    fn poll_both(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        while self.sent < self.out.len() {
            let gathered = self.out.len() - self.sent;
            let both = [IoSlice::new(&self.out[self.sent..]), IoSlice::new(buf)];
            let written = ready!(Pin::new(&mut self.wire).poll_write_vectored(cx, &both))?;
            self.took(written.min(gathered))?;
            if written > gathered {
                return Poll::Ready(Ok(written - gathered));
            }
        }
        Pin::new(&mut self.wire).poll_write(cx, buf)
    }

    /// Fails once a head that has begun takes too long; the clock starts when its rest has to be waited for.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.preface == 0 && self.link.head.load(Relaxed) != BEGUN {
            self.deadline = None;
            return Ok(());
        }
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(tokio::time::sleep(HEAD_DEADLINE)));
        if deadline.as_mut().poll(cx).is_ready() {
            if self.preface == 0 {
                // Pingora has no request to answer then: it shuts the connection down, and this leaves before.
                self.refuse(Code::RequestTimeout, HEAD_DEADLINE);
            }
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "the request's head was not complete in time",
            ));
        }
        Ok(())
    }
}

impl AsyncRead for Conn {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.poll_deadline(cx)?;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.wire).poll_read(cx, buf);
        let came = buf.filled().len() - before;
        this.preface = this.preface.saturating_sub(u8::try_from(came).unwrap_or(u8::MAX));
        if read.is_pending() {
            // Whoever waits for the client has nothing to add now: what was gathered must not wait with them.
            if let Poll::Ready(Err(error)) = this.poll_gathered(cx) {
                return Poll::Ready(Err(error));
            }
        } else if came > 0 && this.link.head.load(Relaxed) == AWAITED {
            this.link.head.store(BEGUN, Relaxed);
        }
        read
    }
}

impl AsyncWrite for Conn {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.link.head.load(Relaxed) != NONE {
            // Only Pingora itself answers before it has a head for us: to say that it cannot read it.
            this.refuse(Code::BadRequest, Duration::ZERO);
            return Poll::Ready(Ok(buf.len()));
        }
        if this.out.len() + buf.len() <= GATHER {
            if this.out.is_empty() {
                this.out.reserve_exact(GATHER);
            }
            this.out.extend_from_slice(buf);
            return Poll::Ready(Ok(buf.len()));
        }
        this.poll_both(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_gathered(cx))?;
        Pin::new(&mut this.wire).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_gathered(cx))?;
        Pin::new(&mut this.wire).poll_shutdown(cx)
    }
}

#[async_trait]
impl Shutdown for Conn {
    async fn shutdown(&mut self) {
        // The connection ends in any case; a client that does not even take this is dropped.
        let _ = tokio::time::timeout(FAREWELL, AsyncWriteExt::shutdown(self)).await;
    }
}

impl UniqueID for Conn {
    fn id(&self) -> UniqueIDType {
        self.wire.id()
    }
}

impl Ssl for Conn {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.wire.is_tls().then(|| Arc::new(SslDigest::new("", "", None, None, Vec::new())))
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        match self.wire.alpn()? {
            b"h2" => Some(ALPN::H2),
            _ => Some(ALPN::H1),
        }
    }
}

impl GetTimingDigest for Conn {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for Conn {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.digests.as_ref().map(|digests| digests.proxy.clone())
    }
}

impl GetSocketDigest for Conn {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.digests.as_ref().map(|digests| digests.socket.clone())
    }
}

impl Peek for Conn {}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conn").field("facts", self.link.facts()).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
