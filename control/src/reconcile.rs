//! Every decision of the control loop, as pure functions of what it knows and of the time.

pub(crate) mod admit;
pub(crate) mod idle;
mod quota;

use crate::state::{Busy, How, Place, Ready, Stage, Starting, State, Stopping, Want, Workspace};
use crate::{Identity, StopReason};
use config::{Template, WorkspaceId};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// What is to be done about a workspace now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Have it written down that it is wanted.
    Want(WorkspaceId),
    /// Its turn has come.
    Start(WorkspaceId),
    /// Its turn has come, and its template is not in the configuration any more.
    TemplateGone(WorkspaceId),
    /// Its turn has come, and what was made for its user was made of another template.
    TemplateChanged(WorkspaceId),
    /// It has an address: find out when it accepts connections.
    Probe(WorkspaceId),
    /// Its start got no further for `start_timeout`.
    TimeOut(WorkspaceId),
    /// Ask the application whether it computes.
    AskBusy(WorkspaceId),
    /// It seems unused: look again a little later.
    Mark(WorkspaceId, StopReason),
    /// It was used since the mark.
    Unmark(WorkspaceId),
    /// It was unused at both looks, by all that is known anywhere: stop it.
    Reap(WorkspaceId),
    /// Tell the driver to end it.
    End(WorkspaceId),
    /// A start was called off that the driver never showed anything of: there is nothing to wait for.
    Forget(WorkspaceId),
}

/// The first wait after a failure; each further failure doubles it.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// The longest wait after a failure: a workspace that never starts costs next to nothing at this rate.
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// One that was ready for so long has overcome what failed it before: as long as the longest wait.
pub(crate) const RAN_WELL: Duration = BACKOFF_MAX;
/// Between the mark and the second look: longer than a request needs from its look at the table to its mark in
/// the counters.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// After so long the driver is asked again for a stop of which nothing was seen; asking again changes nothing.
const ASK_AGAIN: Duration = Duration::from_secs(30);
/// So long after the last answer an application is asked again at the latest before it is stopped: one that does
/// not answer is asked in vain at most once more.
const BUSY_SLACK: Duration = Duration::from_secs(10);

/// How long a workspace waits after its so many failures before this one.
pub(crate) fn backoff(failures: u32) -> Duration {
    BACKOFF_FIRST.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(BACKOFF_MAX)
}

/// All that is to be done now. Carried out, and asked again, it says nothing more until something changes.
pub(crate) fn reconcile(state: &State, now: Instant) -> Vec<Decision> {
    let mut decisions = turns(state);
    decisions.extend(state.workspaces.iter().filter_map(|(id, workspace)| match &workspace.stage {
        Stage::Queued(want) => unwritten(id, want, now),
        Stage::Starting(starting) if state.sighted => on_the_way(id, starting, now),
        Stage::Ready(ready) => in_use(id, state, ready, &workspace.activity.read(), now),
        Stage::Stopping(stopping) => to_end(id, state, stopping, workspace.since, now),
        Stage::Starting(_) | Stage::Stopped | Stage::Failed { .. } => None,
    }));
    decisions
}

/// Whose turn it is: first come, first served; at most `concurrent` on their way, and one of each user.
fn turns(state: &State) -> Vec<Decision> {
    if !state.synced || state.queue.is_empty() {
        return Vec::new();
    }
    let mut owners: HashSet<&Identity> = HashSet::new();
    let mut free = state.settings.concurrent;
    for workspace in state.workspaces.values() {
        if matches!(workspace.stage, Stage::Starting(_)) {
            owners.insert(&workspace.owner);
            free = free.saturating_sub(1);
        }
    }
    let mut decisions = Vec::new();
    for (place, id) in &state.queue {
        let Some(workspace) = state.workspaces.get(id) else { continue };
        let Some(template) = state.settings.templates.get(&workspace.template) else {
            decisions.push(Decision::TemplateGone(id.clone()));
            continue;
        };
        if is_of_another(workspace, template) {
            decisions.push(Decision::TemplateChanged(id.clone()));
        } else if matches!(place, Place::Given(_)) && free > 0 && owners.insert(&workspace.owner) {
            decisions.push(Decision::Start(id.clone()));
            free -= 1;
        }
    }
    decisions
}

/// Whether one in the queue was admitted with what the rules of another template gave.
fn is_of_another(workspace: &Workspace, template: &Template) -> bool {
    let Stage::Queued(want) = &workspace.stage else { return false };
    want.template != workspace.template && template.has_rules()
}

/// Asks for a want to be written down, and again if nothing is heard of it.
fn unwritten(id: &WorkspaceId, want: &Want, now: Instant) -> Option<Decision> {
    let due = want.asked.is_none_or(|asked| now >= asked + ASK_AGAIN);
    (matches!(want.place, Place::Asked(_)) && due).then(|| Decision::Want(id.clone()))
}

fn on_the_way(id: &WorkspaceId, starting: &Starting, now: Instant) -> Option<Decision> {
    if now >= starting.progress + starting.template.start_timeout {
        Some(Decision::TimeOut(id.clone()))
    } else if !starting.probing && starting.instance.is_some() && starting.address.is_some() {
        Some(Decision::Probe(id.clone()))
    } else {
        None
    }
}

/// Stops what is unused in two steps, and asks the application before where the template says how.
///
/// Where there are others, one of them leads: it alone asks, marks and stops. A mark is taken back by whoever knows
/// of a newer use.
fn in_use(
    id: &WorkspaceId,
    state: &State,
    ready: &Ready,
    seen: &crate::activity::Use,
    now: Instant,
) -> Option<Decision> {
    let rules = &ready.template.idle;
    let why = idle::why_alive(seen, rules, &ready.terms, now);
    let too_old = rules.max_age.is_some_and(|age| now >= ready.terms.started + age);
    let over = why.stops_at.is_some_and(|at| now >= at);
    let leads = state.peers.as_ref().is_none_or(|peers| peers.leads);
    let waits = ready.marking.is_some_and(|asked| now < asked + ASK_AGAIN);
    match ready.marked {
        Some(_) if !over => (!waits).then(|| Decision::Unmark(id.clone())),
        Some(marked) if leads && state.sighted && !waits && now >= marked.since + LOOK_AGAIN => {
            let all = state.peers.as_ref().is_none_or(|peers| peers.have_seen(marked.mark.number, now));
            all.then(|| Decision::Reap(id.clone()))
        }
        Some(_) => None,
        // What is not seen is neither asked nor stopped.
        None if !leads || waits || !state.sighted => None,
        None if over && too_old => Some(Decision::Mark(id.clone(), StopReason::MaxAge)),
        None => match busy(ready, seen, over, now) {
            Ask::Now => Some(Decision::AskBusy(id.clone())),
            Ask::Wait => None,
            Ask::Needless => over.then(|| Decision::Mark(id.clone(), StopReason::Idle)),
        },
    }
}

enum Ask {
    Now,
    /// It was asked, and nothing is decided before it answers.
    Wait,
    Needless,
}

/// Whether the application is to be asked whether it computes: every `every` while nothing else is use, and in
/// any case shortly before a stop.
fn busy(ready: &Ready, seen: &crate::activity::Use, over: bool, now: Instant) -> Ask {
    let Some(probe) = &ready.template.idle.busy else { return Ask::Needless };
    let (used, _) = idle::last_use(seen, &ready.template.idle, &ready.terms, now);
    let quiet = now.saturating_duration_since(used) >= probe.every;
    let wait = if over { probe.every + BUSY_SLACK } else { probe.every };
    match ready.busy {
        Busy::Asking => Ask::Wait,
        Busy::Answered(at) if now.saturating_duration_since(at) < wait => Ask::Needless,
        Busy::Answered(_) | Busy::NotAsked if quiet || over => Ask::Now,
        Busy::Answered(_) | Busy::NotAsked => Ask::Needless,
    }
}

fn to_end(
    id: &WorkspaceId,
    state: &State,
    stopping: &Stopping,
    since: Instant,
    now: Instant,
) -> Option<Decision> {
    // Where there are others, what was written down has to be taken back.
    let nothing_to_end = stopping.how == How::Stop && stopping.generation.is_none() && state.peers.is_none();
    match stopping.asked {
        _ if nothing_to_end => (now >= since + ASK_AGAIN).then(|| Decision::Forget(id.clone())),
        Some(asked) if now < asked + ASK_AGAIN => None,
        _ => Some(Decision::End(id.clone())),
    }
}

#[cfg(test)]
mod tests;
