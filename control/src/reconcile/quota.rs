//! Whether a wake stays within the quotas that it counts against.

use crate::state::{Settings, Stage, State, Workspace};
use crate::{Grant, Identity, OverQuota, QuotaScope, Wake};
use config::{Amount, Quota, QuotaLimits, QuotaName, TemplateName, WorkspaceId};

/// What counts beside the workspace that is to start.
struct Running<'a> {
    id: &'a WorkspaceId,
    owner: &'a Identity,
    template: &'a TemplateName,
    grant: &'a Grant,
}

/// The first quota that a start of this template would go beyond.
pub(super) fn exceeded(state: &State, wake: &Wake, template: &TemplateName) -> Option<OverQuota> {
    let Wake { id, owner, grant, .. } = wake;
    first(state, &Running { id, owner, template, grant }, Workspace::is_wanted)
}

/// The first quota that one whose turn has come would go beyond by now: another Usher may have admitted others at the
/// moment at which it was admitted. Who waits does not count: what stands before it has had its turn.
pub(super) fn exceeded_meanwhile(
    state: &State,
    id: &WorkspaceId,
    workspace: &Workspace,
) -> Option<OverQuota> {
    let runs = |workspace: &Workspace| workspace.is_wanted() && !matches!(workspace.stage, Stage::Queued(_));
    first(state, &Running::of(id, workspace), runs)
}

fn first(state: &State, one: &Running<'_>, counts: impl Fn(&Workspace) -> bool) -> Option<OverQuota> {
    let quotas = one.grant.quotas.iter().filter_map(|name| state.settings.quotas.get_key_value(name));
    let mut quotas = quotas.peekable();
    quotas.peek()?;
    // Its own place counts as what it asks for, not as what it has.
    let others = state.workspaces.iter().filter(|(id, workspace)| *id != one.id && counts(workspace));
    let others: Vec<Running<'_>> = others.map(|(id, workspace)| Running::of(id, workspace)).collect();
    quotas.find_map(|(name, quota)| of_one(state, one, &others, name, quota))
}

fn of_one(
    state: &State,
    one: &Running<'_>,
    others: &[Running<'_>],
    name: &QuotaName,
    quota: &Quota,
) -> Option<OverQuota> {
    let is_theirs = |other: &&Running<'_>| other.owner == one.owner;
    let theirs: Vec<&Running<'_>> = others.iter().filter(is_theirs).collect();
    // What the user has counts for all, also what was started before there was this quota.
    let counts = |other: &&Running<'_>| is_theirs(other) || other.grant.quotas.contains(name);
    let all: Vec<&Running<'_>> = others.iter().filter(counts).collect();
    let asked = Asked { settings: &state.settings, template: one.template, grant: one.grant };
    let over = |scope, limits: &QuotaLimits, running: &[&Running<'_>]| {
        let (what, used, needed, limit) = asked.beyond(limits, running)?;
        let by =
            theirs.iter().filter(|one| what == WORKSPACES || !one.amount(asked.settings, &what).is_zero());
        let by = by.map(|one| one.id.clone()).collect();
        Some(OverQuota { quota: name.clone(), scope, what, used, needed, limit, by })
    };
    over(QuotaScope::Each, &quota.each, &theirs).or_else(|| over(QuotaScope::All, &quota.all, &all))
}

/// What is counted where no resource is.
const WORKSPACES: &str = "workspaces";

/// What a start asks for.
struct Asked<'a> {
    settings: &'a Settings,
    template: &'a TemplateName,
    grant: &'a Grant,
}

impl Asked<'_> {
    /// What would go beyond the limits: its name, how much is used and needed, and the limit.
    fn beyond(
        &self,
        limits: &QuotaLimits,
        running: &[&Running<'_>],
    ) -> Option<(String, Amount, Amount, Amount)> {
        let number = Amount::of(running.len() as u64);
        let one = Amount::of(1);
        if let Some(limit) = limits.workspaces.map(Amount::of).filter(|limit| number.plus(one) > *limit) {
            return Some((WORKSPACES.to_owned(), number, one, limit));
        }
        limits.resources.iter().find_map(|(name, limit)| {
            let needed = self.settings.amount(self.template, self.grant, name);
            let used = running
                .iter()
                .map(|one| one.amount(self.settings, name))
                .fold(Amount::default(), Amount::plus);
            let is_over = !needed.is_zero() && used.plus(needed) > *limit;
            is_over.then(|| (name.clone(), used, needed, *limit))
        })
    }
}

impl<'a> Running<'a> {
    fn of(id: &'a WorkspaceId, workspace: &'a Workspace) -> Self {
        Self { id, owner: &workspace.owner, template: &workspace.template, grant: workspace.admitted() }
    }

    fn amount(&self, settings: &Settings, name: &str) -> Amount {
        settings.amount(self.template, self.grant, name)
    }
}

#[cfg(test)]
mod tests;
