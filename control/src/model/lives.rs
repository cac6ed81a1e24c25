//! What an Usher does while it lives: it begins, decides, probes, and writes down what it knows.

use super::api::UseRecord;
use super::replica::Replica;
use super::world::{PATIENCE, Thing, World};
use super::{Millis, Plant, Uses, instant, judge};
use crate::peers::Heard;
use crate::state::{Effect, Outcome, Stage, State, Workspace};
use crate::usage::{Document, Kept, Restored, Written};
use crate::work::Act;
use crate::{Action, Generation, Phase};
use config::WorkspaceId;
use std::collections::BTreeSet;
use tokio_util::sync::CancellationToken;

/// How often a record of use is written.
const USE_EVERY: Millis = 60_000;
/// How soon it is tried again.
const USE_AGAIN: Millis = 5_000;

impl World {
    /// A life of a replica begins as a real one does: it reads all records, makes itself known, then looks.
    pub(super) fn begin(&mut self, number: usize) {
        if !self.reaches(number) {
            return self.after(5_000, Thing::Begin(number));
        }
        let now = instant(self.now);
        let mut restored = Restored::default();
        for index in self.api.standing_uses() {
            let record = &self.api.uses[index];
            for (id, kept) in record.document.workspaces(now) {
                restored.learn(id, kept);
            }
        }
        let document = Document::of(restored.all(), [], now);
        let replica = &mut self.replicas[number];
        replica.life += 1;
        let (life, name) = (replica.life, replica.name.clone());
        *replica = Replica {
            name: name.clone(),
            life,
            alive: true,
            registered: true,
            written: Written::of(&document, now),
            lists: true,
            use_position: 0,
            clock_ms: replica.clock_ms,
            leads: replica.leads,
            hindered: std::mem::take(&mut replica.hindered),
            state: State::new(super::settings(self.idle_after), restored, true),
            ..Replica::new(number, self.idle_after)
        };
        let registers =
            UseRecord { name, document, began: self.now, used: Uses::new(), gone: BTreeSet::new() };
        self.put_use(registers);
        self.note(|| format!("replica {number} begins its life {life}"));
        self.deliver_soon(number, 0);
        self.deliver_soon(number, 1);
        self.after(1_000, Thing::Tick(number, life));
        self.after(USE_EVERY, Thing::Write(number, life));
    }

    pub(super) fn tick(&mut self, number: usize, life: u64) {
        self.turn(number);
        judge::queue(self, number);
        // A real one looks each second. Where nothing is to be seen soon that would only take time.
        let wait = |workspace: &Workspace| match &workspace.stage {
            Stage::Ready(_) if workspace.marked.is_none() => 8_000,
            Stage::Stopped | Stage::Failed { .. } => 20_000,
            _ => 1_000,
        };
        let wait = self.replicas[number].state.workspaces.values().map(wait).min().unwrap_or(20_000);
        self.after(wait, Thing::Tick(number, life));
    }

    /// What the control loop does when something came in.
    pub(super) fn turn(&mut self, number: usize) {
        let now = instant(self.now);
        let ready = judge::ready(&self.replicas[number]);
        let replica = &mut self.replicas[number];
        let mut written = replica.written.clone();
        if self.plant == Plant::NoCutOff {
            written.at = now;
        }
        replica.state.among_others(replica.leads, &written, now);
        let (effects, rests) = replica.state.settle(now);
        for ended in std::mem::take(&mut replica.state.news).ended {
            ended.cancel();
        }
        if !rests {
            self.wrong(format!("replica {number} comes to no decision"));
        }
        judge::routes(self, number, &ready);
        judge::visits(self, number);
        let life = self.replicas[number].life;
        for effect in effects {
            match effect {
                Effect::Act { action: Action::Unmark { .. }, .. } if self.plant == Plant::DeafToMarks => {}
                Effect::Act { id, attempt, action } => {
                    if let Some(act) = self.replicas[number].in_turn.begin(Act { id, attempt, action }) {
                        self.send(number, act);
                    }
                }
                Effect::Probe { id, generation, ended, .. } => {
                    let lag = self.lag();
                    self.after(lag, Thing::Reached(number, life, id, generation, ended));
                }
                Effect::AskBusy { .. } | Effect::Tail { .. } => {}
            }
        }
    }

    pub(super) fn reach(
        &mut self,
        number: usize,
        life: u64,
        id: WorkspaceId,
        generation: Generation,
        ended: CancellationToken,
    ) {
        if ended.is_cancelled() {
            return;
        }
        let accepts = self.api.sets.get(&id).and_then(|set| set.pod());
        let accepts = accepts.is_some_and(|pod| pod.accepts && super::is(&generation, pod.uid));
        if !accepts {
            return self.after(300, Thing::Reached(number, life, id, generation, ended));
        }
        self.replicas[number].state.conclude(Outcome::Reached { id, generation }, instant(self.now));
        self.turn(number);
    }

    pub(super) fn document(&mut self, number: usize, last: bool) -> UseRecord {
        let now = instant(self.now);
        let replica = &self.replicas[number];
        let all: BTreeSet<_> = replica.state.workspaces.keys().cloned().collect();
        let entries = replica.state.entries(&all).into_iter();
        let kept = entries.filter_map(|(id, entry)| Some((id, Kept::of(&entry?, now)?)));
        let mut document = Document::of(kept, [], now);
        let mut heard = Heard::default();
        replica.state.tell_heard(&mut heard);
        (document.seen, document.last) = (heard.seen, last);
        let (name, used) = (replica.name.clone(), replica.used.clone());
        UseRecord { name, document, began: self.now, used, gone: heard.gone }
    }

    pub(super) fn write(&mut self, number: usize, life: u64) {
        let record = Box::new(self.document(number, false));
        self.replicas[number].writes = Some(Written::of(&record.document, instant(self.now)));
        if !self.reaches(number) {
            return self.after(PATIENCE * 3, Thing::Written(number, life, false));
        }
        let lag = self.lag();
        self.after(lag, Thing::CommitUse(number, life, record));
    }

    pub(super) fn commit_use(&mut self, number: usize, life: u64, record: UseRecord) {
        let (began, gone) = (record.began, record.gone.clone());
        if self.now < self.down_until || self.now < self.frozen_until {
            return self.after(PATIENCE * 3, Thing::Written(number, life, false));
        }
        self.put_use(record);
        self.has_told(number, life, began);
        if self.replicas[number].leads {
            self.clear_away(gone);
        }
        let lag = self.lag();
        self.after(lag, Thing::Written(number, life, true));
    }

    /// The records of those that are gone are deleted.
    fn clear_away(&mut self, mut gone: BTreeSet<String>) {
        if self.plant == Plant::ClearsAwayAtOnce {
            gone.extend(self.api.uses.iter().map(|record| record.name.clone()));
            for replica in self.replicas.iter().filter(|replica| replica.alive) {
                gone.remove(&replica.name);
            }
        }
        for name in gone {
            for replica in &mut self.replicas {
                replica.unheard_ends.push(name.clone());
            }
            self.api.deleted_uses.insert(name);
        }
        for number in 0..self.replicas.len() {
            self.deliver_soon(number, 1);
        }
    }

    /// A replica has written down what it knew at this moment: from now on that holds whatever becomes of it.
    pub(super) fn has_told(&mut self, number: usize, life: u64, began: Millis) {
        for kept in self.kept.iter_mut().filter(|kept| (kept.replica, kept.life) == (number, life)) {
            kept.told |= kept.since <= began;
        }
    }

    pub(super) fn put_use(&mut self, record: UseRecord) {
        self.api.deleted_uses.remove(&record.name);
        self.api.uses.push(record);
        for number in 0..self.replicas.len() {
            self.deliver_soon(number, 1);
        }
    }

    pub(super) fn written(&mut self, number: usize, life: u64, done: bool) {
        let replica = &mut self.replicas[number];
        if let Some(written) = replica.writes.take().filter(|_| done) {
            replica.written = written;
        }
        self.after(if done { USE_EVERY } else { USE_AGAIN }, Thing::Write(number, life));
        self.turn(number);
    }

    pub(super) fn use_it(&mut self, number: usize, life: u64, id: WorkspaceId, until: Millis) {
        let replica = &mut self.replicas[number];
        let Some(entry) = replica.state.entry(&id) else { return };
        let Phase::Ready(route) = &entry.phase else { return };
        if !replica.serves() || self.now > until {
            return;
        }
        entry.activity.used_at(instant(self.now));
        let runs = self.api.sets.get(&id).and_then(|set| set.pod());
        if runs.is_some_and(|pod| super::is(&route.generation, pod.uid)) {
            replica.used.insert((id.clone(), route.generation.clone()), self.now);
        }
        let pause = self.chance.u64(5_000..45_000);
        self.after(pause, Thing::Use { replica: number, life, workspace: id, until });
    }
}
