//! The assertion: a short JWT of ours (RFC 7519) by which a workspace can prove who asks.
//!
//! A workspace never gets what it could use elsewhere: no cookie of ours, no token of a provider. It gets this, which
//! is good for that one workspace and for a minute. The header beside it (`X-Usher-User`) is to be believed only
//! behind a socket that nobody else reaches; the assertion can be checked anywhere, with the keys that the portal
//! publishes.

mod claims;
mod kept;
mod key;

use crate::access::authorise::Permit;
use crate::edge::ListenerFacts;
use crate::keys::{Keys, Purpose, Seed};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claims::Claims;
use config::Config;
use http::HeaderValue;
use kept::{Kept, Whose};
use key::{Jwk, SigningKey};
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use thread_local::ThreadLocal;

/// How long an assertion is good.
pub const LIFETIME: Duration = Duration::from_secs(60);
/// How long one is used again: a workspace that is slow to look has half of [`LIFETIME`] for it.
const USED_FOR: Duration = Duration::from_secs(30);

/// Makes assertions with the newest key of the ring, and tells the public keys that verify them.
///
/// Each thread that carries requests keeps what it signed, without locks: to sign takes 18 µs, to find what was signed
/// 0.1 µs (release build, one core, November 2026). No key, and no assertion, shows in `Debug`.
pub struct Assertions {
    signer: SigningKey,
    /// Newest first, each until when it is told.
    listed: Vec<(Jwk, Option<SystemTime>)>,
    kept: ThreadLocal<RefCell<Kept>>,
}

impl Assertions {
    /// Key pairs from a ring: every replica that holds the ring makes the same.
    pub fn new(keys: &Keys) -> Self {
        let pair = |seed: Seed| (SigningKey::from_seed(seed.bytes), seed.opens_until);
        let pairs: Vec<_> = keys.seeds(Purpose::Assertion).map(pair).collect();
        let listed = pairs.iter().map(|(pair, until)| (pair.jwk().clone(), *until)).collect();
        let (signer, _) = pairs.into_iter().next().expect("a ring has at least one key");
        Self { signer, listed, kept: ThreadLocal::new() }
    }

    /// The value of `X-Usher-Assertion` for a request by this permit, through this listener.
    ///
    /// Its issuer is the portal's origin, its audience the workspace's host name, which is the same for other ports
    /// of that workspace.
    pub fn header(
        &self,
        permit: &Permit,
        config: &Config,
        listener: &ListenerFacts,
        now: SystemTime,
    ) -> HeaderValue {
        let caller = permit.caller();
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let whose = Whose { session: caller.id, workspace: permit.id().clone(), listener: listener.clone() };
        let mut kept = self.kept.get_or_default().borrow_mut();
        if let Some(header) = kept.find(&whose, &caller.session, now) {
            return header;
        }
        let (issuer, audience) = (listener.origin(config.portal.as_str()), permit.host(config));
        let claims = Claims::of(&caller.session, &issuer, &audience, now);
        let header = self.sign(&claims);
        kept.keep(whose, &caller.session, now, header.clone());
        header
    }

    /// The public keys (RFC 7517 §5) of all assertions that may be about at this time.
    pub fn jwks(&self, now: SystemTime) -> Value {
        let told = self.listed.iter().filter(|(_, until)| until.is_none_or(|until| now < until));
        json!({ "keys": told.map(|(jwk, _)| jwk).collect::<Vec<_>>() })
    }

    /// The compact form (RFC 7515 §7.1).
    fn sign(&self, claims: &Claims<'_>) -> HeaderValue {
        let claims = serde_json::to_vec(claims).expect("texts and numbers are JSON");
        let mut token = format!("{}.{}", self.signer.header(), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.signer.sign(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        let mut header = HeaderValue::try_from(token).expect("base64 is a header value");
        header.set_sensitive(true);
        header
    }
}

/// Shows no key.
impl fmt::Debug for Assertions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Assertions({} …)", self.listed.len())
    }
}

#[cfg(test)]
mod tests;
