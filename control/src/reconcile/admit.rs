//! Whether a wake is taken up.

use super::quota;
use crate::state::{Stage, State, Then, Workspace};
use crate::{Cause, CauseCode, Wake, WakeRefused};
use config::TemplateName;
use std::time::Instant;

/// What a wake that is taken up leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It runs, or is on its way to.
    Already,
    /// It is on its way; the driver is to look at once whether a wait can be cut short.
    Nudge,
    /// It gets into the queue.
    Enqueue,
    /// It is being stopped, and gets into the queue when that is done.
    Remember,
}

/// Judges a wake.
pub(crate) fn admit(state: &State, wake: &Wake, now: Instant) -> Result<Admission, WakeRefused> {
    let known = state.workspaces.get(&wake.id);
    if known.is_some_and(|workspace| workspace.owner != wake.owner) {
        return Err(WakeRefused::BackingOff(Cause::not_the_owner(&wake.id)));
    }
    let admission = match known.map(|workspace| &workspace.stage) {
        Some(Stage::Ready(_) | Stage::Queued(_)) => return Ok(Admission::Already),
        Some(Stage::Starting(_)) if wake.retry => return Ok(Admission::Nudge),
        Some(Stage::Starting(_)) => return Ok(Admission::Already),
        Some(Stage::Stopping(stopping)) => match &stopping.then {
            Then::Start(_) => return Ok(Admission::Already),
            Then::Fail(cause) if !wake.retry => return Err(WakeRefused::BackingOff(cause.clone())),
            Then::Fail(_) | Then::Rest => Admission::Remember,
        },
        // Whoever made the object has to do something, and the driver tells when it was done.
        Some(Stage::Failed { cause, retry_at })
            if !wake.retry && (now < *retry_at || cause.code.is_of_object()) =>
        {
            return Err(WakeRefused::BackingOff(cause.clone()));
        }
        Some(Stage::Failed { .. } | Stage::Stopped) | None => Admission::Enqueue,
    };
    has_template(state, wake)?;
    is_one_of_few(state, wake)?;
    is_within_quotas(state, wake)?;
    has_room(state)?;
    Ok(admission)
}

fn has_template(state: &State, wake: &Wake) -> Result<(), WakeRefused> {
    let template = template_of(state, wake);
    match state.settings.templates.get(template) {
        None => Err(WakeRefused::NoTemplate(template.to_string())),
        Some(known) if known.has_rules() && *template != wake.template => {
            Err(WakeRefused::BackingOff(CauseCode::TemplateChanged.into()))
        }
        Some(_) => Ok(()),
    }
}

/// A workspace keeps its template; only one that never ran takes what the wake says.
fn template_of<'a>(state: &'a State, wake: &'a Wake) -> &'a TemplateName {
    let recorded = state.workspaces.get(&wake.id).filter(|workspace| workspace.recorded);
    recorded.map_or(&wake.template, |workspace| &workspace.template)
}

fn is_within_quotas(state: &State, wake: &Wake) -> Result<(), WakeRefused> {
    match quota::exceeded(state, wake, template_of(state, wake)) {
        Some(over) => Err(WakeRefused::OverQuota(Box::new(over))),
        None => Ok(()),
    }
}

fn is_one_of_few(state: &State, wake: &Wake) -> Result<(), WakeRefused> {
    // Its own workspace is none of them: one that is wanted already was taken up before this.
    let wanted = |workspace: &&Workspace| workspace.owner == wake.owner && workspace.is_wanted();
    let running = state.workspaces.values().filter(wanted).count();
    if running < wake.running_max {
        Ok(())
    } else {
        Err(WakeRefused::TooMany { running, limit: wake.running_max })
    }
}

/// Whether there is a free turn or a place in the queue. Who was woken while stopping holds a place.
fn has_room(state: &State) -> Result<(), WakeRefused> {
    let remembered = state.workspaces.values().filter(
        |workspace| matches!(&workspace.stage, Stage::Stopping(s) if matches!(s.then, Then::Start(_))),
    );
    let waiting = state.queue.len() + remembered.count();
    let limit = state.settings.queue;
    if waiting + state.starting() < limit.saturating_add(state.settings.concurrent) {
        Ok(())
    } else {
        Err(WakeRefused::QueueFull { limit })
    }
}

#[cfg(test)]
mod tests;
