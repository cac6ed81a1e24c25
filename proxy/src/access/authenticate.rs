//! Phase 3: who asks.

use crate::access::route::Place;
use crate::cookies::Found;
use crate::edge::Edge;
use crate::refusal::{Code, Refusal};
use crate::request::{self, Intent, Request};
use crate::session_cookie::{self, Presented};
use control::{Phase, Session, SessionId};
use http::Method;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Somebody whose session is live.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Their session.
    pub session: Arc<Session>,
    /// Its id, to end it.
    pub id: SessionId,
}

/// A cookie younger than this may be of a session that another replica has made and this one has not seen yet.
const FRESH: Duration = Duration::from_secs(10);
/// How long such a session is waited for. Without the wait two replicas bounce a browser for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// The caller by the sealed, host-bound cookie of this place; `None` without a (single, valid, live) one.
/// A request that is use keeps the session from its idle end.
///
/// # Errors
/// Two cookies of that name, to somebody who reads the answer: they count as none, and a browser that keeps
/// sending both would come back from every login without a session. The page heals it.
pub async fn caller(edge: &Edge, place: &Place, request: &Request<'_>) -> Result<Option<Caller>, Refusal> {
    let sealed = match session_cookie::find(place, &request.head.headers) {
        Found::One(sealed) => sealed,
        Found::Many if request.intent().wants_page() => return Err(Refusal::new(Code::CookieTwice)),
        Found::Many | Found::None => return Ok(None),
    };
    let Some(cookie) = session_cookie::open(&edge.keys, place, &request.host, sealed) else {
        return Ok(None);
    };
    let Some(session) = live(edge, cookie).await else { return Ok(None) };
    if is_use(edge, place, request) {
        session.touch();
    }
    Ok(Some(Caller { session, id: cookie.id }))
}

/// The session that a validly sealed cookie or ticket names, if it lives.
pub(crate) async fn live(edge: &Edge, cookie: Presented) -> Option<Arc<Session>> {
    match edge.sessions.lookup(&cookie.id) {
        None if cookie.younger_than(FRESH, SystemTime::now()) => {
            edge.sessions.await_known(&cookie.id, PATIENCE).await
        }
        known => known,
    }
}

/// Whether a request shows that somebody is there: pages' own polling does not.
fn is_use(edge: &Edge, place: &Place, request: &Request<'_>) -> bool {
    let head = &request.head;
    let person = || head.method == Method::POST || request.intent() != Intent::Background;
    match place {
        _ if request::is_speculative(&head.headers) => false,
        Place::Portal => person(),
        Place::Workspace { .. } if request.path.starts_with("/.usher/") => head.method == Method::POST,
        Place::Workspace { id, .. } => {
            match edge.workspaces.lookup(id).as_deref().map(|entry| &entry.phase) {
                Some(Phase::Ready(route)) => {
                    let mut polling = route.template.idle.background.iter();
                    !polling.any(|poll| poll.matches(head.method.as_str(), request.path))
                }
                // An open page of a stopped workspace asks on for ever.
                _ => person(),
            }
        }
    }
}
