//! Who comes without a browser: by `Authorization: Bearer`, and by nothing else.
//!
//! Three kinds are known: API tokens of Usher's own (`form`), access tokens of `usher login` (`access`) and tokens of issuers
//! that the operator trusts (`issuers`). What such a token may be used for stands in one closed table (`rights`); it never lets
//! its owner do more than they may themselves.

pub(crate) mod access;
mod authenticate;
mod bearer;
pub(crate) mod form;
mod issuers;
mod jwt;
#[cfg(test)]
mod mutations;
pub(crate) mod pkce;
mod rights;

pub(crate) use authenticate::caller;
pub(crate) use bearer::shown;
pub use issuers::{IssuerError, Issuers};

use crate::audit::{Entry, Event, Reason};
use crate::edge::Edge;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::refusal::{Code, Refusal, seconds};
use access::AccessTokens;
use config::{Config, RequestFacts, TokenScope, TokenScopes};
use control::{IdentityRef, RecordError, Session, TokenRef};
use prometheus::{IntCounter, IntCounterVec};
use std::time::Duration;
use tokio::sync::Semaphore;

/// What is known of those who come without a browser.
pub struct Machines {
    /// Makes and reads the access tokens of `usher login`.
    pub(crate) access: AccessTokens,
    /// Whose tokens are believed.
    pub(crate) issuers: Issuers,
    counted: Counted,
    /// Holds those who wait for a token that is not known yet.
    waiting: Semaphore,
}

/// How many requests may wait at a time for a token to become known that another replica may just have made.
const WAITING: usize = 256;
/// When to come again with a token that could not be judged.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// How somebody came who has no browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bearer {
    /// What their token may be used for.
    pub scopes: TokenScopes,
    /// Its record; none where an issuer gave it.
    pub token: Option<TokenRef>,
}

impl Machines {
    /// With the keys of this ring, and these issuers.
    pub fn new(keys: &Keys, issuers: Issuers, metrics: &Metrics) -> Self {
        let (access, counted) = (AccessTokens::new(keys), Counted::new(metrics.bearers.clone()));
        Self { access, issuers, counted, waiting: Semaphore::new(WAITING) }
    }
}

impl Bearer {
    /// Whether the token may be used for this.
    ///
    /// # Errors
    /// 403 with what it lacks.
    pub fn may(self, scope: TokenScope) -> Result<(), Refusal> {
        if self.scopes.has(scope) {
            return Ok(());
        }
        let detail = format!("The token may not be used for this: it lacks the scope {}.", scope.as_str());
        Err(Refusal::with(Code::InsufficientScope, detail))
    }
}

/// 503: whoever comes is neither believed nor refused, since it cannot be told just now.
fn later() -> Refusal {
    Refusal { retry_after: Some(seconds(ASK_AGAIN)), ..Refusal::new(Code::Unavailable) }
}

/// Whether the rules let a token's owner in, as they saw them last.
///
/// # Errors
/// 403.
pub(crate) fn may_enter(config: &Config, owner: &Session, facts: &RequestFacts) -> Result<(), Refusal> {
    let allows = config.access.allow.evaluate(&owner.subject(), facts);
    match allows.map_err(|error| crate::access::authorise::rule_failed("access.allow", &error))? {
        true => Ok(()),
        false => Err(Refusal::new(Code::NotAllowed)),
    }
}

/// Ends all sessions of somebody and revokes all of their tokens; tells how many there were. The trail is told by whom, of
/// whom `by` makes entries.
///
/// # Errors
/// The store fails; some may have ended.
pub(crate) async fn sign_out(
    edge: &Edge,
    identity: IdentityRef<'_>,
    label: &str,
    by: &(dyn Fn(Event) -> Entry + Sync),
) -> Result<usize, RecordError> {
    // The sessions first: whoever holds one can make another token.
    let ending = edge.sessions.end_all(identity).await;
    edge.audit.signed_out(&ending, by, label, identity);
    let revoking = edge.tokens.revoke_all(identity, None).await;
    edge.audit.revoked(&revoking, &by(Event::TokenRevoked).because(Reason::SignOut));
    // Both were tried, whatever became of the first.
    Ok(ending.result()? + revoking.result()?)
}

/// What kind of token a request showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Api,
    Login,
    Issuer,
}

/// Requests with a token, by kind and by what became of them.
struct Counted([[IntCounter; 2]; 3]);

impl Counted {
    fn new(counters: IntCounterVec) -> Self {
        let results =
            |kind| ["accepted", "refused"].map(|result| counters.with_label_values(&[kind, result]));
        Self(["api", "login", "issuer"].map(results))
    }

    fn count(&self, kind: Kind, is_accepted: bool) {
        self.0[kind as usize][usize::from(!is_accepted)].inc();
    }
}
