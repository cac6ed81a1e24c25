//! The records of `dns-01` at real DNS servers (BIND), by real programs, and at stand-ins of APIs that are not to be had
//! here. `.ci/provision.sh dns` installs what is needed.

mod apis;
mod bind;
mod programs;
mod propagation;
mod relay;
mod servers;
mod updates;

use std::time::{Duration, Instant};

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until something is so, and fails with what it waited for.
async fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
