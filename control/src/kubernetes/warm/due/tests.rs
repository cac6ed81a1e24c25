//! What is due, as tables.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn template(name: &str) -> TemplateName {
    TemplateName::parse(name).unwrap()
}

fn asked(ready: usize) -> Asked {
    Asked { template: template("t"), hash: "new".to_owned(), ready, patience: 600 * SECOND }
}

/// Some sets of one kind, known since `now`.
fn sets(name: &str, hash: &str, states: &[State], now: Instant) -> Vec<Seen> {
    let seen = |(index, state): (usize, &State)| Seen {
        handle: Handle { name: format!("{name}{index}"), uid: format!("uid-{name}{index}"), version: 7 },
        template: Some(template("t")),
        hash: Some(hash.to_owned()),
        state: *state,
        since: now,
    };
    states.iter().enumerate().map(seen).collect()
}

fn due(memory: &mut Memory, asked: &[Asked], sets: &[Seen], now: Instant) -> (usize, Vec<String>) {
    let steps = memory.due(asked, sets, &BTreeSet::new(), &[], now);
    let made = steps.iter().filter(|step| matches!(step, Step::Make(_))).count();
    let dropped = steps.iter().filter_map(|step| match step {
        Step::Drop(handle) => Some(handle.name.clone()),
        _ => None,
    });
    (made, dropped.collect())
}

#[test]
fn as_many_are_kept_as_asked_and_two_at_a_time_on_their_way() {
    use State::{Claimed, Ready, Starting};
    let now = Instant::now();
    for (ready, states, made, dropped) in [
        (3, &[][..], 2, &[][..]),
        (3, &[Starting], 1, &[]),
        (3, &[Starting, Starting], 0, &[]),
        (3, &[Ready, Starting], 1, &[]),
        (3, &[Ready, Ready, Ready], 0, &[]),
        (3, &[Ready, Ready, Starting], 0, &[]),
        (1, &[Ready, Starting, Ready], 0, &["t2", "t1"]),
        (1, &[Starting, Starting], 0, &["t1"]),
        (0, &[Starting, Ready], 0, &["t1", "t0"]),
        // What is somebody's is of no use to the next, and stays.
        (1, &[Claimed { told: true }], 1, &[]),
        (0, &[Claimed { told: true }], 0, &[]),
    ] {
        let seen = sets("t", "new", states, now);
        let (did, gone) = due(&mut Memory::default(), &[asked(ready)], &seen, now);
        assert_eq!(
            (did, gone.iter().map(String::as_str).collect::<Vec<_>>()),
            (made, dropped.to_vec()),
            "{ready} {states:?}"
        );
    }
}

#[test]
fn a_template_that_left_takes_its_free_ones_along() {
    let now = Instant::now();
    let seen =
        sets("t", "new", &[State::Ready, State::Starting, State::Claimed { told: true }, State::Ending], now);
    assert_eq!(due(&mut Memory::default(), &[], &seen, now), (0, vec!["t0".to_owned(), "t1".to_owned()]));
}

#[test]
fn those_of_an_older_template_go_one_by_one_as_the_new_ones_are_ready() {
    use State::{Ready, Starting};
    let now = Instant::now();
    let old = sets("old", "old", &[Ready, Ready, Starting], now);
    for (new, dropped) in [
        (&[][..], &["old2"][..]),
        (&[Starting, Starting], &["old2"]),
        (&[Ready, Starting], &["old1", "old2"]),
        (&[Ready, Ready], &["old0", "old1", "old2"]),
    ] {
        let seen = [sets("new", "new", new, now), old.clone()].concat();
        let (_, gone) = due(&mut Memory::default(), &[asked(2)], &seen, now);
        assert_eq!(gone, dropped, "{new:?}");
    }
    // Where there is no room for both, the old ones make some.
    let later = now + ROOM;
    let seen = [sets("new", "new", &[Starting], now), old].concat();
    let (_, gone) = due(&mut Memory::default(), &[asked(2)], &seen, later);
    assert_eq!(gone, ["old0", "old1", "old2"]);
}

#[test]
fn a_template_that_fails_is_tried_at_longer_and_longer_intervals() {
    let now = Instant::now();
    let mut memory = Memory::default();
    let asked = [asked(3)];
    let mut at = now;
    let mut waits = Vec::new();
    for _ in 0..12 {
        memory.failed(&asked[0].template, at);
        let before = at;
        while due(&mut memory, &asked, &[], at).0 == 0 {
            at += SECOND;
        }
        waits.push((at - before).as_secs());
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]);
    // One that became ready ends it.
    due(&mut memory, &asked, &sets("t", "new", &[State::Ready], at), at);
    assert_eq!(due(&mut memory, &asked, &[], at).0, 2);
}

#[test]
fn one_that_never_becomes_ready_is_replaced_after_a_pause() {
    let now = Instant::now();
    let mut memory = Memory::default();
    let seen = sets("t", "new", &[State::Starting], now);
    assert_eq!(due(&mut memory, &[asked(1)], &seen, now + 599 * SECOND), (0, vec![]));
    assert_eq!(due(&mut memory, &[asked(1)], &seen, now + 600 * SECOND), (0, vec!["t0".to_owned()]));
    assert_eq!(due(&mut memory, &[asked(1)], &[], now + 601 * SECOND), (1, vec![]));
}

#[test]
fn a_claim_that_stays_half_made_is_completed_and_no_other() {
    let now = Instant::now();
    let mut memory = Memory::default();
    let alice = WorkspaceId::parse("alice").unwrap();
    let in_vain = BTreeSet::from([alice.clone()]);
    let none = BTreeSet::new();
    let mut steps = |in_vain, at| memory.due(&[], &[], in_vain, &[], at);
    assert_eq!(steps(&in_vain, now), []);
    assert_eq!(steps(&in_vain, now + HALF_MADE - SECOND), []);
    // In between it was true.
    assert_eq!(steps(&none, now + HALF_MADE), []);
    assert_eq!(steps(&in_vain, now + HALF_MADE), []);
    assert_eq!(steps(&in_vain, now + 2 * HALF_MADE), [Step::GiveUp(alice)]);
}

#[test]
fn what_was_left_half_done_to_a_claimed_one_is_done_after_a_while() {
    for (state, patience, is_drop) in
        [(State::Left, LEFT, true), (State::Claimed { told: false }, UNTOLD, false)]
    {
        let now = Instant::now();
        let mut memory = Memory::default();
        let seen = sets("t", "new", &[state], now);
        let handle = seen[0].handle.clone();
        let step = if is_drop { Step::Drop(handle) } else { Step::Tell(handle) };
        let mut steps = |sets: &[Seen], at| memory.due(&[asked(0)], sets, &BTreeSet::new(), &[], at);
        assert_eq!(steps(&seen, now), []);
        assert_eq!(steps(&seen, now + patience - SECOND), []);
        assert_eq!(steps(&seen, now + patience), [step], "{state:?}");
        assert_eq!(steps(&sets("t", "new", &[State::Claimed { told: true }], now), now + patience), []);
        assert_eq!(steps(&seen, now + 2 * patience), [], "{state:?}: it was in order in between");
    }
}

#[test]
fn what_rests_is_taken_down_and_what_nobody_has_is_cleared_when_that_stays_so() {
    let now = Instant::now();
    let stray = Handle { name: "home-t1-0".to_owned(), uid: "c".to_owned(), version: 3 };
    let restless = sets("t", "old", &[State::Restless], now);
    let rest = Step::Rest(restless[0].handle.clone());
    for (restless, stray, late, expected) in [
        (&restless[..], &[][..], HALF_MADE, rest),
        (&[][..], &[stray.clone()][..], STRAY, Step::Clear(stray)),
    ] {
        let mut memory = Memory::default();
        let mut steps =
            |sets: &[Seen], stray: &[Handle], at| memory.due(&[], sets, &BTreeSet::new(), stray, at);
        assert_eq!(steps(restless, stray, now), []);
        assert_eq!(steps(restless, stray, now + late - SECOND), []);
        // It was not so in between.
        assert_eq!(steps(&[], &[], now + late - SECOND), []);
        assert_eq!(steps(restless, stray, now + late), []);
        assert_eq!(steps(restless, stray, now + 2 * late), [expected]);
    }
}
