//! Decisions, applied to what the control loop knows; what has to be done in the world comes out.

use super::{Busy, How, Marked, Note, Stage, Starting, State, Then};
use crate::StopReason;
use crate::reconcile::{ASK_AGAIN, Decision, patience, reconcile};
use crate::{
    Action, Address, Cause, CauseCode, Generation, Mark, ObservedPhase, StartSpec, Step, Stop, Weight,
};
use config::{Connect, ProcessTemplate, ReadyProbe, Runs, Template, WorkspaceId};
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Something to do outside of the control loop, without it waiting.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Have the driver do something.
    Act { id: WorkspaceId, attempt: u64, action: Action },
    /// Find out when an instance accepts connections.
    Probe {
        id: WorkspaceId,
        generation: Generation,
        address: Address,
        host: String,
        probe: Option<ReadyProbe>,
        ended: CancellationToken,
    },
    /// Ask an instance whether it computes.
    AskBusy {
        id: WorkspaceId,
        generation: Generation,
        address: Address,
        host: String,
        template: Arc<Template>,
        ended: CancellationToken,
    },
    /// Read the end of the log for the hint of a failure.
    Tail { id: WorkspaceId, attempt: u64 },
}

/// How often it is decided anew at one moment: what follows from a decision is decided in the next round or the one
/// after. More would be decisions that never come to an end.
const ROUNDS: usize = 16;

impl State {
    /// Decides, and does what was decided, until nothing is left to decide. What it takes outside is the answer, and
    /// whether it came to rest: if not, that is a mistake in the decisions.
    pub(crate) fn settle(&mut self, now: Instant) -> (Vec<Effect>, bool) {
        let mut effects = Vec::new();
        for _ in 0..ROUNDS {
            let decisions = reconcile(self, now);
            if decisions.is_empty() {
                return (effects, true);
            }
            effects.extend(decisions.into_iter().filter_map(|decision| self.apply(decision, now)));
        }
        (effects, reconcile(self, now).is_empty())
    }

    /// Does what was decided; what it takes outside is the answer.
    pub(crate) fn apply(&mut self, decision: Decision, now: Instant) -> Option<Effect> {
        match decision {
            Decision::Want(id) => self.write_want_down(&id, now),
            Decision::Start(id) => self.start(&id, now),
            Decision::StartAgain(id) => self.start_again(&id, now),
            Decision::TemplateGone(id) => {
                let cause = Cause::template_gone(&self.workspaces.get(&id)?.template);
                self.fail(&id, cause, now);
                None
            }
            Decision::TemplateChanged(id) => {
                let cause = CauseCode::TemplateChanged.into();
                self.fail(&id, cause, now);
                None
            }
            Decision::Abandon(id) => {
                self.end_unknown(&id, now);
                None
            }
            Decision::OverQuota(id, over) => {
                self.end(&id, How::Stop, None, Then::Fail(Cause::over_quota(&over)), now);
                None
            }
            Decision::Probe(id) => self.probe(&id),
            Decision::TimeOut(id) => self.time_out(&id, now),
            Decision::AskBusy(id) => self.ask_busy(&id),
            Decision::Mark(id, reason) => self.mark(&id, reason, now),
            Decision::Unmark(id) => self.unmark(&id, now),
            Decision::Reap(id) => self.reap(&id, now),
            Decision::End(id) => self.tell_driver_to_end(&id, now),
            Decision::Forget(id) => {
                self.finish_stop(&id, now);
                None
            }
        }
    }

    fn write_want_down(&mut self, id: &WorkspaceId, now: Instant) -> Option<Effect> {
        let spec = self.spec(id)?;
        let workspace = self.workspaces.get_mut(id)?;
        let Stage::Queued(want) = &mut workspace.stage else { return None };
        want.again_at = Some(now + ASK_AGAIN);
        workspace.attempt += 1;
        Some(Effect::Act { id: id.clone(), attempt: workspace.attempt, action: Action::Want(spec) })
    }

    /// All that a start of a workspace in the queue needs.
    fn spec(&self, id: &WorkspaceId) -> Option<StartSpec> {
        let workspace = self.workspaces.get(id)?;
        let Stage::Queued(want) = &workspace.stage else { return None };
        let template = self.settings.templates.get(&workspace.template)?.clone();
        let (owner, host, grant) = (want.owner.clone(), want.host.clone(), want.grant.clone());
        Some(StartSpec { id: id.clone(), owner, template, host, grant })
    }

    fn start(&mut self, id: &WorkspaceId, now: Instant) -> Option<Effect> {
        let spec = self.spec(id)?;
        let workspace = self.workspaces.get_mut(id)?;
        let Stage::Queued(want) = &workspace.stage else { return None };
        let starting = Starting {
            template: spec.template.clone(),
            host: want.host.clone(),
            woken: Some(want.since),
            taken: false,
            shown: false,
            again_at: None,
            step: Step::Asked,
            progress: now,
            trouble: None,
            instance: None,
            address: None,
            prober: None,
            nudged: None,
        };
        workspace.attempt += 1;
        workspace.grant = spec.grant.clone();
        let attempt = workspace.attempt;
        self.enter(id, Stage::Starting(starting), now);
        Some(Effect::Act { id: id.clone(), attempt, action: Action::Start(spec) })
    }

    /// Whether the first time was heard nobody knows; if it was, this changes nothing.
    fn start_again(&mut self, id: &WorkspaceId, now: Instant) -> Option<Effect> {
        let workspace = self.workspaces.get_mut(id)?;
        let Stage::Starting(starting) = &mut workspace.stage else { return None };
        starting.again_at = Some(now + ASK_AGAIN);
        let (template, host) = (starting.template.clone(), starting.host.clone());
        let (owner, grant) = (workspace.owner.clone(), workspace.grant.clone());
        let spec = StartSpec { id: id.clone(), owner, template, host, grant };
        Some(Effect::Act { id: id.clone(), attempt: workspace.attempt, action: Action::Start(spec) })
    }

    fn probe(&mut self, id: &WorkspaceId) -> Option<Effect> {
        let Stage::Starting(starting) = &mut self.workspaces.get_mut(id)?.stage else { return None };
        let instance = starting.instance.as_ref()?;
        let ended = instance.ends_at(starting.address.as_ref()?).child_token();
        starting.prober = Some(ended.clone());
        Some(Effect::Probe {
            id: id.clone(),
            generation: instance.generation.clone(),
            address: starting.address.clone()?,
            host: starting.host.clone(),
            probe: starting.template.ready.clone(),
            ended,
        })
    }

    fn time_out(&mut self, id: &WorkspaceId, now: Instant) -> Option<Effect> {
        let workspace = self.workspaces.get(id)?;
        let Stage::Starting(starting) = &workspace.stage else { return None };
        let generation = workspace.stage.generation().cloned();
        let attempt = workspace.attempt;
        // Why the instance before ended is not why this one is late.
        let known = starting.trouble.as_ref().filter(|trouble| trouble.weight != Weight::Notice);
        let cause = match known {
            Some(trouble) => trouble.cause.clone(),
            None => late(&starting.template, starting.step),
        };
        self.end(id, How::Stop, generation, Then::Fail(cause), now);
        Some(Effect::Tail { id: id.clone(), attempt })
    }

    fn ask_busy(&mut self, id: &WorkspaceId) -> Option<Effect> {
        let ready = self.ready_mut(id)?;
        ready.busy = Busy::Asking;
        Some(Effect::AskBusy {
            id: id.clone(),
            generation: ready.instance.generation.clone(),
            address: ready.address.clone(),
            host: ready.host.clone(),
            template: ready.template.clone(),
            ended: ready.instance.ends_at(&ready.address),
        })
    }

    /// Where there are others, the mark stands when the driver tells of it.
    fn mark(&mut self, id: &WorkspaceId, reason: StopReason, now: Instant) -> Option<Effect> {
        let shared = self.peers.is_some();
        let attempt = self.attempt(id);
        if !shared {
            let mark = Mark { number: 0, reason };
            self.workspaces.get_mut(id)?.marked = Some(Marked { mark, since: now });
            return None;
        }
        let ready = self.ready_mut(id)?;
        ready.quiet_until = Some(now + ASK_AGAIN);
        let generation = ready.instance.generation.clone();
        Some(Effect::Act {
            id: id.clone(),
            attempt,
            action: Action::Mark { id: id.clone(), generation, reason },
        })
    }

    fn unmark(&mut self, id: &WorkspaceId, now: Instant) -> Option<Effect> {
        let shared = self.peers.is_some();
        let attempt = self.attempt(id);
        if !shared {
            self.workspaces.get_mut(id)?.marked = None;
            return None;
        }
        let mark = self.workspaces.get(id)?.marked?.mark;
        self.ready_mut(id)?.quiet_until = Some(now + ASK_AGAIN);
        Some(Effect::Act { id: id.clone(), attempt, action: Action::Unmark { id: id.clone(), mark } })
    }

    /// Where there are others, it goes on serving until the driver says that nobody took the mark back.
    fn reap(&mut self, id: &WorkspaceId, now: Instant) -> Option<Effect> {
        let shared = self.peers.is_some();
        let attempt = self.attempt(id);
        let mark = self.workspaces.get(id)?.marked?.mark;
        let ready = self.ready_mut(id)?;
        let generation = Some(ready.instance.generation.clone());
        if shared {
            ready.quiet_until = Some(now + ASK_AGAIN);
            let action = Action::Stop { id: id.clone(), generation, why: Stop::Marked(mark) };
            return Some(Effect::Act { id: id.clone(), attempt, action });
        }
        self.workspaces.get_mut(id)?.stopped = Some(mark.reason);
        self.news.notes.push(Note::Reaped(id.clone(), mark.reason));
        self.end(id, How::Stop, generation, Then::Rest, now);
        None
    }

    fn tell_driver_to_end(&mut self, id: &WorkspaceId, now: Instant) -> Option<Effect> {
        let attempt = self.attempt(id);
        let workspace = self.workspaces.get_mut(id)?;
        let waits = matches!(workspace.told, Some(ObservedPhase::Wanted { .. }));
        let Stage::Stopping(stopping) = &mut workspace.stage else { return None };
        stopping.again_at = Some(now + ASK_AGAIN);
        let why = match &stopping.then {
            Then::Fail(cause) if waits => Stop::Refused(cause.clone()),
            Then::Fail(cause) => Stop::Failed(cause.clone()),
            Then::Rest | Then::Start(_) => Stop::Asked,
        };
        let action = match &stopping.how {
            How::Delete { volume, owner } => {
                Action::Delete { id: id.clone(), volume: *volume, owner: owner.clone() }
            }
            How::Stop => Action::Stop { id: id.clone(), generation: stopping.generation.clone(), why },
        };
        Some(Effect::Act { id: id.clone(), attempt, action })
    }
}

/// Why a start that came to nothing in its time is given up.
fn late(template: &Template, step: Step) -> Cause {
    let Template { name, runs, ready, .. } = template;
    let (seconds, key) = patience(template, step);
    let seconds = seconds.as_secs();
    let pods = !matches!(runs, Runs::Process(_));
    let (missed, question) = match step {
        Step::Scheduling => (Some("no machine was found for it"), "is there room?"),
        Step::Pulling => (Some("its image was still on the way"), "is it large, or its registry slow?"),
        Step::Asked if pods => (Some("the cluster had made nothing of it"), "what do its events say?"),
        Step::Creating => (Some("its volumes and its network were not ready"), "what do its events say?"),
        Step::Asked | Step::Started => (None, ""),
    };
    if let Some(missed) = missed {
        return Cause {
            code: CauseCode::StartTimeout,
            detail: format!("The workspace got no further for {seconds} seconds: {missed}."),
            hint: format!("{question} If it only needs longer, raise {}.{key}", name.table()),
        };
    }
    let place = match runs {
        Runs::Process(ProcessTemplate { connect: Connect::Socket, .. }) => "its socket",
        Runs::Process(_) | Runs::Kubernetes(_) | Runs::Existing(_) => "its port",
    };
    let (missed, question) = match ready {
        None => (format!("nothing accepted connections at {place}"), "does its command listen there?"),
        Some(probe) => (
            format!("its ready check, {} at {place}, did not succeed", probe.path),
            "does its command listen there, and answer as [templates.*.ready] says?",
        ),
    };
    Cause {
        code: CauseCode::StartTimeout,
        detail: format!("The workspace was not ready after {seconds} seconds: {missed}."),
        hint: format!("{question} If it only needs longer, raise {}.{key}", name.table()),
    }
}
