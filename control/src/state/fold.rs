//! What the driver saw, folded into what the control loop knows.

use super::instance::Instance;
use super::seen::Seen;
use super::{How, Note, Place, Stage, Starting, State, Stopping, Then, Unasked, Want, Workspace};
use crate::reconcile;
use crate::{Cause, CauseCode, Event, Generation, Observed, ObservedPhase, Order};
use config::WorkspaceId;
use std::sync::Arc;
use std::time::Instant;

impl State {
    /// Takes in one event.
    pub(crate) fn fold(&mut self, event: Event, now: Instant) {
        match event {
            Event::Synced => {
                self.synced = true;
                self.forget_the_lost();
            }
            Event::Sighted(scope, sighted) => self.sight(&scope, sighted, now),
            Event::Gone(id) => self.gone(&id, now),
            Event::Seen(observed) => self.seen(observed, now),
        }
    }

    fn seen(&mut self, observed: Observed, now: Instant) {
        let id = observed.id.clone();
        self.note_identity(&observed, now);
        if id.route().is_some() && !matches!(observed.phase, ObservedPhase::Running { .. }) {
            // Its next run may have the name of this one.
            self.restored.forget(&id);
        }
        let told = self.workspaces.get_mut(&id).and_then(|it| it.told.replace(observed.phase.clone()));
        match observed.phase {
            ObservedPhase::Stopped if self.is_called_off(&id, told.as_ref()) => {
                self.enter(&id, Stage::Stopped, now);
            }
            ObservedPhase::Stopped => self.seen_ended(&id, None, now),
            ObservedPhase::Failed { cause } => self.seen_ended(&id, Some(cause), now),
            ObservedPhase::Wanted { order } => self.seen_wanted(&id, order, now),
            ObservedPhase::Stopping { generation, trouble } => {
                self.seen_stopping(&id, generation, now);
                self.held_up(&id, trouble);
            }
            ObservedPhase::Running { generation, address, step, trouble } => {
                let seen = Seen { generation, address, members: observed.members, step, trouble };
                self.seen_running(&id, seen, now);
            }
        }
        self.note_mark(&id, observed.mark, now);
        self.note_stopped(&id, observed.stopped);
    }

    /// Whether a start that the driver has not taken up is of what does not wait any more, since another Usher called it
    /// off: whoever comes now is not to wait for what that start comes to. `told` is what was told before.
    fn is_called_off(&self, id: &WorkspaceId, told: Option<&ObservedPhase>) -> bool {
        let starts = matches!(
            self.workspaces.get(id).map(|workspace| &workspace.stage),
            Some(Stage::Starting(Starting { taken: false, instance: None, .. }))
        );
        starts && self.peers.is_some() && matches!(told, Some(ObservedPhase::Wanted { .. }))
    }

    /// It waits for its turn, and this is its place.
    fn seen_wanted(&mut self, id: &WorkspaceId, order: Order, now: Instant) {
        let Some(workspace) = self.workspaces.get(id) else { return };
        let place = Place::Given(order);
        let own = match &workspace.stage {
            // What was told before the driver took up what it was asked for.
            Stage::Starting(starting) if !starting.taken => return,
            Stage::Stopping(stopping) if stopping.generation.is_none() && !stopping.taken => return,
            Stage::Stopping(stopping) if stopping.how != How::Stop => return,
            Stage::Queued(want) if want.place == place => return,
            Stage::Queued(want) | Stage::Stopping(Stopping { then: Then::Start(want), .. }) => {
                Some(want.clone())
            }
            _ => None,
        };
        // What is written down holds, also where another Usher wrote it before this one could.
        let written = self.unasked_want(workspace, id, place, now);
        let want = match own {
            Some(Want { owner, host, since, .. }) => Want { owner, host, since, ..written },
            None => written,
        };
        self.enter(id, Stage::Queued(want), now);
    }

    /// What somebody else asked for.
    fn unasked_want(&self, workspace: &Workspace, id: &WorkspaceId, place: Place, now: Instant) -> Want {
        let host = id.host(&self.settings.domain);
        let (template, grant) = (workspace.template.clone(), workspace.grant.clone());
        let owner = workspace.owner.clone();
        Want { owner, host, template, grant, since: now, place, taken: true, again_at: None }
    }

    /// Goes by what the driver told last, since what it was asked for did not fit that any more.
    pub(super) fn go_by_what_was_told(&mut self, id: &WorkspaceId, now: Instant) {
        let Some(workspace) = self.workspaces.get(id) else { return };
        match workspace.told.clone() {
            Some(ObservedPhase::Wanted { order }) => {
                let want = self.unasked_want(workspace, id, Place::Given(order), now);
                let since = match &workspace.stage {
                    Stage::Starting(Starting { woken: Some(woken), .. }) => *woken,
                    _ => now,
                };
                let again_at = Some(now + reconcile::RETRY);
                self.enter(id, Stage::Queued(Want { since, again_at, ..want }), now);
            }
            Some(ObservedPhase::Failed { cause }) => self.fail(id, cause, now),
            Some(ObservedPhase::Running { .. } | ObservedPhase::Stopping { .. }) => {}
            None | Some(ObservedPhase::Stopped) => self.enter(id, Stage::Stopped, now),
        }
    }

    /// Writes down whose it is and from which template.
    fn note_identity(&mut self, observed: &Observed, now: Instant) {
        let workspace = self.workspaces.entry(observed.id.clone()).or_insert_with(|| {
            self.news.changed.insert(observed.id.clone());
            Workspace::new(observed.owner.clone(), observed.template.clone(), observed.grant.clone(), now)
        });
        workspace.recorded = true;
        workspace.grant = observed.grant.clone();
        workspace.sight = self.sights.of(&observed.scope);
        workspace.scope = observed.scope.clone();
        if workspace.template != observed.template {
            workspace.template = observed.template.clone();
            self.news.changed.insert(observed.id.clone());
        }
        if workspace.owner != observed.owner {
            workspace.owner = observed.owner.clone();
            self.dispossess(&observed.id, now);
        }
    }

    /// Takes a workspace from whom it was believed to be of: their start fails, and their traffic and their use
    /// of it end, before anything of what was seen holds for the true owner.
    fn dispossess(&mut self, id: &WorkspaceId, now: Instant) {
        let Some(workspace) = self.workspaces.get_mut(id) else { return };
        (workspace.activity, workspace.wish) = (Arc::default(), None);
        self.news.changed.insert(id.clone());
        match &mut workspace.stage {
            Stage::Starting(starting) if starting.instance.is_some() => self.enter(id, Stage::Stopped, now),
            Stage::Ready(_) => self.enter(id, Stage::Stopped, now),
            Stage::Queued(_) | Stage::Starting(_) => self.fail(id, Cause::not_the_owner(id), now),
            Stage::Stopping(stopping) => {
                if matches!(stopping.then, Then::Start(_)) {
                    stopping.then = Then::Rest;
                }
            }
            Stage::Stopped | Stage::Failed { .. } => {}
        }
    }

    fn seen_running(&mut self, id: &WorkspaceId, seen: Seen, now: Instant) {
        let shared = self.peers.is_some();
        let Some(workspace) = self.workspaces.get_mut(id) else { return };
        match &mut workspace.stage {
            stage if seen.end().is_some() && !matches!(stage, Stage::Stopping(_)) => {
                self.take_over(id, seen, now);
            }
            Stage::Starting(starting) => {
                workspace.wish = None;
                let (changed, ended) = starting.see(seen, now);
                self.news.ended.extend(ended);
                if changed {
                    self.news.changed.insert(id.clone());
                }
            }
            Stage::Ready(ready) if Some(&ready.instance.generation) == seen.generation.as_ref() => {
                // One whose program does not run, or runs elsewhere, may have lost its address to another.
                let stays = if ready.instance.has_members() {
                    seen.address.is_some()
                } else {
                    seen.address.as_ref() == Some(&ready.address)
                };
                if !stays {
                    return self.adopt(id, seen, now);
                }
                if ready.instance.has_members() {
                    self.news.ended.extend(ready.instance.see(seen.members));
                    ready.address = seen.address.unwrap_or_else(|| ready.address.clone());
                    self.news.changed.insert(id.clone());
                }
            }
            // A stop that the driver took up, or told of, is over: this is what came after it. It may be the same
            // instance, which was to end and is not any more, or whose start was heard of before the wish for it.
            Stage::Stopping(stopping) if shared && stopping.how == How::Stop && stopping.taken => {
                self.take_over(id, seen, now);
            }
            Stage::Stopping(stopping) => {
                if seen.generation.is_some() && stopping.generation != seen.generation {
                    stopping.generation = seen.generation;
                    stopping.again_at = None;
                }
            }
            _ => self.take_over(id, seen, now),
        }
    }

    /// Takes over what is not, or not only, known from its start here; and takes it back if it cannot come to anything.
    fn take_over(&mut self, id: &WorkspaceId, seen: Seen, now: Instant) {
        match seen.end().cloned() {
            Some(cause) => self.end(id, How::Stop, seen.generation, Then::Fail(cause), now),
            None => self.adopt(id, seen, now),
        }
    }

    /// Takes over what was not started here: after a restart of Usher, or by somebody else's hand.
    fn adopt(&mut self, id: &WorkspaceId, seen: Seen, now: Instant) {
        let Some(workspace) = self.workspaces.get(id) else { return };
        let woken = match &workspace.stage {
            Stage::Queued(want) | Stage::Stopping(Stopping { then: Then::Start(want), .. }) => {
                Some(want.since)
            }
            _ => None,
        };
        let Some(template) = self.settings.templates.get(&workspace.template).cloned() else {
            return self.abandon(id, seen.generation, now);
        };
        // One that has moved to another address is no younger for it.
        if let Stage::Ready(ready) = &workspace.stage
            && seen.generation.as_ref() == Some(&ready.instance.generation)
        {
            self.restored.learn(id.clone(), ready.kept());
        }
        let before = workspace.stage.instance();
        let mut instance = match (before, seen.generation) {
            (Some(before), Some(generation)) if before.generation == generation => {
                let mut instance = before.clone();
                if instance.has_members() {
                    // None of them serves at the moment: those that are left keep their traffic.
                    self.news.ended.extend(instance.see(seen.members));
                } else {
                    self.news.ended.push(instance.renew());
                }
                Some(instance)
            }
            (_, generation) => generation.map(|generation| Instance::new(generation, seen.members, now)),
        };
        if let Some(instance) = &mut instance
            && let Some(known) = self.restored.get(id, &instance.generation)
        {
            instance.started = known.started;
        }
        let starting = Starting {
            template,
            host: id.host(&self.settings.domain),
            woken,
            taken: true,
            shown: true,
            again_at: None,
            step: seen.step,
            progress: now,
            trouble: seen.trouble,
            instance,
            address: seen.address,
            prober: None,
            nudged: None,
        };
        self.enter(id, Stage::Starting(starting), now);
    }

    fn seen_stopping(&mut self, id: &WorkspaceId, generation: Generation, now: Instant) {
        let shared = self.peers.is_some();
        let Some(workspace) = self.workspaces.get_mut(id) else { return };
        let (then, spawning) = match &mut workspace.stage {
            Stage::Stopping(stopping) => {
                match &stopping.generation {
                    // It holds, whoever asked for it: what is told after this came after it.
                    Some(known) => stopping.taken |= *known == generation,
                    // Of what was never told to run it may be the beginning, heard of before the wish for it.
                    None if shared => {}
                    None => stopping.generation = Some(generation),
                }
                return;
            }
            Stage::Queued(want) => (Then::Start(want.clone()), false),
            // The last of an instance that is known to be over; a start that was asked for since comes after it, until
            // the driver has taken it up: what it tells then is what came of it.
            Stage::Starting(starting) if starting.instance.is_none() && !starting.taken => return,
            Stage::Failed { .. } => return,
            Stage::Starting(_) => (Then::Rest, true),
            Stage::Ready(ready) => {
                // Whoever scaled it down may scale it up before it has ended.
                self.restored.learn(id.clone(), ready.kept());
                (Then::Rest, false)
            }
            Stage::Stopped => (Then::Rest, false),
        };
        let unasked = (!matches!(then, Then::Start(_))).then_some(Unasked { spawning });
        // Where there is nobody else the driver is asked all the same: whoever began this may have died over it.
        let again_at = shared.then_some(now + reconcile::ASK_AGAIN);
        self.end(id, How::Stop, Some(generation), then, now);
        if let Some(Stage::Stopping(stopping)) = self.workspaces.get_mut(id).map(|w| &mut w.stage) {
            (stopping.unasked, stopping.again_at) = (unasked, again_at);
            stopping.taken = true;
        }
    }

    /// What holds up the end of a workspace, if anything does.
    fn held_up(&mut self, id: &WorkspaceId, trouble: Option<Cause>) {
        if let Some(Stage::Stopping(stopping)) = self.workspaces.get_mut(id).map(|w| &mut w.stage)
            && stopping.trouble != trouble
        {
            stopping.trouble = trouble;
            self.news.changed.insert(id.clone());
        }
    }

    /// Nothing runs any more: by a stop, or by itself (`cause`).
    fn seen_ended(&mut self, id: &WorkspaceId, cause: Option<Cause>, now: Instant) {
        let shared = self.peers.is_some();
        let Some(workspace) = self.workspaces.get_mut(id) else { return };
        match (&mut workspace.stage, cause) {
            // Another Usher called it off, or had it start and fail.
            (Stage::Queued(want), None) if shared && want.is_written() => {
                self.enter(id, Stage::Stopped, now);
            }
            (Stage::Queued(want), Some(cause)) if shared && want.is_written() => self.fail(id, cause, now),
            // It ended by itself; a wake meanwhile meets the failure's back-off.
            (Stage::Stopping(Stopping { unasked: Some(_), .. }), Some(cause)) => self.fail(id, cause, now),
            (Stage::Stopping(stopping), cause) if stopping.how == How::Stop => {
                // Another Usher ended it for this cause, and this is what all see of it now.
                if let (Some(cause), Then::Rest, true) = (cause, &stopping.then, shared) {
                    stopping.then = Then::Fail(cause);
                }
                self.finish_stop(id, now);
            }
            // Another Usher called it off.
            (Stage::Starting(Starting { taken: true, .. }), None) if shared => {
                self.enter(id, Stage::Stopped, now);
            }
            (Stage::Starting(starting), cause) => match (starting.instance.is_some(), cause) {
                (_, Some(cause)) => self.fail(id, cause, now),
                (true, None) => self.fail(id, ended_early(), now),
                // What the driver saw before the start.
                (false, None) => {}
            },
            (Stage::Ready(_) | Stage::Stopped, Some(cause)) => self.fail(id, cause, now),
            (Stage::Ready(_), None) => self.enter(id, Stage::Stopped, now),
            // What hindered it is mended, and nothing was tried that failed.
            (Stage::Failed { cause, .. }, None) if cause.code.is_of_object() => {
                workspace.failures = 0;
                self.enter(id, Stage::Stopped, now);
            }
            (Stage::Failed { cause: known, .. }, Some(cause)) => {
                *known = cause;
                self.news.changed.insert(id.clone());
            }
            (Stage::Stopping(_) | Stage::Queued(_) | Stage::Stopped | Stage::Failed { .. }, _) => {}
        }
    }

    /// What was to come after the stop comes now.
    pub(super) fn finish_stop(&mut self, id: &WorkspaceId, now: Instant) {
        let Some(Stage::Stopping(stopping)) = self.workspaces.get(id).map(|workspace| &workspace.stage)
        else {
            return;
        };
        match stopping.then.clone() {
            Then::Rest => self.enter(id, Stage::Stopped, now),
            Then::Start(want) => self.enter(id, Stage::Queued(want), now),
            // Counted when the stop began.
            Then::Fail(cause) => {
                self.enter(id, Stage::Failed { cause, retry_at: now }, now);
                self.back_off(id, now);
            }
        }
    }

    fn gone(&mut self, id: &WorkspaceId, now: Instant) {
        let shared = self.peers.is_some();
        let Some(workspace) = self.workspaces.get_mut(id) else { return };
        workspace.recorded = false;
        workspace.marked = None;
        let told = workspace.told.take();
        self.restored.forget(id);
        if self.is_called_off(id, told.as_ref()) {
            return self.enter(id, Stage::Stopped, now);
        }
        let Some(workspace) = self.workspaces.get(id) else { return };
        match &workspace.stage {
            // Another Usher deleted it.
            Stage::Queued(want) if shared && want.is_written() => self.enter(id, Stage::Stopped, now),
            Stage::Starting(Starting { taken: true, instance: None, .. }) if shared => {
                self.enter(id, Stage::Stopped, now);
            }
            // Leaves the table, since it is not recorded any more, unless it was woken meanwhile or has failed.
            Stage::Stopping(_) => self.finish_stop(id, now),
            Stage::Starting(starting) if starting.instance.is_some() => self.fail(id, ended_early(), now),
            Stage::Starting(_) | Stage::Queued(_) => {}
            Stage::Ready(_) | Stage::Stopped | Stage::Failed { .. } => self.enter(id, Stage::Stopped, now),
        }
    }

    /// The prober got through to this instance.
    pub(super) fn reached(&mut self, id: &WorkspaceId, generation: &Generation, now: Instant) {
        let Some(workspace) = self.workspaces.get(id) else { return };
        let Stage::Starting(starting) = &workspace.stage else { return };
        if !starting.is(generation) {
            return;
        }
        let Some(ready) = starting.ready(self.restored.take(id, generation), now) else { return };
        let took = starting.woken.map(|woken| now.saturating_duration_since(woken));
        self.news.notes.push(Note::Ready(id.clone(), took));
        self.enter(id, Stage::Ready(ready), now);
    }
}

fn ended_early() -> Cause {
    Cause {
        code: CauseCode::Crashed,
        detail: "The workspace ended before it was ready.".to_owned(),
        hint: "see the end of its log on the waiting page".to_owned(),
    }
}
