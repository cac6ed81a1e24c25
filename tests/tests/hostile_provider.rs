//! A provider that lies lets nobody in, whatever it says: the person is told, the operator is told, nothing piles up.

use http::StatusCode;
use serde_json::{Map, Value, json};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tests::false_provider::{FalseProvider, Lies, Signed, answer};
use tests::{Answer, DOMAIN, Person, SOON, Setup, Usher, wait_for, wait_instead_of};
use url::Url;

const RULES: &str = "[access]\nallow = \"true\"\ntemplate = \"'demo'\"\n";

async fn usher(providers: &[(&str, &FalseProvider)]) -> Usher {
    let tables: String = providers.iter().map(|(name, provider)| provider.table(name)).collect();
    let setup = Setup::new(&format!("{tables}{RULES}")).without_development().root(BEHIND_A_PROXY);
    let usher = setup.environment("SECRET", "a secret that nobody is to see").start().await;
    for (name, _) in providers {
        let path = format!("/auth/{name}/login");
        wait_for("the provider to be heard", SOON, async || {
            let answer = usher.client().get(DOMAIN, &path).navigate("none").send().await;
            (answer.status == StatusCode::OK).then_some(())
        })
        .await;
    }
    usher
}

fn address(usher: &Usher, path: &str) -> Url {
    Url::parse(&format!("{}{path}", usher.client().origin(DOMAIN))).expect("a path is valid")
}

/// Each try comes from an address of its own: failures of one address are answered later and later.
const BEHIND_A_PROXY: &str = "trusted_proxies = [\"127.0.0.0/8\"]\nclient_address = \"x-forwarded-for\"\n";

/// Somebody at an address that nobody else has.
fn somebody(usher: &Usher) -> Person {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + COUNT.fetch_add(1, Relaxed));
    Person::before(usher.client().adding("x-forwarded-for", &address.to_string()), "alice")
}

/// Tries to log in; what they see at last.
async fn try_to_log_in(usher: &Usher, provider: &str) -> Answer {
    let mut alice = somebody(usher);
    let (_, answer) = alice.follow(address(usher, &format!("/auth/{provider}/login"))).await;
    if answer.status != StatusCode::OK {
        assert_eq!(alice.jar.cookie(DOMAIN, "__Host-usher"), None, "{}", answer.text());
    }
    answer
}

fn claims(changed: Value) -> Lies {
    let Value::Object(claims) = changed else { panic!("no claims") };
    Lies { claims, ..Lies::default() }
}

fn signed(signed: Signed) -> Lies {
    Lies { signed, ..Lies::default() }
}

fn payload(payload: &str) -> Lies {
    Lies { payload: Some(payload.to_owned()), ..Lies::default() }
}

fn says(path: &'static str, answer: Vec<u8>) -> Lies {
    Lies { answers: [(path, answer)].into(), ..Lies::default() }
}

fn back(name: &'static str, value: &str) -> Lies {
    Lies { back: vec![(name, value.to_owned())], ..Lies::default() }
}

fn redirect(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        .into_bytes()
}

/// Lies about the id token, each with what the operator is told of it.
fn lies_of_tokens(provider: &FalseProvider) -> Vec<(&'static str, Lies, &'static str)> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let key = provider.public_key().to_string().into_bytes();
    let many: Vec<_> = (0..1200).map(|n| format!("a group with a long name {n}")).collect();
    vec![
        ("another nonce", claims(json!({ "nonce": "another" })), "nonce"),
        ("no nonce", claims(json!({ "nonce": null })), "nonce"),
        ("another issuer", claims(json!({ "iss": "https://elsewhere.example" })), "issuer"),
        ("for somebody else", claims(json!({ "aud": "somebody else" })), "audience"),
        ("for us and for others", claims(json!({ "aud": ["usher", "others"] })), "audience"),
        ("by another party", claims(json!({ "azp": "others" })), "party"),
        ("expired", claims(json!({ "exp": now - 3600 })), "expired"),
        ("without an end", claims(json!({ "exp": null })), "token"),
        ("not yet valid", claims(json!({ "nbf": now + 3600 })), "not yet"),
        ("from the future", claims(json!({ "iat": now + 3600 })), "not yet"),
        ("of nobody", claims(json!({ "sub": null })), "token"),
        ("of a number", claims(json!({ "sub": 1 })), "token"),
        ("of an empty name", claims(json!({ "sub": "" })), "another account"),
        ("of somebody else than the user info", claims(json!({ "sub": "mallory" })), "another account"),
        ("too much", claims(json!({ "groups": many })), "more than"),
        ("unsigned", signed(Signed::Not), "token"),
        ("signed with the public key", signed(Signed::With(key)), "token"),
        (
            "signed with the client's secret",
            signed(Signed::With(b"a secret that nobody is to see".to_vec())),
            "token",
        ),
        ("signed by another key", signed(Signed::ByAnotherKey), "Signature verification"),
        ("signed under no name", signed(Signed::UnderNoName), "token"),
        (
            "twice",
            payload(
                r#"{"iss":"ISSUER","aud":"usher","sub":"alice","nonce":"NONCE","iat":NOW,"exp":LATER,"groups":[],"groups":["admin"]}"#,
            ),
            "twice",
        ),
        ("no JSON", payload("hello"), "token"),
        ("a list", payload("[]"), "token"),
    ]
}

/// Lies of other kinds.
fn lies_of_answers() -> Vec<(&'static str, Lies, &'static str)> {
    let html = answer("200 OK", "text/html", b"<html>hello</html>");
    // What claims to be packed is not unpacked.
    let bomb = [
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\nConnection: close\r\n\r\n".as_slice(),
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x01\x00\x00\xff\xff\x00\x00\x00\x00\x00",
    ]
    .concat();
    vec![
        ("the token as a page", says("/token", html.clone()), "Content-Type"),
        ("the token packed", says("/token", bomb), "cannot be understood"),
        ("the token elsewhere", says("/token", redirect("http://127.0.0.1:1/")), "empty error response"),
        ("no token", says("/token", answer("200 OK", "application/json", b"{}")), "cannot be understood"),
        (
            "no id token",
            says(
                "/token",
                answer("200 OK", "application/json", br#"{"access_token":"a","token_type":"Bearer"}"#),
            ),
            "no id token",
        ),
        (
            "a token of megabytes",
            says("/token", answer("200 OK", "application/json", &vec![b'a'; 2 << 20])),
            "longer than",
        ),
        (
            "a failure",
            says("/token", answer("500 Internal Server Error", "text/plain", b"")),
            "empty error response",
        ),
        (
            "the code is refused",
            says("/token", answer("400 Bad Request", "application/json", br#"{"error":"invalid_grant"}"#)),
            "invalid_grant",
        ),
        ("the user info as a page", says("/userinfo", html), "cannot be read"),
        ("the user info elsewhere", says("/userinfo", redirect("http://169.254.169.254/")), "302"),
        (
            "the user info twice",
            says("/userinfo", answer("200 OK", "application/json", br#"{"sub":"alice","sub":"mallory"}"#)),
            "twice",
        ),
        (
            "the connection is cut",
            says("/token", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_vec()),
            "cannot be reached",
        ),
        ("silence", says("/token", Vec::new()), "did not answer within 10s"),
        ("another state", back("state", "another"), ""),
        ("no state", back("state", ""), ""),
        ("another sender", back("iss", "https://elsewhere.example"), "another provider"),
        ("no code", back("code", ""), "no code"),
        ("an error", back("error", "access_denied"), "access_denied"),
        ("an error with markup", back("error", "<script>alert(1)</script>"), "script"),
    ]
}

#[tokio::test]
async fn no_lie_of_a_provider_makes_a_session() {
    let provider = FalseProvider::start().await;
    let usher = usher(&[("liar", &provider)]).await;
    assert_eq!(try_to_log_in(&usher, "liar").await.status, StatusCode::OK, "the control: an honest answer");
    assert_eq!(usher.metric("usher_sessions").await, Some(1.0));
    let descriptors = usher.descriptors();
    for (lie, lies, told) in lies_of_tokens(&provider).into_iter().chain(lies_of_answers()) {
        provider.lies(lies);
        let before = usher.logs.all().len();
        let page = try_to_log_in(&usher, "liar").await;
        assert!(
            page.status.is_client_error() || page.status.is_server_error(),
            "{lie}: {} {}",
            page.status,
            page.text()
        );
        let text = page.text();
        assert!(
            text.contains("You could not be logged in") || text.contains("Log in again"),
            "{lie}: {text}"
        );
        assert!(!text.contains("<script>alert"), "{lie}: {text}");
        wait_instead_of(&format!("{told} to be told of {lie}"), SOON, async || {
            let log = usher.logs.all().split_off(before);
            if log.contains(told) { Ok(()) } else { Err(log) }
        })
        .await;
        assert_eq!(usher.metric("usher_sessions").await, Some(1.0), "{lie}");
    }
    assert!(!usher.logs.all().contains("a secret that nobody is to see"));
    provider.lies(Lies::default());
    assert_eq!(try_to_log_in(&usher, "liar").await.status, StatusCode::OK, "the control, again");
    wait_for("nothing to be left open", SOON * 2, async || {
        (usher.descriptors() <= descriptors + 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_provider_says_of_itself_is_refused_where_it_is_not_to_be_believed() {
    let elsewhere = |key: &str| {
        let metadata = Map::from_iter([(key.to_owned(), json!("http://192.0.2.1/x"))]);
        Lies { metadata, ..Lies::default() }
    };
    let metadata = |key: &str, value: Value| Lies {
        metadata: Map::from_iter([(key.to_owned(), value)]),
        ..Lies::default()
    };
    const DISCOVERY: &str = "/.well-known/openid-configuration";
    for (lie, lies, told) in [
        (
            "another issuer",
            metadata("issuer", json!("https://elsewhere.example")),
            "another one than `issuer`",
        ),
        (
            "keys of megabytes",
            says("/jwks", answer("200 OK", "application/json", &vec![b' '; 5 << 20])),
            "longer than",
        ),
        ("keys in clear from elsewhere", elsewhere("jwks_uri"), "neither https nor on this machine"),
        ("a page", says(DISCOVERY, answer("200 OK", "text/html", b"<html>")), "Content-Type"),
        ("a redirect", says(DISCOVERY, redirect("http://127.0.0.1:1/")), "302"),
        ("a failure", says(DISCOVERY, answer("503 Service Unavailable", "text/plain", b"")), "503"),
    ] {
        let provider = FalseProvider::start().await;
        provider.lies(lies);
        let setup = Setup::new(&format!("{}{RULES}", provider.table("liar")))
            .without_development()
            .root(BEHIND_A_PROXY);
        let usher = setup.environment("SECRET", "s").start().await;
        usher.logs.tell(told).await;
        let page = try_to_log_in(&usher, "liar").await;
        assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE, "{lie}: {}", page.text());
    }
}

#[tokio::test]
async fn the_token_endpoint_is_asked_in_clear_on_this_machine_alone() {
    let provider = FalseProvider::start().await;
    let metadata = Map::from_iter([("token_endpoint".to_owned(), json!("http://192.0.2.1/token"))]);
    provider.lies(Lies { metadata, ..Lies::default() });
    let usher = usher(&[("liar", &provider)]).await;
    let page = try_to_log_in(&usher, "liar").await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE, "{}", page.text());
    usher.logs.tell("neither https nor on this machine").await;
}

#[tokio::test]
async fn an_answer_of_one_provider_is_worth_nothing_at_another() {
    let (honest, liar) = (FalseProvider::start().await, FalseProvider::start().await);
    let usher = usher(&[("honest", &honest), ("liar", &liar)]).await;
    let mut alice = Person::new(&usher, "alice");
    // She begins at one, and its answer is sent to the other's address.
    let (at, _) = alice.follow_to(address(&usher, "/auth/honest/login"), "/authorize").await;
    let state =
        at.query_pairs().find(|(key, _)| key == "state").map(|(_, state)| state.into_owned()).unwrap();
    let mixed = form_urlencoded::Serializer::new(String::new())
        .extend_pairs([("code", "the code"), ("state", &state)])
        .finish();
    let (_, page) = alice.follow(address(&usher, &format!("/auth/liar/callback?{mixed}"))).await;
    assert_eq!(page.status, StatusCode::BAD_GATEWAY, "{}", page.text());
    usher.logs.tell("belongs to another provider").await;
    assert_eq!(usher.metric("usher_sessions").await, Some(0.0));
}

#[tokio::test]
async fn a_provider_that_says_so_must_name_itself_beside_each_code() {
    let provider = FalseProvider::start().await;
    let metadata =
        Map::from_iter([("authorization_response_iss_parameter_supported".to_owned(), json!(true))]);
    provider.lies(Lies { metadata: metadata.clone(), ..Lies::default() });
    let usher = usher(&[("lab", &provider)]).await;
    let page = try_to_log_in(&usher, "lab").await;
    assert_eq!(page.status, StatusCode::BAD_GATEWAY, "{}", page.text());
    usher.logs.tell("does not say which provider").await;
    provider.lies(Lies { metadata, back: vec![("iss", provider.issuer())], ..Lies::default() });
    assert_eq!(try_to_log_in(&usher, "lab").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_silent_provider_holds_nobody_else_up() {
    let (silent, honest) = (FalseProvider::start().await, FalseProvider::start().await);
    let usher = usher(&[("honest", &honest), ("silent", &silent)]).await;
    silent.lies(says("/token", Vec::new()));
    let waiting: Vec<_> = (0..50)
        .map(|_| {
            let mut person = somebody(&usher);
            let at = address(&usher, "/auth/silent/login");
            tokio::spawn(async move { person.follow(at).await.1.status })
        })
        .collect();
    let quick = tokio::time::timeout(Duration::from_secs(5), try_to_log_in(&usher, "honest")).await;
    assert_eq!(quick.expect("nobody waits for the other").status, StatusCode::OK);
    for one in waiting {
        assert_eq!(one.await.unwrap(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
