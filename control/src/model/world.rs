//! Time, and everything that happens in it: the API server, the cluster's controllers, the network, the Ushers.

use super::api::{Api, UseRecord};
use super::driver::Request;
use super::replica::Replica;
use super::{Millis, Plant};
use crate::testing::id;
use crate::work::Act;
use crate::{Cause, Generation};
use ::tests::{Deed, Schedule};
use config::WorkspaceId;
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// After so long a request is given up by who made it.
pub(super) const PATIENCE: Millis = 900;
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
    Written(usize, u64, bool),
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

/// That an instance was kept, by way of a replica in a life of it.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) replica: usize,
    pub(super) life: u64,
    pub(super) workspace: WorkspaceId,
    pub(super) generation: Generation,
    pub(super) since: Millis,
    pub(super) until: Millis,
    /// Whether that replica wrote it down.
    pub(super) told: bool,
}

pub(super) struct World {
    pub(super) now: Millis,
    pub(super) api: Api,
    pub(super) replicas: Vec<Replica>,
    pub(super) ids: Vec<WorkspaceId>,
    pub(super) plant: Plant,
    /// What is unused for so long is stopped.
    pub(super) idle_after: Duration,
    pub(super) agenda: BTreeMap<(Millis, u64), Thing>,
    pub(super) count: u64,
    pub(super) chance: Rng,
    pub(super) down_until: Millis,
    pub(super) frozen_until: Millis,
    pub(super) broken: BTreeSet<WorkspaceId>,
    pub(super) marked_at: BTreeMap<WorkspaceId, Millis>,
    pub(super) started_at: BTreeMap<WorkspaceId, Millis>,
    pub(super) kept: Vec<Kept>,
    /// Whose files somebody asked to be deleted.
    pub(super) may_lose_files: BTreeSet<WorkspaceId>,
    pub(super) wrong: Option<String>,
    pub(super) trace: Option<Vec<String>>,
}

const NAMES: [&str; 6] = ["a", "b", "x--a", "c", "d", "y--b"];

impl World {
    pub(super) fn new(schedule: &Schedule, seed: u64, plant: Plant, traced: bool) -> Self {
        let mut chance = Rng::with_seed(seed);
        // Shorter than others wait for one that is silent, or longer.
        let idle_after = Duration::from_secs(if chance.u8(0..3) == 0 { 600 } else { 120 });
        let mut world = Self {
            now: 0,
            api: Api::default(),
            replicas: Vec::new(),
            ids: NAMES[..schedule.workspaces].iter().map(|name| id(name)).collect(),
            plant,
            idle_after,
            agenda: BTreeMap::new(),
            count: 0,
            chance,
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
            world.replicas.push(Replica::new(number, idle_after));
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

    /// Ends all that hinders anybody, or tells when the last of it ends.
    pub(super) fn heal(&mut self) -> Millis {
        self.broken.clear();
        for number in 0..self.replicas.len() {
            let replica = &mut self.replicas[number];
            (replica.cut_until, replica.lose, replica.turn_away) = (self.now, 0, 0);
            replica.leads = number == 0;
        }
        self.listen_again();
        let halted = self.replicas.iter().map(|replica| replica.halted_until);
        halted.chain([self.down_until, self.frozen_until]).max().unwrap_or(0).max(self.now)
    }

    pub(super) fn at(&mut self, at: Millis, thing: Thing) {
        self.count += 1;
        self.agenda.insert((at.max(self.now), self.count), thing);
    }

    pub(super) fn after(&mut self, millis: Millis, thing: Thing) {
        self.at(self.now + millis, thing);
    }

    pub(super) fn lag(&mut self) -> Millis {
        if self.chance.u8(0..8) == 0 { self.chance.u64(20..400) } else { self.chance.u64(1..20) }
    }

    pub(super) fn wrong(&mut self, what: String) {
        self.wrong.get_or_insert(what);
    }

    pub(super) fn note(&mut self, what: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:10.3} s  {}", now as f64 / 1000.0, what()));
        }
    }

    pub(super) fn reaches(&self, number: usize) -> bool {
        let replica = &self.replicas[number];
        self.now >= self.down_until && self.now >= self.frozen_until && self.now >= replica.cut_until
    }

    /// Whether this is for a replica that is there to take it; what is for a halted one waits.
    pub(super) fn is_for(&mut self, number: usize, life: u64) -> Option<Millis> {
        let replica = &self.replicas[number];
        if !replica.alive || replica.life != life {
            return None;
        }
        Some(replica.halted_until)
    }

    pub(super) fn happen(&mut self, thing: Thing) {
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
            Thing::Written(number, life, done) => self.written(number, life, done),
            Thing::Use { replica, life, workspace, until } => self.use_it(replica, life, workspace, until),
            Thing::Control(id) => self.control(&id),
            Thing::PodAccepts(id, uid) => self.pod_accepts(&id, uid),
            Thing::PodEnds(id, uid) => self.pod_ends(&id, uid),
            Thing::ServerBack => self.listen_again(),
        }
    }
}
