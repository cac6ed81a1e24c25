//! What is known of one request while it lasts. Dropped with it, and with it all that it held open.

use crate::access::Forward;
use crate::access::authorise::Permit;
use crate::connection::{ConnectionFacts, Link};
use crate::log::{self, PendingEvent, RequestEvent};
use crate::metrics::PlaceLabel;
use crate::notice::Injector;
use crate::refusal::{self, Code, Reader, Refusal};
use crate::request::Intent;
use crate::tunnel::Upgrade;
use bytes::Bytes;
use config::{Config, WorkspaceId};
use control::Activity;
use http::Response;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Instant;

/// One request and its answer.
pub struct Exchange {
    /// The configuration that it sees, from first byte to last.
    pub config: Arc<Config>,
    /// Its id, for problem documents and the log.
    pub id: Arc<str>,
    /// Which of our places answers it.
    pub place: PlaceLabel,
    /// The workspace that it was admitted to.
    pub workspace: Option<WorkspaceId>,
    /// What it was refused with.
    pub refusal: Option<Code>,
    /// Whether the phases were asked about it before.
    pub judged: bool,
    /// What failed, by kind.
    pub fault: Option<String>,
    /// The way to its workspace, once admitted.
    pub forward: Option<Forward>,
    /// How often its workspace was dialled in vain.
    pub tries: u32,
    /// When the connection to the workspace was opened that it goes by.
    pub opened: Option<Instant>,
    /// When its head began its way to the workspace: nothing of the answer can be older.
    pub sent: Option<Instant>,
    /// How many interim answers (1xx) came.
    pub interim: u32,
    /// The notice on its way into the answer.
    pub notice: Option<Injector>,
    /// The answer's body while it is open.
    pub open: Option<OpenResponse>,
    started: Instant,
    connection: Option<Arc<ConnectionFacts>>,
    given_up: Option<Refusal>,
    handover: Mutex<Option<Box<Handover>>>,
}

/// What leaves Pingora: an admitted upgrade, and the request's event, which belongs to the tunnel's end.
pub struct Handover {
    /// The upgrade.
    pub upgrade: Upgrade,
    /// The event: logged when it is dropped, be it that the tunnel never began.
    pub event: PendingEvent,
}

/// Counts an open response body for as long as it lives.
pub struct OpenResponse(Arc<Activity>);

impl OpenResponse {
    /// Opens one.
    pub fn new(activity: Arc<Activity>) -> Self {
        activity.response(true);
        Self(activity)
    }
}

impl Drop for OpenResponse {
    fn drop(&mut self) {
        self.0.response(false);
    }
}

impl Exchange {
    /// A request whose head is complete now.
    pub fn new(config: Arc<Config>) -> Self {
        Self {
            config,
            id: new_id(),
            place: PlaceLabel::None,
            workspace: None,
            refusal: None,
            judged: false,
            fault: None,
            forward: None,
            tries: 0,
            opened: None,
            sent: None,
            interim: 0,
            notice: None,
            open: None,
            started: Instant::now(),
            connection: None,
            given_up: None,
            handover: Mutex::new(None),
        }
    }

    /// Notes the connection that it is on, and by its head where its client is.
    pub fn on(&mut self, link: &Link, head: &RequestHeader) {
        self.connection = Some(link.facts().of_request(&head.headers, &self.config.proxies));
    }

    /// The connection that it is on, with the address of its own client.
    pub fn connection(&self) -> Option<Arc<ConnectionFacts>> {
        self.connection.clone()
    }

    /// Notes that its phases let it through to a workspace, ready or not.
    pub fn admitted(&mut self, permit: &Permit) {
        self.place = PlaceLabel::Edge;
        self.workspace = Some(permit.id().clone());
    }

    /// Notes a refusal, and makes the answer to it.
    pub fn refuse(&mut self, head: &RequestHeader, refusal: &Refusal) -> Response<Bytes> {
        self.refusal = Some(refusal.code);
        let portal = self.connection.as_ref().map(|facts| facts.listener.origin(self.config.portal.as_str()));
        let reader =
            Reader { intent: Intent::of(&head.headers), method: &head.method, request_id: &self.id, portal };
        refusal::answer(refusal, &reader)
    }

    /// An error that ends the exchange with this refusal.
    pub fn give_up(&mut self, refusal: Refusal) -> Box<Error> {
        let error = Error::explain(ErrorType::InvalidHTTPHeader, refusal.sentence().to_owned()).into_up();
        self.given_up = Some(refusal);
        error
    }

    /// What it was given up for.
    pub fn given_up(&mut self) -> Option<Refusal> {
        self.given_up.take()
    }

    /// Keeps an upgrade until Pingora gives the connection back.
    pub fn hand_over(&self, handover: Handover) {
        *self.handover.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(handover));
    }

    /// The upgrade that was kept.
    pub fn take_handover(&self) -> Option<Box<Handover>> {
        self.handover.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether an upgrade is kept.
    pub fn is_handed_over(&self) -> bool {
        self.handover.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// The event of this request.
    pub fn event<'a>(&'a self, session: &'a Session) -> RequestEvent<'a> {
        let head = session.req_header();
        let host = match head.headers.get(http::header::HOST) {
            Some(host) => log::cut(host.as_bytes()),
            None => log::cut(head.uri.authority().map_or("", |authority| authority.as_str()).as_bytes()),
        };
        RequestEvent {
            id: self.id.clone(),
            started: self.started,
            client: self.client(),
            method: log::cut(head.method.as_str().as_bytes()),
            host,
            path: log::cut(head.uri.path().as_bytes()),
            place: self.place,
            workspace: self.workspace.clone(),
            status: session.response_written().map(|written| written.status),
            refusal: self.refusal,
            fault: self.fault.as_deref().map(Cow::Borrowed),
            bytes_sent: u64::try_from(session.body_bytes_sent()).unwrap_or(u64::MAX),
            tunnel_end: None,
        }
    }

    fn client(&self) -> IpAddr {
        let client = self.connection.as_ref().map(|facts| facts.client.ip());
        client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }
}

/// 16 hexadecimal digits: a count, scrambled by a key of this process. Ids need to differ, not to be secret.
pub(crate) fn new_id() -> Arc<str> {
    static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    format!("{:016x}", KEY.hash_one(COUNT.fetch_add(1, Relaxed))).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_response_is_balanced_however_it_ends() {
        let activity = Arc::new(Activity::default());
        let (first, second) = (OpenResponse::new(activity.clone()), OpenResponse::new(activity.clone()));
        assert_eq!(activity.open_responses(), 2);
        drop(first);
        let mut kept = Some(second);
        assert_eq!(activity.open_responses(), 1);
        kept.take();
        assert_eq!(activity.open_responses(), 0);
    }

    #[test]
    fn ids_differ_and_have_sixteen_digits() {
        let (one, other) = (new_id(), new_id());
        assert_ne!(one, other);
        assert!(one.len() == 16 && one.bytes().all(|b| b.is_ascii_hexdigit()), "{one}");
    }
}
