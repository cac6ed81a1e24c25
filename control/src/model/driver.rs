//! What a driver makes of the API server: objects read as what is observed, actions written as requests.

use super::Plant;
use super::api::{Api, Refused, Set, Wanted};
use crate::testing::{cause, generation};
use crate::{
    Action, Address, CauseCode, Generation, Grant, Mark, Observed, ObservedPhase, Order, Scope, Step, Stop,
    StopReason, Trouble, Weight,
};
use config::{TemplateName, WorkspaceId};

/// What an object says.
pub(super) fn observed(id: &WorkspaceId, set: &Set, plant: Plant) -> Observed {
    let phase = match (set.pod(), set.runs && !set.deleting) {
        (pod, true) => {
            let pod = pod.filter(|pod| !pod.ending);
            let broken = pod.is_some_and(|pod| pod.broken);
            ObservedPhase::Running {
                generation: pod.map(|pod| generation(pod.uid)),
                address: pod.filter(|pod| pod.accepts).map(|pod| address(pod.uid)),
                step: if pod.is_some_and(|pod| pod.accepts) { Step::Started } else { Step::Asked },
                trouble: broken.then(|| Trouble { cause: cause(CauseCode::CrashLoop), weight: Weight::End }),
            }
        }
        (Some(pod), false) => ObservedPhase::Stopping { generation: generation(pod.uid), trouble: None },
        (None, false) if set.deleting => ObservedPhase::Stopped,
        (None, false) => match (set.wanted, &set.failed) {
            (Some(wanted), _) => ObservedPhase::Wanted { order: order(wanted, plant) },
            (None, Some(cause)) => ObservedPhase::Failed { cause: cause.clone() },
            (None, None) => ObservedPhase::Stopped,
        },
    };
    Observed {
        id: id.clone(),
        owner: set.owner.clone(),
        template: TemplateName::parse("demo").unwrap(),
        grant: Grant::default(),
        phase,
        scope: Scope::default(),
        members: Vec::new(),
        mark: set.mark.map(|reason| Mark { number: set.version, reason }),
        stopped: set.stopped,
    }
}

fn order(wanted: Wanted, plant: Plant) -> Order {
    let within = u64::try_from(wanted.at_ms).unwrap();
    match plant {
        Plant::LocalClock => Order { second: wanted.at_ms / 1000, within },
        _ => Order { second: wanted.second, within },
    }
}

/// Where this pod accepts connections: never where another does.
fn address(uid: u64) -> Address {
    Address::Unix(uid.to_string().into())
}

/// A request as it is sent: what was read when it was made stands in it.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) action: Action,
    /// The object as it was last read.
    pub(super) read: Option<Set>,
    pub(super) wanted: Wanted,
}

/// What a request that was carried out came to: the version that was written, if anything was.
pub(super) type Done = Result<Option<u64>, Refused>;

impl Request {
    /// Carries it out.
    pub(super) fn commit(&self, api: &mut Api, plant: Plant) -> Done {
        let checks = plant != Plant::AnyVersion;
        match &self.action {
            Action::Want(spec) => self.want(api, &spec.id, &spec.owner, plant),
            Action::Start(spec) => self.start(api, &spec.id, plant),
            Action::Mark { id, generation, reason } => {
                let Some(read) = self.read_with(generation) else { return Err(Refused::Conflict) };
                if read.mark.is_some() || !read.runs {
                    return Err(Refused::Conflict);
                }
                api.patch(id, read, checks, |set| set.mark = Some(*reason)).map(Some)
            }
            Action::Unmark { id, mark } => {
                let read =
                    self.read.as_ref().filter(|read| read.version == mark.number && read.mark.is_some());
                let read = read.ok_or(Refused::Conflict)?;
                api.patch(id, read, checks, |set| set.mark = None).map(Some)
            }
            Action::Stop { id, generation, why } => self.stop(api, id, generation.as_ref(), why, plant),
            Action::Delete { id, volume, .. } => {
                if *volume {
                    api.volumes.remove(id);
                }
                let by_name = api.sets.get(id).filter(|_| plant != Plant::BelievesItsCache).cloned();
                let Some(read) = self.read.as_ref().or(by_name.as_ref()) else { return Ok(None) };
                if read.deleting {
                    // Of the one that has its name now the server knows another `uid`.
                    let same = api.sets.get(id).is_none_or(|set| set.uid == read.uid);
                    return if same { Ok(None) } else { Err(Refused::Conflict) };
                }
                api.patch(id, read, false, |set| set.deleting = true).map(Some)
            }
            Action::Nudge { .. } => Ok(None),
        }
    }

    fn want(&self, api: &mut Api, id: &WorkspaceId, owner: &crate::Identity, plant: Plant) -> Done {
        let Some(read) = &self.read else { return api.create(id, owner.clone(), self.wanted).map(Some) };
        if read.owner != *owner {
            return Err(Refused::NotTheOwner);
        }
        if read.deleting {
            // It is to be made anew when this one is gone.
            return Err(Refused::Conflict);
        }
        if read.runs || read.wanted.is_some() {
            return unchanged(api, id, read, plant);
        }
        let (wanted, checks) = (self.wanted, plant != Plant::AnyVersion);
        api.patch(id, read, checks, |set| {
            (set.wanted, set.failed, set.stopped) = (Some(wanted), None, None);
        })
        .map(Some)
    }

    fn start(&self, api: &mut Api, id: &WorkspaceId, plant: Plant) -> Done {
        if plant == Plant::StartTwice {
            let uid = api.uid();
            let another = super::api::Pod { uid, accepts: false, broken: false, ending: false };
            api.touch(id, |set| {
                (set.runs, set.wanted, set.starting) = (true, None, true);
                set.pods.push(another);
            });
            return Ok(api.sets.get(id).map(|set| set.version));
        }
        let read = self.read.as_ref().ok_or(Refused::Conflict)?;
        if read.runs {
            return unchanged(api, id, read, plant);
        }
        if read.wanted.is_none() && plant != Plant::StartsUnwanted {
            return Err(Refused::Conflict);
        }
        api.patch(id, read, plant != Plant::AnyVersion, |set| {
            (set.runs, set.wanted, set.starting) = (true, None, true);
            (set.mark, set.failed, set.stopped) = (None, None, None);
        })
        .map(Some)
    }

    fn stop(
        &self,
        api: &mut Api,
        id: &WorkspaceId,
        generation: Option<&Generation>,
        why: &Stop,
        plant: Plant,
    ) -> Done {
        let Some(read) = &self.read else {
            // By its name: it may have been made by a request whose answer was lost.
            let by_name = api.sets.get(id).filter(|_| plant != Plant::BelievesItsCache).cloned();
            let Some(set) = by_name else { return Ok(None) };
            return api.patch(id, &set, false, |set| end(set, StopReason::Asked)).map(Some);
        };
        if generation.is_some() && self.read_with(generation.unwrap()).is_none() && read.pod().is_some() {
            return Err(Refused::Conflict);
        }
        let checks = plant != Plant::AnyVersion;
        match why {
            Stop::Marked(_) if plant == Plant::MarkPrecondition => {
                let read = api.sets.get(id).cloned().unwrap_or_else(|| read.clone());
                api.patch(id, &read, false, |set| end(set, StopReason::Idle))
            }
            Stop::Marked(mark) if read.version == mark.number && read.mark == Some(mark.reason) => {
                api.patch(id, read, checks, |set| end(set, mark.reason))
            }
            Stop::Marked(_) => return Err(Refused::Conflict),
            Stop::Refused(_) if read.runs => return unchanged(api, id, read, plant),
            Stop::Failed(cause) | Stop::Refused(cause) => api.patch(id, read, checks, |set| {
                end(set, StopReason::Asked);
                (set.stopped, set.failed) = (None, Some(cause.clone()));
            }),
            Stop::Asked if !read.runs && read.wanted.is_none() => return unchanged(api, id, read, plant),
            Stop::Asked => api.patch(id, read, checks, |set| end(set, StopReason::Asked)),
        }
        .map(Some)
    }

    fn read_with(&self, generation: &Generation) -> Option<&Set> {
        let read = self.read.as_ref()?;
        let pod = read.pod().filter(|pod| !pod.ending)?;
        (crate::testing::generation(pod.uid) == *generation).then_some(read)
    }
}

/// It is as it is to be, at the server and not only as it was read.
fn unchanged(api: &Api, id: &WorkspaceId, read: &Set, plant: Plant) -> Done {
    let same =
        plant == Plant::BelievesItsCache || api.sets.get(id).is_some_and(|set| set.version == read.version);
    if same { Ok(None) } else { Err(Refused::Conflict) }
}

fn end(set: &mut Set, reason: StopReason) {
    (set.runs, set.wanted, set.mark, set.starting) = (false, None, None, false);
    set.stopped = Some(reason);
}
