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

/// How long the last tunnels may take to come to the end of a frame, send their Close and have it answered
/// (RFC 6455 §7.1.1): a little more than each of them allows itself.
const LAST_WORDS: Duration = Duration::from_secs(8);

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

    /// All steps, at these times.
    async fn run(
        &self,
        times: &config::Drain,
        draining: &CancellationToken,
        close_tunnels: &CancellationToken,
    ) {
        draining.cancel();
        self.pause(times.delay).await;
        self.closing.cancel();
        let steps = async {
            self.pause(times.after).await;
            close_tunnels.cancel();
            self.pause(times.spread).await;
            tokio::time::sleep(LAST_WORDS).await;
            tracing::warn!(drain.connections = self.slots(), "connections were cut at the end of the drain");
            self.cut.cancel();
        };
        tokio::select! {
            () = self.gone() => {}
            () = steps => {}
        }
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
pub async fn on_signal(edge: &Edge, mut signals: Signals) {
    signals.next().await;
    tracing::info!(drain.connections = edge.drain.slots(), "draining");
    let drained = run(edge);
    tokio::pin!(drained);
    tokio::select! {
        () = &mut drained => return,
        () = signals.next() => {}
    }
    tracing::info!(drain.connections = edge.drain.slots(), "draining now");
    edge.drain.hurry();
    drained.await;
}

/// Drains; returns when the last connection is gone or was cut.
pub async fn run(edge: &Edge) {
    let times = edge.config.load().drain.clone();
    edge.drain.run(&times, &edge.draining, &edge.close_tunnels).await;
}

/// The two signals that end the process: once this is there, they no longer end it on the spot.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes them over.
    ///
    /// # Errors
    /// The system refuses.
    pub fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, timeout};

    const TIMES: config::Drain = config::Drain {
        delay: Duration::from_secs(5),
        after: Duration::from_secs(300),
        spread: Duration::from_secs(30),
    };

    /// A drain under way, and what it tells others.
    struct Running {
        drain: Drain,
        draining: CancellationToken,
        close_tunnels: CancellationToken,
        since: Instant,
        done: tokio::task::JoinHandle<()>,
    }

    fn start(drain: &Drain) -> Running {
        let (draining, close_tunnels) = (CancellationToken::new(), CancellationToken::new());
        let (told, steps, all) = (draining.clone(), close_tunnels.clone(), drain.clone());
        let done = tokio::spawn(async move { all.run(&TIMES, &told, &steps).await });
        Running { drain: drain.clone(), draining, close_tunnels, since: Instant::now(), done }
    }

    #[tokio::test(start_paused = true)]
    async fn each_step_comes_at_its_time_and_what_is_left_is_cut() {
        let drain = Drain::default();
        let _open = drain.slot(None);
        let running = start(&drain);
        running.draining.cancelled().await;
        assert_eq!(running.since.elapsed(), Duration::ZERO);
        running.drain.closing.cancelled().await;
        assert_eq!(running.since.elapsed().as_secs(), 5);
        running.close_tunnels.cancelled().await;
        assert_eq!(running.since.elapsed().as_secs(), 305);
        running.drain.cut.cancelled().await;
        assert_eq!(running.since.elapsed(), Duration::from_secs(335) + LAST_WORDS);
        running.done.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_with_the_last_connection_but_not_before_the_listeners_close() {
        let drain = Drain::default();
        let running = start(&drain);
        running.done.await.unwrap();
        assert_eq!(running.since.elapsed().as_secs(), 5);
        assert!(!running.drain.cut.is_cancelled() && !running.close_tunnels.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_ends_all_waiting_but_for_the_last_words() {
        let drain = Drain::default();
        let _open = drain.slot(None);
        let running = start(&drain);
        running.draining.cancelled().await;
        running.drain.hurry();
        running.done.await.unwrap();
        assert_eq!(running.since.elapsed(), LAST_WORDS);
        assert!(running.close_tunnels.is_cancelled() && running.drain.cut.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_gone_before_listeners_close_however_few_connections_there_are() {
        let drain = Drain::default();
        timeout(Duration::from_secs(60), drain.gone()).await.unwrap_err();
        drain.closing.cancel();
        let slot = drain.slot(None);
        timeout(Duration::from_secs(60), drain.gone()).await.unwrap_err();
        drop(slot);
        timeout(Duration::from_secs(60), drain.gone()).await.unwrap();
    }

    #[test]
    fn a_slot_counts_its_connection_as_long_as_it_lives() {
        let (drain, open) = (Drain::default(), IntGauge::new("open", "Open.").unwrap());
        let slot = drain.slot(Some(open.clone()));
        assert_eq!((drain.slots(), open.get()), (1, 1));
        drop(slot);
        assert_eq!((drain.slots(), open.get()), (0, 0));
    }

    #[test]
    fn tunnels_do_not_all_come_back_at_once() {
        let shares: Vec<f64> = (0..64).map(|_| random_share()).collect();
        assert!(shares.iter().all(|share| (0.0..1.0).contains(share)));
        assert!(shares.iter().any(|share| *share < 0.3) && shares.iter().any(|share| *share > 0.7));
    }
}
