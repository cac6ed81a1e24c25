//! Sessions and their provider: who was removed there is out here soon, and who was not stays, whatever happens to it.

use http::StatusCode;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tests::false_provider::{FalseProvider, Lies, answer};
use tests::{Closed, DOMAIN, IdentityProvider, Person, SOON, Setup, Socket, Usher, wait_for};
use tokio::task::JoinSet;
use url::Url;

/// How long what the provider says holds: Usher asks again at half of it.
const HOLDS: u64 = 4;

fn staff() -> Value {
    json!({ "name": "Ada", "preferred_username": "alice", "groups": ["staff"] })
}

const RULES: &str = "[access]\nallow = \"'staff' in groups\"\ntemplate = \"'demo'\"\n";

async fn lab(accounts: Value, rest: &str) -> (IdentityProvider, Usher) {
    let provider = IdentityProvider::start_with(json!({ "accounts": accounts, "accessTtl": HOLDS })).await;
    let usher = provider.setup("", &format!("{RULES}{rest}")).start().await;
    provider.knows(&usher).await;
    (provider, usher)
}

/// Usher by a provider that is asked again each second.
async fn by(provider: &FalseProvider, rules: &str) -> Usher {
    let rest = format!("{}{rules}[sessions]\nrefresh_after = \"1s\"\n", provider.table("lab"));
    Setup::new(&rest).without_development().environment("SECRET", "s").start().await
}

/// Somebody whom that provider lets in.
async fn logged_in_by(usher: &Usher) -> Person {
    let mut alice = Person::new(usher, "alice");
    let at: Url =
        format!("{}/auth/lab/login", usher.client().origin(DOMAIN)).parse().expect("it is an address");
    wait_for("the login", SOON, async || {
        let (_, page) = alice.follow(at.clone()).await;
        (page.status == StatusCode::OK).then_some(())
    })
    .await;
    alice
}

/// Uses a session until it has ended.
async fn until_refused(person: &Person) {
    wait_for("the session to end", Duration::from_secs(2 * HOLDS) + SOON, async || {
        let answer = person.fetch(http::Method::GET, "/").send().await;
        (answer.status == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
}

/// Waits for the log to say why a session was ended: it does so once that is over.
async fn until_logged(usher: &Usher, words: &str) {
    usher.logs.tell(words).await;
}

#[tokio::test]
async fn who_left_the_group_is_out_after_the_next_refresh_and_their_socket_is_closed() {
    let (provider, usher) = lab(json!({ "alice": staff() }), "").await;
    let alice = Person::at_work(&usher, "alice").await;
    let mut socket = alice.socket("/ws").await.unwrap();
    socket.echoes("before").await;
    let refreshed = provider.asked("/token").await + 1;
    wait_for("a refresh that changes nothing", SOON * 2, async || {
        socket.echoes("in use").await;
        (provider.asked("/token").await >= refreshed).then_some(())
    })
    .await;
    socket.echoes("after").await;
    provider.account("alice", json!({ "name": "Ada", "preferred_username": "alice", "groups": [] })).await;
    let removed = Instant::now();
    until_refused(&alice).await;
    assert_eq!(socket.closed().await, Closed::Frame(4401, "the session has ended".to_owned()));
    assert!(removed.elapsed() < Duration::from_secs(HOLDS) + SOON);
}

#[tokio::test]
async fn who_has_no_account_any_more_is_out_after_the_next_refresh() {
    let (provider, usher) = lab(json!({ "alice": staff() }), "").await;
    let alice = Person::at_work(&usher, "alice").await;
    provider.remove("alice").await;
    until_refused(&alice).await;
    until_logged(&usher, "its provider says").await;
}

#[tokio::test]
async fn who_comes_back_later_is_not_let_in_on_what_was_true_before() {
    let (provider, usher) = lab(json!({ "alice": staff() }), "").await;
    let alice = Person::at_work(&usher, "alice").await;
    let refreshed = async || Some(provider.asked("/token").await).filter(|asked| *asked >= 2);
    let before = wait_for("the refresh for what was done after the login", SOON * 2, refreshed).await;
    provider.account("alice", json!({ "name": "Ada", "preferred_username": "alice", "groups": [] })).await;
    let left = Instant::now();
    let over = async || (left.elapsed() > Duration::from_secs(HOLDS)).then_some(());
    wait_for("what the provider said to hold no longer", SOON * 2, over).await;
    assert_eq!(provider.asked("/token").await, before, "nobody used the session");
    let first = alice.fetch(http::Method::GET, "/").send().await;
    assert_eq!(first.status, StatusCode::UNAUTHORIZED, "the first request already: {}", first.text());
}

#[tokio::test]
async fn a_group_that_only_the_user_info_tells_of_is_gone_with_it() {
    let provider = FalseProvider::start().await;
    let told = |claims: Value| answer("200 OK", "application/json", claims.to_string().as_bytes());
    // After the login, it sends no id token.
    let again = told(json!({ "access_token": "access", "refresh_token": "refresh", "token_type": "Bearer" }));
    let staff = told(json!({ "sub": "alice", "preferred_username": "alice", "groups": ["staff"] }));
    provider.lies(Lies { answers: [("/userinfo", staff.clone())].into(), ..Lies::default() });
    let usher = by(&provider, RULES).await;
    let alice = logged_in_by(&usher).await;
    provider
        .lies(Lies { answers: [("/token", again.clone()), ("/userinfo", staff)].into(), ..Lies::default() });
    let asked = provider.asked("/userinfo");
    wait_for("two refreshes", SOON, async || {
        assert_eq!(alice.change("/api/v1/sessions/none/end", &[]).await.status, StatusCode::NOT_FOUND);
        (provider.asked("/userinfo") > asked + 1).then_some(())
    })
    .await;
    let nobody = told(json!({ "sub": "alice", "preferred_username": "alice" }));
    provider.lies(Lies { answers: [("/token", again), ("/userinfo", nobody)].into(), ..Lies::default() });
    wait_for("the session to end", SOON, async || {
        let answer = alice.change("/api/v1/sessions/none/end", &[]).await;
        (answer.status == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_provider_that_gives_a_new_token_and_then_says_nothing_is_asked_by_the_new_one() {
    let provider = FalseProvider::start().await;
    let told = |claims: Value| answer("200 OK", "application/json", claims.to_string().as_bytes());
    let given =
        |token: &str| told(json!({ "access_token": "a", "refresh_token": token, "token_type": "Bearer" }));
    let rules = "[access]\nallow = \"true\"\ntemplate = \"'demo'\"\n";
    let usher = by(&provider, rules).await;
    let alice = logged_in_by(&usher).await;
    let broken = answer("500 Oh", "text/plain", b"");
    provider.lies(Lies {
        answers: [("/token", given("the second")), ("/userinfo", broken)].into(),
        ..Lies::default()
    });
    let uses = async || {
        alice.change("/api/v1/sessions/none/end", &[]).await;
    };
    wait_for("it to be asked in vain", SOON, async || {
        uses().await;
        usher.logs.all().contains("an identity provider was asked in vain").then_some(())
    })
    .await;
    provider.lies(Lies { answers: [("/token", given("the third"))].into(), ..Lies::default() });
    wait_for("it to be asked by the second", SOON, async || {
        uses().await;
        provider.was_sent("refresh_token=the+second").then_some(())
    })
    .await;
    assert_eq!(alice.portal("/api/v1/sessions").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_provider_that_is_away_ends_no_session() {
    let (provider, usher) = lab(json!({ "alice": staff() }), "").await;
    let alice = Person::at_work(&usher, "alice").await;
    let mut socket = alice.socket("/ws").await.unwrap();
    drop(provider);
    wait_for("Usher to notice", Duration::from_secs(2 * HOLDS) + SOON, async || {
        socket.echoes("in use").await;
        usher.logs.all().contains("an identity provider was asked in vain").then_some(())
    })
    .await;
    // Past the time for which what was said held.
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(HOLDS) {
        socket.echoes("on").await;
        assert_eq!(alice.fetch(http::Method::GET, "/").send().await.status, StatusCode::OK);
    }
}

#[tokio::test]
async fn a_provider_that_is_away_for_longer_than_the_grace_ends_them() {
    let (provider, usher) = lab(json!({ "alice": staff() }), "[sessions]\noutage_grace = \"1s\"\n").await;
    let alice = Person::at_work(&usher, "alice").await;
    drop(provider);
    let since = Instant::now();
    wait_for("the session to end", Duration::from_secs(4 * HOLDS) + SOON, async || {
        let answer = alice.fetch(http::Method::GET, "/").send().await;
        (answer.status == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    assert!(since.elapsed() > Duration::from_secs(HOLDS), "not before the grace is over");
}

#[tokio::test]
async fn a_crash_while_the_provider_is_asked_ends_that_session_and_no_other() {
    let provider = FalseProvider::start().await;
    let usher = by(&provider, "[access]\nallow = \"true\"\ntemplate = \"'demo'\"\n").await;
    let mut alice = logged_in_by(&usher).await;
    let _other_device = logged_in_by(&usher).await;
    let settled = async || (provider.asked("/token") >= 4).then_some(());
    wait_for("what both did after their logins to be asked about", SOON, settled).await;
    // From now on the token endpoint takes what it is sent, and says nothing.
    provider.lies(Lies { answers: [("/token", Vec::new())].into(), ..Lies::default() });
    let asked = provider.asked("/token");
    wait_for("it to be asked", SOON, async || {
        alice.change("/api/v1/sessions/none/end", &[]).await;
        (provider.asked("/token") > asked).then_some(())
    })
    .await;
    let usher = usher.kill_and_restart().await;
    alice.moved_to(&usher);
    assert_eq!(alice.portal("/api/v1/sessions").await.status, StatusCode::OK, "nobody knows yet");
    wait_for("the session to be given up", Duration::from_secs(60), async || {
        (alice.portal("/api/v1/sessions").await.status == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    until_logged(&usher, "whoever asked the provider about it ended over it").await;
    assert_eq!(usher.metric("usher_sessions").await, Some(1.0));
}

#[tokio::test]
async fn three_hundred_sessions_are_refreshed_at_once_and_no_token_is_sent_twice() {
    const SESSIONS: usize = 300;
    let accounts: serde_json::Map<_, _> = (0..SESSIONS)
        .map(|n| {
            (format!("user{n}"), json!({ "preferred_username": format!("user{n}"), "groups": ["staff"] }))
        })
        .collect();
    let provider = IdentityProvider::start_with(json!({ "accounts": accounts, "accessTtl": 600 })).await;
    // Longer than all need to log in.
    const DUE: Duration = Duration::from_secs(40);
    let sessions = format!("[sessions]\nrefresh_after = \"{}s\"\n", DUE.as_secs());
    let usher = provider.setup("", &format!("{RULES}{sessions}")).start().await;
    provider.knows(&usher).await;
    let mut people = Vec::new();
    for first in (0..SESSIONS).step_by(20) {
        let mut logins = JoinSet::new();
        for n in first..first + 20 {
            let person = Person::new(&usher, &format!("user{n}"));
            logins.spawn(async move {
                let mut person = person;
                let portal = format!("{}/", person.client().origin(DOMAIN)).parse().unwrap();
                assert_eq!(person.follow(portal).await.1.status, StatusCode::OK);
                person
            });
        }
        people.extend(logins.join_all().await);
    }
    // While nobody can ask, all of them become due; then all are used in the same moment.
    let logged_in = Instant::now();
    let over = async || (logged_in.elapsed() > DUE).then_some(());
    let usher = usher.killed_and_restarted_after(|| ()).await;
    wait_for("all to be due", DUE * 2, over).await;
    let before = provider.asked("/token").await;
    let mut uses = JoinSet::new();
    for mut person in people {
        person.moved_to(&usher);
        uses.spawn(async move {
            assert_eq!(person.portal("/api/v1/sessions").await.status, StatusCode::OK, "{}", person.name);
            person.change("/api/v1/sessions/none/end", &[]).await;
            person
        });
    }
    let people = uses.join_all().await;
    let refreshed = async || (provider.asked("/token").await >= before + SESSIONS as u64).then_some(());
    wait_for("all to be refreshed", SOON * 6, refreshed).await;
    for person in &people {
        assert_eq!(person.portal("/api/v1/sessions").await.status, StatusCode::OK, "{}", person.name);
    }
    assert_eq!(usher.metric("usher_sessions").await, Some(300.0));
}

#[tokio::test]
async fn who_left_the_group_has_no_tokens_after_the_next_refresh_and_their_sockets_are_closed() {
    let (provider, usher) = lab(json!({ "alice": staff() }), "").await;
    let alice = Person::at_work(&usher, "alice").await;
    let fields = [("name", "ci"), ("scopes", "workspaces:access"), ("days", "7")];
    let made = alice.change("/api/v1/tokens", &fields).await.json();
    let bearer = format!("Bearer {}", made["token"].as_str().expect("a token"));
    let fields = [("authorization", bearer.as_str())];
    let mut socket = Socket::open(&usher.client(), &alice.host(), "/ws", &fields).await.expect("it runs");
    socket.echoes("before").await;
    provider.account("alice", json!({ "name": "Ada", "preferred_username": "alice", "groups": [] })).await;
    until_refused(&alice).await;
    let closed = tokio::time::timeout(SOON, socket.closed()).await.expect("it is closed");
    assert_eq!(closed, Closed::Frame(4403, "This is not open to you any more.".to_owned()));
    let answer = usher.client().get(&alice.host(), "/").with("authorization", &bearer).send().await;
    assert_eq!((answer.status, answer.error_code()), (StatusCode::FORBIDDEN, "not_allowed"));
}
