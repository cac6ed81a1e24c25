//! From the portal to a workspace's host, by ticket.

use super::{ALICE, ALICE_HOST, DEEP, LOGIN, PORTAL};
use crate::lab::{Browser, INSIDE, Lab, NAVIGATION, Visit};
use http::{Method, StatusCode};

/// The address of the ticket that a hand-off went by.
fn ticket(visit: &Visit) -> String {
    visit.by.iter().find(|url| url.contains("?ticket=")).unwrap_or_else(|| panic!("{visit:?}")).clone()
}

/// The address of a fresh ticket for alice that nobody has shown yet, and the browser that it was made for.
async fn unused_ticket<'a>(lab: &'a Lab) -> (Browser<'a>, String) {
    let mut browser = lab.browser();
    browser.log_in("alice", PORTAL).await;
    let begun = browser.send(Method::GET, DEEP, &NAVIGATION, "").await;
    let begin = format!("{ALICE}{}", begun.header("location").unwrap());
    let begun = browser.send(Method::GET, &begin, &NAVIGATION, "").await;
    let made = browser.send(Method::GET, begun.header("location").unwrap(), &NAVIGATION, "").await;
    let ticket = made.header("location").unwrap().to_owned();
    (browser, ticket)
}

#[tokio::test]
async fn a_deep_link_survives_the_login_and_the_hand_off() {
    let lab = Lab::new().await;
    let mut browser = lab.browser();
    let visit = browser.log_in("alice", DEEP).await;
    assert_eq!((visit.url.as_str(), visit.answer.body.as_str()), (DEEP, INSIDE), "{:#?}", visit.by);
    assert!(browser.cookie(ALICE_HOST, "__Host-usher-ws").is_some());
    assert!(browser.cookie("lab.localhost", "__Host-usher").is_some());
    assert_eq!(browser.jar.len(), 2, "the attempts' cookies are gone: {:?}", browser.jar);
    let again = browser.go(DEEP).await;
    assert_eq!(again.by.len(), 1, "no hand-off for a session that is there");
}

#[tokio::test]
async fn a_second_host_needs_no_second_login() {
    let lab = Lab::new().await;
    let mut browser = lab.browser();
    browser.log_in("alice", DEEP).await;
    for host in ["gpu--alice", "8888--alice"] {
        let url = format!("http://{host}.lab.localhost:8080/");
        let visit = browser.go(&url).await;
        assert_eq!((visit.url.as_str(), visit.answer.body.as_str()), (url.as_str(), INSIDE));
    }
}

#[tokio::test]
async fn every_cookie_is_small_and_every_step_is_uncached_and_tells_no_referer() {
    let lab = Lab::new().await;
    let (mut browser, ticket) = unused_ticket(&lab).await;
    let entered = browser.send(Method::GET, &ticket, &NAVIGATION, "").await;
    assert_eq!(entered.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(entered.header("cache-control"), Some("no-store"));
    let set = entered.header("set-cookie").unwrap();
    assert!(set.starts_with("__Host-usher-ws=") && set.len() < 1024, "{set}");
}

#[tokio::test]
async fn a_ticket_is_redeemed_once() {
    let lab = Lab::new().await;
    let mut browser = lab.browser();
    let used = ticket(&browser.log_in("alice", DEEP).await);
    let mut thief = browser.clone();
    thief.jar.retain(|(host, name), _| host != ALICE_HOST || name.contains("-enter-"));
    thief.jar.retain(|(host, _), _| host != "lab.localhost");
    let visit = thief.go(&used).await;
    assert!(visit.url.starts_with(LOGIN), "{:#?}", visit.by);
    assert_eq!(thief.cookie(ALICE_HOST, "__Host-usher-ws"), None);
}

#[tokio::test]
async fn a_ticket_is_redeemed_once_even_by_the_browser_that_it_was_made_for() {
    let lab = Lab::new().await;
    let (mut browser, ticket) = unused_ticket(&lab).await;
    let mut twin = browser.clone();
    let first = browser.send(Method::GET, &ticket, &NAVIGATION, "").await;
    let second = twin.send(Method::GET, &ticket, &NAVIGATION, "").await;
    assert!(first.header("location").unwrap().starts_with("/.usher/enter?done="));
    assert!(second.header("location").unwrap().starts_with("/.usher/enter?return="), "{second:?}");
    assert_eq!(twin.cookie(ALICE_HOST, "__Host-usher-ws"), None);
}

#[tokio::test]
async fn a_ticket_is_worth_nothing_in_another_browser_and_is_spent_there() {
    let lab = Lab::new().await;
    let (mut owner, ticket) = unused_ticket(&lab).await;
    let mut thief = lab.browser();
    let visit = thief.go(&ticket).await;
    assert!(visit.url.starts_with(LOGIN), "{:#?}", visit.by);
    assert_eq!(thief.cookie(ALICE_HOST, "__Host-usher-ws"), None);
    let late = owner.go(&ticket).await;
    assert_eq!((late.url.as_str(), late.answer.body.as_str()), (DEEP, INSIDE), "begun anew, silently");
    assert_eq!(late.by.iter().filter(|url| url.contains("?ticket=")).count(), 2);
}

#[tokio::test]
async fn a_ticket_is_worth_nothing_on_another_host() {
    let lab = Lab::new().await;
    let (mut browser, ticket) = unused_ticket(&lab).await;
    for host in ["bob.lab", "gpu--alice.lab", "8888--alice.lab"] {
        let elsewhere = ticket.replace("alice.lab", host);
        let answer = browser.send(Method::GET, &elsewhere, &NAVIGATION, "").await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{host}");
        assert_eq!(answer.header("set-cookie"), None, "{host}");
    }
}

#[tokio::test]
async fn a_hand_off_that_fails_twice_ends_in_a_page() {
    let lab = Lab::new().await;
    let mut browser = lab.browser();
    browser.log_in("alice", PORTAL).await;
    let mut url = DEEP.to_owned();
    for _ in 0..12 {
        // This browser drops what a workspace's host sets.
        browser.jar.retain(|(host, _), _| host != ALICE_HOST);
        let answer = browser.send(Method::GET, &url, &NAVIGATION, "").await;
        let Some(next) = answer.header("location") else {
            assert_eq!(answer.status, StatusCode::BAD_REQUEST);
            assert!(answer.body.contains("You could not be let in"), "{}", answer.body);
            return;
        };
        url = url::Url::parse(&url).unwrap().join(next).unwrap().into();
    }
    panic!("a loop");
}

#[tokio::test]
async fn a_browser_that_drops_the_session_cookie_alone_gets_a_page() {
    let lab = Lab::new().await;
    let (mut browser, ticket) = unused_ticket(&lab).await;
    let entered = browser.send(Method::GET, &ticket, &NAVIGATION, "").await;
    browser.jar.remove(&(ALICE_HOST.to_owned(), "__Host-usher-ws".to_owned()));
    let done = format!("{ALICE}{}", entered.header("location").unwrap());
    let answer = browser.send(Method::GET, &done, &NAVIGATION, "").await;
    assert!(answer.body.contains("Your browser dropped our cookie"), "{answer:?}");
}

#[tokio::test]
async fn a_copied_cookie_is_worth_nothing_on_another_host() {
    let lab = Lab::new().await;
    let mut alice = lab.browser();
    alice.log_in("alice", DEEP).await;
    let stolen = alice.cookie(ALICE_HOST, "__Host-usher-ws").unwrap().clone();
    let portal = alice.cookie("lab.localhost", "__Host-usher").unwrap().clone();
    for (host, name, value) in [
        ("gpu--alice.lab.localhost", "__Host-usher-ws", &stolen),
        ("bob.lab.localhost", "__Host-usher-ws", &stolen),
        (ALICE_HOST, "__Host-usher-ws", &portal),
        ("lab.localhost", "__Host-usher", &stolen),
    ] {
        let mut thief = lab.browser();
        thief.jar.insert((host.to_owned(), name.to_owned()), value.clone());
        let visit = thief.go(&format!("http://{host}:8080/")).await;
        assert!(visit.url.starts_with(LOGIN), "{host} {name}: {:#?}", visit.by);
    }
}

#[tokio::test]
async fn a_host_of_somebody_else_looks_like_one_of_nobody() {
    let lab = Lab::new().await;
    lab.browser().log_in("alice", DEEP).await;
    let mut bob = lab.browser();
    bob.log_in("bob", PORTAL).await;
    let theirs = bob.go(DEEP).await;
    assert_eq!(theirs.answer.status, StatusCode::NOT_FOUND);
    assert!(!theirs.by.iter().any(|url| url.contains("ticket=")));
    for nobody in ["carol", "lost--bob", "8889--bob", "gpu--alice"] {
        let visit = bob.go(&format!("http://{nobody}.lab.localhost:8080/")).await;
        assert_eq!(visit.answer.status, StatusCode::NOT_FOUND, "{nobody}");
        assert_eq!(visit.answer.body, theirs.answer.body, "{nobody}");
    }
}

#[tokio::test]
async fn a_hand_off_leads_only_to_its_own_host() {
    let lab = Lab::new().await;
    let mut browser = lab.browser();
    browser.log_in("alice", DEEP).await;
    for (page, url) in [
        ("%2F%2Fevil.example%2Fx", format!("{ALICE}//evil.example/x")),
        ("https%3A%2F%2Fevil.example", format!("{ALICE}/")),
        ("%40evil.example%2F", format!("{ALICE}/")),
        (".evil.example%2F", format!("{ALICE}/")),
        ("%2F%5Cevil.example", format!("{ALICE}//evil.example")),
        ("%3Fx", format!("{ALICE}/")),
        ("", format!("{ALICE}/")),
    ] {
        for step in ["return", "done"] {
            let answer = browser
                .send(Method::GET, &format!("{ALICE}/.usher/enter?{step}={page}"), &NAVIGATION, "")
                .await;
            assert_eq!(answer.header("location"), Some(url.as_str()), "{step}={page}");
        }
    }
}

#[tokio::test]
async fn who_is_no_tab_is_told_to_log_in_and_led_nowhere() {
    let lab = Lab::new().await;
    for headers in [
        &[("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")][..],
        &[],
    ] {
        let answer = lab.browser().send(Method::GET, DEEP, headers, "").await;
        assert_eq!((answer.status, answer.header("location")), (StatusCode::UNAUTHORIZED, None));
        let problem: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(problem["login"], format!("{LOGIN}?return=http%3A%2F%2Falice.lab.localhost%3A8080%2F"));
    }
    let mut frame = NAVIGATION;
    frame[2].1 = "iframe";
    let answer = lab.browser().send(Method::GET, DEEP, &frame, "").await;
    assert_eq!((answer.status, answer.header("location")), (StatusCode::UNAUTHORIZED, None));
}

#[tokio::test]
async fn no_method_but_get_spends_a_ticket() {
    let lab = Lab::new().await;
    let (mut browser, ticket) = unused_ticket(&lab).await;
    for method in [Method::HEAD, Method::POST, Method::OPTIONS] {
        let looked = browser.send(method, &ticket, &NAVIGATION, "").await;
        assert_eq!((looked.status, looked.header("set-cookie")), (StatusCode::METHOD_NOT_ALLOWED, None));
        assert_eq!(looked.header("usher-error"), Some("method_not_allowed"));
    }
    assert_eq!(browser.go(&ticket).await.answer.body, INSIDE);
}
