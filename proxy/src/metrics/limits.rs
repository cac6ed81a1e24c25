//! What the limits tell: how often they held somebody back, and how many cells they have.

use super::Maker;
use prometheus::{IntCounter, IntGauge};

/// A limit that held somebody back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// `limits.handshakes_per_address`.
    HandshakesPerAddress,
    /// `limits.handshakes`.
    Handshakes,
    /// `limits.requests_per_address`.
    RequestsPerAddress,
    /// `limits.logins_per_address`.
    LoginsPerAddress,
    /// `limits.bad_tokens_per_address`.
    BadTokensPerAddress,
    /// `limits.requests_per_user`.
    RequestsPerUser,
    /// `limits.spawns_per_user`.
    SpawnsPerUser,
    /// `limits.messages_per_user`.
    MessagesPerUser,
    /// How many answers to failed logins are held at once.
    HeldAnswers,
}

/// In the order of [`Limit`].
const LIMITS: [&str; 9] = [
    "handshakes_per_address",
    "handshakes",
    "requests_per_address",
    "logins_per_address",
    "bad_tokens_per_address",
    "requests_per_user",
    "spawns_per_user",
    "messages_per_user",
    "held_answers",
];
/// The caches of cells.
const CACHES: [&str; 6] = ["handshakes", "requests", "logins", "bad_tokens", "users", "failures"];

/// The metrics of the limits.
#[derive(Clone)]
pub struct LimitMetrics {
    limited: [IntCounter; LIMITS.len()],
    entries: [IntGauge; CACHES.len()],
}

impl LimitMetrics {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self, prometheus::Error> {
        let limited = make.counters(
            "usher_limited_total",
            "Handshakes, requests, logins, starts and WebSockets that a limit refused or ended, by limit.",
            &["limit"],
        )?;
        let entries = make.gauges(
            "usher_limit_entries",
            "Addresses and users whose limits are counted, by cache.",
            &["cache"],
        )?;
        Ok(Self {
            limited: LIMITS.map(|limit| limited.with_label_values(&[limit])),
            entries: CACHES.map(|cache| entries.with_label_values(&[cache])),
        })
    }

    /// Counts one that a limit held back.
    pub fn limited(&self, limit: Limit) {
        self.limited[limit as usize].inc();
    }

    /// How often a limit held somebody back.
    #[cfg(test)]
    pub(crate) fn count_of(&self, limit: Limit) -> u64 {
        self.limited[limit as usize].get()
    }

    /// Tells how many cells each cache has: of handshakes, requests, logins, bad tokens, users and failures.
    pub fn entries(&self, counts: [u64; CACHES.len()]) {
        for (gauge, count) in self.entries.iter().zip(counts) {
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}
