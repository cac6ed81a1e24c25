//! The ways out: here, everywhere, at the provider, by the provider, by an admin. Every session that ends takes its sockets
//! with it.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;
use tests::{Closed, DOMAIN, IdentityProvider, Person, SOON, Socket, Usher, html, wait_for};
use url::Url;

const RULES: &str = "[access]\nallow = \"true\"\nadmin = \"'staff' in groups\"\ntemplate = \"'demo'\"\n";

fn accounts() -> Value {
    json!({
        "alice": { "name": "Ada", "preferred_username": "alice", "groups": ["staff"] },
        "bob": { "name": "Bob", "preferred_username": "bob" },
    })
}

async fn lab() -> (IdentityProvider, Usher) {
    let provider = IdentityProvider::start(accounts()).await;
    let usher = provider.setup("", RULES).start().await;
    provider.knows(&usher).await;
    (provider, usher)
}

/// Somebody with a session, a workspace that runs, and a live socket.
async fn at_work(usher: &Usher, name: &str) -> (Person, Socket) {
    let person = Person::at_work(usher, name).await;
    let mut socket = person.socket("/ws").await.expect("the workspace runs");
    socket.echoes("open").await;
    (person, socket)
}

/// What is promised of a session that has ended on this Usher: its socket is closed within two seconds, and no request passes.
async fn is_out(person: &Person, socket: &mut Socket) {
    let closed = tokio::time::timeout(Duration::from_secs(2), socket.closed()).await;
    assert_eq!(closed.expect("within two seconds"), Closed::Frame(4401, "the session has ended".to_owned()));
    assert_eq!(person.fetch(Method::GET, "/").send().await.status, StatusCode::UNAUTHORIZED);
}

fn portal(usher: &Usher, path: &str) -> Url {
    Url::parse(&format!("{}{path}", usher.client().origin(DOMAIN))).expect("a path is valid")
}

#[tokio::test]
async fn who_logs_out_is_out_here_and_is_led_to_the_provider_to_log_out_there() {
    let (_provider, usher) = lab().await;
    let (mut alice, mut socket) = at_work(&usher, "alice").await;
    let (_other_device, mut other) = at_work(&usher, "alice").await;
    let answer = alice.change("/logout", &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    is_out(&alice, &mut socket).await;
    other.echoes("the other device stays").await;
    assert!(answer.text().contains("Log out at The Lab, too"), "{}", answer.text());
    let exit = html::link(&answer.text(), "leave").expect("a way to the provider");
    let (at_provider, asks) = alice.follow(exit.parse().unwrap()).await;
    assert_eq!(at_provider.path(), "/session/end");
    let (url, done) = alice.send(&at_provider, &asks, "op.logoutForm", &[("logout", "yes")]).await;
    assert_eq!((url.path(), done.status), ("/logged-out", StatusCode::OK), "{}", done.text());
    assert!(done.text().contains("You are logged out"));
    // The provider knows nobody any more: it asks for a name again.
    let (asks, _) = alice.follow_to(portal(&usher, "/login"), "/interaction/").await;
    assert!(asks.path().starts_with("/interaction/"));
}

#[tokio::test]
async fn who_logs_out_on_all_devices_is_out_on_all_of_them() {
    let (_provider, usher) = lab().await;
    let (alice, mut socket) = at_work(&usher, "alice").await;
    let (other_device, mut other) = at_work(&usher, "alice").await;
    let (_bob, mut bobs) = at_work(&usher, "bob").await;
    assert_eq!(alice.change("/logout", &[("everywhere", "yes")]).await.status, StatusCode::OK);
    is_out(&alice, &mut socket).await;
    is_out(&other_device, &mut other).await;
    bobs.echoes("bob stays").await;
}

#[tokio::test]
async fn a_person_sees_where_they_are_logged_in_and_ends_what_is_theirs() {
    let (_provider, usher) = lab().await;
    let (alice, mut socket) = at_work(&usher, "alice").await;
    let (lost_device, mut lost) = at_work(&usher, "alice").await;
    let (bob, mut bobs) = at_work(&usher, "bob").await;
    let list = alice.portal("/api/v1/sessions").await.json();
    let sessions = list["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 2);
    let (this, that): (Vec<&Value>, Vec<&Value>) =
        sessions.iter().partition(|session| session["this"] == true);
    assert_eq!((this.len(), that.len()), (1, 1));
    assert_eq!((&that[0]["provider"], &that[0]["network"]), (&json!("lab"), &json!("127.0.0.0/24")));
    let end = format!("/api/v1/sessions/{}/end", that[0]["id"].as_str().unwrap());
    assert_eq!(bob.change(&end, &[]).await.status, StatusCode::NOT_FOUND, "not bob's");
    let foreign =
        alice.with_cookies(alice.client().post(DOMAIN, &end), DOMAIN).fetch("same-origin").send().await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN, "without a token of the page");
    assert_eq!(alice.change(&end, &[]).await.json(), json!({ "ended": 1 }));
    is_out(&lost_device, &mut lost).await;
    socket.echoes("this one stays").await;
    bobs.echoes("and so does bob").await;
}

#[tokio::test]
async fn an_admin_signs_somebody_out_and_nobody_else_does() {
    let (_provider, usher) = lab().await;
    let (alice, mut admins) = at_work(&usher, "alice").await;
    let (bob, mut bobs) = at_work(&usher, "bob").await;
    assert_eq!(bob.portal("/people").await.status, StatusCode::FORBIDDEN);
    assert_eq!(bob.change("/api/v1/people/alice/sign-out", &[]).await.status, StatusCode::FORBIDDEN);
    let people = alice.portal("/people").await.text();
    assert!(people.contains("Sign out bob") && people.contains("Sign out alice"), "{people}");
    assert_eq!(alice.change("/api/v1/people/bob/sign-out", &[]).await.json(), json!({ "ended": 1 }));
    is_out(&bob, &mut bobs).await;
    admins.echoes("the admin stays").await;
    assert_eq!(usher.command(&["sign-out", "alice"]), (true, "alice is signed out: 1 ended\n".to_owned()));
    is_out(&alice, &mut admins).await;
    let (found, said) = usher.command(&["sign-out", "alice"]);
    assert!(!found && said.contains("nobody with the label alice is logged in"), "{said}");
}

#[tokio::test]
async fn who_logs_out_at_the_provider_is_out_here() {
    let (provider, usher) = lab().await;
    let (mut alice, mut socket) = at_work(&usher, "alice").await;
    let (_bob, mut bobs) = at_work(&usher, "bob").await;
    let exit = Url::parse(&format!("{}/session/end", provider.issuer())).unwrap();
    let (at_provider, asks) = alice.follow(exit).await;
    alice.send(&at_provider, &asks, "op.logoutForm", &[("logout", "yes")]).await;
    is_out(&alice, &mut socket).await;
    bobs.echoes("bob stays").await;
}

#[tokio::test]
async fn a_frame_of_the_provider_ends_the_session_that_it_names() {
    let (provider, usher) = lab().await;
    let (alice, mut socket) = at_work(&usher, "alice").await;
    let (_bob, mut bobs) = at_work(&usher, "bob").await;
    let sid = provider.sid("alice").await;
    let frame = |iss: &str, sid: &str| {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("iss", iss), ("sid", sid)])
            .finish();
        let ask = usher.client().get(DOMAIN, &format!("/auth/lab/frontchannel-logout?{query}"));
        ask.with("sec-fetch-site", "cross-site")
            .with("sec-fetch-mode", "navigate")
            .with("sec-fetch-dest", "iframe")
            .send()
    };
    assert_eq!(frame("http://elsewhere.localhost", &sid).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(frame(&provider.issuer(), "unknown").await.status, StatusCode::OK);
    socket.echoes("still there").await;
    let answer = frame(&provider.issuer(), &sid).await;
    assert!(
        answer.field("content-security-policy").contains(&format!("frame-ancestors {}", provider.issuer()))
    );
    is_out(&alice, &mut socket).await;
    bobs.echoes("bob stays").await;
}

#[tokio::test]
async fn a_session_of_a_login_that_is_not_offered_any_more_is_worth_nothing() {
    let (_provider, usher) = lab().await;
    let (mut alice, _) = at_work(&usher, "alice").await;
    let without = tests::Setup::new(RULES);
    let usher = usher.replaced_by(without).await;
    alice.moved_to(&usher);
    wait_for("the workspace to be known again", SOON, async || {
        let answer = alice.fetch(Method::GET, "/").send().await;
        (answer.status == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
}
