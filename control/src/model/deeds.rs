//! What befalls Ushers, workspaces and the API server, and what people do.

use super::world::{Kept, Thing, World};
use super::{Millis, instant};
use crate::Generation;
use crate::state::State;
use crate::testing::wake;
use ::tests::Deed;
use config::WorkspaceId;
use std::time::{Duration, Instant};

impl World {
    pub(super) fn deed(&mut self, deed: Deed) {
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
                    state.delete(id, volume, None, now);
                });
            }
            Deed::Keep { replica, workspace, time } => self.keep(replica, workspace, millis(time)),
            Deed::Kill { replica, time } => self.kill(replica, millis(time)),
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
                self.deafen_all(millis(time), true);
            }
            Deed::Freeze { time } => {
                self.frozen_until = self.frozen_until.max(self.now + millis(time));
                self.deafen_all(millis(time), false);
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

    /// Nobody hears anything for a while; and, if it `lists`, is then told all that is there.
    fn deafen_all(&mut self, time: Millis, lists: bool) {
        for number in 0..self.replicas.len() {
            self.replicas[number].lists |= lists;
            self.deafen(number, time);
        }
    }

    /// What a person asks for by way of a replica that serves.
    pub(super) fn ask(
        &mut self,
        number: usize,
        workspace: usize,
        asked: impl FnOnce(&mut State, &WorkspaceId, Instant),
    ) {
        let (id, now) = (self.ids[workspace].clone(), instant(self.now));
        let replica = &mut self.replicas[number];
        if replica.serves() && self.now >= replica.halted_until {
            asked(&mut replica.state, &id, now);
            self.kept.retain(|kept| kept.workspace != id);
            // No use before this is a reason to let it run.
            let of_others = |(workspace, _): &(WorkspaceId, Generation), _: &mut Millis| *workspace != id;
            for replica in &mut self.replicas {
                replica.visits.remove(&id);
                replica.ended.insert(id.clone());
                replica.used.retain(of_others);
                replica.heard.retain(of_others);
            }
            self.api.uses.iter_mut().for_each(|record| record.used.retain(of_others));
            self.turn(number);
        }
    }

    pub(super) fn visit(&mut self, number: usize, workspace: usize) {
        let id = self.ids[workspace].clone();
        let late = self.ended_unheard(number, &id);
        let replica = &mut self.replicas[number];
        if !replica.serves() || self.now < replica.halted_until {
            return;
        }
        let asked = crate::Wake { running_max: 100, retry: self.chance.bool(), ..wake(&id) };
        match replica.state.wake(&asked, instant(self.now)) {
            // One that hears nothing, or late, may take for on its way what was ended: then somebody has to come again.
            Ok(_) if replica.deaf_since.is_some() || late => {}
            Ok(_) => drop(replica.visits.insert(id, self.now)),
            Err(_) => return,
        }
        self.turn(number);
    }

    /// Whether a workspace was ended, or is about to be, and this replica has not heard of it yet.
    fn ended_unheard(&self, number: usize, id: &WorkspaceId) -> bool {
        let replica = &self.replicas[number];
        let mut unheard = self.api.log[replica.position..].iter().filter(|change| change.id == *id);
        let ended = unheard.any(|change| {
            let set = change.set.as_ref();
            set.is_none_or(|set| set.deleting || (!set.runs && set.wanted.is_none()))
        });
        let asked = self.replicas.iter().any(|other| other.alive && other.phase(id) == "stopping");
        match replica.phase(id) {
            // It goes on when the stop is done.
            "stopping" => false,
            // It is wanted anew, which comes before the end that is under way or after it.
            "stopped" | "none" | "failed" => asked,
            _ => ended || asked,
        }
    }

    pub(super) fn keep(&mut self, number: usize, workspace: usize, time: Millis) {
        let (id, now) = (self.ids[workspace].clone(), instant(self.now));
        let replica = &mut self.replicas[number];
        if !replica.serves() || self.now < replica.halted_until {
            return;
        }
        if replica.state.keep(&id, Duration::from_millis(time), now).is_some()
            && let Some(generation) = replica.state.workspaces[&id].stage.generation().cloned()
        {
            // A later one replaces an earlier one.
            self.kept.retain(|kept| kept.workspace != id);
            let (life, since, until) = (replica.life, self.now, self.now + time);
            let (workspace, told) = (id, false);
            self.kept.push(Kept { replica: number, life, workspace, generation, since, until, told });
        }
        self.turn(number);
    }

    pub(super) fn kill(&mut self, number: usize, time: Millis) {
        let replica = &mut self.replicas[number];
        if !replica.alive {
            return;
        }
        replica.alive = false;
        // Each life has a name of its own.
        replica.name = format!("usher-{number}-{}", replica.life);
        self.after(time, Thing::Begin(number));
    }

    pub(super) fn replace(&mut self, number: usize, time: Millis) {
        if !self.replicas[number].alive || self.now < self.replicas[number].halted_until {
            return;
        }
        if self.reaches(number) {
            let last = self.document(number, true);
            self.put_use(last);
            self.has_told(number, self.replicas[number].life, self.now);
        }
        self.kill(number, time);
    }

    pub(super) fn replaced(&mut self, workspace: usize) {
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

    pub(super) fn scale(&mut self, workspace: usize, up: bool) {
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

fn millis(time: Duration) -> Millis {
    u64::try_from(time.as_millis()).unwrap()
}
