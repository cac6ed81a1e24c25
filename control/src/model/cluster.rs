//! What the cluster's controllers and nodes do.

use super::api::Pod;
use super::world::{Thing, World};
use config::WorkspaceId;

impl World {
    pub(super) fn control(&mut self, id: &WorkspaceId) {
        if self.now < self.down_until || self.now < self.frozen_until {
            let back = self.down_until.max(self.frozen_until) + 2_000;
            return self.at(back, Thing::Control(id.clone()));
        }
        let Some(set) = self.api.sets.get(id) else { return };
        let to_run = set.runs && !set.deleting;
        match set.pod().map(|pod| (pod.uid, pod.ending)) {
            None if to_run => {
                let (uid, broken) = (self.api.uid(), self.broken.contains(id));
                let pod = Pod { uid, accepts: false, broken, ending: false };
                self.api.touch(id, |set| set.pods.push(pod));
                let takes = self.chance.u64(300..3_000);
                self.after(takes, Thing::PodAccepts(id.clone(), uid));
            }
            None if set.deleting => self.api.remove(id),
            Some((uid, false)) if !to_run => {
                self.api.touch(id, |set| set.pods.iter_mut().for_each(|pod| pod.ending = true));
                let takes = self.chance.u64(50..5_000);
                self.after(takes, Thing::PodEnds(id.clone(), uid));
            }
            _ => return,
        }
        self.spread();
    }

    pub(super) fn pod_accepts(&mut self, id: &WorkspaceId, uid: u64) {
        let broken = self.broken.contains(id);
        self.api.touch(id, |set| {
            let starting = &mut set.starting;
            if let Some(pod) = set.pods.iter_mut().find(|pod| pod.uid == uid && !pod.broken) {
                (pod.accepts, pod.broken) = (!broken, broken);
                *starting &= broken;
            }
        });
        self.spread();
    }

    pub(super) fn pod_ends(&mut self, id: &WorkspaceId, uid: u64) {
        self.api.touch(id, |set| set.pods.retain(|pod| pod.uid != uid && !pod.ending));
        self.spread();
        self.after(10, Thing::Control(id.clone()));
    }
}
