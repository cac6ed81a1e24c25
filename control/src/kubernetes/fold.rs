//! All that the cluster has told of workspaces, folded into what is told on.
//!
//! Whoever hears something takes it in and then flushes: what changed is read anew, once, and told. The answers to
//! Usher's own writes are taken in like what the watches tell, so that nothing that is told after a write shows what
//! was before it.

mod known;
mod warm;
mod workspace;

pub(super) use known::Known;

use super::board::Board;
use super::happenings::{self, Heard};
use super::names;
use super::notes::{self, Notes};
use super::outline::Outline;
use super::reading::Sight;
use super::warm::{Body, WarmSets};
use super::watch::Seen;
use crate::{Event as Told, Generation, Observed, Scope};
use config::{Kubernetes, WorkspaceId};
use futures_util::stream::BoxStream;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use std::collections::{BTreeSet, HashMap};
use std::time::Instant;
use tokio_util::sync::CancellationToken;
use workspace::{REMOVAL, Workspace};

/// One word of a watch.
pub(super) enum News {
    Set(Seen<StatefulSet>),
    Pod(Seen<Pod>),
    Claim(Seen<PersistentVolumeClaim>),
    Event(Seen<Event>),
}

/// All that is known.
pub(super) struct Fold {
    kubernetes: Kubernetes,
    workspaces: HashMap<WorkspaceId, Workspace>,
    warm: WarmSets,
    sets: Sense,
    pods: Sense,
    /// When both were sensed again after one was blind.
    back: Option<Instant>,
    /// The highest version of a StatefulSet up to which all changes of all of them are known.
    known_to: u64,
    /// The highest version of a StatefulSet that was heard of.
    heard_of: u64,
    events: Heard,
    /// What has to be read anew.
    touched: BTreeSet<WorkspaceId>,
    /// When to read what anew although nothing was heard.
    due: BTreeSet<(Instant, WorkspaceId)>,
    /// Pods that nobody but Usher will remove.
    stranded: Vec<(WorkspaceId, Generation)>,
    board: Board,
}

/// How well one kind of objects is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sense {
    /// Not all that there is was told yet.
    Listing,
    Whole,
    Blind,
}

impl Fold {
    /// Of nothing yet.
    pub(super) fn new(kubernetes: Kubernetes) -> Self {
        Self {
            kubernetes,
            workspaces: HashMap::new(),
            warm: WarmSets::default(),
            sets: Sense::Listing,
            pods: Sense::Listing,
            back: None,
            known_to: 0,
            heard_of: 0,
            events: Heard::default(),
            touched: BTreeSet::new(),
            due: BTreeSet::new(),
            stranded: Vec::new(),
            board: Board::default(),
        }
    }

    /// Takes in what a watch told.
    pub(super) fn take(&mut self, news: News, now: Instant) {
        match news {
            News::Set(seen) => self.set(seen, now),
            News::Pod(seen) => self.pod(seen, now),
            News::Claim(seen) => self.claim(seen),
            News::Event(seen) => self.event(seen, now),
        }
    }

    /// Takes in the answer to a write of a StatefulSet.
    pub(super) fn answer(&mut self, set: StatefulSet, now: Instant) {
        self.put_set(set, true, now);
    }

    /// Takes in that a StatefulSet is not there any more, or will not be in a moment.
    pub(super) fn removed(&mut self, id: &WorkspaceId, uid: &str) {
        if let Some(workspace) = self.workspaces.get_mut(id) {
            workspace.removed(uid);
            self.touched.insert(id.clone());
        }
    }

    /// A start is asked for, or asked for again: what was read of an earlier one does not hold for it.
    pub(super) fn begin(&mut self, id: &WorkspaceId, now: Instant) {
        self.workspaces.entry(id.clone()).or_default().begin(now);
        self.touched.insert(id.clone());
    }

    /// A start came to nothing.
    pub(super) fn call_off(&mut self, id: &WorkspaceId) {
        if let Some(workspace) = self.workspaces.get_mut(id) {
            workspace.call_off();
            self.touched.insert(id.clone());
        }
    }

    /// What is known of a workspace, for whoever acts.
    pub(super) fn look(&self, id: &WorkspaceId) -> Option<Known> {
        let workspace = self.workspaces.get(id)?;
        workspace.known(self.body(workspace))
    }

    /// The last words of a workspace's program that its node keeps.
    pub(super) fn last_output(&self, id: &WorkspaceId, now: Instant) -> String {
        let Some(workspace) = self.workspaces.get(id) else { return String::new() };
        workspace.last_output(self.body(workspace).as_ref(), self.sight(), now)
    }

    /// Up to which version of a StatefulSet the watch itself has told all.
    pub(super) fn known_to(&self) -> u64 {
        self.known_to
    }

    /// Tells how what a route leads to is, and whether that is seen: this is known elsewhere.
    pub(super) fn tell(&mut self, observed: Observed, sighted: bool) {
        let (id, scope) = (observed.id.clone(), observed.scope.clone());
        self.board.tell(&id, Some(observed));
        self.board.sight(&scope, sighted);
    }

    /// Pods that end on nodes that do not answer, and that nothing would be lost with: their workspaces cannot run
    /// elsewhere before somebody removes them.
    pub(super) fn take_stranded(&mut self) -> Vec<(WorkspaceId, Generation)> {
        std::mem::take(&mut self.stranded)
    }

    /// Tells again how a workspace is: somebody waits for it.
    pub(super) fn tell_again(&mut self, id: &WorkspaceId) {
        self.board.tell_again(id);
    }

    /// All that is known, then every change.
    pub(super) fn observe(&mut self, broken: CancellationToken) -> BoxStream<'static, Told> {
        self.board.observe(broken)
    }

    /// Whether both kinds that workspaces are made of have been told.
    pub(super) fn is_synced(&self) -> bool {
        self.sets != Sense::Listing && self.pods != Sense::Listing
    }

    /// What was not told so far is out of sight, and nobody waits for it any longer.
    pub(super) fn wait_no_longer(&mut self) {
        for sense in [&mut self.sets, &mut self.pods] {
            if *sense == Sense::Listing {
                *sense = Sense::Blind;
            }
        }
    }

    /// Reads anew what changed or is due, and tells it; when that is to be done next if nothing is heard.
    pub(super) fn flush(&mut self, now: Instant) -> Option<Instant> {
        if !self.is_synced() {
            return None;
        }
        while self.due.first().is_some_and(|(at, _)| *at <= now) {
            self.touched.extend(self.due.pop_first().map(|(_, id)| id));
        }
        let touched = std::mem::take(&mut self.touched).into_iter();
        let mut news: Vec<_> = touched.filter_map(|id| self.read(id, now)).collect();
        // Whoever is told of a mark has been told of all before it.
        news.sort_by_key(|(_, observed)| observed.as_ref().and_then(|it| it.mark).map(|mark| mark.number));
        for (id, observed) in news {
            self.board.tell(&id, observed);
        }
        let sighted = self.sight() != Sight::Blind;
        self.board.sight(&scope(&self.kubernetes), sighted);
        self.board.sync();
        self.due.first().map(|(at, _)| *at)
    }

    fn read(&mut self, id: WorkspaceId, now: Instant) -> Option<(WorkspaceId, Option<Observed>)> {
        let sight = self.sight();
        let known_to = self.known_to;
        let body = self.workspaces.get(&id).and_then(|workspace| self.body(workspace));
        let workspace = self.workspaces.get_mut(&id)?;
        if let Some(at) = workspace.again_at() {
            self.due.remove(&(at, id.clone()));
        }
        let observed = workspace.read(&self.kubernetes, body.as_ref(), sight, known_to, now);
        if let Some(pod) = workspace.stranded(body.as_ref(), sight, now) {
            self.stranded.push((id.clone(), pod));
            self.due.insert((now + REMOVAL, id.clone()));
        }
        if let Some(at) = workspace.again_at() {
            self.due.insert((at, id.clone()));
        }
        if workspace.is_empty() {
            self.workspaces.remove(&id);
        }
        Some((id, observed))
    }

    /// Where a workspace runs that has claimed a warm set, or has its files there.
    fn body(&self, workspace: &Workspace) -> Option<Body> {
        let (uid, notes) = workspace.elsewhere()?;
        self.warm.body(uid, notes)
    }

    fn sight(&self) -> Sight {
        if self.sets == Sense::Whole && self.pods == Sense::Whole {
            Sight::Confirmed { back: self.back }
        } else {
            Sight::Blind
        }
    }

    fn set(&mut self, seen: Seen<StatefulSet>, now: Instant) {
        match seen {
            Seen::Put(set) => {
                let version = notes::version(&set.metadata);
                self.put_set(set, false, now);
                self.known_to = self.known_to.max(version);
            }
            Seen::Listed(set) => {
                self.heard_of = self.heard_of.max(notes::version(&set.metadata));
                self.put_set(set, false, now);
            }
            Seen::Deleted(name) => self.set_deleted(&name),
            Seen::Synced => {
                self.known_to = self.known_to.max(self.heard_of);
                self.touched.extend(self.workspaces.keys().cloned());
                self.sense(|fold| &mut fold.sets, Sense::Whole, now);
            }
            Seen::Blind => self.sense(|fold| &mut fold.sets, Sense::Blind, now),
        }
    }

    fn put_set(&mut self, set: StatefulSet, answered: bool, now: Instant) {
        if notes::is_anothers(&set.metadata, &self.kubernetes) {
            let name = set.metadata.name.as_deref().unwrap_or_default();
            tracing::debug!(
                kubernetes.stateful_set = name,
                "a StatefulSet of another installation is let alone"
            );
            // What had its name is gone, though nobody saw it go.
            return self.set_deleted(name);
        }
        let Some(set) = self.put_warm_set(set, answered, now) else { return };
        let name = set.metadata.name.clone().unwrap_or_default();
        let notes = match Notes::of(&set) {
            Ok(notes) => notes,
            Err(error) => {
                let name = name.as_str();
                tracing::warn!(kubernetes.stateful_set = name, %error, "a StatefulSet with Usher's label is left alone");
                return;
            }
        };
        let id = notes.id.clone();
        self.workspaces.entry(id.clone()).or_default().put_set(Outline::from(&set), notes, answered, now);
        self.touched.insert(id);
    }

    fn set_deleted(&mut self, name: &str) {
        if self.warm_set_deleted(name) {
            return;
        }
        // A workspace's object is named by its id.
        let Ok(id) = WorkspaceId::parse(name) else { return };
        if let Some(workspace) = self.workspaces.get_mut(&id) {
            workspace.set_deleted();
            self.touched.insert(id);
        }
    }

    fn pod(&mut self, seen: Seen<Pod>, now: Instant) {
        let listed = matches!(seen, Seen::Listed(_));
        match seen {
            Seen::Put(pod) | Seen::Listed(pod) => {
                let Some(pod) = self.put_warm_pod(pod, now) else { return };
                let Some(id) = notes::workspace(&pod.metadata) else { return };
                if pod.metadata.name.as_deref() == Some(&names::pod(&id)) {
                    self.workspaces.entry(id.clone()).or_default().put_pod(pod, listed, now);
                    self.touched.insert(id);
                }
            }
            Seen::Deleted(name) => {
                if self.warm_pod_deleted(&name) {
                    return;
                }
                let id = name.strip_suffix("-0").and_then(|name| WorkspaceId::parse(name).ok());
                let Some(id) = id else { return };
                if let Some(workspace) = self.workspaces.get_mut(&id) {
                    workspace.pod_deleted();
                    self.touched.insert(id);
                }
            }
            Seen::Synced => self.sense(|fold| &mut fold.pods, Sense::Whole, now),
            Seen::Blind => self.sense(|fold| &mut fold.pods, Sense::Blind, now),
        }
    }

    fn claim(&mut self, seen: Seen<PersistentVolumeClaim>) {
        match seen {
            // Its set is not known here either: it would pass for nobody's.
            Seen::Put(claim) | Seen::Listed(claim)
                if notes::is_anothers(&claim.metadata, &self.kubernetes) => {}
            Seen::Put(claim) | Seen::Listed(claim) => {
                let id = notes::workspace(&claim.metadata);
                self.warm.put_claim(&claim.metadata, id.clone());
                let Some(id) = id else { return };
                if let Some(workspace) = self.workspaces.get_mut(&id) {
                    workspace.put_claim(claim);
                    self.touched.insert(id);
                }
            }
            Seen::Deleted(name) => {
                let of_own = || names::set_of_claim(&name).and_then(|set| WorkspaceId::parse(set).ok());
                let Some(id) = self.warm.claim_deleted(&name).or_else(of_own) else { return };
                if let Some(workspace) = self.workspaces.get_mut(&id) {
                    workspace.claim_deleted(&name);
                    self.touched.insert(id);
                }
            }
            // It only tells causes: without it there is less to tell.
            Seen::Synced | Seen::Blind => {}
        }
    }

    fn event(&mut self, seen: Seen<Event>, now: Instant) {
        let Some((event, happening)) = self.events.take(seen, now) else { return };
        let about = happenings::workspace(&event).or_else(|| self.warm.claimant_of(&event));
        let Some(id) = about else { return };
        let Some(workspace) = self.workspaces.get_mut(&id) else { return };
        workspace.happened(event.metadata.name.unwrap_or_default(), happening);
        self.touched.insert(id);
    }

    /// Notes how well a kind of objects is seen; all that runs is read anew when that changes for the whole.
    fn sense(&mut self, which: fn(&mut Self) -> &mut Sense, sense: Sense, now: Instant) {
        let (before, was_synced) = (self.sight(), self.is_synced());
        *which(self) = sense;
        let after = self.sight();
        if was_synced && before == Sight::Blind && after != Sight::Blind {
            self.back = Some(now);
        }
        if before != self.sight() {
            self.touched.extend(self.workspaces.keys().cloned());
        }
    }
}

/// All of a namespace are seen together.
fn scope(kubernetes: &Kubernetes) -> Scope {
    Scope::Space(kubernetes.namespace.as_str().into())
}

#[cfg(test)]
mod tests;
