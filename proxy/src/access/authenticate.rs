//! Phase 4: who asks.

use crate::access::route::Place;
use crate::cookies::Found;
use crate::edge::Edge;
use crate::identity::{self, Provider};
use crate::machines::Bearer;
use crate::refusal::{Code, Refusal};
use crate::request::{self, Intent, Request};
use crate::session_cookie::{self, Presented};
use config::{Template, TokenScope};
use control::{Phase, Session, SessionId};
use http::Method;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How long a request waits for what a provider says anew.
const PROVIDER_PATIENCE: Duration = Duration::from_secs(3);

/// Somebody whose session is live, or whose token is good.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Their session, or what stands for one.
    pub session: Arc<Session>,
    /// Its id, to end it; of no session where they came by a token.
    pub id: SessionId,
    /// By what token they came; none = as a person, by their browser's cookie.
    pub bearer: Option<Bearer>,
}

impl Caller {
    /// Somebody with a browser.
    pub fn in_person(id: SessionId, session: Arc<Session>) -> Self {
        Self { session, id, bearer: None }
    }

    /// Whether they may do this: a person may, by a token only what it is for.
    ///
    /// # Errors
    /// 403 with what the token lacks.
    pub fn may(&self, scope: TokenScope) -> Result<(), Refusal> {
        self.bearer.map_or(Ok(()), |bearer| bearer.may(scope))
    }

    /// The same caller as they are now; none if they are not here any more.
    pub fn renewed(&self, edge: &Edge) -> Option<Self> {
        let session = match self.bearer {
            None => edge.sessions.lookup(&self.id)?,
            Some(Bearer { token: Some(token), .. }) => {
                edge.tokens.find(token, SystemTime::now())?.session.clone()
            }
            Some(Bearer { token: None, .. }) => self.session.clone(),
        };
        Some(Self { session, ..self.clone() })
    }
}

/// A cookie younger than this may be of a session that another replica has made and this one has not seen yet.
const FRESH: Duration = Duration::from_secs(10);
/// How long such a session is waited for. Without the wait two replicas bounce a browser for ever.
const PATIENCE: Duration = Duration::from_secs(1);

/// The caller by the sealed, host-bound cookie of this place; `None` without a (single, valid, live) one.
///
/// # Errors
/// Two cookies of that name, to somebody who reads the answer: they count as none, and a browser that keeps
/// sending both would come back from every login without a session. The page heals it.
pub async fn caller(edge: &Edge, place: &Place, request: &Request<'_>) -> Result<Option<Caller>, Refusal> {
    let sealed = match session_cookie::find(place, &request.head.headers) {
        Found::One(sealed) => sealed,
        Found::Many if request.intent.wants_page() => return Err(Refusal::new(Code::CookieTwice)),
        Found::Many | Found::None => return Ok(None),
    };
    let Some(cookie) = session_cookie::open(&edge.keys, place, &request.host, sealed) else {
        return Ok(None);
    };
    let Some(session) = live(edge, cookie).await else { return Ok(None) };
    let Some(session) = fresh(edge, cookie.id, session).await else { return Ok(None) };
    Ok(Some(Caller::in_person(cookie.id, session)))
}

/// Keeps the caller's session from its idle end, if the request is use.
pub fn touch(edge: &Edge, place: &Place, caller: Option<&Caller>, request: &Request<'_>) {
    if let Some(caller) = caller
        && is_use(place, ready(edge, place).as_deref(), request)
    {
        caller.session.touch();
    }
}

/// The session that a validly sealed cookie or ticket names, if it lives and its login is still offered.
pub(crate) async fn live(edge: &Edge, cookie: Presented) -> Option<Arc<Session>> {
    let session = match edge.sessions.lookup(&cookie.id) {
        None if cookie.younger_than(FRESH, SystemTime::now()) => {
            edge.sessions.await_known(&cookie.id, PATIENCE).await
        }
        known => known,
    };
    session.filter(|session| identity::is_served(&edge.config.load(), session.provider()))
}

/// The session, once its provider was asked anew where what it said does not hold any more: who came back after hours is
/// not let in on what was true then. Neither a provider nor a store of records that does not answer is waited for, and
/// sessions live on without them.
async fn fresh(edge: &Edge, id: SessionId, session: Arc<Session>) -> Option<Arc<Session>> {
    if !session.is_stale(Instant::now()) {
        return Some(session);
    }
    let provider = session.provider().and_then(|name| edge.providers.get(name));
    if !provider.is_some_and(Provider::answers) || !edge.refresh.can_be_met() {
        return Some(session);
    }
    edge.refresh.ask(id.reference());
    edge.sessions.await_fresh(&id, PROVIDER_PATIENCE).await
}

/// The template of the workspace of this place, if it is ready.
fn ready(edge: &Edge, place: &Place) -> Option<Arc<Template>> {
    let Place::Workspace { id, .. } = place else { return None };
    match &edge.workspaces.lookup(id)?.phase {
        Phase::Ready(route) => Some(Arc::clone(&route.template)),
        _ => None,
    }
}

/// Whether a request shows that somebody is there: the polling of pages does not.
fn is_use(place: &Place, ready: Option<&Template>, request: &Request<'_>) -> bool {
    let (head, changes) = (&request.head, request.head.method == Method::POST);
    if request::is_speculative(&head.headers) {
        return false;
    }
    match (place, ready) {
        (Place::Portal, _) => changes || request.intent != Intent::Background,
        (Place::Workspace { .. }, _) if request.path.starts_with("/.usher/") => changes,
        (Place::Workspace { .. }, Some(template)) => {
            let mut polling = template.idle.background.iter();
            !polling.any(|poll| poll.matches(head.method.as_str(), request.path))
        }
        // An open page of a stopped workspace asks on for ever.
        (Place::Workspace { .. }, None) => request.intent != Intent::Background,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::{Client, head};
    use config::{Config, WorkspaceId};

    const CONFIG: &str = r#"
domain = "lab.localhost"
[[listeners]]
address = ["127.0.0.1:8080"]
[access]
allow = "true"
template = "'demo'"
[templates.demo]
command = ["demo", "{socket}"]
connect = "socket"
background = ["GET /api/kernels*"]
"#;

    const TAB: &[(&str, &str)] = &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")];
    const PREFETCH: &[(&str, &str)] =
        &[("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document"), ("sec-purpose", "prefetch")];
    const FETCH: &[(&str, &str)] = &[("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")];

    #[test]
    fn a_session_is_kept_by_a_person_and_not_by_what_polls() {
        let config = Config::parse("test.toml", CONFIG, &|_| None).unwrap();
        let template = config.templates.values().next().unwrap();
        let workspace = Place::Workspace { id: WorkspaceId::parse("alice").unwrap(), port: None };
        let (portal, runs, rests) = ((&Place::Portal, false), (&workspace, true), (&workspace, false));
        for ((place, ready), method, path, headers, expected) in [
            (portal, "GET", "/", TAB, true),
            (portal, "GET", "/api/v1/workspaces", FETCH, false),
            (portal, "POST", "/api/v1/workspaces/alice/stop", FETCH, true),
            (runs, "GET", "/lab", TAB, true),
            (runs, "GET", "/lab", PREFETCH, false),
            (runs, "GET", "/files/a", FETCH, true),
            (runs, "GET", "/api/kernels/1", FETCH, false),
            (runs, "POST", "/api/kernels", FETCH, true),
            (runs, "GET", "/.usher/status", FETCH, false),
            (runs, "POST", "/.usher/extend", FETCH, true),
            (rests, "GET", "/lab", TAB, true),
            (rests, "GET", "/files/a", FETCH, false),
            (rests, "GET", "/files/a", &[], true),
        ] {
            let head = head(method, "alice.lab.localhost", path, headers);
            let client = Client::plain();
            let request = Request::parse(&head, &client.0).unwrap();
            let ready = ready.then_some(&**template);
            assert_eq!(
                is_use(place, ready, &request),
                expected,
                "{method} {path} {headers:?} ready {ready:?}"
            );
        }
    }
}
