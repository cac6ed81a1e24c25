//! A login that was begun and whose answer is to come: sealed, bound to one browser, for ten minutes.

use crate::handoff::{Attempt, Kind};
use crate::identity::Secrets;
use crate::keys::{Keys, Purpose};
use crate::own::Asked;
use crate::portal::onward::Onward;
use config::ProviderName;
use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest query of `/login` that goes along to a provider, in bytes: a longer address is not come back to, since
/// providers take no state of any length.
const ONWARD: usize = 2048;

/// One try at a login.
pub(in crate::portal) struct Begun {
    /// Whose cookie the browser must hold.
    pub(in crate::portal) attempt: Attempt,
    /// Where it leads.
    pub(in crate::portal) onward: Onward,
    /// At which provider, and what its answer must fit; none = by the form for development.
    pub(in crate::portal) provider: Option<(ProviderName, Secrets)>,
    /// When it ends, in milliseconds since 1970.
    ends: u64,
}

#[derive(Serialize, Deserialize)]
struct Sealed {
    attempt: String,
    ends: u64,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    query: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider: Option<(String, String, String)>,
}

impl Begun {
    /// Begins a try; the cookies to set with it.
    pub(in crate::portal) fn begin(
        onward: Onward,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> (Self, Vec<HeaderValue>) {
        let (attempt, cookies) = Attempt::begin(Kind::Login, headers, now);
        let ends = now.duration_since(UNIX_EPOCH).unwrap_or_default() + Attempt::LIFETIME;
        let ends = u64::try_from(ends.as_millis()).unwrap_or(0);
        (Self { attempt, onward, provider: None, ends }, cookies)
    }

    /// Opens what came back, ended or not.
    pub(in crate::portal) fn open(keys: &Keys, asked: &Asked, state: &str) -> Option<Self> {
        let bytes = keys.open(Purpose::Login, asked.host.as_str(), state.as_bytes()).ok()?;
        let Sealed { attempt, ends, query, provider } = serde_json::from_slice(&bytes).ok()?;
        let provider = match provider {
            Some((name, nonce, verifier)) => {
                Some((ProviderName::parse(&name).ok()?, Secrets { nonce, verifier }))
            }
            None => None,
        };
        let onward = Onward::parse(&asked.config, &asked.connection.listener, &query);
        Some(Self { attempt: Attempt::parse(&attempt)?, onward, provider, ends })
    }

    /// How long it may still be answered.
    pub(in crate::portal) fn left(&self, now: SystemTime) -> Option<Duration> {
        let ends = UNIX_EPOCH.checked_add(Duration::from_millis(self.ends))?;
        ends.duration_since(now).ok().filter(|left| !left.is_zero())
    }

    /// What goes along, and comes back.
    pub(in crate::portal) fn seal(&self, keys: &Keys, asked: &Asked) -> String {
        let mut query = self.onward.query(&asked.connection.listener);
        let provider = self.provider.as_ref().map(|(name, secrets)| {
            if query.len() > ONWARD {
                query.clear();
            }
            (name.to_string(), secrets.nonce.clone(), secrets.verifier.clone())
        });
        let sealed = Sealed { attempt: self.attempt.to_text(), ends: self.ends, query, provider };
        let bytes = serde_json::to_vec(&sealed).expect("texts and numbers are JSON");
        keys.seal(Purpose::Login, asked.host.as_str(), &bytes)
    }
}
