//! Time, and everything that happens in it: the API server, the cluster's controllers, the network, the Ushers.

use super::api::{Api, Pod, UseRecord, Wanted};
use super::driver::{Done, Request, observed};
use super::replica::Replica;
use super::{Millis, Plant, SERVER_CLOCK, Uses, instant, judge};
use crate::peers::{PeerNews, Told};
use crate::state::{Effect, Outcome, Stage, State, Workspace};
use crate::testing::{cause, id, wake};
use crate::usage::{Document, Kept, Restored};
use crate::work::Act;
use crate::{Action, Cause, CauseCode, Event, Generation};
use config::WorkspaceId;
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use tests::{Deed, Schedule};
use tokio_util::sync::CancellationToken;

/// How often a record of use is written.
const USE_EVERY: Millis = 60_000;
/// How soon it is tried again.
const USE_AGAIN: Millis = 5_000;
/// After so much silence a watch is blind.
const DEAF: Millis = 10_000;
/// After so long a request is given up by who made it.
const PATIENCE: Millis = 900;
/// What is unused for so many seconds is stopped.
pub(super) const IDLE_AFTER: u64 = 120;

/// Something that is to happen. What is meant for a replica names the life of it that it is meant for.
#[derive(Debug)]
pub(super) enum Thing {
    Deed(Deed),
    Begin(usize),
    Tick(usize, u64),
    Deliver(usize, u64),
    DeliverUses(usize, u64),
    Deaf(usize, u64, Millis),
    Commit(usize, u64, Box<Request>, Act, Fate),
    Answer(usize, u64, Act, Result<Option<u64>, Cause>),
    Reached(usize, u64, WorkspaceId, Generation, CancellationToken),
    Write(usize, u64),
    CommitUse(usize, u64, Box<UseRecord>),
    Written(usize, u64, Option<Millis>),
    Use { replica: usize, life: u64, workspace: WorkspaceId, until: Millis },
    Control(WorkspaceId),
    PodAccepts(WorkspaceId, u64),
    PodEnds(WorkspaceId, u64),
    ServerBack,
}

/// What becomes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Told,
    Lost,
}

pub(super) struct World {
    pub(super) now: Millis,
    pub(super) api: Api,
    pub(super) replicas: Vec<Replica>,
    pub(super) ids: Vec<WorkspaceId>,
    pub(super) plant: Plant,
    agenda: BTreeMap<(Millis, u64), Thing>,
    count: u64,
    chance: Rng,
    down_until: Millis,
    frozen_until: Millis,
    broken: BTreeSet<WorkspaceId>,
    pub(super) marked_at: BTreeMap<WorkspaceId, Millis>,
    pub(super) started_at: BTreeMap<WorkspaceId, Millis>,
    pub(super) kept: Vec<(usize, u64, WorkspaceId, Generation, Millis, Millis)>,
    /// Whose files somebody asked to be deleted.
    pub(super) may_lose_files: BTreeSet<WorkspaceId>,
    pub(super) wrong: Option<String>,
    trace: Option<Vec<String>>,
}

const NAMES: [&str; 6] = ["a", "b", "x--a", "c", "d", "y--b"];

impl World {
    pub(super) fn new(schedule: &Schedule, seed: u64, plant: Plant, traced: bool) -> Self {
        let mut world = Self {
            now: 0,
            api: Api::default(),
            replicas: Vec::new(),
            ids: NAMES[..schedule.workspaces].iter().map(|name| id(name)).collect(),
            plant,
            agenda: BTreeMap::new(),
            count: 0,
            chance: Rng::with_seed(seed),
            down_until: 0,
            frozen_until: 0,
            broken: BTreeSet::new(),
            marked_at: BTreeMap::new(),
            started_at: BTreeMap::new(),
            kept: Vec::new(),
            may_lose_files: BTreeSet::new(),
            wrong: None,
            trace: traced.then(Vec::new),
        };
        for number in 0..schedule.replicas {
            world.replicas.push(Replica::new(number));
            world.at(0, Thing::Begin(number));
        }
        let mut at = 1000;
        for step in &schedule.steps {
            at += u64::try_from(step.after.as_millis()).unwrap();
            world.at(at, Thing::Deed(step.deed));
        }
        world
    }

    /// Goes on until this time, or until something is wrong.
    pub(super) fn run(&mut self, until: Millis) -> Result<(), String> {
        while let Some(entry) = self.agenda.first_entry()
            && entry.key().0 <= until
        {
            let ((at, _), thing) = entry.remove_entry();
            self.now = at;
            self.happen(thing);
            if let Some(wrong) = self.wrong.take() {
                return Err(self.explain(&wrong));
            }
        }
        self.now = until;
        Ok(())
    }

    /// What went wrong, and all that happened before.
    pub(super) fn explain(&mut self, wrong: &str) -> String {
        let trace = self.trace.take().unwrap_or_default().join("\n");
        format!("after {} ms: {wrong}\n{trace}", self.now)
    }

    pub(super) fn last_deed(&self) -> Millis {
        let deeds = self.agenda.iter().filter(|(_, thing)| matches!(thing, Thing::Deed(_)));
        deeds.map(|((at, _), _)| *at).max().unwrap_or(0)
    }

    /// Ends all that hinders anybody; tells when the last that is halted goes on.
    pub(super) fn heal(&mut self) -> Millis {
        (self.down_until, self.frozen_until) = (self.now, self.now);
        self.broken.clear();
        for number in 0..self.replicas.len() {
            let replica = &mut self.replicas[number];
            (replica.cut_until, replica.lose, replica.turn_away) = (self.now, 0, 0);
            replica.leads = number == 0;
        }
        self.listen_again();
        let halted = self.replicas.iter().map(|replica| replica.halted_until);
        halted.max().unwrap_or(0).max(self.now)
    }

    pub(super) fn at(&mut self, at: Millis, thing: Thing) {
        self.count += 1;
        self.agenda.insert((at.max(self.now), self.count), thing);
    }

    fn after(&mut self, millis: Millis, thing: Thing) {
        self.at(self.now + millis, thing);
    }

    fn lag(&mut self) -> Millis {
        if self.chance.u8(0..8) == 0 { self.chance.u64(20..400) } else { self.chance.u64(1..20) }
    }

    pub(super) fn wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    fn note(&mut self, what: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:10.3} s  {}", now as f64 / 1000.0, what()));
        }
    }

    fn reaches(&self, number: usize) -> bool {
        let replica = &self.replicas[number];
        self.now >= self.down_until && self.now >= self.frozen_until && self.now >= replica.cut_until
    }

    /// Whether this is for a replica that is there to take it; what is for a halted one waits.
    fn is_for(&mut self, number: usize, life: u64) -> Option<Millis> {
        let replica = &self.replicas[number];
        if !replica.alive || replica.life != life {
            return None;
        }
        Some(replica.halted_until)
    }

    fn happen(&mut self, thing: Thing) {
        let receiver = match &thing {
            Thing::Tick(number, life)
            | Thing::Deliver(number, life)
            | Thing::DeliverUses(number, life)
            | Thing::Deaf(number, life, _)
            | Thing::Answer(number, life, ..)
            | Thing::Reached(number, life, ..)
            | Thing::Write(number, life)
            | Thing::Written(number, life, _)
            | Thing::Use { replica: number, life, .. } => Some((*number, *life)),
            _ => None,
        };
        if let Some((number, life)) = receiver {
            match self.is_for(number, life) {
                None => return,
                Some(until) if until > self.now => return self.at(until, thing),
                Some(_) => {}
            }
        }
        match thing {
            Thing::Deed(deed) => self.deed(deed),
            Thing::Begin(number) => self.begin(number),
            Thing::Tick(number, life) => self.tick(number, life),
            Thing::Deliver(number, _) => self.deliver(number),
            Thing::DeliverUses(number, _) => self.deliver_uses(number),
            Thing::Deaf(number, _, since) => self.go_deaf(number, since),
            Thing::Commit(number, life, request, act, fate) => self.commit(number, life, &request, act, fate),
            Thing::Answer(number, _, act, result) => self.answer(number, act, result),
            Thing::Reached(number, life, id, generation, ended) => {
                self.reach(number, life, id, generation, ended);
            }
            Thing::Write(number, life) => self.write(number, life),
            Thing::CommitUse(number, life, record) => self.commit_use(number, life, *record),
            Thing::Written(number, life, began) => self.written(number, life, began),
            Thing::Use { replica, life, workspace, until } => self.use_it(replica, life, workspace, until),
            Thing::Control(id) => self.control(&id),
            Thing::PodAccepts(id, uid) => self.pod_accepts(&id, uid),
            Thing::PodEnds(id, uid) => self.pod_ends(&id, uid),
            Thing::ServerBack => self.listen_again(),
        }
    }

    // What replicas do.

    /// A life of a replica begins as a real one does: it reads all records, makes itself known, then looks.
    fn begin(&mut self, number: usize) {
        if !self.reaches(number) {
            return self.after(5_000, Thing::Begin(number));
        }
        let now = instant(self.now);
        let (mut restored, mut ended) = (Restored::default(), Vec::new());
        for index in self.api.standing_uses() {
            let record = &self.api.uses[index];
            for (id, kept) in record.document.workspaces(now) {
                restored.learn(id, kept);
            }
            if record.document.last {
                ended.push(record.name.clone());
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
            written: self.now,
            lists: true,
            use_position: 0,
            clock_ms: replica.clock_ms,
            leads: replica.leads,
            hindered: std::mem::take(&mut replica.hindered),
            state: State::new(super::settings(), restored, true),
            ..Replica::new(number)
        };
        let registers = UseRecord { name, document, began: self.now, used: Uses::new() };
        if self.plant != Plant::Unregistered {
            self.put_use(registers);
        }
        self.api.deleted_uses.extend(ended);
        self.note(|| format!("replica {number} begins its life {life}"));
        self.deliver_soon(number, 0);
        self.deliver_soon(number, 1);
        self.after(1_000, Thing::Tick(number, life));
        self.after(USE_EVERY, Thing::Write(number, life));
    }

    fn tick(&mut self, number: usize, life: u64) {
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
    fn turn(&mut self, number: usize) {
        let now = instant(self.now);
        let ready = judge::ready(&self.replicas[number]);
        let replica = &mut self.replicas[number];
        let written = if self.plant == Plant::NoCutOff { self.now } else { replica.written };
        replica.state.among_others(replica.leads, instant(written), now);
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

    fn reach(
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

    fn send(&mut self, number: usize, act: Act) {
        let wall = i64::try_from(self.now).unwrap() + SERVER_CLOCK * 1000 + self.replicas[number].clock_ms;
        let replica = &mut self.replicas[number];
        let life = replica.life;
        replica.requests.push((self.now, act.id.clone()));
        let read = replica.read.get(&act.id).cloned();
        let wanted = Wanted { second: 0, at_ms: wall };
        let request = Box::new(Request { action: act.action.clone(), read, wanted });
        judge::storm(self, number, &act.id);
        self.note(|| format!("replica {number} asks: {}", short(&act.action)));
        let replica = &mut self.replicas[number];
        if replica.turn_away > 0 {
            replica.turn_away -= 1;
            replica.hindered.push((self.now, self.now + 3_000));
            let busy = Err(cause(CauseCode::ClusterBusy));
            return self.after(5, Thing::Answer(number, life, act, busy));
        }
        if !self.reaches(number) {
            // A frozen server may do later what nobody waits for any more.
            if self.now >= self.replicas[number].cut_until
                && self.now >= self.down_until
                && self.chance.bool()
            {
                let late = Act { id: act.id.clone(), attempt: act.attempt, action: act.action.clone() };
                self.at(self.frozen_until, Thing::Commit(number, life, request, late, Fate::Lost));
            }
            let silent = Err(cause(CauseCode::ClusterUnreachable));
            return self.after(PATIENCE, Thing::Answer(number, life, act, silent));
        }
        let lag = self.lag();
        let replica = &mut self.replicas[number];
        let fate = if replica.lose > 0 { Fate::Lost } else { Fate::Told };
        if fate == Fate::Lost {
            replica.lose -= 1;
            replica.hindered.push((self.now, self.now + 4_000));
            let late = Act { id: act.id.clone(), attempt: act.attempt, action: act.action.clone() };
            self.after(lag, Thing::Commit(number, life, request, late, fate));
            let silent = Err(cause(CauseCode::ClusterUnreachable));
            return self.after(PATIENCE, Thing::Answer(number, life, act, silent));
        }
        self.after(lag, Thing::Commit(number, life, request, act, fate));
    }

    fn commit(&mut self, number: usize, life: u64, request: &Request, act: Act, fate: Fate) {
        if self.now < self.down_until || self.now < self.frozen_until {
            if fate == Fate::Told {
                let silent = Err(cause(CauseCode::ClusterUnreachable));
                self.after(PATIENCE, Thing::Answer(number, life, act, silent));
            }
            return;
        }
        let second = i64::try_from(self.now / 1000).unwrap() + SERVER_CLOCK;
        let mut request = request.clone();
        request.wanted.second = second;
        let before = self.api.sets.get(&act.id).cloned();
        let files = self.api.volumes.len();
        let done: Done = request.commit(&mut self.api, self.plant);
        self.note(|| {
            format!("  done for replica {number}: {} {} {done:?} {fate:?}", act.id, short(&act.action))
        });
        if matches!(done, Ok(Some(_))) {
            if matches!(act.action, Action::Mark { .. }) {
                self.marked_at.insert(act.id.clone(), self.now);
            }
            judge::done(self, number, &act.action, before.as_ref());
        }
        if self.api.volumes.len() < files && !self.may_lose_files.contains(&act.id) {
            self.wrong(format!("the files of {} are deleted, and nobody asked for it", act.id));
        }
        self.spread();
        self.after(10, Thing::Control(act.id.clone()));
        if fate == Fate::Told {
            let lag = self.lag();
            let result = done.map_err(|refused| match refused {
                super::api::Refused::Conflict => cause(CauseCode::Conflict),
                super::api::Refused::NotTheOwner => cause(CauseCode::NotTheOwner),
            });
            self.after(lag, Thing::Answer(number, life, act, result));
        }
    }

    fn answer(&mut self, number: usize, act: Act, result: Result<Option<u64>, Cause>) {
        let replica = &mut self.replicas[number];
        if let Ok(Some(version)) = result {
            let written = self.api.log.iter().rev().find(|change| change.version == version);
            if let Some(set) = written.and_then(|change| change.set.clone())
                && replica.read.get(&act.id).is_none_or(|read| read.version < version)
                && replica.gone.get(&act.id).is_none_or(|gone| *gone < version)
            {
                replica.read.insert(act.id.clone(), set);
            }
            replica.floor.insert(act.id.clone(), version);
        }
        let next = replica.in_turn.done(&act.id);
        let Act { id, attempt, action } = act;
        let outcome = Outcome::Acted { id, attempt, action, result: result.map(drop) };
        replica.state.conclude(outcome, instant(self.now));
        if let Some(next) = next {
            self.send(number, next);
        }
        self.turn(number);
    }

    // What replicas hear.

    /// Something changed: all who listen are told, each a little later.
    fn spread(&mut self) {
        for number in 0..self.replicas.len() {
            self.deliver_soon(number, 0);
        }
    }

    fn deliver_soon(&mut self, number: usize, which: usize) {
        if !self.replicas[number].alive || self.replicas[number].due[which] {
            return;
        }
        self.replicas[number].due[which] = true;
        let (lag, life) = (self.lag(), self.replicas[number].life);
        let thing = if which == 0 { Thing::Deliver(number, life) } else { Thing::DeliverUses(number, life) };
        self.after(lag, thing);
    }

    fn deliver(&mut self, number: usize) {
        self.replicas[number].due[0] = false;
        if !self.reaches(number) {
            return;
        }
        if self.replicas[number].lists {
            self.list(number);
        } else {
            let position = self.replicas[number].position;
            for index in position..self.api.log.len() {
                let change = self.api.log[index].clone();
                self.tell(number, &change.id, change.version, change.set);
            }
        }
        self.replicas[number].position = self.api.log.len();
        if self.replicas[number].blind {
            self.replicas[number].blind = false;
            self.fold(number, Event::Sighted(true));
        }
        self.turn(number);
    }

    fn list(&mut self, number: usize) {
        let first = !self.replicas[number].state.synced;
        if self.plant == Plant::EmptyOnList {
            for id in std::mem::take(&mut self.replicas[number].told).into_keys() {
                self.fold(number, Event::Gone(id));
            }
            self.turn(number);
        }
        let mut sets: Vec<_> =
            self.api.sets.iter().map(|(id, set)| (set.version, id.clone(), set.clone())).collect();
        sets.sort_by_key(|(version, ..)| *version);
        for (version, id, set) in sets {
            if self.replicas[number].told.get(&id) != Some(&version) {
                self.tell(number, &id, version, Some(set));
            }
        }
        // What was made here may be gone before it was told.
        let replica = &self.replicas[number];
        let known: BTreeSet<_> = replica.told.keys().chain(replica.read.keys()).cloned().collect();
        let version = self.api.log.last().map_or(0, |change| change.version);
        for id in known.iter().filter(|id| !self.api.sets.contains_key(id)).cloned().collect::<Vec<_>>() {
            self.tell(number, &id, version, None);
        }
        self.replicas[number].lists = false;
        if first {
            self.fold(number, Event::Synced);
        }
    }

    fn tell(&mut self, number: usize, id: &WorkspaceId, version: u64, set: Option<super::api::Set>) {
        let replica = &mut self.replicas[number];
        let newer = replica.read.get(id).is_none_or(|read| read.version < version);
        let mut was_known = false;
        match &set {
            Some(set) if newer => drop(replica.read.insert(id.clone(), set.clone())),
            None if newer => {
                was_known = replica.read.remove(id).is_some();
                replica.gone.insert(id.clone(), version);
            }
            _ => {}
        }
        if replica.floor.get(id).is_some_and(|floor| version < *floor) {
            return;
        }
        match set {
            Some(set) => {
                replica.told.insert(id.clone(), version);
                let observed = observed(id, &set, self.plant);
                self.fold(number, Event::Seen(observed));
            }
            None => {
                if replica.told.remove(id).is_some() || was_known {
                    self.fold(number, Event::Gone(id.clone()));
                }
            }
        }
    }

    fn fold(&mut self, number: usize, event: Event) {
        self.note(|| format!("    replica {number} sees {event:?}"));
        self.replicas[number].state.fold(event, instant(self.now));
    }

    fn deliver_uses(&mut self, number: usize) {
        self.replicas[number].due[1] = false;
        if !self.reaches(number) {
            return;
        }
        let now = instant(self.now);
        // Of a record that was written twice meanwhile only the second is told.
        let standing = self.api.standing_uses();
        let from = std::mem::replace(&mut self.replicas[number].use_position, self.api.uses.len());
        for index in standing.into_iter().filter(|index| *index >= from) {
            let record = &self.api.uses[index];
            let document = &record.document;
            let replica = &mut self.replicas[number];
            if record.name == replica.name {
                let seen = if self.plant == Plant::NoEcho { u64::MAX } else { document.seen };
                replica.state.hear(PeerNews::Echo(seen), now);
                continue;
            }
            let uses = match self.plant {
                Plant::PeerUse => Vec::new(),
                _ => document.workspaces(now).collect(),
            };
            for (what, at) in &record.used {
                let heard = replica.heard.entry(what.clone()).or_default();
                *heard = (*heard).max(*at);
            }
            let told = Told { name: record.name.clone(), seen: document.seen, last: document.last, uses };
            replica.state.hear(PeerNews::Told(told), now);
        }
        self.turn(number);
    }

    /// All that could not hear listen again, from where they stopped.
    fn listen_again(&mut self) {
        for number in 0..self.replicas.len() {
            let free = self.reaches(number);
            let replica = &mut self.replicas[number];
            if let Some(since) = replica.deaf_since
                && free
            {
                replica.deaf_since = None;
                replica.hindered.push((since, self.now + 3_000));
                replica.lists |= replica.blind;
            }
            self.deliver_soon(number, 0);
            self.deliver_soon(number, 1);
        }
    }

    fn deafen(&mut self, number: usize, time: Millis) {
        self.replicas[number].hindered.push((self.now, self.now + time + 3_000));
        if self.replicas[number].deaf_since.is_none() {
            self.replicas[number].deaf_since = Some(self.now);
            let life = self.replicas[number].life;
            self.after(DEAF, Thing::Deaf(number, life, self.now));
        }
        self.after(time, Thing::ServerBack);
    }

    fn go_deaf(&mut self, number: usize, since: Millis) {
        if self.replicas[number].deaf_since == Some(since) && self.replicas[number].state.synced {
            self.replicas[number].blind = true;
            self.fold(number, Event::Sighted(false));
            self.turn(number);
        }
    }

    // Records of use.

    fn document(&mut self, number: usize, last: bool) -> UseRecord {
        let now = instant(self.now);
        let replica = &self.replicas[number];
        let all: BTreeSet<_> = replica.state.workspaces.keys().cloned().collect();
        let entries = replica.state.entries(&all).into_iter();
        let kept = entries.filter_map(|(id, entry)| Some((id, Kept::of(&entry?, now)?)));
        let mut document = Document::of(kept, [], now);
        (document.seen, document.last) = (replica.state.newest_mark(), last);
        let (name, used) = (replica.name.clone(), replica.used.clone());
        UseRecord { name, document, began: self.now, used }
    }

    fn write(&mut self, number: usize, life: u64) {
        let record = Box::new(self.document(number, false));
        if !self.reaches(number) {
            return self.after(PATIENCE * 3, Thing::Written(number, life, None));
        }
        let lag = self.lag();
        self.after(lag, Thing::CommitUse(number, life, record));
    }

    fn commit_use(&mut self, number: usize, life: u64, record: UseRecord) {
        let began = record.began;
        if self.now < self.down_until || self.now < self.frozen_until {
            return self.after(PATIENCE * 3, Thing::Written(number, life, None));
        }
        self.put_use(record);
        let lag = self.lag();
        self.after(lag, Thing::Written(number, life, Some(began)));
    }

    fn put_use(&mut self, record: UseRecord) {
        self.api.deleted_uses.remove(&record.name);
        self.api.uses.push(record);
        for number in 0..self.replicas.len() {
            self.deliver_soon(number, 1);
        }
    }

    fn written(&mut self, number: usize, life: u64, began: Option<Millis>) {
        if let Some(began) = began {
            self.replicas[number].written = began;
        }
        self.after(if began.is_some() { USE_EVERY } else { USE_AGAIN }, Thing::Write(number, life));
        self.turn(number);
    }

    fn use_it(&mut self, number: usize, life: u64, id: WorkspaceId, until: Millis) {
        let replica = &mut self.replicas[number];
        let Some(entry) = replica.state.entry(&id) else { return };
        let crate::Phase::Ready(route) = &entry.phase else { return };
        if !replica.serves() || self.now > until {
            return;
        }
        entry.activity.used_at(instant(self.now));
        let runs = self.api.sets.get(&id).and_then(|set| set.pod());
        if runs.is_some_and(|pod| super::is(&route.generation, pod.uid)) {
            replica.used.insert((id.clone(), route.generation.clone()), self.now);
        }
        judge::serving(self, number);
        let pause = self.chance.u64(5_000..45_000);
        self.after(pause, Thing::Use { replica: number, life, workspace: id, until });
    }

    // What the cluster's controllers and nodes do.

    fn control(&mut self, id: &WorkspaceId) {
        if self.now < self.down_until || self.now < self.frozen_until {
            let back = self.down_until.max(self.frozen_until) + 2_000;
            return self.at(back, Thing::Control(id.clone()));
        }
        let Some(set) = self.api.sets.get(id) else { return };
        let to_run = set.runs && !set.deleting;
        match set.pod().map(|pod| (pod.uid, pod.ending)) {
            None if to_run => {
                let (uid, broken) = (self.api.uid(), self.broken.contains(id));
                let pod = Pod { uid, accepts: false, broken, ending: false };
                self.api.touch(id, |set| set.pods.push(pod));
                let takes = self.chance.u64(300..3_000);
                self.after(takes, Thing::PodAccepts(id.clone(), uid));
            }
            None if set.deleting => self.api.remove(id),
            Some((uid, false)) if !to_run => {
                self.api.touch(id, |set| set.pods.iter_mut().for_each(|pod| pod.ending = true));
                let takes = self.chance.u64(50..5_000);
                self.after(takes, Thing::PodEnds(id.clone(), uid));
            }
            _ => return,
        }
        self.spread();
    }

    fn pod_accepts(&mut self, id: &WorkspaceId, uid: u64) {
        let broken = self.broken.contains(id);
        self.api.touch(id, |set| {
            let starting = &mut set.starting;
            if let Some(pod) = set.pods.iter_mut().find(|pod| pod.uid == uid && !pod.broken) {
                (pod.accepts, pod.broken) = (!broken, broken);
                *starting &= broken;
            }
        });
        self.spread();
    }

    fn pod_ends(&mut self, id: &WorkspaceId, uid: u64) {
        self.api.touch(id, |set| set.pods.retain(|pod| pod.uid != uid && !pod.ending));
        self.spread();
        self.after(10, Thing::Control(id.clone()));
    }

    // What befalls them.

    fn deed(&mut self, deed: Deed) {
        self.note(|| format!("{deed:?}"));
        match deed {
            Deed::Visit { replica, workspace } => self.visit(replica, workspace),
            Deed::Work { replica, workspace, time } => {
                let (life, workspace) = (self.replicas[replica].life, self.ids[workspace].clone());
                let until = self.now + millis(time);
                self.at(self.now, Thing::Use { replica, life, workspace, until });
            }
            Deed::Stop { replica, workspace } => self.ask(replica, workspace, |state, id, now| {
                state.stop(id, now);
            }),
            Deed::Delete { replica, workspace, volume } => {
                if volume {
                    self.may_lose_files.insert(self.ids[workspace].clone());
                }
                self.ask(replica, workspace, |state, id, now| {
                    state.delete(id, volume, now);
                });
            }
            Deed::Keep { replica, workspace, time } => self.keep(replica, workspace, millis(time)),
            Deed::Kill { replica, time, renamed } => self.kill(replica, millis(time), renamed),
            Deed::Replace { replica, time } => self.replace(replica, millis(time)),
            Deed::Halt { replica, time } => {
                let until = self.now + millis(time);
                let halted_until = &mut self.replicas[replica].halted_until;
                *halted_until = until.max(*halted_until);
                self.replicas[replica].hindered.push((self.now, until + 3_000));
            }
            Deed::CutOff { replica, time } => {
                let cut_until = &mut self.replicas[replica].cut_until;
                *cut_until = (self.now + millis(time)).max(*cut_until);
                self.deafen(replica, millis(time));
            }
            Deed::Jump { replica, seconds } => self.replicas[replica].clock_ms += seconds * 1000,
            Deed::Lead { replica, leads } => self.replicas[replica].leads = leads,
            Deed::LoseAnswers { replica, count } => self.replicas[replica].lose += count,
            Deed::TurnAway { replica, count } => self.replicas[replica].turn_away += count,
            Deed::Expire { replica } => {
                self.replicas[replica].lists = true;
                self.deliver_soon(replica, 0);
            }
            Deed::Restart { time } => {
                self.down_until = self.down_until.max(self.now + millis(time));
                for number in 0..self.replicas.len() {
                    self.replicas[number].lists = true;
                    self.deafen(number, millis(time));
                }
            }
            Deed::Freeze { time } => {
                self.frozen_until = self.frozen_until.max(self.now + millis(time));
                for number in 0..self.replicas.len() {
                    self.deafen(number, millis(time));
                }
            }
            Deed::Replaced { workspace } => self.replaced(workspace),
            Deed::Break { workspace, broken } => {
                let id = self.ids[workspace].clone();
                if broken {
                    self.broken.insert(id)
                } else {
                    self.broken.remove(&id)
                };
            }
            Deed::Scale { workspace, up } => self.scale(workspace, up),
        }
    }

    /// What a person asks for by way of a replica that serves.
    fn ask(
        &mut self,
        number: usize,
        workspace: usize,
        asked: impl FnOnce(&mut State, &WorkspaceId, std::time::Instant),
    ) {
        let (id, now) = (self.ids[workspace].clone(), instant(self.now));
        let replica = &mut self.replicas[number];
        if replica.serves() && self.now >= replica.halted_until {
            asked(&mut replica.state, &id, now);
            for replica in &mut self.replicas {
                replica.visits.remove(&id);
                replica.ended.insert(id.clone());
            }
            self.turn(number);
        }
    }

    fn visit(&mut self, number: usize, workspace: usize) {
        let id = self.ids[workspace].clone();
        let replica = &mut self.replicas[number];
        if !replica.serves() || self.now < replica.halted_until {
            return;
        }
        let asked = crate::Wake { running_max: 100, retry: self.chance.bool(), ..wake(&id) };
        match replica.state.wake(&asked, instant(self.now)) {
            // One that hears nothing may take for on its way what is long over: then somebody has to come again.
            Ok(_) if replica.deaf_since.is_some() => {}
            Ok(_) => drop(replica.visits.insert(id, self.now)),
            Err(_) => return,
        }
        self.turn(number);
    }

    fn keep(&mut self, number: usize, workspace: usize, time: Millis) {
        let (id, now) = (self.ids[workspace].clone(), instant(self.now));
        let replica = &mut self.replicas[number];
        if !replica.serves() || self.now < replica.halted_until {
            return;
        }
        if replica.state.keep(&id, std::time::Duration::from_millis(time), now).is_some()
            && let Some(generation) = replica.state.workspaces[&id].stage.generation().cloned()
        {
            // A later one replaces an earlier one.
            self.kept.retain(|(_, _, kept, ..)| *kept != id);
            self.kept.push((number, replica.life, id, generation, self.now, self.now + time));
        }
        self.turn(number);
    }

    fn kill(&mut self, number: usize, time: Millis, renamed: bool) {
        let replica = &mut self.replicas[number];
        if !replica.alive {
            return;
        }
        replica.alive = false;
        if renamed {
            replica.name = format!("usher-{number}-{}", replica.life);
        }
        self.after(time, Thing::Begin(number));
    }

    fn replace(&mut self, number: usize, time: Millis) {
        if !self.replicas[number].alive || self.now < self.replicas[number].halted_until {
            return;
        }
        if self.reaches(number) {
            let last = self.document(number, true);
            self.put_use(last);
        }
        self.kill(number, time, true);
    }

    fn replaced(&mut self, workspace: usize) {
        let id = self.ids[workspace].clone();
        if self.now < self.down_until.max(self.frozen_until) {
            return;
        }
        let Some(uid) = self.api.sets.get(&id).and_then(|set| set.pod()).map(|pod| pod.uid) else { return };
        self.api.touch(&id, |set| set.pods.iter_mut().for_each(|pod| pod.ending = true));
        self.spread();
        let takes = self.chance.u64(10..2_000);
        self.after(takes, Thing::PodEnds(id, uid));
    }

    fn scale(&mut self, workspace: usize, up: bool) {
        let id = self.ids[workspace].clone();
        if self.now < self.down_until.max(self.frozen_until) {
            return;
        }
        self.api.touch(&id, |set| {
            set.runs = up;
            set.starting &= up;
        });
        for replica in &mut self.replicas {
            if !up {
                replica.visits.remove(&id);
            }
            replica.ended.insert(id.clone());
        }
        self.spread();
        self.after(10, Thing::Control(id));
    }
}

fn millis(time: std::time::Duration) -> Millis {
    u64::try_from(time.as_millis()).unwrap()
}

fn short(action: &Action) -> String {
    match action {
        Action::Want(spec) => format!("want {}", spec.id),
        Action::Start(spec) => format!("start {}", spec.id),
        other => format!("{other:?}"),
    }
}
