//! What became of TLS handshakes.

use super::Maker;
use prometheus::{Histogram, IntCounter};
use std::time::Duration;

/// How a handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// Done, in full, with TLS 1.2.
    Full12,
    /// Done in full with TLS 1.3.
    Full13,
    /// Done with a ticket with TLS 1.2.
    Resumed12,
    /// Done with a ticket with TLS 1.3.
    Resumed13,
    /// An authority asked for the certificate of a challenge (RFC 8737).
    Challenge,
    /// There is no certificate for the name asked for, or none was named.
    UnknownName,
    /// The client speaks no version, suite or protocol that is spoken here.
    Incompatible,
    /// The client did not like what it saw: mostly the certificate.
    RefusedByClient,
    /// The client left in the middle of it, or before: what looks whether a port is open does.
    Left,
    /// It was not over within `tls.handshake_timeout`.
    Timeout,
    /// A limit turned it away before it began, or ended it for that of somebody who had fewer.
    Limited,
    /// It was no TLS, or broke its rules.
    Error,
}

/// Version and result, in the order of [`Handshake`].
const LABELS: [[&str; 2]; 12] = [
    ["1.2", "ok"],
    ["1.3", "ok"],
    ["1.2", "resumed"],
    ["1.3", "resumed"],
    ["none", "challenge"],
    ["none", "unknown_name"],
    ["none", "incompatible"],
    ["none", "refused_by_client"],
    ["none", "left"],
    ["none", "timeout"],
    ["none", "limited"],
    ["none", "error"],
];
/// Upper bounds of the buckets in seconds: mostly two times the way to the client and back; slow where the core is busy.
const BUCKETS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How many there were, and how long they took.
pub struct Handshakes {
    ended: [IntCounter; LABELS.len()],
    durations: Histogram,
}

impl Handshakes {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self, prometheus::Error> {
        let ended = make.counters(
            "usher_tls_handshakes_total",
            "TLS handshakes, by how they ended and with which version; none where no HTTP came of it.",
            &["version", "result"],
        )?;
        let durations = make.histogram(
            "usher_tls_handshake_duration_seconds",
            "Time that TLS handshakes took which were done.",
            BUCKETS,
        )?;
        Ok(Self { ended: LABELS.map(|labels| ended.with_label_values(&labels)), durations })
    }

    /// Counts one that is over, be it that it never began.
    pub fn ended(&self, how: Handshake) {
        self.ended[how as usize].inc();
    }

    /// Counts one that was done.
    pub fn done(&self, how: Handshake, took: Duration) {
        self.ended(how);
        self.durations.observe(took.as_secs_f64());
    }
}
