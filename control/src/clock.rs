//! The one place that reads the clock: tokio's, which is the system's monotonic one and which tests can pause.

use std::time::{Duration, Instant};

/// Now.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The time that lies `age` before `now`; `now` itself where the clock cannot count so far back, which makes
/// the thing younger than it is and never older.
pub(crate) fn ago(now: Instant, age: Duration) -> Instant {
    now.checked_sub(age).unwrap_or(now)
}
