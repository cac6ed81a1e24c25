//! The seam between deciding and doing: what a driver of workspaces must be able to do.

use crate::{Cause, Identity};
use config::{Template, WorkspaceId};
use futures_util::stream::BoxStream;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// Starts and stops workspaces and tells what it sees. Implemented by `process` and, later, `kubernetes`.
#[async_trait::async_trait]
pub trait Driver: Send + Sync + 'static {
    /// What is there now, one event each, then [`Event::Synced`], then every change as it is seen.
    ///
    /// Events of one workspace come in order. The stream ends only when the driver is broken.
    fn observe(&self) -> BoxStream<'static, Event>;

    /// Does one action. Idempotent: doing it again changes nothing and succeeds.
    ///
    /// `Ok` means that it is under way; what became of it is told by [`Driver::observe`].
    ///
    /// # Errors
    /// The [`Cause`] for which it cannot be done.
    async fn act(&self, action: Action) -> Result<(), Cause>;

    /// The last lines of a workspace's output, at most 64 lines and 16 KiB, lossily decoded; empty when there
    /// is none or it cannot be read.
    async fn log_tail(&self, id: &WorkspaceId) -> String;
}

/// What a driver is asked to do.
#[derive(Debug, Clone)]
pub enum Action {
    /// Make it run. The request cannot name a second owner: what is there must be this owner's.
    Start(StartSpec),
    /// End every process of it; its files stay.
    Stop {
        /// Which.
        id: WorkspaceId,
        /// Only this generation; a newer one is left alone.
        generation: Generation,
    },
    /// End it and remove its records; with `volume` also its files.
    Delete {
        /// Which.
        id: WorkspaceId,
        /// Whether the files go too.
        volume: bool,
    },
    /// Look again at once at one that waits out a back-off.
    Nudge {
        /// Which.
        id: WorkspaceId,
    },
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

/// What a driver saw.
#[derive(Debug, Clone)]
pub enum Event {
    /// A workspace is as told.
    Seen(Observed),
    /// Nothing of this workspace is left but, perhaps, its files.
    Gone(WorkspaceId),
    /// All that was there when [`Driver::observe`] was called has been told.
    Synced,
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
    /// How far it is.
    pub phase: ObservedPhase,
}

/// How far a driver sees a workspace to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObservedPhase {
    /// Not running.
    Stopped,
    /// On its way; may have an address already. Whether it accepts is for the prober to find out.
    Running {
        /// Which instance.
        generation: Generation,
        /// Where it will accept connections, once known.
        address: Option<Address>,
    },
    /// Being ended; takes no new connections.
    Stopping {
        /// Which instance.
        generation: Generation,
    },
    /// It ended by itself or could not be started.
    Failed {
        /// Why, in words for people.
        cause: Cause,
    },
}
