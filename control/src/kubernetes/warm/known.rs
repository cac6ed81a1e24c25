//! What is known of warm sets: which there are, whose they are, and whether their pods can take a user.

use super::{PREFIX, names, pod_name};
use crate::Identity;
use crate::hash::digest;
use crate::kubernetes::notes::{self, Notes};
use crate::kubernetes::outline::{self, Outline};
use config::{TemplateName, WorkspaceId};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After so long a pod that runs is taken to accept connections: those that began later are given last.
const SETTLED: Duration = Duration::from_secs(10);

/// All warm sets, by their names.
#[derive(Debug, Default)]
pub(in crate::kubernetes) struct WarmSets {
    sets: BTreeMap<String, WarmSet>,
    /// The claims of their pods, by their names: they outlive them.
    claims: BTreeMap<String, VolumeClaim>,
}

/// A claim that a warm set made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VolumeClaim {
    pub(super) handle: Handle,
    /// Whose files it has.
    id: Option<WorkspaceId>,
}

/// One of them, or its pod alone while its set was not told yet.
#[derive(Debug, Default)]
pub(super) struct WarmSet {
    set: Option<Set>,
    pod: Option<Arc<Pod>>,
    /// Since when its pod can take a user.
    ready: Option<Instant>,
    /// The `uid` of a set that was removed: what is still told of it is of the past.
    removed: Option<String>,
}

#[derive(Debug)]
pub(super) struct Set {
    outline: Arc<Outline>,
    /// The annotations of its template: what its pod is to be told.
    told: BTreeMap<String, String>,
    /// Whether it was the answer to a write, which the watch may not have come to yet.
    answered: bool,
    /// Since when it is known.
    pub(super) since: Instant,
    pub(super) template: Option<TemplateName>,
    pub(super) hash: Option<String>,
    pub(super) claim: Claim,
}

/// Whose a warm set is, by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::kubernetes) enum Claim {
    Nobodys,
    /// Of the workspace whose own set has this `uid`.
    Of {
        id: WorkspaceId,
        uid: String,
        owner: Identity,
    },
    /// Of somebody, which cannot be read.
    Unclear,
}

/// A warm set, or the claim of one, as it was when it was looked at: what is done to it is done to no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::kubernetes) struct Handle {
    pub(in crate::kubernetes) name: String,
    pub(in crate::kubernetes) uid: String,
    pub(in crate::kubernetes) version: u64,
}

/// Where a claimed workspace runs.
#[derive(Debug, Clone)]
pub(in crate::kubernetes) struct Body {
    pub(in crate::kubernetes) set: Arc<Outline>,
    /// Its pod, of this set.
    pub(in crate::kubernetes) pod: Option<Arc<Pod>>,
}

/// Whose files a warm set keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) id: WorkspaceId,
    /// That of the workspace's own set.
    pub(super) uid: String,
    pub(super) owner: Identity,
}

/// [`names::CLAIMED_BY`].
#[derive(Serialize, Deserialize)]
struct ClaimedBy {
    workspace: String,
    uid: String,
}

/// [`names::CLAIMED_BY`] of a workspace with this own set.
pub(super) fn claimed_by(id: &WorkspaceId, uid: &str) -> String {
    let claimed_by = ClaimedBy { workspace: id.to_string(), uid: uid.to_owned() };
    serde_json::to_string(&claimed_by).expect("texts are JSON")
}

/// The warm set that an object is of, by its label.
pub(in crate::kubernetes) fn named(meta: &ObjectMeta) -> Option<&str> {
    meta.labels.as_ref()?.get(names::WARM).map(String::as_str)
}

/// Whether an object is a warm set, and has the name that its label says.
pub(in crate::kubernetes) fn is_warm(meta: &ObjectMeta) -> bool {
    named(meta).is_some_and(|name| meta.name.as_deref() == Some(name) && is_warm_name(name))
}

/// Whether this is the name of a warm set.
pub(in crate::kubernetes) fn is_warm_name(name: &str) -> bool {
    name.starts_with(PREFIX)
}

impl WarmSets {
    /// Takes in a set; the workspace that it is of.
    pub(in crate::kubernetes) fn put_set(
        &mut self,
        set: StatefulSet,
        answered: bool,
        now: Instant,
    ) -> Option<WorkspaceId> {
        let name = set.metadata.name.clone()?;
        let warm = self.sets.entry(name).or_default();
        warm.put_set(set, answered, now);
        warm.claimant()
    }

    /// Takes in that the watch has no set of this name any more; the workspace that it was of.
    pub(in crate::kubernetes) fn set_deleted(&mut self, name: &str) -> Option<WorkspaceId> {
        let warm = self.sets.get_mut(name)?;
        let claimant = warm.claimant();
        warm.set = None;
        warm.removed = None;
        self.clear(name);
        claimant
    }

    /// Takes in that a set was removed; the workspace that it was of.
    pub(in crate::kubernetes) fn removed(&mut self, handle: &Handle) -> Option<WorkspaceId> {
        let warm = self.sets.get_mut(&handle.name)?;
        warm.set.as_ref().filter(|set| set.uid() == handle.uid)?;
        let claimant = warm.claimant();
        warm.set = None;
        warm.removed = Some(handle.uid.clone());
        claimant
    }

    /// Takes in a pod; the workspace that its set is of.
    pub(in crate::kubernetes) fn put_pod(&mut self, mut pod: Pod, now: Instant) -> Option<WorkspaceId> {
        let name = named(&pod.metadata)?.to_owned();
        if pod.metadata.name.as_deref() != Some(&pod_name(&name)) {
            return None;
        }
        let annotations = pod.metadata.annotations.take();
        pod = outline::pod(pod);
        // It has those that it was told.
        pod.metadata.annotations = annotations;
        let warm = self.sets.entry(name).or_default();
        let is_other = warm.pod.as_ref().is_none_or(|known| known.metadata.uid != pod.metadata.uid);
        let ready = warm.ready.filter(|_| !is_other);
        warm.ready = takes_users(&pod).then(|| ready.unwrap_or(now));
        warm.pod = Some(Arc::new(pod));
        warm.claimant()
    }

    /// Takes in that the pod of this name is gone; the workspace that its set is of.
    pub(in crate::kubernetes) fn pod_deleted(&mut self, pod: &str) -> Option<WorkspaceId> {
        let name = pod.strip_suffix("-0")?;
        let warm = self.sets.get_mut(name)?;
        (warm.pod, warm.ready) = (None, None);
        let claimant = warm.claimant();
        self.clear(name);
        claimant
    }

    /// Takes in a claim, if a warm set made it.
    pub(in crate::kubernetes) fn put_claim(&mut self, meta: &ObjectMeta, id: Option<WorkspaceId>) {
        let (Some(_), Some(name), Some(uid)) = (named(meta), &meta.name, &meta.uid) else { return };
        let handle = Handle { name: name.clone(), uid: uid.clone(), version: notes::version(meta) };
        self.claims.insert(name.clone(), VolumeClaim { handle, id });
    }

    /// Takes in that the claim of this name is gone; the workspace whose files it had.
    pub(in crate::kubernetes) fn claim_deleted(&mut self, name: &str) -> Option<WorkspaceId> {
        self.claims.remove(name)?.id
    }

    /// Claims whose set is not there, and that do not say whose files they have.
    pub(in crate::kubernetes) fn stray(&self) -> impl Iterator<Item = &Handle> {
        let stray = self.claims.values().filter(|claim| {
            let set = names::set_of_claim(&claim.handle.name).and_then(|name| self.sets.get(name));
            claim.id.is_none() && set.is_none_or(|warm| warm.set.is_none())
        });
        stray.map(|claim| &claim.handle)
    }

    /// The workspace whose warm set, pod or claim an event is about.
    pub(in crate::kubernetes) fn claimant_of(&self, event: &Event) -> Option<WorkspaceId> {
        let about = &event.involved_object;
        let name = about.name.as_deref()?;
        let name = match about.kind.as_deref() {
            Some("Pod") => name.strip_suffix("-0")?,
            Some("PersistentVolumeClaim") => names::set_of_claim(name)?,
            _ => name,
        };
        self.sets.get(name)?.claimant()
    }

    /// Where a workspace runs, or has its files, if its own set and the warm one both say so.
    pub(in crate::kubernetes) fn body(&self, uid: &str, notes: &Notes) -> Option<Body> {
        let warm = self.sets.get(notes.claims.as_deref().or(notes.files.as_deref())?)?;
        let set = warm.set.as_ref().filter(|set| set.claim.is_of(uid, notes))?;
        let mut outline = set.outline.clone();
        if notes.claims.is_none() {
            // What its workspace says holds, and it follows in a moment.
            Arc::make_mut(&mut outline).replicas = 0;
        }
        Some(Body { set: outline, pod: warm.pod_of(set).cloned() })
    }

    /// The free ones that can take this workspace's user now, the best first: those that surely accept, and among
    /// these in an order of the workspace's own, so that Ushers who look for different ones seldom meet.
    pub(super) fn free(
        &self,
        template: &TemplateName,
        hash: &str,
        id: &WorkspaceId,
        now: Instant,
    ) -> Vec<Handle> {
        let mut free: Vec<_> = self
            .sets
            .iter()
            .filter_map(|(name, warm)| {
                let set = warm.set.as_ref().filter(|set| set.is_free())?;
                let fits = set.template.as_ref() == Some(template) && set.hash.as_deref() == Some(hash);
                let ready = warm.ready().filter(|_| fits)?;
                let unsettled = SETTLED.saturating_sub(now.saturating_duration_since(ready));
                let lot = digest(&[id.to_string().as_bytes(), name.as_bytes()]);
                Some(((unsettled, lot), set.handle(name)))
            })
            .collect();
        free.sort_by_key(|(order, _)| *order);
        free.into_iter().map(|(_, handle)| handle).collect()
    }

    /// One of them, as it is now, and whose it is.
    pub(in crate::kubernetes) fn look(&self, name: &str) -> Option<(Handle, &Claim)> {
        let set = self.sets.get(name)?.set.as_ref()?;
        Some((set.handle(name), &set.claim))
    }

    /// What the pod of a claimed set is to be told, and its `uid`; none = it knows, or there is none.
    pub(super) fn untold(&self, name: &str) -> Option<(String, BTreeMap<String, String>)> {
        let warm = self.sets.get(name)?;
        let set = warm.set.as_ref().filter(|set| set.claim != Claim::Nobodys)?;
        let told = Some(&set.told).filter(|told| !told.is_empty())?;
        let pod = &warm.pod_of(set)?.metadata;
        let knows = pod
            .annotations
            .as_ref()
            .is_some_and(|known| told.iter().all(|(key, value)| known.get(key) == Some(value)));
        (!knows).then(|| (pod.uid.clone().unwrap_or_default(), told.clone()))
    }

    /// Whether it is to have a pod.
    pub(super) fn is_up(&self, name: &str) -> bool {
        self.sets.get(name).and_then(|warm| warm.set.as_ref()).is_some_and(|set| set.outline.replicas > 0)
    }

    /// Whether somebody has begun to delete it.
    pub(super) fn ends(&self, name: &str) -> bool {
        self.sets.get(name).and_then(|warm| warm.set.as_ref()).is_some_and(Set::ends)
    }

    /// Whose files a set keeps, if it keeps those of somebody, and whether its claim says so, as far as is known.
    pub(super) fn kept(&self, name: &str) -> Option<(Kept, bool)> {
        let set = self.sets.get(name)?.set.as_ref().filter(|set| set.outline.keeps_files)?;
        let Claim::Of { id, uid, owner } = &set.claim else { return None };
        let claim = self.claims.get(&names::claim_of(name));
        let kept = Kept { id: id.clone(), uid: uid.clone(), owner: owner.clone() };
        Some((kept, claim.is_none_or(|claim| claim.id.as_ref() == Some(id))))
    }

    /// All whose set is known.
    pub(super) fn all(&self) -> impl Iterator<Item = (Handle, &WarmSet, &Set)> {
        self.sets.iter().filter_map(|(name, warm)| {
            let set = warm.set.as_ref()?;
            Some((set.handle(name), warm, set))
        })
    }

    fn clear(&mut self, name: &str) {
        if self.sets.get(name).is_some_and(|warm| warm.set.is_none() && warm.pod.is_none()) {
            self.sets.remove(name);
        }
    }
}

impl WarmSet {
    fn put_set(&mut self, set: StatefulSet, answered: bool, now: Instant) {
        let outline = Outline::from(&set);
        if self.removed.is_some() && self.removed == set.metadata.uid {
            return;
        }
        let known = self.set.as_ref();
        if known.is_some_and(|known| (known.answered || answered) && known.outline.version > outline.version)
        {
            // The watch comes to the answer later, or came beyond it.
            return;
        }
        let since = known.filter(|known| known.outline.uid == outline.uid).map(|known| known.since);
        let template = set.spec.and_then(|spec| spec.template.metadata);
        let label = set.metadata.labels.as_ref().and_then(|labels| labels.get(names::TEMPLATE));
        self.set = Some(Set {
            template: label.and_then(|name| TemplateName::parse(name).ok()),
            hash: annotation(&set.metadata, names::TEMPLATE_HASH).map(str::to_owned),
            claim: Claim::of(&set.metadata),
            outline: Arc::new(outline),
            told: template.and_then(|meta| meta.annotations).unwrap_or_default(),
            answered,
            since: since.unwrap_or(now),
        });
    }

    fn claimant(&self) -> Option<WorkspaceId> {
        match &self.set.as_ref()?.claim {
            Claim::Of { id, .. } => Some(id.clone()),
            Claim::Nobodys | Claim::Unclear => None,
        }
    }

    /// Since when its pod can take a user.
    pub(super) fn ready(&self) -> Option<Instant> {
        self.pod_of(self.set.as_ref()?)?;
        self.ready
    }

    /// The pod, if it is of this set: whoever may make pods could else put another in its place.
    pub(super) fn pod_of(&self, set: &Set) -> Option<&Arc<Pod>> {
        self.pod.as_ref().filter(|pod| {
            let owners = pod.metadata.owner_references.iter().flatten();
            let mut controllers = owners.filter(|owner| owner.controller == Some(true));
            controllers.any(|owner| owner.uid == set.uid())
        })
    }
}

impl Set {
    fn uid(&self) -> &str {
        &self.outline.uid
    }

    fn handle(&self, name: &str) -> Handle {
        Handle { name: name.to_owned(), uid: self.uid().to_owned(), version: self.outline.version }
    }

    /// Whether it is nobody's, and stays.
    pub(super) fn is_free(&self) -> bool {
        self.claim == Claim::Nobodys && !self.ends()
    }

    /// Whether somebody has begun to delete it.
    pub(super) fn ends(&self) -> bool {
        self.outline.ends
    }

    /// Whether its pod has a claim of its own.
    pub(super) fn keeps_files(&self) -> bool {
        self.outline.keeps_files
    }
}

impl Claim {
    fn of(meta: &ObjectMeta) -> Self {
        let Some(text) = annotation(meta, names::CLAIMED_BY) else { return Self::Nobodys };
        let read = || {
            let by: ClaimedBy = serde_json::from_str(text).ok()?;
            let id = WorkspaceId::parse(&by.workspace).ok()?;
            Some(Self::Of { id, uid: by.uid, owner: notes::owner(meta)? })
        };
        read().unwrap_or(Self::Unclear)
    }

    /// Whether it is of the workspace that has this own set and owner.
    pub(super) fn is_of(&self, own: &str, notes: &Notes) -> bool {
        matches!(self, Self::Of { id, uid, owner } if *id == notes.id && uid == own && *owner == notes.owner)
    }
}

/// Whether a pod's program runs, its node says that it is ready, and it stays.
fn takes_users(pod: &Pod) -> bool {
    let Some(status) = &pod.status else { return false };
    let mut conditions = status.conditions.iter().flatten();
    let is_ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
    let mut containers = status.container_statuses.iter().flatten();
    let runs = containers.any(|container| {
        let state = container.state.as_ref();
        container.name == names::CONTAINER && state.is_some_and(|state| state.running.is_some())
    });
    is_ready && runs && status.pod_ip.is_some() && pod.metadata.deletion_timestamp.is_none()
}

fn annotation<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

#[cfg(test)]
mod tests;
