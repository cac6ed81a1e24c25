//! One connection, from its handshake to its end, or until it becomes a tunnel.

use super::{handshake, proxy_header};
use crate::connection::{Conn, Link, Wire};
use crate::drain::Slot;
use crate::edge::{Edge, ListenerFacts};
use crate::exchange::Handover;
use crate::gateway::{Gateway, KEEP_ALIVE};
use crate::listen::Door;
use crate::metrics::BadProxyHeader;
use crate::{log, tunnel};
use futures_util::FutureExt;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::proxy::HttpProxy;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// What connections that come in by one address have in common, on one core.
pub(super) struct Entrance {
    pub(super) edge: Arc<Edge>,
    app: Arc<HttpProxy<Gateway>>,
    closing: watch::Receiver<bool>,
    facts: Arc<ListenerFacts>,
    tls: Option<TlsAcceptor>,
    proxy_protocol: bool,
}

impl Entrance {
    pub(super) fn new(
        edge: Arc<Edge>,
        app: Arc<HttpProxy<Gateway>>,
        closing: watch::Receiver<bool>,
        door: &Door,
    ) -> Self {
        let (facts, tls) = (door.facts.clone(), door.tls.clone().map(TlsAcceptor::from));
        Self { edge, app, closing, facts, tls, proxy_protocol: door.proxy_protocol }
    }

    /// Serves one connection to its end.
    pub(super) async fn serve(self: Arc<Self>, mut tcp: TcpStream, peer: SocketAddr, slot: Slot) {
        let Some(client) = self.introduce(&mut tcp, peer).await else { return };
        let Some(wire) = self.shake_hands(tcp, client).await else { return };
        let conn = Conn::new(wire, self.facts.clone(), client, &self.edge.config.load().tls, slot);
        if conn.is_http2() {
            self.app.process_new(Box::new(conn), &self.closing).await;
        } else {
            self.http1(conn).await;
        }
    }

    /// Where the client is, by the header that a proxy begins with where this entrance is for proxies. Whatever else
    /// comes by it is closed without a word, and counted.
    async fn introduce(&self, tcp: &mut TcpStream, peer: SocketAddr) -> Option<SocketAddr> {
        if !self.proxy_protocol {
            return Some(peer);
        }
        let read = if self.edge.config.load().proxies.trusts(peer.ip()) {
            proxy_header::read(tcp, peer).await
        } else {
            Err(Some(BadProxyHeader::Untrusted))
        };
        let count = |reason: Option<_>| {
            reason.into_iter().for_each(|reason| self.edge.metrics.bad_proxy_headers.count(reason));
        };
        read.map_err(count).ok()
    }

    async fn shake_hands(&self, tcp: TcpStream, client: SocketAddr) -> Option<Wire> {
        match &self.tls {
            Some(tls) => handshake::shake(&self.edge, tls, tcp, client).await,
            None => Some(Wire::Plain(tcp)),
        }
    }

    /// One request after the other, until one of them closes the connection or takes it for a tunnel.
    async fn http1(self: Arc<Self>, conn: Conn) {
        let link = conn.link().clone();
        let (mut stream, mut settings): (Stream, _) = (Box::new(conn), None);
        while let Some((reused, left)) = self.request(stream, settings, &link).await {
            settings = match left.map(take_handover) {
                Some(Ok(handover)) => {
                    self.tunnel(reused, *handover);
                    return;
                }
                Some(Err(settings)) => Some(settings),
                None => None,
            };
            stream = reused;
        }
    }

    /// One request; the connection, if it can be used again.
    async fn request(
        &self,
        stream: Stream,
        settings: Option<HttpPersistentSettings>,
        link: &Link,
    ) -> Option<(Stream, Option<HttpPersistentSettings>)> {
        link.await_head();
        let reused = self.app.process_new_http(session(stream, settings), &self.closing).await;
        if let Some(event) = link.unread() {
            log::request_event(event, &self.edge.metrics, Instant::now());
        }
        Some(reused?.consume())
    }

    /// Runs a tunnel in a task of its own: that of the HTTP session, several times as large, is freed.
    fn tunnel(&self, stream: Stream, handover: Handover) {
        let Ok(mut conn) = stream.into_any().downcast::<Conn>() else { return };
        conn.leave_pingora();
        let Handover { upgrade, event: mut pending } = handover;
        // Made here, so that the task keeps no space for what is used up by the tunnel's beginning; and mapped, since
        // an `async` block would have space for the tunnel twice, as it takes it and as it awaits it.
        let tunnel = tunnel::run(*conn, upgrade, self.edge.clone());
        tokio::spawn(tunnel.map(move |outcome| pending.event.ended(outcome)));
    }
}

fn session(stream: Stream, settings: Option<HttpPersistentSettings>) -> ServerSession {
    let mut session = ServerSession::new_http1(stream);
    match settings {
        Some(settings) => settings.apply_to_session(&mut session),
        None => session.set_keepalive(Some(KEEP_ALIVE.as_secs())),
    }
    session
}

/// The upgrade that a request left with its connection, or the settings back.
fn take_handover(mut settings: HttpPersistentSettings) -> Result<Box<Handover>, HttpPersistentSettings> {
    settings.take_user_context().and_then(|context| context.downcast().ok()).ok_or(settings)
}
