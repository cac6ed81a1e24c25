//! What Ushers with the same workspaces know of each other: uses, marks, and who may serve.

use super::{Marked, Stage, State};
use crate::peers::{CUT_OFF, PeerNews};
use crate::table::Standing;
use crate::usage::Kept;
use crate::{Mark, StopReason, Terms};
use config::WorkspaceId;
use std::time::Instant;

impl State {
    /// Takes in what others with the same workspaces tell.
    pub(crate) fn hear(&mut self, news: PeerNews, now: Instant) {
        let Some(peers) = &mut self.peers else { return };
        match news {
            PeerNews::Left(name) => peers.left(&name),
            PeerNews::Told(told) => {
                if told.last {
                    peers.left(&told.name);
                } else {
                    peers.heard(&told.name, told.seen, now);
                }
                for (id, kept) in told.uses {
                    self.learn(id, kept);
                }
            }
        }
    }

    /// Takes in where this Usher stands among the others.
    pub(crate) fn among_others(&mut self, leads: bool, written: Instant, now: Instant) {
        let Some(peers) = &mut self.peers else { return };
        peers.leads = leads;
        let cut_off = now.saturating_duration_since(written) >= CUT_OFF;
        if cut_off && !peers.cut_off {
            self.cut_all();
        }
        if let Some(peers) = &mut self.peers {
            peers.cut_off = cut_off;
        }
    }

    /// Ends all traffic: what is used through this Usher alone is about to be stopped by the others.
    fn cut_all(&mut self) {
        for (id, workspace) in &mut self.workspaces {
            if let Stage::Ready(ready) = &mut workspace.stage {
                self.news.ended.push(std::mem::take(&mut ready.instance.ended));
                self.news.changed.insert(id.clone());
            }
        }
    }

    /// The number of the newest mark that is taken in.
    pub(crate) fn newest_mark(&self) -> u64 {
        self.peers.as_ref().map_or(0, |peers| peers.seen)
    }

    /// How far the table may be believed.
    pub(crate) fn standing(&self) -> Standing {
        let cut_off = self.peers.as_ref().is_some_and(|peers| peers.cut_off);
        Standing { synced: self.synced && !cut_off, sighted: self.sighted }
    }

    /// Another Usher knows of a use: it counts here as well.
    fn learn(&mut self, id: WorkspaceId, kept: Kept) {
        let Some(ready) = self.ready_mut(&id).filter(|ready| ready.instance.generation == kept.generation)
        else {
            return self.restored.learn(id, kept);
        };
        if ready.terms.learn(&kept) {
            self.news.changed.insert(id);
        }
    }

    pub(super) fn note_mark(&mut self, id: &WorkspaceId, mark: Option<Mark>, now: Instant) {
        if let Some(peers) = &mut self.peers {
            peers.seen = peers.seen.max(mark.map_or(0, |mark| mark.number));
            let Some(ready) = self.ready_mut(id) else { return };
            if ready.marked.map(|marked| marked.mark) != mark {
                ready.marked = mark.map(|mark| Marked { mark, since: now });
                ready.marking = None;
            }
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
        if kept.last.0 > self.last.0 {
            self.last = kept.last;
        }
        self.started = self.started.min(kept.started);
        self.extended_until = self.extended_until.max(kept.extended_until);
        self.kept_until = self.kept_until.max(kept.kept_until);
        *self != before
    }
}
