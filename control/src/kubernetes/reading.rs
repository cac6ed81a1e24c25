//! What the objects of a workspace say: how far it is, and in plain words what hinders it.
//!
//! A pure function of what was received. Statuses come before events, since an event may be of any age; the
//! time of receipt is the only time that is read. Which reason leads to what stands in the table of [`sign`].

pub(crate) mod answer;
mod container;
mod happening;
mod pod;
mod quote;
mod refusal;
mod scheduler;
mod sign;
mod view;

pub(crate) use happening::Happening;
pub(crate) use view::{Sight, View};

use crate::{Address, Cause, CauseCode, Generation, Step, Trouble, Weight};
use k8s_openapi::api::core::v1::Pod;
use sign::{Finding, Follows, Sign};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

/// How long a reason that often passes must stand before it is shown. Each cause is to be shown within 5 s of
/// its first sign, and the control loop looks at the time once a second.
pub(crate) const SETTLES: Duration = Duration::from_secs(3);
/// How long after an outage the cluster's own controllers may still be why a start does not go on. Their back-off
/// grows to 30 s, and a start needs several of them; 22 s after an outage of 20 s (measured 2026-11-21).
const RECOVERY: Duration = Duration::from_secs(60);
/// How long nothing at all may come of a start before that is told as a cause. A controller makes the pod within
/// 0.1 s, or says why not within the same time.
const SILENCE: Duration = Duration::from_secs(10);
/// How far the watch of pods may be ahead of the watch of what makes them. So long a pod that is new while none is to run
/// counts as not heard of yet: it is the beginning of a start, and not what is left of a stop.
pub(crate) const EARLY: Duration = Duration::from_secs(2);
/// How often a start may be interrupted before it is given up: a node that refuses it each time is asked again
/// for ever.
const INTERRUPTIONS: u32 = 5;

/// What was read, and what the next reading has to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    /// How far it is.
    pub(crate) stands: Stands,
    /// When to read again although nothing was received.
    pub(crate) again_at: Option<Instant>,
    memory: Memory,
}

/// How far the objects show a workspace to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stands {
    /// Nothing runs, and nothing is to run.
    Stopped,
    /// It is to run.
    Running {
        /// The pod that is, or becomes, the workspace; none = there is none yet, or it is being replaced.
        generation: Option<Generation>,
        /// Where it will accept connections; only while its program runs.
        address: Option<Address>,
        /// How far its start is.
        step: Step,
        /// What hinders it now, not (yet) the end; or why its predecessor ended.
        trouble: Option<Trouble>,
    },
    /// It is not to run, and its pod has not ended.
    Stopping {
        /// Its pod.
        generation: Option<Generation>,
        /// What holds it up.
        trouble: Option<Trouble>,
    },
    /// It is to run and never will: it is to be taken back to 0.
    Failed {
        /// The pod that came nowhere.
        generation: Option<Generation>,
        /// Why.
        cause: Cause,
    },
}

/// What one reading hands on to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Memory {
    /// The reason that was read, since when it is the same, and whether it was shown.
    sign: Option<(CauseCode, Instant, bool)>,
    /// Why an earlier pod of this start ended, and which it was.
    interruption: Option<(Generation, Cause)>,
    /// How many did.
    interruptions: u32,
}

/// Reads. `before` is what was read of the same workspace before.
pub(crate) fn read(view: &View<'_>, before: Option<&Reading>, now: Instant) -> Reading {
    let memory = before.map(|before| before.memory.clone()).unwrap_or_default();
    let generation = view.pod.and_then(generation);
    if !view.wanted() {
        let stands = match view.pod {
            None => Stands::Stopped,
            Some(_) => {
                let trouble = pod::node_lost(view).map(hinders);
                Stands::Stopping { generation, trouble }
            }
        };
        return Reading { stands, again_at: None, memory: Memory::default() };
    }
    Start { view, memory, now, again_at: None }.read(generation)
}

/// The last words of the workspace's program, at most 8 KiB: its node keeps them when it has ended.
pub(crate) fn last_output(view: &View<'_>) -> String {
    quote::last_output(&container::last_words(view))
}

/// Whether its pod ends on a node that does not answer, so that it will not go by itself, and keeps no files: then
/// removing it by force loses nothing, though its program may run on, unreachable, until the node is back.
pub(crate) fn is_stranded(view: &View<'_>) -> bool {
    let ends = view.pod.is_some_and(|pod| pod.metadata.deletion_timestamp.is_some());
    ends && !view.has_volume() && view.sight != Sight::Blind && pod::node_lost(view).is_some()
}

fn generation(pod: &Pod) -> Option<Generation> {
    pod.metadata.uid.as_deref().map(|uid| Generation(uid.into()))
}

fn hinders(finding: Finding) -> Trouble {
    Trouble { cause: finding.cause(), weight: Weight::Hindrance }
}

/// A workspace that is to run, while it is being read.
struct Start<'a> {
    view: &'a View<'a>,
    memory: Memory,
    now: Instant,
    again_at: Option<Instant>,
}

impl Start<'_> {
    fn read(mut self, generation: Option<Generation>) -> Reading {
        let lost = pod::node_lost(self.view);
        let stands = match pod::interruption(self.view) {
            Some(why) if lost.is_none() => self.interrupted(generation, why),
            _ => self.goes_on(generation, lost),
        };
        Reading { stands, again_at: self.again_at, memory: self.memory }
    }

    /// The pod ends, and another comes: for the one who waits that is a start like any other.
    fn interrupted(&mut self, ended: Option<Generation>, why: Finding) -> Stands {
        let notice = Trouble { cause: why.cause(), weight: Weight::Notice };
        if let Some(ended) = ended
            && self.memory.interruption.as_ref().map(|(known, _)| known) != Some(&ended)
        {
            self.memory.interruption = Some((ended, notice.cause.clone()));
            self.memory.interruptions += 1;
        }
        self.memory.sign = None;
        if self.memory.interruptions >= INTERRUPTIONS {
            return Stands::Failed { generation: None, cause: notice.cause };
        }
        Stands::Running { generation: None, address: None, step: Step::Asked, trouble: Some(notice) }
    }

    fn goes_on(&mut self, generation: Option<Generation>, lost: Option<Finding>) -> Stands {
        let step = step(self.view);
        if container::runs(self.view) && lost.is_none() {
            // It got where its predecessors did not.
            self.memory.interruption = None;
            self.memory.interruptions = 0;
        }
        let address = container::runs(self.view).then(|| address(self.view)).flatten();
        let found = lost.map(|finding| (finding, true)).or_else(|| hindrance(self.view, step));
        if let Some((finding, true)) = &found
            && finding.follows() == Follows::End
            && self.view.sight != Sight::Blind
        {
            let (finding, _) = found.expect("it was matched");
            return Stands::Failed { generation, cause: finding.cause() };
        }
        let trouble = match found.or_else(|| self.cluster(step)) {
            Some((finding, of_now)) => self.shown(finding, of_now),
            None => {
                self.memory.sign = None;
                None
            }
        };
        let interruption = self.memory.interruption.as_ref();
        let notice = interruption.map(|(_, cause)| Trouble { cause: cause.clone(), weight: Weight::Notice });
        Stands::Running { generation, address, step, trouble: trouble.or(notice) }
    }

    /// A reason as trouble, unless it has to stand for a while first. One that may be of an earlier start is
    /// never the end, and has to stand in any case.
    fn shown(&mut self, finding: Finding, of_now: bool) -> Option<Trouble> {
        let code = finding.sign.code();
        let (passing, weight) = match finding.follows() {
            Follows::Notice => (false, Weight::Notice),
            Follows::End | Follows::Hindrance => (!of_now, Weight::Hindrance),
            Follows::Passing => (true, Weight::Hindrance),
        };
        let (since, was_shown) = match self.memory.sign {
            Some((known, since, shown)) if known == code => (since, shown),
            _ => (self.now, false),
        };
        let due = since + SETTLES;
        let shown = was_shown || !passing || self.now >= due;
        self.memory.sign = Some((code, since, shown));
        if !shown {
            self.again_at = Some(due);
            return None;
        }
        Some(Trouble { cause: finding.cause(), weight })
    }

    /// That the cluster itself does not come to it.
    fn cluster(&mut self, step: Step) -> Option<(Finding, bool)> {
        if step == Step::Started {
            return None;
        }
        let look = self.view.describe_set();
        let back = match self.view.sight {
            Sight::Blind => {
                let hint = Sign::ClusterUnreachable.code().words().hint;
                return Some((Finding::plain(Sign::ClusterUnreachable, hint), true));
            }
            Sight::Confirmed { back } => back,
        };
        // A pull takes as long as it takes.
        let waits = matches!(step, Step::Asked | Step::Scheduling | Step::Creating);
        if waits && back.is_some_and(|back| self.now < back + RECOVERY) {
            let hint = Sign::ClusterRecovering.code().words().hint;
            return Some((Finding::plain(Sign::ClusterRecovering, hint), true));
        }
        let due = self.view.asked + SILENCE;
        // A scheduler that has looked at a pod says what it found.
        if !matches!(step, Step::Asked | Step::Scheduling) {
            return None;
        }
        if self.now < due {
            self.again_at = Some(due);
            return None;
        }
        let hint = format!("{}; {look}", Sign::ClusterSlow.code().words().hint);
        Some((Finding::plain(Sign::ClusterSlow, hint), true))
    }
}

/// What hinders a start where it is, and whether that is surely said of this one.
fn hindrance(view: &View<'_>, step: Step) -> Option<(Finding, bool)> {
    if view.pod.is_none() {
        return happening::refused(view);
    }
    let found = match step {
        Step::Asked | Step::Scheduling => unscheduled(view),
        Step::Pulling | Step::Creating | Step::Started => container::hindrance(view)
            .or_else(|| happening::stuck_on_node(view).filter(|_| step < Step::Started)),
    };
    found.map(|finding| (finding, true))
}

fn unscheduled(view: &View<'_>) -> Option<Finding> {
    let scheduled = view.condition("PodScheduled").filter(|condition| condition.status == "False")?;
    let found = scheduler::unschedulable(view, scheduled.message.as_deref().unwrap_or_default());
    match found.sign {
        Sign::VolumeUnbound => Some(happening::unbound(view).unwrap_or(found)),
        _ => Some(found),
    }
}

fn step(view: &View<'_>) -> Step {
    if view.pod.is_none() {
        Step::Asked
    } else if view.node().is_none() {
        Step::Scheduling
    } else if container::has_begun(view) {
        Step::Started
    } else if happening::pulling(view) {
        Step::Pulling
    } else {
        Step::Creating
    }
}

fn address(view: &View<'_>) -> Option<Address> {
    let ip: IpAddr = view.pod?.status.as_ref()?.pod_ip.as_deref()?.parse().ok()?;
    Some(Address::Tcp(SocketAddr::new(ip, view.port)))
}

#[cfg(test)]
mod tests;
