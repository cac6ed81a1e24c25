//! The repair of a workspace: what its page reaches, and who gets one.

use super::{ALICE, LOGIN, PORTAL};
use crate::lab::Lab;
use http::StatusCode;

/// Of somebody's workspace.
fn address(id: &str) -> String {
    format!("{PORTAL}/workspaces/{id}/repair")
}

#[tokio::test]
async fn a_repair_reaches_the_workspaces_own_hosts_and_no_other() {
    let lab = Lab::new().await;
    let mut browser = lab.browser();
    // Without a visit: nothing of hers runs yet.
    browser.log_in("alice", PORTAL).await;
    let dashboard = browser.go(PORTAL).await.answer;
    assert!(dashboard.body.contains("action=\"/workspaces/alice/repair\""), "{dashboard:?}");
    let token = dashboard.hidden("csrf");
    let reset = |host: &str| format!("http://{host}.lab.localhost:8080/.usher/reset");
    for (id, hosts) in [("alice", vec!["alice", "8888--alice"]), ("gpu--alice", vec!["gpu--alice"])] {
        let page = browser.post(&address(id), PORTAL, &[("csrf", &token)]).await;
        let resets: Vec<String> = hosts.into_iter().map(reset).collect();
        let policy = page.header("content-security-policy").unwrap();
        let images = format!("img-src 'self' data: {};", resets.join(" "));
        assert!(policy.contains(&images), "{id}: {policy}");
        let asked: Vec<&str> = page.body.split("src=\"http").skip(1).collect();
        let asked: Vec<String> =
            asked.iter().map(|rest| format!("http{}", rest.split('"').next().unwrap())).collect();
        assert_eq!((page.status, asked), (StatusCode::OK, resets), "{id}");
    }
}

#[tokio::test]
async fn a_repair_is_begun_by_a_page_of_this_session_for_what_is_its_own() {
    let lab = Lab::new().await;
    let mut browser = lab.browser();
    browser.log_in("alice", ALICE).await;
    let token = browser.go(PORTAL).await.answer.hidden("csrf");
    let good = [("csrf", token.as_str())];
    for (id, origin, fields, status) in [
        ("alice", PORTAL, good.as_slice(), StatusCode::OK),
        ("alice", PORTAL, &[], StatusCode::FORBIDDEN),
        ("alice", PORTAL, &[("csrf", "guess")], StatusCode::FORBIDDEN),
        ("alice", ALICE, &good, StatusCode::FORBIDDEN),
        ("alice", "null", &good, StatusCode::FORBIDDEN),
        ("bob", PORTAL, &good, StatusCode::NOT_FOUND),
        ("gpu--bob", PORTAL, &good, StatusCode::NOT_FOUND),
        ("other--alice", PORTAL, &good, StatusCode::NOT_FOUND),
        ("a.b", PORTAL, &good, StatusCode::NOT_FOUND),
    ] {
        let answer = browser.post(&address(id), origin, fields).await;
        assert_eq!(answer.status, status, "{id} by {origin} with {fields:?}");
        assert_eq!(answer.body.contains("/.usher/reset"), status == StatusCode::OK, "{id} by {origin}");
    }
    let linked = browser.go(&address("alice")).await;
    assert_eq!(linked.url, format!("{PORTAL}/"), "a link repairs nothing");
    let stranger = lab.browser().post(&address("alice"), PORTAL, &good).await;
    assert_eq!(stranger.status, StatusCode::UNAUTHORIZED);
    assert!(stranger.body.contains(LOGIN), "{stranger:?}");
}
