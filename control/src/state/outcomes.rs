//! What became of effects, taken into what the control loop knows.

use super::{Busy, How, Note, Ready, Stage, Starting, State, Then};
use crate::reconcile::{ASK_AGAIN, RETRY, idle};
use crate::table::Elsewhere;
use crate::usage::Kept;
use crate::{Action, Cause, CauseCode, Generation, Mark, ObservedPhase, Stop, Terms, Trouble, Weight};
use config::WorkspaceId;
use std::time::Instant;

/// How much of a log's tail stands in a hint: enough for the last line or two.
const HINT: usize = 400;

/// What became of an [`Effect`](super::Effect).
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The driver refused an action, or took it up.
    Acted { id: WorkspaceId, attempt: u64, action: Action, result: Result<(), Cause> },
    /// An instance accepts connections.
    Reached { id: WorkspaceId, generation: Generation },
    /// Whether an instance computes; an answer that could not be had is a no.
    Busy { id: WorkspaceId, generation: Generation, busy: bool },
    /// The end of a log.
    Tail { id: WorkspaceId, attempt: u64, text: String },
}

impl State {
    /// Takes in what became of an effect.
    pub(crate) fn conclude(&mut self, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::Acted { id, attempt, action, result: Ok(()) } => {
                self.taken_up(&id, attempt, action, now)
            }
            Outcome::Acted { id, attempt, action, result: Err(cause) } => {
                self.refused(&id, attempt, &action, cause, now);
            }
            Outcome::Reached { id, generation } => self.reached(&id, &generation, now),
            Outcome::Busy { id, generation, busy } => self.answered(&id, &generation, busy, now),
            Outcome::Tail { id, attempt, text } => self.explain(&id, attempt, &text),
        }
    }

    /// The driver took an action up: what it tells from now on comes after it.
    fn taken_up(&mut self, id: &WorkspaceId, attempt: u64, action: Action, now: Instant) {
        if let Action::Stop { generation, why: Stop::Marked(mark), .. } = &action
            && self.peers.is_some()
        {
            return self.reaped(id, generation.as_ref(), *mark, now);
        }
        let shared = self.peers.is_some();
        let Some(workspace) = self.workspaces.get_mut(id).filter(|w| w.attempt == attempt) else { return };
        if let Action::Want(_) | Action::Start(_) = action {
            workspace.wish = None;
        }
        match (&mut workspace.stage, action) {
            (Stage::Queued(want), Action::Want(_)) => want.taken = true,
            (Stage::Starting(starting), Action::Start(_)) => {
                (starting.taken, starting.again_at) = (true, None);
                let unknown = |trouble: &Trouble| trouble.cause.code.is_passing();
                starting.trouble = starting.trouble.take().filter(|trouble| !unknown(trouble));
                self.news.changed.insert(id.clone());
            }
            (Stage::Stopping(stopping), Action::Stop { .. } | Action::Delete { .. }) => {
                stopping.taken = true;
                // Nothing will be told of the end of what never was.
                let nothing_is = match (&stopping.how, &workspace.told) {
                    (_, None) => true,
                    (How::Delete { .. }, _) => false,
                    (How::Stop, Some(ObservedPhase::Stopped | ObservedPhase::Failed { .. })) => {
                        stopping.generation.is_none()
                    }
                    (How::Stop, _) => false,
                };
                if shared && nothing_is {
                    self.finish_stop(id, now);
                }
            }
            _ => {}
        }
    }

    /// The stop of an unused workspace holds: nobody took its mark back.
    fn reaped(&mut self, id: &WorkspaceId, generation: Option<&Generation>, mark: Mark, now: Instant) {
        let Some(workspace) = self.workspaces.get_mut(id) else { return };
        if workspace.stage.generation() != generation || !matches!(workspace.stage, Stage::Ready(_)) {
            return;
        }
        workspace.stopped = Some(mark.reason);
        self.news.notes.push(Note::Reaped(id.clone(), mark.reason));
        self.end(id, How::Stop, generation.cloned(), Then::Rest, now);
        if let Some(Stage::Stopping(stopping)) = self.workspaces.get_mut(id).map(|w| &mut w.stage) {
            (stopping.again_at, stopping.taken) = (Some(now + ASK_AGAIN), true);
        }
    }

    fn refused(&mut self, id: &WorkspaceId, attempt: u64, action: &Action, cause: Cause, now: Instant) {
        let shared = self.peers.is_some();
        let Some(workspace) = self.workspaces.get_mut(id) else { return };
        let current = workspace.attempt == attempt;
        match (&mut workspace.stage, action) {
            (Stage::Starting(starting), Action::Start(_))
                if starting.instance.is_none() && !starting.taken && current =>
            {
                self.not_started(id, cause, now);
            }
            // Another wrote it down at the same moment, or it changed: what holds is told by an event.
            (Stage::Queued(want), Action::Want(_)) if cause.code == CauseCode::Conflict => {
                want.again_at = Some(now + RETRY);
            }
            (Stage::Queued(want), Action::Want(_)) if !want.is_written() && current => {
                self.fail(id, cause, now);
            }
            // It was used in between, or the mark is not known any more: what holds is told by an event.
            (Stage::Ready(ready), Action::Mark { .. } | Action::Unmark { .. } | Action::Stop { .. }) => {
                ready.quiet_until = Some(now + RETRY);
                tracing::debug!(workspace.name = %id, cause = cause.code.as_str(), "a stop was put off");
            }
            // Called off meanwhile, and it never began. Where there are others it may have: its end was asked for.
            (Stage::Stopping(stopping), Action::Start(_))
                if stopping.generation.is_none() && stopping.how == How::Stop && !shared =>
            {
                self.finish_stop(id, now);
            }
            (Stage::Stopping(stopping), Action::Delete { .. })
                if stopping.how != How::Stop && !cause.code.is_passing() =>
            {
                self.fail(id, cause, now);
            }
            (Stage::Stopping(stopping), Action::Stop { .. } | Action::Delete { .. }) => {
                stopping.again_at = Some(now + RETRY);
                let (code, hint) = (cause.code.as_str(), cause.hint);
                tracing::warn!(workspace.name = %id, cause = code, hint, "the driver refused to end a workspace");
            }
            // It is about what is over.
            _ => {}
        }
    }

    /// The driver refused a start, or nobody knows whether it did.
    fn not_started(&mut self, id: &WorkspaceId, cause: Cause, now: Instant) {
        let shared = self.peers.is_some();
        match cause.code {
            CauseCode::Conflict if shared => self.go_by_what_was_told(id, now),
            code if shared && code.is_passing() => {
                let stage = self.workspaces.get_mut(id).map(|workspace| &mut workspace.stage);
                let Some(Stage::Starting(starting)) = stage else { return };
                starting.again_at = Some(now + RETRY);
                starting.trouble = Some(Trouble { cause, weight: Weight::Hindrance });
                self.news.changed.insert(id.clone());
            }
            CauseCode::NotTheOwner => self.fail(id, cause, now),
            // Its place in the queue is given up for all to see.
            _ if shared => self.end(id, How::Stop, None, Then::Fail(cause), now),
            _ => self.fail(id, cause, now),
        }
    }

    fn answered(&mut self, id: &WorkspaceId, generation: &Generation, busy: bool, now: Instant) {
        let Some(ready) = self.ready_mut(id) else { return };
        if ready.instance.generation != *generation {
            return;
        }
        ready.busy = Busy::Answered(now);
        if busy {
            ready.terms.busy = Some(now);
            self.news.changed.insert(id.clone());
        }
    }

    /// Puts the end of the log into the hint of a start that timed out.
    fn explain(&mut self, id: &WorkspaceId, attempt: u64, text: &str) {
        let tail = tail(text);
        let Some(workspace) = self.workspaces.get_mut(id).filter(|w| w.attempt == attempt) else { return };
        let cause = match &mut workspace.stage {
            Stage::Stopping(stopping) => match &mut stopping.then {
                Then::Fail(cause) => cause,
                Then::Rest | Then::Start(_) => return,
            },
            Stage::Failed { cause, .. } => cause,
            _ => return,
        };
        if cause.code == CauseCode::StartTimeout && !tail.is_empty() {
            cause.hint.push_str("; the end of its output: ");
            cause.hint.push_str(&tail);
            self.news.changed.insert(id.clone());
        }
    }
}

/// The last lines that fit into a hint, on one line.
fn tail(text: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut room = HINT;
    for line in text.lines().rev().map(str::trim).filter(|line| !line.is_empty()) {
        let Some(left) = room.checked_sub(line.len()) else { break };
        room = left;
        kept.push(line);
    }
    kept.reverse();
    kept.join(" | ")
}

impl Starting {
    /// As it is once it accepts connections; `None` while it has no instance or address.
    pub(super) fn ready(&self, kept: Option<Kept>, now: Instant) -> Option<Ready> {
        let instance = self.instance.clone()?;
        let terms = Terms {
            started: instance.started,
            last: kept.as_ref().map_or((now, idle::STARTED), |kept| kept.last),
            busy: None,
            extended_until: kept.as_ref().and_then(|kept| kept.extended_until),
            kept_until: kept.as_ref().and_then(|kept| kept.kept_until),
            elsewhere: Elsewhere::default(),
        };
        Some(Ready {
            instance,
            address: self.address.clone()?,
            template: self.template.clone(),
            host: self.host.clone(),
            since: now,
            terms,
            quiet_until: None,
            busy: Busy::NotAsked,
            cut_off: false,
        })
    }
}
