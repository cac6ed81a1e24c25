use super::*;
use crate::state::Settings;
use crate::testing::*;
use crate::usage::Restored;
use crate::{CauseCode, Entry, ObservedPhase, Phase, Workspaces, table};
use config::{Idle, WorkspaceId};
use futures_util::stream;
use prometheus::Registry;
use serde_json::json;
use std::sync::Mutex;
use tokio::task::JoinHandle;

struct Lab {
    workspaces: Workspaces,
    driver: Arc<FakeDriver>,
    registry: Registry,
    shutdown: CancellationToken,
    /// What applications say when they are asked whether they compute.
    answer: Arc<Mutex<Option<serde_json::Value>>>,
    running: JoinHandle<Result<(), LoopError>>,
}

/// A control loop whose workspaces accept connections one second after they were started.
fn lab(settings: Settings) -> Lab {
    lab_that_reaches_after(settings, secs(1))
}

fn lab_that_reaches_after(settings: Settings, after: Duration) -> Lab {
    lab_with(settings, after, Restored::default())
}

fn lab_with(settings: Settings, after: Duration, restored: Restored) -> Lab {
    let driver = FakeDriver::new();
    driver.tell(Event::Synced);
    let (workspaces, publisher, requests) = table::table(driver.clone());
    let (registry, shutdown) = (Registry::new(), CancellationToken::new());
    let sources = Sources {
        events: driver.observe(),
        requests,
        others: None,
        settings: stream::pending().boxed(),
        shutdown: shutdown.clone(),
    };
    let metrics = Arc::new(Metrics::new(&registry).unwrap());
    let state = State::new(settings, restored, false);
    let answer = Arc::new(Mutex::new(None));
    let probes = probes(after, answer.clone());
    let control_loop = ControlLoop::new(state, publisher, driver.clone(), probes, metrics);
    let running = tokio::spawn(control_loop.run(sources));
    Lab { workspaces, driver, registry, shutdown, answer, running }
}

impl Lab {
    async fn wake(&self, id: &WorkspaceId) {
        self.workspaces.wake(wake(id)).await.unwrap();
    }

    fn phase(&self, id: &WorkspaceId) -> &'static str {
        self.workspaces.lookup(id).map_or("none", |entry| entry.phase.as_str())
    }

    /// Waits for a workspace to come to a phase; paused time passes meanwhile.
    async fn until(&self, id: &WorkspaceId, phase: &str) -> Arc<Entry> {
        let mut changes = self.workspaces.changes();
        let waited = async {
            loop {
                changes.borrow_and_update();
                match self.workspaces.lookup(id) {
                    Some(entry) if entry.phase.as_str() == phase => return entry,
                    _ => changes.changed().await.unwrap(),
                }
            }
        };
        let waited = tokio::time::timeout(secs(3600), waited).await;
        waited.unwrap_or_else(|_| panic!("{id} is {} and not {phase}", self.phase(id)))
    }

    async fn ready(&self, id: &WorkspaceId) -> crate::Route {
        self.wake(id).await;
        match &self.until(id, "ready").await.phase {
            Phase::Ready(route) => route.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn metric(&self, name: &str, label: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        let fits = |m: &&prometheus::proto::Metric| {
            m.get_label().is_empty() || m.get_label().iter().any(|l| l.value() == label)
        };
        let metric = family.get_metric().iter().find(fits);
        metric.map_or(0.0, |m| m.get_counter().get_value() + m.get_gauge().get_value())
    }
}

fn used_for(idle_after: u64) -> Idle {
    Idle { idle_after: Some(secs(idle_after)), ..idle() }
}

#[tokio::test(start_paused = true)]
async fn a_wake_leads_to_a_ready_workspace_once_however_often_it_is_asked() {
    let lab = lab(settings(8, 100, idle()));
    let alice = id("alice");
    for _ in 0..10 {
        lab.wake(&alice).await;
    }
    assert_eq!(lab.phase(&alice), "starting");
    let entry = lab.until(&alice, "ready").await;
    lab.wake(&alice).await;
    assert_eq!(lab.driver.log(), ["start alice"]);
    let why = entry.why_alive(clock::now()).unwrap();
    assert_eq!((why.reason, why.warn, why.can_extend), ("started", false, true));
    assert_eq!(lab.metric("usher_spawns_total", "ready"), 1.0);
    assert_eq!(lab.metric("usher_workspaces", "ready"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn two_hundred_at_once_are_served_in_order_by_eight_at_a_time() {
    let lab = lab(settings(8, 200, idle()));
    let ids: Vec<_> = (0..200).map(|i| id(&format!("u{i}"))).collect();
    for id in &ids {
        lab.wake(id).await;
    }
    let place = |id: &WorkspaceId| match lab.workspaces.lookup(id).unwrap().phase {
        Phase::Queued { position } => Some(position),
        _ => None,
    };
    let places: Vec<_> = ids.iter().filter_map(place).collect();
    assert_eq!(places, (1..=192).collect::<Vec<_>>());

    let mut changes = lab.workspaces.changes();
    let count = |phase: &str| ids.iter().filter(|id| lab.phase(id) == phase).count();
    while count("ready") < 200 {
        assert!(count("starting") <= 8, "{} are starting", count("starting"));
        changes.changed().await.unwrap();
    }
    let expected: Vec<_> = ids.iter().map(|id| format!("start {id}")).collect();
    assert_eq!(lab.driver.log(), expected);
    assert_eq!(lab.metric("usher_spawn_queue_length", ""), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_and_keeps_what_it_holds() {
    let lab = lab(settings(1, 2, idle()));
    for name in ["a", "b", "c"] {
        lab.wake(&id(name)).await;
    }
    let refused = lab.workspaces.wake(wake(&id("d"))).await;
    assert_eq!(refused, Err(WakeRefused::QueueFull { limit: 2 }));
    lab.until(&id("c"), "ready").await;
    assert_eq!(lab.driver.log(), ["start a", "start b", "start c"]);
}

#[tokio::test(start_paused = true)]
async fn one_user_starts_one_at_a_time_and_others_pass() {
    let lab = lab(settings(8, 100, idle()));
    for name in ["alice", "gpu--alice", "bob"] {
        lab.wake(&id(name)).await;
    }
    let phases = ["alice", "gpu--alice", "bob"].map(|name| lab.phase(&id(name)));
    assert_eq!(phases, ["starting", "queued", "starting"]);
    lab.until(&id("gpu--alice"), "ready").await;
    assert_eq!(lab.driver.log(), ["start alice", "start bob", "start gpu--alice"]);
}

#[tokio::test(start_paused = true)]
async fn a_silent_workspace_is_stopped_and_its_route_ends_before() {
    let lab = lab(settings(8, 100, used_for(60)));
    let alice = id("alice");
    let route = lab.ready(&alice).await;
    let since = clock::now();
    let ended = tokio::spawn({
        let (workspaces, driver, alice) = (lab.workspaces.clone(), lab.driver.clone(), alice.clone());
        async move {
            tokio::time::timeout(secs(3600), route.ended.cancelled()).await.unwrap();
            (workspaces.lookup(&alice).unwrap().phase.as_str(), driver.log().len())
        }
    });
    lab.until(&alice, "stopped").await;
    let after = clock::now() - since;
    assert!(after >= secs(60) && after <= secs(64), "{after:?}");
    assert_eq!(lab.driver.log(), ["start alice", "stop alice 1"]);
    assert_eq!(ended.await.unwrap(), ("stopping", 1), "the table shows it, and the driver was not asked yet");
    assert_eq!(lab.metric("usher_reaps_total", "idle"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_use_between_the_mark_and_the_second_look_wins() {
    let lab = lab(settings(8, 100, used_for(60)));
    let alice = id("alice");
    lab.ready(&alice).await;
    let activity = lab.workspaces.lookup(&alice).unwrap().activity.clone();
    // A use every 60.5 s: each time after the mark, before the second look.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(60_500)).await;
        activity.client_frame();
        assert_eq!(lab.phase(&alice), "ready");
    }
    lab.until(&alice, "stopped").await;
}

#[tokio::test(start_paused = true)]
async fn a_workspace_that_is_too_old_is_stopped_although_it_is_used_and_kept() {
    let rules = Idle { max_age: Some(secs(300)), ..used_for(60) };
    let lab = lab(settings(8, 100, rules));
    let alice = id("alice");
    lab.ready(&alice).await;
    let until = lab.workspaces.keep(&alice, secs(10_000)).await.unwrap();
    assert!(until <= clock::now() + secs(300));
    assert!(!lab.workspaces.lookup(&alice).unwrap().why_alive(clock::now()).unwrap().can_extend);
    let activity = lab.workspaces.lookup(&alice).unwrap().activity.clone();
    let since = clock::now();
    while lab.phase(&alice) == "ready" {
        activity.request();
        tokio::time::sleep(secs(1)).await;
    }
    let lived = clock::now() - since;
    assert!(lived >= secs(298) && lived <= secs(305), "{lived:?}");
    assert_eq!(lab.metric("usher_reaps_total", "max_age"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn extending_moves_the_stop_and_keeping_moves_it_further() {
    let lab = lab(settings(8, 100, used_for(60)));
    let alice = id("alice");
    assert_eq!(lab.workspaces.extend(&alice).await, None);
    lab.ready(&alice).await;
    tokio::time::sleep(secs(30)).await;
    let now = clock::now();
    assert_eq!(lab.workspaces.extend(&alice).await, Some(now + secs(60)));
    assert_eq!(lab.workspaces.keep(&alice, secs(500)).await, Some(now + secs(500)));
    let why = lab.workspaces.lookup(&alice).unwrap().why_alive(now).unwrap();
    assert_eq!((why.reason, why.stops_at), ("kept", Some(now + secs(500))));
    lab.until(&alice, "stopped").await;
    assert!(clock::now() >= now + secs(500));
}

#[tokio::test(start_paused = true)]
async fn a_wake_while_it_stops_is_carried_out_afterwards() {
    let lab = lab(settings(8, 100, idle()));
    let alice = id("alice");
    lab.ready(&alice).await;
    let both = tokio::join!(lab.workspaces.stop(&alice), lab.workspaces.stop(&alice));
    assert_eq!(both, (StopAsked::Now, StopAsked::Already));
    lab.wake(&alice).await;
    lab.until(&alice, "ready").await;
    assert_eq!(lab.driver.log(), ["start alice", "stop alice 1", "start alice"]);
    assert_eq!(lab.workspaces.stop(&id("nobody")).await, StopAsked::Nothing);
}

#[tokio::test(start_paused = true)]
async fn a_crash_waits_out_a_back_off_that_doubles_and_retry_skips_it() {
    let lab = lab(settings(8, 100, idle()));
    let alice = id("alice");
    let route = lab.ready(&alice).await;
    let mut wait = secs(1);
    for _ in 0..3 {
        lab.driver.tell(seen(&alice, ObservedPhase::Failed { cause: cause(CauseCode::Crashed) }));
        let entry = lab.until(&alice, "failed").await;
        let Phase::Failed { retry_at, .. } = entry.phase else { panic!() };
        assert_eq!(retry_at - entry.since, wait);
        let refused = lab.workspaces.wake(wake(&alice)).await;
        assert_eq!(refused, Err(WakeRefused::BackingOff(cause(CauseCode::Crashed))));
        tokio::time::sleep(wait).await;
        assert_eq!(lab.phase(&alice), "failed", "it must not start without a visit");
        lab.ready(&alice).await;
        wait *= 2;
    }
    assert!(route.ended.is_cancelled());
    lab.driver.tell(seen(&alice, ObservedPhase::Failed { cause: cause(CauseCode::Crashed) }));
    lab.until(&alice, "failed").await;
    lab.workspaces.wake(crate::Wake { retry: true, ..wake(&alice) }).await.unwrap();
    lab.until(&alice, "ready").await;
}

#[tokio::test(start_paused = true)]
async fn a_start_without_progress_fails_with_the_end_of_its_log_and_is_stopped() {
    let lab = lab_that_reaches_after(settings(8, 100, idle()), secs(10_000));
    let alice = id("alice");
    let since = clock::now();
    lab.wake(&alice).await;
    lab.until(&alice, "failed").await;
    let after = clock::now() - since;
    assert!(after >= secs(30) && after <= secs(32), "{after:?}");
    tokio::time::sleep(Duration::from_millis(100)).await;
    let Phase::Failed { cause, .. } = lab.workspaces.lookup(&alice).unwrap().phase.clone() else { panic!() };
    assert_eq!(cause.code, CauseCode::StartTimeout);
    assert_eq!(
        cause.detail,
        "The workspace was not ready after 30 seconds: nothing accepted connections at its port."
    );
    assert!(cause.hint.ends_with("listening | alice: out of luck"), "{}", cause.hint);
    assert_eq!(lab.driver.log(), ["start alice", "stop alice 1"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_driver_refuses_is_told_and_frees_the_turn() {
    let lab = lab(settings(1, 100, idle()));
    lab.driver.refuse(Some(cause(CauseCode::ProgramNotFound)));
    lab.wake(&id("alice")).await;
    let entry = lab.until(&id("alice"), "failed").await;
    assert!(matches!(&entry.phase, Phase::Failed { cause: c, .. } if c.code == CauseCode::ProgramNotFound));
    lab.driver.refuse(None);
    lab.ready(&id("bob")).await;
    assert_eq!(lab.metric("usher_spawns_total", "program_not_found"), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_stop_of_which_nothing_is_seen_is_asked_for_again() {
    let lab = lab(settings(8, 100, idle()));
    let alice = id("alice");
    lab.ready(&alice).await;
    lab.driver.freeze();
    assert_eq!(lab.workspaces.stop(&alice).await, StopAsked::Now);
    tokio::time::sleep(secs(65)).await;
    assert_eq!(lab.driver.log(), ["start alice", "stop alice 1", "stop alice 1", "stop alice 1"]);
    lab.driver.tell(seen(&alice, ObservedPhase::Stopped));
    lab.until(&alice, "stopped").await;
}

#[tokio::test(start_paused = true)]
async fn a_workspace_that_ran_before_usher_is_ready_by_probe() {
    let lab = lab(settings(8, 100, idle()));
    let alice = id("alice");
    lab.driver.tell(running(&alice, 7));
    let entry = lab.until(&alice, "ready").await;
    assert_eq!(entry.why_alive(clock::now()).unwrap().reason, "started");
    assert_eq!(lab.driver.log(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_deleted_workspace_leaves_the_table() {
    let lab = lab(settings(8, 100, idle()));
    let alice = id("alice");
    let route = lab.ready(&alice).await;
    assert_eq!(lab.workspaces.delete(&id("nobody"), true, None).await, Ok(false));
    assert_eq!(lab.workspaces.delete(&alice, true, None).await, Ok(true));
    assert!(route.ended.is_cancelled());
    let mut changes = lab.workspaces.changes();
    while lab.workspaces.lookup(&alice).is_some() {
        changes.changed().await.unwrap();
    }
    assert_eq!(lab.driver.log(), ["start alice", "delete alice true"]);
}

#[tokio::test(start_paused = true)]
async fn a_user_deletes_what_is_theirs_only() {
    let lab = lab(settings(8, 100, idle()));
    let alice = id("alice");
    lab.ready(&alice).await;
    assert_eq!(lab.workspaces.delete(&alice, true, Some(&owner(&id("mallory")))).await, Ok(false));
    assert!(matches!(lab.workspaces.lookup(&alice).unwrap().phase, Phase::Ready(_)));
    assert_eq!(lab.driver.log(), ["start alice"]);
    assert_eq!(lab.workspaces.delete(&alice, true, Some(&owner(&alice))).await, Ok(true));
    let mut changes = lab.workspaces.changes();
    while lab.workspaces.lookup(&alice).is_some() {
        changes.changed().await.unwrap();
    }
    let of_alice = format!("delete alice true of {}", owner(&alice).subject);
    assert_eq!(lab.driver.log(), ["start alice", of_alice.as_str()]);
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_a_workspace_of_somebody_else() {
    let lab = lab(settings(8, 100, idle()));
    let alice = id("alice");
    lab.ready(&alice).await;
    let stranger = crate::Wake { owner: owner(&id("mallory")), ..wake(&alice) };
    let Err(WakeRefused::BackingOff(cause)) = lab.workspaces.wake(stranger).await else { panic!() };
    assert_eq!(cause.code, CauseCode::NotTheOwner);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_the_loop_and_leaves_workspaces_running() {
    let lab = lab(settings(8, 100, idle()));
    lab.ready(&id("alice")).await;
    lab.shutdown.cancel();
    lab.running.await.unwrap().unwrap();
    assert_eq!(lab.workspaces.wake(wake(&id("bob"))).await, Err(WakeRefused::ShuttingDown));
    assert_eq!(lab.driver.log(), ["start alice"]);
}

#[tokio::test(start_paused = true)]
async fn a_busy_kernel_keeps_its_workspace_and_counts_until_its_last_minute() {
    let lab = lab(jupyterlab());
    let alice = id("alice");
    lab.ready(&alice).await;
    *lab.answer.lock().unwrap() = Some(json!([{ "execution_state": "busy" }]));
    tokio::time::sleep(secs(7200)).await;
    let why = lab.workspaces.lookup(&alice).unwrap().why_alive(clock::now()).unwrap();
    assert_eq!((why.reason, why.warn), ("busy", false));
    *lab.answer.lock().unwrap() = Some(json!([{ "execution_state": "idle" }]));
    let since = clock::now();
    lab.until(&alice, "stopped").await;
    let lived = clock::now() - since;
    assert!(lived >= secs(19 * 60) && lived <= secs(20 * 60 + 5), "{lived:?}");
}

#[tokio::test(start_paused = true)]
async fn an_application_that_does_not_answer_whether_it_computes_is_stopped_as_any_other() {
    let lab = lab(jupyterlab());
    let alice = id("alice");
    lab.ready(&alice).await;
    let since = clock::now();
    lab.until(&alice, "stopped").await;
    let lived = clock::now() - since;
    assert!(lived >= secs(20 * 60) && lived <= secs(20 * 60 + 5), "{lived:?}");
}

#[tokio::test(start_paused = true)]
async fn a_busy_kernel_is_asked_for_before_a_workspace_that_was_long_unused_is_stopped() {
    let now = clock::now();
    let kept = crate::usage::Kept {
        generation: generation(1).fingerprint(),
        started: now,
        last: (clock::ago(now, secs(100_000)), "request"),
        extended_until: None,
        kept_until: None,
    };
    let lab = lab_with(jupyterlab(), secs(1), [(id("alice"), kept)].into_iter().collect());
    *lab.answer.lock().unwrap() = Some(json!([{ "execution_state": "busy" }]));
    lab.driver.tell(running(&id("alice"), 1));
    lab.until(&id("alice"), "ready").await;
    tokio::time::sleep(secs(60)).await;
    assert_eq!(lab.phase(&id("alice")), "ready");
}

#[tokio::test(start_paused = true)]
async fn after_a_halt_nothing_is_believed_until_the_watches_have_noticed_it() {
    let lab = lab(settings(8, 100, idle()));
    lab.ready(&id("alice")).await;
    assert!(lab.workspaces.is_current());
    let mut changes = lab.workspaces.changes();
    changes.borrow_and_update();
    tokio::time::advance(STALE + secs(1)).await;
    assert!(!lab.workspaces.is_current(), "the control loop has not looked yet");
    changes.changed().await.unwrap();
    assert!(!lab.workspaces.is_current(), "it has, and may have been first");
    let woken = clock::now();
    while !lab.workspaces.is_current() {
        changes.changed().await.unwrap();
    }
    let doubted = clock::now() - woken;
    assert!((NOTICED..DOUBTED).contains(&doubted), "{doubted:?}");
}
