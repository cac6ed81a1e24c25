//! How a replica finds out that it has heard of all that was written so far: it writes a marker among the records of
//! sessions, and waits until its watch tells it.
//!
//! A watch tells changes in order. A list, with which it begins anew after a fault, does not: who asks in the middle of one
//! may hear too early that it has all.

use super::Sessions;
use crate::{Kind, RecordError, Records, hash};

/// What the names of markers begin with, and no session's.
const MARKER: &str = "marker-";

impl Sessions {
    /// Waits until every session is known that any Usher has made so far. It costs two writes: for those who have proved
    /// that they may end some.
    ///
    /// # Errors
    /// The store fails, or does not tell: those that are known may be all, or not.
    pub async fn catch_up(&self) -> Result<(), RecordError> {
        let marker = format!("{MARKER}{}", hash::hex(hash::random()?));
        let written = self.records.create(Kind::Session, &marker, b"{}".to_vec()).await;
        let caught_up = match written {
            Ok(version) => {
                self.snapshot.await_echo(|| (self.snapshot.load().reached >= version).then_some(())).await
            }
            Err(error) => Err(error),
        };
        // It may be there as well where that could not be told.
        delete(&*self.records, &marker).await;
        caught_up
    }
}

/// Deletes the markers of those who died over it, of these names of records.
pub(super) async fn clear_away(records: &dyn Records, names: impl Iterator<Item = &str>) {
    for marker in names.filter(|name| name.starts_with(MARKER)) {
        delete(records, marker).await;
    }
}

async fn delete(records: &dyn Records, marker: &str) {
    if let Err(error) = records.delete(Kind::Session, marker).await {
        tracing::warn!(%error, "a marker among the records of sessions could not be deleted; a later start does");
    }
}
