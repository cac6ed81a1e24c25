//! The seam between deciding and doing: what a driver of workspaces must be able to do.

use crate::{Cause, Grant, Identity, StopReason};
use config::{RouteName, Template, WorkspaceId};
use futures_util::stream::BoxStream;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Starts and stops workspaces and tells what it sees. Implemented by `process` and, later, `kubernetes`.
#[async_trait::async_trait]
pub trait Driver: Send + Sync + 'static {
    /// What is there now, one event each, then [`Event::Synced`], then every change as it is seen.
    ///
    /// Events of one workspace come in order. Once [`Driver::act`] has returned `Ok`, no event that is told later
    /// shows the workspace as it was before. The stream ends only when the driver is broken.
    fn observe(&self) -> BoxStream<'static, Event>;

    /// Does one action. Idempotent: doing it again changes nothing and succeeds.
    ///
    /// Of one workspace, one thing is asked for at a time. `Ok` means that it is under way; what became of it is told by [`Driver::observe`].
    ///
    /// # Errors
    /// The [`Cause`] for which it cannot be done.
    async fn act(&self, action: Action) -> Result<(), Cause>;

    /// The last lines of a workspace's output, at most 64 lines and 16 KiB, lossily decoded; empty when there
    /// is none or it cannot be read, and of a route, whose output is about all who use it.
    async fn log_tail(&self, id: &WorkspaceId) -> String;

    /// Removes the files that a deleted workspace has left. `false` = there are none.
    ///
    /// With an `owner` only theirs; without one an operator asks, and whoever's they are they go.
    ///
    /// # Errors
    /// They are somebody else's, there is a workspace of that name, or it cannot be done now.
    async fn remove_kept_files(&self, id: &WorkspaceId, owner: Option<&Identity>) -> Result<bool, Cause> {
        let (_, _) = (id, owner);
        Ok(false)
    }

    /// Set if other Ushers see and start the same workspaces: what they have to agree on is then written down by
    /// [`Action::Want`], [`Action::Mark`] and [`Action::Unmark`], and told to all by [`Driver::observe`]. A driver
    /// that is alone is never asked for these.
    fn shared(&self) -> Option<Shared> {
        None
    }
}

/// What a driver tells of its part among several Ushers.
#[derive(Debug, Clone)]
pub struct Shared {
    /// The name of this Usher among all, never used by another: its record of last use has it.
    pub name: String,
    /// How often it writes that record.
    pub use_every: Duration,
    /// Whether marks are told in the growing order of their numbers over all workspaces: then the number of the newest
    /// says which were seen. Else each is told for itself.
    pub one_order: bool,
    /// Whether this Usher is the one that stops what is idle. Two may believe so for a while: that costs work and
    /// nothing else.
    pub leads: watch::Receiver<bool>,
}

/// What a driver is asked to do.
#[derive(Debug, Clone)]
pub enum Action {
    /// Write down that it is to run when its turn comes, and make it if there is none. Its place among all that
    /// wait is told by [`Driver::observe`].
    Want(StartSpec),
    /// Make it run: its turn has come. The request cannot name a second owner: what is there must be this owner's.
    Start(StartSpec),
    /// Write down that it seems unused: the first half of a stop.
    Mark {
        /// Which.
        id: WorkspaceId,
        /// Only this generation.
        generation: Generation,
        /// Why it would be stopped.
        reason: StopReason,
    },
    /// Take a mark back: a newer use is known.
    Unmark {
        /// Which.
        id: WorkspaceId,
        /// Only this mark.
        mark: Mark,
    },
    /// End every process of it; its files stay.
    Stop {
        /// Which.
        id: WorkspaceId,
        /// Only this generation; a newer one is left alone. `None` = it was asked for, and no instance of it was
        /// seen yet.
        generation: Option<Generation>,
        /// What is written down with it.
        why: Stop,
    },
    /// End it and remove its records; with `volume` also its files.
    Delete {
        /// Which.
        id: WorkspaceId,
        /// Whether the files go too.
        volume: bool,
        /// Who asks: only what is theirs goes. `None` = an operator, and whoever's it is it goes.
        owner: Option<Identity>,
    },
    /// Look again at once at one that waits out a back-off. What never ran so far is made anew, from its template as
    /// that is now.
    Nudge(StartSpec),
}

impl Action {
    /// Which workspace it is about.
    pub fn id(&self) -> &WorkspaceId {
        match self {
            Self::Want(spec) | Self::Start(spec) | Self::Nudge(spec) => &spec.id,
            Self::Mark { id, .. }
            | Self::Unmark { id, .. }
            | Self::Stop { id, .. }
            | Self::Delete { id, .. } => id,
        }
    }
}

/// Why a workspace is ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// Its owner or an operator asked for it, or it has nobody to run for.
    Asked,
    /// It is unused or too old. Done only while this mark stands.
    Marked(Mark),
    /// It failed: all who observe it are told the cause as [`ObservedPhase::Failed`].
    Failed(Cause),
    /// It was not begun: the same, unless another began it.
    Refused(Cause),
}

/// The first half of a stop, as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Grows from mark to mark over all workspaces, and is told in growing order also when all is told anew: whoever
    /// is told of one has been told of all before it.
    pub number: u64,
    /// Why it would be stopped.
    pub reason: StopReason,
}

/// A place among all that wait for their turn: the same for all who observe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order {
    /// The time at which it was written down, by the clock of where it is written down, in seconds.
    pub second: i64,
    /// Tells apart what was written down in the same second.
    pub within: u64,
}

/// All that a start needs.
#[derive(Debug, Clone)]
pub struct StartSpec {
    /// Which.
    pub id: WorkspaceId,
    /// Whose.
    pub owner: Identity,
    /// How.
    pub template: Arc<Template>,
    /// The host name under which users see it, without a port: `alice.lab.example.org`.
    pub host: String,
    /// What it was admitted with: [`Action::Want`] writes it down.
    pub grant: Grant,
}

/// One running instance of a workspace: changes with every start, never used twice.
///
/// Pod UID, or a random number that is recorded before the process is forked. Upstream connections are pooled under it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Generation(pub Arc<str>);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a workspace accepts connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Whether both are the same host's, whatever the ports.
    pub(crate) fn is_on_host_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Tcp(one), Self::Tcp(other)) => one.ip() == other.ip(),
            (one, other) => one == other,
        }
    }
}

/// What a driver saw.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are the large one: a box would only be one more thing to make"
)]
pub enum Event {
    /// A workspace is as told.
    Seen(Observed),
    /// Nothing of this workspace is left but, perhaps, its files.
    Gone(WorkspaceId),
    /// All that was there when [`Driver::observe`] was called has been told.
    Synced,
    /// Whether what was told of this scope is still known to be true. `false` = nothing is heard at the moment: what
    /// runs may have ended meanwhile, and its address may be somebody else's.
    Sighted(Scope, bool),
}

/// What is seen together, and out of sight together. Each is seen until it is told that it is not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// The workspaces of this name space; with one for all it has no name.
    Space(Arc<str>),
    /// What one route leads to.
    Route(RouteName),
}

impl Default for Scope {
    fn default() -> Self {
        Self::Space("".into())
    }
}

/// The state of one workspace as its driver sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Which.
    pub id: WorkspaceId,
    /// Whose, as recorded with it.
    pub owner: Identity,
    /// The template that it was started from.
    pub template: config::TemplateName,
    /// What its last start was admitted with, as recorded with it.
    pub grant: Grant,
    /// How far it is.
    pub phase: ObservedPhase,
    /// What it is seen together with.
    pub scope: Scope,
    /// The members of what runs, where it can have several; empty = it is one. Of members that come and go it stays
    /// the same instance, and the address in [`ObservedPhase::Running`] is that of one that serves, if one does.
    pub members: Vec<Member>,
    /// The first half of a stop, while it stands.
    pub mark: Option<Mark>,
    /// Why it was last stopped, if that was written down or shows by itself.
    pub stopped: Option<StopReason>,
}

impl Observed {
    /// One of a driver that is alone, which has no marks.
    pub fn alone(
        id: WorkspaceId,
        owner: Identity,
        template: config::TemplateName,
        grant: Grant,
        phase: ObservedPhase,
    ) -> Self {
        let (scope, members) = (Scope::default(), Vec::new());
        Self { id, owner, template, grant, phase, scope, members, mark: None, stopped: None }
    }
}

/// One of several that together are an instance: traffic may go to any of them, and ends with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which, as [`Generation`] says: connections are pooled under it.
    pub generation: Generation,
    /// Where.
    pub address: Address,
    /// Whether it takes new traffic. One that does not keeps what it has until it is gone.
    pub serves: bool,
}

/// How far a driver sees a workspace to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObservedPhase {
    /// Not running.
    Stopped,
    /// To be started when its turn comes.
    Wanted {
        /// Its place.
        order: Order,
    },
    /// On its way, or running. Whether it accepts is for the prober to find out.
    Running {
        /// Which instance; `None` = there is none yet, or its last one is gone and the next is not there yet.
        generation: Option<Generation>,
        /// Where it will accept connections, once known.
        address: Option<Address>,
        /// How far its start is.
        step: Step,
        /// What hinders its start.
        trouble: Option<Trouble>,
    },
    /// Being ended; takes no new connections.
    Stopping {
        /// Which instance.
        generation: Generation,
        /// What holds it up.
        trouble: Option<Cause>,
    },
    /// It ended by itself or could not be started, and nothing of it runs.
    Failed {
        /// Why, in words for people.
        cause: Cause,
    },
}

impl ObservedPhase {
    /// An instance whose main process runs.
    pub fn started(generation: Generation, address: Option<Address>) -> Self {
        Self::Running { generation: Some(generation), address, step: Step::Started, trouble: None }
    }

    /// An instance that is being ended as it should.
    pub fn stopping(generation: Generation) -> Self {
        Self::Stopping { generation, trouble: None }
    }
}

/// How far a start is. A change is progress; each step has its own patience.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// It was asked for.
    Asked,
    /// It waits for a machine that can take it.
    Scheduling,
    /// Its image is on the way.
    Pulling,
    /// Its volumes and containers are being made.
    Creating,
    /// Its main process runs.
    Started,
}

/// What hinders a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What it is.
    pub cause: Cause,
    /// What follows.
    pub weight: Weight,
}

/// What follows from what hinders a start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Nothing: it is why the instance before ended, and not why this start takes long.
    Notice,
    /// It may pass, or somebody may mend it; if the start takes too long, this is why.
    Hindrance,
    /// It stays so until somebody changes something: the start has failed, and is taken back.
    End,
}
