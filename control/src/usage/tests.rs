use super::*;
use crate::Event;
use crate::state::State;
use crate::testing::*;

/// A state in which alice's instance 7 is ready, adopted at `now`.
fn adopted(restored: Restored, now: Instant) -> State {
    let mut state = State::new(settings(8, 8, idle()), restored, false);
    state.fold(running(&id("alice"), 7), now);
    state.fold(Event::Synced, now);
    let reached = crate::state::Outcome::Reached { id: id("alice"), generation: generation(7) };
    state.conclude(reached, now);
    state
}

fn recorded(state: &State, now: Instant) -> Document {
    let entries: Vec<_> = state.workspaces.keys().filter_map(|id| state.entry(id)).map(Arc::new).collect();
    let kept = entries.iter().filter_map(|entry| Some((entry.id.clone(), Kept::of(entry, now)?)));
    // As it is read back.
    serde_json::from_slice(&Document::of(kept, [], now).to_json()).unwrap()
}

#[test]
fn a_use_is_as_old_after_a_restart_as_it_was_when_it_was_recorded() {
    let start = Instant::now();
    let mut state = adopted(Restored::default(), start);
    state.keep(&id("alice"), secs(5000), start);
    let document = recorded(&state, start + secs(400));

    // Usher was down for however long: only ages count.
    let restart = start + secs(1_000_000);
    let state = adopted(document.workspaces(restart).collect(), restart);
    let why = state.entry(&id("alice")).unwrap().why_alive(restart).unwrap();
    assert_eq!((why.reason, restart - why.since), ("kept", secs(400)));
    assert_eq!(why.stops_at, Some(restart + secs(4600)));
}

#[test]
fn what_was_recorded_of_another_instance_does_not_count() {
    let start = Instant::now();
    let document = recorded(&adopted(Restored::default(), start), start + secs(590));
    let of_another = |kept: Kept| Kept { generation: generation(6).fingerprint(), ..kept };
    let restored = document.workspaces(start).map(|(id, kept)| (id, of_another(kept)));
    let state = adopted(restored.collect(), start);
    let why = state.entry(&id("alice")).unwrap().why_alive(start).unwrap();
    assert_eq!((why.reason, why.stops_at), ("started", Some(start + secs(600))));
}

#[test]
fn what_an_old_record_tells_of_an_instance_that_is_over_hides_nothing_of_the_one_that_runs() {
    let start = Instant::now();
    let document = recorded(&adopted(Restored::default(), start), start + secs(400));
    let running: Vec<_> = document.workspaces(start).collect();
    let over = |(id, kept): &(WorkspaceId, Kept)| {
        let last = (start + secs(9), kept.last.1);
        (id.clone(), Kept { generation: generation(6).fingerprint(), last, ..kept.clone() })
    };
    let over: Vec<_> = running.iter().map(over).collect();
    for records in [[&running, &over], [&over, &running]] {
        let mut restored: Restored = records.into_iter().flatten().cloned().collect();
        assert_eq!(restored.take(&id("alice"), &generation(7)).as_ref(), Some(&running[0].1));
    }
}

#[test]
fn an_age_that_the_clock_cannot_hold_is_no_panic() {
    let text = format!(
        r#"{{"workspaces":{{"alice":["{}",{max},{max},"nonsense",{max},{max}]}},"sessions":{{}}}}"#,
        hash::text(&generation(7).fingerprint().0),
        max = u64::MAX
    );
    let document: Document = serde_json::from_str(&text).unwrap();
    let mut restored: Restored = document.workspaces(Instant::now()).collect();
    assert_eq!(restored.take(&id("alice"), &generation(7)).unwrap().last.1, idle::STARTED);
}
