//! The one event of a request: what stands in it, and how.

use crate::edge::Edge;
use crate::metrics::{Metrics, PlaceLabel};
use crate::refusal::Code;
use crate::tunnel::{End, Outcome};
use config::WorkspaceId;
use http::StatusCode;
use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::Level;

/// The longest text of a client's that stands in an event, in bytes.
const TEXT_MAX: usize = 256;

/// What is known of a request at its end. Never a query, a cookie or a token.
#[derive(Debug, Clone)]
pub struct RequestEvent<'a> {
    /// The id that the client was told in problem documents.
    pub id: Arc<str>,
    /// When its head was complete.
    pub started: Instant,
    /// Whose connection.
    pub client: IpAddr,
    /// The method, cut: whoever asks may make one up.
    pub method: Cow<'a, str>,
    /// The host asked for, cut.
    pub host: Cow<'a, str>,
    /// The path without the query, cut.
    pub path: Cow<'a, str>,
    /// Which of our places answered.
    pub place: PlaceLabel,
    /// The workspace, once one was admitted to.
    pub workspace: Option<WorkspaceId>,
    /// The status sent; none if the client left before.
    pub status: Option<StatusCode>,
    /// What it was refused with.
    pub refusal: Option<Code>,
    /// What failed, where the refusal does not tell: by kind, never in a peer's words.
    pub fault: Option<Cow<'a, str>>,
    /// Bytes of bodies, or of a tunnel, to the client.
    pub bytes_sent: u64,
    /// Why its tunnel ended, if it became one.
    pub tunnel_end: Option<End>,
}

impl RequestEvent<'_> {
    /// The same for a request whose head is gone by its end.
    pub fn into_owned(self) -> RequestEvent<'static> {
        let owned = |text: Cow<'_, str>| Cow::Owned(text.into_owned());
        RequestEvent {
            method: owned(self.method),
            host: owned(self.host),
            path: owned(self.path),
            fault: self.fault.map(owned),
            ..self
        }
    }

    /// Notes what became of an upgrade.
    pub fn ended(&mut self, outcome: Outcome) {
        let Outcome { status, refusal, bytes_sent, end } = outcome;
        self.status = status;
        self.refusal = refusal;
        self.bytes_sent = bytes_sent;
        self.tunnel_end = end;
    }
}

/// Logs and counts a request that ended `now`.
pub fn request_event(event: &RequestEvent<'_>, metrics: &Metrics, now: Instant) {
    let took = now.saturating_duration_since(event.started);
    if let Some(status) = event.status {
        metrics.request(event.place, status, took);
    }
    if let Some(code) = event.refusal {
        metrics.refusal(code);
    }
    emit(event, took);
}

/// The event of a request that outlives Pingora's part in it: logged and counted once, when it is dropped.
pub struct PendingEvent {
    /// What is known so far.
    pub event: RequestEvent<'static>,
    edge: Arc<Edge>,
}

impl PendingEvent {
    /// An event that is still to come.
    pub fn new(event: RequestEvent<'static>, edge: Arc<Edge>) -> Self {
        Self { event, edge }
    }
}

impl Drop for PendingEvent {
    fn drop(&mut self) {
        request_event(&self.event, &self.edge.metrics, Instant::now());
    }
}

/// The event at a level, which tracing must know when it is compiled.
macro_rules! emit_at {
    ($level:ident, $event:ident, $took:ident) => {
        tracing::$level!(
            request.id = &*$event.id,
            client.ip = %$event.client,
            http.method = &*$event.method,
            http.host = &*$event.host,
            http.path = &*$event.path,
            http.status = $event.status.map(|status| status.as_u16()),
            http.bytes_sent = $event.bytes_sent,
            request.place = $event.place.as_str(),
            workspace.id = $event.workspace.as_ref().map(ToString::to_string),
            refusal.code = $event.refusal.map(|code| code.row().code),
            refusal.fault = $event.fault.as_deref(),
            tunnel.end = $event.tunnel_end.map(tracing::field::debug),
            elapsed_ms = $took.as_secs_f64() * 1000.0,
            "request"
        )
    };
}

/// At the level of the refusal, if there is one.
fn emit(event: &RequestEvent<'_>, took: Duration) {
    match event.refusal.map_or(Level::INFO, |code| code.row().level) {
        Level::ERROR => emit_at!(error, event, took),
        Level::WARN => emit_at!(warn, event, took),
        _ => emit_at!(info, event, took),
    }
}

/// A client's text as it may stand in an event: lossily decoded, cut at a character.
pub fn cut(text: &[u8]) -> Cow<'_, str> {
    let mut text = String::from_utf8_lossy(&text[..text.len().min(TEXT_MAX)]);
    // A byte that is no text has become three.
    if text.len() > TEXT_MAX {
        let end = text.floor_char_boundary(TEXT_MAX);
        text.to_mut().truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_text_is_cut_and_may_be_any_bytes() {
        assert_eq!(cut(b"/caf\xc3\xa9"), "/caf\u{e9}");
        assert_eq!(cut(b"/\xff"), "/\u{fffd}");
        for byte in [b'a', 0xff, 0xc3] {
            let length = cut(&[byte; 9000]).len();
            assert!(length <= TEXT_MAX && length > TEXT_MAX - 4, "{length}");
        }
    }
}
