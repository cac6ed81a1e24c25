//! Logins by a real identity provider: who comes in, as whom, and who does not.

use http::StatusCode;
use serde_json::{Value, json};
use tests::{DOMAIN, IdentityProvider, Person, Usher};

fn ada() -> Value {
    json!({ "alice": {
        "name": "Ada Lovelace", "preferred_username": "alice", "groups": ["staff"],
        "email": "alice@example.org", "email_verified": true,
    } })
}

/// An Usher with this provider as its only login.
async fn usher(provider: &IdentityProvider, rest: &str) -> Usher {
    let usher = provider.setup("", rest).start().await;
    provider.knows(&usher).await;
    usher
}

/// Rules as a lab has them.
const RULES: &str = "[access]\nallow = \"'staff' in groups\"\ntemplate = \"'demo'\"\n";

#[tokio::test]
async fn a_person_logs_in_at_their_provider_and_comes_to_the_page_that_they_asked_for() {
    let provider = IdentityProvider::start(ada()).await;
    let usher = usher(&provider, RULES).await;
    let mut alice = Person::new(&usher, "alice");
    let (url, answer) = alice.visit("/deep/link?x=1&y=%2F").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "the waiting page: {}", answer.text());
    assert_eq!(url.as_str(), format!("{}/deep/link?x=1&y=%2F", usher.client().origin(&alice.host())));
    alice.await_phase("ready").await;
    let portal = alice.follow(format!("{}/", usher.client().origin(DOMAIN)).parse().unwrap()).await.1.text();
    assert!(portal.contains("Ada Lovelace") && portal.contains("<code>alice</code>"), "{portal}");
}
