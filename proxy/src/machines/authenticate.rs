//! Who shows a token, and whether they may do with it what they ask for.

use super::bearer::{Shown, is_portal};
use super::jwt::BadToken;
use super::{Bearer, Kind, form, later, may_enter, rights};
use crate::access::authenticate::Caller;
use crate::access::authorise;
use crate::access::route::Place;
use crate::audit::{Entry, Event, Reason};
use crate::edge::Edge;
use crate::identity;
use crate::refusal::{Code, Refusal};
use crate::request::Request;
use config::Config;
use control::{SessionId, Token, TokenRef};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How long a token is waited for that another replica may just have made.
const PATIENCE: Duration = Duration::from_secs(1);
/// An access token younger than this may be of a login that this replica has not heard of yet.
const FRESH: Duration = Duration::from_secs(10);

/// Who shows a token, if it is good for what is asked.
///
/// # Errors
/// 401: it is no good. Such an answer is held as that to a failed login, so that guessing is slow. 429: there were too many.
/// 403: its owner may not enter any more, or it may not be used for this.
pub(crate) async fn caller(
    edge: &Edge,
    config: &Config,
    place: &Place,
    request: &Request<'_>,
    shown: Shown<'_>,
) -> Result<Caller, Refusal> {
    let kind = match &shown {
        Shown::Secret(_) => Kind::Api,
        Shown::Access(_) => Kind::Login,
        Shown::Issued(..) => Kind::Issuer,
    };
    let known = match shown {
        Shown::Secret(secret) => by_secret(edge, config, request, secret).await,
        Shown::Access(token) => by_access(edge, config, request, token).await,
        Shown::Issued(token, issuer) => edge.machines.issuers.caller(config, request, token, &issuer).await,
    };
    if !request.again {
        edge.machines.counted.count(kind, known.is_ok());
    }
    let caller = match known {
        Ok(caller) => caller,
        Err(BadToken::NotLetIn(refusal)) => return Err(refusal),
        Err(bad) => return Err(refused(edge, config, request, &bad).await),
    };
    let facts =
        authorise::facts(&request.host, request.head.method.as_str(), request.path, request.connection);
    may_enter(config, &caller.session, &facts)?;
    caller.may(rights::needed(place, request)?)?;
    caller.session.touch();
    Ok(caller)
}

async fn refused(edge: &Edge, config: &Config, request: &Request<'_>, bad: &BadToken) -> Refusal {
    let client = request.connection.client.ip();
    tracing::info!(client.ip = %client, token.problem = %bad, "a token was refused");
    if let Err(refusal) = edge.limits.bad_token(config, client) {
        return refusal;
    }
    edge.audit.record(Entry::refused(Event::TokenUsed, Reason::BadToken).at(client, &request.id));
    let held = edge.limits.hold_failure(client).await;
    held.err().unwrap_or_else(|| Refusal::new(Code::InvalidToken))
}

async fn by_secret(
    edge: &Edge,
    config: &Config,
    request: &Request<'_>,
    secret: &str,
) -> Result<Caller, BadToken> {
    let secret = form::read_api_token(secret).ok_or(BadToken::Form)?;
    let token = known(edge, secret.reference(), PATIENCE).await?;
    of(edge, config, request, &token)
}

async fn by_access(
    edge: &Edge,
    config: &Config,
    request: &Request<'_>,
    token: &str,
) -> Result<Caller, BadToken> {
    let now = SystemTime::now();
    let said = edge.machines.access.read(token, |text| is_portal(edge, config, request, text), now)?;
    let is_fresh = now.duration_since(said.issued).is_ok_and(|age| age < FRESH);
    let token = known(edge, said.login, if is_fresh { PATIENCE } else { Duration::ZERO }).await?;
    of(edge, config, request, &token)
}

async fn known(edge: &Edge, token: TokenRef, patience: Duration) -> Result<Arc<Token>, BadToken> {
    let now = SystemTime::now();
    match edge.tokens.find(token, now) {
        Some(token) => Ok(token),
        None if patience.is_zero() => Err(BadToken::Unknown),
        None => {
            // Anybody can make up a token that looks like one of ours.
            let Ok(_waits) = edge.machines.waiting.try_acquire() else {
                return Err(BadToken::NotLetIn(later()));
            };
            edge.tokens.await_known(token, now, patience).await.ok_or(BadToken::Unknown)
        }
    }
}

/// The owner of a token, if their login is still offered.
fn of(edge: &Edge, config: &Config, request: &Request<'_>, token: &Token) -> Result<Caller, BadToken> {
    if !identity::is_served(config, token.session.provider()) {
        return Err(BadToken::Unknown);
    }
    if token.is_first_use() {
        let client = request.connection.client.ip();
        let entry = Entry::done(Event::TokenUsed).at(client, &request.id);
        edge.audit.record(entry.by_token(token));
    }
    Ok(Caller {
        session: token.session.clone(),
        id: SessionId(token.reference.bytes()),
        bearer: Some(Bearer { scopes: token.scopes, token: Some(token.reference) }),
    })
}
