//! Waiting for a condition, with a deadline: what tests do in place of sleeping.

use std::time::{Duration, Instant};

/// Long enough for anything that ought to happen at once, on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(20);

/// Looks until there is something to see, and returns it.
///
/// Panics with `what` when the deadline passes first.
pub async fn wait_for<T>(what: &str, deadline: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(begun.elapsed() < deadline, "waited {deadline:?} in vain for: {what}");
        tokio::time::sleep(EVERY).await;
    }
}
