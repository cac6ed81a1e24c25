//! A workspace can prove who asks: by an assertion that is for it alone, and short.

use http::{Method, StatusCode};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, TokenData, Validation, decode, decode_header, errors};
use serde_json::{Value, json};
use tests::{DOMAIN, Person, Socket, Usher};
use tokio_tungstenite::tungstenite::Message;

const HEADER: &str = "x-usher-assertion";

/// What an application asks a token, by the keys that the portal tells now.
async fn verified(usher: &Usher, token: &str, audience: &str) -> errors::Result<TokenData<Value>> {
    verified_of(usher, token, &usher.client().origin(DOMAIN), audience).await
}

async fn verified_of(
    usher: &Usher,
    token: &str,
    issuer: &str,
    audience: &str,
) -> errors::Result<TokenData<Value>> {
    let answer = usher.client().get(DOMAIN, "/.well-known/jwks.json").send().await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let keys: JwkSet = serde_json::from_value(answer.json()).expect("a key set");
    let kid = decode_header(token)?.kid.expect("the token names its key");
    let key = DecodingKey::from_jwk(keys.find(&kid).expect("the key is published"))?;
    let mut checks = Validation::new(Algorithm::ES256);
    checks.set_issuer(&[issuer]);
    checks.set_audience(&[audience]);
    checks.set_required_spec_claims(&["iss", "aud", "sub", "exp"]);
    decode(token, &key, &checks)
}

/// Every assertion that a workspace was told, as `/headers` of the demo shows them.
fn told(headers: &Value) -> Vec<String> {
    let fields = headers.as_array().expect("a list of fields").iter();
    let ours = fields.filter(|field| field[0].as_str().is_some_and(|name| name.replace('_', "-") == HEADER));
    ours.map(|field| field[1].as_str().expect("a value").to_owned()).collect()
}

/// The one assertion that somebody's workspace is told.
async fn assertion_of(person: &Person) -> String {
    let answer = person.fetch(Method::GET, "/headers").send().await;
    let [token] = told(&answer.json()).try_into().expect("exactly one assertion");
    token
}

#[tokio::test]
async fn a_workspace_can_prove_who_asks_and_that_it_is_meant() {
    let usher = Usher::start("").await;
    let (alice, bob) = tokio::join!(Person::at_work(&usher, "alice"), Person::at_work(&usher, "bob"));
    let token = assertion_of(&alice).await;
    let claims =
        verified(&usher, &token, &alice.host()).await.expect("alice's own workspace believes it").claims;
    assert_eq!(claims["preferred_username"], "alice");
    assert_eq!(claims["identity"], json!({ "iss": "usher:development", "sub": "alice" }));
    assert_eq!(claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(), 60);

    let elsewhere = verified(&usher, &token, &bob.host()).await.unwrap_err();
    assert_eq!(
        *elsewhere.kind(),
        errors::ErrorKind::InvalidAudience,
        "what alice's workspace got is no use at bob's"
    );
    let bobs = verified(&usher, &assertion_of(&bob).await, &bob.host()).await.unwrap().claims;
    assert_ne!(bobs["sub"], claims["sub"]);
    assert!(!usher.logs.all().contains(&token), "an assertion was logged");
}

#[tokio::test]
async fn a_forged_assertion_never_arrives() {
    let usher = Usher::start("").await;
    let alice = Person::at_work(&usher, "alice").await;
    for name in [HEADER, "X-USHER-ASSERTION", "X-Usher-Assertion-2"] {
        let answer = alice.fetch(Method::GET, "/headers").with(name, "forged").send().await;
        assert!(!answer.text().contains("forged"), "{name}: {}", answer.text());
        let [token] = told(&answer.json()).try_into().expect("exactly one assertion");
        verified(&usher, &token, &alice.host()).await.unwrap();
    }
    for (name, value) in
        [("x_usher_assertion", "forged"), ("x-usher_assertion", "forged"), ("connection", HEADER)]
    {
        let answer = alice.fetch(Method::GET, "/headers").with(name, value).send().await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{name}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_websocket_brings_an_assertion_and_no_forged_one() {
    let usher = Usher::start("").await;
    let alice = Person::at_work(&usher, "alice").await;
    let (client, host) = (usher.client(), alice.host());
    let (origin, cookie) = (client.origin(&host), alice.jar.field(&host).unwrap());
    let headers = [("origin", origin.as_str()), ("cookie", &cookie), (HEADER, "forged")];
    let mut socket = Socket::open(&client, &host, "/told", &headers).await.expect("her own page may");
    let Message::Text(text) = socket.receive().await else { panic!("no text") };
    let [token] = told(&serde_json::from_str(&text).unwrap()).try_into().expect("exactly one assertion");
    verified(&usher, &token, &host).await.unwrap();
    let underscored = [headers[0], headers[1], ("x_usher_assertion", "forged")];
    let refused = Socket::open(&client, &host, "/told", &underscored).await;
    assert_eq!(refused.err().expect("an underscore").status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn after_a_new_key_the_old_ones_assertions_still_verify() {
    let usher = Usher::start("").await;
    let mut alice = Person::at_work(&usher, "alice").await;
    let before = assertion_of(&alice).await;
    let file = usher.state_dir().join("keys.json");
    let with_a_newer_key = || {
        let mut ring: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let newest = json!({ "secret": "A".repeat(43), "since": ring["keys"][0]["since"] });
        ring["keys"].as_array_mut().unwrap().insert(0, newest);
        std::fs::write(&file, ring.to_string()).unwrap();
    };
    // The next one listens on another port.
    let issuer = usher.client().origin(DOMAIN);
    let usher = usher.killed_and_restarted_after(with_a_newer_key).await;
    alice.moved_to(&usher);
    alice.await_phase("ready").await;
    let after = assertion_of(&alice).await;
    verified(&usher, &after, &alice.host()).await.unwrap();
    assert_ne!(decode_header(&before).unwrap().kid, decode_header(&after).unwrap().kid);
    verified_of(&usher, &before, &issuer, &alice.host()).await.expect("the old key is listed for a day");
}

#[tokio::test]
async fn the_public_keys_are_the_portals_to_tell_and_open_to_everyone() {
    let usher = Usher::start("").await;
    let alice = Person::at_work(&usher, "alice").await;
    let client = usher.client();
    let answer = client.get(DOMAIN, "/.well-known/jwks.json").send().await;
    assert_eq!((answer.status, answer.field("content-type")), (StatusCode::OK, "application/json"));
    assert_eq!(answer.field("cache-control"), "public, max-age=300");
    let keys = answer.json();
    let key = keys["keys"][0].as_object().unwrap();
    let told: Vec<&str> = key.keys().map(String::as_str).collect();
    assert_eq!(told, ["alg", "crv", "kid", "kty", "use", "x", "y"], "and nothing private");

    let at_workspace = alice.fetch(Method::GET, "/.well-known/jwks.json").send().await;
    assert!(
        at_workspace.field("content-type").starts_with("text/html"),
        "the demo answers: {}",
        at_workspace.text()
    );
    let stranger = client.get(&alice.host(), "/.well-known/jwks.json").send().await;
    assert_eq!(stranger.status, StatusCode::UNAUTHORIZED, "on a workspace's host it is the workspace's");
}
