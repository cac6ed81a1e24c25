//! What is known of one workspace.

use super::{Known, scope};
use crate::kubernetes::happenings::Happenings;
use crate::kubernetes::names;
use crate::kubernetes::notes::Notes;
use crate::kubernetes::outline::{self, Outline};
use crate::kubernetes::reading::{self, EARLY, Happening, Reading, Sight, Stands, View};
use crate::kubernetes::warm::Body;
use crate::{
    Address, Cause, CauseCode, Generation, Mark, Observed, ObservedPhase, Step, StopReason, Trouble, Weight,
};
use config::Kubernetes;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the removal of a stranded pod may take before it is tried again.
pub(super) const REMOVAL: Duration = Duration::from_secs(10);

/// The objects of one workspace, in the form last received.
#[derive(Debug, Default)]
pub(super) struct Workspace {
    set: Option<Set>,
    /// The `uid` of a StatefulSet that was removed: what is still told of it is of the past.
    removed: Option<String>,
    pod: Option<Arc<Pod>>,
    /// Until when its pod counts as not heard of yet: see [`EARLY`].
    early: Option<Instant>,
    claims: Vec<PersistentVolumeClaim>,
    happenings: Happenings,
    /// When its start was asked for.
    asked: Option<Instant>,
    reading: Option<Reading>,
    /// Until when nobody is asked to remove its stranded pod.
    removing: Option<Instant>,
}

#[derive(Debug)]
struct Set {
    outline: Arc<Outline>,
    notes: Notes,
    /// Whether it was the answer to a write, which the watch may not have come to yet.
    answered: bool,
    /// Whether it is not there any more, and only what it left behind is.
    gone: bool,
}

impl Workspace {
    pub(super) fn put_set(&mut self, outline: Outline, notes: Notes, answered: bool, now: Instant) {
        if self.removed.as_deref() == Some(&outline.uid) && !outline.ends {
            return;
        }
        let known = self.set.as_ref().filter(|known| !known.gone);
        let was_answered = known.is_some_and(|known| known.answered);
        let version = known.map(|known| known.outline.version);
        if (was_answered || answered) && version > Some(outline.version) {
            // The watch comes to the answer later, or came beyond it.
            return;
        }
        // To what it has told itself it does not come again.
        let answered = answered && (was_answered || version != Some(outline.version));
        let was_wanted = self.set.as_ref().is_some_and(|set| !set.gone && set.is_wanted());
        if outline.replicas == 0 && notes.claims.is_none() {
            self.asked = None;
            self.happenings.clear();
        } else {
            self.early = None;
            if !was_wanted {
                self.asked.get_or_insert(now);
            }
        }
        self.set = Some(Set { outline: Arc::new(outline), notes, answered, gone: false });
    }

    pub(super) fn set_deleted(&mut self) {
        match &mut self.set {
            // It was made again, which the watch comes to later.
            Some(set) if set.answered => {}
            Some(set) => set.bury(),
            None => {}
        }
        self.removed = None;
    }

    pub(super) fn removed(&mut self, uid: &str) {
        if let Some(set) = &mut self.set
            && set.outline.uid == uid
        {
            set.bury();
            self.removed = Some(uid.to_owned());
        }
    }

    /// `listed` = it may have been there for long.
    pub(super) fn put_pod(&mut self, pod: Pod, listed: bool, now: Instant) {
        let is_new = self.pod.as_ref().is_none_or(|known| known.metadata.uid != pod.metadata.uid);
        if listed || ends(&pod.metadata) {
            self.early = None;
        } else if is_new
            && self.set.as_ref().is_some_and(|set| !set.gone && !set.is_wanted() && set.made(&pod))
        {
            self.early = Some(now + EARLY);
        }
        self.pod = Some(Arc::new(outline::pod(pod)));
    }

    pub(super) fn pod_deleted(&mut self) {
        (self.pod, self.early) = (None, None);
    }

    pub(super) fn put_claim(&mut self, claim: PersistentVolumeClaim) {
        let claim = outline::claim(claim);
        let name = claim.metadata.name.clone().unwrap_or_default();
        self.claim_deleted(&name);
        self.claims.push(claim);
    }

    pub(super) fn claim_deleted(&mut self, name: &str) {
        self.claims.retain(|claim| claim.metadata.name.as_deref() != Some(name));
    }

    pub(super) fn happened(&mut self, name: String, happening: Happening) {
        self.happenings.keep(name, happening);
    }

    #[cfg(test)]
    pub(super) fn events(&self) -> usize {
        self.happenings.all().len()
    }

    pub(super) fn begin(&mut self, now: Instant) {
        self.asked = Some(now);
        self.reading = None;
    }

    pub(super) fn call_off(&mut self) {
        if self.set.as_ref().is_none_or(|set| set.outline.replicas == 0) {
            self.asked = None;
        }
    }

    pub(super) fn again_at(&self) -> Option<Instant> {
        self.reading.as_ref().and_then(|reading| reading.again_at).into_iter().chain(self.early).min()
    }

    /// Whether nothing is known of it.
    pub(super) fn is_empty(&self) -> bool {
        self.set.is_none() && self.pod.is_none() && self.asked.is_none()
    }

    /// Its own StatefulSet, by its `uid`, and what is written there.
    pub(super) fn own(&self) -> Option<(&str, &Notes)> {
        let set = self.set.as_ref().filter(|set| !set.gone)?;
        Some((&set.outline.uid, &set.notes))
    }

    /// As [`own`](Self::own), unless it runs here.
    pub(super) fn elsewhere(&self) -> Option<(&str, &Notes)> {
        let runs_here = |set: &Set| set.outline.replicas > 0 && set.notes.claims.is_none();
        self.own().filter(|_| !self.set.as_ref().is_some_and(runs_here))
    }

    pub(super) fn known(&self, body: Option<Body>) -> Option<Known> {
        let set = self.set.as_ref().filter(|set| !set.gone)?;
        let (body, pod) = match body {
            Some(body) => (Some(body.set), body.pod),
            None => (None, self.pod_of(set).cloned()),
        };
        Some(Known { set: set.outline.clone(), notes: set.notes.clone(), pod, body })
    }

    pub(super) fn last_output(&self, body: Option<&Body>, sight: Sight, now: Instant) -> String {
        let Some(set) = &self.set else { return String::new() };
        reading::last_output(&self.view(set, body, sight, now))
    }

    /// Reads it anew; `None` = nothing is left of it.
    pub(super) fn read(
        &mut self,
        kubernetes: &Kubernetes,
        body: Option<&Body>,
        sight: Sight,
        known_to: u64,
        now: Instant,
    ) -> Option<Observed> {
        self.early = self.early.filter(|until| now < *until);
        let set = self.set.as_ref()?;
        if set.gone && self.pod_of(set).is_none() && !self.claims.iter().any(|claim| ends(&claim.metadata)) {
            (self.set, self.reading, self.asked) = (None, None, None);
            self.claims.clear();
            self.happenings.clear();
            return None;
        }
        let view = self.view(set, body, sight, now);
        let mut reading = reading::read(&view, self.reading.as_ref(), now);
        let phase = phase(&mut reading.stands, set, body, kubernetes, view.pod);
        let mark = set.notes.mark.filter(|_| set.outline.version <= known_to);
        let observed = Observed {
            id: set.notes.id.clone(),
            owner: set.notes.owner.clone(),
            template: set.notes.template.clone(),
            grant: set.notes.grant.clone(),
            scope: scope(kubernetes),
            members: Vec::new(),
            mark: mark.map(|reason| Mark { number: set.outline.version, reason }),
            stopped: set.notes.stopped.or_else(|| stopped(set, body, &phase)),
            phase,
        };
        self.reading = Some(reading);
        Some(observed)
    }

    /// Its pod, if it ends on a node that does not answer, and nothing would be lost with it; once in a while.
    pub(super) fn stranded(&mut self, body: Option<&Body>, sight: Sight, now: Instant) -> Option<Generation> {
        let set = self.set.as_ref()?;
        let waits = self.removing.is_some_and(|until| now < until);
        let view = self.view(set, body, sight, now);
        if waits || !reading::is_stranded(&view) {
            return None;
        }
        let pod = view.pod.and_then(|pod| uid(&pod.metadata));
        self.removing = Some(now + REMOVAL);
        pod
    }

    fn view<'a>(&'a self, set: &'a Set, body: Option<&'a Body>, sight: Sight, now: Instant) -> View<'a> {
        let (outline, pod) = match body {
            Some(body) => (&body.set, body.pod.as_ref()),
            None => (&set.outline, self.pod_of(set).filter(|_| self.early.is_none())),
        };
        let pod = pod.map(|pod| &**pod);
        View {
            kind: "statefulset",
            set: outline,
            pod,
            claims: &self.claims,
            happenings: self.happenings.all(),
            container: names::CONTAINER,
            port: pod.and_then(port).unwrap_or_default(),
            sight,
            asked: self.asked.unwrap_or(now),
            is_shared: false,
        }
    }

    /// The pod, if it is of this StatefulSet: whoever may make pods could else put another in its place.
    fn pod_of(&self, set: &Set) -> Option<&Arc<Pod>> {
        self.pod.as_ref().filter(|pod| set.made(pod))
    }
}

impl Set {
    /// Whether a pod is its own.
    fn made(&self, pod: &Pod) -> bool {
        let owners = pod.metadata.owner_references.iter().flatten();
        let mut controllers = owners.filter(|owner| owner.controller == Some(true));
        controllers.any(|owner| owner.uid == self.outline.uid)
    }

    /// Whether it is to run: here, or in the warm set that it names.
    fn is_wanted(&self) -> bool {
        self.outline.replicas > 0 || self.notes.claims.is_some()
    }

    /// It is not there any more: its pod ends, and what was written down with it holds no more.
    fn bury(&mut self) {
        (self.gone, self.answered) = (true, false);
        Arc::make_mut(&mut self.outline).replicas = 0;
        self.notes = Notes {
            wanted: None,
            mark: None,
            stopped: None,
            failed: None,
            claims: None,
            ..self.notes.clone()
        };
    }
}

/// As it is told on. A workspace that is not to run is what was written down when it was stopped.
fn phase(
    stands: &mut Stands,
    set: &Set,
    body: Option<&Body>,
    kubernetes: &Kubernetes,
    pod: Option<&Pod>,
) -> ObservedPhase {
    match stands.clone() {
        // The claim that it names is being made, or came to nothing: it is going to run here or there.
        Stands::Stopped if set.notes.claims.is_some() && body.is_none() => {
            ObservedPhase::Running { generation: None, address: None, step: Step::Asked, trouble: None }
        }
        Stands::Stopped => match &set.notes {
            Notes { wanted: Some(order), .. } => ObservedPhase::Wanted { order: *order },
            Notes { failed: Some(cause), .. } => ObservedPhase::Failed { cause: cause.clone() },
            _ => ObservedPhase::Stopped,
        },
        Stands::Stopping { generation, trouble } => match generation {
            Some(generation) => {
                ObservedPhase::Stopping { generation, trouble: trouble.map(|trouble| trouble.cause) }
            }
            None => ObservedPhase::Stopped,
        },
        Stands::Failed { generation, cause } => ObservedPhase::Running {
            generation,
            address: None,
            step: Step::Started,
            trouble: Some(Trouble { cause, weight: Weight::End }),
        },
        Stands::Running { generation, address, step, trouble } => {
            let (address, refused) = dialled(address, kubernetes, pod);
            ObservedPhase::Running { generation, address, step, trouble: refused.or(trouble) }
        }
    }
}

/// Why it was stopped where nothing of it is written down: whatever Usher stops, it writes why.
fn stopped(set: &Set, body: Option<&Body>, phase: &ObservedPhase) -> Option<StopReason> {
    let is_down = matches!(phase, ObservedPhase::Stopped | ObservedPhase::Stopping { .. });
    let explained = set.notes.wanted.is_some() || set.notes.failed.is_some();
    if !is_down || explained || (set.notes.claims.is_some() && body.is_none()) {
        return None;
    }
    Some(if set.gone || set.outline.ends { StopReason::Deleted } else { StopReason::ByHand })
}

/// The address, if it may be dialled, or why it is not.
fn dialled(
    address: Option<Address>,
    kubernetes: &Kubernetes,
    pod: Option<&Pod>,
) -> (Option<Address>, Option<Trouble>) {
    let Some(Address::Tcp(socket)) = address else { return (None, None) };
    if kubernetes.may_dial(socket.ip()) && socket.port() != 0 {
        return (address, None);
    }
    let name = pod.and_then(|pod| pod.metadata.name.as_deref()).unwrap_or_default();
    let hint = format!(
        "pod {name} has the address {}, which is in none of kubernetes.pod_networks: add its network there",
        socket.ip()
    );
    let code = CauseCode::AddressRefused;
    let cause = Cause { code, detail: code.words().detail.to_owned(), hint };
    (None, Some(Trouble { cause, weight: Weight::Hindrance }))
}

/// Where the workspace listens, by its pod: the template may have changed since it was made.
fn port(pod: &Pod) -> Option<u16> {
    let containers = &pod.spec.as_ref()?.containers;
    let container = containers.iter().find(|container| container.name == names::CONTAINER)?;
    let mut ports = container.ports.iter().flatten();
    let port = ports.find(|port| port.name.as_deref() == Some(names::CONTAINER))?;
    u16::try_from(port.container_port).ok()
}

pub(super) fn uid(meta: &ObjectMeta) -> Option<Generation> {
    meta.uid.as_deref().map(|uid| Generation(uid.into()))
}

fn ends(meta: &ObjectMeta) -> bool {
    meta.deletion_timestamp.is_some()
}
