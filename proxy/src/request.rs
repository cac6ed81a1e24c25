//! A request head, parsed once at the edge: what does not parse is refused.

use crate::connection::ConnectionFacts;
use crate::refusal::Refusal;
use config::HostName;
use pingora::http::RequestHeader;

/// A request head that broke none of the rules of framing and syntax. Borrowed from Pingora's.
#[derive(Debug)]
pub struct Request<'a> {
    /// The head as it came; header fields are looked up here.
    pub head: &'a RequestHeader,
    /// The connection it came on.
    pub connection: &'a ConnectionFacts,
    /// The host, without its port.
    pub host: HostName,
    /// The path as it came, without the query; begins with `/`.
    pub path: &'a str,
    /// The query as it came, without `?`.
    pub query: Option<&'a str>,
    /// Whether it is a valid WebSocket handshake (RFC 6455 §4.2.1).
    pub websocket: bool,
}

/// What kind of client asks for what, as told by `Sec-Fetch-*`, `Origin`, `Accept`, `Sec-Purpose`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// A person goes to a page in a tab: `navigate` + `document`, no prefetch. May spawn.
    Navigation,
    /// A browser asks for a page but cannot say whether in a tab (no `Sec-Fetch-*`, `Accept: text/html`), or
    /// prefetches, or it is an iframe: pages are shown, nothing is spawned by it.
    Page,
    /// A browser's fetch, WebSocket, image, …
    Background,
    /// No browser: no `Sec-Fetch-*`, no `Origin`, no `Accept: text/html`. May spawn, is held.
    Script,
}

impl Intent {
    /// The intent of a head, parsed or not: a refused one is answered in its client's terms, too.
    pub fn of(_headers: &http::HeaderMap) -> Self {
        todo!()
    }
}

/// Refuses what Pingora's parsed head no longer shows: a bare LF, and `Content-Length` with `Transfer-Encoding`.
///
/// # Errors
/// 400.
pub fn check_raw(_raw: &[u8]) -> Result<(), Refusal> {
    todo!()
}

impl<'a> Request<'a> {
    /// Parses a head.
    ///
    /// # Errors
    /// The refusal for the first rule of `rules.md`, *Requests*, that it breaks.
    pub fn parse(_head: &'a RequestHeader, _connection: &'a ConnectionFacts) -> Result<Self, Refusal> {
        todo!()
    }
    /// What kind of client asks for what.
    pub fn intent(&self) -> Intent {
        todo!()
    }
    /// The origin of the host as the client's browser sees it: scheme, host, port of the listener.
    pub fn origin(&self) -> String {
        self.connection.listener.origin(self.host.as_str())
    }
}
