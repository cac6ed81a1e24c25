//! The assertion: a short JWT of ours (RFC 7519) by which a workspace can prove who asks.
//!
//! A workspace never gets what it could use elsewhere: no cookie of ours, no token of a provider. It gets this, which
//! is good for that one workspace and for a minute. The header beside it (`X-Usher-User`) is to be believed only
//! behind a socket that nobody else reaches; the assertion can be checked anywhere, with the keys that the portal
//! publishes.

mod claims;
mod kept;
pub(crate) mod key;

use crate::access::authorise::Permit;
use crate::edge::ListenerFacts;
use crate::head;
use crate::keys::{Held, Keys, Purpose};
use arc_swap::{ArcSwap, Guard};
use claims::Claims;
use config::Config;
use http::HeaderValue;
use kept::{Kept, Whose};
use key::SigningKey;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
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
    keys: Keys,
    signers: ArcSwap<Signers>,
    kept: ThreadLocal<RefCell<Kept>>,
}

/// What a workspace is told of its user; made when the assertion is. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Told {
    /// The assertion.
    pub assertion: HeaderValue,
    /// What to call them.
    pub name: HeaderValue,
    /// Their label.
    pub label: HeaderValue,
    /// The provider's name for them.
    pub subject: HeaderValue,
    /// Their address, if a provider has verified it.
    pub email: Option<HeaderValue>,
    /// Their groups; none where they take too much room.
    pub groups: Option<HeaderValue>,
}

/// The key pairs of a ring.
struct Signers {
    of: Held,
    /// Newest first and at least one.
    pairs: Vec<Pair>,
}

struct Pair {
    key: SigningKey,
    /// When it begins to sign; it is told before, so that applications know it by then.
    since: SystemTime,
    /// Until when it is told.
    until: Option<SystemTime>,
}

impl Assertions {
    /// Key pairs from a ring, and from each later one: every replica that holds it makes the same.
    pub fn new(keys: &Keys) -> Self {
        let signers = ArcSwap::from_pointee(Signers::of(keys.held()));
        Self { keys: keys.clone(), signers, kept: ThreadLocal::new() }
    }

    /// The key pairs of the ring as it is now; made anew, by whoever comes first, when that has changed.
    fn signers(&self) -> Guard<Arc<Signers>> {
        if self.keys.outgrew(&self.signers.load().of) {
            self.signers.store(Arc::new(Signers::of(self.keys.held())));
        }
        self.signers.load()
    }

    /// What a workspace is told of a request by this permit, through this listener.
    ///
    /// The assertion's issuer is the portal's origin, its audience the workspace's host name, which is the same for other ports
    /// of that workspace.
    pub fn told(&self, permit: &Permit, config: &Config, listener: &ListenerFacts, now: SystemTime) -> Told {
        let caller = permit.caller();
        let issued = now;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let whose = Whose { session: caller.id, workspace: permit.id().clone(), listener: listener.clone() };
        let mut kept = self.kept.get_or_default().borrow_mut();
        if let Some(told) = kept.find(&whose, &caller.session, now) {
            return told;
        }
        let (issuer, audience) = (listener.origin(config.portal.as_str()), permit.host(config));
        let subject = caller.session.subject();
        let claims = Claims::of(&caller.session, &subject, &issuer, &audience, now);
        let told = Told {
            assertion: self.signers().signing(issued).sign(&claims),
            name: head::visible(caller.session.display_name()),
            label: head::visible(caller.session.label.as_str()),
            subject: head::visible(caller.session.identity().subject),
            email: subject.claims.get("email").and_then(Value::as_str).map(head::visible),
            groups: head::list(&subject.groups),
        };
        kept.keep(whose, &caller.session, now, told.clone());
        told
    }

    /// The public keys (RFC 7517 §5) of all assertions that may be about at this time.
    pub fn jwks(&self, now: SystemTime) -> Value {
        let signers = self.signers();
        let told = signers.pairs.iter().filter(|pair| pair.until.is_none_or(|until| now < until));
        json!({ "keys": told.map(|pair| pair.key.jwk()).collect::<Vec<_>>() })
    }
}

impl Signers {
    fn of(held: Held) -> Self {
        let pairs = held.seeds(Purpose::Assertion).map(|seed| Pair {
            key: SigningKey::from_seed(seed.bytes),
            since: seed.since,
            until: seed.opens_until,
        });
        Self { pairs: pairs.collect(), of: held }
    }

    /// As the ring seals: with the newest whose time has come.
    fn signing(&self, now: SystemTime) -> &SigningKey {
        let come = self.pairs.iter().find(|pair| pair.since <= now);
        &come.or(self.pairs.last()).expect("a ring has at least one key").key
    }
}

/// Shows no key.
impl fmt::Debug for Assertions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Assertions({} …)", self.signers.load().pairs.len())
    }
}

#[cfg(test)]
impl Told {
    /// Of somebody of whom only this is known.
    fn lab(text: &'static str) -> Self {
        let [assertion, name, label, subject] = std::array::from_fn(|_| HeaderValue::from_static(text));
        Self { assertion, name, label, subject, email: None, groups: None }
    }
}

#[cfg(test)]
mod tests;
