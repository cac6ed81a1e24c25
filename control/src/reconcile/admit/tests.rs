use super::*;
use crate::state::Settings;
use crate::testing::*;
use crate::{CauseCode, Event, ObservedPhase, Wake};
use config::TemplateName;

/// Alice's workspace brought to a stage, and time to judge a wake of it.
fn at(stage: &str) -> (State, Instant) {
    let now = Instant::now();
    let alice = id("alice");
    let mut state = state(settings(8, 100, idle()), now);
    let begin = |state: &mut State| {
        state.wake(&wake(&alice), now).unwrap();
        for decision in crate::reconcile::reconcile(state, now) {
            state.apply(decision, now);
        }
    };
    let told = |state: &mut State, event: Event| state.fold(event, now);
    match stage {
        "unknown" => {}
        "stopped" => told(&mut state, seen(&alice, ObservedPhase::Stopped)),
        "queued" => drop(state.wake(&wake(&alice), now)),
        "starting" => begin(&mut state),
        "ready" | "stopping" | "failed" => {
            begin(&mut state);
            told(&mut state, running(&alice, 1));
            let reached = crate::state::Outcome::Reached { id: alice.clone(), generation: generation(1) };
            state.conclude(reached, now);
            match stage {
                "stopping" => drop(state.stop(&alice, now)),
                "failed" => {
                    let cause = cause(CauseCode::Crashed);
                    told(&mut state, seen(&alice, ObservedPhase::Failed { cause }));
                }
                _ => {}
            }
        }
        other => panic!("{other}"),
    }
    (state, now)
}

#[test]
fn a_wake_does_what_the_stage_calls_for() {
    let refused = || Err(WakeRefused::BackingOff(cause(CauseCode::Crashed)));
    let cases = [
        ("unknown", false, 0, Ok(Admission::Enqueue)),
        ("stopped", false, 0, Ok(Admission::Enqueue)),
        ("queued", true, 0, Ok(Admission::Already)),
        ("starting", false, 0, Ok(Admission::Already)),
        ("starting", true, 0, Ok(Admission::Nudge)),
        ("ready", true, 0, Ok(Admission::Already)),
        ("stopping", false, 0, Ok(Admission::Remember)),
        ("failed", false, 0, refused()),
        ("failed", true, 0, Ok(Admission::Enqueue)),
        ("failed", false, 1, Ok(Admission::Enqueue)),
    ];
    for (stage, retry, later, expected) in cases {
        let (state, now) = at(stage);
        let wake = Wake { retry, ..wake(&id("alice")) };
        assert_eq!(
            admit(&state, &wake, now + secs(later)),
            expected,
            "{stage}, retry {retry}, after {later} s"
        );
    }
}

#[test]
fn a_user_runs_so_many_and_no_more_whatever_they_do() {
    for stage in ["queued", "starting", "ready"] {
        let (state, now) = at(stage);
        let second = Wake { running_max: 1, ..wake(&id("gpu--alice")) };
        assert_eq!(
            admit(&state, &second, now),
            Err(WakeRefused::TooMany { running: 1, limit: 1 }),
            "{stage}"
        );
        assert_eq!(admit(&state, &Wake { running_max: 2, ..second }, now), Ok(Admission::Enqueue));
        let same = Wake { running_max: 1, ..wake(&id("alice")) };
        assert!(admit(&state, &same, now).is_ok(), "its own place does not count against it");
        let other = Wake { running_max: 1, ..wake(&id("bob")) };
        assert_eq!(admit(&state, &other, now), Ok(Admission::Enqueue));
    }
    for stage in ["stopped", "stopping", "failed"] {
        let (state, now) = at(stage);
        let second = Wake { running_max: 1, ..wake(&id("gpu--alice")) };
        assert_eq!(admit(&state, &second, now), Ok(Admission::Enqueue), "{stage}");
    }
}

#[test]
fn a_workspace_keeps_its_template_and_one_that_never_ran_takes_what_is_asked_for() {
    let other = TemplateName::parse("other").unwrap();
    let asked = Wake { template: other, ..wake(&id("alice")) };
    let (state, now) = at("stopped");
    assert_eq!(admit(&state, &asked, now), Ok(Admission::Enqueue));
    let (state, now) = at("unknown");
    assert_eq!(admit(&state, &asked, now), Err(WakeRefused::NoTemplate("other".to_owned())));
    let (mut state, now) = at("starting");
    let alice = id("alice");
    let spec = crate::StartSpec {
        id: alice.clone(),
        owner: owner(&alice),
        template: template("demo", idle()),
        host: String::new(),
        grant: Default::default(),
    };
    let (action, result) = (crate::Action::Start(spec), Err(cause(CauseCode::ProgramNotFound)));
    state.conclude(crate::state::Outcome::Acted { id: alice, attempt: 1, action, result }, now);
    assert_eq!(admit(&state, &asked, now + secs(1)), Err(WakeRefused::NoTemplate("other".to_owned())));
    let (mut state, now) = at("stopped");
    state.settings = Settings { templates: Default::default(), ..state.settings };
    assert_eq!(admit(&state, &wake(&id("alice")), now), Err(WakeRefused::NoTemplate("demo".to_owned())));
}

/// Two templates that are not the same for all.
const RULED: &str = r#"
[templates.demo]
image = { expression = "user.name" }
port = 80
volume = "none"
resources = { cpu = 1, memory = "1Gi" }
[templates.other]
image = { expression = "'other'" }
port = 80
volume = "none"
resources = { cpu = 1, memory = "1Gi" }
"#;

#[test]
fn what_another_templates_rules_gave_starts_nothing() {
    let now = Instant::now();
    let (alice, other) = (id("alice"), TemplateName::parse("other").unwrap());
    let changed = || Err(WakeRefused::BackingOff(CauseCode::TemplateChanged.into()));
    let mut state = state(pods(RULED), now);
    state.fold(seen(&alice, ObservedPhase::Stopped), now);
    let asked = Wake { template: other.clone(), ..wake(&alice) };
    assert_eq!(admit(&state, &asked, now), changed());
    assert_eq!(admit(&state, &wake(&alice), now), Ok(Admission::Enqueue));

    // Nothing was known of it when it was asked for; what is told then is that it has another template.
    let mut state = State::new(pods(RULED), Default::default(), false);
    state.wake(&asked, now).unwrap();
    state.fold(seen(&alice, ObservedPhase::Stopped), now);
    state.fold(Event::Synced, now);
    for decision in crate::reconcile::reconcile(&state, now) {
        assert!(state.apply(decision, now).is_none(), "nothing is started");
    }
    let Some(crate::Phase::Failed { cause, .. }) = state.entry(&alice).map(|entry| entry.phase) else {
        panic!("{:?}", state.entry(&alice))
    };
    assert_eq!(cause.code, CauseCode::TemplateChanged);
    state.settings = settings(8, 8, idle());
    let plain = Wake { template: other, retry: true, ..wake(&alice) };
    assert_eq!(admit(&state, &plain, now), Ok(Admission::Enqueue), "of plain templates all values are good");
}

#[test]
fn the_queue_holds_so_many_besides_those_whose_turn_it_is() {
    let now = Instant::now();
    let mut state = state(settings(1, 2, idle()), now);
    for name in ["a", "b", "c"] {
        assert_eq!(state.wake(&wake(&id(name)), now).map(drop), Ok(()), "{name}");
    }
    let full = Err(WakeRefused::QueueFull { limit: 2 });
    assert_eq!(admit(&state, &wake(&id("d")), now), full);
    assert_eq!(admit(&state, &wake(&id("b")), now), Ok(Admission::Already));
    for decision in crate::reconcile::reconcile(&state, now) {
        state.apply(decision, now);
    }
    assert_eq!(admit(&state, &wake(&id("d")), now), full, "a turn that is taken is not free");
}

#[test]
fn what_is_not_there_or_may_not_be_woken_is_tried_again_only_by_hand_until_that_is_mended() {
    let (now, wiki) = (Instant::now(), id("route:wiki"));
    let mut state = state(settings(8, 100, idle()), now);
    let cause = cause(CauseCode::NotOptedIn);
    state.fold(seen(&wiki, ObservedPhase::Failed { cause: cause.clone() }), now);
    let later = now + secs(3600);
    assert_eq!(admit(&state, &wake(&wiki), later), Err(WakeRefused::BackingOff(cause)));
    assert_eq!(admit(&state, &Wake { retry: true, ..wake(&wiki) }, later), Ok(Admission::Enqueue));
    state.fold(seen(&wiki, ObservedPhase::Stopped), later);
    assert_eq!(admit(&state, &wake(&wiki), later), Ok(Admission::Enqueue));
}
