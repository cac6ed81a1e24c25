//! What control does by itself, told to whoever keeps a trail of it: nobody else could say who did it, and why.

use crate::{CauseCode, Ended, Identity, Over, StopReason};
use config::WorkspaceId;
use std::sync::Arc;

/// Something that was done. Of several replicas the one that did it tells.
#[derive(Debug, Clone)]
pub enum Act {
    /// A session ended by itself.
    SessionOver(Ended, Over),
    /// A start came to nothing. Every replica sees that; the one that leads tells.
    NotStarted {
        /// Of which workspace.
        id: WorkspaceId,
        /// Whose.
        owner: Identity,
        /// Why.
        cause: CauseCode,
    },
    /// A workspace is stopped, since it was unused or too old.
    Reaped {
        /// Which.
        id: WorkspaceId,
        /// Whose.
        owner: Identity,
        /// Why.
        reason: StopReason,
    },
}

/// Whoever wants to be told. It is called where things are decided, so that it must not wait for anything.
#[derive(Clone)]
pub struct Acts(Arc<dyn Fn(Act) + Send + Sync>);

impl Acts {
    /// Calls this with every act.
    pub fn new(told: impl Fn(Act) + Send + Sync + 'static) -> Self {
        Self(Arc::new(told))
    }

    /// Nobody wants to know.
    pub fn untold() -> Self {
        Self::new(drop)
    }

    /// Tells of one.
    pub(crate) fn tell(&self, act: Act) {
        (self.0)(act);
    }
}
