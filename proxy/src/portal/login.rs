//! `/login`: by the development login for now, which believes whatever name is typed.

mod form;

use super::answer;
use super::fields::{Fields, is_from_here};
use super::onward::Onward;
use crate::access::authorise;
use crate::edge::{Edge, ListenerFacts};
use crate::handoff::{self, Kind};
use crate::metrics::LoginResult;
use crate::own::Asked;
use crate::refusal::{Code, Refusal};
use crate::session_cookie;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::response::Response;
use config::{Config, RequestFacts, Subject};
use control::{Identity, NewSession, RecordError, SessionId};
use form::Form;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use std::sync::Arc;
use std::time::SystemTime;

/// The longest name that is believed, in characters.
const NAME_MAX: usize = 64;

/// `GET /login`: the form; for somebody who is logged in, on to where the login leads.
pub(super) async fn show(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let now = SystemTime::now();
    let query = uri.query().unwrap_or_default();
    let onward = Onward::parse(&asked.config, &asked.connection.listener, query);
    if let Some(caller) = &asked.own.caller {
        return onward.go(&edge, &asked, caller, now);
    }
    impossible(&asked)
        .unwrap_or_else(|| Form::begin(onward, &headers, now).page(&edge.keys, &asked, "", None))
}

/// `POST /login`: a name was typed.
pub(super) async fn submit(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(page) = impossible(&asked) {
        return page;
    }
    let client = asked.connection.client.ip();
    if let Err(refusal) = edge.limits.login(&asked.config, client) {
        return answer::refuse(&asked, &refusal);
    }
    let (result, response) = match log_in(&edge, &asked, &headers, &body, SystemTime::now()).await {
        Ok(response) => (LoginResult::Accepted, response),
        Err((result, response)) => match edge.limits.hold_failure(client).await {
            Ok(()) => (result, response),
            Err(refusal) => (result, answer::refuse(&asked, &refusal)),
        },
    };
    edge.metrics.login(result);
    response
}

/// Whether the development login is served to whoever comes by this listener.
pub fn is_development_served(config: &Config, listener: &ListenerFacts) -> bool {
    config.login.development && (listener.loopback || config.login.development_from_anywhere_unsafe)
}

/// The page that says why nobody can log in here, if so.
fn impossible(asked: &Asked) -> Option<Response> {
    let listener = &asked.connection.listener;
    if !handoff::keeps_cookies(listener, &asked.host) {
        return Some(handoff::cookie_dropped(asked, "/login"));
    }
    if is_development_served(&asked.config, listener) {
        return None;
    }
    let text = if asked.config.login.development {
        "The development login is served on loopback addresses only, and no other login is configured."
    } else {
        "No login is configured; the operator does that in [login]."
    };
    let link = ("/login", "Look again");
    Some(answer::say(asked, StatusCode::SERVICE_UNAVAILABLE, "Nobody can log in here", text, link))
}

/// How a login failed, and what the person is told.
type Failure = (LoginResult, Response);

async fn log_in(
    edge: &Edge,
    asked: &Asked,
    headers: &HeaderMap,
    body: &[u8],
    now: SystemTime,
) -> Result<Response, Failure> {
    let listener = &asked.connection.listener;
    let failed = |response| (LoginResult::Failed, response);
    if !is_from_here(asked, headers) {
        return Err(failed(answer::refuse(asked, &Refusal::new(Code::CrossOrigin))));
    }
    let fields = Fields::parse(headers, body).unwrap_or_default();
    let form = fields.one("state").and_then(|state| Form::open(&edge.keys, asked, state));
    let form = form.ok_or_else(|| failed(stale(asked, "/login")))?;
    let left = form.left(now).ok_or_else(|| failed(stale(asked, &form.onward.login(listener))))?;
    if !form.attempt.is_of(Kind::Login, headers) {
        return Err(failed(handoff::cookie_dropped(asked, &form.onward.login(listener))));
    }
    let typed = fields.one("name").unwrap_or_default();
    let Some(name) = believable(typed) else {
        let problem = "Type a name of 1 to 64 characters.";
        return Err(failed(form.page(&edge.keys, asked, typed, Some(problem))));
    };
    // Asked before the form is used up, which leaves a record: who may not enter leaves none, however often they try.
    // They could send the form again, and it would still log in one time at most.
    let entering = Entering::allowed(asked, name).map_err(|refusal| denied(asked, &refusal))?;
    match edge.tickets.redeem(&form.attempt.to_bytes(), left).await {
        Ok(true) => {}
        // The second of two clicks: the first one's session may be there already.
        Ok(false) => return Err(failed(handoff::redirect(&form.onward.login(listener), []))),
        Err(error) => return Err(failed(store_failed(&error))),
    }
    let mut cookies = vec![form.attempt.end(Kind::Login)];
    if let Some(entering) = entering {
        cookies.push(entering.enter(edge, asked, now).await?);
    }
    // By way of the login, which makes tickets of the session that this browser then really holds: tabs that
    // log in side by side overwrite each other's cookie.
    Ok(handoff::redirect(&form.onward.login(listener), cookies))
}

/// Somebody whom the operator's rules let in.
struct Entering {
    identity: Identity,
    subject: Subject,
    /// The label that the rules want for them.
    wanted: String,
}

impl Entering {
    /// By the rules, for a name; none if this browser has a session of that name.
    fn allowed(asked: &Asked, name: &str) -> Result<Option<Self>, Refusal> {
        let identity = Identity { issuer: Identity::DEVELOPMENT.to_owned(), subject: name.to_owned() };
        if asked.own.caller.as_ref().is_some_and(|caller| caller.session.identity == identity) {
            return Ok(None);
        }
        let (issuer, subject) = (identity.issuer.clone(), identity.subject.clone());
        let subject = Subject { issuer, subject, name: name.to_owned(), ..Subject::default() };
        let facts = authorise::facts(&asked.host, "POST", "/login", &asked.connection);
        let wanted = label_by_rules(&asked.config, &subject, &facts)?;
        Ok(Some(Self { identity, subject, wanted }))
    }

    /// Makes their session: its cookie. The one that was this browser's ends.
    async fn enter(self, edge: &Edge, asked: &Asked, now: SystemTime) -> Result<HeaderValue, Failure> {
        let Self { identity, subject, wanted } = self;
        let display_name = subject.name.clone();
        let new = |label| NewSession { identity: identity.clone(), label, display_name, subject };
        let id = match record(edge, &identity, &wanted, new).await {
            Ok(id) => id,
            Err(error) => return Err((LoginResult::Failed, store_failed(&error))),
        };
        if let Some(other) = &asked.own.caller
            && let Err(error) = edge.sessions.end(&other.id).await
        {
            tracing::error!(error = %error, "the session of the person who was here before could not be ended");
        }
        Ok(session_cookie::issue(&edge.keys, &asked.own.place, &asked.host, id, now))
    }
}

async fn record(
    edge: &Edge,
    identity: &Identity,
    wanted: &str,
    new: impl FnOnce(config::Label) -> NewSession,
) -> Result<SessionId, RecordError> {
    let (_, label) = edge.users.enter(identity, wanted).await?;
    tracing::info!(user.label = %label, login.method = "development", "somebody logged in");
    let new = new(label);
    if let Err(error) = edge.users.remember(identity, &new.subject).await {
        // It is for what starts before they come: no reason to keep them out now.
        tracing::warn!(%error, "how somebody was at their login could not be written down");
    }
    edge.sessions.create(new).await.map(|(id, _)| id)
}

/// The label that the rules want for somebody who may enter.
fn label_by_rules(config: &Config, subject: &Subject, facts: &RequestFacts) -> Result<String, Refusal> {
    let rules = &config.access;
    let failed = |rule| move |error| authorise::rule_failed(rule, &error);
    if !rules.allow.evaluate(subject, facts).map_err(failed("access.allow"))? {
        return Err(Refusal::new(Code::NotAllowed));
    }
    rules.label.evaluate(subject, facts).map_err(failed("access.label"))
}

/// A name as it was typed, without the space around it.
fn believable(typed: &str) -> Option<&str> {
    let name = typed.trim();
    let length = name.chars().count();
    ((1..=NAME_MAX).contains(&length) && !name.chars().any(char::is_control)).then_some(name)
}

fn stale(asked: &Asked, login: &str) -> Response {
    let text = "This login page stood open for too long, or is not ours. Nothing was changed.";
    answer::say(asked, StatusCode::BAD_REQUEST, "Log in again", text, (login, "Log in"))
}

fn denied(asked: &Asked, refusal: &Refusal) -> Failure {
    let row = refusal.code.row();
    tracing::info!(refusal.reason = row.code, "a login was denied");
    let link = ("/login", "Log in as somebody else");
    (LoginResult::Denied, answer::say(asked, row.status, "You may not enter", refusal.sentence(), link))
}

fn store_failed(error: &RecordError) -> Response {
    tracing::error!(error = %error, "a login could not be written down");
    handoff::unavailable()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_believed_if_it_is_one_short_line() {
        let long = "x".repeat(NAME_MAX);
        for (typed, name) in [
            ("alice", Some("alice")),
            ("  Ada Lovelace ", Some("Ada Lovelace")),
            ("\u{5d0}\u{5d1}", Some("\u{5d0}\u{5d1}")),
            (&long, Some(long.as_str())),
            (&format!("{long}x"), None),
            ("", None),
            ("   ", None),
            ("a\nb", None),
            ("a\u{0}b", None),
        ] {
            assert_eq!(believable(typed), name, "{typed:?}");
        }
    }
}
