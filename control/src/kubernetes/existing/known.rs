//! What is known of one object that others made and of its pods, and what is told of it. Pure.
//!
//! Pods are dialled, by their own addresses, and not the Service that may stand before them: a Service leads each
//! connection to any pod, so that what a person did in one tab would be unknown in the next, and it says nothing of a pod
//! that ends. New traffic goes to pods that the cluster calls ready. Who declares no readiness probe says that a pod
//! serves as soon as its program runs; the first of a start is asked by Usher itself besides.

use super::object::Object;
use super::plan::{generation, ours};
use crate::kubernetes::happenings::{Happenings, Heard};
use crate::kubernetes::outline::Outline;
use crate::kubernetes::reading::{self, EARLY, Happening, Reading, Sight, Stands, View};
use crate::kubernetes::watch::Seen;
use crate::{
    Address, Generation, Grant, Identity, Mark, Member, Observed, ObservedPhase, Scope, Step, Trouble, Weight,
};
use config::{ExistingObject, Kubernetes, Template, WorkspaceId};
use k8s_openapi::api::core::v1::{ContainerStatus, Event, ObjectReference, Pod};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

/// What is known.
#[derive(Debug)]
pub(super) struct Known {
    existing: ExistingObject,
    template: Arc<Template>,
    object: Option<Object>,
    /// Whether it was the answer to a write, which the watch may not have come to yet.
    answered: bool,
    pods: BTreeMap<String, Pod>,
    /// Until when its pods count as not heard of yet: see [`EARLY`].
    early: Option<Instant>,
    objects_seen: Sense,
    pods_seen: Sense,
    /// When all was seen again after something was not.
    back: Option<Instant>,
    /// When its start was asked for.
    asked: Option<Instant>,
    heard: Heard,
    /// What was told of it and of its pods since its start was asked for.
    happenings: Happenings,
    reading: Option<Reading>,
}

/// How well one kind of objects is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sense {
    /// Not all that there is was told yet.
    Listing,
    Whole,
    Blind,
}

impl Known {
    /// Of nothing yet.
    pub(super) fn new(existing: ExistingObject, template: Arc<Template>) -> Self {
        Self {
            existing,
            template,
            object: None,
            answered: false,
            pods: BTreeMap::new(),
            early: None,
            objects_seen: Sense::Listing,
            pods_seen: Sense::Listing,
            back: None,
            asked: None,
            heard: Heard::default(),
            happenings: Happenings::default(),
            reading: None,
        }
    }

    /// The object, if it is there.
    pub(super) fn object(&self) -> Option<&Object> {
        self.object.as_ref()
    }

    /// Whether it was told at least once whether the object is there.
    pub(super) fn is_seen(&self) -> bool {
        self.objects_seen != Sense::Listing || self.object.is_some()
    }

    /// Which pods are to be watched: those of an object whose maker agrees.
    pub(super) fn selector(&self) -> Option<&str> {
        self.object
            .as_ref()
            .filter(|object| object.agrees(&self.existing.route))
            .map(|object| object.selector.as_str())
    }

    /// Takes in what the watch of the object told.
    pub(super) fn take_object(&mut self, seen: Seen<Object>, now: Instant) {
        match seen {
            Seen::Put(object) | Seen::Listed(object) => self.put(object, false, now),
            Seen::Deleted(_) => self.object = None,
            Seen::Synced => self.sense(|known| &mut known.objects_seen, Sense::Whole, now),
            Seen::Blind => self.sense(|known| &mut known.objects_seen, Sense::Blind, now),
        }
    }

    /// Takes in the object as a write was answered.
    pub(super) fn answer(&mut self, object: Object, now: Instant) {
        self.put(object, true, now);
    }

    fn put(&mut self, object: Object, answered: bool, now: Instant) {
        let known = self.object.as_ref().map(Object::version);
        if (self.answered || answered) && known > Some(object.version()) {
            // The watch comes to the answer later, or came beyond it.
            return;
        }
        // To what it has told itself it does not come again.
        self.answered = answered && (self.answered || known != Some(object.version()));
        let had = self.object.as_ref().map_or(0, |object| object.replicas);
        if object.replicas == 0 {
            self.asked = None;
            self.happenings.clear();
        } else {
            self.early = None;
            if had == 0 {
                self.asked.get_or_insert(now);
            }
        }
        self.object = Some(object);
    }

    /// Other pods are watched from now on, and nothing is known of them.
    pub(super) fn forget_pods(&mut self) {
        self.pods.clear();
        self.early = None;
        self.pods_seen = Sense::Listing;
    }

    /// Takes in what the watch of its pods told.
    pub(super) fn take_pod(&mut self, seen: Seen<Pod>, now: Instant) {
        let listed = matches!(seen, Seen::Listed(_));
        match seen {
            Seen::Put(mut pod) | Seen::Listed(mut pod) => {
                if listed || pod.metadata.deletion_timestamp.is_some() {
                    self.early = None;
                } else if self.is_first_at_rest(&pod) {
                    self.early = Some(now + EARLY);
                }
                pod.metadata.managed_fields = None;
                self.pods.insert(pod.metadata.name.clone().unwrap_or_default(), pod);
            }
            Seen::Deleted(name) => drop(self.pods.remove(&name)),
            Seen::Synced => self.sense(|known| &mut known.pods_seen, Sense::Whole, now),
            Seen::Blind => self.sense(|known| &mut known.pods_seen, Sense::Blind, now),
        }
    }

    /// Whether events may tell why none of its pods serves.
    pub(super) fn is_hindered(&self) -> bool {
        self.reading.is_some()
    }

    /// Takes in what a watch of events told. Those of its pods and ReplicaSets are known by the beginning of their names;
    /// whose they are is looked at when they are read.
    pub(super) fn take_event(&mut self, seen: Seen<Event>, now: Instant) {
        let Some((event, happening)) = self.heard.take(seen, now) else { return };
        let about = event.involved_object.name.as_deref().unwrap_or_default();
        let rest = about.strip_prefix(self.existing.name.as_str());
        if rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-')) {
            self.happenings.keep(event.metadata.name.unwrap_or_default(), happening);
        }
    }

    /// A start is asked for, or asked for again.
    pub(super) fn begin(&mut self, now: Instant) {
        self.asked = Some(now);
        self.reading = None;
    }

    /// When to read again although nothing was heard.
    pub(super) fn again_at(&self) -> Option<Instant> {
        self.reading.as_ref().and_then(|reading| reading.again_at).into_iter().chain(self.early).min()
    }

    /// What is to be told of it now; none = it was never seen.
    pub(super) fn read(&mut self, kubernetes: &Kubernetes, now: Instant) -> Option<Observed> {
        self.early = self.early.filter(|until| now < *until);
        if !self.is_seen() {
            return None;
        }
        let object = match ours(&self.existing, self.object.as_ref()) {
            Ok(object) => object.clone(),
            Err(cause) => {
                self.reading = None;
                return Some(self.observed(ObservedPhase::Failed { cause }, Vec::new()));
            }
        };
        if object.replicas == 0 {
            self.reading = None;
            return Some(self.observed(self.at_rest(&object), Vec::new()));
        }
        let members = self.members(&object, kubernetes);
        let serving = members.iter().find(|member| member.serves);
        let (address, step, trouble) = match serving {
            Some(member) => {
                self.reading = None;
                (Some(member.address.clone()), Step::Started, None)
            }
            None => self.hindered(&object, now),
        };
        let generation = Some(generation(&object));
        Some(self.observed(ObservedPhase::Running { generation, address, step, trouble }, members))
    }

    fn observed(&self, phase: ObservedPhase, members: Vec<Member>) -> Observed {
        let route = self.existing.route.clone();
        let course = self.object.as_ref().map(|object| &object.course);
        let number = self.object.as_ref().map(Object::version).unwrap_or_default();
        let scope = Scope::Route(route.clone());
        Observed {
            owner: Identity::of_route(&route),
            id: WorkspaceId::Route(route),
            template: self.template.name.clone(),
            grant: Grant::default(),
            phase,
            scope,
            members,
            mark: course.and_then(|course| course.mark).map(|reason| Mark { number, reason }),
            stopped: course.and_then(|course| course.stopped),
        }
    }

    /// Of one that is scaled to 0.
    fn at_rest(&self, object: &Object) -> ObservedPhase {
        if self.early.is_none() && self.lives(object) {
            return ObservedPhase::Stopping { generation: generation(object), trouble: None };
        }
        match &object.course {
            course if course.wanted.is_some() => {
                ObservedPhase::Wanted { order: course.wanted.expect("it was looked at") }
            }
            course => match &course.failed {
                Some(cause) => ObservedPhase::Failed { cause: cause.clone() },
                None => ObservedPhase::Stopped,
            },
        }
    }

    /// Whether a pod of its own has not ended.
    fn lives(&self, object: &Object) -> bool {
        self.pods.values().any(|pod| object.made(pod) && !is_over(pod))
    }

    /// Whether a pod is the first of an object that is scaled to 0.
    fn is_first_at_rest(&self, pod: &Pod) -> bool {
        let at_rest = self.object.as_ref().filter(|object| object.replicas == 0);
        at_rest.is_some_and(|object| object.made(pod) && !self.lives(object))
    }

    /// Its pods whose programs run, as far as they were seen.
    fn members(&self, object: &Object, kubernetes: &Kubernetes) -> Vec<Member> {
        let lives =
            |pod: &&Pod| object.made(pod) && !is_over(pod) && pod.metadata.deletion_timestamp.is_none();
        let member = |pod: &Pod| {
            let ip: IpAddr = pod.status.as_ref()?.pod_ip.as_deref()?.parse().ok()?;
            let serves = is_ready(pod) && kubernetes.may_dial(ip);
            Some(Member {
                generation: Generation(pod.metadata.uid.as_deref()?.into()),
                address: Address::Tcp(SocketAddr::new(ip, self.existing.port)),
                serves,
            })
        };
        self.pods.values().filter(lives).filter(|pod| runs(pod)).filter_map(member).collect()
    }

    /// How far a start is, and what hinders it, by the pod that was made last.
    fn hindered(&mut self, object: &Object, now: Instant) -> (Option<Address>, Step, Option<Trouble>) {
        if self.pods_seen == Sense::Listing {
            return (None, Step::Asked, None);
        }
        let (set, happenings) = (as_set(object), self.happenings(object, now));
        let mut reading =
            reading::read(&self.view(object, &set, &happenings, now), self.reading.as_ref(), now);
        let hindered = match &mut reading.stands {
            Stands::Failed { cause, .. } => {
                let trouble = Trouble { cause: cause.clone(), weight: Weight::End };
                (None, Step::Started, Some(trouble))
            }
            Stands::Running { step, trouble, .. } => (None, *step, trouble.clone()),
            Stands::Stopped | Stands::Stopping { .. } => (None, Step::Asked, None),
        };
        self.reading = Some(reading);
        hindered
    }

    /// All that was told of it.
    fn happenings(&self, object: &Object, now: Instant) -> Vec<Happening> {
        let mut all = self.happenings.all().to_vec();
        all.extend(refusal(object, self.asked(now)));
        all
    }

    fn view<'a>(
        &'a self,
        object: &'a Object,
        set: &'a Outline,
        happenings: &'a [Happening],
        now: Instant,
    ) -> View<'a> {
        let made =
            self.pods.values().filter(|pod| object.made(pod) && pod.metadata.deletion_timestamp.is_none());
        let pod = made.max_by_key(|pod| pod.metadata.creation_timestamp.as_ref().map(|time| time.0));
        let sight = if self.is_sighted() { Sight::Confirmed { back: self.back } } else { Sight::Blind };
        View {
            set,
            kind: match object.kind {
                config::ObjectKind::Deployment => "deployment",
                config::ObjectKind::StatefulSet => "statefulset",
            },
            pod,
            claims: &[],
            happenings,
            container: pod.map(|pod| container(pod, self.existing.port)).unwrap_or_default(),
            port: self.existing.port,
            sight,
            asked: self.asked(now),
            is_shared: true,
        }
    }

    fn asked(&self, now: Instant) -> Instant {
        self.asked.unwrap_or(now)
    }

    /// Whether what was told last may be outdated.
    pub(super) fn is_blind(&self) -> bool {
        [self.objects_seen, self.pods_seen].contains(&Sense::Blind)
    }

    fn is_sighted(&self) -> bool {
        self.objects_seen == Sense::Whole && self.pods_seen == Sense::Whole
    }

    fn sense(&mut self, which: fn(&mut Self) -> &mut Sense, sense: Sense, now: Instant) {
        let was_blind = self.is_blind();
        *which(self) = sense;
        if was_blind && self.is_sighted() {
            self.back = Some(now);
        }
    }
}

/// As much of it as is read for causes, which are read of a StatefulSet.
fn as_set(object: &Object) -> Outline {
    let (meta, text) = (&object.meta, |text: &Option<String>| text.clone().unwrap_or_default());
    Outline {
        name: text(&meta.name),
        namespace: text(&meta.namespace),
        uid: text(&meta.uid),
        replicas: i32::try_from(object.replicas).unwrap_or(1),
        ends: meta.deletion_timestamp.is_some(),
        ..Outline::default()
    }
}

/// That its controller can make no pod, as it would be told of a StatefulSet.
fn refusal(object: &Object, asked: Instant) -> Option<Happening> {
    let refusal = object.refusal.as_ref()?;
    let about = ObjectReference { uid: object.meta.uid.clone(), ..ObjectReference::default() };
    let event = Event {
        involved_object: about,
        reason: Some("FailedCreate".to_owned()),
        message: Some(refusal.clone()),
        ..Event::default()
    };
    Some(Happening::of(&event, asked, false))
}

/// Whether nothing of it runs, or ever will.
fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Failed" | "Succeeded"))
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn runs(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_deref());
    let running =
        |status: &ContainerStatus| status.state.as_ref().is_some_and(|state| state.running.is_some());
    statuses.unwrap_or_default().iter().any(running)
}

/// The container that listens at a port, or the first.
fn container(pod: &Pod, port: u16) -> &str {
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let listens = containers.iter().find(|container| {
        container.ports.iter().flatten().any(|given| given.container_port == i32::from(port))
    });
    listens.or(containers.first()).map(|container| container.name.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
