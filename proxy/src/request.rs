//! A request head, parsed once at the edge: what does not parse is refused.
//!
//! Pingora has read the head before us and hides some of what came: a bare LF, and a `Content-Length` beside a
//! `Transfer-Encoding` (it takes the former away). [`check_raw`] looks for these in the bytes themselves. A
//! header that drips, a slow body and a control byte in the target (Pingora escapes it) are not seen here.

mod framing;
mod handshake;
mod intent;

pub use framing::{FIELDS_MAX, HEAD_MAX, check_body, check_raw};
pub use intent::Intent;
pub(crate) use intent::{
    SEC_FETCH_SITE, has_fetch_metadata, is_document_navigation, is_speculative, is_worker_script,
};

use crate::connection::ConnectionFacts;
use crate::head::names;
use crate::refusal::{Code, Refusal};
use config::HostName;
use http::header::{CONNECTION, HOST, ORIGIN};
use http::{HeaderMap, HeaderName, Method, Version};
use pingora::http::RequestHeader;
use std::net::IpAddr;
use std::sync::Arc;

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
    /// What kind of client asks for what.
    pub intent: Intent,
    /// Whether all phases were asked before: what is held asks them anew, and counts once.
    pub again: bool,
    /// Its id, as the log has it.
    pub id: Arc<str>,
}

/// How a request came to us: what outlives its head, and its workspace is told.
#[derive(Debug)]
pub struct Arrival {
    /// Where its client is.
    pub client: IpAddr,
    /// [`Request::origin`].
    pub origin: String,
    /// [`Request::websocket`].
    pub websocket: bool,
}

impl<'a> Request<'a> {
    /// Parses a head. For HTTP/1 its bytes have passed [`check_raw`] before.
    ///
    /// # Errors
    /// The refusal for the first rule of `rules.md`, *Requests*, that it breaks.
    pub fn parse(head: &'a RequestHeader, connection: &'a ConnectionFacts) -> Result<Self, Refusal> {
        if head.method == Method::TRACE || head.method == Method::CONNECT {
            return Err(Refusal::new(Code::MethodNotAllowed));
        }
        framing::check_size(head)?;
        check_names(&head.headers)?;
        check_body(&head.headers)?;
        check_nominations(&head.headers)?;
        let host = host(head)?;
        let (path, query) = target(head)?;
        let websocket = handshake::check(head)?;
        let intent = Intent::of(&head.headers);
        Ok(Self { head, connection, host, path, query, websocket, intent, again: false, id: Arc::default() })
    }

    /// Path and query as they came, to come back to.
    pub fn page(&self) -> String {
        match self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.to_owned(),
        }
    }

    /// The origin of the host as the client's browser sees it: scheme, host, port of the listener.
    pub fn origin(&self) -> String {
        self.connection.listener.origin(self.host.as_str())
    }

    /// How it came.
    pub fn arrival(&self) -> Arrival {
        let client = self.connection.client.ip().to_canonical();
        Arrival { client, origin: self.origin(), websocket: self.websocket }
    }

    /// Whether the browser says, in one `Origin` field, that a page of this origin sent it. Never for `null`.
    pub fn is_from(&self, origin: &str) -> bool {
        single(&self.head.headers, &ORIGIN).is_some_and(|value| value == origin.as_bytes())
    }
}

/// The value of a field that stands there exactly once; two of one name are as good as none.
pub fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.as_bytes();
    values.next().is_none().then_some(value)
}

/// The tokens of a comma-separated field, over all fields of the name (RFC 9110 §5.6.1), without empty ones.
pub fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

fn bad(detail: impl Into<String>) -> Refusal {
    Refusal::with(Code::BadRequest, detail)
}

/// Some servers read `_` as `-`: a name with `_` could pass as one of ours.
fn check_names(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.keys().find(|name| name.as_str().contains('_')) {
        Some(_) => Err(bad("A header name contains an underscore.")),
        None => Ok(()),
    }
}

/// `Connection` may name hop-by-hop headers of the client's own, never one that decides who asks or from where.
fn check_nominations(headers: &HeaderMap) -> Result<(), Refusal> {
    for token in tokens(headers, &CONNECTION) {
        let name = HeaderName::from_bytes(token).map_err(|_| bad("Connection names no header."))?;
        if names::is_reserved(name.as_str()) {
            return Err(bad("Connection names a header that may not be taken away."));
        }
    }
    Ok(())
}

/// The host by `:authority`, absolute target or `Host`; where there are two, they are the same.
fn host(head: &RequestHeader) -> Result<HostName, Refusal> {
    let mut fields = head.headers.get_all(HOST).iter();
    let field = fields.next().map(http::HeaderValue::as_bytes);
    if fields.next().is_some() {
        return Err(bad("There is more than one Host."));
    }
    let named = head.uri.authority().map(|a| a.as_str().as_bytes()).or(absolute_authority(head.raw_path()));
    let authority = match (named, field) {
        (Some(named), Some(field)) if named != field => {
            return Err(bad("Host is not the host of the target."));
        }
        // RFC 9112 §3.2 demands the field of HTTP/1.1; of HTTP/1.0 we do, since we route on it.
        (_, None) if head.version < Version::HTTP_2 => return Err(bad("There is no Host.")),
        (named, field) => named.or(field).unwrap_or_default(),
    };
    host_name(authority)
}

/// The authority of an absolute-form target (RFC 9112 §3.2.2).
fn absolute_authority(target: &[u8]) -> Option<&[u8]> {
    let after_scheme =
        strip_prefix_any_case(target, b"http://").or(strip_prefix_any_case(target, b"https://"))?;
    let end = after_scheme.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(after_scheme.len());
    Some(&after_scheme[..end])
}

fn strip_prefix_any_case<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = text.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn host_name(authority: &[u8]) -> Result<HostName, Refusal> {
    let text = std::str::from_utf8(authority).map_err(|_| bad("Host is not a host name."))?;
    if text.starts_with('[') {
        // An address is a valid host, and none of ours.
        return Err(Refusal::new(Code::NotFound));
    }
    let name = match text.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        Some(_) => return Err(bad("The port of Host is not a number.")),
        None => text,
    };
    HostName::parse(name).map_err(|_| bad("Host is not a host name."))
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

/// Path and query of an origin-form or absolute-form target, as they came.
fn target(head: &RequestHeader) -> Result<(&str, Option<&str>), Refusal> {
    let raw = head.raw_path();
    if !raw.starts_with(b"/") && absolute_authority(raw).is_none() {
        return Err(bad("The target is not a path."));
    }
    if !head.raw_path_is_utf8() {
        return Err(bad("The path is not UTF-8."));
    }
    let path = head.uri.path();
    let query = head.uri.query();
    let has_control = |text: &str| text.bytes().any(|byte| byte < b' ' || byte == 0x7f);
    if has_control(path) || query.is_some_and(has_control) {
        return Err(bad("The path contains a control character."));
    }
    if path.contains('\\') || path.contains("%00") {
        return Err(bad("The path contains a backslash or a zero byte."));
    }
    // `Uri` gives an empty path for `http://host`; RFC 9110 §4.2.3 makes it `/`.
    Ok((if path.is_empty() { "/" } else { path }, query))
}

#[cfg(test)]
pub(crate) mod tests;
