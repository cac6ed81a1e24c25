//! Requests of Ushers: sent, carried out, answered, or lost on the way.

use super::api::{Refused, Wanted};
use super::driver::{Done, Request};
use super::world::{Fate, PATIENCE, Thing, World};
use super::{SERVER_CLOCK, instant, judge};
use crate::state::Outcome;
use crate::testing::cause;
use crate::work::Act;
use crate::{Action, Cause, CauseCode};

impl World {
    pub(super) fn send(&mut self, number: usize, act: Act) {
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

    pub(super) fn commit(&mut self, number: usize, life: u64, request: &Request, act: Act, fate: Fate) {
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
        if matches!(done, Ok(None)) {
            judge::nothing_to_do(self, &act.action);
        }
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
                Refused::Conflict => cause(CauseCode::Conflict),
                Refused::NotTheOwner => cause(CauseCode::NotTheOwner),
            });
            self.after(lag, Thing::Answer(number, life, act, result));
        }
    }

    pub(super) fn answer(&mut self, number: usize, act: Act, result: Result<Option<u64>, Cause>) {
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
        // Of what is not there any more a driver is told so (404), and begins anew.
        let is_outdated = result.as_ref().is_err_and(|cause| cause.code == CauseCode::Conflict);
        if is_outdated && !self.api.sets.contains_key(&act.id) {
            let version = self.api.log.last().map_or(0, |change| change.version);
            self.tell(number, &act.id, version, None);
        }
        let replica = &mut self.replicas[number];
        let next = replica.in_turn.done(&act.id);
        let Act { id, attempt, action } = act;
        let outcome = Outcome::Acted { id, attempt, action, result: result.map(drop) };
        replica.state.conclude(outcome, instant(self.now));
        if let Some(next) = next {
            self.send(number, next);
        }
        self.turn(number);
    }
}

fn short(action: &Action) -> String {
    match action {
        Action::Want(spec) => format!("want {}", spec.id),
        Action::Start(spec) => format!("start {}", spec.id),
        other => format!("{other:?}"),
    }
}
