//! What becomes of sessions that are to end: who ended which, told once over all replicas.

use super::{Session, SessionRef};
use crate::RecordError;
use std::sync::Arc;

/// A session that was ended by whoever is told this, and by nobody else.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its record, which is gone.
    pub reference: SessionRef,
    /// As it was.
    pub session: Arc<Session>,
}

/// What it came to when sessions were to be ended.
#[derive(Debug, Default)]
#[must_use]
pub struct Ending {
    /// Those that ended by this. One that ended meanwhile by somebody else is not among them.
    pub ended: Vec<Ended>,
    /// Why it stopped before all had ended, or could not tell; those above have ended all the same.
    pub failed: Option<RecordError>,
}

impl Ending {
    /// The same; if nothing else failed, this did.
    pub fn and(self, other: Result<(), RecordError>) -> Self {
        Self { failed: self.failed.or(other.err()), ..self }
    }

    /// How many ended.
    ///
    /// # Errors
    /// The store failed; some may have ended.
    pub fn result(self) -> Result<usize, RecordError> {
        match self.failed {
            Some(error) => Err(error),
            None => Ok(self.ended.len()),
        }
    }
}

/// Why a session ended without anybody having asked for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Nobody used it for so long.
    Unused,
    /// It was as old as a session gets.
    TooOld,
    /// Its user had too many, and it was the oldest.
    TooMany,
}
