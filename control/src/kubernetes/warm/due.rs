//! What is to be made, removed and completed of warm sets. Pure.

use super::known::Handle;
use crate::reconcile::backoff;
use config::{TemplateName, WorkspaceId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How many of one template are on their way at a time: nodes and registries serve those who wait first.
const STARTING_MAX: usize = 2;
/// How long those of an older template are kept for Ushers that still have it, while the new ones find no room.
const ROOM: Duration = Duration::from_secs(60);
/// How long a claim may be half made before it is completed: a claim takes two writes of some milliseconds.
const HALF_MADE: Duration = Duration::from_secs(5);
/// How long a pod may be without its owner's name after it was claimed: whoever claims it writes that next.
const UNTOLD: Duration = Duration::from_secs(2);
/// How long a claimed set that its workspace does not name is kept: whoever took the name away removes it, and a
/// claimer that slept may still be about to write.
const LEFT: Duration = Duration::from_secs(60);
/// How long a claim is kept that is nobody's files, of a set that is not known: twice what the watch of the sets may lag
/// behind that of the claims.
const STRAY: Duration = Duration::from_secs(20);

/// What the configuration asks for, of one template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) template: TemplateName,
    /// The hash of the pods that the template makes now.
    pub(super) hash: String,
    /// How many.
    pub(super) ready: usize,
    /// How long one may take to become ready.
    pub(super) patience: Duration,
}

/// One warm set, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) handle: Handle,
    pub(super) template: Option<TemplateName>,
    pub(super) hash: Option<String>,
    pub(super) state: State,
    /// Since when it is known.
    pub(super) since: Instant,
}

/// Where a warm set stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It is nobody's, and its pod cannot take anybody yet.
    Starting,
    /// It is nobody's, and the next user can have it.
    Ready,
    /// It is a workspace's, as both say; `told` = its pod knows, and so do its files.
    Claimed { told: bool },
    /// It has the files of a workspace that does not run, and is up.
    Restless,
    /// It says whose it is, and they do not say so.
    Left,
    /// It is being deleted.
    Ending,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// One more is to be made.
    Make(TemplateName),
    /// This one is to be removed, unless it was written since.
    Drop(Handle),
    /// The pod of this one is to be told whose it is, and whose its files are is to be written down.
    Tell(Handle),
    /// This one is to be taken to 0.
    Rest(Handle),
    /// This claim of one that is gone is to be removed, unless it was written since.
    Clear(Handle),
    /// This workspace names one that is not its own: it is to start as if there were none.
    GiveUp(WorkspaceId),
}

/// What is remembered from round to round.
#[derive(Debug, Default)]
pub(super) struct Memory {
    failures: BTreeMap<TemplateName, Failures>,
    /// Since when each claim is half made.
    half_made: BTreeMap<WorkspaceId, Instant>,
    /// Since when each set is left, restless or untold, and each claim a stray, by its `uid`.
    odd: BTreeMap<String, Instant>,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    until: Instant,
}

impl Memory {
    /// One could not be made, or came to nothing: the next waits, longer from time to time.
    pub(super) fn failed(&mut self, template: &TemplateName, now: Instant) {
        let failures = self.failures.entry(template.clone()).or_insert(Failures { count: 0, until: now });
        failures.until = now + backoff(failures.count);
        failures.count = failures.count.saturating_add(1);
    }

    /// All that is to be done now.
    pub(super) fn due(
        &mut self,
        asked: &[Asked],
        sets: &[Seen],
        in_vain: &BTreeSet<WorkspaceId>,
        stray: &[Handle],
        now: Instant,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        self.completes(in_vain, now, &mut steps);
        self.odd(sets, stray, now, &mut steps);
        let of = |template: &TemplateName| -> Vec<&Seen> {
            let free = sets.iter().filter(|seen| matches!(seen.state, State::Starting | State::Ready));
            free.filter(|seen| seen.template.as_ref() == Some(template)).collect()
        };
        for asked in asked {
            self.template(asked, &of(&asked.template), now, &mut steps);
        }
        let unasked = sets.iter().filter(|seen| {
            matches!(seen.state, State::Starting | State::Ready)
                && !asked.iter().any(|asked| seen.template.as_ref() == Some(&asked.template))
        });
        steps.extend(unasked.map(|seen| Step::Drop(seen.handle.clone())));
        self.failures.retain(|template, _| asked.iter().any(|asked| asked.template == *template));
        steps
    }

    fn completes(&mut self, in_vain: &BTreeSet<WorkspaceId>, now: Instant, steps: &mut Vec<Step>) {
        self.half_made.retain(|id, _| in_vain.contains(id));
        for id in in_vain {
            if now >= *self.half_made.entry(id.clone()).or_insert(now) + HALF_MADE {
                steps.push(Step::GiveUp(id.clone()));
            }
        }
    }

    /// What is as it should not stay, and did.
    fn odd(&mut self, sets: &[Seen], stray: &[Handle], now: Instant, steps: &mut Vec<Step>) {
        let sets = sets.iter().filter_map(|seen| {
            let (patience, step): (_, fn(Handle) -> Step) = match seen.state {
                State::Left => (LEFT, Step::Drop),
                State::Claimed { told: false } => (UNTOLD, Step::Tell),
                State::Restless => (HALF_MADE, Step::Rest),
                State::Claimed { told: true } | State::Starting | State::Ready | State::Ending => {
                    return None;
                }
            };
            Some((&seen.handle, patience, step))
        });
        let stray = stray.iter().map(|claim| (claim, STRAY, Step::Clear as fn(Handle) -> Step));
        let mut odd = BTreeMap::new();
        for (handle, patience, step) in sets.chain(stray) {
            let since = self.odd.get(&handle.uid).copied().unwrap_or(now);
            odd.insert(handle.uid.clone(), since);
            if now >= since + patience {
                steps.push(step(handle.clone()));
            }
        }
        self.odd = odd;
    }

    /// Of one template: as many as asked, few at a time; those that are too many, too old or come to nothing go.
    fn template(&mut self, asked: &Asked, free: &[&Seen], now: Instant, steps: &mut Vec<Step>) {
        let is_new = |seen: &&&Seen| seen.hash.as_deref() == Some(&asked.hash);
        let (new, old): (Vec<&Seen>, Vec<&Seen>) = free.iter().partition(is_new);
        let (mut ready, starting): (Vec<&Seen>, Vec<&Seen>) =
            new.iter().partition(|seen| seen.state == State::Ready);
        let (stuck, mut starting): (Vec<&Seen>, Vec<&Seen>) =
            starting.iter().partition(|seen| now >= seen.since + asked.patience);
        let drop = |seen: &Seen| Step::Drop(seen.handle.clone());
        if !ready.is_empty() {
            self.failures.remove(&asked.template);
        }
        for seen in &stuck {
            self.failed(&asked.template, now);
            steps.push(drop(seen));
        }
        // The youngest go first: the others are sooner of use.
        starting.sort_by_key(|seen| seen.since);
        ready.sort_by_key(|seen| seen.since);
        let kept = ready.len().min(asked.ready);
        steps.extend(ready.drain(kept..).map(drop));
        let lacking = asked.ready - kept;
        let surplus = starting.drain(starting.len().min(lacking)..);
        steps.extend(surplus.map(drop));
        // One by one, as the new ones become ready; they serve Ushers that still have the old template.
        let no_room = starting.iter().any(|seen| now >= seen.since + ROOM) || asked.ready == 0;
        let spare = if no_room { 0 } else { lacking };
        let mut serving = 0;
        for seen in old {
            serving += usize::from(seen.state == State::Ready);
            if seen.state != State::Ready || serving > spare {
                steps.push(drop(seen));
            }
        }
        let may_make = self.failures.get(&asked.template).is_none_or(|failures| now >= failures.until);
        if may_make {
            let more =
                lacking.saturating_sub(starting.len()).min(STARTING_MAX.saturating_sub(starting.len()));
            steps.extend(std::iter::repeat_n(Step::Make(asked.template.clone()), more));
        }
    }
}

#[cfg(test)]
mod tests;
