//! Another provider than the one that the other tests log in by: written by others, in another language, by its own reading
//! of the standards. It names itself beside the code, sends no id token at a refresh, and leaves `groups` out for who has none.

use http::StatusCode;
use serde_json::json;
use tests::{Closed, DOMAIN, IdentityProvider, Person, SOON, Socket, Usher, html, wait_for};
use url::Url;

const RULES: &str = "[access]\nallow = \"'staff' in groups\"\ngroups = \"claims.groups\"\ntemplate = \"'demo'\"\n\
                     [sessions]\nrefresh_after = \"1s\"\n";
/// It reads a secret from the Authorization header as it stands there, percent signs and all (RFC 6749 §2.3.1 says otherwise).
const KEYS: &str = "authentication = \"client_secret_post\"\nscopes = [\"openid\", \"profile\", \"email\", \"groups\"]\nemails_verified = true\n";

async fn lab() -> (IdentityProvider, Usher) {
    let accounts = json!({ "alice": { "groups": ["staff", "golf"] }, "bob": { "groups": ["golf"] } });
    let provider = IdentityProvider::second(accounts).await;
    let usher = provider.setup(KEYS, RULES).start().await;
    provider.knows(&usher).await;
    // It makes its keys when it is first asked for them.
    wait_for("the provider to be heard", SOON, async || {
        let answer = usher.client().get(DOMAIN, "/auth/lab/login").navigate("none").send().await;
        (answer.status == StatusCode::OK).then_some(())
    })
    .await;
    (provider, usher)
}

/// Uses a session and its socket until both have ended.
async fn until_out(person: &Person, mut socket: Socket) {
    wait_for("the session to end", SOON * 2, async || {
        let answer = person.fetch(http::Method::GET, "/").send().await;
        (answer.status == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    assert_eq!(socket.closed().await, Closed::Frame(4401, "the session has ended".to_owned()));
}

#[tokio::test]
async fn it_lets_in_whom_the_rules_let_in_and_nobody_else() {
    let (_provider, usher) = lab().await;
    let mut alice = Person::new(&usher, "alice");
    let (url, _) = alice.visit("/deep?x=1").await;
    assert_eq!(url.as_str(), format!("{}/deep?x=1", usher.client().origin(&alice.host())));
    let back = alice.trail.iter().find(|url| url.path() == "/auth/lab/callback").expect("the way back");
    assert!(back.query_pairs().any(|(name, _)| name == "iss"), "it names itself: {back}");
    let (_, answer) = Person::new(&usher, "bob").visit("/").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", answer.text());
}

#[tokio::test]
async fn who_leaves_the_group_is_out_and_who_stays_is_asked_about_again_and_again() {
    let (provider, usher) = lab().await;
    let alice = Person::at_work(&usher, "alice").await;
    let refreshed = provider.asked("/oauth/token").await + 2;
    wait_for("two refreshes", SOON * 2, async || {
        assert_eq!(alice.fetch(http::Method::GET, "/").send().await.status, StatusCode::OK);
        (provider.asked("/oauth/token").await >= refreshed).then_some(())
    })
    .await;
    let socket = alice.socket("/ws").await.unwrap();
    provider.account("alice", json!({ "groups": [] })).await;
    until_out(&alice, socket).await;
}

#[tokio::test]
async fn who_is_locked_is_out() {
    let (provider, usher) = lab().await;
    let alice = Person::at_work(&usher, "alice").await;
    let socket = alice.socket("/ws").await.unwrap();
    provider.remove("alice").await;
    until_out(&alice, socket).await;
}

#[tokio::test]
async fn a_logout_ends_at_it_and_comes_back() {
    let (_provider, usher) = lab().await;
    let mut alice = Person::logged_in(&usher, "alice").await;
    let answer = alice.change("/logout", &[]).await;
    let exit = html::link(&answer.text(), "leave").expect("a way to the provider");
    let (at_provider, asks) = alice.follow(exit.parse().unwrap()).await;
    assert_eq!(at_provider.path(), "/oauth/end_session");
    let (url, done) = alice.send(&at_provider, &asks, "logoutform", &[("answer", "logout")]).await;
    assert_eq!((url.path(), done.status), ("/logged-out", StatusCode::OK), "{}", done.text());
    let portal = Url::parse(&format!("{}/login", usher.client().origin(DOMAIN))).unwrap();
    let (asks, _) = alice.follow_to(portal, "/auth/password").await;
    assert_eq!(asks.path(), "/auth/password", "it knows nobody any more");
}
