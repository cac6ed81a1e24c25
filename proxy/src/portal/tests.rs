//! The road of a browser: login, hand-off, session, logout; and those who try to walk it for somebody else.

mod handoff;
mod repair;

use crate::edge::ListenerFacts;
use crate::lab::{CONFIG, HURRIED, INSIDE, Lab, NAVIGATION, PODS};
use control::{Kind, Records};
use http::{Method, StatusCode};

const PORTAL: &str = "http://lab.localhost:8080";
const LOGIN: &str = "http://lab.localhost:8080/login";
const ALICE: &str = "http://alice.lab.localhost:8080";
const ALICE_HOST: &str = "alice.lab.localhost";
const DEEP: &str = "http://alice.lab.localhost:8080/lab/tree/a%20b.ipynb?x=1&y=%2F";

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
async fn logging_out_ends_the_session_on_every_host() {
    let lab = Lab::new().await;
    let mut browser = lab.browser();
    browser.log_in("alice", DEEP).await;
    browser.go("http://gpu--alice.lab.localhost:8080/").await;
    let before = browser.clone();
    let token = browser.go(PORTAL).await.answer.hidden("csrf");
    let visit = browser.submit(&format!("{PORTAL}/logout"), &[("csrf", &token)]).await;
    assert!(visit.answer.body.contains("You are logged out"), "{visit:?}");
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
async fn who_may_not_enter_leaves_no_record_and_the_form_still_logs_in_only_once() {
    let lab = Lab::new().await;
    let records = async |kind| lab.records.list(kind).await.unwrap().len();
    let mut browser = lab.browser();
    let state = browser.go(LOGIN).await.answer.hidden("state");
    for _ in 0..3 {
        let denied = browser.submit(LOGIN, &[("name", "mallory"), ("state", &state)]).await;
        assert_eq!(denied.answer.status, StatusCode::FORBIDDEN);
    }
    for kind in [Kind::Ticket, Kind::User, Kind::Label, Kind::Session] {
        assert_eq!(records(kind).await, 0, "{kind:?}");
    }
    let mut copy = browser.clone();
    browser.submit(LOGIN, &[("name", "alice"), ("state", &state)]).await;
    copy.submit(LOGIN, &[("name", "bob"), ("state", &state)]).await;
    assert_eq!((records(Kind::Ticket).await, records(Kind::Session).await), (1, 1));
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
async fn without_a_session_only_the_open_endpoints_of_the_readme_answer() {
    let lab = Lab::new().await;
    for (url, status) in [
        ("http://lab.localhost:8080/.well-known/jwks.json", 200),
        ("http://lab.localhost:8080/login", 200),
        ("http://lab.localhost:8080/assets/login.js", 200),
        ("http://lab.localhost:8080/assets/dashboard.js", 200),
        ("http://lab.localhost:8080/", 303),
        ("http://lab.localhost:8080/logout", 303),
        ("http://lab.localhost:8080/api/v1/workspaces", 401),
        ("http://lab.localhost:8080/.well-known/other", 404),
        ("http://alice.lab.localhost:8080/.usher/enter", 303),
        ("http://alice.lab.localhost:8080/.usher/reset", 403),
        ("http://alice.lab.localhost:8080/.usher/status", 401),
        ("http://alice.lab.localhost:8080/.usher/events", 401),
        ("http://alice.lab.localhost:8080/.usher/notice.js", 401),
        ("http://alice.lab.localhost:8080/.well-known/jwks.json", 401),
        ("http://alice.lab.localhost:8080/", 401),
    ] {
        let answer = lab.browser().send(Method::GET, url, &[], "").await;
        assert_eq!(answer.status.as_u16(), status, "{url}: {answer:?}");
        let leads = answer.header("location").filter(|_| status == 303);
        assert!(
            leads.is_none_or(|to| to.starts_with("/login") || to.starts_with(LOGIN)),
            "{url}: {answer:?}"
        );
    }
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
    let facts = |loopback| ListenerFacts { tls: false, public_port: 8080, loopback, redirects: false };
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
    let lab =
        Lab::with(&toml, ListenerFacts { tls: false, public_port: 8080, loopback: true, redirects: false })
            .await;
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

#[tokio::test]
async fn a_foreign_pages_form_logs_nobody_out() {
    let lab = Lab::new().await;
    let mut browser = lab.browser();
    browser.log_in("alice", PORTAL).await;
    let logout = format!("{PORTAL}/logout");
    for origin in ["https://evil.example", "null", ""] {
        // `SameSite=Lax` keeps the cookie away from it.
        let answer = lab.browser().post(&logout, origin, &[]).await;
        assert_eq!((answer.status, answer.header("set-cookie")), (StatusCode::SEE_OTHER, None), "{origin}");
        let with_cookie = browser.clone().post(&logout, origin, &[]).await;
        assert_eq!(with_cookie.status, StatusCode::FORBIDDEN, "{origin}");
    }
    assert_eq!(lab.edge.sessions.count(), 1);
    let stale = lab.browser().post(&logout, PORTAL, &[]).await;
    assert!(stale.header("set-cookie").unwrap().contains("Max-Age=0"), "its own page may");
}

#[tokio::test]
async fn who_may_enter_what_a_route_leads_to_finds_it_on_the_dashboard_and_nobody_else_does() {
    let routes = "
[routes.wiki]
kind = \"Deployment\"
object = \"wiki\"
port = 8080
allow = \"user.name == 'alice'\"
";
    let lab = Lab::with(
        &format!("{}{routes}", PODS),
        ListenerFacts { tls: false, public_port: 8080, loopback: true, redirects: false },
    )
    .await;
    for (name, sees) in [("alice", true), ("bob", false)] {
        let mut browser = lab.browser();
        browser.log_in(name, PORTAL).await;
        let page = browser.go(PORTAL).await.answer.body;
        assert_eq!(page.contains("http://wiki.lab.localhost:8080/"), sees, "{name}: {page}");
        assert!(!page.contains("/route:wiki/stop") && !page.contains("/route:wiki/delete"), "{page}");
        let list = browser.send(Method::GET, &format!("{PORTAL}/api/v1/workspaces"), &[], "").await;
        let list: serde_json::Value = serde_json::from_str(&list.body).unwrap();
        assert_eq!(list["shared"].as_array().unwrap().len(), usize::from(sees), "{list}");
    }
}

#[tokio::test]
async fn what_somebody_else_made_under_a_users_name_is_not_to_be_changed_from_the_portal() {
    let lab = Lab::new().await;
    let mut dora = lab.browser();
    dora.log_in("dora", PORTAL).await;
    let list = dora.send(Method::GET, &format!("{PORTAL}/api/v1/workspaces"), &[], "").await;
    let list: serde_json::Value = serde_json::from_str(&list.body).unwrap();
    let ids: Vec<_> = list["workspaces"].as_array().unwrap().iter().map(|one| one["id"].clone()).collect();
    assert_eq!(ids, ["dora"], "gpu--dora stands in the table, and is not dora's");
    let token = list["csrf"].as_str().unwrap();
    for (action, field) in
        [("start", ""), ("stop", ""), ("extend", ""), ("keep", "1"), ("delete", "gpu--dora")]
    {
        let url = format!("{PORTAL}/api/v1/workspaces/gpu--dora/{action}");
        let fields = [("csrf", token), ("hours", field), ("confirm", field), ("files", "delete")];
        let answer = dora.post(&url, PORTAL, &fields).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{action}");
    }
    let id = config::WorkspaceId::parse("gpu--dora").unwrap();
    assert!(lab.edge.workspaces.lookup(&id).is_some(), "it still stands there");
}

#[tokio::test]
async fn what_was_refused_a_button_is_not_offered_as_a_link() {
    let facts = ListenerFacts { tls: false, public_port: 8080, loopback: true, redirects: false };
    let lab = Lab::with(&format!("{CONFIG}{HURRIED}spawns_per_user = \"1\"\n"), facts).await;
    let mut browser = lab.browser();
    browser.log_in("alice", PORTAL).await;
    let token = browser.go(PORTAL).await.answer.hidden("csrf");
    let start = |id: &str| format!("{PORTAL}/api/v1/workspaces/{id}/start");
    browser.post(&start("alice"), PORTAL, &[("csrf", &token)]).await;
    let refused = browser.post(&start("gpu--alice"), PORTAL, &[("csrf", &token)]).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{refused:?}");
    assert!(refused.body.contains("<h1>") && !refused.body.contains("Try again"), "{refused:?}");
}
