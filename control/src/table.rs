//! The one table: written by the control loop, read by every request without a lock.

mod route;

pub use route::{Part, Route};

use crate::activity::{ms_of, now_ms};
use crate::reconcile::idle;
use crate::{Activity, Cause, CauseCode, Driver, Grant, Identity, OverQuota, Step};
use arc_swap::ArcSwap;
use config::{TemplateName, WorkspaceId};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};

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
    /// Whether what is said here is known to be true now. While it is not, connections that are open may go on, and
    /// none is opened but on its own proof: another's workspace may stand at the address by now.
    pub seen: bool,
    /// Since when it stands there.
    pub since: Instant,
    /// Its use.
    pub activity: Arc<Activity>,
    /// What besides its use decides when it is stopped; only while ready.
    pub terms: Option<Terms>,
    /// The way to it that is shown to nobody, since others may stop it; its use is told all the same.
    pub withheld: Option<Route>,
    /// Why it was last stopped; only while it is stopping or stopped, and if that is known.
    pub stopped: Option<StopReason>,
}

impl Entry {
    /// When it will be stopped, and why it is not stopped yet; only while ready.
    ///
    /// Computed from the counters as they are now, so that nothing has to be published for it each second.
    pub fn why_alive(&self, now: Instant) -> Option<WhyAlive> {
        let (Phase::Ready(route), Some(terms)) = (&self.phase, &self.terms) else { return None };
        Some(idle::why_alive(&self.activity.read(), &route.template.idle, terms, now))
    }
}

/// Why a workspace was stopped that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// Nobody used it for `idle_after`.
    Idle,
    /// It was as old as `max_age`.
    MaxAge,
    /// Its owner or an operator asked for it.
    Asked,
    /// Somebody stopped it where it runs, past Usher: `kubectl scale --replicas=0`.
    ByHand,
    /// It was deleted.
    Deleted,
}

impl StopReason {
    /// The stable text: `idle`, `max_age`, `asked`, `by_hand`, `deleted`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::MaxAge => "max_age",
            Self::Asked => "asked",
            Self::ByHand => "by_hand",
            Self::Deleted => "deleted",
        }
    }

    /// One sentence for the user, short enough for a Close frame (RFC 6455 §5.5: 123 bytes).
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Idle => "The workspace was stopped because it was not used.",
            Self::MaxAge => "The workspace was stopped because it reached its longest running time.",
            Self::Asked => "The workspace was stopped because its owner or an operator asked for it.",
            Self::ByHand => "The workspace was stopped by an operator of the cluster.",
            Self::Deleted => "The workspace was deleted.",
        }
    }
}

/// What it came to when a stop was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopAsked {
    /// There was nothing to stop.
    Nothing,
    /// It was on its way to its end already.
    Already,
    /// It ends since this was asked for.
    Now,
}

/// What besides its use decides when a ready workspace is stopped.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// When this instance was started: `max_age` counts from here.
    pub started: Instant,
    /// The use that is known besides the counters, and its word: becoming ready, or, after a restart of Usher,
    /// what was recorded.
    pub last: (Instant, &'static str),
    /// When its `busy` probe last said that it computes.
    pub busy: Option<Instant>,
    /// Not stopped by idleness before this, since somebody extended it.
    pub extended_until: Option<Instant>,
    /// Not stopped by idleness before this, since its owner keeps it.
    pub kept_until: Option<Instant>,
    /// What other Ushers know of these.
    pub(crate) elsewhere: Elsewhere,
}

/// What other Ushers know of a workspace's use. It counts as what is known here; but it is not told on, since each
/// telling makes an age a little younger, and two who tell each other would keep the workspace for ever.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Elsewhere {
    /// As [`Terms::last`].
    pub(crate) last: Option<(Instant, &'static str)>,
    /// As [`Terms::extended_until`].
    pub(crate) extended_until: Option<Instant>,
    /// As [`Terms::kept_until`].
    pub(crate) kept_until: Option<Instant>,
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
    Starting {
        /// How far it is.
        step: Step,
        /// What hinders it at the moment.
        trouble: Option<Cause>,
    },
    /// Accepts connections.
    Ready(Route),
    /// Being ended; a wake now is remembered and carried out when it has ended.
    Stopping {
        /// What holds it up.
        trouble: Option<Cause>,
    },
    /// Not running, and why. A navigation by POST (retry) or the end of the back-off starts it again.
    Failed {
        /// Why.
        cause: Cause,
        /// Until then a wake is refused with the cause.
        retry_at: Instant,
    },
}

impl Phase {
    /// On its way, and nothing is known to hinder it.
    pub fn starting(step: Step) -> Self {
        Self::Starting { step, trouble: None }
    }

    /// Being ended, and nothing is known to hold it up.
    pub fn stopping() -> Self {
        Self::Stopping { trouble: None }
    }

    /// The stable text: `stopped`, `queued`, `starting`, `ready`, `stopping`, `failed`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Queued { .. } => "queued",
            Self::Starting { .. } => "starting",
            Self::Ready(_) => "ready",
            Self::Stopping { .. } => "stopping",
            Self::Failed { .. } => "failed",
        }
    }
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
    /// A quota of the configuration is used up.
    #[error("{0}")]
    OverQuota(Box<OverQuota>),
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
    /// The template that it has, or that it gets if it has none yet.
    pub template: TemplateName,
    /// What the rules of that template, and of the configuration, give for the owner.
    pub grant: Grant,
    /// The host name under which users see it, without a port.
    pub host: String,
    /// How many of this user's may run or start at a time.
    pub running_max: usize,
    /// Whether a person asked again: skips the back-off of a failure.
    pub retry: bool,
}

/// The table, as it is published.
pub(crate) type Table = HashMap<WorkspaceId, Arc<Entry>>;

/// What is asked of the control loop, each with the way to answer.
pub(crate) enum Request {
    /// [`Workspaces::wake`].
    Wake(Wake, oneshot::Sender<Result<bool, WakeRefused>>),
    /// [`Workspaces::stop`].
    Stop(WorkspaceId, oneshot::Sender<StopAsked>),
    /// [`Workspaces::extend`].
    Extend(WorkspaceId, oneshot::Sender<Option<Instant>>),
    /// [`Workspaces::keep`].
    Keep(WorkspaceId, Duration, oneshot::Sender<Option<Instant>>),
    /// [`Workspaces::delete`].
    Delete { id: WorkspaceId, volume: bool, owner: Option<Identity>, answer: oneshot::Sender<bool> },
}

/// How many requests may wait for the control loop; more wait in their callers.
const REQUESTS: usize = 1024;
/// A table is believed for so long after the control loop last looked at it, which it does each second.
pub(crate) const STALE: Duration = Duration::from_secs(5);

/// The read handle on the table, and the way to ask the control loop for something. Cheap to clone.
#[derive(Clone)]
pub struct Workspaces {
    published: Arc<Published>,
    changes: watch::Receiver<u64>,
    requests: mpsc::Sender<Request>,
    driver: Arc<dyn Driver>,
}

#[derive(Default)]
struct Published {
    table: ArcSwap<Table>,
    synced: AtomicBool,
    cut_off: AtomicBool,
    halted: AtomicBool,
    /// When the control loop last made a turn.
    turned: AtomicU64,
}

/// How far the table may be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    /// [`Workspaces::synced`].
    pub(crate) synced: bool,
    /// [`Workspaces::cut_off`].
    pub(crate) cut_off: bool,
    /// Whether this process was halted a moment ago: see [`Workspaces::is_current`].
    pub(crate) halted: bool,
}

/// The writing end of the table: there is one, in the control loop.
pub(crate) struct Publisher {
    published: Arc<Published>,
    changes: watch::Sender<u64>,
}

impl Publisher {
    /// Whether readers see this already.
    pub(crate) fn shows(&self, standing: Standing) -> bool {
        let Published { synced, cut_off, halted, .. } = &*self.published;
        let [synced, cut_off, halted] = [synced, cut_off, halted].map(|flag| flag.load(Ordering::Acquire));
        standing == Standing { synced, cut_off, halted }
    }

    /// The control loop lives, and so what it has published is what it knows.
    pub(crate) fn turned(&self, now: Instant) {
        self.published.turned.store(ms_of(now), Ordering::Release);
    }

    /// Replaces the table and tells all who wait.
    pub(crate) fn publish(&self, table: Table, standing: Standing) {
        self.published.table.store(Arc::new(table));
        self.published.synced.store(standing.synced, Ordering::Release);
        self.published.cut_off.store(standing.cut_off, Ordering::Release);
        self.published.halted.store(standing.halted, Ordering::Release);
        self.changes.send_modify(|version| *version += 1);
    }
}

/// An empty table: its two ends, and the requests that the control loop is to answer.
pub(crate) fn table(driver: Arc<dyn Driver>) -> (Workspaces, Publisher, mpsc::Receiver<Request>) {
    let published = Arc::new(Published::default());
    let (changed, changes) = watch::channel(0);
    let (requests, inbox) = mpsc::channel(REQUESTS);
    let publisher = Publisher { published: published.clone(), changes: changed };
    (Workspaces { published, changes, requests, driver }, publisher, inbox)
}

impl Workspaces {
    /// The workspace's entry: one atomic load and one hash. `None` = never started.
    pub fn lookup(&self, id: &WorkspaceId) -> Option<Arc<Entry>> {
        self.published.table.load().get(id).cloned()
    }
    /// All entries, for status pages and metrics.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.published.table.load().values().cloned().collect()
    }
    /// Sees a new value whenever a table was published. Look up, and if it is not as wanted, wait for this.
    ///
    /// Take it before the first look, or a change in between is missed.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
    /// Whether the driver has told all that there is.
    pub fn synced(&self) -> bool {
        self.published.synced.load(Ordering::Acquire)
    }
    /// Whether this Usher could not tell the others for four minutes what it knows of use, and they fare better, as far as
    /// it can tell. Whoever can go by way of another should: here nothing is started, and what others may stop soon is
    /// not served any more.
    pub fn cut_off(&self) -> bool {
        self.published.cut_off.load(Ordering::Acquire)
    }
    /// Whether the table is what the control loop knows now: it makes turns, and this process was not halted a moment ago,
    /// so that the watches have had no time to notice.
    pub fn is_current(&self) -> bool {
        let turned = self.published.turned.load(Ordering::Acquire);
        let age = Duration::from_millis(now_ms().saturating_sub(turned));
        !self.published.halted.load(Ordering::Acquire) && age <= STALE
    }
    /// Asks for a start. Idempotent: one that is wanted already stays where it is in the queue.
    ///
    /// When it returns, the table shows what came of it. Tells whether this asked for it, and nobody had before.
    ///
    /// # Errors
    /// Why nothing will happen.
    pub async fn wake(&self, wake: Wake) -> Result<bool, WakeRefused> {
        self.ask(|answer| Request::Wake(wake, answer)).await.unwrap_or(Err(WakeRefused::ShuttingDown))
    }
    /// Asks for a stop; used ones too. Returns when it is under way.
    pub async fn stop(&self, id: &WorkspaceId) -> StopAsked {
        self.ask(|answer| Request::Stop(id.clone(), answer)).await.unwrap_or(StopAsked::Nothing)
    }
    /// Moves the idle stop `idle_after` ahead from now, never beyond `max_age`. Tells the new time.
    pub async fn extend(&self, id: &WorkspaceId) -> Option<Instant> {
        self.ask(|answer| Request::Extend(id.clone(), answer)).await.flatten()
    }
    /// Keeps it for so long from now, at most the template's `keep_until_max`. Tells the new time.
    ///
    /// A later call replaces an earlier one, also by a shorter time; `max_age` holds all the same.
    pub async fn keep(&self, id: &WorkspaceId, time: Duration) -> Option<Instant> {
        self.ask(|answer| Request::Keep(id.clone(), time, answer)).await.flatten()
    }
    /// Stops it and removes its record; with `volume` also its files, those too that were kept when it was deleted
    /// before. `false` = unknown.
    ///
    /// `owner` is who asks; none = an operator.
    ///
    /// # Errors
    /// Why the files that were kept are not removed.
    pub async fn delete(
        &self,
        id: &WorkspaceId,
        volume: bool,
        owner: Option<&Identity>,
    ) -> Result<bool, Cause> {
        let request = |answer| Request::Delete { id: id.clone(), volume, owner: owner.cloned(), answer };
        let known = self.ask(request).await.unwrap_or(false);
        if known || !volume || id.route().is_some() {
            return Ok(known);
        }
        // What was not told yet may be running.
        if !self.synced() {
            let code = CauseCode::ClusterUnreachable;
            let words = code.words();
            return Err(Cause { code, detail: words.detail.to_owned(), hint: words.hint.to_owned() });
        }
        self.driver.remove_kept_files(id, owner).await
    }
    /// The last lines of the workspace's output, at most 64 lines and 16 KiB, lossily decoded.
    pub async fn log_tail(&self, id: &WorkspaceId) -> String {
        self.driver.log_tail(id).await
    }

    /// The control loop's answer; `None` when it has ended.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.ok()?;
        answered.await.ok()
    }
}
