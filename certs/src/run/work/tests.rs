//! Workers of several Ushers, before an authority that counts.

use super::*;
use crate::lab::{GenerousAuthority, Memory, Said, certificates, programs, record, settings, unit, worker};
use crate::listed::Next;
use crate::run::start;
use crate::state::Ordered;
use crate::store::{Store, Version};
use futures_util::future::join_all;
use prometheus::Registry;

/// Both believe that they lead, and begin at one moment.
#[tokio::test]
async fn two_that_lead_at_a_time_make_one_order() {
    let authority = GenerousAuthority::start().await;
    let certificates = certificates(&authority, "");
    let store = Arc::new(Memory::default());
    let [(a, _), (b, _)] = ["a", "b"].map(|name| worker(&certificates, &store, Some(name)));
    let units: Vec<Unit> =
        (0..100).map(|number| unit(&certificates, &format!("host{number}.lab.test"))).collect();
    let both = units.iter().map(async |unit| {
        let (one, other) = tokio::join!(a.work(Work::Get, unit, None), b.work(Work::Get, unit, None));
        assert!(one || other, "{}", unit.id);
        assert!(store.value(&DocumentKind::Certificate.name(&unit.id)).is_some(), "{}", unit.id);
    });
    join_all(both).await;
    assert_eq!(authority.asked("order"), units.len());
    // Whoever rested finds it there.
    for unit in &units {
        assert!(a.work(Work::Get, unit, None).await && b.work(Work::Get, unit, None).await);
    }
    assert_eq!(authority.asked("order"), units.len());
}

/// As the loop has it.
fn current(kept: Kept) -> Current {
    let Kept { certificate, origin, obtained } = kept;
    Current { certificate, origin, obtained, is_complete: true, wanted: Vec::new(), version: Version(1) }
}

const HOURS: u64 = 2 * 3600;

fn busy(detail: &'static str) -> Said {
    Said { status: 429, problem: "rateLimited", detail, retry_after: Some(HOURS) }
}

/// Two units of one authority, a store, and a worker.
async fn two_of(more: &str) -> (GenerousAuthority, Certificates, [Unit; 2], Arc<Memory>, Worker) {
    let authority = GenerousAuthority::start().await;
    let certificates = certificates(&authority, more);
    let units = ["a.lab.test", "b.lab.test"].map(|host| unit(&certificates, host));
    let store = Arc::default();
    let (worker, _) = worker(&certificates, &store, None);
    (authority, certificates, units, store, worker)
}

#[tokio::test]
async fn what_an_authority_says_of_when_to_come_again_holds_for_all_its_certificates() {
    let unavailable = Said { status: 503, problem: "serverInternal", ..busy("down for maintenance") };
    for (what, said, expected) in [
        ("order", busy("too many new orders (300) from this account"), "too many new orders"),
        ("account", busy("too many new registrations (10) from this IP address"), "too many new reg"),
        ("nonce", unavailable.clone(), "it answered 503"),
        ("directory", unavailable, "it answered 503"),
    ] {
        let (authority, certificates, [one, other], store, usher) = two_of("").await;
        authority.says(what, said.clone());
        assert!(usher.work(Work::Get, &one, None).await);
        authority.mends();
        let asked = authority.asked("order");
        // After a restart, too, and whatever an operator wants.
        let (again, _) = worker(&certificates, &store, None);
        for usher in [&usher, &again] {
            for unit in [&one, &other] {
                state::change(&*store, &unit.id, |state| state.wanted = 1).await.unwrap();
                assert!(usher.work(Work::Get, unit, None).await);
            }
        }
        assert_eq!(authority.asked("order"), asked, "{what}");

        let (operations, _running) = start(settings(&certificates, &store, &["b.lab.test"])).await.unwrap();
        let listed = operations.list();
        let listed = listed.iter().find(|listed| listed.id == other.id).unwrap();
        let Some(Next::At(at)) = listed.next else { panic!("{listed:?}") };
        assert!(at.abs_diff(unix(SystemTime::now()) + HOURS) < 60, "{listed:?}");
        assert!(listed.failures[0].contains(expected), "{listed:?}");
    }
}

#[tokio::test]
async fn what_an_authority_says_of_one_name_holds_for_that_one() {
    let (authority, _, [one, other], _, usher) = two_of("").await;
    authority.says("order", busy("too many failed authorizations (5) for \"a.lab.test\" in the last 1h0m0s"));
    assert!(usher.work(Work::Get, &one, None).await);
    authority.mends();
    assert!(usher.work(Work::Get, &one, None).await && usher.work(Work::Get, &other, None).await);
    assert_eq!(authority.asked("order"), 2);
}

#[tokio::test]
async fn what_an_authority_says_is_not_forgotten_when_another_one_helps() {
    let helpful = GenerousAuthority::start().await;
    let more = format!(
        "authorities = ['generous', 'second']\n[acme.second]\ndirectory = '{}'\nterms_of_service_agreed = true\n",
        helpful.directory()
    );
    for detail in ["too many new orders (300) from this account", "too many certificates for a.lab.test"] {
        let (authority, _, [unit, _], store, usher) = two_of(&more).await;
        let asked = helpful.asked("order");
        authority.says("order", busy(detail));
        // One task for each of both: the second has places of its own.
        for more in [0, 1] {
            assert!(usher.work(Work::Get, &unit, None).await);
            assert_eq!(helpful.asked("order"), asked + more, "{detail}");
        }
        authority.mends();
        let document = store.get(&DocumentKind::Certificate.name(&unit.id)).await.unwrap().unwrap();
        let kept = Kept::read(&document).unwrap();
        assert_eq!(kept.origin.to_string(), "second");
        let current = current(kept);
        assert!(usher.work(Work::Get, &unit, Some(current)).await);
        assert_eq!((authority.asked("order"), helpful.asked("order")), (1, asked + 2), "{detail}");
    }
}

#[tokio::test]
async fn a_failure_that_cannot_be_written_down_keeps_no_other_authority_from_being_asked() {
    let helpful = GenerousAuthority::start().await;
    let more = format!(
        "authorities = ['generous', 'second']\n[acme.second]\ndirectory = '{}'\nterms_of_service_agreed = true\n",
        helpful.directory()
    );
    let (authority, _, [unit, _], store, usher) = two_of(&more).await;
    authority.says("order", busy("too many new orders (300) from this account"));
    store.loses_the_next("retry-after-");
    assert!(usher.work(Work::Get, &unit, None).await);
    assert_eq!(helpful.asked("order"), 1);
    assert!(store.value(&DocumentKind::Certificate.name(&unit.id)).is_some());
}

#[tokio::test]
async fn a_certificate_that_is_valid_only_by_the_authoritys_clock_is_kept_and_served() {
    let (authority, certificates, [_, unit], store, usher) = two_of("").await;
    authority.gives_for(1..90);
    assert!(usher.work(Work::First, &unit, None).await);
    assert!(usher.work(Work::Get, &unit, None).await);
    assert_eq!(authority.asked("order"), 1);
    let document = store.get(&DocumentKind::Certificate.name(&unit.id)).await.unwrap().unwrap();
    let of = Kept::read(&document).unwrap().certificate.fingerprint().to_owned();
    let asked = Window { of, suggested: None, ask_again: unix(SystemTime::now() + 90 * DAY) };
    state::change(&*store, &unit.id, |state| state.window = Some(asked.clone())).await.unwrap();
    let (operations, _running) = start(settings(&certificates, &store, &["b.lab.test"])).await.unwrap();
    let listed = operations.list();
    let listed = listed.iter().find(|listed| listed.id == unit.id).unwrap();
    let Some(Next::At(at)) = listed.next else { panic!("{listed:?}") };
    assert!(listed.served.is_some() && at > unix(SystemTime::now() + DAY), "{listed:?}");
}

#[tokio::test]
async fn an_operator_is_told_when_a_certificate_is_renewed_and_not_when_its_authority_is_asked_for_its_wish()
{
    let (_authority, certificates, [_, unit], store, usher) = two_of("").await;
    assert!(usher.work(Work::First, &unit, None).await);
    let document = store.get(&DocumentKind::Certificate.name(&unit.id)).await.unwrap().unwrap();
    let of = Kept::read(&document).unwrap().certificate.fingerprint().to_owned();
    let asked = |seconds: u64| Window {
        of: of.clone(),
        suggested: None,
        ask_again: unix(SystemTime::now()) + seconds,
    };
    for window in [None, Some(asked(0)), Some(asked(HOURS))] {
        state::change(&*store, &unit.id, |state| state.window.clone_from(&window)).await.unwrap();
        let (operations, _) = start(settings(&certificates, &store, &["b.lab.test"])).await.unwrap();
        let next = operations.list().iter().find(|one| one.id == unit.id).and_then(|one| one.next);
        let at_a_third = |at| at > unix(SystemTime::now() + 30 * DAY);
        assert!(matches!(next, Some(Next::At(at)) if at_a_third(at)), "{window:?}: {next:?}");
    }
}

#[tokio::test]
async fn an_authority_that_gives_what_cannot_be_served_is_asked_three_times_a_day() {
    let (authority, _, [unit, _], store, usher) = two_of("").await;
    authority.gives_to("elsewhere.lab.test");
    for _ in 0..10 {
        assert!(usher.work(Work::Get, &unit, None).await);
        // As if that time were over.
        let over = |state: &mut State| state.authorities.values_mut().for_each(|one| one.not_before = 0);
        state::change(&*store, &unit.id, over).await.unwrap();
    }
    assert_eq!(authority.asked("order"), 3);
    // Until an operator has done something about it.
    let (operations, _running) =
        start(settings(&certificates(&authority, ""), &store, &["a.lab.test"])).await.unwrap();
    authority.mends();
    operations.renew(&unit.id).await.unwrap();
    assert!(usher.work(Work::Get, &unit, None).await);
    assert!(store.value(&DocumentKind::Certificate.name(&unit.id)).is_some());
}

#[tokio::test]
async fn hosts_that_come_at_one_moment_are_no_more_than_new_per_week() {
    let (authority, certificates, _, store, usher) = two_of("new_per_week = 3\n").await;
    let units: Vec<Unit> =
        (0..10).map(|number| unit(&certificates, &format!("host{number}.lab.test"))).collect();
    join_all(units.iter().map(|unit| usher.work(Work::First, unit, None))).await;
    assert_eq!(authority.asked("order"), 3);
    // Who was counted before a crash is not counted again.
    let counted = units
        .iter()
        .filter(|unit| store.value(&DocumentKind::State.name(&unit.id)).unwrap()["is_counted"] == true);
    assert_eq!(counted.count(), 3);
}

/// How many renewals are counted that failed.
fn failed(registry: &Registry) -> f64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == "usher_certificate_renewals_total").unwrap();
    let failed = family.get_metric().iter().find(|one| one.get_label()[0].value() == "failed").unwrap();
    failed.get_counter().get_value()
}

#[tokio::test]
async fn a_renewal_has_failed_once_nobody_is_left_to_be_asked() {
    let (first, second) = tokio::join!(GenerousAuthority::start(), GenerousAuthority::start());
    let more = format!(
        "authorities = ['generous', 'second']\n[acme.second]\ndirectory = '{}'\nterms_of_service_agreed = true\n",
        second.directory()
    );
    let certificates = certificates(&first, &more);
    let store = Arc::default();
    let (usher, registry) = worker(&certificates, &store, None);
    let unit = unit(&certificates, "a.lab.test");
    for authority in [&first, &second] {
        authority.says("order", busy("too many new orders (300) from this account"));
    }
    for many in [0.0, 1.0, 1.0] {
        assert!(usher.work(Work::Get, &unit, None).await);
        assert!((failed(&registry) - many).abs() < 0.1, "{many}: {}", failed(&registry));
    }
    // One that looks at proofs for long has not failed.
    let slow = GenerousAuthority::start().await;
    slow.is_slow(usize::MAX, 3600);
    let certificates = self::certificates(&slow, "");
    let (usher, registry) = worker(&certificates, &Arc::default(), None);
    let unit = self::unit(&certificates, "a.lab.test");
    assert!(usher.work(Work::Get, &unit, None).await);
    assert_eq!(slow.asked("order"), 1);
    assert!(failed(&registry) < 0.1, "{}", failed(&registry));
}

#[tokio::test]
async fn whatever_keeps_a_certificate_from_being_got_is_counted() {
    let authority = GenerousAuthority::start().await;
    let certificates = certificates(&authority, "");
    let store = Arc::default();
    let (usher, registry) = worker(&certificates, &store, None);
    let unit = unit(&certificates, "a.lab.test");
    store.fails(true);
    let own = Unit { giver: Giver::Local, ..unit.clone() };
    for (many, unit) in [(1.0, own), (2.0, unit)] {
        assert!(!usher.work(Work::Get, &unit, None).await);
        assert!((failed(&registry) - many).abs() < 0.1, "{unit:?}");
    }
}

#[tokio::test]
async fn an_order_that_takes_longer_than_is_waited_for_is_gone_on_with_when_its_authority_says() {
    let (authority, _, [unit, _], store, usher) = two_of("").await;
    authority.is_slow(1, HOURS);
    for _ in 0..3 {
        assert!(usher.work(Work::Get, &unit, None).await);
        assert_eq!((authority.asked("order"), authority.asked("look")), (1, 1));
    }
    let standing = &store.value(&DocumentKind::State.name(&unit.id)).unwrap()["authorities"]["generous"];
    assert!(standing["not_before"].as_u64().unwrap().abs_diff(unix(SystemTime::now()) + HOURS) < 60);
    let over = |state: &mut State| state.authorities.values_mut().for_each(|one| one.not_before = 0);
    state::change(&*store, &unit.id, over).await.unwrap();
    assert!(usher.work(Work::Get, &unit, None).await);
    assert_eq!((authority.asked("order"), authority.asked("finalize")), (1, 1));
    assert!(store.value(&DocumentKind::Certificate.name(&unit.id)).is_some());
}

#[tokio::test]
async fn a_certificate_is_renewed_whatever_its_authority_knows_or_says_of_what_it_replaces() {
    // With what it replaces, and without.
    for forgets in [true, false] {
        let (authority, _, [unit, _], store, usher) = two_of("").await;
        assert!(usher.work(Work::Get, &unit, None).await);
        let document = store.get(&DocumentKind::Certificate.name(&unit.id)).await.unwrap().unwrap();
        let first = Kept::read(&document).unwrap();
        match forgets {
            true => authority.forgets_certificates(),
            false => authority.says_of_no_replacing(),
        }
        assert!(usher.work(Work::Get, &unit, Some(current(first))).await);
        assert_eq!((authority.asked("order"), authority.asked("finalize")), (3, 2), "{forgets}");
        let after = store.get(&DocumentKind::Certificate.name(&unit.id)).await.unwrap().unwrap();
        assert_ne!(after.version, document.version);
    }
}

#[tokio::test]
async fn an_authority_that_does_not_say_when_to_ask_again_is_heard_and_asked_after_six_hours() {
    let (authority, _, [unit, _], store, usher) = two_of("").await;
    assert!(usher.work(Work::Get, &unit, None).await);
    let document = store.get(&DocumentKind::Certificate.name(&unit.id)).await.unwrap().unwrap();
    let held = current(Kept::read(&document).unwrap());
    authority.wants_renewed("2040-01-01T00:00:00Z", "2040-01-01T00:01:00Z");
    assert!(usher.work(Work::AskWindow, &unit, Some(held)).await);
    let window = state::read(&*store, &unit.id).await.unwrap().window.unwrap();
    assert_eq!(window.suggested, Some((2_208_988_800, 2_208_988_860)));
    assert!(window.ask_again.abs_diff(unix(SystemTime::now()) + 6 * 3600) < 60, "{window:?}");
}

#[tokio::test]
async fn a_retry_after_that_no_clock_reaches_is_none() {
    let (authority, _, [unit, _], store, usher) = two_of("").await;
    authority.is_slow(1, u64::MAX);
    assert!(usher.work(Work::Get, &unit, None).await);
    assert!(store.value(&DocumentKind::Certificate.name(&unit.id)).is_some());
    assert_eq!(authority.asked("look"), 2);
}

#[tokio::test]
async fn of_two_words_the_one_that_holds_for_longer_is_kept() {
    let (_authority, _, [unit, _], store, usher) = two_of("").await;
    let Giver::Acme(source) = &unit.giver else { panic!("{unit:?}") };
    let (authority, now) = (&source.authorities[0], SystemTime::now());
    let mut expected = 0;
    for minutes in [60, 1, 120] {
        let said = RetryAfter::new(Duration::from_mins(minutes), "busy", now);
        said.keep(&*store, &authority.name).await.unwrap();
        expected = expected.max(unix(now) + 60 * minutes);
        let kept = RetryAfter::of(&*usher.acme.store, &authority.name).await.unwrap().unwrap();
        assert_eq!(unix(kept.ends(now)), expected);
    }
}

#[tokio::test]
async fn who_has_lost_the_claim_writes_nothing_down() {
    let (_authority, _, [unit, _], store, usher) = two_of("").await;
    let lost = usher.acme.claims.take(&unit.id).await.unwrap().unwrap();
    let held = usher.acme.claims.take(&unit.id).await.unwrap().unwrap();
    let Giver::Acme(source) = &unit.giver else { panic!("{unit:?}") };
    let failure = Failure::Account("it is refused".to_owned());
    for (claim, expected) in [(&lost, 0), (&held, 1)] {
        let is_noted =
            usher.note(Getting { claim, unit: &unit, source }, &source.authorities[0], &failure).await;
        let state = state::read(&*store, &unit.id).await.unwrap();
        assert_eq!((is_noted, state.authorities.len()), (expected == 1, expected));
    }
}

#[tokio::test]
async fn a_certificate_is_kept_before_what_proved_it_is_taken_away() {
    let folder = tempfile::tempdir().unwrap();
    let [asked, go] = ["asked", "go"].map(|name| folder.path().join(name));
    // It fails before the order, and hangs after it.
    let script = format!(
        "test -e {asked} || {{ touch {asked}; exit 1; }}; until test -e {go}; do sleep 0.02; done",
        asked = asked.display(),
        go = go.display()
    );
    let (_authority, _, [unit, _], store, usher) = two_of(&programs(&[("slow", script)])).await;
    let left = Ordered {
        made: 0,
        authority: "generous".to_owned(),
        url: None,
        names: Vec::new(),
        key: String::new(),
        proofs: vec![record("slow", "text")],
    };
    state::change(&*store, &unit.id, |state| state.order = Some(left.clone())).await.unwrap();
    let name = DocumentKind::Certificate.name(&unit.id);
    let kept = async {
        while store.value(&name).is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        std::fs::write(&go, "").unwrap();
    };
    let (done, kept) =
        tokio::join!(usher.work(Work::Get, &unit, None), tokio::time::timeout(Duration::from_secs(20), kept));
    assert!(done && kept.is_ok(), "it waited for its proofs");
    assert_eq!(store.value(&DocumentKind::State.name(&unit.id)).unwrap().get("order"), None);
}

#[tokio::test]
async fn what_is_shown_for_an_order_stays_for_as_long_as_that_is_gone_on_with() {
    let (authority, _, [unit, _], store, usher) = two_of(&programs(&[("home", "exit 0".to_owned())])).await;
    let unavailable = Said { status: 503, problem: "serverInternal", detail: "", retry_after: None };
    authority.says("finalize", unavailable);
    for _ in 0..2 {
        assert!(usher.work(Work::Get, &unit, None).await);
        let shown = |state: &mut State| {
            state.authorities.clear();
            state.order.as_mut().unwrap().proofs = vec![record("home", "text")];
        };
        state::change(&*store, &unit.id, shown).await.unwrap();
    }
    assert!(usher.work(Work::Get, &unit, None).await);
    let state = state::read(&*store, &unit.id).await.unwrap();
    assert_eq!((authority.asked("order"), state.order.unwrap().proofs.len()), (1, 1));
    authority.mends();
    state::change(&*store, &unit.id, |state| state.authorities.clear()).await.unwrap();
    assert!(usher.work(Work::Get, &unit, None).await);
    assert!(state::read(&*store, &unit.id).await.unwrap().order.is_none());
}

#[tokio::test]
async fn an_order_that_comes_to_no_end_is_left_after_a_day_or_an_hour_where_an_operator_waits() {
    let (authority, _, [unit, _], store, usher) = two_of("").await;
    authority.is_slow(usize::MAX, 3600);
    // How long ago the order was made, whether an operator wants it renewed, and how many orders there are then.
    for (hours, wanted, orders) in [(0, 0, 1), (23, 0, 1), (25, 0, 2), (23, 0, 2), (0, 1, 2), (2, 1, 3)] {
        let before = |state: &mut State| {
            state.wanted = wanted;
            state.authorities.clear();
            if let Some(ordered) = &mut state.order {
                ordered.made = unix(SystemTime::now()) - hours * 3600;
            }
        };
        state::change(&*store, &unit.id, before).await.unwrap();
        assert!(usher.work(Work::Get, &unit, None).await);
        assert_eq!(authority.asked("order"), orders, "{hours} {wanted}");
    }
}
