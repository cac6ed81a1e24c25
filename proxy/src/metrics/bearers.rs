//! Requests with a token.

use super::Maker;
use prometheus::IntCounterVec;

/// Counts them by kind of the token and result.
pub(super) fn counters(make: &Maker<'_>) -> Result<IntCounterVec, prometheus::Error> {
    make.counters(
        "usher_bearers_total",
        "Requests with a token, by kind of the token and whether it was good.",
        &["kind", "result"],
    )
}
