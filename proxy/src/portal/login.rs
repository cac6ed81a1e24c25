//! `/login`: by an identity provider (`provider`), or by whatever name is typed (`development`).
//!
//! Either way it is a try (`begun`) that one browser makes once, and it ends with somebody who may enter (`entering`).

mod begun;
mod development;
mod entering;
mod provider;

pub(super) use development::submit;
pub(super) use provider::{arrive, arrive_by_form, depart};

use super::answer;
use super::onward::Onward;
use crate::audit::{Entry, Event, Reason};
use crate::edge::Edge;
use crate::handoff;
use crate::identity::Provider;
use crate::metrics::LoginResult;
use crate::own::Asked;
use crate::page::{Page, escape};
use crate::refusal::Refusal;
use axum::extract::{Extension, State};
use axum::response::Response;
use begun::Begun;
use control::{Identity, RecordError};
use development::is_development_served;
use http::header::SET_COOKIE;
use http::{HeaderMap, StatusCode, Uri};
use std::sync::Arc;
use std::time::SystemTime;

/// How a login ended before somebody was in, and what the person is told.
struct Ended {
    result: LoginResult,
    entry: Entry,
    response: Response,
}

type NotIn = Box<Ended>;

/// A login that could not be judged.
fn failed(entry: Entry, response: Response) -> NotIn {
    Box::new(Ended { result: LoginResult::Failed, entry, response })
}

/// The same, since what was brought is not to be believed.
fn refused(reason: Reason, response: Response) -> NotIn {
    failed(Entry::refused(Event::Login, reason), response)
}

/// `GET /login`: the ways in, or the only one; for somebody who is logged in, on to where the login leads.
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
    if let Some(page) = impossible(&edge, &asked) {
        return page;
    }
    let development = is_development_served(&asked.config, &asked.connection);
    let mut providers = edge.providers.all();
    match (providers.next(), providers.next()) {
        (Some(only), None) if !development => handoff::redirect(
            &departure(only, &onward.query(&asked.connection.listener), is_another(query)),
            [],
        ),
        _ => choose(&edge, &asked, onward, is_another(query), &headers, now),
    }
}

/// Makes a try that counts against the address that it comes from, and takes its time if it comes to nothing.
async fn attempted(
    edge: &Edge,
    asked: &Asked,
    provider: Option<&str>,
    attempt: impl Future<Output = Result<Response, NotIn>>,
) -> Response {
    let client = asked.connection.client.ip();
    if let Err(refusal) = edge.limits.login(&asked.config, client) {
        return answer::refuse(asked, &refusal);
    }
    let (result, response) = match attempt.await {
        Ok(response) => (LoginResult::Accepted, response),
        Err(not_in) => {
            let Ended { result, entry, response } = *not_in;
            edge.audit.record(entry.asked(asked).provider(provider));
            match edge.limits.hold_failure(client).await {
                Ok(()) => (result, response),
                Err(refusal) => (result, answer::refuse(asked, &refusal)),
            }
        }
    };
    edge.metrics.login(result);
    response
}

/// The page that says why nobody can log in here, if so.
fn impossible(edge: &Edge, asked: &Asked) -> Option<Response> {
    if !handoff::keeps_cookies(&asked.connection.listener, &asked.host) {
        return Some(handoff::cookie_dropped(asked, "/login"));
    }
    if is_development_served(&asked.config, &asked.connection) || edge.providers.all().next().is_some() {
        return None;
    }
    let text = if asked.config.login.development {
        "The development login is served to this machine only, and no other login is configured."
    } else {
        "No login is configured; the operator does that in [login]."
    };
    let link = ("/login", "Look again");
    Some(answer::say(asked, StatusCode::SERVICE_UNAVAILABLE, "Nobody can log in here", text, link))
}

/// Whether somebody wants to be somebody else than the provider may still know them as.
fn is_another(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).any(|(key, value)| key == "as" && value == "another")
}

/// Where a login by a provider begins.
fn departure(provider: &Provider, query: &str, another: bool) -> String {
    let parts = [Some(query).filter(|query| !query.is_empty()), another.then_some("as=another")];
    let query = parts.into_iter().flatten().collect::<Vec<_>>().join("&");
    let path = format!("/auth/{}/login", provider.told.name);
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

/// The page with all ways in.
fn choose(
    edge: &Edge,
    asked: &Asked,
    onward: Onward,
    another: bool,
    headers: &HeaderMap,
    now: SystemTime,
) -> Response {
    let departure = |provider| departure(provider, &onward.query(&asked.connection.listener), another);
    let buttons: String =
        edge.providers.all().map(|provider| button(provider, &departure(provider))).collect();
    let heading = if buttons.is_empty() { "Who are you?" } else { "Log in" };
    let mut body = format!("<h1>{heading}</h1><p class=\"lead\">{}</p>{buttons}", onward.purpose());
    let mut cookies = vec![];
    if is_development_served(&asked.config, &asked.connection) {
        let (begun, set) = Begun::begin(onward, headers, now);
        body.push_str(&development::form(&begun, &edge.keys, asked, "", None));
        cookies = set;
    }
    let page = Page { title: "Log in", body: &body, scripts: &["/assets/login.js"], ..Page::default() };
    let mut response = answer::page(asked, StatusCode::OK, page);
    response.headers_mut().extend(cookies.into_iter().map(|cookie| (SET_COOKIE, cookie)));
    response
}

/// A way in by a provider. One that does not answer can be tried: it may do so by now.
fn button(provider: &Provider, departure: &str) -> String {
    let away =
        if provider.is_there() { "" } else { "<p class=\"note\">It does not answer at the moment.</p>" };
    format!(
        "<p class=\"actions\"><a class=\"button\" data-departure href=\"{}\">Log in with {}</a></p>{away}",
        escape(departure),
        escape(&provider.told.title),
    )
}

fn stale(asked: &Asked, login: &str) -> Response {
    let text = "This login page stood open for too long, or is not ours. Nothing was changed.";
    answer::say(asked, StatusCode::BAD_REQUEST, "Log in again", text, (login, "Log in"))
}

fn denied(asked: &Asked, who: &Identity, refusal: &Refusal) -> NotIn {
    let row = refusal.code.row();
    tracing::info!(refusal.reason = row.code, "a login was denied");
    let link = ("/login?as=another", "Log in as somebody else");
    Box::new(Ended {
        result: LoginResult::Denied,
        entry: Entry::refused(Event::Login, Reason::NotAdmitted).actor(who.as_ref(), None),
        response: answer::say(asked, row.status, "You may not enter", refusal.sentence(), link),
    })
}

fn store_failed(error: &RecordError) -> NotIn {
    tracing::error!(error = %error, "a login could not be written down");
    failed(Entry::failed(Event::Login, Reason::Records), handoff::unavailable())
}
