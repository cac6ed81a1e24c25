//! `/auth/<provider>/…`: a login by an identity provider.
//!
//! ```text
//! /auth/lab/login?return=…                 sets the try's cookie; leads to the provider with a sealed state
//! the provider, its pages                  leads back with a code and the state
//! /auth/lab/callback?code=…&state=…        cookie fits state, state not used before, code redeemed: a session
//! /login?return=…                          goes on from there, as after any login
//! ```

use super::answer;
use super::login::{Begun, Entering, Failure};
use super::onward::Onward;
use crate::edge::Edge;
use crate::handoff::{self, Kind};
use crate::identity::{self, Provider};
use crate::metrics::LoginResult;
use crate::own::Asked;
use crate::page::{Page, escape};
use crate::refusal::{Code, Refusal};
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::response::Response;
use http::header::SET_COOKIE;
use http::{HeaderMap, StatusCode, Uri};
use std::sync::Arc;
use std::time::SystemTime;

/// What somebody has to read who could not be let in, in characters of the provider's own.
const SAID: usize = 256;

/// The address by which a provider leads back.
fn redirect_address(asked: &Asked, provider: &Provider) -> String {
    let portal = asked.connection.listener.origin(asked.config.portal.as_str());
    format!("{portal}/auth/{}/callback", provider.told.name)
}

/// `GET /auth/<provider>/login`: on to the provider.
pub(super) async fn depart(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    Path(name): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let Some(provider) = edge.providers.get(&name) else { return unknown(&asked) };
    let now = SystemTime::now();
    let onward = Onward::parse(&asked.config, &asked.connection.listener, uri.query().unwrap_or_default());
    if let Some(caller) = &asked.own.caller {
        return onward.go(&edge, &asked, caller, now);
    }
    let back = onward.login(&asked.connection.listener);
    if !handoff::keeps_cookies(&asked.connection.listener, &asked.host) {
        return handoff::cookie_dropped(&asked, &back);
    }
    let (mut begun, cookies) = Begun::begin(onward, &headers, now);
    begun.provider = Some((provider.told.name.clone(), identity::Secrets::new()));
    let state = begun.seal(&edge.keys, &asked);
    let Some((_, secrets)) = &begun.provider else { return unknown(&asked) };
    let to = match provider.begin(&redirect_address(&asked, provider), &state, secrets) {
        Ok(to) => to,
        Err(failure) => return failed(&edge, &asked, provider, &failure, &back),
    };
    // By a page of ours, whose script keeps the fragment: no provider gets it, and it is there on the way back.
    let body = format!(
        "<h1>On to {}</h1><p class=\"lead\">Your login is there.</p>\
         <p class=\"actions\"><a id=\"on\" class=\"button\" href=\"{}\" data-state=\"{}\">Go on</a></p>",
        escape(&provider.told.title),
        escape(&to),
        escape(&begun.attempt.to_text()),
    );
    let page = Page { title: "Log in", body: &body, scripts: &["/assets/depart.js"], next: Some(&to), ..Page::default() };
    let mut response = answer::page(&asked, StatusCode::OK, page);
    response.headers_mut().extend(cookies.into_iter().map(|cookie| (SET_COOKIE, cookie)));
    response
}

/// `POST /auth/<provider>/callback`: a provider that answers by a form. Our cookies stay away from a form of another site,
/// and come with the redirect.
pub(super) async fn arrive_by_form(Path(name): Path<String>, body: Bytes) -> Response {
    let fields = form_urlencoded::parse(&body).filter(|(key, _)| ANSWER.contains(&&**key));
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(fields);
    handoff::redirect(&format!("/auth/{name}/callback?{}", query.finish()), [])
}

/// What a provider's answer says (RFC 6749 §4.1.2, RFC 9207 §2).
const ANSWER: [&str; 5] = ["code", "state", "iss", "error", "error_description"];

/// `GET /auth/<provider>/callback`: back from the provider.
pub(super) async fn arrive(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    Path(name): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    let Some(provider) = edge.providers.get(&name) else { return unknown(&asked) };
    let query = uri.query().unwrap_or_default();
    let (result, response) = match log_in(&edge, &asked, provider, &headers, query).await {
        Ok(response) => (LoginResult::Accepted, response),
        Err(failure) => failure,
    };
    edge.metrics.login(result);
    response
}

async fn log_in(
    edge: &Edge,
    asked: &Asked,
    provider: &Provider,
    headers: &HeaderMap,
    query: &str,
) -> Result<Response, Failure> {
    let listener = &asked.connection.listener;
    let now = SystemTime::now();
    let one = |key: &str| {
        let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(name, _)| name == key);
        let first = values.next().map(|(_, value)| value.into_owned());
        first.filter(|_| values.next().is_none())
    };
    let stale = || (LoginResult::Failed, super::login::stale(asked, "/login"));
    let begun = one("state").and_then(|state| Begun::open(&edge.keys, asked, &state)).ok_or_else(stale)?;
    let back = begun.onward.login(listener);
    let left = begun.left(now).ok_or_else(stale)?;
    if !begun.attempt.is_of(Kind::Login, headers) {
        return Err((LoginResult::Failed, handoff::cookie_dropped(asked, &back)));
    }
    // Of another provider's try: its answer was sent here (mix-up).
    let Some((name, secrets)) = begun.provider else { return Err(stale()) };
    let refuse = |failure: &identity::Failure| (LoginResult::Failed, failed(edge, asked, provider, failure, &back));
    if name != provider.told.name {
        return Err(refuse(&identity::Failure::Wrong("the answer belongs to another provider".to_owned())));
    }
    provider.is_sender(one("iss").as_deref()).map_err(|failure| refuse(&failure))?;
    match edge.tickets.redeem(&begun.attempt.to_bytes(), left).await {
        Ok(true) => {}
        // The second of two clicks: the first one's session may be there already.
        Ok(false) => return Err((LoginResult::Failed, handoff::redirect(&back, []))),
        Err(error) => return Err((LoginResult::Failed, super::login::store_failed(&error))),
    }
    if let Some(error) = one("error") {
        let said = one("error_description").unwrap_or(error);
        let said: String = said.chars().filter(|character| !character.is_control()).take(SAID).collect();
        return Err(refuse(&identity::Failure::Refused(said)));
    }
    let code = one("code").ok_or_else(stale)?;
    let handed = provider.redeem(&code, &redirect_address(asked, provider), secrets).await;
    let handed = handed.map_err(|failure| refuse(&failure))?;
    let entering = Entering::handed(asked, provider, handed).map_err(|refusal| super::login::denied(asked, &refusal))?;
    let cookies = [begun.attempt.end(Kind::Login), entering.enter(edge, asked, now).await?];
    Ok(handoff::redirect(&back, cookies))
}

fn unknown(asked: &Asked) -> Response {
    answer::refuse(asked, &Refusal::new(Code::NotFound))
}

/// The page of a login that came to nothing, and the log's line about it.
fn failed(edge: &Edge, asked: &Asked, provider: &Provider, failure: &identity::Failure, back: &str) -> Response {
    let _ = edge;
    let title = &provider.told.title;
    let (status, text) = match failure {
        identity::Failure::Away(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("{title} does not answer. Whoever is logged in stays so."))
        }
        identity::Failure::Refused(said) => (StatusCode::FORBIDDEN, format!("{title} says: {said}")),
        identity::Failure::Wrong(_) => {
            (StatusCode::BAD_GATEWAY, format!("The answer of {title} is not to be believed. Nothing was changed."))
        }
        identity::Failure::Client(_) => {
            (StatusCode::BAD_GATEWAY, format!("{title} does not know this installation. Its operator has to look."))
        }
    };
    tracing::warn!(login.provider = %provider.told.name, error = %failure, "a login came to nothing");
    answer::say(asked, status, "You could not be logged in", &text, (back, "Try again"))
}
