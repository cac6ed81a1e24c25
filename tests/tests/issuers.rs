//! Tokens of an issuer that the operator trusts: a machine that comes with one is a user like any other.

use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tests::false_provider::{FalseProvider, Lies, answer};
use tests::{Answer, Closed, DOMAIN, IdentityProvider, Person, SOON, Setup, Socket, Usher, wait_for};

const AUDIENCE: &str = "https://usher.test/";

async fn trusting(provider: &IdentityProvider, more: &str) -> Usher {
    by(&provider.issuer(), more).await
}

async fn by(issuer: &str, more: &str) -> Usher {
    let table = format!(
        "[machines.issuers.ci]\nissuer = \"{issuer}\"\naudience = \"{AUDIENCE}\"\nallow = \"claims.sub != 'evil' && (claims.sub != 'shy' || request.path != '/api/v1/sessions')\"\n{more}\n"
    );
    Setup::new(&table).start().await
}

/// A token of this machine, as its issuer gives it, with more claims.
fn token(issuer: &FalseProvider, id: &str, more: &[(&str, Value)]) -> String {
    let mut claims = json!({ "sub": id, "preferred_username": id, "aud": AUDIENCE });
    for (name, value) in more {
        claims[name] = value.clone();
    }
    issuer.token(&claims)
}

async fn get(usher: &Usher, host: &str, path: &str, token: &str) -> Answer {
    usher.client().get(host, path).with("authorization", &format!("Bearer {token}")).send().await
}

#[tokio::test]
async fn a_machine_of_a_trusted_issuer_has_a_workspace_of_its_own() {
    let provider = IdentityProvider::start(json!({})).await;
    let usher = trusting(&provider, "").await;
    let token = provider.token_of_machine("robot", AUDIENCE).await;
    let answer = get(&usher, "robot.lab.localhost", "/headers", &token).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let told = answer.text();
    assert!(told.contains("x-usher-user") && !told.contains(&token), "{told}");
    let list = get(&usher, DOMAIN, "/api/v1/workspaces", &token).await;
    assert_eq!(list.json()["workspaces"][0]["phase"], "ready", "{}", list.text());
    assert_eq!(get(&usher, "alice.lab.localhost", "/", &token).await.status, StatusCode::NOT_FOUND);
    let answer = get(&usher, DOMAIN, "/api/v1/sessions", &token).await;
    assert_eq!((answer.status, answer.error_code()), (StatusCode::FORBIDDEN, "insufficient_scope"));
}

#[tokio::test]
async fn a_token_for_others_or_changed_is_believed_by_nobody() {
    let provider = IdentityProvider::start(json!({})).await;
    let usher = trusting(&provider, "").await;
    let others = provider.token_of_machine("robot", "https://others.test/").await;
    let answer = get(&usher, DOMAIN, "/api/v1/workspaces", &others).await;
    assert_eq!((answer.status, answer.error_code()), (StatusCode::UNAUTHORIZED, "unauthenticated"));
    let token = provider.token_of_machine("robot", AUDIENCE).await;
    let (front, signature) = token.rsplit_once('.').expect("it is signed");
    let changed = format!("{front}.{}", signature.chars().rev().collect::<String>());
    let answer = get(&usher, DOMAIN, "/api/v1/workspaces", &changed).await;
    assert_eq!((answer.status, answer.error_code()), (StatusCode::UNAUTHORIZED, "invalid_token"));
    assert_eq!(get(&usher, DOMAIN, "/api/v1/workspaces", &token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn who_is_not_let_in_is_told_so_and_gets_no_label() {
    let issuer = FalseProvider::start().await;
    let rules = "[access]\nallow = \"user.name != 'barred'\"\ntemplate = \"'demo'\"\n";
    let usher = by(&issuer.issuer(), rules).await;
    for name in ["evil", "barred"] {
        let answer = get(&usher, DOMAIN, "/api/v1/workspaces", &token(&issuer, name, &[])).await;
        assert_eq!((answer.status, answer.error_code()), (StatusCode::FORBIDDEN, "not_allowed"), "{name}");
        assert!(!answer.headers.contains_key("www-authenticate"), "the token itself is good");
    }
    let shy = token(&issuer, "shy", &[]);
    for (path, status) in [
        ("/api/v1/workspaces", StatusCode::OK),
        ("/api/v1/sessions", StatusCode::FORBIDDEN),
        ("/api/v1/workspaces", StatusCode::OK),
    ] {
        assert_eq!(get(&usher, DOMAIN, path, &shy).await.status, status, "asked about each request: {path}");
    }
    // The development login gives labels that nobody has for real.
    let eve = Person::at_the_door(&usher, "evil").await;
    let list = eve.portal("/api/v1/workspaces").await.json();
    assert_eq!(list["workspaces"][0]["id"], "evil", "the label is free: {list}");
}

#[tokio::test]
async fn a_token_for_several_is_good_for_whom_the_rules_let_ask_for_it() {
    let issuer = FalseProvider::start().await;
    let rules = "[access]\nallow = \"claims.azp == 'ci'\"\ntemplate = \"'demo'\"\n";
    let usher = by(&issuer.issuer(), rules).await;
    for (asked_by, expected) in [("ci", StatusCode::OK), ("grafana", StatusCode::FORBIDDEN)] {
        let more = [("aud", json!(["https://grafana.test/", AUDIENCE])), ("azp", json!(asked_by))];
        let answer = get(&usher, DOMAIN, "/api/v1/workspaces", &token(&issuer, "robot", &more)).await;
        assert_eq!(answer.status, expected, "{asked_by}: {}", answer.text());
    }
}

#[tokio::test]
async fn while_the_keys_of_an_issuer_cannot_be_had_its_tokens_are_to_come_again() {
    let issuer = FalseProvider::start().await;
    let broken = answer("500 Oh", "text/plain", b"");
    issuer.lies(Lies { answers: [("/jwks", broken)].into(), ..Lies::default() });
    let usher = by(&issuer.issuer(), "").await;
    let token = token(&issuer, "robot", &[]);
    let answer = get(&usher, DOMAIN, "/api/v1/workspaces", &token).await;
    assert_eq!((answer.status, answer.error_code()), (StatusCode::SERVICE_UNAVAILABLE, "unavailable"));
    assert!(answer.headers.contains_key("retry-after"), "{:?}", answer.headers);
    issuer.lies(Lies::default());
    wait_for("the token to be believed", SOON, async || {
        let answer = get(&usher, DOMAIN, "/api/v1/workspaces", &token).await;
        assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{}", answer.text());
        (answer.status == StatusCode::OK).then_some(())
    })
    .await;
}

#[tokio::test]
async fn of_those_who_come_by_a_new_token_in_the_same_moment_none_is_cut() {
    let issuer = FalseProvider::start().await;
    let usher = by(&issuer.issuer(), "").await;
    let first = token(&issuer, "robot", &[]);
    let answer = get(&usher, "robot.lab.localhost", "/headers", &first).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    // Good until it is a minute too old (the leeway of clocks) and a few seconds more.
    let expires = SystemTime::now() + Duration::from_secs(8) - Duration::from_secs(60);
    let expires = expires.duration_since(UNIX_EPOCH).expect("it is later").as_secs();
    let again = token(&issuer, "robot", &[("exp", expires.into()), ("iat", (expires - 60).into())]);
    let bearer = format!("Bearer {again}");
    let fields = [("authorization", bearer.as_str())];
    let client = usher.client();
    let open = || Socket::open(&client, "robot.lab.localhost", "/ws", &fields);
    let mut sockets = Vec::new();
    for opened in join_all((0..8).map(|_| open())).await {
        sockets.push(opened.unwrap_or_else(|answer| panic!("{}", answer.text())));
    }
    for socket in &mut sockets {
        socket.echoes("still here").await;
    }
    // And all of them end with it.
    for mut socket in sockets {
        let closed = tokio::time::timeout(SOON, socket.closed()).await.expect("with the token");
        assert_eq!(closed, Closed::Frame(4401, "the session has ended".to_owned()));
    }
}
