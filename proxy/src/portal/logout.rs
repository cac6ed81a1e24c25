//! Logging out: here, everywhere, at the provider; and what a provider says when somebody has logged out there.
//!
//! A session ends everywhere at once: the cookies of all workspaces' hosts name it and die with it, and its sockets are
//! closed. The provider's own session is the provider's: somebody is led there to end it.

use super::{answer, fields};
use crate::audit::{By, Entry, Event, Reason};
use crate::edge::Edge;
use crate::handoff;
use crate::identity::Provider;
use crate::identity::logout::{AGE, BadLogout, Ended};
use crate::own::Asked;
use crate::page::{Page, common_headers, escape};
use crate::refusal::{Code, Refusal};
use crate::session_cookie;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Path, State};
use axum::response::Response;
use config::ProviderLogout;
use control::{IdentityRef, RecordError, TokenSort};
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, SET_COOKIE};
use http::{HeaderMap, StatusCode, Uri};
use std::sync::Arc;
use std::time::SystemTime;

/// `POST /logout`: ends this session, or all of its user.
pub(super) async fn submit(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let cleared = session_cookie::clear(&asked.own.place);
    let Some(caller) = &asked.own.caller else {
        // A foreign page's form comes without the cookie, and must not take it away either.
        let cleared = Some(cleared).filter(|_| fields::is_from_here(&asked, &headers));
        return handoff::redirect("/logged-out", cleared);
    };
    let fields = match fields::of_change(&edge.keys, &asked, caller, &headers, &body) {
        Ok(fields) => fields,
        Err(refusal) => return answer::refuse(&asked, &refusal),
    };
    let provider = caller.session.provider().and_then(|name| edge.providers.get(name));
    let everywhere = fields.one("everywhere") == Some("yes");
    let (ending, reason) = match everywhere {
        true => (edge.sessions.end_all(caller.session.identity()).await, Reason::LogoutEverywhere),
        false if provider.is_some_and(goes_on) => {
            (edge.sessions.end(&caller.id).await, Reason::LogoutWithProvider)
        }
        false => (edge.sessions.end(&caller.id).await, Reason::Logout),
    };
    let entry = Entry::done(Event::SessionEnded).because(reason).asked(&asked).caller(caller);
    edge.audit.ended(&ending, &entry);
    let mut ended = ending.result();
    if everywhere {
        // A login at a command line is one more device; API tokens are no devices.
        let revoking = edge.tokens.revoke_all(caller.session.identity(), Some(TokenSort::Login)).await;
        let entry = Entry::done(Event::TokenRevoked).because(reason).asked(&asked).caller(caller);
        edge.audit.revoked(&revoking, &entry);
        ended = ended.and(revoking.result());
    }
    if let Err(error) = ended {
        // The cookie stays: the session does, and the person can try again.
        return not_ended(&error);
    }
    tracing::info!(user.label = %caller.session.label, everywhere, "somebody logged out");
    let mut response = farewell(&asked, provider);
    response.headers_mut().append(SET_COOKIE, cleared);
    response
}

/// `GET /logged-out`: where a provider leads back to after its own logout.
pub(super) async fn show(Extension(asked): Extension<Asked>) -> Response {
    farewell(&asked, None)
}

/// The page after a logout. Of a provider that still knows the person it says so, and leads there.
fn farewell(asked: &Asked, provider: Option<&Provider>) -> Response {
    let again = "<p class=\"actions\"><a class=\"button second\" href=\"/login\">Log in again</a></p>";
    let exit = provider.filter(|provider| provider.told.logout != ProviderLogout::Never);
    let Some((provider, address)) = exit.and_then(|provider| Some((provider, provider.exit()?))) else {
        let body = format!(
            "<h1>You are logged out</h1><p class=\"lead\">Here, and in all your workspaces.</p>{again}"
        );
        return answer::page(
            asked,
            StatusCode::OK,
            Page { title: "Logged out", body: &body, ..Page::default() },
        );
    };
    let portal = asked.connection.listener.origin(asked.config.portal.as_str());
    // No token of the provider's: it would stand in an address (RP-Initiated Logout 1.0 §2 takes the client's name as well).
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("client_id", &provider.told.client_id)
        .append_pair("post_logout_redirect_uri", &format!("{portal}/logged-out"))
        .finish();
    let separator = if address.contains('?') { '&' } else { '?' };
    let body = format!(
        "<h1>You are logged out</h1>\
         <p class=\"lead\">Here, and in all your workspaces. {title} may still know you in this browser.</p>\
         <p class=\"actions\"><a id=\"leave\" class=\"button\" href=\"{}\">Log out at {title}, too</a></p>{again}",
        escape(&format!("{address}{separator}{query}")),
        title = escape(&provider.told.title),
    );
    let scripts: &[&str] = if goes_on(provider) { &["/assets/leave.js"] } else { &[] };
    answer::page(asked, StatusCode::OK, Page { title: "Logged out", body: &body, scripts, ..Page::default() })
}

/// Whether a logout goes on to the provider's by itself.
fn goes_on(provider: &Provider) -> bool {
    provider.told.logout == ProviderLogout::Always && provider.exit().is_some()
}

/// Scheme and authority of an address.
fn origin(address: &str) -> String {
    let uri: Uri = address.parse().unwrap_or_default();
    format!(
        "{}://{}",
        uri.scheme_str().unwrap_or("https"),
        uri.authority().map_or("", |authority| authority.as_str())
    )
}

fn not_ended(error: &RecordError) -> Response {
    tracing::error!(%error, "a session could not be ended");
    handoff::unavailable()
}

/// `POST /auth/<provider>/backchannel-logout` (OpenID Connect Back-Channel Logout 1.0 §2.8): whoever holds a token that the
/// provider has signed may end what it names.
pub(super) async fn by_provider(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    Path(name): Path<String>,
    body: Bytes,
) -> Response {
    let Some(provider) = edge.providers.get(&name) else {
        return answer::refuse(&asked, &Refusal::new(Code::NotFound));
    };
    let mut tokens = form_urlencoded::parse(&body).filter(|(key, _)| key == "logout_token");
    let (Some((_, token)), None) = (tokens.next(), tokens.next()) else {
        return told(StatusCode::BAD_REQUEST, "the body has no logout_token, or several");
    };
    let ended = match provider.ended(&token, SystemTime::now()).await {
        Ok(ended) => ended,
        Err(bad) => {
            tracing::warn!(login.provider = %provider.told.name, error = %bad, "a logout token was refused");
            let refused = Entry::refused(Event::ProviderLogout, Reason::BadToken);
            edge.audit.record(of_provider(
                match bad {
                    BadLogout::Provider(_) => refused.but_failed(Reason::ProviderUnreachable),
                    BadLogout::Token(_) | BadLogout::Claim(_) => refused,
                },
                &asked,
                provider,
            ));
            let status = match bad {
                BadLogout::Provider(_) => StatusCode::SERVICE_UNAVAILABLE,
                BadLogout::Token(_) | BadLogout::Claim(_) => StatusCode::BAD_REQUEST,
            };
            return told(status, &bad.to_string());
        }
    };
    match end(&edge, &asked, provider, &ended).await {
        Ok(true) => told(StatusCode::OK, ""),
        Ok(false) => {
            let replayed = Entry::refused(Event::ProviderLogout, Reason::Replayed);
            edge.audit.record(of_provider(replayed, &asked, provider));
            told(StatusCode::BAD_REQUEST, "this logout token was used before")
        }
        Err(error) => {
            let failed = Entry::failed(Event::ProviderLogout, Reason::Records);
            edge.audit.record(of_provider(failed, &asked, provider));
            tracing::error!(%error, "what a provider has ended could not be ended here");
            told(StatusCode::SERVICE_UNAVAILABLE, "the sessions could not be ended; send it again")
        }
    }
}

fn of_provider(entry: Entry, asked: &Asked, provider: &Provider) -> Entry {
    entry.by(By::Provider).asked(asked).provider(Some(provider.told.name.as_str()))
}

/// Ends what a provider has ended; false = it was told before. The token counts as used once all of that is done: one that is
/// told again, since it could not be done or nobody lived to answer, is obeyed.
async fn end(edge: &Edge, asked: &Asked, provider: &Provider, ended: &Ended) -> Result<bool, RecordError> {
    let name = &provider.told.name;
    let token = format!("logout {name} {}", ended.token);
    if edge.tickets.is_redeemed(token.as_bytes()).await? {
        return Ok(false);
    }
    let count = end_all(edge, asked, provider, ended).await?;
    // A token that somebody has seen on its way must not end what its person begins later.
    if !edge.tickets.redeem(token.as_bytes(), AGE * 2).await? {
        return Ok(false);
    }
    tracing::info!(login.provider = %name, ended = count, "a provider has ended somebody's sessions");
    Ok(true)
}

/// How many sessions and logins of command lines were ended by it.
async fn end_all(
    edge: &Edge,
    asked: &Asked,
    provider: &Provider,
    ended: &Ended,
) -> Result<usize, RecordError> {
    let name = &provider.told.name;
    let caught_up = edge.sessions.catch_up().await;
    let ending = edge.sessions.end_at(name, ended.subject.as_deref(), ended.sid.as_deref()).await;
    let ending = ending.and(caught_up);
    let entry = Entry::done(Event::SessionEnded).because(Reason::BackChannel);
    edge.audit.ended(&ending, &of_provider(entry, asked, provider));
    let sessions = ending.result();
    let mut revoked = 0;
    // Whatever became of the sessions.
    if let (Some(subject), None) = (&ended.subject, &ended.sid) {
        // Somebody is out everywhere: a login at a command line is one more device.
        let issuer = provider.told.protocol.issuer().to_string();
        let identity = IdentityRef { issuer: &issuer, subject };
        let revoking = edge.tokens.revoke_all(identity, Some(TokenSort::Login)).await;
        let entry = Entry::done(Event::TokenRevoked).because(Reason::BackChannel);
        edge.audit.revoked(&revoking, &of_provider(entry, asked, provider));
        revoked = revoking.result()?;
    }
    Ok(sessions? + revoked)
}

/// `GET /auth/<provider>/frontchannel-logout` (OpenID Connect Front-Channel Logout 1.0 §3), from a frame in the provider's
/// page: no cookie of ours comes there, so that nothing but the name of the provider's session says which one it is.
pub(super) async fn by_frame(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    Path(name): Path<String>,
    uri: Uri,
) -> Response {
    let Some(provider) = edge.providers.get(&name) else {
        return answer::refuse(&asked, &Refusal::new(Code::NotFound));
    };
    let query: Vec<_> = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).collect();
    let one = |key: &str| {
        let mut values = query.iter().filter(|(name, _)| name == key);
        values.next().filter(|_| values.next().is_none()).map(|(_, value)| &**value)
    };
    let issuer = provider.told.protocol.issuer();
    let (Some(sid), true) = (one("sid"), one("iss") == Some(issuer.as_str())) else {
        return told(StatusCode::BAD_REQUEST, "iss and sid must say which session has ended");
    };
    let ending = edge.sessions.end_at(&provider.told.name, None, Some(sid)).await;
    let entry = Entry::done(Event::SessionEnded).because(Reason::FrontChannel);
    edge.audit.ended(&ending, &of_provider(entry, &asked, provider));
    let mut response = match ending.result() {
        Ok(_) => told(StatusCode::OK, ""),
        Err(error) => return not_ended(&error),
    };
    let policy = format!("default-src 'none'; frame-ancestors {}", origin(issuer.as_str()));
    if let Ok(policy) = HeaderValue::try_from(policy) {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

/// An answer to a provider's server.
fn told(status: StatusCode, what: &str) -> Response {
    let text = match status {
        StatusCode::OK => String::new(),
        _ => serde_json::json!({ "error": "invalid_request", "error_description": what }).to_string(),
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    *response.headers_mut() = common_headers();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
