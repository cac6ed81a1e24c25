//! Issuers whose tokens the operator trusts: their keys, fetched beside the requests, and who their tokens are about.
//!
//! What a token says is kept until it expires, so that later requests with it find it by its hash, while there is room. What
//! rules say of a request is asked each time.

mod enter;
mod kept;
mod keys;

use super::Bearer;
use super::bearer::is_for;
use super::jwt::{BadToken, hash, holds_until, verify};
use super::later;
use crate::access::authenticate::Caller;
use crate::access::authorise;
use crate::identity::{self, Web};
use crate::refusal::{Code, Refusal};
use crate::request::Request;
use config::{Config, ProviderName, RequestFacts, Subject, TrustedIssuer};
use control::{Device, Identity, Login, NewSession, Session, SessionId};
use enter::Entrance;
use kept::{Kept, Known};
use keys::Followed;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::task::JoinSet;

/// How long a token waits for the keys of its issuer to be asked for again.
const KEYS_PATIENCE: Duration = Duration::from_secs(3);
/// The longest subject, in bytes (OpenID Connect Core §2).
const SUBJECT: usize = 255;

/// Why the issuers cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error("[machines.issuers.{name}] cannot be used: {reason}")]
pub struct IssuerError {
    /// Which.
    name: ProviderName,
    /// What is wrong, and what to do.
    #[source]
    reason: certs::NoRoots,
}

/// All issuers of the configuration.
#[derive(Clone)]
pub struct Issuers {
    by_name: BTreeMap<ProviderName, Followed>,
    kept: Kept,
    entrance: Entrance,
}

impl Default for Issuers {
    fn default() -> Self {
        Self { by_name: BTreeMap::new(), kept: Kept::new(kept::MOST), entrance: Entrance::default() }
    }
}

impl Issuers {
    /// Begins to follow those of a configuration, in tasks of `following`. None of them has to answer.
    ///
    /// # Errors
    /// The certificate authorities of one cannot be read.
    pub fn follow(
        config: &Config,
        users: &control::Users,
        following: &mut JoinSet<()>,
    ) -> Result<Self, IssuerError> {
        let mut issuers = Self::default();
        for (name, told) in &config.machines.issuers {
            let failed = |reason| IssuerError { name: name.clone(), reason };
            let web = Web::new(told.certificate_authority.as_deref()).map_err(failed)?;
            let (followed, changes) = Followed::new(told.clone());
            following.spawn(followed.clone().follow(web, changes));
            issuers.by_name.insert(name.clone(), followed);
        }
        if !issuers.by_name.is_empty() {
            let (entrance, entering) = Entrance::new(users.clone());
            issuers.entrance = entrance;
            following.spawn(entering);
            following.spawn(issuers.kept.clone().sweep());
        }
        Ok(issuers)
    }

    /// Whose token this is, if its issuer's keys say so.
    pub(super) async fn caller(
        &self,
        config: &Config,
        request: &Request<'_>,
        token: &str,
        told: &Arc<TrustedIssuer>,
    ) -> Result<Caller, BadToken> {
        let name = hash(token);
        let now = SystemTime::now();
        let known = match self.kept.find(&name, now) {
            Some(known) => known,
            None => self.kept.keep(name, self.judge(config, request, token, told, now).await?),
        };
        let facts = facts(request);
        may_come(told, &known.session.subject(), &facts).map_err(BadToken::NotLetIn)?;
        let [id @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = name;
        Ok(Caller { session: known.session.clone(), id: SessionId(id), bearer: Some(known.bearer) })
    }

    async fn judge(
        &self,
        config: &Config,
        request: &Request<'_>,
        token: &str,
        told: &TrustedIssuer,
        now: SystemTime,
    ) -> Result<Known, BadToken> {
        let followed = self.by_name.get(&told.name).ok_or(BadToken::UnknownKey)?;
        let claims = claims(followed, token, told, now).await?;
        let until = holds_until(&claims, now)?;
        let mut subject = subject(told, claims)?;
        let facts = facts(request);
        identity::judge(config, &mut subject, &facts).map_err(BadToken::NotLetIn)?;
        // Before anything is written down of them.
        may_come(told, &subject, &facts).map_err(BadToken::NotLetIn)?;
        let wanted = config.access.label.evaluate(&subject, &facts);
        let failed = |error| BadToken::NotLetIn(authorise::rule_failed("access.label", &error));
        let wanted = wanted.map_err(failed)?;
        let identity = Identity { issuer: subject.issuer.clone(), subject: subject.subject.clone() };
        let label = self.entrance.enter(&identity, wanted).await.map_err(BadToken::NotLetIn)?;
        tracing::info!(user.label = %label, token.issuer = %told.name, "a token of a trusted issuer was believed");
        let session = Session::of_machine(NewSession {
            identity,
            label,
            display_name: subject.name.clone(),
            subject,
            login: Login::now(None, None, Device::default()),
            kept: None,
        });
        Ok(Known { session: Arc::new(session), bearer: Bearer { scopes: told.scopes, token: None }, until })
    }
}

/// What a token says, if it is signed by a key of its issuer; one that is not known yet is waited for.
async fn claims(
    followed: &Followed,
    token: &str,
    told: &TrustedIssuer,
    now: SystemTime,
) -> Result<Map<String, Value>, BadToken> {
    match believed(followed, token, told, now) {
        Err(BadToken::UnknownKey) => {}
        claims => return claims,
    }
    // Anybody can name a key that there is not.
    if !followed.renewed(KEYS_PATIENCE).await {
        return Err(BadToken::NotLetIn(later()));
    }
    match believed(followed, token, told, now) {
        Err(BadToken::UnknownKey) if !followed.answers() => Err(BadToken::NotLetIn(later())),
        claims => claims,
    }
}

fn facts(request: &Request<'_>) -> RequestFacts {
    authorise::facts(&request.host, request.head.method.as_str(), request.path, request.connection)
}

/// Whether whom this issuer tells of may come at all.
fn may_come(told: &TrustedIssuer, subject: &Subject, facts: &RequestFacts) -> Result<(), Refusal> {
    match told.allow.evaluate(subject, facts) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Refusal::new(Code::NotAllowed)),
        Err(error) => Err(authorise::rule_failed("machines.issuers.NAME.allow", &error)),
    }
}

/// The claims of a token that this issuer has made for us, and that hold now.
fn believed(
    followed: &Followed,
    token: &str,
    told: &TrustedIssuer,
    now: SystemTime,
) -> Result<Map<String, Value>, BadToken> {
    let is_type = |typ: Option<&str>| {
        let types = ["JWT", "at+jwt", "application/at+jwt"];
        typ.is_none_or(|typ| types.iter().any(|known| typ.eq_ignore_ascii_case(known)))
    };
    let claims = verify(&followed.keys(), token, is_type)?;
    if claims.get("iss").and_then(Value::as_str) != Some(told.issuer.as_str()) {
        return Err(BadToken::Claim("iss"));
    }
    if !claims.get("aud").is_some_and(|aud| is_for(aud, &told.audience)) {
        return Err(BadToken::Claim("aud"));
    }
    // Who asked for the token (OpenID Connect Core 1.0 §2): not for whom it is, also where it is for several, so it is not
    // compared with the audience. Whether that one may is for rules to say, which see it; a name is all that it can be.
    if claims.get("azp").is_some_and(|azp| azp.as_str().is_none_or(str::is_empty)) {
        return Err(BadToken::Claim("azp"));
    }
    // Of a login or a logout, and no token to ask for something with.
    if let Some(claim) = ["nonce", "at_hash", "events"].into_iter().find(|claim| claims.contains_key(*claim))
    {
        return Err(BadToken::Claim(claim));
    }
    let until = holds_until(&claims, now)?;
    let begins =
        claims.get("iat").and_then(Value::as_f64).and_then(|iat| Duration::try_from_secs_f64(iat).ok());
    let begins =
        begins.and_then(|iat| SystemTime::UNIX_EPOCH.checked_add(iat)).map_or(now, |iat| iat.min(now));
    let lasts = until.duration_since(begins).unwrap_or_default();
    if lasts > told.lifetime_max + identity::claims::LEEWAY {
        return Err(BadToken::TooLasting);
    }
    Ok(claims)
}

/// What the rules see of whom a token is about; their groups are not asked yet.
fn subject(told: &TrustedIssuer, mut claims: Map<String, Value>) -> Result<Subject, BadToken> {
    let text = |claims: &Map<String, Value>, key: &str| {
        claims.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let subject = text(&claims, "sub").filter(|sub| sub.len() <= SUBJECT).ok_or(BadToken::Claim("sub"))?;
    if claims.get("email_verified") != Some(&Value::Bool(true)) {
        claims.remove("email");
    }
    let names = ["name", "preferred_username", "client_id"];
    let name = names.into_iter().find_map(|key| text(&claims, key)).unwrap_or_else(|| subject.clone());
    let name = identity::claims::shown(&name);
    let asked_by = claims.remove_entry("azp");
    identity::claims::forget_token(&mut claims);
    claims.extend(asked_by);
    Ok(Subject { issuer: told.issuer.to_string(), subject, name, claims, groups: Vec::new() })
}

#[cfg(test)]
pub(super) mod tests;
