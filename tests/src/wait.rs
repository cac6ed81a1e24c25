//! Waiting for a condition, with a deadline: what tests do in place of sleeping.

use std::time::{Duration, Instant};

/// Long enough for anything that ought to happen at once, on a busy machine.
pub const SOON: Duration = Duration::from_secs(20);

/// How often a condition is looked at.
const EVERY: Duration = Duration::from_millis(20);

/// For what controllers, a kubelet and a container do one after the other on a busy machine.
pub const STARTED: Duration = Duration::from_secs(60);

/// Looks until there is something to see, and returns it.
///
/// Panics with `what` when the deadline passes first.
pub async fn wait_for<T>(what: &str, deadline: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    wait_instead_of(what, deadline, async || look().await.ok_or("")).await
}

/// As [`wait_for`]; also tells what there was to see instead at last.
pub async fn wait_instead_of<T, I: std::fmt::Display>(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<T, I>,
) -> T {
    let begun = Instant::now();
    loop {
        match look().await {
            Ok(seen) => return seen,
            Err(instead) => {
                assert!(begun.elapsed() < deadline, "waited {deadline:?} in vain for: {what} {instead}");
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}
