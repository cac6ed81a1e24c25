//! What is decided while a part of what runs is out of sight.

use super::*;

fn of(namespace: &str) -> Scope {
    Scope::Space(namespace.into())
}

fn within(namespace: &str, event: Event) -> Event {
    let Event::Seen(observed) = event else { panic!("{event:?}") };
    Event::Seen(Observed { scope: of(namespace), ..observed })
}

#[test]
fn of_two_namespaces_the_one_that_is_lost_is_nothing_to_the_other() {
    let now = Instant::now();
    let mut state = among_others(1, true, now);
    for (namespace, name) in [("astro", "a"), ("desks", "d")] {
        state.fold(within(namespace, running(&id(name), 1)), now);
        state.conclude(Outcome::Reached { id: id(name), generation: generation(1) }, now);
    }
    // The only turn there is was taken there when it was lost.
    state.fold(within("astro", wanted("b", 1, 0)), now);
    assert_eq!(asked(&mut state, now), ["start b"]);
    state.fold(Event::Sighted(of("astro"), false), now);
    for (namespace, name) in [("astro", "c"), ("desks", "e")] {
        state.fold(within(namespace, wanted(name, 2, 0)), now);
    }
    assert_eq!(asked(&mut state, now), ["start e"]);
    assert_eq!(["a", "d"].map(|name| state.entry(&id(name)).unwrap().seen), [false, true]);
    let late = now + secs(36_000);
    state.among_others(true, &wrote(late), late);
    assert_eq!(asked(&mut state, late), ["mark d", "refuse e start_timeout"]);

    // Nor does what is opened there now vouch for itself.
    state.sights.reach(late);
    for (name, proved) in [("a", false), ("d", true)] {
        let Phase::Ready(route) = state.entry(&id(name)).unwrap().phase else { panic!("{name} is ready") };
        route.proof.heard(late, now + secs(1), &route.sight);
        assert_eq!(route.proof.holds(late), proved, "{name}");
    }
}
