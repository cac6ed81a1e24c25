//! What users and operators ask for, taken into what the control loop knows.

use super::{Effect, How, Place, Stage, State, Then, Want, Workspace};
use crate::reconcile::admit::{Admission, admit};
use crate::reconcile::idle;
use crate::{Action, Identity, ObservedPhase, Order, StartSpec, StopReason, Wake, WakeRefused};
use config::WorkspaceId;
use std::time::{Duration, Instant};

/// So long after a start was asked for once more, asking again changes nothing: each costs calls, or a pod its life.
pub(crate) const NUDGE: Duration = Duration::from_secs(5);

impl State {
    /// A start is asked for.
    pub(crate) fn wake(&mut self, wake: &Wake, now: Instant) -> Result<Option<Effect>, WakeRefused> {
        match admit(self, wake, now)? {
            Admission::Already => {
                self.remember(wake, now);
                Ok(None)
            }
            Admission::Nudge => Ok(self.nudge(wake, now)),
            Admission::Enqueue => {
                self.enqueue(wake, now);
                Ok(None)
            }
            Admission::Remember => {
                let want = self.want(wake, now);
                self.then(&wake.id, Then::Start(want));
                Ok(None)
            }
        }
    }

    /// Whether it runs, or is going to.
    pub(crate) fn is_wanted(&self, id: &WorkspaceId) -> bool {
        self.workspaces.get(id).is_some_and(|workspace| match &workspace.stage {
            Stage::Queued(_) | Stage::Starting(_) | Stage::Ready(_) => true,
            Stage::Stopping(stopping) => matches!(stopping.then, Then::Start(_)),
            Stage::Stopped | Stage::Failed { .. } => false,
        })
    }

    /// A start of which nobody knows whether it was taken up may have been called off before this wake.
    fn remember(&mut self, wake: &Wake, now: Instant) {
        let is_unsure = |workspace: &Workspace| match &workspace.stage {
            Stage::Starting(starting) => {
                !starting.taken && matches!(workspace.told, Some(ObservedPhase::Stopped))
            }
            _ => false,
        };
        if self.peers.is_some() && self.workspaces.get(&wake.id).is_some_and(is_unsure) {
            let want = self.want(wake, now);
            self.workspaces.entry(wake.id.clone()).and_modify(|workspace| workspace.wish = Some(want));
        }
    }

    /// One that is on its way is asked for again, however often somebody asks only every so often.
    fn nudge(&mut self, wake: &Wake, now: Instant) -> Option<Effect> {
        let id = wake.id.clone();
        let workspace = self.workspaces.get_mut(&id)?;
        let Stage::Starting(starting) = &mut workspace.stage else { return None };
        if starting.nudged.is_some_and(|at| now < at + NUDGE) {
            return None;
        }
        starting.nudged = Some(now);
        let template = self.settings.templates.get(&workspace.template)?.clone();
        let (owner, host, grant) = (wake.owner.clone(), wake.host.clone(), wake.grant.clone());
        let spec = StartSpec { id: id.clone(), owner, template, host, grant };
        Some(Effect::Act { id, attempt: workspace.attempt, action: Action::Nudge(spec) })
    }

    /// What a wake asks for, at the end of the queue.
    fn want(&mut self, wake: &Wake, now: Instant) -> Want {
        let place = self.next_place();
        Want {
            owner: wake.owner.clone(),
            host: wake.host.clone(),
            template: wake.template.clone(),
            grant: wake.grant.clone(),
            since: now,
            place,
            taken: false,
            again_at: None,
        }
    }

    /// The last place in the queue; where there are others it is theirs to see before it counts.
    fn next_place(&mut self) -> Place {
        self.last_place += 1;
        match self.peers {
            None => Place::Given(Order { second: 0, within: self.last_place }),
            Some(_) => Place::Asked(self.last_place),
        }
    }

    fn enqueue(&mut self, wake: &Wake, now: Instant) {
        let want = self.want(wake, now);
        let workspace = self.workspaces.entry(wake.id.clone()).or_insert_with(|| {
            Workspace::new(wake.owner.clone(), wake.template.clone(), wake.grant.clone(), now)
        });
        if !workspace.recorded {
            workspace.template = wake.template.clone();
        }
        self.enter(&wake.id, Stage::Queued(want), now);
    }

    /// A stop is asked for; `false` = there is nothing to stop.
    pub(crate) fn stop(&mut self, id: &WorkspaceId, now: Instant) -> bool {
        let Some(workspace) = self.workspaces.get_mut(id) else { return false };
        let generation = workspace.stage.generation().cloned();
        match &workspace.stage {
            // It is taken back where it was written down for others to see.
            Stage::Queued(_) if self.peers.is_some() => self.end(id, How::Stop, None, Then::Rest, now),
            Stage::Queued(_) => self.enter(id, Stage::Stopped, now),
            Stage::Starting(_) | Stage::Ready(_) => {
                workspace.stopped = Some(StopReason::Asked);
                self.end(id, How::Stop, generation, Then::Rest, now);
            }
            Stage::Stopping(stopping) => {
                if matches!(stopping.then, Then::Start(_)) {
                    self.then(id, Then::Rest);
                }
            }
            Stage::Failed { .. } => return self.end_unknown(id, now),
            Stage::Stopped => return false,
        }
        self.forget_wish(id);
        true
    }

    /// The end of a workspace is asked for, by its owner or (none) an operator; `false` = they have none of this name,
    /// or others made it.
    pub(crate) fn delete(
        &mut self,
        id: &WorkspaceId,
        volume: bool,
        owner: Option<&Identity>,
        now: Instant,
    ) -> bool {
        if id.route().is_some() {
            return false;
        }
        let Some(workspace) = self.workspaces.get_mut(id) else { return false };
        if owner.is_some_and(|owner| *owner != workspace.owner) {
            return false;
        }
        workspace.stopped = Some(StopReason::Asked);
        let generation = workspace.stage.generation().cloned();
        self.end(id, How::Delete { volume, owner: owner.cloned() }, generation, Then::Rest, now);
        self.forget_wish(id);
        true
    }

    /// Nobody wants any more what was asked for here.
    pub(super) fn forget_wish(&mut self, id: &WorkspaceId) {
        if let Some(workspace) = self.workspaces.get_mut(id) {
            workspace.wish = None;
        }
    }

    /// Moves the idle stop ahead; tells when it stops now, if ever.
    pub(crate) fn extend(&mut self, id: &WorkspaceId, now: Instant) -> Option<Instant> {
        let ready = self.ready_mut(id)?;
        let rules = &ready.template.idle;
        let until = idle::no_later_than_max_age(rules.idle_after?, rules, &ready.terms, now);
        ready.terms.extended_until = ready.terms.extended_until.max(Some(until));
        self.stops_at(id, now)
    }

    /// Keeps a workspace for so long; tells when it stops now, if ever.
    pub(crate) fn keep(&mut self, id: &WorkspaceId, time: Duration, now: Instant) -> Option<Instant> {
        let ready = self.ready_mut(id)?;
        let rules = &ready.template.idle;
        let time = time.min(rules.keep_until_max);
        ready.terms.kept_until = Some(idle::no_later_than_max_age(time, rules, &ready.terms, now));
        self.stops_at(id, now)
    }

    fn stops_at(&mut self, id: &WorkspaceId, now: Instant) -> Option<Instant> {
        self.news.changed.insert(id.clone());
        let workspace = self.workspaces.get(id)?;
        let Stage::Ready(ready) = &workspace.stage else { return None };
        let seen = workspace.activity.read();
        idle::why_alive(&seen, &ready.template.idle, &ready.terms, now).stops_at
    }

    pub(super) fn ready_mut(&mut self, id: &WorkspaceId) -> Option<&mut super::Ready> {
        match &mut self.workspaces.get_mut(id)?.stage {
            Stage::Ready(ready) => Some(ready),
            _ => None,
        }
    }

    /// Changes what comes after a stop that is under way.
    fn then(&mut self, id: &WorkspaceId, next: Then) {
        if let Some(Stage::Stopping(stopping)) = self.workspaces.get_mut(id).map(|w| &mut w.stage) {
            stopping.then = next;
            self.news.changed.insert(id.clone());
        }
    }

    pub(super) fn attempt(&self, id: &WorkspaceId) -> u64 {
        self.workspaces.get(id).map_or(0, |workspace| workspace.attempt)
    }
}
