//! How the process ends: readiness fails, listeners close, requests finish, tunnels are told, the rest is cut.
//!
//! ```text
//! SIGTERM ─ delay ─► closing ─ after ─► close_tunnels ─ spread ─► (handshake of closing) ─► cut
//! ```
//! Each step ends early when no connection is left, and all waiting ends with a second signal.

use crate::edge::Edge;
use prometheus::IntGauge;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How long tunnels that were sent a Close may wait for the answer (RFC 6455 §7.1.1), and answers may still leave.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// The steps of a drain after [`Edge::draining`], and the connections that it waits for. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Drain {
    /// The listeners close.
    pub closing: CancellationToken,
    /// What is still open is dropped.
    pub cut: CancellationToken,
    hurry: CancellationToken,
    connections: TaskTracker,
}

impl Drain {
    /// Ends all waiting: what a second signal does.
    pub fn hurry(&self) {
        self.hurry.cancel();
    }

    /// Waits so long, or until it is hurried.
    pub async fn pause(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.hurry.cancelled() => {}
        }
    }

    /// A slot for one connection, or one accept loop: the process does not end before it is dropped.
    pub fn slot(&self, open: Option<IntGauge>) -> Slot {
        if let Some(open) = &open {
            open.inc();
        }
        Slot { open, _token: self.connections.token() }
    }

    /// How many slots are taken.
    pub fn slots(&self) -> usize {
        self.connections.len()
    }

    /// Completes when the last slot was given back after [`Drain::closing`].
    pub async fn gone(&self) {
        self.closing.cancelled().await;
        self.connections.close();
        self.connections.wait().await;
    }
}

/// One connection among those that a drain waits for.
#[derive(Debug)]
pub struct Slot {
    open: Option<IntGauge>,
    _token: TaskTrackerToken,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(open) = &self.open {
            open.dec();
        }
    }
}

impl Edge {
    /// Completes when it is this tunnel's turn to close with 1012: at a random moment of `drain.spread`, so that
    /// not all come back at once; at once when the drain is hurried.
    pub async fn tunnel_turn(&self) {
        self.close_tunnels.cancelled().await;
        let spread = self.config.load().drain.spread;
        self.drain.pause(spread.mul_f64(random_share())).await;
    }
}

/// A random number from 0 up to, not including, 1.
fn random_share() -> f64 {
    // The seed of the standard hasher is random enough to spread load by, and needs no crate.
    let bits = u32::try_from(RandomState::new().hash_one(()) >> 32).expect("32 bits are left");
    f64::from(bits) / (f64::from(u32::MAX) + 1.0)
}

/// Waits for SIGTERM or SIGINT and drains; a second one hurries. Returns when the process may end.
///
/// # Errors
/// Signals cannot be caught.
pub async fn on_signal(edge: &Edge) -> io::Result<()> {
    let mut signals = Signals::new()?;
    signals.next().await;
    tracing::info!(drain.connections = edge.drain.slots(), "draining");
    let drained = run(edge);
    tokio::pin!(drained);
    tokio::select! {
        () = &mut drained => return Ok(()),
        () = signals.next() => {}
    }
    tracing::info!(drain.connections = edge.drain.slots(), "draining now");
    edge.drain.hurry();
    drained.await;
    Ok(())
}

/// Drains; returns when the last connection is gone or was cut.
pub async fn run(edge: &Edge) {
    let times = edge.config.load().drain.clone();
    let drain = &edge.drain;
    edge.draining.cancel();
    drain.pause(times.delay).await;
    drain.closing.cancel();
    let steps = async {
        drain.pause(times.after).await;
        edge.close_tunnels.cancel();
        drain.pause(times.spread).await;
        tokio::time::sleep(LAST_WORDS).await;
        tracing::warn!(drain.connections = drain.slots(), "connections were cut at the end of the drain");
        drain.cut.cancel();
    };
    tokio::select! {
        () = drain.gone() => {}
        () = steps => {}
    }
}

/// The two signals that end the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
