//! What Ushers with the same workspaces know of each other: uses, marks, and who may serve.

use super::{Marked, Ready, Stage, State};
use crate::activity::Use;
use crate::peers::{AHEAD, Heard, PeerNews, Peers};
use crate::reconcile::{self, idle};
use crate::table::Elsewhere;
use crate::table::Standing;
use crate::usage::{Kept, Written};
use crate::{Mark, StopReason, Terms};
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
    pub(crate) fn among_others(&mut self, leads: bool, written: &Written, now: Instant) {
        let Some(peers) = &mut self.peers else { return };
        peers.leads = leads;
        let was_cut_off = peers.cut_off;
        peers.wrote(written.at, now);
        let cut_off = peers.cut_off;
        if cut_off != was_cut_off {
            self.news.changed.extend(self.queue.iter().map(|(_, id)| id.clone()));
        }
        let silent = peers.forget_silent(now);
        peers.look_at_gone(self.synced && self.sights.sees_all(), now);
        for stranger in peers.forget_strangers(now) {
            if !self.workspaces.contains_key(&stranger) {
                self.restored.forget(&stranger);
            }
        }
        if silent {
            self.inherit();
        }
        self.cut_off(cut_off.then_some(written), now);
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

    /// Ends the traffic to what the others are about to stop, as far as they were told of its use when this Usher last
    /// could; `None` = it still can, and serves all.
    fn cut_off(&mut self, written: Option<&Written>, now: Instant) {
        for (id, workspace) in &mut self.workspaces {
            let Stage::Ready(ready) = &mut workspace.stage else { continue };
            let known = |written: &Written| ready.is_kept_by_others(written.uses.get(id), now + AHEAD);
            let cut_off = written.is_some_and(|written| ready.cut_off || !known(written));
            if cut_off == ready.cut_off {
                continue;
            }
            ready.cut_off = cut_off;
            if cut_off {
                self.news.ended.push(ready.instance.renew());
            }
            self.news.changed.insert(id.clone());
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
        let hears = self.sights.sees_all();
        let others_fare_better = |peers: &Peers| peers.cut_off && (peers.others_can || !hears);
        let cut_off = self.peers.as_ref().is_some_and(others_fare_better);
        Standing { synced: self.synced, cut_off, halted: false }
    }

    /// Another Usher knows of a use: it counts here as well.
    fn learn(&mut self, id: WorkspaceId, kept: Kept, last: bool, now: Instant) {
        if let Some(workspace) = self.workspaces.get_mut(&id) {
            workspace.elsewhere = (!last).then_some((kept.generation, now));
        }
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

impl Ready {
    /// Whether the others, which know this of its use, will not stop it as unused by then.
    fn is_kept_by_others(&self, told: Option<&Kept>, then: Instant) -> bool {
        let Some(told) = told.filter(|told| self.instance.is(told.generation)) else { return false };
        let terms = Terms {
            started: told.started,
            last: told.last,
            busy: None,
            extended_until: told.extended_until,
            kept_until: told.kept_until,
            elsewhere: self.terms.elsewhere.clone(),
        };
        idle::stops_at(&Use::default(), &self.template.idle, &terms, then).is_none_or(|at| at > then)
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
