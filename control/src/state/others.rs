//! What Ushers with the same workspaces know of each other: uses, marks, and who may serve.

use super::{Marked, Stage, State};
use crate::peers::{CUT_OFF, Heard, PeerNews};
use crate::table::Elsewhere;
use crate::table::Standing;
use crate::usage::Kept;
use crate::{Mark, StopReason, Terms, reconcile};
use config::WorkspaceId;
use std::time::Instant;

impl State {
    /// Takes in what others with the same workspaces tell.
    pub(crate) fn hear(&mut self, news: PeerNews, now: Instant) {
        let Some(peers) = &mut self.peers else { return };
        match news {
            PeerNews::Echo(seen) => peers.echo(seen),
            PeerNews::Deleted(name) => peers.deleted(&name),
            PeerNews::Told(told) => {
                if told.last {
                    peers.left(&told.name, now);
                } else {
                    peers.heard(&told.name, told.seen, now);
                }
                for (id, kept) in told.uses {
                    self.learn(id, kept, told.last, now);
                }
            }
        }
    }

    /// Takes in where this Usher stands among the others.
    pub(crate) fn among_others(&mut self, leads: bool, written: Instant, now: Instant) {
        let Some(peers) = &mut self.peers else { return };
        let cut_off = now.saturating_duration_since(written) >= CUT_OFF;
        let was_cut_off = std::mem::replace(&mut peers.cut_off, cut_off);
        peers.leads = leads;
        let silent = peers.forget_silent(now);
        peers.look_at_gone(self.synced && self.sighted, now);
        for stranger in peers.forget_strangers(now) {
            if !self.workspaces.contains_key(&stranger) {
                self.restored.forget(&stranger);
            }
        }
        if silent {
            self.inherit();
        }
        if cut_off && !was_cut_off {
            self.cut_all();
        }
    }

    /// One that told what it knows does not tell it any more: from now on that is told here.
    fn inherit(&mut self) {
        for (id, workspace) in &mut self.workspaces {
            if let Stage::Ready(ready) = &mut workspace.stage
                && ready.terms.inherit()
            {
                self.news.changed.insert(id.clone());
            }
        }
    }

    /// Ends all traffic: what is used through this Usher alone is about to be stopped by the others.
    fn cut_all(&mut self) {
        for (id, workspace) in &mut self.workspaces {
            if let Stage::Ready(ready) = &mut workspace.stage {
                self.news.ended.push(ready.instance.renew());
                self.news.changed.insert(id.clone());
            }
        }
    }

    /// Tells what is taken in of what others tell; whether that is news.
    pub(crate) fn tell_heard(&self, told: &mut Heard) -> bool {
        let heard = self.peers.as_ref().map(|peers| &peers.heard).filter(|heard| *heard != told);
        if let Some(heard) = heard {
            told.clone_from(heard);
        }
        heard.is_some()
    }

    /// How far the table may be believed.
    pub(crate) fn standing(&self) -> Standing {
        let cut_off = self.peers.as_ref().is_some_and(|peers| peers.cut_off);
        Standing { synced: self.synced && !cut_off, sighted: self.sighted }
    }

    /// Another Usher knows of a use: it counts here as well.
    fn learn(&mut self, id: WorkspaceId, kept: Kept, last: bool, now: Instant) {
        let Some(ready) = self.ready_mut(&id).filter(|ready| ready.instance.is(kept.generation)) else {
            // Records and workspaces are told in no order: what is not known may be a moment later.
            if let Some(peers) = self.peers.as_mut().filter(|_| !self.workspaces.contains_key(&id)) {
                peers.met(id.clone(), now);
            }
            return self.restored.learn(id, kept);
        };
        let mut news = ready.terms.learn(&kept);
        news |= last && ready.terms.inherit();
        if news {
            self.news.changed.insert(id);
        }
    }

    /// All that there is was told: what others told of workspaces that are gone is nothing to remember.
    pub(super) fn forget_the_lost(&mut self) {
        let Self { peers, restored, workspaces, .. } = self;
        if peers.is_some() {
            restored.retain(|id| workspaces.contains_key(id));
        }
    }

    pub(super) fn note_mark(&mut self, id: &WorkspaceId, mark: Option<Mark>, now: Instant) {
        let Some(peers) = &mut self.peers else { return };
        peers.note(id, mark.map(|mark| mark.number));
        let Some(workspace) = self.workspaces.get_mut(id) else { return };
        let before = workspace.marked;
        if before.map(|marked| marked.mark) == mark {
            return;
        }
        let since = before.map_or(now, |marked| marked.since);
        workspace.marked = mark.map(|mark| Marked { mark, since });
        if let Stage::Ready(ready) = &mut workspace.stage {
            // Whoever took it back knows of a use, and tells of it soon.
            let taken_back = before.is_some() && mark.is_none();
            ready.quiet_until = taken_back.then(|| now + reconcile::TAKEN_BACK);
        }
    }

    /// Another Usher stopped it and wrote down why.
    pub(super) fn note_stopped(&mut self, id: &WorkspaceId, stopped: Option<StopReason>) {
        let Some(workspace) = self.workspaces.get_mut(id) else { return };
        let ended = matches!(workspace.stage, Stage::Stopping(_) | Stage::Stopped);
        if ended && stopped.is_some() && workspace.stopped != stopped {
            workspace.stopped = stopped;
            self.news.changed.insert(id.clone());
        }
    }
}

impl Terms {
    /// Takes in what another Usher knows; tells whether that was news.
    fn learn(&mut self, kept: &Kept) -> bool {
        let before = self.clone();
        self.started = self.started.min(kept.started);
        let Elsewhere { last, extended_until, kept_until } = &mut self.elsewhere;
        *last = (*last).filter(|last| last.0 >= kept.last.0).or(Some(kept.last));
        *extended_until = (*extended_until).max(kept.extended_until);
        *kept_until = (*kept_until).max(kept.kept_until);
        *self != before
    }

    /// Takes what others told for its own; tells whether there was any.
    pub(super) fn inherit(&mut self) -> bool {
        let Elsewhere { last, extended_until, kept_until } = std::mem::take(&mut self.elsewhere);
        self.last = last.filter(|last| last.0 > self.last.0).unwrap_or(self.last);
        self.extended_until = self.extended_until.max(extended_until);
        self.kept_until = self.kept_until.max(kept_until);
        last.is_some()
    }
}
