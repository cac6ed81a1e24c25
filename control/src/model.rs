//! Several Ushers before a model of a cluster: what they decide is what runs in production, everything else is told
//! to happen by a [`Schedule`], in a time that is a number.
//!
//! The model has what the promises rest on: objects with versions and preconditions, watches that lag, break and list
//! anew, answers that are lost, requests that a frozen server carries out when nobody waits for them any more,
//! replicas that are killed, halted, cut off, whose clocks jump. What must hold stands in [`judge`].

mod api;
mod cluster;
mod deeds;
mod driver;
mod judge;
mod lives;
mod replica;
mod requests;
mod watches;
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
    /// What is known is taken for what the server has: nothing is asked where nothing seems left to do.
    BelievesItsCache,
    /// A write goes over what was written since what it was decided on.
    AnyVersion,
    /// A mark is not taken back by who knows of a use.
    DeafToMarks,
    /// One that leads stops what it marked without waiting for the others.
    WaitsForNobody,
    /// A record of use says nothing of what is kept for longer.
    ForgetsKept,
    /// A start is carried out although nothing wants it any more.
    StartsUnwanted,
    /// The record of one that was killed is deleted before the others have taken over what it knew.
    ClearsAwayAtOnce,
}

#[cfg(test)]
const PLANTS: [Plant; 13] = [
    Plant::MarkPrecondition,
    Plant::PeerUse,
    Plant::StartTwice,
    Plant::EmptyOnList,
    Plant::LocalClock,
    Plant::NoCutOff,
    Plant::BelievesItsCache,
    Plant::AnyVersion,
    Plant::DeafToMarks,
    Plant::WaitsForNobody,
    Plant::ForgetsKept,
    Plant::StartsUnwanted,
    Plant::ClearsAwayAtOnce,
];

fn instant(at: Millis) -> Instant {
    static BEGINNING: LazyLock<Instant> = LazyLock::new(|| {
        crate::activity::now_ms();
        Instant::now()
    });
    *BEGINNING + Duration::from_millis(at)
}

fn settings(idle_after: Duration) -> Settings {
    let idle = config::Idle { idle_after: Some(idle_after), ..crate::testing::idle() };
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
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    /// What is wrong with a schedule, if anything is.
    fn wrong(seed: u64, plant: Plant, traced: bool) -> Option<String> {
        let schedule = Schedule::draw(&mut Rng::with_seed(seed));
        let carried_out = catch_unwind(AssertUnwindSafe(|| carry_out(&schedule, seed, plant, traced)));
        let wrong = carried_out.unwrap_or_else(|_| Err("it panicked".to_owned())).err()?;
        Some(format!("the schedule with the seed {seed}, {schedule}\n{wrong}"))
    }

    /// The first of so many with which something is wrong.
    fn first_wrong(chance: &mut Rng, count: usize, plant: Plant) -> Option<(usize, u64)> {
        let seeds: Vec<_> = std::iter::repeat_with(|| chance.u64(..)).take(count).collect();
        let (next, found) = (AtomicUsize::new(0), AtomicUsize::new(usize::MAX));
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Relaxed);
                        if number >= count || number > found.load(Relaxed) {
                            return;
                        }
                        if wrong(seeds[number], plant, false).is_some() {
                            found.fetch_min(number, Relaxed);
                        }
                    }
                });
            }
        });
        let found = found.into_inner();
        (found < count).then(|| (found, seeds[found]))
    }

    /// With `USHER_SCHEDULE` only the one with this seed: it is told with all that happens in it.
    fn all_hold(count: usize) {
        if let Ok(seed) = std::env::var("USHER_SCHEDULE") {
            let wrong = wrong(seed.parse().expect("USHER_SCHEDULE is a number"), Plant::Nothing, true);
            return assert!(wrong.is_none(), "{}", wrong.unwrap_or_default());
        }
        if let Some((number, seed)) = first_wrong(&mut ::tests::chance(), count, Plant::Nothing) {
            panic!("number {number} of {count}: {}", wrong(seed, Plant::Nothing, true).unwrap_or_default());
        }
    }

    #[test]
    fn whatever_befalls_them_several_ushers_agree() {
        all_hold(2_000);
    }

    #[test]
    #[ignore = "takes many minutes; `make soak` runs it"]
    fn whatever_befalls_them_several_ushers_agree_two_hundred_thousand_times() {
        all_hold(200_000);
    }

    #[test]
    #[ignore = "takes a minute; `make soak` runs it"]
    fn every_mistake_that_is_planted_is_found() {
        for plant in PLANTS {
            let found = first_wrong(&mut Rng::with_seed(1), 100_000, plant);
            let (number, seed) = found.unwrap_or_else(|| panic!("{plant:?} is not found"));
            assert_eq!(wrong(seed, Plant::Nothing, false), None, "it is no mistake that was planted");
            let wrong = wrong(seed, plant, false).unwrap_or_default();
            let what = wrong.lines().find(|line| line.starts_with("after")).unwrap_or_default();
            println!("{plant:?} is found by schedule {}: {what:.150}", number + 1);
        }
    }
}
