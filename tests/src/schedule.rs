//! What may happen to several Ushers before one cluster, drawn at random and the same for everybody who carries it out:
//! a model of the cluster, or a real one.

use fastrand::Rng;
use std::fmt;
use std::time::Duration;

/// A number of Ushers and workspaces, and what befalls them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// How many Ushers there are.
    pub replicas: usize,
    /// How many workspaces there are.
    pub workspaces: usize,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

/// Something that happens, so long after the step before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// How long after.
    pub after: Duration,
    /// What.
    pub deed: Deed,
}

/// What somebody does, or what befalls a part. Replicas and workspaces are numbers from 0.
#[expect(missing_docs, reason = "each deed says what its values are")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// A visit to a workspace by way of a replica: starts it if it does not run.
    Visit { replica: usize, workspace: usize },
    /// Somebody uses a workspace by way of a replica, again and again, for so long; nothing if it is not ready there.
    Work { replica: usize, workspace: usize, time: Duration },
    /// Its owner stops a workspace.
    Stop { replica: usize, workspace: usize },
    /// Its owner deletes a workspace, perhaps with its files.
    Delete { replica: usize, workspace: usize, volume: bool },
    /// Its owner keeps a workspace for so long.
    Keep { replica: usize, workspace: usize, time: Duration },
    /// A replica is killed without a warning, and begins anew so much later under a new name.
    Kill { replica: usize, time: Duration },
    /// A replica is ended in order, and begins anew so much later under a new name.
    Replace { replica: usize, time: Duration },
    /// A replica is halted for so long, and then goes on as if nothing had been.
    Halt { replica: usize, time: Duration },
    /// A replica cannot reach the API server for so long.
    CutOff { replica: usize, time: Duration },
    /// The wall clock of a replica jumps.
    Jump { replica: usize, seconds: i64 },
    /// A replica becomes the one that stops what is idle, or stops to be it. There may be none or several.
    Lead { replica: usize, leads: bool },
    /// What a replica asks the API server for next is done, and the answers are lost.
    LoseAnswers { replica: usize, count: u32 },
    /// What a replica asks the API server for next is turned away, since it has too much to do.
    TurnAway { replica: usize, count: u32 },
    /// The position of a replica's watches is too old: it has to list.
    Expire { replica: usize },
    /// The API server is away for so long, and has forgotten all positions when it is back.
    Restart { time: Duration },
    /// The API server answers nothing for so long, and then goes on with what it was asked.
    Freeze { time: Duration },
    /// A workspace ends by itself and is replaced by the cluster: it crashed, was evicted, or its pod was deleted.
    Replaced { workspace: usize },
    /// A workspace cannot start from now on, or can again.
    Break { workspace: usize, broken: bool },
    /// Somebody scales a workspace by hand.
    Scale { workspace: usize, up: bool },
}

/// A drawing with weights, each with what it makes.
type Draw = (u32, fn(&mut Scene<'_>) -> Deed);

const DRAWS: [Draw; 19] = [
    (30, |s| Deed::Visit { replica: s.replica(), workspace: s.workspace() }),
    (25, |s| Deed::Work { replica: s.replica(), workspace: s.workspace(), time: s.seconds(1, 400) }),
    (4, |s| Deed::Stop { replica: s.replica(), workspace: s.workspace() }),
    (2, |s| Deed::Delete { replica: s.replica(), workspace: s.workspace(), volume: s.chance.bool() }),
    (2, |s| Deed::Keep { replica: s.replica(), workspace: s.workspace(), time: s.seconds(60, 900) }),
    (4, |s| Deed::Kill { replica: s.replica(), time: s.seconds(1, 30) }),
    (2, |s| Deed::Replace { replica: s.replica(), time: s.seconds(1, 30) }),
    (3, |s| Deed::Halt { replica: s.replica(), time: s.seconds(1, 400) }),
    (6, |s| Deed::CutOff { replica: s.replica(), time: s.seconds(1, 500) }),
    (3, |s| Deed::Jump { replica: s.replica(), seconds: s.chance.i64(-300..=300) }),
    (4, |s| Deed::Lead { replica: s.replica(), leads: s.chance.bool() }),
    (6, |s| Deed::LoseAnswers { replica: s.replica(), count: s.chance.u32(1..4) }),
    (3, |s| Deed::TurnAway { replica: s.replica(), count: s.chance.u32(1..4) }),
    (4, |s| Deed::Expire { replica: s.replica() }),
    (3, |s| Deed::Restart { time: s.seconds(1, 40) }),
    (2, |s| Deed::Freeze { time: s.seconds(1, 40) }),
    (3, |s| Deed::Replaced { workspace: s.workspace() }),
    (2, |s| Deed::Break { workspace: s.workspace(), broken: s.chance.bool() }),
    (2, |s| Deed::Scale { workspace: s.workspace(), up: s.chance.bool() }),
];

struct Scene<'a> {
    chance: &'a mut Rng,
    replicas: usize,
    workspaces: usize,
}

impl Schedule {
    /// Draws one: some minutes of rush and calm.
    pub fn draw(chance: &mut Rng) -> Self {
        let (replicas, workspaces) = (chance.usize(1..=3), chance.usize(1..=6));
        Self::draw_of(chance, replicas, workspaces)
    }

    /// As [`Schedule::draw`], with so many replicas and workspaces.
    pub fn draw_of(chance: &mut Rng, replicas: usize, workspaces: usize) -> Self {
        let length = chance.usize(5..40);
        let mut scene = Scene { chance, replicas, workspaces };
        let mut steps = Vec::new();
        while steps.len() < length {
            match scene.chance.u8(0..16) {
                0..2 => scene.rush(&mut steps),
                2..4 => scene.lull(&mut steps),
                _ => steps.push(Step { after: scene.pause(), deed: scene.deed() }),
            }
        }
        Self { replicas, workspaces, steps }
    }

    /// Only what happens within so long.
    #[must_use]
    pub fn within(mut self, time: Duration) -> Self {
        let mut at = Duration::ZERO;
        self.steps.retain(|step| {
            at += step.after;
            at <= time
        });
        self
    }
}

impl Scene<'_> {
    fn replica(&mut self) -> usize {
        self.chance.usize(0..self.replicas)
    }

    /// The first is drawn most often: much of what can go wrong takes several deeds with one workspace.
    fn workspace(&mut self) -> usize {
        if self.chance.u8(0..3) == 0 { 0 } else { self.chance.usize(0..self.workspaces) }
    }

    fn seconds(&mut self, least: u64, most: u64) -> Duration {
        // Short ones as often as long ones.
        let most = if self.chance.bool() { most } else { (most / 10).max(least) };
        Duration::from_secs(self.chance.u64(least..=most))
    }

    fn pause(&mut self) -> Duration {
        let most = match self.chance.u8(0..10) {
            0..4 => 20,
            4..7 => 2_000,
            7..9 => 30_000,
            _ => 200_000,
        };
        Duration::from_millis(self.chance.u64(0..=most))
    }

    /// Many come at the same time, perhaps by way of replicas whose clocks differ.
    fn rush(&mut self, steps: &mut Vec<Step>) {
        if self.chance.bool() {
            let deed = Deed::Jump { replica: self.replica(), seconds: self.chance.i64(-300..=300) };
            steps.push(Step { after: self.pause(), deed });
        }
        for _ in 0..self.chance.usize(3..10) {
            let deed =
                Deed::Visit { replica: self.replica(), workspace: self.chance.usize(0..self.workspaces) };
            let after = Duration::from_millis(self.chance.u64(0..=1_500));
            steps.push(Step { after, deed });
        }
    }

    /// A workspace that nobody uses any more is about to be stopped, and something comes between.
    fn lull(&mut self, steps: &mut Vec<Step>) {
        let (workspace, replica) = (self.workspace(), self.replica());
        let mut add = |after: u64, deed| steps.push(Step { after: Duration::from_millis(after), deed });
        add(self.chance.u64(0..=2_000), Deed::Visit { replica, workspace });
        let time = Duration::from_secs(self.chance.u64(1..=60));
        add(self.chance.u64(3_500..=8_000), Deed::Work { replica, workspace, time });
        if self.chance.u8(0..4) == 0 {
            let time = Duration::from_secs(self.chance.u64(300..=900));
            add(100, Deed::Keep { replica: self.replica(), workspace, time });
        }
        let mut after = self.chance.u64(60_000..=240_000);
        for _ in 0..self.chance.usize(1..=4) {
            let (replica, short) = (self.replica(), Duration::from_secs(self.chance.u64(1..=90)));
            let deed = match self.chance.u8(0..12) {
                0..4 => Deed::Work { replica, workspace, time: short },
                4..6 => Deed::Halt { replica, time: short },
                6..8 => Deed::Replace { replica, time: short },
                8 => Deed::Kill { replica, time: short },
                9 => Deed::LoseAnswers { replica, count: 1 },
                10 => Deed::CutOff { replica, time: short },
                _ => Deed::Visit { replica, workspace },
            };
            add(after, deed);
            after = self.chance.u64(0..=15_000);
        }
    }

    fn deed(&mut self) -> Deed {
        let mut left = self.chance.u32(0..DRAWS.iter().map(|(weight, _)| weight).sum());
        for (weight, draw) in DRAWS {
            match left.checked_sub(weight) {
                Some(rest) => left = rest,
                None => return draw(self),
            }
        }
        unreachable!("less was drawn than the sum of all weights")
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} replicas, {} workspaces", self.replicas, self.workspaces)?;
        let mut at = Duration::ZERO;
        for Step { after, deed } in &self.steps {
            at += *after;
            writeln!(f, "{:10.3} s  {deed:?}", at.as_secs_f64())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_the_same_again_and_every_deed_is_drawn() {
        let draw = |seed| Schedule::draw(&mut Rng::with_seed(seed));
        assert_eq!(draw(7), draw(7));
        let deeds: std::collections::HashSet<_> = (0..200)
            .flat_map(|seed| draw(seed).steps)
            .map(|step| std::mem::discriminant(&step.deed))
            .collect();
        assert_eq!(deeds.len(), DRAWS.len());
    }
}
