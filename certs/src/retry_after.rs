//! For how long an authority wants not to be asked for anything: `Retry-After` (RFC 9110 §10.2.3), for all certificates
//! that it gives, all replicas, and over restarts. What it says of one certificate's names is in that one's state.

use crate::document_kind::DocumentKind;
use crate::schedule::{RETRY_AFTER_MAX, SKEW};
use crate::state::{self, time, unix};
use crate::store::{Document, Store, StoreError};
use crate::told::cut;
use config::AuthorityName;
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime};

/// What an authority said, as it is kept; another word of its that holds for longer takes its place, and nothing else does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RetryAfter {
    /// UNIX seconds.
    not_before: u64,
    /// In its words.
    pub(crate) cause: String,
}

impl RetryAfter {
    /// One that is said now.
    pub(crate) fn new(wait: Duration, cause: &str, now: SystemTime) -> Self {
        Self { not_before: unix(now + wait.min(RETRY_AFTER_MAX)), cause: cut(cause) }
    }

    /// The one that a document says; one that cannot be read says nothing.
    pub(crate) fn read(document: &Document) -> Option<Self> {
        serde_json::from_slice(&document.value).ok()
    }

    /// The one of this authority that the store has.
    pub(crate) async fn of(store: &dyn Store, authority: &AuthorityName) -> Result<Option<Self>, StoreError> {
        Ok(store.get(&DocumentKind::RetryAfter.name(authority)).await?.as_ref().and_then(Self::read))
    }

    /// When it may be asked again. A time that is further away than it can be was told by a clock that was wrong.
    pub(crate) fn ends(&self, now: SystemTime) -> SystemTime {
        Some(time(self.not_before))
            .filter(|at| *at <= now + RETRY_AFTER_MAX + SKEW)
            .unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// Keeps it, unless what was said before holds for longer.
    pub(crate) async fn keep(&self, store: &dyn Store, authority: &AuthorityName) -> Result<(), StoreError> {
        let now = SystemTime::now();
        if Self::of(store, authority).await?.is_some_and(|before| before.ends(now) > self.ends(now)) {
            return Ok(());
        }
        let value = serde_json::to_vec(self).expect("numbers and texts are JSON");
        state::put(store, &DocumentKind::RetryAfter.name(authority), &value).await
    }
}
