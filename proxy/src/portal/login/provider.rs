//! `/auth/<provider>/…`: a login by an identity provider.
//!
//! ```text
//! /auth/lab/login?return=…                 sets the try's cookie; leads to the provider with a sealed state
//! the provider, its pages                  leads back with a code and the state
//! /auth/lab/callback?code=…&state=…        cookie fits state, state not used before, code redeemed: a session
//! /login?return=…                          goes on from there, as after any login
//! ```

use super::entering::Entering;
use super::{Begun, NotIn, attempted, failed, refused, stale, store_failed};
use crate::audit::{self, Entry, Event, Reason};
use crate::edge::Edge;
use crate::handoff::{self, Kind};
use crate::identity::{self, Failure, Handed, Provider};
use crate::own::Asked;
use crate::page::{Page, escape};
use crate::portal::answer;
use crate::portal::onward::Onward;
use crate::refusal::{Code, Refusal};
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::response::Response;
use http::header::SET_COOKIE;
use http::{HeaderMap, StatusCode, Uri};
use std::sync::Arc;
use std::time::SystemTime;

/// What a provider's answer says (RFC 6749 §4.1.2, RFC 9207 §2).
const ANSWER: [&str; 5] = ["code", "state", "iss", "error", "error_description"];

/// `GET /auth/<provider>/login`: on to the provider.
pub(in crate::portal) async fn depart(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    Path(name): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let Some(provider) = edge.providers.get(&name) else { return unknown(&asked) };
    if let Err(refusal) = permitted(&edge, &asked, provider) {
        return answer::refuse(&asked, &refusal);
    }
    let (now, query) = (SystemTime::now(), uri.query().unwrap_or_default());
    let onward = Onward::parse(&asked.config, &asked.connection.listener, query);
    if let Some(caller) = &asked.own.caller {
        return onward.go(&edge, &asked, caller, now);
    }
    let back = onward.login(&asked.connection.listener);
    if !handoff::keeps_cookies(&asked.connection.listener, &asked.host) {
        return handoff::cookie_dropped(&asked, &back);
    }
    let (mut begun, cookies) = Begun::begin(onward, &headers, now);
    let secrets = identity::Secrets::new();
    begun.provider = Some((provider.told.name.clone(), secrets.clone()));
    let (redirect, state) = (redirect_address(&asked, provider), begun.seal(&edge.keys, &asked));
    let to = match provider.begin(&redirect, &state, &secrets, super::is_another(query)) {
        Ok(to) => to,
        Err(failure) => {
            let entry = audit::of_failure(Event::Login, &failure).asked(&asked);
            edge.audit.record(entry.provider(Some(provider.told.name.as_str())));
            return in_vain(&asked, provider, &failure, &back);
        }
    };
    let mut response = leave(&asked, provider, &begun, &to);
    response.headers_mut().extend(cookies.into_iter().map(|cookie| (SET_COOKIE, cookie)));
    response
}

/// The page that leads to the provider. Its script keeps the fragment: the provider does not get it, and it is there on
/// the way back.
fn leave(asked: &Asked, provider: &Provider, begun: &Begun, to: &str) -> Response {
    let body = format!(
        "<h1>On to {}</h1><p class=\"lead\">You log in there.</p>\
         <p class=\"actions\"><a id=\"on\" class=\"button\" href=\"{}\" data-try=\"{}\">Go on</a></p>",
        escape(&provider.told.title),
        escape(to),
        begun.attempt.name(),
    );
    let (scripts, next) = (&["/assets/depart.js"][..], Some(to));
    answer::page(
        asked,
        StatusCode::OK,
        Page { title: "Log in", body: &body, scripts, next, ..Page::default() },
    )
}

/// The page that leads on from the provider, with the fragment that was kept.
fn come_back(asked: &Asked, begun: &Begun, back: &str) -> Response {
    let body = format!(
        "<h1>You are logged in</h1>\
         <p class=\"actions\"><a id=\"on\" class=\"button\" href=\"{}\" data-try=\"{}\">Go on</a></p>",
        escape(back),
        begun.attempt.name(),
    );
    let (scripts, next) = (&["/assets/arrive.js"][..], Some(back));
    answer::page(
        asked,
        StatusCode::OK,
        Page { title: "Logged in", body: &body, scripts, next, ..Page::default() },
    )
}

/// `POST /auth/<provider>/callback`: a provider that answers by a form. Our cookies stay away from a form of another site,
/// and come with the redirect.
pub(in crate::portal) async fn arrive_by_form(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    Path(name): Path<String>,
    body: Bytes,
) -> Response {
    let Some(provider) = edge.providers.get(&name) else { return unknown(&asked) };
    let fields = form_urlencoded::parse(&body).filter(|(key, _)| ANSWER.contains(&&**key));
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(fields);
    handoff::redirect(&format!("/auth/{}/callback?{}", provider.told.name, query.finish()), [])
}

/// `GET /auth/<provider>/callback`: back from the provider.
pub(in crate::portal) async fn arrive(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    Path(name): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let Some(provider) = edge.providers.get(&name) else { return unknown(&asked) };
    if let Err(refusal) = permitted(&edge, &asked, provider) {
        return answer::refuse(&asked, &refusal);
    }
    let answer = Answer(uri.query().unwrap_or_default());
    let name = Some(provider.told.name.as_str());
    attempted(&edge, &asked, name, log_in(&edge, &asked, provider, &headers, answer)).await
}

/// Whether the provider is open to the address that asks.
fn permitted(edge: &Edge, asked: &Asked, provider: &Provider) -> Result<(), Refusal> {
    if provider.told.permits(asked.connection.client.ip()) {
        return Ok(());
    }
    let entry = Entry::refused(Event::Login, Reason::AddressNotAllowed).asked(asked);
    edge.audit.record(entry.provider(Some(provider.told.name.as_str())));
    Err(Refusal::new(Code::AddressNotAllowed))
}

async fn log_in(
    edge: &Edge,
    asked: &Asked,
    provider: &Provider,
    headers: &HeaderMap,
    answer: Answer<'_>,
) -> Result<Response, NotIn> {
    let now = SystemTime::now();
    let mut begun = belonging(edge, asked, headers, answer, now)?;
    let back = begun.onward.login(&asked.connection.listener);
    let redeemed = redeem(edge, asked, provider, &mut begun, answer, now).await;
    let handed = redeemed.map_err(|why| match why {
        Worthless::Failed(failure) => {
            failed(audit::of_failure(Event::Login, &failure), in_vain(asked, provider, &failure, &back))
        }
        // The second of two clicks: the first one's session may be there already.
        Worthless::Used => refused(Reason::Replayed, handoff::redirect(&back, [])),
        Worthless::Unknown(error) => store_failed(&error),
    })?;
    let entering = Entering::by_provider(edge, asked, headers, &provider.told.name, handed).await?;
    let cookies = [begun.attempt.end(Kind::Login), entering.enter(edge, asked, now).await?];
    let mut response = match begun.attempt.kept_fragment(headers) {
        Some(forget) => {
            let mut page = come_back(asked, &begun, &back);
            page.headers_mut().append(SET_COOKIE, forget);
            page
        }
        None => handoff::redirect(&back, []),
    };
    response.headers_mut().extend(cookies.map(|cookie| (SET_COOKIE, cookie)));
    Ok(response)
}

/// The try that an answer belongs to, if this browser began it and it has not ended.
fn belonging(
    edge: &Edge,
    asked: &Asked,
    headers: &HeaderMap,
    answer: Answer<'_>,
    now: SystemTime,
) -> Result<Begun, NotIn> {
    let state = answer.one("state").and_then(|state| Begun::open(&edge.keys, asked, &state));
    let begun = state.ok_or_else(|| refused(Reason::BadState, stale(asked, "/login")))?;
    let back = begun.onward.login(&asked.connection.listener);
    if begun.left(now).is_none() {
        return Err(refused(Reason::Expired, stale(asked, &back)));
    }
    if begun.attempt.is_of(Kind::Login, headers) {
        return Ok(begun);
    }
    // With a session it is somebody who came back here after their login: on, and nothing is looked at again.
    let response = match asked.own.caller {
        Some(_) => handoff::redirect(&back, []),
        None => handoff::cookie_dropped(asked, &back),
    };
    Err(refused(Reason::OtherBrowser, response))
}

/// Why an answer is worth no session.
enum Worthless {
    /// The provider's doing.
    Failed(Failure),
    /// It was presented before.
    Used,
    /// Whether it was presented before cannot be told.
    Unknown(control::RecordError),
}

impl From<Failure> for Worthless {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What a provider's answer is worth, once.
async fn redeem(
    edge: &Edge,
    asked: &Asked,
    provider: &Provider,
    begun: &mut Begun,
    answer: Answer<'_>,
    now: SystemTime,
) -> Result<Handed, Worthless> {
    let Some((_, secrets)) = begun.provider.take().filter(|(name, _)| *name == provider.told.name) else {
        // Of another provider's try: its answer was sent here (mix-up, RFC 9207 §1).
        return Err(Failure::Wrong("the answer belongs to another provider".to_owned()).into());
    };
    provider.is_sender(answer.one("iss").as_deref())?;
    match edge.tickets.redeem(&begun.attempt.to_bytes(), begun.left(now).unwrap_or_default()).await {
        Ok(true) => {}
        Ok(false) => return Err(Worthless::Used),
        Err(error) => return Err(Worthless::Unknown(error)),
    }
    if let Some(error) = answer.one("error") {
        let said = answer.one("error_description").unwrap_or(error);
        return Err(Failure::Refused(identity::short(&said)).into());
    }
    let code = answer.one("code").ok_or_else(|| Failure::Wrong("the answer has no code".to_owned()))?;
    Ok(provider.redeem(&code, &redirect_address(asked, provider), secrets).await?)
}

/// The query of a provider's answer.
#[derive(Clone, Copy)]
struct Answer<'a>(&'a str);

impl Answer<'_> {
    /// A parameter that is there exactly once.
    fn one(self, key: &str) -> Option<String> {
        let mut values = form_urlencoded::parse(self.0.as_bytes()).filter(|(name, _)| name == key);
        let first = values.next().map(|(_, value)| value.into_owned());
        first.filter(|_| values.next().is_none())
    }
}

/// The address by which a provider leads back.
fn redirect_address(asked: &Asked, provider: &Provider) -> String {
    let portal = asked.connection.listener.origin(asked.config.portal.as_str());
    format!("{portal}/auth/{}/callback", provider.told.name)
}

fn unknown(asked: &Asked) -> Response {
    answer::refuse(asked, &Refusal::new(Code::NotFound))
}

/// The page of a login that came to nothing, and the log's line about it.
fn in_vain(asked: &Asked, provider: &Provider, failure: &Failure, back: &str) -> Response {
    tracing::warn!(login.provider = %provider.told.name, error = %failure, "a login came to nothing");
    let title = &provider.told.title;
    let (status, text) = match failure {
        Failure::Away(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{title} does not answer at the moment. Whoever is logged in stays so."),
        ),
        Failure::Refused(said) => (StatusCode::FORBIDDEN, format!("{title} says: {said}")),
        Failure::Wrong(_) => (
            StatusCode::BAD_GATEWAY,
            format!("The answer of {title} is not to be believed. Nothing was changed."),
        ),
        Failure::Client(_) => (
            StatusCode::BAD_GATEWAY,
            format!("{title} does not know this installation. Its operator has to look."),
        ),
    };
    answer::say(asked, status, "You could not be logged in", &text, (back, "Try again"))
}
