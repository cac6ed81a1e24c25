//! Lines that did not get into the file: counted one by one, told now and then.

use crate::metrics::AuditMetrics;
use std::fmt::Display;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How often at most it is said: a full disk loses every line, and one event a minute is enough to be noticed.
const AGAIN: Duration = Duration::from_secs(60);

/// Counts and tells of lost lines.
pub(super) struct Losses {
    metrics: AuditMetrics,
    /// Without a file nothing is lost: the log has it all.
    has_file: bool,
    began: Instant,
    /// When it was said last, in milliseconds after `began` and one more; 0 = never.
    said: AtomicU64,
}

impl Losses {
    pub(super) fn new(metrics: AuditMetrics, has_file: bool) -> Self {
        Self { metrics, has_file, began: Instant::now(), said: AtomicU64::new(0) }
    }

    /// One was lost.
    pub(super) fn one(&self, why: &dyn Display) {
        if !self.has_file {
            return;
        }
        self.metrics.lost();
        if self.is_time(Instant::now()) {
            tracing::error!(error = %why, "audit lines are missing in the file: they stand in the log alone");
        }
    }

    fn is_time(&self, now: Instant) -> bool {
        let now =
            u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX - 1) + 1;
        let again = u64::try_from(AGAIN.as_millis()).unwrap_or(u64::MAX);
        let said = self.said.load(Relaxed);
        let is_time = said == 0 || now.saturating_sub(said) >= again;
        is_time && self.said.compare_exchange(said, now, Relaxed, Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;

    #[test]
    fn a_loss_is_said_at_once_and_then_once_a_minute() {
        let losses = Losses::new(Metrics::new().unwrap().audit, true);
        let at = |seconds| losses.began + Duration::from_secs(seconds);
        let said: Vec<_> = [0, 1, 59, 60, 61, 119, 120].map(|second| losses.is_time(at(second))).into();
        assert_eq!(said, [true, false, false, true, false, false, true]);
    }
}
