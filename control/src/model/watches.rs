//! What Ushers hear of objects and records: late, after a silence, or listed anew.

use super::api::{Change, Set};
use super::driver::observed;
use super::world::{Thing, World};
use super::{Millis, Plant, instant};
use crate::peers::{PeerNews, Told};
use crate::usage::Kept;
use crate::{Event, Scope};
use config::WorkspaceId;
use std::collections::BTreeSet;

/// After so much silence a watch is blind.
const DEAF: Millis = 10_000;

impl World {
    /// Something changed: all who listen are told, each a little later.
    pub(super) fn spread(&mut self) {
        for number in 0..self.replicas.len() {
            self.deliver_soon(number, 0);
        }
    }

    pub(super) fn deliver_soon(&mut self, number: usize, which: usize) {
        if !self.replicas[number].alive || self.replicas[number].due[which] {
            return;
        }
        self.replicas[number].due[which] = true;
        let (lag, life) = (self.lag(), self.replicas[number].life);
        let thing = if which == 0 { Thing::Deliver(number, life) } else { Thing::DeliverUses(number, life) };
        self.after(lag, thing);
    }

    pub(super) fn deliver(&mut self, number: usize) {
        self.replicas[number].due[0] = false;
        if !self.reaches(number) {
            return;
        }
        if self.replicas[number].lists {
            self.list(number);
        } else {
            let position = self.replicas[number].position;
            if self.chance.u8(0..3) == 0 {
                self.hear_of_pods(number, position);
            }
            for index in position..self.api.log.len() {
                let change = self.api.log[index].clone();
                self.tell(number, &change.id, change.version, change.set);
            }
        }
        self.replicas[number].position = self.api.log.len();
        if self.replicas[number].blind {
            self.replicas[number].blind = false;
            self.fold(number, Event::Sighted(Scope::default(), true));
        }
        self.turn(number);
    }

    /// Pods are watched apart from their objects, and may be heard of first.
    fn hear_of_pods(&mut self, number: usize, position: usize) {
        for index in position..self.api.log.len() {
            let Change { id, version, set: Some(set) } = self.api.log[index].clone() else { continue };
            let replica = &mut self.replicas[number];
            let Some(read) = replica.read.get_mut(&id) else { continue };
            if read.uid != set.uid || read.version >= version || read.pods == set.pods {
                continue;
            }
            read.pods = set.pods;
            if replica.told.contains_key(&id) {
                let observed = observed(&id, read, self.plant);
                self.fold(number, Event::Seen(observed));
            }
        }
    }

    pub(super) fn list(&mut self, number: usize) {
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

    pub(super) fn tell(&mut self, number: usize, id: &WorkspaceId, version: u64, set: Option<Set>) {
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

    pub(super) fn fold(&mut self, number: usize, event: Event) {
        self.note(|| format!("    replica {number} sees {event:?}"));
        self.replicas[number].state.fold(event, instant(self.now));
    }

    pub(super) fn deliver_uses(&mut self, number: usize) {
        self.replicas[number].due[1] = false;
        if !self.reaches(number) {
            return;
        }
        let now = instant(self.now);
        for name in std::mem::take(&mut self.replicas[number].unheard_ends) {
            if self.api.deleted_uses.contains(&name) {
                self.replicas[number].state.hear(PeerNews::Deleted(name), now);
            }
        }
        // Of a record that was written twice meanwhile only the second is told.
        let standing = self.api.standing_uses();
        let from = std::mem::replace(&mut self.replicas[number].use_position, self.api.uses.len());
        for index in standing.into_iter().filter(|index| *index >= from) {
            let record = &self.api.uses[index];
            let document = &record.document;
            let replica = &mut self.replicas[number];
            let seen = match self.plant {
                Plant::WaitsForNobody => u64::MAX.into(),
                _ => document.seen.clone(),
            };
            if record.name == replica.name {
                replica.state.hear(PeerNews::Echo(seen), now);
                continue;
            }
            let uses = match self.plant {
                Plant::PeerUse => Vec::new(),
                Plant::ForgetsKept => {
                    let forgets = |kept| Kept { extended_until: None, kept_until: None, ..kept };
                    document.workspaces(now).map(|(id, kept)| (id, forgets(kept))).collect()
                }
                _ => document.workspaces(now).collect(),
            };
            for (what, at) in &record.used {
                let heard = replica.heard.entry(what.clone()).or_default();
                *heard = (*heard).max(*at);
            }
            let told = Told { name: record.name.clone(), seen, last: document.last, uses };
            replica.state.hear(PeerNews::Told(told), now);
        }
        self.turn(number);
    }

    /// All that could not hear listen again, from where they stopped.
    pub(super) fn listen_again(&mut self) {
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

    pub(super) fn deafen(&mut self, number: usize, time: Millis) {
        self.replicas[number].hindered.push((self.now, self.now + time + 3_000));
        if self.replicas[number].deaf_since.is_none() {
            self.replicas[number].deaf_since = Some(self.now);
            let life = self.replicas[number].life;
            self.after(DEAF, Thing::Deaf(number, life, self.now));
        }
        self.after(time, Thing::ServerBack);
    }

    pub(super) fn go_deaf(&mut self, number: usize, since: Millis) {
        if self.replicas[number].deaf_since == Some(since) && self.replicas[number].state.synced {
            self.replicas[number].blind = true;
            self.fold(number, Event::Sighted(Scope::default(), false));
            self.turn(number);
        }
    }
}
