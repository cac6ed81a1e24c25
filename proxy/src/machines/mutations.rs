//! Tokens that were changed in every way that anybody thought of: none of them passes.

use super::issuers::tests::{Issuer, believed_by};
use super::jwt::BadToken;
use crate::assertion::key::SigningKey;
use crate::lab::Lab;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::{Label, Subject, TokenScope};
use control::{Device, Identity, Kind, Login, NewSession, NewToken, Records, Session, SessionId, SessionRef};
use fastrand::Rng;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Map, Value, json};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const PORTAL: &str = "http://lab.localhost:8080";

/// Three parts of a good token, and another good one to take parts from.
struct Good<'a> {
    parts: [&'a str; 3],
    other: [&'a str; 3],
    /// What is public of the key: a secret for whoever mistakes it for one.
    public: &'a [u8],
    /// Signs claims as the right key does.
    sign: &'a dyn Fn(&Value) -> String,
}

fn parts(token: &str) -> [&str; 3] {
    token.split('.').collect::<Vec<_>>().try_into().expect("a token has three parts")
}

fn json_of(part: &str) -> Map<String, Value> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64")).expect("an object")
}

fn part_of(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

/// One of them, changed in one way.
fn mutated(good: &Good<'_>, chance: &mut Rng) -> String {
    match chance.u8(0..14) {
        0..4 => mutated_text(good, chance),
        4..9 => mutated_head(good, chance),
        9..12 => mutated_claims(good, chance),
        12 => wrong_claims(good, chance),
        _ => signed_by_another(good, chance),
    }
}

/// Changed as text: a character, an end, a part, something more.
fn mutated_text(good: &Good<'_>, chance: &mut Rng) -> String {
    let whole = good.parts.join(".");
    match chance.u8(0..4) {
        0 => {
            let mut bytes = whole.into_bytes();
            let at = chance.usize(0..bytes.len());
            bytes[at] = chance.choice(*b"ABCxyz019-_.=+/ %").expect("there are some");
            String::from_utf8(bytes).expect("ASCII")
        }
        1 => whole[..chance.usize(0..whole.len())].to_owned(),
        2 => {
            let pick =
                |chance: &mut Rng, at: usize| if chance.bool() { good.parts[at] } else { good.other[at] };
            [pick(chance, 0), pick(chance, 1), pick(chance, 2)].join(".")
        }
        _ => {
            let at = chance.usize(0..=whole.len());
            let more =
                chance.choice([" ", "=", ".", "\t", "é", "A", "\0", "..", "{}"]).expect("there are some");
            format!("{}{more}{}", &whole[..at], &whole[at..])
        }
    }
}

/// With another head: another algorithm or key, none at all, or more than is understood.
fn mutated_head(good: &Good<'_>, chance: &mut Rng) -> String {
    let [head, claims, signature] = good.parts;
    let with = |name: &str, value: Value| {
        let mut head = json_of(head);
        head.insert(name.to_owned(), value);
        format!("{}.{claims}.{signature}", part_of(&Value::Object(head)))
    };
    match chance.u8(0..4) {
        0 => {
            let algorithms =
                ["none", "None", "HS256", "HS384", "RS256", "PS256", "ES384", "EdDSA", "", "ES256K"];
            with("alg", chance.choice(algorithms).expect("there are some").into())
        }
        1 => {
            let head = json!({ "alg": "none", "typ": json_of(head)["typ"] });
            format!("{}.{claims}.{}", part_of(&head), if chance.bool() { "" } else { signature })
        }
        2 => {
            let kid =
                [json!("x"), json!(""), json!(7), json!(null), json!("../../dev/null"), json!("' or 1")];
            with("kid", chance.choice(kid).expect("there are some"))
        }
        _ => with(chance.choice(["crit", "jku", "jwk", "x5u", "typ"]).expect("some"), json!(["exp"])),
    }
}

/// With other claims: one that stands twice, a token inside, another value.
fn mutated_claims(good: &Good<'_>, chance: &mut Rng) -> String {
    let [head, claims, signature] = good.parts;
    match chance.u8(0..3) {
        0 => {
            let text = String::from_utf8(URL_SAFE_NO_PAD.decode(claims).expect("base64")).expect("JSON");
            let inside = &text[1..text.len() - 1];
            let more = r#""exp":4000000000"#;
            let both =
                if chance.bool() { format!("{{{more},{inside}}}") } else { format!("{{{inside},{more}}}") };
            format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(both))
        }
        1 => format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode(good.parts.join("."))),
        _ => {
            let mut said = json_of(claims);
            let name = chance.choice(["exp", "aud", "iss", "sub", "sid", "scope", "nbf"]).expect("some");
            let value = chance.choice([json!(1), json!("x"), json!(9e9), json!([])]).expect("some");
            said.insert(name.to_owned(), value);
            format!("{head}.{}.{signature}", part_of(&Value::Object(said)))
        }
    }
}

/// Signed by another key, or with what everybody knows of the right one.
fn signed_by_another(good: &Good<'_>, chance: &mut Rng) -> String {
    let said = json_of(good.parts[0]);
    let text = |name: &str| said.get(name).and_then(Value::as_str).map(str::to_owned);
    let claims = json_of(good.parts[1]);
    if chance.bool() {
        let head = Header { kid: text("kid"), typ: text("typ"), ..Header::new(Algorithm::HS256) };
        return encode(&head, &claims, &EncodingKey::from_secret(good.public))
            .expect("a secret signs anything");
    }
    let key = SigningKey::of([chance.u8(100..); 32], &text("typ").unwrap_or_default());
    let token = key.token(&claims);
    let [_, claims, signature] = parts(&token);
    if chance.bool() { token.clone() } else { format!("{}.{claims}.{signature}", good.parts[0]) }
}

/// Signed as it must be, and about something else.
fn wrong_claims(good: &Good<'_>, chance: &mut Rng) -> String {
    let mut said = json_of(good.parts[1]);
    let wrong = [
        ("exp", json!(1)),
        ("exp", json!("4000000000")),
        ("exp", json!(-1)),
        ("exp", json!(1e300)),
        ("exp", Value::Null),
        ("aud", json!("http://alice.lab.localhost:8080")),
        ("aud", json!([])),
        ("aud", Value::Null),
        ("iss", json!("https://evil.test")),
        ("iss", json!(["https://issuer.test"])),
        ("nbf", json!(4_000_000_000_u64)),
        ("nbf", json!("now")),
        ("iat", json!(4_000_000_000_u64)),
    ];
    let (name, value) = chance.choice(wrong).expect("there are some");
    said.insert(name.to_owned(), value);
    (good.sign)(&Value::Object(said))
}

/// How many of so many changed tokens are believed; the control set is believed each time.
fn tried(many: usize, good: &Good<'_>, passes: impl Fn(&str) -> Result<(), BadToken>) -> usize {
    let seed = std::env::var("USHER_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("seed {seed}; USHER_SEED={seed} repeats this run");
    let mut chance = Rng::with_seed(seed);
    let control = [good.parts.join("."), good.other.join(".")];
    let mut believed = 0;
    for at in 0..many {
        let token = mutated(good, &mut chance);
        if control.contains(&token) {
            continue;
        }
        if passes(&token).is_ok() {
            eprintln!("believed: {token}");
            believed += 1;
        }
        if at % 1000 == 0 {
            assert!(control.iter().all(|token| passes(token).is_ok()), "the control set");
        }
    }
    believed
}

fn alice() -> Session {
    let subject = Subject { name: "alice".to_owned(), ..Subject::default() };
    let identity = Identity { issuer: Identity::DEVELOPMENT.to_owned(), subject: "alice".to_owned() };
    let label = Label::parse("alice").unwrap();
    let login = Login::now(None, None, Device::default());
    Session::of_machine(NewSession {
        identity,
        label,
        display_name: "alice".to_owned(),
        subject,
        login,
        kept: None,
    })
}

/// A session of alice's that is recorded.
async fn by(lab: &Lab) -> SessionRef {
    let by = SessionId([7; 16]).reference();
    // There already when another token is made.
    let _there = lab.records.create(Kind::Session, &by.to_string(), b"{}".to_vec()).await;
    by
}

async fn of_usher_login(many: usize) -> usize {
    let lab = Lab::new().await;
    let now = SystemTime::now();
    let (name, scopes) = ("laptop".to_owned(), [TokenScope::Sessions].into_iter().collect());
    let new = NewToken { name, scopes, lifetime: Duration::from_secs(3600), now };
    let (_, one) = lab.edge.tokens.begin_login(&alice(), by(&lab).await, new.clone()).await.unwrap();
    let (_, other) = lab.edge.tokens.begin_login(&alice(), by(&lab).await, new).await.unwrap();
    let access = &lab.edge.machines.access;
    let (token, other) = (access.issue(&one, PORTAL, now), access.issue(&other, PORTAL, now));
    let public = json_of(parts(&token)[0])["kid"].as_str().unwrap().as_bytes().to_owned();
    let sign = |claims: &Value| access.sign(claims, now);
    let good = Good { parts: parts(&token), other: parts(&other), public: &public, sign: &sign };
    tried(many, &good, |token| access.read(token, |text| text == PORTAL, now).map(drop))
}

fn of_an_issuer(many: usize) -> usize {
    let issuer = Issuer::new();
    let now = SystemTime::now();
    let token = issuer.token("ci", now);
    let other = issuer.token("backup", now);
    let sign = |claims: &Value| issuer.sign(claims);
    let public = issuer.public();
    let good = Good { parts: parts(&token), other: parts(&other), public: &public, sign: &sign };
    tried(many, &good, |token| believed_by(&issuer, token, now).map(drop))
}

#[tokio::test]
async fn of_ten_thousand_changed_tokens_of_usher_login_none_is_believed() {
    assert_eq!(of_usher_login(10_000).await, 0);
}

#[test]
fn of_ten_thousand_changed_tokens_of_an_issuer_none_is_believed() {
    assert_eq!(of_an_issuer(10_000), 0);
}

#[tokio::test]
#[ignore = "half a million of each kind: minutes of a release build"]
async fn of_a_million_changed_tokens_none_is_believed() {
    assert_eq!((of_usher_login(500_000).await, of_an_issuer(500_000)), (0, 0));
}

#[tokio::test]
async fn an_access_token_ends_and_an_assertion_is_none() {
    let lab = Lab::new().await;
    let now = SystemTime::now();
    let new = NewToken {
        name: "laptop".to_owned(),
        scopes: [TokenScope::Sessions].into_iter().collect(),
        lifetime: Duration::from_secs(3600),
        now,
    };
    let (_, login) = lab.edge.tokens.begin_login(&alice(), by(&lab).await, new).await.unwrap();
    let access = &lab.edge.machines.access;
    let token = access.issue(&login, PORTAL, now);
    let read = |token: &str, now| access.read(token, |text| text == PORTAL, now).map(|said| said.login);
    assert_eq!(read(&token, now), Ok(login.reference));
    assert_eq!(read(&token, now + Duration::from_secs(601)), Err(BadToken::Expired));
    assert_eq!(read(&token, now + Duration::from_secs(598)), Ok(login.reference));
    assert!(access.read(&token, |_| false, now).is_err(), "of another portal");
    // Neither the keys of assertions nor their type are those of access tokens.
    let keys = lab.edge.assertions.jwks(now);
    let kid = json_of(parts(&token)[0])["kid"].clone();
    assert!(keys["keys"].as_array().unwrap().iter().all(|key| key["kid"] != kid));
    let mut claims = json_of(parts(&token)[1]);
    claims.insert("iat".to_owned(), now.duration_since(UNIX_EPOCH).unwrap().as_secs().into());
    let key = SigningKey::of([7; 32], "JWT");
    assert_eq!(read(&key.token(&claims), now), Err(BadToken::Head));
}
