//! The access tokens of `usher login`: JWTs of Usher's own (RFC 9068), for Usher alone.
//!
//! They have a key of their own, which is published nowhere, and a type and an audience that no assertion has: neither is ever
//! taken for the other. What they may be used for, and whether they still may, stands in the record of their login.

use super::jwt::{BadToken, FixedKey, hash, holds_until, verify};
use crate::assertion::key::SigningKey;
use crate::identity::claims::LEEWAY;
use crate::keys::{Held, Keys, Purpose};
use arc_swap::ArcSwap;
use control::{Token, TokenRef};
use jsonwebtoken::Algorithm;
use moka::sync::Cache;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long one is good. With the leeway of clocks it is ten minutes.
pub(crate) const LIFETIME: Duration = Duration::from_mins(9);
/// What it says that it is (RFC 9068 §2.1).
const TYPE: &str = "at+jwt";

/// The most tokens that are kept once they were looked at; to look takes some hundred times as long as to find.
const KEPT: u64 = 10_000;

/// Makes and reads access tokens.
pub(crate) struct AccessTokens {
    keys: Keys,
    pairs: ArcSwap<Pairs>,
    /// By their hashes.
    kept: Cache<[u8; 32], Said>,
}

/// The key pairs of a ring, newest first and at least one.
struct Pairs {
    of: Held,
    pairs: Vec<(SystemTime, SigningKey)>,
    fixed: Vec<FixedKey>,
}

/// What an access token says.
#[derive(Debug, Clone)]
pub(super) struct Said {
    pub(super) login: TokenRef,
    pub(super) issued: SystemTime,
    issuer: Arc<str>,
    until: SystemTime,
}

impl AccessTokens {
    pub(super) fn new(keys: &Keys) -> Self {
        let kept = Cache::builder().max_capacity(KEPT).time_to_live(LIFETIME + LEEWAY).build();
        Self { keys: keys.clone(), pairs: ArcSwap::from_pointee(Pairs::of(keys.held())), kept }
    }

    /// The key pairs of the ring as it is now; made anew, by whoever comes first, when that has changed.
    fn pairs(&self) -> Arc<Pairs> {
        if self.keys.outgrew(&self.pairs.load().of) {
            self.pairs.store(Arc::new(Pairs::of(self.keys.held())));
        }
        self.pairs.load_full()
    }

    /// An access token of this login, from this portal and for it.
    pub(crate) fn issue(&self, login: &Token, portal: &str, now: SystemTime) -> String {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let claims = json!({
            "iss": portal,
            "aud": portal,
            "sub": login.session.identity().key(),
            "client_id": "usher",
            "sid": login.reference.to_string(),
            "scope": login.scopes.to_string(),
            "iat": since.as_secs(),
            "exp": (since + LIFETIME).as_secs(),
        });
        self.sign(&claims, now)
    }

    /// Signs with the newest key whose time has come.
    pub(super) fn sign(&self, claims: &Value, now: SystemTime) -> String {
        let pairs = self.pairs();
        let come = pairs.pairs.iter().find(|(from, _)| *from <= now).or(pairs.pairs.last());
        come.expect("a ring has at least one key").1.token(claims)
    }

    /// What a token says that was issued by a portal of ours, for it, and holds now.
    ///
    /// # Errors
    /// It was not, or does not.
    pub(super) fn read(
        &self,
        token: &str,
        is_portal: impl Fn(&str) -> bool,
        now: SystemTime,
    ) -> Result<Said, BadToken> {
        let name = hash(token);
        let kept = self.kept.get(&name).filter(|said| now < said.until && is_portal(&said.issuer));
        match kept {
            Some(said) => Ok(said),
            None => {
                let said = self.look_at(token, is_portal, now)?;
                self.kept.insert(name, said.clone());
                Ok(said)
            }
        }
    }

    fn look_at(
        &self,
        token: &str,
        is_portal: impl Fn(&str) -> bool,
        now: SystemTime,
    ) -> Result<Said, BadToken> {
        let claims = verify(&self.pairs().fixed, token, |typ| typ == Some(TYPE))?;
        let text = |key: &'static str| claims.get(key).and_then(Value::as_str).ok_or(BadToken::Claim(key));
        let issuer = text("iss")?;
        if !is_portal(issuer) {
            return Err(BadToken::Claim("iss"));
        }
        if text("aud")? != issuer {
            return Err(BadToken::Claim("aud"));
        }
        let until = holds_until(&claims, now)?;
        let issued = claims.get("iat").and_then(Value::as_u64).ok_or(BadToken::Claim("iat"))?;
        let login = TokenRef::parse(text("sid")?).ok_or(BadToken::Claim("sid"))?;
        Ok(Said { login, issued: UNIX_EPOCH + Duration::from_secs(issued), issuer: issuer.into(), until })
    }
}

impl Pairs {
    fn of(held: Held) -> Self {
        let seeds = held.seeds(Purpose::AccessToken);
        let pairs: Vec<_> = seeds.map(|seed| (seed.since, SigningKey::of(seed.bytes, TYPE))).collect();
        let fixed = pairs.iter().map(|(_, pair)| FixedKey {
            name: Some(pair.name().to_owned()),
            algorithm: Algorithm::ES256,
            key: pair.verifier(),
        });
        Self { fixed: fixed.collect(), pairs, of: held }
    }
}
