//! What runs with a template that is not known here.

use super::{How, Stage, State, Then, Workspace};
use crate::{Cause, CauseCode, Generation, ObservedPhase};
use config::WorkspaceId;
use std::time::Instant;

impl Workspace {
    /// Whether it runs, or will without anybody asking again: what `running_max` and quotas count. What runs with a
    /// template that is not known here runs all the same.
    pub(crate) fn is_wanted(&self) -> bool {
        self.stage.is_wanted() || self.runs_unknown().is_some()
    }

    /// Which instance runs of one whose template is not known here, and why it is not served.
    pub(crate) fn runs_unknown(&self) -> Option<(Option<Generation>, Cause)> {
        match (&self.stage, &self.told) {
            (Stage::Failed { cause, .. }, Some(ObservedPhase::Running { generation, .. }))
                if cause.code == CauseCode::TemplateGone =>
            {
                Some((generation.clone(), cause.clone()))
            }
            _ => None,
        }
    }
}

impl State {
    /// Nothing is known of how to reach it or of when it is idle: it would run for ever. Where there are others, they may
    /// know: one of them ends it when nobody has for long.
    pub(super) fn abandon(&mut self, id: &WorkspaceId, generation: Option<Generation>, now: Instant) {
        let Some(workspace) = self.workspaces.get(id) else { return };
        let cause = Cause::template_gone(&workspace.template);
        match &workspace.stage {
            _ if self.peers.is_none() => self.end(id, How::Stop, generation, Then::Fail(cause), now),
            Stage::Failed { cause: known, .. } if *known == cause => {}
            _ => self.fail(id, cause, now),
        }
    }

    /// Ends what runs with a template that is not known here; `false` = nothing does.
    pub(super) fn end_unknown(&mut self, id: &WorkspaceId, now: Instant) -> bool {
        let runs = self.workspaces.get(id).and_then(Workspace::runs_unknown);
        let Some((generation, cause)) = runs else { return false };
        self.end(id, How::Stop, generation, Then::Fail(cause), now);
        true
    }
}
