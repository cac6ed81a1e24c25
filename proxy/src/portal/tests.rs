//! The road of a browser: login, hand-off, session, logout; and those who try to walk it for somebody else.

mod lab;

use crate::edge::ListenerFacts;
use http::{Method, StatusCode};
use lab::{Browser, CONFIG, INSIDE, Lab, NAVIGATION, Visit};

const PORTAL: &str = "http://lab.localhost:8080";
const LOGIN: &str = "http://lab.localhost:8080/login";
const ALICE: &str = "http://alice.lab.localhost:8080";
const ALICE_HOST: &str = "alice.lab.localhost";
const DEEP: &str = "http://alice.lab.localhost:8080/lab/tree/a%20b.ipynb?x=1&y=%2F";

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
async fn ten_tabs_log_in_side_by_side_and_finish_in_any_order() {
    let lab = Lab::new().await;
    let mut browser = lab.browser();
    let mut tabs = Vec::new();
    for tab in 0..10 {
        let url = format!("{ALICE}/tab/{tab}");
        let state = browser.go(&url).await.answer.hidden("state");
        tabs.push((url, state));
    }
    for tab in [7, 2, 9, 0, 4, 1, 8, 3, 6, 5] {
        let (url, state) = &tabs[tab];
        let visit = browser.submit(LOGIN, &[("name", "alice"), ("state", state)]).await;
        assert_eq!((&visit.url, visit.answer.body.as_str()), (url, INSIDE));
    }
    assert_eq!(lab.edge.sessions.count(), 1, "one browser, one name, one session");
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
async fn logging_out_ends_the_session_on_every_host() {
    let lab = Lab::new().await;
    let mut browser = lab.browser();
    browser.log_in("alice", DEEP).await;
    browser.go("http://gpu--alice.lab.localhost:8080/").await;
    let before = browser.clone();
    let token = browser.go(PORTAL).await.answer.hidden("csrf");
    let visit = browser.submit(&format!("{PORTAL}/logout"), &[("csrf", &token)]).await;
    assert_eq!(visit.url, LOGIN);
    assert_eq!(lab.edge.sessions.count(), 0);
    for url in [DEEP, "http://gpu--alice.lab.localhost:8080/", PORTAL] {
        let visit = before.clone().go(url).await;
        assert!(visit.url.starts_with(LOGIN), "{url}: {:#?}", visit.by);
    }
}

#[tokio::test]
async fn logging_in_as_somebody_else_ends_the_session_that_was_there() {
    let lab = Lab::new().await;
    let mut browser = lab.browser();
    let state = browser.go(LOGIN).await.answer.hidden("state");
    browser.log_in("alice", DEEP).await;
    browser.submit(LOGIN, &[("name", "bob"), ("state", &state)]).await;
    assert_eq!(lab.edge.sessions.count(), 1);
    assert_eq!(browser.go(DEEP).await.answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_login_leads_only_to_hosts_that_these_listeners_serve() {
    let lab = Lab::new().await;
    for foreign in [
        "https://evil.example/",
        "http://evil.example:8080/",
        "http://lab.localhost.evil.example:8080/",
        "http://evil.lab.localhost.example:8080/",
        "https://alice.lab.localhost:8080/",
        "http://alice.lab.localhost/",
        "http://alice.lab.localhost:8081/",
        "http://x:y@alice.lab.localhost:8080/",
        "http://a.b.lab.localhost:8080/",
        "//evil.example/",
        "/\\evil.example",
        "javascript:alert(1)",
        "data:text/html,x",
        "",
    ] {
        let mut browser = lab.browser();
        let encoded: String = form_urlencoded::byte_serialize(foreign.as_bytes()).collect();
        let visit = browser.log_in("alice", &format!("{LOGIN}?return={encoded}")).await;
        assert_eq!(visit.url, format!("{PORTAL}/"), "{foreign}: {:#?}", visit.by);
    }
    let mut browser = lab.browser();
    let visit = browser
        .log_in("alice", &format!("{LOGIN}?return=http%3A%2F%2Falice.lab.localhost%3A8080%2Fx%3Fy"))
        .await;
    assert_eq!(visit.url, format!("{ALICE}/x?y"));
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
async fn a_login_form_is_sent_by_its_own_page_in_its_own_browser_and_once() {
    let lab = Lab::new().await;
    let mut browser = lab.browser();
    let state = browser.go(LOGIN).await.answer.hidden("state");
    let fields = [("name", "alice"), ("state", state.as_str())];
    for origin in
        ["null", "", "http://bob.lab.localhost:8080", "http://lab.localhost", "https://lab.localhost:8080"]
    {
        let answer = browser.clone().post(LOGIN, origin, &fields).await;
        assert_eq!((answer.status, answer.header("set-cookie")), (StatusCode::FORBIDDEN, None), "{origin}");
    }
    let dropped = lab.browser().post(LOGIN, PORTAL, &fields).await;
    assert_eq!((dropped.status, dropped.header("location")), (StatusCode::BAD_REQUEST, None));
    assert!(dropped.body.contains("Your browser dropped our cookie") && dropped.body.contains("Safari"));
    let forged = browser.clone().post(LOGIN, PORTAL, &[("name", "alice"), ("state", "AAAA")]).await;
    assert_eq!(forged.status, StatusCode::BAD_REQUEST);
    let mut copy = browser.clone();
    assert_eq!(browser.post(LOGIN, PORTAL, &fields).await.status, StatusCode::SEE_OTHER);
    let replayed = copy.submit(LOGIN, &fields).await;
    assert!(replayed.answer.body.contains("Who are you?"), "{replayed:?}");
    assert_eq!(lab.edge.sessions.count(), 1);
}

#[tokio::test]
async fn the_rules_and_the_name_decide_who_enters() {
    let lab = Lab::new().await;
    let mut browser = lab.browser();
    let visit = browser.log_in("mallory", LOGIN).await;
    assert_eq!(visit.answer.status, StatusCode::FORBIDDEN);
    assert!(visit.answer.body.contains("You may not enter"));
    let visit = browser.log_in(" \u{1f}<script>", LOGIN).await;
    assert_eq!(visit.answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(!visit.answer.body.contains("<script>") && visit.answer.body.contains("&lt;script&gt;"));
    assert_eq!(lab.edge.sessions.count(), 0);
}

#[tokio::test]
async fn a_change_needs_this_origin_and_a_token_of_this_session() {
    let lab = Lab::new().await;
    let mut alice = lab.browser();
    alice.log_in("alice", PORTAL).await;
    let mut bob = lab.browser();
    bob.log_in("bob", PORTAL).await;
    let token = alice.go(PORTAL).await.answer.hidden("csrf");
    let bobs = bob.go(PORTAL).await.answer.hidden("csrf");
    let stop = format!("{PORTAL}/api/v1/workspaces/alice/stop");
    let out = format!("{PORTAL}/logout");
    for url in [&stop, &out] {
        for (origin, fields) in [
            (PORTAL, vec![]),
            (PORTAL, vec![("csrf", "AAAA")]),
            (PORTAL, vec![("csrf", bobs.as_str())]),
            (PORTAL, vec![("csrf", token.as_str()), ("csrf", token.as_str())]),
            ("null", vec![("csrf", token.as_str())]),
            ("", vec![("csrf", token.as_str())]),
            (ALICE, vec![("csrf", token.as_str())]),
        ] {
            let answer = alice.clone().post(url, origin, &fields).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{url} {origin} {fields:?}");
        }
    }
    assert_eq!(lab.edge.sessions.count(), 2);
    let stopped = alice.post(&stop, PORTAL, &[("csrf", &token)]).await;
    assert_eq!((stopped.status, stopped.header("location")), (StatusCode::SEE_OTHER, Some("/")));
    let theirs = alice.post(&stop.replace("alice", "bob"), PORTAL, &[("csrf", &token)]).await;
    assert_eq!(theirs.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_api_lists_the_callers_workspaces_and_starts_them() {
    let lab = Lab::new().await;
    let mut alice = lab.browser();
    alice.log_in("alice", PORTAL).await;
    let script = [("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")];
    let listed = alice.send(Method::GET, &format!("{PORTAL}/api/v1/workspaces"), &script, "").await;
    let listed: serde_json::Value = serde_json::from_str(&listed.body).unwrap();
    let phases: Vec<_> =
        listed["workspaces"].as_array().unwrap().iter().map(|w| (&w["id"], &w["phase"])).collect();
    assert_eq!(
        serde_json::json!(phases),
        serde_json::json!([["alice", "stopped"], ["gpu--alice", "stopped"]])
    );
    let mut headers = script.to_vec();
    let token = listed["csrf"].as_str().unwrap();
    headers.extend([("origin", PORTAL), ("usher-csrf", token), ("content-type", "application/json")]);
    let start = format!("{PORTAL}/api/v1/workspaces/gpu--alice/start");
    let started = alice.send(Method::POST, &start, &headers, "{}").await;
    assert_eq!(started.status, StatusCode::OK, "{started:?}");
    let stranger = lab.browser().send(Method::GET, &format!("{PORTAL}/api/v1/workspaces"), &script, "").await;
    assert_eq!(stranger.status, StatusCode::UNAUTHORIZED);
    assert_eq!(stranger.header("content-type"), Some("application/problem+json"));
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
async fn two_session_cookies_are_healed_and_not_sent_round() {
    let lab = Lab::new().await;
    let mut browser = lab.browser();
    browser.log_in("alice", DEEP).await;
    let cookie = browser.cookie(ALICE_HOST, "__Host-usher-ws").unwrap().clone();
    browser.jar.clear();
    let twice = format!("__Host-usher-ws={cookie}; __Host-usher-ws={cookie}");
    let mut headers = NAVIGATION.to_vec();
    headers.push(("cookie", &twice));
    let answer = browser.send(Method::GET, DEEP, &headers, "").await;
    assert_eq!(answer.header("usher-error"), Some("cookie_twice"));
    assert_eq!(answer.header("clear-site-data"), Some("\"cookies\""));
    let script = browser.send(Method::GET, DEEP, &[("cookie", &twice)], "").await;
    assert_eq!(script.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn the_development_login_is_served_where_it_is_allowed_only() {
    let facts = |loopback| ListenerFacts { tls: false, public_port: 8080, loopback };
    let unsafe_everywhere = CONFIG.replace("[access]", "development_from_anywhere_unsafe = true\n[access]");
    let none = CONFIG.replace("development = true", "development = false");
    for (config, loopback, served) in [
        (CONFIG, true, true),
        (CONFIG, false, false),
        (unsafe_everywhere.as_str(), false, true),
        (none.as_str(), true, false),
    ] {
        let lab = Lab::with(config, facts(loopback)).await;
        let answer = lab.browser().go(LOGIN).await.answer;
        assert_eq!(answer.body.contains("not safe"), served, "{}", answer.body);
        assert_eq!(answer.status.is_success(), served);
        if !served {
            let posted = lab.browser().post(LOGIN, PORTAL, &[("name", "alice")]).await;
            assert_eq!(posted.status, StatusCode::SERVICE_UNAVAILABLE);
        }
    }
}

#[tokio::test]
async fn plain_http_on_a_name_that_browsers_do_not_trust_is_told_so() {
    let toml = CONFIG.replace("lab.localhost", "lab.example.org");
    let lab = Lab::with(&toml, ListenerFacts { tls: false, public_port: 8080, loopback: true }).await;
    for url in ["http://lab.example.org:8080/login", "http://alice.lab.example.org:8080/"] {
        let visit = lab.browser().go(url).await;
        assert!(visit.answer.body.contains("not <code>localhost</code>"), "{url}: {:?}", visit.answer);
        assert_eq!(visit.answer.header("set-cookie"), None);
    }
}

#[tokio::test]
async fn pages_carry_the_policy_that_lets_the_login_end_on_a_workspaces_host() {
    let lab = Lab::new().await;
    let page = lab.browser().go(LOGIN).await.answer;
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.contains("form-action 'self' http://*.lab.localhost:8080;"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe-inline"), "{policy}");
    assert_eq!(page.header("referrer-policy"), Some("same-origin"));
}
