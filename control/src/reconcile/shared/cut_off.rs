//! What one decides that could not tell the others what it knows.

use super::*;
use crate::peers::CUT_OFF;

/// Lets it know what was written last; whether it serves nobody by way of this route any more.
fn ends(state: &mut State, route: &crate::Route, written: &Written, now: Instant) -> bool {
    state.among_others(true, written, now);
    std::mem::take(&mut state.news).ended.iter().for_each(|ended| ended.cancel());
    route.ended.is_cancelled()
}

#[test]
fn one_that_cannot_tell_what_it_knows_ends_what_others_may_stop_and_stops_nothing_and_comes_back() {
    let now = Instant::now();
    let mut state = with_ready("a", true, now);
    let Phase::Ready(route) = state.entry(&id("a")).unwrap().phase else { panic!() };
    let told = wrote(now);
    // Idle stops come after 10 minutes.
    let late = now + CUT_OFF;
    state.hear(super::told("b", 0, vec![]), late - secs(60));
    assert!(!ends(&mut state, &route, &told, late - secs(1)) && !state.standing().cut_off);
    assert!(!ends(&mut state, &route, &told, late) && state.standing().cut_off);
    state.workspaces[&id("a")].activity.used_at(late);
    assert!(!ends(&mut state, &route, &told, now + secs(539)));
    assert!(
        ends(&mut state, &route, &told, now + secs(540)),
        "others know of no use since, and stop it soon"
    );
    assert_eq!(stage(&state, "a"), "starting", "until it is known what became of it");
    let told = Kept::of(&state.entry(&id("a")).unwrap(), now + secs(541)).unwrap();
    assert!(told.last.0 + secs(1) > late, "its use is told with the first that can be");
    assert_eq!(asked(&mut state, now + secs(900)), Vec::<String>::new());
    let back = now + secs(901);
    assert!(ends(&mut state, &route, &wrote(back), back) && !state.standing().cut_off);
    let Phase::Ready(route) = state.entry(&id("a")).unwrap().phase else { panic!() };
    assert!(!route.ended.is_cancelled());
    assert_eq!(asked(&mut state, back), ["mark a"]);
}

#[test]
fn what_was_never_told_is_not_served_by_one_that_cannot_tell() {
    let now = Instant::now();
    let mut state = with_ready("a", true, now);
    let Phase::Ready(route) = state.entry(&id("a")).unwrap().phase else { panic!() };
    let untold = Written::nothing(now);
    assert!(!ends(&mut state, &route, &untold, now + CUT_OFF - secs(1)));
    assert!(ends(&mut state, &route, &untold, now + CUT_OFF));
}

#[test]
fn what_others_know_to_be_kept_is_served_on_however_long_nothing_can_be_told() {
    let now = Instant::now();
    let kept = |until| Kept { kept_until: Some(until), ..used(now) };
    let mut state = with_ready("a", true, now);
    let Phase::Ready(route) = state.entry(&id("a")).unwrap().phase else { panic!() };
    let told = Written { at: now, uses: Arc::new([(id("a"), kept(now + secs(5000)))].into()) };
    assert!(!ends(&mut state, &route, &told, now + secs(4939)));
    assert!(ends(&mut state, &route, &told, now + secs(4940)));
}

#[test]
fn nobody_is_taken_for_gone_by_one_that_could_not_hear_and_all_are_waited_for_when_it_can() {
    let now = Instant::now();
    let mut state = with_ready("a", true, now);
    state.hear(told("b", 0, vec![]), now);
    let outage = now + secs(1200);
    for second in 0..1200 {
        state.among_others(true, &wrote(now), now + secs(second));
    }
    state.among_others(true, &wrote(outage), outage);
    state.fold(marked("a", 1, Some(7)), outage);
    state.hear(PeerNews::Echo(7.into()), outage);
    let soon = outage + secs(2);
    state.among_others(true, &wrote(outage), soon);
    assert_eq!(asked(&mut state, soon), Vec::<String>::new(), "b may know of a use");
    state.hear(told("b", 7, vec![]), soon);
    assert_eq!(asked(&mut state, soon), ["stop a 7"]);
}

#[test]
fn others_serve_better_where_they_can_write_or_nothing_is_heard_at_all() {
    let now = Instant::now();
    let late = now + CUT_OFF;
    for (heard, sighted, better) in [
        // What both wrote before the trouble began tells nothing.
        (Some(60), true, false),
        (Some(120), true, true),
        (None, true, false),
        (None, false, true),
    ] {
        let mut state = with_ready("a", true, now);
        if let Some(after) = heard {
            state.hear(told("b", 0, vec![]), now + secs(after));
        }
        state.fold(Event::Sighted(Scope::default(), sighted), late);
        state.among_others(true, &wrote(now), late);
        assert_eq!(state.standing().cut_off, better, "{heard:?} {sighted}");
    }
}

#[test]
fn one_that_cannot_tell_what_it_knows_starts_nothing_and_says_why() {
    let now = Instant::now();
    let mut state = among_others(8, true, now);
    state.fold(wanted("a", 7, 0), now);
    let is_queued = |state: &State| matches!(state.entry(&id("a")).unwrap().phase, Phase::Queued { .. });
    state.among_others(true, &wrote(now), now + CUT_OFF - secs(1));
    assert!(is_queued(&state));
    state.among_others(true, &wrote(now), now + CUT_OFF);
    assert!(state.news.changed.contains(&id("a")), "it is told");
    let Phase::Starting { trouble: Some(cause), .. } = state.entry(&id("a")).unwrap().phase else { panic!() };
    assert!(cause.hint.contains("starts nothing"), "{}", cause.hint);
    assert_eq!(asked(&mut state, now + CUT_OFF), Vec::<String>::new());
    let back = now + CUT_OFF + secs(1);
    state.among_others(true, &wrote(back), back);
    assert!(is_queued(&state));
    assert_eq!(asked(&mut state, back), ["start a"]);
}
