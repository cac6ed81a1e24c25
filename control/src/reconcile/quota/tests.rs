use super::super::admit::{Admission, admit};
use crate::reconcile::{Decision, reconcile};
use crate::state::{Stage, State, Then};
use crate::testing::*;
use crate::usage::{Restored, Written};
use crate::{
    CauseCode, Event, Grant, Observed, ObservedPhase, Order, OverQuota, QuotaScope, Wake, WakeRefused,
};
use config::{Amount, QuotaName, TemplateName, Values, WorkspaceId};
use std::time::Instant;

/// Two templates, one of which is as large as its user's values say.
const TABLES: &str = r#"
[templates.demo]
image = "i"
port = 80
volume = "none"
resources = { cpu = 1, memory = { expression = "user.name" } }
[templates.gpu]
image = "i"
port = 80
volume = "none"
resources = { cpu = 4, memory = "2Gi", "nvidia.com/gpu" = 1 }
[quotas.astro]
applies_to = "'astro' in groups"
each = { workspaces = 3, memory = "8Gi", "nvidia.com/gpu" = 1 }
all = { workspaces = 4, cpu = "10", "nvidia.com/gpu" = 2 }
[quotas.everybody]
applies_to = "true"
all = { workspaces = 6 }
"#;

fn grant(memory: &str, quotas: &[&str]) -> Grant {
    Grant {
        values: Values([("resources.memory".to_owned(), memory.to_owned())].into()),
        quotas: quotas.iter().map(|name| QuotaName::parse(name).unwrap()).collect(),
    }
}

/// A wake of a user of both quotas.
fn of_astro(id: &str, template: &str, memory: &str) -> Wake {
    let template = TemplateName::parse(template).unwrap();
    Wake { template, grant: grant(memory, &["astro", "everybody"]), running_max: 9, ..wake(&self::id(id)) }
}

fn of_everybody(id: &str) -> Wake {
    Wake { grant: grant("1Gi", &["everybody"]), ..of_astro(id, "demo", "1Gi") }
}

/// A state in which these were woken before.
fn after(woken: &[Wake]) -> (State, Instant) {
    let now = Instant::now();
    let mut state = state(pods(TABLES), now);
    for wake in woken {
        state.wake(wake, now).unwrap_or_else(|refused| panic!("{}: {refused}", wake.id));
    }
    (state, now)
}

/// `quota scope what used/limit +needed by`.
fn told(result: Result<Admission, WakeRefused>) -> String {
    match result {
        Ok(_) => "admitted".to_owned(),
        Err(WakeRefused::OverQuota(over)) => {
            let OverQuota { quota, scope, what, used, needed, limit, by } = *over;
            let by: Vec<String> = by.iter().map(WorkspaceId::to_string).collect();
            format!("{quota} {scope:?} {what} {used}/{limit} +{needed} {}", by.join(","))
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn what_goes_beyond_a_quota_is_told_with_what_is_used_and_by_which_of_theirs() {
    let alices = || vec![of_astro("alice", "demo", "2Gi"), of_astro("b--alice", "demo", "2Gi")];
    let gpus = || vec![of_astro("bob", "gpu", "0"), of_astro("carol", "gpu", "0")];
    let table: [(Vec<Wake>, Wake, &str); 11] = [
        (vec![], of_astro("alice", "demo", "8Gi"), "admitted"),
        (vec![], of_astro("alice", "demo", "9Gi"), "astro Each memory 0/8Gi +9Gi "),
        (alices(), of_astro("c--alice", "demo", "4Gi"), "admitted"),
        (
            alices(),
            of_astro("c--alice", "demo", "4097Mi"),
            "astro Each memory 4Gi/8Gi +4097Mi alice,b--alice",
        ),
        (alices(), of_astro("alice", "demo", "99Gi"), "admitted"),
        (
            [alices(), vec![of_astro("c--alice", "demo", "1Gi")]].concat(),
            of_astro("d--alice", "demo", "1Gi"),
            "astro Each workspaces 3/3 +1 alice,b--alice,c--alice",
        ),
        (
            vec![of_astro("alice", "gpu", "0"), of_astro("b--alice", "demo", "1Gi")],
            of_astro("c--alice", "gpu", "0"),
            "astro Each nvidia.com/gpu 1/1 +1 alice",
        ),
        (gpus(), of_astro("alice", "gpu", "0"), "astro All cpu 8/10 +4 "),
        (gpus(), of_astro("alice", "demo", "1Gi"), "admitted"),
        (
            [alices(), gpus()[..1].to_vec(), vec![of_astro("carol", "demo", "1Gi")]].concat(),
            of_astro("dora", "demo", "1Gi"),
            "astro All workspaces 4/4 +1 ",
        ),
        (
            ["a", "b", "c", "d", "e", "f"].map(of_everybody).to_vec(),
            of_everybody("g"),
            "everybody All workspaces 6/6 +1 ",
        ),
    ];
    for (before, wake, expected) in table {
        let (state, now) = after(&before);
        assert_eq!(told(admit(&state, &wake, now)), expected, "{} after {}", wake.id, before.len());
        assert_eq!(state.queue.len(), before.len(), "nothing is queued by a judgement");
    }
}

#[test]
fn who_is_in_no_quota_and_what_is_stopped_counts_against_none() {
    let full = [of_astro("a", "demo", "1Gi"), of_astro("b", "demo", "1Gi"), of_astro("c", "demo", "1Gi")];
    let outside = Wake { grant: Grant::default(), ..of_astro("zoe", "gpu", "0") };
    let (mut state, now) = after(&[full.as_slice(), &[outside]].concat());
    let dora = of_astro("dora", "demo", "1Gi");
    assert_eq!(told(admit(&state, &dora, now)), "admitted", "zoe's GPU is not of astro");
    state.wake(&dora, now).unwrap();
    let eve = of_astro("eve", "demo", "1Gi");
    assert_eq!(told(admit(&state, &eve, now)), "astro All workspaces 4/4 +1 ");
    assert!(state.stop(&id("a"), now));
    assert_eq!(told(admit(&state, &eve, now)), "admitted");
}

#[test]
fn what_another_usher_started_counts_with_what_it_wrote_down() {
    let (mut state, now) = after(&[]);
    for (number, name) in [(1, "bob"), (2, "carol")] {
        let Event::Seen(observed) = running(&id(name), number) else { panic!("it is seen") };
        let template = TemplateName::parse("gpu").unwrap();
        let observed = Observed { grant: grant("0", &["astro"]), template, ..observed };
        state.fold(Event::Seen(observed), now);
    }
    let over = admit(&state, &of_astro("alice", "gpu", "0"), now).unwrap_err();
    let WakeRefused::OverQuota(over) = over else { panic!("{over}") };
    assert_eq!((over.scope, over.used), (QuotaScope::All, Amount::of(8)));
}

#[test]
fn what_runs_with_a_template_that_is_not_known_here_counts_until_it_ends() {
    let (mut state, now) = after(&[]);
    state.peers = Some(Default::default());
    for (number, name) in (1..).zip(["a", "b", "c", "d"]) {
        let Event::Seen(observed) = running(&id(name), number) else { panic!("it is seen") };
        let template = TemplateName::parse("gone").unwrap();
        state.fold(Event::Seen(Observed { grant: grant("0", &["astro"]), template, ..observed }), now);
    }
    let eve = of_astro("eve", "demo", "1Gi");
    assert_eq!(told(admit(&state, &eve, now)), "astro All workspaces 4/4 +1 ");
    state.fold(seen(&id("a"), ObservedPhase::Stopped), now);
    assert_eq!(told(admit(&state, &eve, now)), "admitted");
}

#[test]
fn a_quota_says_what_it_is_and_what_helps() {
    let over = |scope, by: &[&str]| OverQuota {
        quota: QuotaName::parse("astro").unwrap(),
        scope,
        what: "memory".to_owned(),
        used: Amount::parse("6Gi").unwrap(),
        needed: Amount::parse("4Gi").unwrap(),
        limit: Amount::parse("8Gi").unwrap(),
        by: by.iter().map(|name| id(name)).collect(),
    };
    assert_eq!(
        over(QuotaScope::Each, &["alice", "gpu--alice"]).to_string(),
        "The quota `astro` allows you 8Gi of memory; 6Gi are used, and this needs 4Gi more. Of yours these use it: \
         alice, gpu--alice. Stop one first."
    );
    assert_eq!(
        over(QuotaScope::All, &[]).to_string(),
        "The quota `astro` allows all who share it together 8Gi of memory; 6Gi are used, and this needs 4Gi more. \
         None of it by you: try again when others have stopped."
    );
}

#[test]
fn of_two_that_were_admitted_at_once_the_second_finds_the_quota_used_up_at_its_turn() {
    let now = Instant::now();
    let tables = format!("{TABLES}[quotas.one]\napplies_to = \"true\"\nall = {{ workspaces = 1 }}\n");
    let mut state = State::new(pods(&tables), Restored::default(), true);
    state.fold(Event::Synced, now);
    state.among_others(false, &Written::nothing(now), now);
    let seen = |name: &str, phase| {
        let Event::Seen(observed) = seen(&id(name), phase) else { unreachable!() };
        Event::Seen(Observed { grant: grant("1Gi", &["one"]), ..observed })
    };
    for (within, name) in ["a", "b"].into_iter().enumerate() {
        let order = Order { second: 1, within: within as u64 };
        state.fold(seen(name, ObservedPhase::Wanted { order }), now);
    }
    assert_eq!(reconcile(&state, now), [Decision::Start(id("a"))], "who waits does not count");
    let _effects = state.settle(now);
    state.fold(seen("a", ObservedPhase::started(generation(1), Some(address()))), now);
    let _effects = state.settle(now);
    let Stage::Stopping(stopping) = &state.workspaces[&id("b")].stage else { panic!() };
    let Then::Fail(cause) = &stopping.then else { panic!() };
    assert_eq!(cause.code, CauseCode::QuotaExceeded);
    assert!(cause.detail.starts_with("The quota `one` allows all"), "{}", cause.detail);
}
