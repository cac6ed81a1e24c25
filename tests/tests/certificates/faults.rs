//! Authorities that fail: what is served is served on, and nobody is asked more often than they want.

use super::{
    BY_HTTP, FAILED, GETTING, SITE, acme, asked, await_another, await_certificate, before_a_false_one,
    failures, false_one, import, is_trusted, listed, names, renew, shown, started, tables,
};
use http::StatusCode;
use jiff::Timestamp;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tests::{
    Certificate, CertificateAuthority, DOMAIN, FalseAuthority, Fault, Forgery, Kind, Setup, WallClock,
    wait_for,
};

#[tokio::test]
async fn while_its_authority_is_down_a_certificate_is_served_on_and_renewed_once_that_is_back() {
    let (_real, mut faulty, usher) = before_a_false_one().await;
    let before = await_certificate(&usher, DOMAIN).await;
    faulty.goes_down().await;
    renew(&usher, SITE);
    let cause = failures(&usher, 1).await;
    assert!(cause.contains("cannot be spoken to"), "{cause}");
    assert_eq!(shown(usher.listeners()[0], DOMAIN).await.as_ref(), Some(&before));
    wait_for("the failure to be listed", GETTING, async || {
        listed(&usher, SITE)["failures"].to_string().contains(&cause).then_some(())
    })
    .await;
    faulty.comes_up().await;
    renew(&usher, SITE);
    await_another(&usher, DOMAIN, &before).await;
    wait_for("no failure to be listed", GETTING, async || {
        (listed(&usher, SITE)["failures"] == serde_json::json!([])).then_some(())
    })
    .await;
}

#[tokio::test]
async fn whatever_an_authority_answers_only_a_sound_certificate_is_shown() {
    let (real, faulty) = false_one().await;
    let refused = |status, kind| Fault::problem(status, kind, None);
    // In the first order: of one that has proved a name once nobody need ask it again.
    faulty.fails(Kind::Challenge, refused(StatusCode::BAD_REQUEST, "badNonce"));
    let usher = started(&real, &tables(&faulty.directory(), &real, BY_HTTP)).await;
    let cause = failures(&usher, 1).await;
    assert!(cause.contains("badNonce"), "{cause}");
    assert!(shown(usher.listeners()[0], DOMAIN).await.is_none());
    faulty.mends();
    renew(&usher, SITE);
    let before = await_certificate(&usher, DOMAIN).await;
    let busy = Fault::Says {
        status: StatusCode::SERVICE_UNAVAILABLE,
        retry_after: None,
        body: "<h1>be back soon</h1>".to_owned(),
    };
    let cases = [
        (Kind::NewOrder, busy.clone(), "it answered 503"),
        (Kind::NewOrder, refused(StatusCode::TOO_MANY_REQUESTS, "rateLimited"), "rateLimited"),
        (Kind::NewOrder, refused(StatusCode::BAD_REQUEST, "badNonce"), "badNonce"),
        (Kind::NewOrder, Fault::HalfABody, "cannot be spoken to"),
        // From here on there is an order, which is gone on with.
        (Kind::Finalize, refused(StatusCode::FORBIDDEN, "unauthorized"), "while asking it to sign"),
        (Kind::Order, busy, "it answered 503"),
        (Kind::Certificate, Fault::HalfABody, "cannot be spoken to"),
        (Kind::Certificate, Fault::Chain(Forgery::AnotherName("elsewhere.test".to_owned())), DOMAIN),
        (Kind::Certificate, Fault::Chain(Forgery::AnotherKey), "key"),
        (Kind::Certificate, Fault::Chain(Forgery::Expired), "expired"),
        (Kind::Certificate, Fault::Chain(Forgery::Garbage), "PEM"),
        (Kind::Certificate, Fault::Chain(Forgery::WithoutIntermediate), "came alone"),
    ];
    for (number, (kind, fault, expected)) in cases.into_iter().enumerate() {
        faulty.fails(kind, fault.clone());
        renew(&usher, SITE);
        let cause = failures(&usher, number + 2).await;
        assert!(cause.contains(expected), "{kind:?} {fault:?}: {cause}");
        assert_eq!(shown(usher.listeners()[0], DOMAIN).await.as_ref(), Some(&before), "{kind:?} {fault:?}");
        faulty.mends();
    }
    renew(&usher, SITE);
    let after = await_another(&usher, DOMAIN, &before).await;
    assert_eq!(names(&after), [DOMAIN]);
}

#[tokio::test]
async fn an_authority_that_hangs_is_given_up_and_holds_nothing_else_up() {
    let real = CertificateAuthority::start().await;
    let faulty = FalseAuthority::before(&real).await;
    let site = tables(&faulty.directory(), &real, BY_HTTP);
    let more = format!(
        "{}[certificates.other]\nsource = \"acme\"\nnames = [\"other.localhost\"]\nchallenge = \"http-01\"\nauthorities = [\"second\"]\n",
        acme(&real.directory(), &real).replace("acme.pebble", "acme.second")
    );
    let site = site.replace("per_host", "authorities = [\"pebble\"]\nper_host");
    let usher = started(&real, &format!("{site}{more}")).await;
    let before = await_certificate(&usher, DOMAIN).await;
    let other = await_certificate(&usher, "other.localhost").await;
    faulty.fails_everywhere(&Fault::Silence);
    renew(&usher, SITE);
    renew(&usher, "other");
    await_another(&usher, "other.localhost", &other).await;
    assert!(usher.logs.events(FAILED).is_empty());
    let cause = failures(&usher, 1).await;
    assert!(cause.contains("no answer within 30 s"), "{cause}");
    assert_eq!(shown(usher.listeners()[0], DOMAIN).await.as_ref(), Some(&before));
}

#[tokio::test]
async fn an_authority_that_does_not_offer_the_challenge_is_named_and_what_there_is_is_served() {
    let (real, faulty) = false_one().await;
    faulty.fails(Kind::Authorization, Fault::Without("http-01"));
    let usher = started(&real, &tables(&faulty.directory(), &real, BY_HTTP)).await;
    let why = format!("the authority offers no http-01 for {DOMAIN}: choose another challenge");
    assert_eq!(failures(&usher, 1).await, why);
    assert!(shown(usher.listeners()[0], DOMAIN).await.is_none());
    let (done, text) = import(&usher, SITE, &Certificate::by_an_authority(&[DOMAIN]));
    assert!(done, "{text}");
    let before = await_certificate(&usher, DOMAIN).await;
    renew(&usher, SITE);
    assert_eq!(failures(&usher, 2).await, why);
    assert_eq!(shown(usher.listeners()[0], DOMAIN).await.as_ref(), Some(&before));
    assert!(listed(&usher, SITE)["failures"].to_string().contains(&why));
    faulty.mends();
    renew(&usher, SITE);
    await_another(&usher, DOMAIN, &before).await;
}

/// Whether it is the leaf of a root, or of an intermediate that is missing, it does not say: roots may sign themselves.
#[tokio::test]
async fn a_leaf_that_comes_alone_is_taken_where_none_came_with_more_before() {
    let (real, faulty) = false_one().await;
    faulty.fails(Kind::Certificate, Fault::Chain(Forgery::WithoutIntermediate));
    let usher = started(&real, &tables(&faulty.directory(), &real, BY_HTTP)).await;
    let alone = await_certificate(&usher, DOMAIN).await;
    assert!(!is_trusted(&usher, &real, DOMAIN).await, "a client knows it from the root alone");
    faulty.mends();
    renew(&usher, SITE);
    await_another(&usher, DOMAIN, &alone).await;
    assert!(is_trusted(&usher, &real, DOMAIN).await);
}

#[tokio::test]
async fn what_an_authority_could_not_see_counts_at_whichever_answer_it_is_told() {
    let (real, faulty) = false_one().await;
    // As some look while they are asked to.
    let seen = serde_json::json!({
        "type": "http-01", "url": "https://authority.test/1", "token": "t", "status": "pending",
        "error": { "type": "urn:ietf:params:acme:error:connection", "detail": "nobody answers" },
    });
    let body = seen.to_string();
    faulty.fails(Kind::Challenge, Fault::Says { status: StatusCode::OK, retry_after: None, body });
    let usher = started(&real, &tables(&faulty.directory(), &real, BY_HTTP)).await;
    let not_seen = format!("the authority could not see that {DOMAIN} is ours");
    assert_eq!(failures(&usher, 1).await, format!("{not_seen}: connection: nobody answers"));
    faulty.mends();
    // While it could not be asked what it saw.
    faulty.fails(Kind::Order, Fault::problem(StatusCode::SERVICE_UNAVAILABLE, "serverInternal", None));
    renew(&usher, SITE);
    let cause = failures(&usher, 2).await;
    assert!(cause.contains("serverInternal"), "{cause}");
    let orders = faulty.orders().len();
    for kind in [Kind::Order, Kind::Authorization] {
        faulty.fails(kind, Fault::Invalid);
    }
    renew(&usher, SITE);
    assert_eq!(failures(&usher, 3).await, format!("{not_seen}: unauthorized: as the test wants"));
    assert_eq!(faulty.orders().len(), orders);
    faulty.mends();
    renew(&usher, SITE);
    await_certificate(&usher, DOMAIN).await;
}

/// A moment as an HTTP date (RFC 9110 §5.6.7).
fn http_date(at: SystemTime) -> String {
    let at = Timestamp::try_from(at).expect("it is soon");
    at.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

#[tokio::test]
async fn an_authority_that_says_when_to_come_again_is_not_asked_before_whatever_happens() {
    const HOURS: u64 = 2 * 3600;
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs();
    for told in [HOURS.to_string(), http_date(SystemTime::now() + Duration::from_secs(HOURS))] {
        let (real, faulty) = false_one().await;
        faulty
            .fails(Kind::NewOrder, Fault::problem(StatusCode::TOO_MANY_REQUESTS, "rateLimited", Some(&told)));
        let clock = WallClock::new();
        let setup = Setup::new(&tables(&faulty.directory(), &real, BY_HTTP)).https();
        let usher = clock.of(setup).start().await;
        asked(&real, &usher);
        failures(&usher, 1).await;
        let (done, text) = import(&usher, SITE, &Certificate::by_an_authority(&[DOMAIN]));
        assert!(done, "{text}");
        let before = await_certificate(&usher, DOMAIN).await;
        faulty.mends();
        let asked_so_far = faulty.asked(Kind::NewOrder);
        let usher = usher.kill_and_restart().await;
        asked(&real, &usher);
        // Not for an operator, either.
        renew(&usher, SITE);
        wait_for("the wish to be listed for the time that was told", GETTING, async || {
            let next = listed(&usher, SITE)["next"]["at"].as_u64().expect("a time is told");
            (next.abs_diff(now() + HOURS) < 60).then_some(())
        })
        .await;
        assert_eq!(faulty.asked(Kind::NewOrder), asked_so_far);
        assert_eq!(shown(usher.listeners()[0], DOMAIN).await.as_ref(), Some(&before));
        let later = i64::try_from(HOURS).expect("it is small") + 60;
        let usher = usher.killed_and_restarted_after(|| clock.is_ahead(later)).await;
        asked(&real, &usher);
        await_another(&usher, DOMAIN, &before).await;
    }
}

#[tokio::test]
async fn five_validations_fail_within_an_hour_and_no_sixth_is_tried() {
    let (real, faulty) = false_one().await;
    for kind in [Kind::Order, Kind::Authorization] {
        faulty.fails(kind, Fault::Invalid);
    }
    let usher = started(&real, &tables(&faulty.directory(), &real, BY_HTTP)).await;
    failures(&usher, 1).await;
    let (done, text) = import(&usher, SITE, &Certificate::by_an_authority(&[DOMAIN]));
    assert!(done, "{text}");
    let before = await_certificate(&usher, DOMAIN).await;
    for many in 1..=5 {
        let cause = failures(&usher, many).await;
        assert!(cause.contains("unauthorized: as the test wants"), "{cause}");
        wait_for("the failure to be listed", GETTING, async || {
            listed(&usher, SITE)["failures"].to_string().contains(&cause).then_some(())
        })
        .await;
        if many < 5 {
            renew(&usher, SITE);
        }
    }
    let orders = faulty.asked(Kind::NewOrder);
    assert_eq!(orders, 5);
    renew(&usher, SITE);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs();
    let next = wait_for("the wish to be listed for when a validation may fail", GETTING, async || {
        let one = listed(&usher, SITE);
        assert!(one["failures"].to_string().contains("5 validations have failed within an hour"), "{one}");
        one["next"]["at"].as_u64().filter(|next| (now + 3400..=now + 3600).contains(next))
    })
    .await;
    let usher = usher.kill_and_restart().await;
    assert_eq!(listed(&usher, SITE)["next"]["at"], next);
    assert_eq!(faulty.asked(Kind::NewOrder), orders);
    assert_eq!(shown(usher.listeners()[0], DOMAIN).await.as_ref(), Some(&before));
}

#[tokio::test]
async fn where_one_authority_fails_the_next_one_gives_the_certificate() {
    let real = CertificateAuthority::start().await;
    let faulty = FalseAuthority::before(&real).await;
    faulty.fails_everywhere(&Fault::problem(StatusCode::INTERNAL_SERVER_ERROR, "serverInternal", None));
    let first = acme(&faulty.directory(), &real).replace("acme.pebble", "acme.first");
    let keys = format!("{BY_HTTP}authorities = [\"first\", \"pebble\"]\n");
    let usher = started(&real, &format!("{first}{}", tables(&real.directory(), &real, &keys))).await;
    await_certificate(&usher, DOMAIN).await;
    assert_eq!(listed(&usher, SITE)["served"]["origin"], "pebble");
}

#[tokio::test]
async fn an_order_that_a_crash_interrupts_is_gone_on_with() {
    let (real, faulty) = false_one().await;
    let cases = [
        (Kind::Authorization, Fault::Silence),
        (Kind::Challenge, Fault::Silence),
        (Kind::Challenge, Fault::HeadAlone),
        (Kind::Order, Fault::Silence),
        (Kind::Finalize, Fault::Silence),
        (Kind::Finalize, Fault::HeadAlone),
        (Kind::Certificate, Fault::Silence),
    ];
    for (number, (kind, fault)) in cases.into_iter().enumerate() {
        let asked_before = faulty.asked(kind);
        faulty.fails(kind, fault.clone());
        real.asks_by_http(&[]);
        // With an account of its own: one that has proved a name once need not be asked to do so again.
        let usher = Setup::new(&tables(&faulty.directory(), &real, BY_HTTP)).https().start().await;
        // What it asks waits until somebody is there again.
        if !matches!(kind, Kind::Challenge | Kind::Order) {
            asked(&real, &usher);
        }
        wait_for("the order to be under way", GETTING, async || {
            (faulty.asked(kind) > asked_before).then_some(())
        })
        .await;
        let usher = usher.killed_and_restarted_after(|| faulty.mends()).await;
        asked(&real, &usher);
        await_certificate(&usher, DOMAIN).await;
        assert_eq!(faulty.orders().len(), number + 1, "{kind:?} {fault:?}");
    }
}

#[tokio::test]
async fn an_authority_that_wants_time_to_look_is_given_it_and_the_order_is_gone_on_with() {
    const HOUR: i64 = 3600;
    let real = CertificateAuthority::start().await;
    let faulty = FalseAuthority::before(&real).await;
    let pending = r#"{ "status": "pending", "authorizations": [], "finalize": "https://elsewhere.test/" }"#;
    let says =
        Fault::Says { status: StatusCode::OK, retry_after: Some(HOUR.to_string()), body: pending.to_owned() };
    faulty.fails(Kind::Order, says);
    let clock = WallClock::new();
    let usher = clock.of(Setup::new(&tables(&faulty.directory(), &real, BY_HTTP)).https()).start().await;
    asked(&real, &usher);
    let cause = failures(&usher, 1).await;
    assert!(cause.contains("not done with looking at the proofs") && cause.contains("again in 3"), "{cause}");
    // It may look at them all the time.
    let store = std::fs::read_dir(usher.state_dir().join("certificates")).expect("it is there");
    let names = store.map(|entry| entry.expect("it is read").file_name().to_string_lossy().into_owned());
    assert_eq!(names.filter(|name| name.starts_with("challenge-")).count(), 1);
    faulty.mends();
    let usher = usher.killed_and_restarted_after(|| clock.is_ahead(HOUR + 60)).await;
    asked(&real, &usher);
    await_certificate(&usher, DOMAIN).await;
    assert_eq!(faulty.orders().len(), 1);
}
