//! The one table: written by the control loop, read by every request without a lock.

use crate::{Activity, Address, Cause, Generation, Identity};
use config::{Template, TemplateName, WorkspaceId};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// One workspace as published. Replaced whole, never changed in place (but for the counters in `activity`).
#[derive(Debug, Clone)]
pub struct Entry {
    /// Which.
    pub id: WorkspaceId,
    /// Whose.
    pub owner: Identity,
    /// The template that it has, running or not.
    pub template: TemplateName,
    /// Where it stands.
    pub phase: Phase,
    /// Since when it stands there.
    pub since: Instant,
    /// Its use.
    pub activity: Arc<Activity>,
    /// When it will be stopped, and why it is not stopped yet; only while ready.
    pub why_alive: Option<WhyAlive>,
}

/// Where a workspace stands.
#[derive(Debug, Clone)]
pub enum Phase {
    /// Not running; a visit starts it.
    Stopped,
    /// Waits for its turn; 1 is next.
    Queued {
        /// From 1.
        position: usize,
    },
    /// On its way.
    Starting,
    /// Accepts connections.
    Ready(Route),
    /// Being ended; a wake now is remembered and carried out when it has ended.
    Stopping,
    /// Not running, and why. A navigation by POST (retry) or the end of the back-off starts it again.
    Failed {
        /// Why.
        cause: Cause,
        /// Until then a wake is refused with the cause.
        retry_at: Instant,
    },
}

impl Phase {
    /// The stable text: `stopped`, `queued`, `starting`, `ready`, `stopping`, `failed`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Queued { .. } => "queued",
            Self::Starting => "starting",
            Self::Ready(_) => "ready",
            Self::Stopping => "stopping",
            Self::Failed { .. } => "failed",
        }
    }
}

/// The way to a ready workspace.
#[derive(Debug, Clone)]
pub struct Route {
    /// Which instance; upstream connections are pooled under it.
    pub generation: Generation,
    /// Where.
    pub address: Address,
    /// The template that this instance was started from.
    pub template: Arc<Template>,
    /// Cancelled when this instance takes no more traffic: tunnels close with 4503.
    pub ended: CancellationToken,
}

/// Why a ready workspace is not stopped, and when it will be.
#[derive(Debug, Clone, PartialEq)]
pub struct WhyAlive {
    /// A stable word: `request`, `client_frame`, `workspace_frame`, `open_socket`, `open_response`,
    /// `download`, `busy`, `started`, `kept`, `extended`, `never`.
    pub reason: &'static str,
    /// Since when nothing newer counted.
    pub since: Instant,
    /// When it stops if nothing more happens; `None` = never.
    pub stops_at: Option<Instant>,
    /// Whether `stops_at` is near enough for the notice (`warn_before`).
    pub warn: bool,
    /// Whether [`Workspaces::extend`] could move `stops_at` (not when `max_age` sets it).
    pub can_extend: bool,
}

/// Why a wake did nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WakeRefused {
    /// The queue of starts is full.
    #[error("the queue of {limit} waiting workspaces is full")]
    QueueFull {
        /// `spawn.queue`.
        limit: usize,
    },
    /// This user already has a start under way, or as many running as `running_max` allows.
    #[error("already {running} of at most {limit} workspaces of this user are running")]
    TooMany {
        /// How many run or start.
        running: usize,
        /// How many may.
        limit: usize,
    },
    /// The workspace failed a moment ago and waits out its back-off.
    #[error("the workspace failed: {}", .0.detail)]
    BackingOff(Cause),
    /// The template is not in the configuration (any more).
    #[error("there is no template {0}")]
    NoTemplate(String),
    /// The control loop is ending.
    #[error("usher is shutting down")]
    ShuttingDown,
}

/// What a wake asks for. The caller has authenticated and authorised the owner.
#[derive(Debug, Clone)]
pub struct Wake {
    /// Which.
    pub id: WorkspaceId,
    /// Whose.
    pub owner: Identity,
    /// The template for a workspace that has none yet.
    pub template: TemplateName,
    /// The host name under which users see it, without a port.
    pub host: String,
    /// How many of this user's may run or start at a time.
    pub running_max: usize,
    /// Whether a person asked again: skips the back-off of a failure.
    pub retry: bool,
}

/// The read handle on the table, and the way to ask the control loop for something. Cheap to clone.
#[derive(Clone)]
pub struct Workspaces {}

impl Workspaces {
    /// The workspace's entry: one atomic load and one hash. `None` = never started.
    pub fn lookup(&self, _id: &WorkspaceId) -> Option<Arc<Entry>> {
        todo!()
    }
    /// All entries, for status pages and metrics.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        todo!()
    }
    /// Sees a new value whenever a table was published. Look up, and if it is not as wanted, wait for this.
    pub fn changes(&self) -> watch::Receiver<u64> {
        todo!()
    }
    /// Whether the driver has told all that there is, so that the table may be believed.
    pub fn synced(&self) -> bool {
        todo!()
    }
    /// Asks for a start. Idempotent: one that is wanted already stays where it is in the queue.
    ///
    /// # Errors
    /// Why nothing will happen.
    pub async fn wake(&self, _wake: Wake) -> Result<(), WakeRefused> {
        todo!()
    }
    /// Asks for a stop; used ones too. Returns when it is under way; `false` = there was nothing to stop.
    pub async fn stop(&self, _id: &WorkspaceId) -> bool {
        todo!()
    }
    /// Moves the idle stop `idle_after` ahead from now, never beyond `max_age`. Tells the new time.
    pub async fn extend(&self, _id: &WorkspaceId) -> Option<Instant> {
        todo!()
    }
    /// Keeps it for so long from now, at most the template's `keep_until_max`. Tells the new time.
    pub async fn keep(&self, _id: &WorkspaceId, _for: Duration) -> Option<Instant> {
        todo!()
    }
    /// Stops it and removes its record; with `volume` also its files. `false` = unknown.
    pub async fn delete(&self, _id: &WorkspaceId, _volume: bool) -> bool {
        todo!()
    }
    /// The last lines of the workspace's output, at most 64 lines and 16 KiB, lossily decoded.
    pub async fn log_tail(&self, _id: &WorkspaceId) -> String {
        todo!()
    }
}
