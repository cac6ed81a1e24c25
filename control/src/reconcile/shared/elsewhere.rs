//! What one decides about workspaces that others serve, and that it cannot serve itself.

use super::*;
use crate::peers::GONE;
use crate::{Cause, Wake, WakeRefused};

fn tell(state: &mut State, now: Instant) {
    state.hear(told("b", 0, vec![(id("a"), used(now))]), now);
}

/// Lets time pass in which it knows of itself and, if `tells`, hears of the other each minute.
fn pass(state: &mut State, from: Instant, seconds: u64, tells: bool) -> Vec<String> {
    let mut all = Vec::new();
    for second in (0..seconds).step_by(10) {
        let now = from + secs(second);
        if tells && second % 60 == 0 {
            tell(state, now);
        }
        state.among_others(true, &wrote(now), now);
        all.extend(asked(state, now));
    }
    // Without an answer it is asked again.
    all.dedup();
    all
}

#[test]
fn what_others_serve_and_this_one_cannot_reach_is_not_stopped_by_it() {
    let now = Instant::now();
    let mut state = among_others(8, true, now);
    state.fold(running(&id("a"), 1), now);
    assert_eq!(pass(&mut state, now, 3600, true), [""; 0]);
    assert_eq!(stage(&state, "a"), "starting");
    // Of one that has gone nothing is told, and then it is nobody's.
    let later = now + secs(3600);
    assert_eq!(pass(&mut state, later, 600, false), ["fail a start_timeout"]);
}

#[test]
fn what_another_told_of_an_instance_that_is_over_keeps_no_other() {
    let now = Instant::now();
    let mut state = among_others(8, true, now);
    tell(&mut state, now);
    state.fold(running(&id("a"), 2), now);
    assert_eq!(pass(&mut state, now, 200, true), ["fail a start_timeout"]);
}

#[test]
fn a_template_that_this_one_does_not_know_ends_nothing_that_others_serve() {
    let now = Instant::now();
    let mut state = among_others(8, true, now);
    state.settings.templates.clear();
    state.fold(running(&id("a"), 1), now);
    assert_eq!(pass(&mut state, now, 3600, true), [""; 0]);
    let Phase::Failed { cause, .. } = state.entry(&id("a")).unwrap().phase else { panic!() };
    assert_eq!(cause.code, CauseCode::TemplateGone);
    let refused = state.wake(&wake(&id("a")), now + secs(3600)).unwrap_err();
    assert!(matches!(refused, WakeRefused::NoTemplate(_)), "{refused}");
    // Nobody serves it any more, since all know as little of its template: one of them ends it.
    let later = now + secs(3600);
    let gone = now + secs(3540) + GONE;
    assert_eq!(pass(&mut state, later, (gone - later).as_secs(), false), [""; 0]);
    assert_eq!(pass(&mut state, gone, 20, false), ["fail a template_gone"]);
}

#[test]
fn a_template_that_nobody_knows_ends_after_ten_minutes_by_the_one_that_leads() {
    let now = Instant::now();
    for (leads, expected) in [(false, vec![]), (true, vec!["fail a template_gone"])] {
        let mut state = among_others(8, leads, now);
        state.settings.templates.clear();
        state.fold(running(&id("a"), 1), now);
        let later = now + UNKNOWN;
        state.among_others(leads, &wrote(later - secs(1)), later - secs(1));
        assert_eq!(asked(&mut state, later - secs(1)), [""; 0]);
        state.among_others(leads, &wrote(later), later);
        assert_eq!(asked(&mut state, later), expected);
    }
}

#[test]
fn what_runs_with_a_template_that_is_not_known_counts_and_can_be_stopped() {
    let now = Instant::now();
    let mut state = among_others(8, false, now);
    let template = state.settings.templates.remove(&TemplateName::parse("demo").unwrap()).unwrap();
    state.settings.templates.insert(TemplateName::parse("other").unwrap(), template);
    state.fold(running(&id("a"), 1), now);
    let other = Wake { owner: owner(&id("a")), running_max: 1, ..wake(&id("other--a")) };
    let other = Wake { template: TemplateName::parse("other").unwrap(), ..other };
    let refused = state.wake(&other, now).unwrap_err();
    assert_eq!(refused, WakeRefused::TooMany { running: 1, limit: 1 });
    assert!(state.stop(&id("a"), now));
    assert_eq!(asked(&mut state, now), ["fail a template_gone"]);
    let cause = Cause::template_gone(&TemplateName::parse("demo").unwrap());
    state.fold(seen(&id("a"), ObservedPhase::Failed { cause }), now);
    assert_eq!(stage(&state, "a"), "failed");
    assert!(!state.stop(&id("a"), now), "nothing runs any more");
    assert!(state.wake(&other, now).is_ok());
}

#[test]
fn whoever_asks_again_and_again_is_heard_each_five_seconds() {
    let now = Instant::now();
    let mut state = among_others(8, false, now);
    state.fold(running(&id("a"), 1), now);
    let again = Wake { retry: true, ..wake(&id("a")) };
    let heard = |millis: u64, state: &mut State| {
        state.wake(&again, now + Duration::from_millis(millis)).unwrap().is_some()
    };
    let times: Vec<_> = (0..120).map(|n| n * 100).filter(|at| heard(*at, &mut state)).collect();
    assert_eq!(times, [0, 5_000, 10_000]);
}
