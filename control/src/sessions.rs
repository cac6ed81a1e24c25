//! Who is logged in: records at login and logout, a snapshot for every request.

use crate::{Identity, RecordError};
use config::Label;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The secret id of a session: 16 random bytes. Its record is named by its hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

/// A live session, as requests see it.
#[derive(Debug)]
pub struct Session {
    /// Who.
    pub identity: Identity,
    /// Their label.
    pub label: Label,
    /// What to call them.
    pub display_name: String,
    /// What the rules see of them.
    pub subject: config::Subject,
    /// Cancelled when the session ends, by whatever cause: live sockets close with 4401.
    pub ended: CancellationToken,
    // last use (atomic), created: private
}

impl Session {
    /// Marks the session as used now: an atomic store.
    pub fn touch(&self) {
        todo!()
    }
}

/// What a login leads to.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Who.
    pub identity: Identity,
    /// Their label.
    pub label: Label,
    /// What to call them.
    pub display_name: String,
    /// What the rules see of them.
    pub subject: config::Subject,
}

/// The live sessions. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {}

impl Sessions {
    /// The session with this id, if it is live: one atomic load and one hash.
    pub fn lookup(&self, _id: &SessionId) -> Option<Arc<Session>> {
        todo!()
    }
    /// Waits up to `patience` for a session that another replica may just have made.
    pub async fn await_known(&self, _id: &SessionId, _patience: Duration) -> Option<Arc<Session>> {
        todo!()
    }
    /// Records a new session; it is known here when this returns.
    pub async fn create(&self, _new: NewSession) -> Result<(SessionId, Arc<Session>), RecordError> {
        todo!()
    }
    /// Ends a session everywhere. Ending an unknown one is fine.
    pub async fn end(&self, _id: &SessionId) -> Result<(), RecordError> {
        todo!()
    }
    /// Ends all sessions of somebody; tells how many.
    pub async fn end_all(&self, _identity: &Identity) -> Result<usize, RecordError> {
        todo!()
    }
    /// How many are live.
    pub fn count(&self) -> usize {
        todo!()
    }
}

impl std::fmt::Debug for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionId(…)")
    }
}
