//! Tokens of an issuer that the operator trusts: a machine that comes with one is a user like any other.

use http::StatusCode;
use serde_json::json;
use tests::{Answer, DOMAIN, IdentityProvider, Setup, Usher};

const AUDIENCE: &str = "https://usher.test/";

async fn trusting(provider: &IdentityProvider, more: &str) -> Usher {
    let issuer = provider.issuer();
    let table = format!(
        "[machines.issuers.ci]\nissuer = \"{issuer}\"\naudience = \"{AUDIENCE}\"\nallow = \"claims.sub != 'evil'\"\n{more}\n"
    );
    Setup::new(&table).start().await
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
