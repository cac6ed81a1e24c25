//! Named points at which a process that was built for the proof dies, as by a `kill -9` at that very line.
//!
//! Without the feature `crash-points` a point is nothing.

/// The variable that names the point at which to die.
pub const VARIABLE: &str = "USHER_CRASH_AT";

/// Every point, in the order in which a start and then a stop pass them.
pub const POINTS: &[&str] = &[
    "spawn.asked",
    "spawn.intent-recorded",
    "spawn.forked",
    "spawn.process-recorded",
    "spawn.told",
    "stop.asked",
    "stop.intent-recorded",
    "stop.signalled",
    "stop.killed",
    "stop.all-ended",
    "stop.end-recorded",
    "delete.files-removed",
];

/// Dies here if this is the point that [`VARIABLE`] names.
#[cfg(feature = "crash-points")]
pub(crate) fn point(name: &'static str) {
    use rustix::process::{Signal, getpid, kill_process};
    use std::sync::LazyLock;

    static CHOSEN: LazyLock<Option<String>> = LazyLock::new(|| std::env::var(VARIABLE).ok());

    debug_assert!(POINTS.contains(&name), "{name} is missing in POINTS");
    if CHOSEN.as_deref() == Some(name) {
        kill_process(getpid(), Signal::KILL).expect("a process may signal itself");
    }
}

/// Nothing: the feature `crash-points` is off.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub(crate) const fn point(_name: &'static str) {}
