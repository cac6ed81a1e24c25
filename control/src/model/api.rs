//! The API server: objects with versions and preconditions, a log of what changed, and what was forgotten of it.

use super::{Millis, Uses};
use crate::usage::Document;
use crate::{Cause, Identity, StopReason};
use config::WorkspaceId;
use std::collections::{BTreeMap, BTreeSet};

/// A StatefulSet of one and its pod.
#[derive(Debug, Clone)]
pub(super) struct Set {
    pub(super) uid: u64,
    /// `resourceVersion`.
    pub(super) version: u64,
    pub(super) owner: Identity,
    pub(super) wanted: Option<Wanted>,
    /// Whether it has one replica and not none.
    pub(super) runs: bool,
    pub(super) deleting: bool,
    pub(super) mark: Option<StopReason>,
    pub(super) stopped: Option<StopReason>,
    pub(super) failed: Option<Cause>,
    /// There is one at most, unless somebody makes more.
    pub(super) pods: Vec<Pod>,
    /// Whether Usher started it and it did not accept connections yet.
    pub(super) starting: bool,
}

/// When it was wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    /// By the server's clock, in seconds.
    pub(super) second: i64,
    /// By the clock of the replica that asked, in milliseconds.
    pub(super) at_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) uid: u64,
    /// Whether it has an address, and accepts connections there.
    pub(super) accepts: bool,
    /// Whether it will never accept any.
    pub(super) broken: bool,
    pub(super) ending: bool,
}

/// What was changed: `None` = it is gone.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) id: WorkspaceId,
    pub(super) version: u64,
    pub(super) set: Option<Set>,
}

/// A record of use.
#[derive(Debug)]
pub(super) struct UseRecord {
    pub(super) name: String,
    pub(super) document: Document,
    /// When its writer looked at the uses.
    pub(super) began: Millis,
    /// Which they truly were.
    pub(super) used: Uses,
    /// Whom its writer took for gone then.
    pub(super) gone: BTreeSet<String>,
}

/// A request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// 409, or 404.
    Conflict,
    /// It is somebody else's.
    NotTheOwner,
}

#[derive(Debug, Default)]
pub(super) struct Api {
    version: u64,
    uids: u64,
    pub(super) sets: BTreeMap<WorkspaceId, Set>,
    pub(super) log: Vec<Change>,
    /// Records of use, by when they were written; the last of each name stands.
    pub(super) uses: Vec<UseRecord>,
    pub(super) deleted_uses: BTreeSet<String>,
    pub(super) volumes: BTreeSet<WorkspaceId>,
}

impl Api {
    pub(super) fn uid(&mut self) -> u64 {
        self.uids += 1;
        self.uids
    }

    /// Makes an object, unless there is one.
    pub(super) fn create(
        &mut self,
        id: &WorkspaceId,
        owner: Identity,
        wanted: Wanted,
    ) -> Result<u64, Refused> {
        if self.sets.contains_key(id) {
            return Err(Refused::Conflict);
        }
        let set = Set {
            uid: self.uid(),
            version: 0,
            owner,
            wanted: Some(wanted),
            runs: false,
            deleting: false,
            mark: None,
            stopped: None,
            failed: None,
            pods: Vec::new(),
            starting: false,
        };
        self.sets.insert(id.clone(), set);
        self.volumes.insert(id.clone());
        Ok(self.changed(id))
    }

    /// Changes an object if it is still as it was read.
    pub(super) fn patch(
        &mut self,
        id: &WorkspaceId,
        read: &Set,
        checks_version: bool,
        change: impl FnOnce(&mut Set),
    ) -> Result<u64, Refused> {
        let set = self.sets.get_mut(id).filter(|set| set.uid == read.uid && !set.deleting);
        let set =
            set.filter(|set| !checks_version || set.version == read.version).ok_or(Refused::Conflict)?;
        change(set);
        Ok(self.changed(id))
    }

    /// Somebody changed something about it: the cluster's own controllers, or a hand.
    pub(super) fn touch(&mut self, id: &WorkspaceId, change: impl FnOnce(&mut Set)) {
        if let Some(set) = self.sets.get_mut(id) {
            change(set);
            self.changed(id);
        }
    }

    pub(super) fn remove(&mut self, id: &WorkspaceId) {
        self.sets.remove(id);
        self.version += 1;
        self.log.push(Change { id: id.clone(), version: self.version, set: None });
    }

    fn changed(&mut self, id: &WorkspaceId) -> u64 {
        self.version += 1;
        if let Some(set) = self.sets.get_mut(id) {
            set.version = self.version;
            self.log.push(Change { id: id.clone(), version: self.version, set: Some(set.clone()) });
        }
        self.version
    }

    /// The records of use that stand.
    pub(super) fn standing_uses(&self) -> Vec<usize> {
        let mut last: BTreeMap<&str, usize> = BTreeMap::new();
        for (number, record) in self.uses.iter().enumerate() {
            last.insert(&record.name, number);
        }
        last.retain(|name, _| !self.deleted_uses.contains(*name));
        last.into_values().collect()
    }
}

impl Set {
    pub(super) fn pod(&self) -> Option<&Pod> {
        self.pods.last()
    }
}
