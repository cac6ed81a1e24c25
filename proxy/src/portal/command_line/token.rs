//! What a program gets that shows a person's consent, or the secret that it got last.

use super::Consent;
use crate::audit::{By, Entry, Event, Reason};
use crate::edge::Edge;
use crate::handoff;
use crate::identity;
use crate::limits::PerUser;
use crate::machines::{access, form, pkce};
use crate::own::Asked;
use crate::page::common_headers;
use crate::portal::answer;
use crate::refusal::{Code, Refusal};
use axum::body::{Body, Bytes};
use axum::extract::{Extension, State};
use axum::response::Response;
use config::TokenScopes;
use control::{MakeError, NewToken, RecordError, RefreshSecret, Rotated, SessionId, Token};
use http::header::{CONTENT_TYPE, HeaderValue, ORIGIN};
use http::{HeaderMap, StatusCode};
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Why a program gets no token (RFC 6749 §5.2).
enum NoToken {
    /// What it shows is worth nothing.
    Grant(&'static str),
    /// What it sends cannot be understood.
    Request,
    Records(RecordError),
    /// Its owner asks for too much.
    Refused(Refusal),
}

impl From<RecordError> for NoToken {
    fn from(error: RecordError) -> Self {
        Self::Records(error)
    }
}

impl From<MakeError> for NoToken {
    fn from(error: MakeError) -> Self {
        match error {
            MakeError::Records(error) => Self::Records(error),
            MakeError::SessionOver | MakeError::TooMany(_) => {
                Self::Grant("the session of who gave the code has ended")
            }
        }
    }
}

/// `POST /api/v1/cli/token`: a code, or the secret that was given last, for an access token and the next secret.
pub(in crate::portal) async fn token(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if headers.contains_key(ORIGIN) {
        // It is for programs: no page has what is asked for here.
        return answer::refuse(&asked, &Refusal::new(Code::CrossOrigin));
    }
    let fields: HashMap<String, String> = form_urlencoded::parse(&body).into_owned().collect();
    let text = |key: &str| fields.get(key).map(String::as_str).ok_or(NoToken::Request);
    let now = SystemTime::now();
    let given = match text("grant_type") {
        Ok("authorization_code") => match (text("code"), text("code_verifier")) {
            (Ok(code), Ok(verifier)) => by_code(&edge, &asked, code, verifier, now).await,
            _ => Err(NoToken::Request),
        },
        Ok("refresh_token") => match text("refresh_token") {
            Ok(secret) => by_secret(&edge, &asked, secret, now).await,
            Err(error) => Err(error),
        },
        _ => Err(NoToken::Request),
    };
    match given {
        Ok((secret, token)) => {
            let portal = asked.connection.listener.origin(asked.config.portal.as_str());
            told(
                StatusCode::OK,
                &json!({
                    "access_token": edge.machines.access.issue(&token, &portal, now),
                    "token_type": "Bearer",
                    "expires_in": access::LIFETIME.as_secs(),
                    "refresh_token": form::refresh_token(&secret),
                    "scope": token.scopes.to_string(),
                    "user": token.session.label.as_str(),
                }),
            )
        }
        Err(why) => refuse(&edge, &asked, why).await,
    }
}

async fn by_code(
    edge: &Edge,
    asked: &Asked,
    code: &str,
    verifier: &str,
    now: SystemTime,
) -> Result<(RefreshSecret, Arc<Token>), NoToken> {
    let bad = NoToken::Grant;
    let consent = Consent::open(&edge.keys, &asked.host, code).ok_or(bad("the code is not one of ours"))?;
    let ends = UNIX_EPOCH + Duration::from_millis(consent.ends);
    let left = ends.duration_since(now).map_err(|_| bad("the code has expired"))?;
    // Spent by whoever shows it first: a stolen one dies where it is tried.
    if !edge.tickets.redeem(code.as_bytes(), left).await? {
        return Err(bad("the code was used before"));
    }
    if pkce::challenge(verifier) != consent.challenge {
        return Err(bad("another program asked for the code"));
    }
    let session = edge.sessions.lookup(&SessionId(consent.session));
    let session = session.filter(|session| identity::is_served(&asked.config, session.provider()));
    let session = session.ok_or(bad("the session of who gave the code has ended"))?;
    let scopes = TokenScopes::parse(&consent.scopes).unwrap_or_default();
    let config::Machines { login_lifetime, token_lifetime, .. } = asked.config.machines;
    let lifetime = login_lifetime.min(token_lifetime);
    let new = NewToken { name: consent.name, scopes, lifetime, now };
    let by = SessionId(consent.session).reference();
    let (secret, token) = edge.tokens.begin_login(&session, by, new).await?;
    let entry = Entry::done(Event::TokenMade).because(Reason::CommandLine).asked(asked).by_token(&token);
    edge.audit.record(entry.session(by));
    let excess = edge.tokens.end_excess(session.identity()).await;
    edge.audit.revoked(&excess, &Entry::done(Event::TokenRevoked).because(Reason::TooMany).by(By::Usher));
    if let Err(error) = excess.result() {
        // The new login stands all the same; the next one ends those.
        tracing::warn!(%error, "the oldest logins of command lines of somebody with too many could not be ended");
    }
    Ok((secret, token))
}

async fn by_secret(
    edge: &Edge,
    asked: &Asked,
    secret: &str,
    now: SystemTime,
) -> Result<(RefreshSecret, Arc<Token>), NoToken> {
    let secret = form::read_refresh_token(secret).ok_or(NoToken::Grant("the token is not one of ours"))?;
    let known = edge.tokens.find(secret.reference(), now);
    if known.as_ref().is_some_and(|token| !identity::is_served(&asked.config, token.session.provider())) {
        return Err(NoToken::Grant("nobody logs in by this way any more: log in again"));
    }
    if let Some(token) = &known {
        let counted = edge.limits.user(PerUser::Requests, &asked.config, &token.session);
        counted.map_err(NoToken::Refused)?;
    }
    let config::Machines { login_lifetime, token_lifetime, .. } = asked.config.machines;
    match edge.tokens.rotate(&secret, now, login_lifetime, token_lifetime).await? {
        Rotated::Next(next, token) => Ok((next, token)),
        Rotated::Reused(revoking) => {
            let entry = Entry::done(Event::TokenRevoked).because(Reason::Replayed).asked(asked).by(By::Usher);
            edge.audit.revoked(&revoking, &entry);
            revoking.result()?;
            Err(NoToken::Grant("the token was used before: the login has ended"))
        }
        Rotated::Unknown => Err(NoToken::Grant("the login has ended: log in again")),
    }
}

/// `POST /api/v1/cli/logout` (RFC 7009): ends the login whose secret is shown.
pub(in crate::portal) async fn end(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if headers.contains_key(ORIGIN) {
        return answer::refuse(&asked, &Refusal::new(Code::CrossOrigin));
    }
    let mut fields = form_urlencoded::parse(&body);
    let shown = fields.find(|(key, _)| key == "token");
    let Some(secret) = shown.and_then(|(_, token)| form::read_refresh_token(&token)) else {
        return refuse(&edge, &asked, NoToken::Grant("the token is not one of ours")).await;
    };
    let known = edge.tokens.find(secret.reference(), SystemTime::now());
    match known {
        None => told(StatusCode::OK, &json!({})),
        Some(token) => {
            let revoking = edge.tokens.revoke(token.reference).await;
            edge.audit
                .revoked(&revoking, &Entry::done(Event::TokenRevoked).because(Reason::Logout).asked(&asked));
            match revoking.result() {
                Ok(_) => told(StatusCode::OK, &json!({})),
                Err(error) => refuse(&edge, &asked, error.into()).await,
            }
        }
    }
}

/// An error for a program. One that shows what is worth nothing counts as a bad token of its address.
async fn refuse(edge: &Edge, asked: &Asked, why: NoToken) -> Response {
    let bad =
        |error, what| told(StatusCode::BAD_REQUEST, &json!({ "error": error, "error_description": what }));
    let what = match why {
        NoToken::Request => return bad("invalid_request", "the form does not have what it must"),
        NoToken::Grant(what) => what,
        NoToken::Records(error) => {
            tracing::error!(%error, "a login of a command line could not be written down");
            return handoff::unavailable();
        }
        NoToken::Refused(refusal) => return answer::refuse(asked, &refusal),
    };
    let client = asked.connection.client.ip();
    tracing::info!(client.ip = %client, token.problem = what, "a command line was not let in");
    let held = match edge.limits.bad_token(&asked.config, client) {
        Ok(()) => edge.limits.hold_failure(client).await,
        Err(refusal) => Err(refusal),
    };
    match held {
        Ok(()) => bad("invalid_grant", what),
        Err(refusal) => answer::refuse(asked, &refusal),
    }
}

fn told(status: StatusCode, document: &serde_json::Value) -> Response {
    let mut response = Response::new(Body::from(document.to_string()));
    *response.status_mut() = status;
    *response.headers_mut() = common_headers();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
