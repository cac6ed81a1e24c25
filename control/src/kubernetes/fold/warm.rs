//! Warm sets in the fold: taken in apart from workspaces, and told as part of the one that claimed them.

use super::{Fold, Sense, Workspace};
use crate::kubernetes::names;
use crate::kubernetes::notes::Notes;
use crate::kubernetes::reading::Sight;
use crate::kubernetes::warm::{self, Handle, WarmSets};
use config::WorkspaceId;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use std::time::Instant;

impl Fold {
    /// All that is known of warm sets.
    pub(in crate::kubernetes) fn warm(&self) -> &WarmSets {
        &self.warm
    }

    /// Whether all of it is known to be true now.
    pub(in crate::kubernetes) fn is_sighted(&self) -> bool {
        self.is_synced() && self.sight() != Sight::Blind && self.sets == Sense::Whole
    }

    /// A workspace's own set, by its `uid`, and what is written there.
    pub(in crate::kubernetes) fn own(&self, id: &WorkspaceId) -> Option<(&str, &Notes)> {
        self.workspaces.get(id)?.own()
    }

    /// The workspaces that name a warm set which is not theirs.
    pub(in crate::kubernetes) fn in_vain(&self) -> impl Iterator<Item = &WorkspaceId> {
        self.workspaces.iter().filter_map(|(id, workspace)| {
            let (uid, notes) = workspace.own()?;
            let in_vain = notes.claims.is_some() && self.warm.body(uid, notes).is_none();
            in_vain.then_some(id)
        })
    }

    /// The claims of warm sets that are gone which have nobody's files, as far as anything says.
    pub(in crate::kubernetes) fn stray(&self) -> Vec<Handle> {
        let is_named = |claim: &Handle| {
            let mut own = self.workspaces.values().filter_map(Workspace::own);
            own.any(|(_, notes)| {
                let mut named = notes.claims.iter().chain(&notes.files);
                named.any(|set| names::claim_of(set) == claim.name)
            })
        };
        self.warm.stray().filter(|claim| !is_named(claim)).cloned().collect()
    }

    /// Takes in that a warm set is not there any more, or will not be in a moment.
    pub(in crate::kubernetes) fn warm_removed(&mut self, handle: &Handle) {
        let claimant = self.warm.removed(handle);
        self.touched.extend(claimant);
    }

    /// Takes in a set if it is a warm one; else it is handed back.
    pub(super) fn put_warm_set(
        &mut self,
        set: StatefulSet,
        answered: bool,
        now: Instant,
    ) -> Option<StatefulSet> {
        if !warm::is_warm(&set.metadata) {
            return Some(set);
        }
        let claimant = self.warm.put_set(set, answered, now);
        self.touched.extend(claimant);
        None
    }

    pub(super) fn put_warm_pod(&mut self, pod: Pod, now: Instant) -> Option<Pod> {
        if warm::named(&pod.metadata).is_none() {
            return Some(pod);
        }
        let claimant = self.warm.put_pod(pod, now);
        self.touched.extend(claimant);
        None
    }

    /// Takes in that a set is gone, if it was a warm one.
    pub(super) fn warm_set_deleted(&mut self, name: &str) -> bool {
        let claimant = self.warm.set_deleted(name);
        self.touched.extend(claimant);
        warm::is_warm_name(name)
    }

    pub(super) fn warm_pod_deleted(&mut self, name: &str) -> bool {
        let claimant = self.warm.pod_deleted(name);
        self.touched.extend(claimant);
        warm::is_warm_name(name)
    }
}
