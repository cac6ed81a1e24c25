use super::*;
use crate::state::{Effect, Outcome, Settings, Then};
use crate::testing::*;
use crate::{Action, CauseCode, Event, ObservedPhase, Phase, Scope};
use proptest::prelude::*;

#[test]
fn a_back_off_doubles_from_a_second_to_five_minutes() {
    let expected =
        [(0, 1), (1, 2), (2, 4), (7, 128), (8, 256), (9, 300), (31, 300), (32, 300), (u32::MAX, 300)];
    for (failures, seconds) in expected {
        assert_eq!(backoff(failures), secs(seconds), "after {failures}");
    }
}

fn woken(settings: Settings, names: &[&str], now: Instant) -> State {
    let mut state = state(settings, now);
    for name in names {
        state.wake(&wake(&id(name)), now).unwrap();
    }
    state
}

fn starts(names: &[&str]) -> Vec<Decision> {
    names.iter().map(|name| Decision::Start(id(name))).collect()
}

#[test]
fn turns_are_given_in_order_to_so_many_and_to_each_user_once() {
    let now = Instant::now();
    let cases: [(usize, &[&str], &[&str]); 5] = [
        (2, &["c", "a", "b"], &["c", "a"]),
        (0, &["a"], &[]),
        (9, &["x--a", "y--a", "b", "a"], &["x--a", "b"]),
        (1, &["x--a", "b"], &["x--a"]),
        (9, &[], &[]),
    ];
    for (concurrent, queue, expected) in cases {
        let state = woken(settings(concurrent, 100, idle()), queue, now);
        assert_eq!(reconcile(&state, now), starts(expected), "{queue:?} by {concurrent}");
    }
}

#[test]
fn nothing_starts_before_the_driver_has_told_all() {
    let now = Instant::now();
    let mut state = State::new(settings(8, 8, idle()), crate::usage::Restored::default(), false);
    state.wake(&wake(&id("a")), now).unwrap();
    assert_eq!(reconcile(&state, now), []);
    // It ran all the while.
    state.fold(running(&id("a"), 1), now);
    state.fold(Event::Synced, now);
    assert_eq!(reconcile(&state, now), [Decision::Probe(id("a"))]);
}

#[test]
fn a_template_that_left_the_configuration_fails_who_waits_and_stops_who_is_found() {
    let now = Instant::now();
    let mut state = woken(settings(8, 8, idle()), &["a"], now);
    state.settings.templates.clear();
    settle(&mut state, now);
    state.fold(running(&id("b"), 1), now);
    for name in ["a", "b"] {
        let phase = state.entry(&id(name)).unwrap().phase;
        let Phase::Failed { cause, .. } = phase else { panic!("{phase:?}") };
        assert_eq!(cause.code, CauseCode::TemplateGone, "{name}");
    }
    let stop = Decision::End(id("b"));
    assert_eq!(reconcile(&state, now), [stop]);
}

#[test]
fn a_start_that_was_called_off_ends_the_instance_that_shows_up_late() {
    let now = Instant::now();
    let mut state = woken(settings(8, 8, idle()), &["a"], now);
    settle(&mut state, now);
    assert!(state.stop(&id("a"), now));
    assert_eq!(reconcile(&state, now), []);
    state.fold(running(&id("a"), 1), now);
    assert_eq!(reconcile(&state, now), [Decision::End(id("a"))]);
    state.fold(seen(&id("a"), ObservedPhase::Stopped), now);
    assert_eq!(state.entry(&id("a")).unwrap().phase.as_str(), "stopped");
}

#[test]
fn a_start_that_was_called_off_and_never_shows_up_is_forgotten() {
    let now = Instant::now();
    let mut state = woken(settings(8, 8, idle()), &["a"], now);
    settle(&mut state, now);
    state.stop(&id("a"), now);
    settle(&mut state, now + ASK_AGAIN);
    assert!(state.entry(&id("a")).is_none());
}

#[test]
fn a_visit_to_somebody_elses_workspace_that_was_not_known_yet_gets_nothing() {
    let now = Instant::now();
    let mut state = woken(settings(8, 8, idle()), &["a"], now);
    state.fold(foreign(ObservedPhase::Stopped), now);
    let entry = state.entry(&id("a")).unwrap();
    assert_eq!(entry.owner, owner(&id("real-owner")));
    assert!(matches!(entry.phase, Phase::Failed { cause, .. } if cause.code == CauseCode::NotTheOwner));
    assert_eq!(reconcile(&state, now), []);
}

#[test]
fn every_wait_ends_at_its_very_end_and_not_before() {
    let now = Instant::now();
    let (a, moment) = (id("a"), Duration::from_millis(1));
    let ends = |state: &State, at: Instant, expected: Decision| {
        assert_eq!(reconcile(state, at - moment), [], "before {expected:?}");
        assert_eq!(reconcile(state, at), [expected]);
    };
    let mut starting = woken(settings(8, 8, idle()), &["a"], now);
    settle(&mut starting, now);
    ends(&starting, now + secs(30), Decision::TimeOut(a.clone()));

    let old = config::Idle { max_age: Some(secs(300)), ..idle() };
    let cases = [(idle(), secs(600), StopReason::Idle), (old, secs(300), StopReason::MaxAge)];
    for (rules, lives, reason) in cases {
        let mut ready = woken(settings(8, 8, rules), &["a"], now);
        settle(&mut ready, now);
        ready.fold(running(&a, 1), now);
        reach(&mut ready, "a", 1, now);
        let over = now + lives;
        ends(&ready, over, Decision::Mark(a.clone(), reason));
        settle(&mut ready, over);
        ends(&ready, over + LOOK_AGAIN, Decision::Reap(a.clone()));
        settle(&mut ready, over + LOOK_AGAIN);
        ends(&ready, over + LOOK_AGAIN + ASK_AGAIN, Decision::End(a.clone()));
    }
}

/// What the driver tells of alice's workspace when it turns out to be somebody else's.
fn foreign(phase: ObservedPhase) -> Event {
    let mut event = seen(&id("a"), phase);
    if let Event::Seen(observed) = &mut event {
        observed.owner = owner(&id("real-owner"));
    }
    event
}

#[test]
fn a_change_of_owner_ends_what_the_former_one_had_and_begins_anew_for_the_new_one() {
    let (a, at) = (id("a"), address());
    let running = ObservedPhase::started(generation(1), Some(at));
    let cases = [
        ("queued", running.clone(), "starting"),
        ("starting", running.clone(), "starting"),
        ("seen", running.clone(), "starting"),
        ("ready", running.clone(), "starting"),
        ("ready", ObservedPhase::Stopped, "stopped"),
        ("ready", ObservedPhase::stopping(generation(1)), "stopping"),
        ("woken while stopping", running.clone(), "stopping"),
        ("woken while stopping", ObservedPhase::Stopped, "stopped"),
    ];
    for (stage, told, expected) in cases {
        let now = Instant::now();
        let mut state = woken(settings(8, 8, idle()), &["a"], now);
        if stage != "queued" {
            settle(&mut state, now);
        }
        if !["queued", "starting"].contains(&stage) {
            state.fold(self::running(&a, 1), now);
        }
        if ["ready", "woken while stopping"].contains(&stage) {
            reach(&mut state, "a", 1, now);
        }
        let route = match state.entry(&a).unwrap().phase {
            Phase::Ready(route) => Some(route),
            _ => None,
        };
        if stage == "woken while stopping" {
            state.stop(&a, now);
            state.wake(&wake(&a), now).unwrap();
        }
        let before = state.entry(&a).unwrap().activity;

        state.fold(foreign(told.clone()), now);
        settle(&mut state, now);
        let entry = state.entry(&a).unwrap();
        assert_eq!(
            (entry.owner, entry.phase.as_str()),
            (owner(&id("real-owner")), expected),
            "{stage}, {told:?}"
        );
        assert!(!std::sync::Arc::ptr_eq(&before, &entry.activity), "{stage}: the former one's use counts");
        assert!(
            route.is_none_or(|route| route.ended.is_cancelled()),
            "{stage}: the former one's route lives"
        );
        let refused = state.wake(&crate::Wake { retry: true, ..wake(&a) }, now).map(drop);
        assert!(
            matches!(refused, Err(crate::WakeRefused::BackingOff(cause)) if cause.code == CauseCode::NotTheOwner)
        );
        reach(&mut state, "a", 1, now);
        let is_ready = state.entry(&a).unwrap().phase.as_str() == "ready";
        assert_eq!(is_ready, expected == "starting", "{stage}: its new owner gets what runs");
    }
}

#[test]
fn one_that_moves_to_another_address_is_no_younger_for_it() {
    let now = Instant::now();
    let mut state = woken(settings(8, 8, idle()), &["a"], now);
    settle(&mut state, now);
    state.fold(running(&id("a"), 1), now);
    reach(&mut state, "a", 1, now);
    let later = now + secs(100);
    let moved = crate::Address::Tcp(([127, 0, 0, 2], 1).into());
    state.fold(seen(&id("a"), ObservedPhase::started(generation(1), Some(moved.clone()))), later);
    reach(&mut state, "a", 1, later);
    let entry = state.entry(&id("a")).unwrap();
    assert_eq!(entry.terms.unwrap().started, now);
    assert!(matches!(entry.phase, Phase::Ready(route) if route.address == moved));
}

#[test]
fn an_instance_that_replaces_another_ends_the_route_to_it() {
    let now = Instant::now();
    let mut state = woken(settings(8, 8, idle()), &["a"], now);
    settle(&mut state, now);
    state.fold(running(&id("a"), 1), now);
    reach(&mut state, "a", 1, now);
    let Phase::Ready(route) = state.entry(&id("a")).unwrap().phase else { panic!() };
    state.fold(running(&id("a"), 2), now);
    settle(&mut state, now);
    assert!(route.ended.is_cancelled());
    reach(&mut state, "a", 1, now);
    assert_eq!(
        state.entry(&id("a")).unwrap().phase.as_str(),
        "starting",
        "the old instance's answer is late"
    );
    reach(&mut state, "a", 2, now);
    assert_eq!(state.entry(&id("a")).unwrap().phase.as_str(), "ready");
}

fn reach(state: &mut State, name: &str, number: u64, now: Instant) {
    state.conclude(Outcome::Reached { id: id(name), generation: generation(number) }, now);
}

/// What a turn of the loop does; gives what is to be done outside.
fn settle(state: &mut State, now: Instant) -> Vec<Effect> {
    let mut effects = Vec::new();
    for _ in 0..5 {
        let decisions = reconcile(state, now);
        if decisions.is_empty() {
            for ended in std::mem::take(&mut state.news).ended {
                ended.cancel();
            }
            return effects;
        }
        for decision in decisions {
            assert_is_allowed(state, &decision, now);
            effects.extend(state.apply(decision, now));
        }
        assert_is_consistent(state);
    }
    panic!("it never settles: {:?}", reconcile(state, now));
}

fn assert_is_allowed(state: &State, decision: &Decision, now: Instant) {
    match decision {
        Decision::Start(id) => {
            assert!(state.starting() < state.settings.concurrent, "{id} is one too many");
            let workspace = &state.workspaces[id];
            assert!(matches!(workspace.stage, Stage::Queued(_)), "{id} does not wait");
            let other = state
                .workspaces
                .values()
                .find(|other| other.owner == workspace.owner && matches!(other.stage, Stage::Starting(_)));
            assert!(other.is_none(), "{id}: its user starts another");
        }
        Decision::Reap(id) => {
            let why = state.entry(id).unwrap().why_alive(now).unwrap();
            assert!(why.stops_at.unwrap() + LOOK_AGAIN <= now, "{id} was in use: {why:?}");
        }
        _ => {}
    }
}

fn assert_is_consistent(state: &State) {
    let queued: HashSet<_> = state.queue.iter().map(|(_, id)| id).collect();
    assert_eq!(queued.len(), state.queue.len(), "somebody waits twice");
    for (id, workspace) in &state.workspaces {
        assert_eq!(queued.contains(id), matches!(workspace.stage, Stage::Queued(_)), "{id}");
        if let Some(instance) = workspace.stage.instance() {
            assert!(!instance.ended.is_cancelled(), "{id} is routed to an end");
        }
    }
}

/// Something that happens to one of a few workspaces.
#[derive(Debug, Clone)]
enum Happening {
    Wake { retry: bool },
    Stop,
    Delete,
    Extend,
    Use,
    Running { generation: u64, address: bool },
    Stopping { generation: u64 },
    Stopped,
    Failed,
    Gone,
    Reached { generation: u64 },
    Refused,
    Pass { seconds: u64 },
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        4 => any::<bool>().prop_map(|retry| Happening::Wake { retry }),
        1 => Just(Happening::Stop),
        1 => Just(Happening::Delete),
        1 => Just(Happening::Extend),
        1 => Just(Happening::Use),
        4 => (0..4_u64, any::<bool>()).prop_map(|(generation, address)| Happening::Running { generation, address }),
        1 => (0..4_u64).prop_map(|generation| Happening::Stopping { generation }),
        2 => Just(Happening::Stopped),
        1 => Just(Happening::Failed),
        1 => Just(Happening::Gone),
        4 => (0..4_u64).prop_map(|generation| Happening::Reached { generation }),
        1 => Just(Happening::Refused),
        3 => (0..1000_u64).prop_map(|seconds| Happening::Pass { seconds }),
    ]
}

fn happen(state: &mut State, id: &WorkspaceId, what: Happening, now: &mut Instant) {
    let at = *now;
    match what {
        Happening::Wake { retry } => drop(state.wake(&crate::Wake { retry, ..wake(id) }, at)),
        Happening::Stop => drop(state.stop(id, at)),
        Happening::Delete => drop(state.delete(id, true, None, at)),
        Happening::Extend => drop(state.extend(id, at)),
        Happening::Use => {
            if let Some(workspace) = state.workspaces.get(id) {
                workspace.activity.request();
            }
        }
        Happening::Running { generation: number, address: known } => {
            let phase = ObservedPhase::started(generation(number), known.then(address));
            state.fold(seen(id, phase), at);
        }
        Happening::Stopping { generation: number } => {
            state.fold(seen(id, ObservedPhase::stopping(generation(number))), at);
        }
        Happening::Stopped => state.fold(seen(id, ObservedPhase::Stopped), at),
        Happening::Failed => {
            state.fold(seen(id, ObservedPhase::Failed { cause: cause(CauseCode::Crashed) }), at);
        }
        Happening::Gone => state.fold(Event::Gone(id.clone()), at),
        Happening::Reached { generation: number } => {
            state.conclude(Outcome::Reached { id: id.clone(), generation: generation(number) }, at);
        }
        Happening::Refused => {
            let attempt = state.workspaces.get(id).map_or(0, |workspace| workspace.attempt);
            let action = Action::Nudge(spec(id));
            let result = Err(cause(CauseCode::NoResources));
            state.conclude(Outcome::Acted { id: id.clone(), attempt, action, result }, at);
        }
        Happening::Pass { seconds } => *now += secs(seconds),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_happens_turns_are_fair_routes_are_true_and_who_is_used_is_not_stopped(
        steps in prop::collection::vec((0..5_usize, happening()), 1..80),
    ) {
        let ids = ["a", "b", "x--a", "y--a", "c"].map(id);
        let mut now = Instant::now();
        let mut state = state(settings(2, 3, idle()), now);
        let mut routes = Vec::new();
        for (which, what) in steps {
            happen(&mut state, &ids[which], what, &mut now);
            settle(&mut state, now);
            assert_is_consistent(&state);
            routes.extend(ids.iter().filter_map(|id| match state.entry(id)?.phase {
                Phase::Ready(route) => Some((id.clone(), route)),
                _ => None,
            }));
            for (id, route) in &routes {
                let current = state.workspaces.get(id).and_then(|w| w.stage.generation()) == Some(&route.generation);
                prop_assert!(current || route.ended.is_cancelled(), "{id} {} lives on", route.generation);
            }
        }
    }

    #[test]
    fn every_state_comes_to_rest_also_where_there_are_others(
        steps in prop::collection::vec((0..5_usize, happening(), any::<bool>()), 1..60),
    ) {
        let ids = ["a", "b", "x--a", "y--a", "c"].map(id);
        let mut now = Instant::now();
        let mut state = State::new(settings(2, 3, idle()), crate::usage::Restored::default(), true);
        state.fold(Event::Synced, now);
        for (number, (which, what, leads)) in steps.into_iter().enumerate() {
            happen(&mut state, &ids[which], what, &mut now);
            if number % 7 == 0 {
                let order = crate::Order { second: 1, within: number as u64 };
                state.fold(seen(&ids[which], ObservedPhase::Wanted { order }), now);
            }
            state.fold(Event::Sighted(Scope::default(), number % 11 != 5), now);
            state.among_others(leads, &crate::usage::Written::nothing(now), now);
            let (_, rests) = state.settle(now);
            prop_assert!(rests, "{:?}", reconcile(&state, now));
        }
    }

    #[test]
    fn everybody_who_waits_gets_a_turn(order in prop::collection::vec(0..12_usize, 1..40)) {
        let now = Instant::now();
        let ids: Vec<_> = (0..12).map(|i| id(&format!("n{}--u{}", i, i % 4))).collect();
        let mut state = state(settings(2, 100, idle()), now);
        for which in order {
            let wake = crate::Wake { running_max: 100, ..wake(&ids[which]) };
            state.wake(&wake, now).unwrap();
            settle(&mut state, now);
        }
        for round in 0..12 {
            for (number, id) in ids.iter().enumerate() {
                if matches!(state.workspaces.get(id).map(|w| &w.stage), Some(Stage::Starting(_))) {
                    state.fold(running(id, number as u64), now);
                    state.conclude(Outcome::Reached { id: id.clone(), generation: generation(number as u64) }, now);
                }
            }
            settle(&mut state, now);
            prop_assert!(round < 11 || state.queue.is_empty(), "{:?} wait still", state.queue);
        }
    }
}

#[test]
fn a_failure_that_is_being_cleared_away_refuses_visits_and_obeys_retry() {
    let now = Instant::now();
    let mut state = woken(settings(8, 8, idle()), &["a"], now);
    settle(&mut state, now);
    state.fold(running(&id("a"), 1), now);
    let late = now + secs(31);
    settle(&mut state, late);
    let stage = |state: &State| match &state.workspaces[&id("a")].stage {
        Stage::Stopping(stopping) => stopping.then.clone(),
        other => panic!("{other:?}"),
    };
    assert!(matches!(stage(&state), Then::Fail(_)));
    assert!(state.wake(&wake(&id("a")), late).is_err());
    state.wake(&crate::Wake { retry: true, ..wake(&id("a")) }, late).unwrap();
    assert!(matches!(stage(&state), Then::Start(_)));
    state.fold(seen(&id("a"), ObservedPhase::Stopped), late);
    assert_eq!(reconcile(&state, late), starts(&["a"]));
}

#[test]
fn what_ends_by_itself_fails_with_the_cause_that_the_driver_tells_last() {
    let now = Instant::now();
    let a = id("a");
    for (was_ready, spawning) in [(false, true), (true, false)] {
        let mut state = woken(settings(8, 8, idle()), &["a"], now);
        settle(&mut state, now);
        state.fold(running(&a, 1), now);
        if was_ready {
            state.conclude(Outcome::Reached { id: a.clone(), generation: generation(1) }, now);
        }
        state.fold(seen(&a, ObservedPhase::stopping(generation(1))), now);
        // A visit meanwhile meets the failure, not a start that would fail at once again.
        state.wake(&wake(&a), now).unwrap();
        let crashed = cause(CauseCode::Crashed);
        state.fold(seen(&a, ObservedPhase::Failed { cause: crashed.clone() }), now);
        assert!(matches!(&state.workspaces[&a].stage, Stage::Failed { cause, .. } if *cause == crashed));
        let note = crate::state::Note::Failed { id: a.clone(), cause: crashed, spawning };
        assert!(state.news.notes.contains(&note), "{:?}", state.news.notes);
    }
}

#[test]
fn why_a_workspace_was_stopped_is_known_until_it_is_wanted_again() {
    let now = Instant::now();
    let a = id("a");
    let mut state = woken(settings(8, 8, idle()), &["a"], now);
    settle(&mut state, now);
    state.fold(running(&a, 1), now);
    state.conclude(Outcome::Reached { id: a.clone(), generation: generation(1) }, now);
    assert!(state.stop(&a, now));
    state.fold(seen(&a, ObservedPhase::Failed { cause: cause(CauseCode::Crashed) }), now);
    let entry = state.entry(&a).unwrap();
    assert_eq!((entry.phase.as_str(), entry.stopped), ("stopped", Some(StopReason::Asked)));
    state.wake(&wake(&a), now).unwrap();
    assert_eq!(state.entry(&a).unwrap().stopped, None);
}

#[test]
fn while_nothing_is_seen_nobody_is_asked_stopped_or_given_up_and_what_runs_stays() {
    let now = Instant::now();
    let mut state = woken(settings(8, 8, idle()), &["a", "b"], now);
    settle(&mut state, now);
    state.fold(running(&id("a"), 1), now);
    reach(&mut state, "a", 1, now);
    let Phase::Ready(route) = state.entry(&id("a")).unwrap().phase else { panic!("a is ready") };
    state.fold(running(&id("b"), 2), now);
    assert_eq!(reconcile(&state, now), [Decision::Probe(id("b"))]);
    settle(&mut state, now);

    state.fold(Event::Sighted(Scope::default(), false), now);
    assert!(!state.entry(&id("a")).unwrap().seen);
    let ended = std::mem::take(&mut state.news.ended);
    assert_eq!(ended.len(), 1, "the prober of b stops to dial");
    let late = now + secs(36_000);
    assert_eq!(reconcile(&state, late), [], "neither idle nor late");
    assert!(!route.ended.is_cancelled() && state.entry(&id("a")).unwrap().phase.as_str() == "ready");

    state.fold(Event::Sighted(Scope::default(), true), late);
    let decisions = reconcile(&state, late);
    assert!(decisions.contains(&Decision::Probe(id("b"))), "{decisions:?}");
    assert!(!decisions.contains(&Decision::TimeOut(id("b"))), "{decisions:?}");
    state.fold(running(&id("a"), 3), late);
    let ended = std::mem::take(&mut state.news.ended);
    ended.iter().for_each(|token| token.cancel());
    assert!(route.ended.is_cancelled(), "the instance that is gone takes no more traffic");
}

#[test]
fn a_mark_waits_for_an_answer_that_is_as_new_as_the_question_may_be_old() {
    let settings = jupyterlab();
    let rules = &settings.templates.values().next().unwrap().idle;
    let (idle_after, every) = (rules.idle_after.unwrap(), rules.busy.as_ref().unwrap().every);
    let now = Instant::now();
    let mut state = state(settings, now);
    state.fold(running(&id("a"), 1), now);
    reach(&mut state, "a", 1, now);
    let over = now + idle_after;
    for (age, expected) in [
        (every + BUSY_SLACK, Decision::AskBusy(id("a"))),
        (every + BUSY_SLACK - Duration::from_millis(1), Decision::Mark(id("a"), StopReason::Idle)),
    ] {
        let Stage::Ready(ready) = &mut state.workspaces.get_mut(&id("a")).unwrap().stage else { panic!() };
        ready.busy = Busy::Answered(over - age);
        assert_eq!(reconcile(&state, over), [expected], "{age:?}");
    }
}

#[test]
fn each_step_of_a_start_has_its_own_patience_and_a_change_is_progress() {
    let text = include_str!("../../../config/usher.kubernetes.example.toml");
    let config = config::Config::parse("usher.toml", text, &|_| Some("x".to_owned())).unwrap();
    let pods =
        config.templates.values().find(|template| matches!(template.runs, Runs::Kubernetes(_))).unwrap();
    let Runs::Kubernetes(pod) = &pods.runs else { panic!() };
    let cases = [
        (Step::Asked, pods.start_timeout, "start_timeout"),
        (Step::Scheduling, pod.schedule_timeout, "schedule_timeout"),
        (Step::Pulling, pod.pull_timeout, "pull_timeout"),
        (Step::Creating, pods.start_timeout, "start_timeout"),
        (Step::Started, pods.start_timeout, "start_timeout"),
    ];
    let demo = config::TemplateName::parse("demo").unwrap();
    for (step, time, key) in cases {
        assert_eq!(patience(pods, step), (time, key), "{step:?}");
        let now = Instant::now();
        let mut settings = settings(8, 8, idle());
        settings.templates.insert(demo.clone(), pods.clone());
        let mut state = woken(settings, &["a"], now);
        settle(&mut state, now);
        let at = |step| ObservedPhase::Running { generation: None, address: None, step, trouble: None };
        let later = now + pods.start_timeout - secs(1);
        state.fold(seen(&id("a"), at(step)), later);
        let from = if step == Step::Asked { now } else { later };
        assert_eq!(reconcile(&state, from + time - secs(1)), [], "{step:?}");
        settle(&mut state, from + time);
        let Phase::Failed { cause, .. } = state.entry(&id("a")).unwrap().phase else { panic!("{step:?}") };
        assert!(cause.hint.ends_with(&format!("raise templates.{}.{key}", pods.name)), "{}", cause.hint);
    }
}

#[test]
fn why_the_instance_before_ended_is_not_why_this_one_is_late() {
    let weights = [
        (crate::Weight::Notice, CauseCode::StartTimeout),
        (crate::Weight::Hindrance, CauseCode::Unschedulable),
    ];
    for (weight, expected) in weights {
        let now = Instant::now();
        let mut state = woken(settings(8, 8, idle()), &["a"], now);
        settle(&mut state, now);
        let trouble = Some(Trouble { cause: cause(CauseCode::Unschedulable), weight });
        let phase = ObservedPhase::Running { generation: None, address: None, step: Step::Asked, trouble };
        state.fold(seen(&id("a"), phase), now);
        settle(&mut state, now + secs(30));
        let Phase::Failed { cause, .. } = state.entry(&id("a")).unwrap().phase else { panic!() };
        assert_eq!(cause.code, expected, "{weight:?}");
    }
}
