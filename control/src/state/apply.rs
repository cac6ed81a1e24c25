//! Decisions, applied to what the control loop knows; what has to be done in the world comes out.

use super::{Busy, How, Note, Stage, Starting, State, Then};
use crate::StopReason;
use crate::reconcile::Decision;
use crate::{Action, Address, Cause, CauseCode, Generation, StartSpec};
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

impl State {
    /// Does what was decided; what it takes outside is the answer.
    pub(crate) fn apply(&mut self, decision: Decision, now: Instant) -> Option<Effect> {
        match decision {
            Decision::Start(id) => self.start(&id, now),
            Decision::TemplateGone(id) => {
                let cause = Cause::template_gone(&self.workspaces.get(&id)?.template);
                self.fail(&id, cause, now);
                None
            }
            Decision::Probe(id) => self.probe(&id),
            Decision::TimeOut(id) => self.time_out(&id, now),
            Decision::AskBusy(id) => self.ask_busy(&id),
            Decision::Mark(id) => {
                self.ready_mut(&id)?.mark = Some(now);
                None
            }
            Decision::Unmark(id) => {
                self.ready_mut(&id)?.mark = None;
                None
            }
            Decision::Reap(id, reason) => {
                self.reap(&id, reason, now);
                None
            }
            Decision::End(id) => self.tell_driver_to_end(&id, now),
            Decision::Forget(id) => {
                self.finish_stop(&id, now);
                None
            }
        }
    }

    fn start(&mut self, id: &WorkspaceId, now: Instant) -> Option<Effect> {
        let workspace = self.workspaces.get_mut(id)?;
        let Stage::Queued(want) = &workspace.stage else { return None };
        let template = self.settings.templates.get(&workspace.template)?.clone();
        let spec = StartSpec {
            id: id.clone(),
            owner: want.owner.clone(),
            template: template.clone(),
            host: want.host.clone(),
        };
        let starting = Starting {
            template,
            host: want.host.clone(),
            woken: Some(want.since),
            progress: now,
            instance: None,
            address: None,
            probing: false,
        };
        workspace.attempt += 1;
        let attempt = workspace.attempt;
        self.enter(id, Stage::Starting(starting), now);
        Some(Effect::Act { id: id.clone(), attempt, action: Action::Start(spec) })
    }

    fn probe(&mut self, id: &WorkspaceId) -> Option<Effect> {
        let Stage::Starting(starting) = &mut self.workspaces.get_mut(id)?.stage else { return None };
        let instance = starting.instance.as_ref()?;
        starting.probing = true;
        Some(Effect::Probe {
            id: id.clone(),
            generation: instance.generation.clone(),
            address: starting.address.clone()?,
            host: starting.host.clone(),
            probe: starting.template.ready.clone(),
            ended: instance.ended.clone(),
        })
    }

    fn time_out(&mut self, id: &WorkspaceId, now: Instant) -> Option<Effect> {
        let workspace = self.workspaces.get(id)?;
        let Stage::Starting(starting) = &workspace.stage else { return None };
        let generation = workspace.stage.generation().cloned();
        let attempt = workspace.attempt;
        let cause = late(&starting.template);
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
            ended: ready.instance.ended.clone(),
        })
    }

    fn reap(&mut self, id: &WorkspaceId, reason: StopReason, now: Instant) {
        let Some(workspace) = self.workspaces.get_mut(id) else { return };
        workspace.stopped = Some(reason);
        let generation = workspace.stage.generation().cloned();
        self.news.notes.push(Note::Reaped(id.clone(), reason));
        self.end(id, How::Stop, generation, Then::Rest, now);
    }

    fn tell_driver_to_end(&mut self, id: &WorkspaceId, now: Instant) -> Option<Effect> {
        let attempt = self.attempt(id);
        let Stage::Stopping(stopping) = &mut self.workspaces.get_mut(id)?.stage else { return None };
        stopping.asked = Some(now);
        let action = match (stopping.how, stopping.generation.clone()) {
            (How::Delete { volume }, _) => Action::Delete { id: id.clone(), volume },
            (How::Stop, Some(generation)) => Action::Stop { id: id.clone(), generation },
            (How::Stop, None) => return None,
        };
        Some(Effect::Act { id: id.clone(), attempt, action })
    }
}

/// Why a start that came to nothing in its time is given up.
fn late(template: &Template) -> Cause {
    let Template { name, start_timeout, runs, ready, .. } = template;
    let place = match runs {
        Runs::Process(ProcessTemplate { connect: Connect::Socket, .. }) => "its socket",
        Runs::Process(_) | Runs::Kubernetes(_) => "its port",
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
        detail: format!("The workspace was not ready after {} seconds: {missed}.", start_timeout.as_secs()),
        hint: format!("{question} If it only needs longer, raise templates.{name}.start_timeout"),
    }
}
