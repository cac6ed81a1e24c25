//! Connections that had to begin with a header of the PROXY protocol, and did not as they should.

use super::Maker;
use prometheus::IntCounter;

/// Why such a connection was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadProxyHeader {
    /// It does not come from a trusted proxy.
    Untrusted,
    /// It begins with something else, or ended within.
    Unreadable,
    /// The header has no end.
    TooLong,
    /// The header did not come in time.
    TooSlow,
}

/// In the order of [`BadProxyHeader`].
const REASONS: [&str; 4] = ["untrusted", "unreadable", "too_long", "too_slow"];

/// How many there were, by reason.
pub struct BadProxyHeaders([IntCounter; REASONS.len()]);

impl BadProxyHeaders {
    pub(super) fn new(make: &Maker<'_>) -> Result<Self, prometheus::Error> {
        let counters = make.counters(
            "usher_bad_proxy_headers_total",
            "Connections closed at a listener with proxy_protocol, by why.",
            &["reason"],
        )?;
        Ok(Self(REASONS.map(|reason| counters.with_label_values(&[reason]))))
    }

    /// Counts one.
    pub fn count(&self, reason: BadProxyHeader) {
        self.0[reason as usize].inc();
    }
}
