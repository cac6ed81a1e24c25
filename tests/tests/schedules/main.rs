//! Schedules that the model of several Ushers is put through as well, carried out: three processes, each with a cable
//! and a clock of its own, before a real cluster.
//!
//! Times are a twentieth of the model's. What is left out: a workspace that cannot start, one that is kept (causes and
//! rules of idleness have tests of their own), and whatever takes as long as others wait for one that is silent: five
//! minutes, which no configuration shortens. An API server that is restarted or frozen is that for real where the
//! cluster is this test's own, and else to these three alone.

mod judge;
mod site;

use site::Site;
use std::time::{Duration, Instant};
use tests::{Cluster, Schedule, chance};

/// By how much everything is faster than in the model.
const SCALE: u32 = 20;
/// How long of a schedule is carried out, by the model's time.
const LENGTH: Duration = Duration::from_secs(300);

/// Carries out so many schedules, one after the other.
async fn carry_out(cluster: &Cluster, own: bool, count: usize) {
    let mut chance = chance();
    for number in 1..=count {
        let seed = chance.u64(..);
        let schedule = Schedule::draw_of(&mut fastrand::Rng::with_seed(seed), 3, 3).within(LENGTH);
        eprintln!("schedule {number} of {count}, with the seed {seed}: {schedule}");
        let began = Instant::now();
        let mut site = Site::new(cluster, own, &schedule).await;
        site.carry_out(&schedule).await;
        site.come_to_rest().await;
        site.end().await;
        println!(
            "schedule {number}: {} steps in {:.1} s: {}",
            schedule.steps.len(),
            began.elapsed().as_secs_f64(),
            site.said()
        );
    }
}

/// With `USHER_SCHEDULES` that many.
#[tokio::test]
async fn three_ushers_agree_whatever_befalls_them() {
    let cluster = Cluster::shared();
    carry_out(&cluster, false, 1).await;
}

#[tokio::test]
#[ignore = "takes half an hour; `make soak` runs it"]
async fn three_ushers_agree_sixty_times_whatever_befalls_them_and_the_api_server() {
    let cluster = Cluster::alone();
    let count = std::env::var("USHER_SCHEDULES").map_or(60, |count| count.parse().expect("a number"));
    carry_out(&cluster, true, count).await;
}
