//! What several Ushers before one truth decide.

use super::*;
use crate::peers::{Heard, PeerNews, Told};
use crate::state::{Effect, Outcome};
use crate::testing::*;
use crate::usage::{Kept, Restored, Written};
use crate::{
    Action, Address, CauseCode, Event, Mark, Observed, ObservedPhase, Order, Phase, Scope, Stop, Trouble,
    Weight,
};
use config::TemplateName;
use std::sync::Arc;

/// What one Usher among others knows, which has told the others that it is there.
fn among_others(concurrent: usize, leads: bool, now: Instant) -> State {
    let mut state = State::new(settings(concurrent, 100, idle()), Restored::default(), true);
    state.fold(Event::Synced, now);
    state.among_others(leads, &wrote(now), now);
    state
}

fn wanted(name: &str, second: i64, within: u64) -> Event {
    seen(&id(name), ObservedPhase::Wanted { order: Order { second, within } })
}

fn marked(name: &str, number: u64, mark: Option<u64>) -> Event {
    let phase = ObservedPhase::started(generation(number), Some(address()));
    let mark = mark.map(|number| Mark { number, reason: StopReason::Idle });
    let template = TemplateName::parse("demo").unwrap();
    let id = id(name);
    Event::Seen(Observed {
        mark,
        ..Observed::alone(id.clone(), owner(&id), template, Default::default(), phase)
    })
}

/// A state in which this one runs as instance 1, ready since `now`.
fn with_ready(name: &str, leads: bool, now: Instant) -> State {
    let mut state = among_others(8, leads, now);
    state.fold(running(&id(name), 1), now);
    state.conclude(Outcome::Reached { id: id(name), generation: generation(1) }, now);
    state.settle(now);
    state
}

fn told(name: &str, seen: u64, uses: Vec<(WorkspaceId, Kept)>) -> PeerNews {
    PeerNews::Told(Told { name: name.to_owned(), seen: seen.into(), last: false, uses })
}

fn used(at: Instant) -> Kept {
    let generation = generation(1).fingerprint();
    Kept { generation, started: at, last: (at, "request"), extended_until: None, kept_until: None }
}

/// What is asked of the driver at this moment: `start a`, `mark a`, …
fn asked(state: &mut State, now: Instant) -> Vec<String> {
    let (effects, rests) = state.settle(now);
    assert!(rests);
    let acts = effects.into_iter().filter_map(|effect| match effect {
        Effect::Act { action, .. } => Some(action),
        _ => None,
    });
    acts.map(|action| match action {
        Action::Want(spec) => format!("want {}", spec.id),
        Action::Start(spec) => format!("start {}", spec.id),
        Action::Mark { id, .. } => format!("mark {id}"),
        Action::Unmark { id, mark } => format!("unmark {id} {}", mark.number),
        Action::Stop { id, why: Stop::Marked(mark), .. } => format!("stop {id} {}", mark.number),
        Action::Stop { id, why: Stop::Failed(cause), .. } => format!("fail {id} {}", cause.code.as_str()),
        Action::Stop { id, why: Stop::Refused(cause), .. } => format!("refuse {id} {}", cause.code.as_str()),
        Action::Stop { id, .. } => format!("stop {id}"),
        Action::Delete { id, .. } => format!("delete {id}"),
        Action::Nudge(spec) => format!("nudge {}", spec.id),
    })
    .collect()
}

fn answered(state: &mut State, action: Action, result: Result<(), CauseCode>, now: Instant) {
    let spec = |action: &Action| match action {
        Action::Want(spec) | Action::Start(spec) | Action::Nudge(spec) => spec.id.clone(),
        Action::Mark { id, .. } | Action::Unmark { id, .. } | Action::Stop { id, .. } => id.clone(),
        Action::Delete { id, .. } => id.clone(),
    };
    let id = spec(&action);
    let attempt = state.workspaces[&id].attempt;
    state.conclude(Outcome::Acted { id, attempt, action, result: result.map_err(cause) }, now);
}

fn spec(name: &str) -> crate::StartSpec {
    let id = id(name);
    crate::StartSpec {
        owner: owner(&id),
        template: template("demo", idle()),
        host: String::new(),
        grant: Default::default(),
        id,
    }
}

fn stage(state: &State, name: &str) -> &'static str {
    state.entry(&id(name)).map_or("none", |entry| entry.phase.as_str())
}

#[test]
fn a_wish_is_written_down_and_starts_when_its_turn_is_seen() {
    let now = Instant::now();
    let mut state = among_others(8, false, now);
    state.wake(&wake(&id("a")), now).unwrap();
    assert_eq!(asked(&mut state, now), ["want a"]);
    assert_eq!(asked(&mut state, now + secs(29)), Vec::<String>::new(), "it was asked for already");
    assert_eq!(asked(&mut state, now + ASK_AGAIN), ["want a"], "nothing was heard of it");
    state.fold(wanted("a", 7, 0), now);
    assert_eq!(asked(&mut state, now), ["start a"]);
}

#[test]
fn what_is_scaled_up_again_before_the_stop_is_answered_runs_on() {
    let now = Instant::now();
    let mut state = with_ready("a", false, now);
    assert!(state.stop(&id("a"), now));
    assert_eq!(asked(&mut state, now), ["stop a"]);
    // What was told before it came to anything.
    state.fold(running(&id("a"), 1), now);
    assert_eq!(stage(&state, "a"), "stopping");
    let phase = ObservedPhase::Stopping { generation: generation(1), trouble: None };
    state.fold(seen(&id("a"), phase), now);
    state.fold(running(&id("a"), 1), now);
    assert_eq!(stage(&state, "a"), "starting");
}

#[test]
fn what_is_called_off_ends_also_if_its_pod_was_heard_of_before_the_wish_for_it() {
    let now = Instant::now();
    let mut state = among_others(8, false, now);
    state.fold(wanted("a", 5, 0), now);
    assert_eq!(asked(&mut state, now), ["start a"]);
    assert!(state.stop(&id("a"), now));
    assert_eq!(asked(&mut state, now), ["stop a"]);
    // Another started it meanwhile; of its pod there is news twice.
    let phase = ObservedPhase::Stopping { generation: generation(1), trouble: None };
    state.fold(seen(&id("a"), phase.clone()), now);
    state.fold(seen(&id("a"), phase), now);
    state.fold(running(&id("a"), 1), now);
    assert_eq!(stage(&state, "a"), "stopping");
    assert_eq!(asked(&mut state, now), ["stop a"], "the one that runs is to end");
}

#[test]
fn every_usher_sees_the_same_queue_whoever_asked_and_in_whatever_order_it_hears() {
    let now = Instant::now();
    let wants = [wanted("c", 5, 9), wanted("a", 5, 8), wanted("d", 4, 99), wanted("b", 6, 0)];
    let orders = [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]];
    for order in orders {
        let mut state = among_others(0, false, now);
        order.iter().for_each(|which| state.fold(wants[*which].clone(), now));
        let queue: Vec<_> = state.queue.iter().map(|(_, id)| id.to_string()).collect();
        assert_eq!(queue, ["d", "a", "c", "b"]);
        assert!(matches!(state.entry(&id("a")).unwrap().phase, Phase::Queued { position: 2 }));
    }
}

#[test]
fn the_next_start_waits_until_the_one_before_shows_so_that_the_limit_is_passed_by_one_at_most() {
    let now = Instant::now();
    let mut state = among_others(8, false, now);
    for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
        state.fold(wanted(name, 1, number as u64), now);
    }
    assert_eq!(asked(&mut state, now), ["start a"]);
    answered(&mut state, Action::Start(spec("a")), Ok(()), now);
    assert_eq!(asked(&mut state, now), Vec::<String>::new(), "an answer does not show what others did");
    state.fold(
        seen(
            &id("a"),
            ObservedPhase::Running { generation: None, address: None, step: Step::Asked, trouble: None },
        ),
        now,
    );
    assert_eq!(asked(&mut state, now), ["start b"]);
}

#[test]
fn what_one_that_died_had_asked_for_is_started_by_another_and_what_was_called_off_is_not() {
    let now = Instant::now();
    let mut state = among_others(1, false, now);
    state.fold(wanted("a", 1, 0), now);
    state.fold(wanted("b", 2, 0), now);
    assert_eq!(asked(&mut state, now), ["start a"]);
    state.fold(seen(&id("b"), ObservedPhase::Stopped), now);
    assert_eq!(stage(&state, "b"), "stopped");
    let cause = cause(CauseCode::Crashed);
    state.fold(wanted("c", 3, 0), now);
    state.fold(seen(&id("c"), ObservedPhase::Failed { cause }), now);
    assert_eq!(stage(&state, "c"), "failed", "another had it start, and it came to nothing");
}

#[test]
fn a_start_of_which_the_answer_was_lost_is_asked_for_again_and_fails_nobody() {
    let now = Instant::now();
    let mut state = among_others(8, false, now);
    state.fold(wanted("a", 1, 0), now);
    assert_eq!(asked(&mut state, now), ["start a"]);
    answered(&mut state, Action::Start(spec("a")), Err(CauseCode::ClusterUnreachable), now);
    let Phase::Starting { trouble, .. } = state.entry(&id("a")).unwrap().phase else { panic!() };
    assert_eq!(trouble.unwrap().code, CauseCode::ClusterUnreachable, "who waits is told why");
    assert_eq!(asked(&mut state, now + secs(1)), Vec::<String>::new());
    assert_eq!(asked(&mut state, now + RETRY), ["start a"]);
    state.fold(running(&id("a"), 1), now + RETRY);
    assert_eq!(asked(&mut state, now + secs(20)), Vec::<String>::new(), "it was done the first time");
}

#[test]
fn a_start_that_is_refused_gives_its_place_up_for_all_to_see_and_one_that_came_late_looks_again() {
    let now = Instant::now();
    let mut state = among_others(8, false, now);
    state.fold(wanted("a", 1, 0), now);
    asked(&mut state, now);
    answered(&mut state, Action::Start(spec("a")), Err(CauseCode::QuotaExceeded), now);
    assert_eq!(stage(&state, "a"), "failed");
    assert_eq!(asked(&mut state, now), ["refuse a quota_exceeded"]);

    let mut state = among_others(8, false, now);
    state.fold(wanted("a", 1, 0), now);
    asked(&mut state, now);
    answered(&mut state, Action::Start(spec("a")), Err(CauseCode::Conflict), now);
    assert_eq!((stage(&state, "a"), asked(&mut state, now)), ("queued", Vec::new()), "not at once again");
    assert_eq!(asked(&mut state, now + RETRY), ["start a"]);
}

#[test]
fn what_the_cluster_could_not_do_is_not_counted_against_a_workspace() {
    let now = Instant::now();
    let mut state = among_others(8, false, now);
    for round in 0..5 {
        let now = now + secs(round * 10);
        state.wake(&wake(&id("a")), now).unwrap();
        asked(&mut state, now);
        answered(&mut state, Action::Want(spec("a")), Err(CauseCode::ClusterUnreachable), now);
        let Phase::Failed { retry_at, .. } = state.entry(&id("a")).unwrap().phase else { panic!() };
        assert_eq!(retry_at, now + BACKOFF_FIRST);
    }
}

#[test]
fn a_wish_outlives_what_is_told_late() {
    let now = Instant::now();
    let mut state = among_others(8, false, now);
    state.wake(&wake(&id("a")), now).unwrap();
    asked(&mut state, now);
    // All of this is of a start and a stop before.
    state.fold(wanted("a", 1, 0), now);
    state.fold(running(&id("a"), 1), now);
    state.fold(seen(&id("a"), ObservedPhase::Stopping { generation: generation(1), trouble: None }), now);
    state.fold(seen(&id("a"), ObservedPhase::Stopped), now);
    assert_eq!(stage(&state, "a"), "queued");
    // But not the end that its owner asks for.
    assert!(state.stop(&id("a"), now));
    state.fold(seen(&id("a"), ObservedPhase::Stopped), now);
    assert_ne!(stage(&state, "a"), "queued");
}

#[test]
fn one_leads_and_marks_and_all_others_only_take_back() {
    let now = Instant::now();
    let over = now + secs(600);
    for (leads, expected) in [(true, vec!["mark a"]), (false, vec![])] {
        let mut state = with_ready("a", leads, now);
        state.among_others(leads, &wrote(over), over);
        assert_eq!(asked(&mut state, over), expected, "leads: {leads}");
    }
    let mut state = with_ready("a", false, now);
    state.workspaces[&id("a")].activity.used_at(over);
    state.fold(marked("a", 1, Some(5)), over + secs(1));
    assert_eq!(asked(&mut state, over + secs(1)), ["unmark a 5"]);
    let mut heard = Heard::default();
    assert!(state.tell_heard(&mut heard));
    assert_eq!(heard.seen, 5.into());
}

#[test]
fn a_mark_that_is_seen_before_the_workspace_is_ready_here_is_taken_back_all_the_same() {
    let now = Instant::now();
    let mut state = among_others(8, false, now);
    state.fold(marked("a", 1, Some(5)), now);
    state.conclude(Outcome::Reached { id: id("a"), generation: generation(1) }, now);
    assert_eq!(asked(&mut state, now), ["unmark a 5"], "it is used: it was ready just now");
}

#[test]
fn a_marked_workspace_is_stopped_when_all_have_seen_the_mark_and_nobody_knows_of_a_use() {
    let now = Instant::now();
    let over = now + secs(600);
    let mut state = with_ready("a", true, now);
    state.hear(told("b", 0, vec![]), over);
    state.among_others(true, &wrote(over), over);
    assert_eq!(asked(&mut state, over), ["mark a"]);
    state.fold(marked("a", 1, Some(7)), over);
    let at = |seconds: u64| over + secs(seconds);
    let asked_at = |state: &mut State, seconds: u64| {
        state.among_others(true, &wrote(at(seconds)), at(seconds));
        asked(state, at(seconds))
    };
    assert_eq!(asked_at(&mut state, 5), Vec::<String>::new(), "b has not seen it");
    state.hear(told("b", 7, vec![]), at(6));
    assert_eq!(asked_at(&mut state, 6), Vec::<String>::new(), "it has not heard itself");
    state.hear(PeerNews::Echo(7.into()), at(7));
    assert_eq!(asked_at(&mut state, 7), ["stop a 7"]);
    assert_eq!(stage(&state, "a"), "ready", "until it is known that the mark stood");

    let stop = Action::Stop {
        id: id("a"),
        generation: Some(generation(1)),
        why: Stop::Marked(Mark { number: 7, reason: StopReason::Idle }),
    };
    answered(&mut state, stop.clone(), Err(CauseCode::Conflict), at(8));
    assert_eq!(stage(&state, "a"), "ready", "somebody took it back");
    assert_eq!(asked_at(&mut state, 8), Vec::<String>::new());
    assert_eq!(asked_at(&mut state, 10), ["stop a 7"]);
    answered(&mut state, stop, Ok(()), at(11));
    assert_eq!(stage(&state, "a"), "stopping");
    state.wake(&wake(&id("a")), at(11)).unwrap();
    assert_eq!(stage(&state, "a"), "stopping", "a visit now is remembered");
    state.fold(seen(&id("a"), ObservedPhase::Stopped), at(12));
    assert_eq!(asked_at(&mut state, 12), ["want a"]);
}

#[test]
fn a_use_that_another_tells_of_keeps_a_workspace_and_a_mark_that_was_taken_back_does_not_return_at_once() {
    let now = Instant::now();
    let over = now + secs(600);
    let mut state = with_ready("a", true, now);
    state.fold(marked("a", 1, Some(7)), over);
    state.hear(told("b", 0, vec![(id("a"), used(over - secs(10)))]), over);
    state.among_others(true, &wrote(over), over);
    assert_eq!(asked(&mut state, over), ["unmark a 7"]);
    let mut state = with_ready("a", true, now);
    state.fold(marked("a", 1, Some(7)), over);
    state.fold(marked("a", 1, None), over);
    let later = over + TAKEN_BACK - secs(1);
    state.among_others(true, &wrote(later), later);
    assert_eq!(asked(&mut state, later), Vec::<String>::new(), "whoever took it back tells why by then");
    assert_eq!(asked(&mut state, later + secs(1)), ["mark a"]);
}

#[test]
fn what_another_told_counts_but_is_not_told_on() {
    let now = Instant::now();
    let later = now + secs(300);
    let mut state = with_ready("a", false, now);
    state.hear(told("b", 0, vec![(id("a"), used(later))]), later);
    let entry = state.entry(&id("a")).unwrap();
    assert_eq!(entry.why_alive(later).unwrap().since, later);
    assert_eq!(Kept::of(&entry, later).unwrap().last.0, now);
    // It is from when the other is gone.
    state.among_others(false, &wrote(later + crate::peers::GONE), later + crate::peers::GONE);
    let entry = state.entry(&id("a")).unwrap();
    assert_eq!(Kept::of(&entry, later).unwrap().last.0, later);
}

/// What was told at this time: of `a`, that it was used then.
fn wrote(at: Instant) -> Written {
    Written { at, uses: Arc::new([(id("a"), used(at))].into()) }
}

#[test]
fn one_that_is_blind_decides_nothing_on_what_may_be_outdated() {
    let now = Instant::now();
    let mut state = with_ready("a", true, now);
    state.fold(wanted("b", 1, 0), now);
    assert_eq!(asked(&mut state, now), ["start b"]);
    state.fold(Event::Sighted(Scope::default(), false), now);
    state.fold(wanted("c", 2, 0), now);
    let late = now + secs(900);
    state.among_others(true, &wrote(late), late);
    assert_eq!(asked(&mut state, late), Vec::<String>::new(), "no start, no timeout, no mark");
    assert_eq!((stage(&state, "a"), stage(&state, "b")), ("ready", "starting"));
    state.fold(Event::Sighted(Scope::default(), true), late);
    assert_eq!(asked(&mut state, late), ["mark a"], "the start has all its time again");
    assert_eq!(asked(&mut state, late + secs(30)), ["mark a", "start c", "refuse b start_timeout"]);
}

#[test]
fn what_was_never_there_is_not_waited_for() {
    let now = Instant::now();
    let mut state = among_others(8, false, now);
    state.wake(&wake(&id("a")), now).unwrap();
    asked(&mut state, now);
    assert!(state.stop(&id("a"), now));
    assert_eq!(asked(&mut state, now), ["stop a"], "it may have been written down");
    let stop = Action::Stop { id: id("a"), generation: None, why: Stop::Asked };
    answered(&mut state, stop, Ok(()), now);
    assert_eq!(stage(&state, "a"), "none");
}

#[test]
fn an_instance_that_comes_in_place_of_one_that_is_given_up_is_given_up_as_well() {
    let now = Instant::now();
    let mut state = among_others(8, false, now);
    let broken = |number: u64| {
        let trouble = Some(Trouble { cause: cause(CauseCode::CrashLoop), weight: Weight::End });
        let generation = Some(generation(number));
        seen(&id("a"), ObservedPhase::Running { generation, address: None, step: Step::Started, trouble })
    };
    state.fold(broken(1), now);
    assert_eq!(asked(&mut state, now), ["fail a crash_loop"]);
    state.fold(broken(2), now);
    assert_eq!(asked(&mut state, now), ["fail a crash_loop"]);
    assert_eq!(state.workspaces[&id("a")].stage.generation(), Some(&generation(2)));
}

#[test]
fn a_visit_to_one_that_was_stopped_elsewhere_while_it_came_up_again_starts_it_when_it_has_stopped() {
    let now = Instant::now();
    let mut state = with_ready("a", false, now);
    let phase =
        |generation| ObservedPhase::Running { generation, address: None, step: Step::Asked, trouble: None };
    // Its pod was deleted, and before there is another it is stopped.
    state.fold(seen(&id("a"), phase(None)), now);
    state.fold(seen(&id("a"), ObservedPhase::stopping(generation(1))), now);
    assert_eq!(stage(&state, "a"), "stopping");
    assert_eq!(asked(&mut state, now), [""; 0]);
    state.wake(&wake(&id("a")), now).unwrap();
    state.fold(seen(&id("a"), ObservedPhase::Stopped), now);
    assert_eq!(asked(&mut state, now), ["want a"]);
}

#[test]
fn an_instance_that_is_heard_of_before_the_wish_for_it_is_not_stopped_for_that() {
    let now = Instant::now();
    let start = ObservedPhase::started(generation(1), Some(address()));
    for waits in [false, true] {
        let mut state = among_others(0, false, now);
        state.fold(seen(&id("a"), ObservedPhase::Stopped), now);
        if waits {
            state.fold(wanted("a", 1, 0), now);
        }
        // Its pod is there, and that it is to run was not heard yet.
        state.fold(seen(&id("a"), ObservedPhase::stopping(generation(1))), now);
        state.fold(seen(&id("a"), start.clone()), now);
        assert_eq!(stage(&state, "a"), "starting", "it waited: {waits}");
    }
}

#[test]
fn an_instance_that_has_moved_or_lost_its_address_gets_no_traffic_there_any_more() {
    let now = Instant::now();
    let elsewhere = Address::Tcp(([10, 9, 9, 9], 80).into());
    for address in [None, Some(elsewhere)] {
        let mut state = with_ready("a", false, now);
        let Phase::Ready(route) = state.entry(&id("a")).unwrap().phase else { panic!() };
        state.fold(seen(&id("a"), ObservedPhase::started(generation(1), address.clone())), now);
        std::mem::take(&mut state.news).ended.iter().for_each(|ended| ended.cancel());
        assert!(route.ended.is_cancelled(), "{address:?}");
        assert_eq!(stage(&state, "a"), "starting", "{address:?}");
    }
}

#[test]
fn what_is_told_of_a_workspace_before_it_is_seen_counts_when_it_is() {
    let now = Instant::now();
    let mut state = among_others(8, true, now);
    let kept = Kept { kept_until: Some(now + secs(5000)), ..used(now) };
    state.hear(told("b", 0, vec![(id("a"), kept)]), now);
    state.fold(running(&id("a"), 1), now);
    state.conclude(Outcome::Reached { id: id("a"), generation: generation(1) }, now);
    let Stage::Ready(ready) = &state.workspaces[&id("a")].stage else { panic!() };
    assert_eq!(ready.terms.kept_until, Some(now + secs(5000)));
}

#[test]
fn the_record_of_one_that_is_gone_is_of_use_until_all_that_runs_was_seen_for_five_minutes() {
    let start = Instant::now();
    let at = |seconds: u64| start + secs(seconds);
    let mut state = among_others(8, true, start);
    let gone = |state: &mut State, seconds| {
        state.among_others(true, &wrote(at(seconds)), at(seconds));
        let mut heard = Heard::default();
        state.tell_heard(&mut heard);
        heard.gone.into_iter().collect::<Vec<_>>()
    };
    state.hear(told("killed", 0, vec![]), at(0));
    let ended = Told { name: "ended".to_owned(), seen: 0.into(), last: true, uses: vec![] };
    state.hear(PeerNews::Told(ended), at(10));
    assert_eq!(gone(&mut state, 300), [""; 0]);
    assert_eq!(gone(&mut state, 310), ["ended"]);
    state.hear(PeerNews::Deleted("ended".to_owned()), at(311));
    state.fold(Event::Sighted(Scope::default(), false), at(400));
    state.fold(Event::Sighted(Scope::default(), true), at(500));
    assert_eq!(gone(&mut state, 700), [""; 0], "what ran meanwhile is only known since 500");
    assert_eq!(gone(&mut state, 800), ["killed"]);
    state.hear(told("killed", 0, vec![]), at(801));
    assert_eq!(gone(&mut state, 801), [""; 0], "it was only halted");
}

mod cut_off;
mod elsewhere;
mod scopes;
