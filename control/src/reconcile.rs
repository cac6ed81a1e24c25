//! Every decision of the control loop, as pure functions of what it knows and of the time.

pub(crate) mod admit;
pub(crate) mod idle;
mod quota;

use crate::peers::Peers;
use crate::state::{Busy, How, Instance, Place, Ready, Stage, Starting, State, Stopping, Want, Workspace};
use crate::{CauseCode, Identity, OverQuota, Step, StopReason, Trouble};
use config::{Runs, Template, WorkspaceId};
use std::collections::HashSet;
use std::time::{Duration, Instant};

/// What is to be done about a workspace now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Have it written down that it is wanted.
    Want(WorkspaceId),
    /// Its turn has come.
    Start(WorkspaceId),
    /// Ask once more for a start of which nobody knows whether it was taken up.
    StartAgain(WorkspaceId),
    /// Its turn has come, and its template is not in the configuration any more.
    TemplateGone(WorkspaceId),
    /// Its turn has come, and what was made for its user was made of another template.
    TemplateChanged(WorkspaceId),
    /// It has an address: find out when it accepts connections.
    Probe(WorkspaceId),
    /// Its start got no further for as long as is granted.
    TimeOut(WorkspaceId),
    /// Ask the application whether it computes.
    AskBusy(WorkspaceId),
    /// It seems unused: look again a little later.
    Mark(WorkspaceId, StopReason),
    /// It was used since the mark.
    Unmark(WorkspaceId),
    /// It was unused at both looks, by all that is known anywhere: stop it.
    Reap(WorkspaceId),
    /// It runs, and nobody knows how to serve it: end it.
    Abandon(WorkspaceId),
    /// Its turn has come, and a quota is used up since it was admitted.
    OverQuota(WorkspaceId, OverQuota),
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
pub(crate) const ASK_AGAIN: Duration = Duration::from_secs(30);
/// After so long the driver is asked again for what it refused: longer than an API server needs that begins anew.
pub(crate) const RETRY: Duration = Duration::from_secs(2);
/// So long one runs on of whose template nothing is known: longer than an Usher that knows it needs to tell of it, and to
/// be replaced by one that knows others.
pub(crate) const UNKNOWN: Duration = Duration::from_secs(600);
/// So long after a mark was taken back no new one is written: whoever took it back tells of the use by then, once a
/// minute as it does.
pub(crate) const TAKEN_BACK: Duration = Duration::from_secs(60);
/// So long after the last answer an application is asked again at the latest before it is stopped: one that does
/// not answer is asked in vain at most once more.
const BUSY_SLACK: Duration = Duration::from_secs(10);

/// How long a workspace waits after its so many failures before this one.
pub(crate) fn backoff(failures: u32) -> Duration {
    BACKOFF_FIRST.saturating_mul(1_u32.checked_shl(failures).unwrap_or(u32::MAX)).min(BACKOFF_MAX)
}

/// All that is to be done now. Carried out, and asked again, it says nothing more until something changes.
pub(crate) fn reconcile(state: &State, now: Instant) -> Vec<Decision> {
    let mut decisions = turns(state, now);
    decisions.extend(state.workspaces.iter().filter_map(|(id, workspace)| match &workspace.stage {
        Stage::Queued(want) => unwritten(id, want, now),
        // Nothing is decided on what may be outdated.
        Stage::Starting(_) if !state.sees(workspace) => None,
        Stage::Starting(starting) => on_the_way(id, workspace, starting, now),
        Stage::Ready(ready) => in_use(id, state, workspace, ready, now),
        Stage::Stopping(stopping) => to_end(id, state, stopping, workspace.since, now),
        Stage::Failed { .. } => nobodys(id, state, workspace, now),
        Stage::Stopped => None,
    }));
    decisions
}

/// Whose turn it is: first come, first served; at most `concurrent` on their way, and one of each user.
///
/// Where there are others, one start is under way at a time until it shows: by then all shows that they started
/// before, and so the limit is passed by at most one for each of them.
fn turns(state: &State, now: Instant) -> Vec<Decision> {
    // Of one that cannot tell its use nobody would know that it is used.
    let cut_off = state.peers.as_ref().is_some_and(|peers| peers.cut_off);
    if !state.synced || cut_off || state.queue.is_empty() {
        return Vec::new();
    }
    let mut owners: HashSet<&Identity> = HashSet::new();
    let mut free = state.settings.concurrent;
    let mut at_once = if state.peers.is_some() { 1 } else { usize::MAX };
    // Whoever is out of sight holds up nobody else: that may last.
    for workspace in state.workspaces.values().filter(|workspace| state.sees(workspace)) {
        if let Stage::Starting(starting) = &workspace.stage {
            owners.insert(&workspace.owner);
            free = free.saturating_sub(1);
            at_once = at_once.saturating_sub(usize::from(!starting.shown));
        }
    }
    let mut decisions = Vec::new();
    for (place, id) in &state.queue {
        let Some(workspace) = state.workspaces.get(id).filter(|it| state.sees(it)) else { continue };
        let Some(template) = state.settings.templates.get(&workspace.template) else {
            decisions.push(Decision::TemplateGone(id.clone()));
            continue;
        };
        if is_of_another(workspace, template) {
            decisions.push(Decision::TemplateChanged(id.clone()));
        } else if free.min(at_once) > 0 && is_due(workspace, place, now) && owners.insert(&workspace.owner) {
            let over = state.peers.as_ref().and_then(|_| quota::exceeded_meanwhile(state, id, workspace));
            decisions.push(match over {
                Some(over) => Decision::OverQuota(id.clone(), over),
                None => Decision::Start(id.clone()),
            });
            (free, at_once) = (free - 1, at_once - 1);
        }
    }
    decisions
}

/// Whether it may be started if there is room.
fn is_due(workspace: &Workspace, place: &Place, now: Instant) -> bool {
    let Stage::Queued(want) = &workspace.stage else { return false };
    matches!(place, Place::Given(_)) && want.again_at.is_none_or(|at| now >= at)
}

/// Whether one in the queue was admitted with what the rules of another template gave.
fn is_of_another(workspace: &Workspace, template: &Template) -> bool {
    let Stage::Queued(want) = &workspace.stage else { return false };
    want.template != workspace.template && template.has_rules()
}

/// Asks for a want to be written down, and again if nothing is heard of it.
fn unwritten(id: &WorkspaceId, want: &Want, now: Instant) -> Option<Decision> {
    let due = want.again_at.is_none_or(|at| now >= at);
    (matches!(want.place, Place::Asked(_)) && due).then(|| Decision::Want(id.clone()))
}

fn on_the_way(
    id: &WorkspaceId,
    workspace: &Workspace,
    starting: &Starting,
    now: Instant,
) -> Option<Decision> {
    let (patience, _) = patience(&starting.template, starting.step);
    // What a route leads to may be out of sight by itself: nothing is known of it then.
    let unseen = |trouble: &Trouble| trouble.cause.code == CauseCode::ClusterUnreachable;
    let seen = !starting.trouble.as_ref().is_some_and(unseen);
    // Whoever cannot reach what others serve is at fault itself.
    let served = |instance: &Instance| workspace.is_served_elsewhere(&instance.generation, now);
    let is_own = !starting.instance.as_ref().is_some_and(served);
    if seen && is_own && now >= starting.progress + patience {
        Some(Decision::TimeOut(id.clone()))
    } else if !starting.taken && starting.again_at.is_some_and(|at| now >= at) {
        Some(Decision::StartAgain(id.clone()))
    } else if starting.prober.is_none() && starting.instance.is_some() && starting.address.is_some() {
        Some(Decision::Probe(id.clone()))
    } else {
        None
    }
}

/// How long a start may stay at a step, and the key of the template that says so.
pub(crate) fn patience(template: &Template, step: Step) -> (Duration, &'static str) {
    match (&template.runs, step) {
        (Runs::Kubernetes(pod), Step::Scheduling) => (pod.schedule_timeout, "schedule_timeout"),
        (Runs::Kubernetes(pod), Step::Pulling) => (pod.pull_timeout, "pull_timeout"),
        (Runs::Existing(object), Step::Scheduling) => (object.schedule_timeout, "schedule_timeout"),
        (Runs::Existing(object), Step::Pulling) => (object.pull_timeout, "pull_timeout"),
        _ => (template.start_timeout, "start_timeout"),
    }
}

/// Stops what is unused in two steps, and asks the application before where the template says how.
///
/// Where there are others, one of them leads: it alone asks, marks and stops. A mark is taken back by whoever knows
/// of a newer use.
fn in_use(
    id: &WorkspaceId,
    state: &State,
    workspace: &Workspace,
    ready: &Ready,
    now: Instant,
) -> Option<Decision> {
    if ready.quiet_until.is_some_and(|at| now < at) {
        return None;
    }
    let seen = &workspace.activity.read();
    let rules = &ready.template.idle;
    let why = idle::why_alive(seen, rules, &ready.terms, now);
    let too_old = rules.max_age.is_some_and(|age| now >= ready.terms.started + age);
    let over = why.stops_at.is_some_and(|at| now >= at);
    let leads = state.sees(workspace) && state.peers.as_ref().is_none_or(Peers::leads);
    match workspace.marked {
        Some(_) if !over => Some(Decision::Unmark(id.clone())),
        Some(marked) if leads && now >= marked.since + LOOK_AGAIN => {
            let all = state.peers.as_ref().is_none_or(|peers| peers.have_seen(id, marked.mark.number, now));
            all.then(|| Decision::Reap(id.clone()))
        }
        Some(_) => None,
        None if !leads => None,
        None if over && too_old => Some(Decision::Mark(id.clone(), StopReason::MaxAge)),
        None => match busy(ready, seen, over, now) {
            Ask::Now => Some(Decision::AskBusy(id.clone())),
            Ask::Wait => None,
            Ask::Needless => over.then(|| Decision::Mark(id.clone(), StopReason::Idle)),
        },
    }
}

/// One that runs, and of whose template nothing is known here, ends when for long nobody has told that they serve it.
fn nobodys(id: &WorkspaceId, state: &State, workspace: &Workspace, now: Instant) -> Option<Decision> {
    let leads = state.sees(workspace) && state.peers.as_ref().is_some_and(Peers::leads);
    let (Some(generation), _) = workspace.runs_unknown()? else { return None };
    let is_unknown = !state.settings.templates.contains_key(&workspace.template);
    let long = now >= workspace.since + UNKNOWN && !workspace.is_served_elsewhere(&generation, now);
    (leads && is_unknown && long).then(|| Decision::Abandon(id.clone()))
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
    if nothing_to_end {
        return (now >= since + ASK_AGAIN).then(|| Decision::Forget(id.clone()));
    }
    stopping.again_at.is_none_or(|at| now >= at).then(|| Decision::End(id.clone()))
}

#[cfg(test)]
mod shared;
#[cfg(test)]
mod tests;
