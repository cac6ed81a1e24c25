//! Several Ushers before a model of a cluster: what they decide is what runs in production, everything else is told
//! to happen by a [`Schedule`], in a time that is a number.
//!
//! The model has what the promises rest on: objects with versions and preconditions, watches that lag, break and list
//! anew, answers that are lost, requests that a frozen server carries out when nobody waits for them any more,
//! replicas that are killed, halted, cut off, whose clocks jump. What must hold stands in [`judge`].

mod api;
mod driver;
mod judge;
mod replica;
mod world;

use crate::Generation;
use crate::state::Settings;
use ::tests::Schedule;
use config::WorkspaceId;
use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use world::World;

/// Milliseconds since the beginning.
type Millis = u64;

/// When instances were last used.
type Uses = HashMap<(WorkspaceId, Generation), Millis>;

/// How many may be starting at a time.
const CAP: usize = 2;
/// What the server's clock shows at the beginning, in seconds.
const SERVER_CLOCK: i64 = 1_700_000_000;

/// A mistake that is made on purpose, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plant {
    Nothing,
    /// A stop is carried out whether its mark stands or not.
    MarkPrecondition,
    /// What others tell of uses is not heard.
    PeerUse,
    /// A start makes one more each time it is asked for.
    StartTwice,
    /// A list empties the table before it fills it.
    EmptyOnList,
    /// The queue goes by the clocks of those who asked.
    LocalClock,
    /// One that cannot tell what it knows serves on.
    NoCutOff,
    /// One serves before it has made itself known.
    Unregistered,
    /// Whoever stops does not wait until it heard itself.
    NoEcho,
}

fn instant(at: Millis) -> Instant {
    static BEGINNING: LazyLock<Instant> = LazyLock::new(|| {
        crate::activity::now_ms();
        Instant::now()
    });
    *BEGINNING + Duration::from_millis(at)
}

fn settings() -> Settings {
    let idle =
        config::Idle { idle_after: Some(Duration::from_secs(world::IDLE_AFTER)), ..crate::testing::idle() };
    crate::testing::settings(CAP, 100, idle)
}

/// Whether this is the generation of a pod.
fn is(generation: &Generation, uid: u64) -> bool {
    *generation == crate::testing::generation(uid)
}

/// Carries a schedule out, lets all come to rest, and then waits until everything is unused and stopped.
fn carry_out(schedule: &Schedule, seed: u64, plant: Plant, traced: bool) -> Result<(), String> {
    let mut world = World::new(schedule, seed, plant, traced);
    let last = world.last_deed();
    world.run(last)?;
    let calm = world.heal();
    world.run(calm + 150_000)?;
    come_to_rest(&mut world)?;
    for _ in 0..40 {
        if world.api.sets.values().all(|set| !set.runs && set.pods.is_empty()) {
            return come_to_rest(&mut world);
        }
        let now = world.now;
        world.run(now + 60_000)?;
    }
    Err(world.explain("what nobody uses runs on"))
}

/// What is stopped at this very moment is on its way still: then a few seconds later.
fn come_to_rest(world: &mut World) -> Result<(), String> {
    let end = world.now + 20_000;
    loop {
        match judge::rest(world) {
            Err(_) if world.now < end => world.run(world.now + 2_000)?,
            result => return result.map_err(|wrong| world.explain(&wrong)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fastrand::Rng;

    /// Carries out so many; gives how many it took to find something wrong.
    fn search(chance: &mut Rng, count: u64, plant: Plant) -> Option<u64> {
        (1..=count).find(|_| {
            let seed = chance.u64(..);
            let schedule = Schedule::draw(&mut Rng::with_seed(seed));
            carry_out(&schedule, seed, plant, false).is_err()
        })
    }

    fn all_hold(count: u64) {
        let mut chance = ::tests::chance();
        for number in 0..count {
            let seed = chance.u64(..);
            let schedule = Schedule::draw(&mut Rng::with_seed(seed));
            if carry_out(&schedule, seed, Plant::Nothing, false).is_err() {
                let wrong = carry_out(&schedule, seed, Plant::Nothing, true).unwrap_err();
                panic!("schedule {number} of {count}: {schedule}\n{wrong}");
            }
        }
    }

    #[test]
    fn whatever_befalls_them_several_ushers_agree() {
        all_hold(2_000);
    }

    #[test]
    #[ignore = "survey"]
    fn survey() {
        let count: u64 = std::env::var("COUNT").map_or(2000, |c| c.parse().unwrap());
        let mut chance = ::tests::chance();
        let mut worst: std::collections::BTreeMap<String, (u64, usize, u64)> = Default::default();
        for _ in 0..count {
            let seed = chance.u64(..);
            let schedule = Schedule::draw(&mut Rng::with_seed(seed));
            let s2 = schedule.clone();
            let run = std::panic::catch_unwind(move || carry_out(&s2, seed, Plant::Nothing, false));
            if let Err(wrong) = run.unwrap_or_else(|_| Err("panic: x".to_owned())) {
                let line: String = wrong
                    .lines()
                    .next()
                    .unwrap()
                    .split(": ")
                    .nth(1)
                    .unwrap()
                    .chars()
                    .filter(|c| !c.is_ascii_digit())
                    .take(70)
                    .collect();
                let entry = worst.entry(line).or_insert((0, usize::MAX, 0));
                entry.0 += 1;
                if schedule.steps.len() < entry.1 {
                    (entry.1, entry.2) = (schedule.steps.len(), seed);
                }
            }
        }
        for (line, (count, steps, seed)) in &worst {
            println!("{count:6} {steps:3} {seed:20} {line}");
        }
        let pick =
            std::env::var("PICK").ok().map(|s| s.parse().unwrap()).or(worst.values().next().map(|w| w.2));
        if let Some(seed) = pick {
            let schedule = Schedule::draw(&mut Rng::with_seed(seed));
            println!(
                "{schedule}{:?}",
                carry_out(&schedule, seed, Plant::Nothing, true).map_err(|e| println!("{e}"))
            );
        }
    }

    #[test]
    #[ignore = "takes minutes; `make soak` runs it"]
    fn whatever_befalls_them_several_ushers_agree_two_hundred_thousand_times() {
        all_hold(200_000);
    }

    #[test]
    fn every_mistake_that_is_planted_is_found() {
        let plants = [
            Plant::MarkPrecondition,
            Plant::PeerUse,
            Plant::StartTwice,
            Plant::EmptyOnList,
            Plant::LocalClock,
            Plant::NoCutOff,
        ];
        for plant in plants {
            let found = search(&mut Rng::with_seed(1), 20_000, plant);
            println!("{plant:?}: {found:?}");
            assert!(found.is_some(), "{plant:?}");
        }
    }
}
