//! What is remembered of one certificate's renewal, by all replicas and over restarts.

use crate::claim::Claim;
use crate::document_kind::DocumentKind;
use crate::schedule::HOUR;
use crate::store::{Document, Store, StoreError, Version};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The document of one certificate's renewal. Times are UNIX seconds: they have to be good after a restart, too.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// Who is getting it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) claim: Option<Claim>,
    /// How far whoever is or was getting it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) order: Option<Ordered>,
    /// How it stands with each authority that failed last, by its name.
    #[serde(default)]
    pub(crate) authorities: BTreeMap<String, Standing>,
    /// When validations failed, within the last hour.
    #[serde(default)]
    pub(crate) failed_validations: Vec<u64>,
    /// When the authority wants it renewed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) window: Option<Window>,
    /// How many times an operator wanted it renewed since it was; one that is wished while it is being renewed is another.
    #[serde(default)]
    pub(crate) wanted: u32,
    /// Its first certificate was counted among those of its week.
    #[serde(default)]
    pub(crate) is_counted: bool,
}

/// An order under way. It is gone on with by whoever comes next, so that a crash costs no second one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ordered {
    /// By its name.
    pub(crate) authority: String,
    /// Its URL, once it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) url: Option<String>,
    /// When that was, in UNIX seconds.
    #[serde(default)]
    pub(crate) made: u64,
    /// What it is for.
    #[serde(default)]
    pub(crate) names: Vec<String>,
    /// The certificate's key, PEM.
    pub(crate) key: String,
    /// What the authority may have been shown, so that it is taken away.
    #[serde(default)]
    pub(crate) proofs: Vec<Proof>,
}

/// What a challenge is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Proof {
    /// A record in the DNS, at `_acme-challenge.<host>`.
    Record {
        /// Who wrote it, and takes it away, whoever writes those of today: `[dns_providers.NAME]`.
        provider: String,
        host: String,
        text: String,
    },
    /// A document of this name, from which all replicas answer.
    Answer(String),
}

impl Proof {
    /// Who is asked to take it away; none = it is Usher's own.
    pub(crate) fn provider(&self) -> Option<&str> {
        match self {
            Self::Record { provider, .. } => Some(provider),
            Self::Answer(_) => None,
        }
    }
}

/// An authority that failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standing {
    /// How often, one after the other.
    pub(crate) failures: u32,
    /// It is not asked again before.
    pub(crate) not_before: u64,
    /// It said so itself of these names (`Retry-After`); else an operator's wish goes before.
    #[serde(default)]
    pub(crate) by_its_word: bool,
    /// When it gave what cannot be served, within the last day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) unfit: Vec<u64>,
    /// What it failed of, in words.
    pub(crate) cause: String,
}

/// When an authority wants a certificate renewed (RFC 9773 §4.2).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Window {
    /// Which certificate: its fingerprint.
    pub(crate) of: String,
    /// From when to when; none = it has no wish.
    pub(crate) suggested: Option<(u64, u64)>,
    /// When to ask again whether it still wants so.
    pub(crate) ask_again: u64,
}

/// Shows neither the key nor what proves anything.
impl fmt::Debug for Ordered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ordered")
            .field("authority", &self.authority)
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl State {
    /// The one that a document says. What cannot be read is nothing: all that is lost is what was waited for.
    pub(crate) fn read(document: &Document) -> Self {
        serde_json::from_slice(&document.value).unwrap_or_else(|error| {
            // Its words may have something of a key.
            let (line, column) = (error.line(), error.column());
            tracing::error!(
                document.name,
                line,
                column,
                "what is known of a renewal cannot be read, and is begun anew"
            );
            Self::default()
        })
    }

    /// Whether nothing of it matters any more to somebody who begins anew; what was shown is still to be taken away.
    pub(crate) fn is_spent(&self, now: SystemTime) -> bool {
        self.authorities.values().all(|standing| time(standing.not_before) <= now)
            && self.failed_validations.iter().all(|at| time(*at) + HOUR <= now)
    }

    fn written(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a state has no key but texts")
    }
}

/// UNIX seconds.
pub(crate) fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The time of UNIX seconds; one that no clock has is far away.
pub(crate) fn time(unix: u64) -> SystemTime {
    // A thousand years: no clock shows more, and `SystemTime` holds more than twice that.
    const FAR: Duration = Duration::from_hours(1000 * 366 * 24);
    UNIX_EPOCH + Duration::from_secs(unix).min(FAR)
}

/// What is known of a unit, by its id.
///
/// # Errors
/// The store's.
pub(crate) async fn read(store: &dyn Store, id: &str) -> Result<State, StoreError> {
    Ok(store.get(&DocumentKind::State.name(id)).await?.as_ref().map(State::read).unwrap_or_default())
}

/// Changes a state, whatever others change meanwhile: the change is made upon what stands there.
///
/// # Errors
/// As the store's; none of them is a conflict.
pub(crate) async fn change<T>(
    store: &dyn Store,
    id: &str,
    mut make: impl FnMut(&mut State) -> T,
) -> Result<T, StoreError> {
    let name = DocumentKind::State.name(id);
    loop {
        let standing = store.get(&name).await?;
        let mut state = standing.as_ref().map(State::read).unwrap_or_default();
        let before = state.clone();
        let made = make(&mut state);
        if state == before {
            return Ok(made);
        }
        match write(store, &name, standing.map(|document| document.version), state.written()).await {
            Err(StoreError::Conflict(_) | StoreError::Exists(_)) => {}
            Err(error) => return Err(error),
            Ok(()) => return Ok(made),
        }
    }
}

/// Creates or replaces a document.
pub(crate) async fn write(
    store: &dyn Store,
    name: &str,
    version: Option<Version>,
    value: Vec<u8>,
) -> Result<(), StoreError> {
    match version {
        Some(version) => store.replace(name, version, value).await.map(drop),
        None => store.create(name, value).await.map(drop),
    }
}

/// Creates or replaces a document whatever stands there.
///
/// # Errors
/// As the store's; none of them is a conflict.
pub(crate) async fn put(store: &dyn Store, name: &str, value: &[u8]) -> Result<(), StoreError> {
    loop {
        let version = store.get(name).await?.map(|document| document.version);
        match write(store, name, version, value.to_vec()).await {
            Err(StoreError::Conflict(_) | StoreError::Exists(_)) => {}
            done => return done,
        }
    }
}
