use super::*;
use crate::assertion::key::SigningKey;
use crate::edge::ListenerFacts;
use crate::lab::{Answer, CONFIG, HURRIED, Lab};
use crate::machines::jwt::FixedKey;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use control::{Kind, Records};
use http::{Method, StatusCode};
use jsonwebtoken::Algorithm;
use serde_json::json;
use std::time::UNIX_EPOCH;

const ISSUER: &str = "https://issuer.test";
const AUDIENCE: &str = "usher";

/// An issuer with a key of its own, as the configuration knows it.
pub(in crate::machines) struct Issuer {
    key: SigningKey,
    told: Arc<TrustedIssuer>,
    followed: Followed,
}

impl Issuer {
    fn config() -> String {
        format!(
            "{CONFIG}{HURRIED}[machines.issuers.ci]\nissuer = '{ISSUER}'\naudience = '{AUDIENCE}'\nallow = 'true'\n\
             algorithms = ['ES256']\nlifetime_max = '1h'\n"
        )
    }

    pub(in crate::machines) fn new() -> Self {
        let config = Config::parse("test.toml", &Self::config(), &|_| None).unwrap();
        let told = config.machines.issuers.values().next().unwrap().clone();
        let key = SigningKey::of([42; 32], "JWT");
        let fixed =
            FixedKey { name: Some(key.name().to_owned()), algorithm: Algorithm::ES256, key: key.verifier() };
        let (followed, _) = Followed::new(told.clone());
        followed.know(Some(vec![fixed]));
        Self { key, told, followed }
    }

    pub(in crate::machines) fn claims(&self, subject: &str, now: SystemTime) -> Value {
        let now = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
        json!({ "iss": ISSUER, "aud": [AUDIENCE, "others"], "sub": subject, "iat": now, "exp": now + 600 })
    }

    pub(in crate::machines) fn token(&self, subject: &str, now: SystemTime) -> String {
        self.sign(&self.claims(subject, now))
    }

    pub(in crate::machines) fn sign(&self, claims: &Value) -> String {
        self.key.token(claims)
    }

    /// What everybody may know of its key.
    pub(in crate::machines) fn public(&self) -> Vec<u8> {
        self.key.name().as_bytes().to_owned()
    }
}

/// A portal that trusts an issuer, as far as its users can be written down.
struct Trusting {
    lab: Lab,
    _entering: tokio_util::task::AbortOnDropHandle<()>,
}

impl Trusting {
    async fn new(issuer: &Issuer) -> Self {
        let facts = ListenerFacts { tls: false, public_port: 8080, loopback: true, redirects: false };
        let mut lab = Lab::with(&Issuer::config(), facts).await;
        let (entrance, entering) = Entrance::new(lab.edge.users.clone());
        let by_name = [(issuer.told.name.clone(), issuer.followed.clone())].into();
        let edge = Arc::get_mut(&mut lab.edge).unwrap();
        edge.machines.issuers = Issuers { by_name, entrance, ..Issuers::default() };
        Self { lab, _entering: tokio_util::task::AbortOnDropHandle::new(tokio::spawn(entering)) }
    }

    async fn asked_by(&self, token: &str) -> Answer {
        self.asked_for("http://lab.localhost:8080/api/v1/workspaces", token).await
    }

    async fn asked_for(&self, url: &str, token: &str) -> Answer {
        let bearer = format!("Bearer {token}");
        self.lab.browser().send(Method::GET, url, &[("authorization", &bearer)], "").await
    }
}

/// Status, code and whether it is said when to come again.
fn told(answer: &Answer) -> (StatusCode, &str, bool) {
    (answer.status, answer.header("usher-error").unwrap_or_default(), answer.header("retry-after").is_some())
}

#[tokio::test]
async fn who_cannot_be_written_down_is_to_come_again() {
    let issuer = Issuer::new();
    let trusting = Trusting::new(&issuer).await;
    let identity = Identity { issuer: ISSUER.to_owned(), subject: "robot".to_owned() };
    trusting.lab.records.create(Kind::User, &identity.key(), b"damaged".to_vec()).await.unwrap();
    let answer = trusting.asked_by(&issuer.token("robot", SystemTime::now())).await;
    assert_eq!(told(&answer), (StatusCode::SERVICE_UNAVAILABLE, "unavailable", true));
    let answer = trusting.asked_by(&issuer.token("other", SystemTime::now())).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
}

#[tokio::test]
async fn a_key_that_is_not_known_is_refused_only_while_its_issuer_is_heard() {
    let issuer = Issuer::new();
    let trusting = Trusting::new(&issuer).await;
    let claims = issuer.claims("robot", SystemTime::now());
    let rotated = SigningKey::of([43; 32], "JWT").token(&claims);
    let answer = trusting.asked_by(&rotated).await;
    assert_eq!(told(&answer), (StatusCode::UNAUTHORIZED, "invalid_token", false));
    issuer.followed.know(None);
    let answer = trusting.asked_by(&rotated).await;
    assert_eq!(told(&answer), (StatusCode::SERVICE_UNAVAILABLE, "unavailable", true));
    let answer = trusting.asked_by(&issuer.sign(&claims)).await;
    assert_eq!(answer.status, StatusCode::OK, "known keys are kept: {}", answer.body);
}

#[tokio::test]
async fn what_is_followed_by_a_token_that_had_no_room_ends_with_the_token() {
    let issuer = Issuer::new();
    let mut trusting = Trusting::new(&issuer).await;
    let kept = Kept::new(1);
    Arc::get_mut(&mut trusting.lab.edge).unwrap().machines.issuers.kept = kept.clone();
    // With the leeway of clocks it has five seconds left.
    let now = SystemTime::now();
    let token = issuer.token("robot", now - Duration::from_secs(655));
    assert_eq!(trusting.asked_by(&token).await.status, StatusCode::OK);
    let follows = trusting.asked_for("http://robot.lab.localhost:8080/.usher/events", &token);
    let pushed_out = async {
        let others = (0..).map(|n| issuer.token(&format!("other{n}"), now));
        for other in others.take_while(|_| kept.holds(&hash(&token))) {
            assert_eq!(trusting.asked_by(&other).await.status, StatusCode::OK);
        }
        assert!(now.elapsed().is_ok_and(|since| since < Duration::from_secs(4)), "it would hold still");
    };
    let both = async { tokio::join!(tokio::time::timeout(Duration::from_secs(10), follows), pushed_out) };
    let answer = tokio::select! {
        (answer, ()) = both => answer.unwrap(),
        () = kept.clone().sweep() => unreachable!("it never ends"),
    };
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert!(answer.body.contains("\"stopped\""), "{}", answer.body);
}

pub(in crate::machines) fn believed_by(
    issuer: &Issuer,
    token: &str,
    now: SystemTime,
) -> Result<Map<String, Value>, BadToken> {
    believed(&issuer.followed, token, &issuer.told, now)
}

#[test]
fn a_token_is_believed_by_its_issuer_its_audience_and_its_times() {
    let (issuer, now) = (Issuer::new(), SystemTime::now());
    let good = issuer.claims("ci", now);
    assert!(believed_by(&issuer, &issuer.sign(&good), now).is_ok());
    let at = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
    for (name, value, expected) in [
        ("iss", json!("https://issuer.test/"), Err(BadToken::Claim("iss"))),
        ("aud", json!("others"), Err(BadToken::Claim("aud"))),
        ("aud", json!(AUDIENCE), Ok(())),
        ("azp", json!("who asked for it"), Ok(())),
        ("azp", json!(""), Err(BadToken::Claim("azp"))),
        ("azp", json!([AUDIENCE]), Err(BadToken::Claim("azp"))),
        ("azp", Value::Null, Err(BadToken::Claim("azp"))),
        ("exp", Value::Null, Err(BadToken::Claim("exp"))),
        ("exp", json!(at - 61), Err(BadToken::Expired)),
        ("exp", json!(at - 58), Ok(())),
        ("nbf", json!(at + 58), Ok(())),
        ("nbf", json!(at + 62), Err(BadToken::Early)),
        ("iat", json!(at + 62), Err(BadToken::Early)),
        ("exp", json!(at + 3600), Ok(())),
        ("exp", json!(at + 3700), Err(BadToken::TooLasting)),
        ("iat", json!(at - 4000), Err(BadToken::TooLasting)),
        ("iat", Value::Null, Err(BadToken::Claim("iat"))),
    ] {
        let mut claims = good.clone();
        claims[name] = value.clone();
        let told = believed_by(&issuer, &issuer.sign(&claims), now).map(drop);
        assert_eq!(told, expected, "{name} {value}");
    }
}

#[test]
fn a_machine_is_its_issuer_and_subject_and_says_no_unproved_address() {
    let issuer = Issuer::new();
    let claims = |more: Value| {
        let mut claims =
            json!({ "iss": ISSUER, "sub": "s-1", "aud": AUDIENCE, "exp": 1, "email": "a@x.test" });
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims.as_object().unwrap().clone()
    };
    let told =
        subject(&issuer.told, claims(json!({ "client_id": "ci", "team": "astro", "azp": "ci" }))).unwrap();
    assert_eq!((told.issuer.as_str(), told.subject.as_str(), told.name.as_str()), (ISSUER, "s-1", "ci"));
    let kept: Vec<_> = told.claims.keys().map(String::as_str).collect();
    assert_eq!(kept, ["azp", "client_id", "sub", "team"]);
    let proved = subject(&issuer.told, claims(json!({ "email_verified": true }))).unwrap();
    assert_eq!(proved.claims["email"], "a@x.test");
    assert_eq!(subject(&issuer.told, claims(json!({ "sub": "" }))), Err(BadToken::Claim("sub")));
    assert_eq!(subject(&issuer.told, claims(json!({ "sub": 7 }))), Err(BadToken::Claim("sub")));
}

#[test]
fn a_key_has_one_algorithm_and_a_secret_none() {
    let point = URL_SAFE_NO_PAD.encode([1; 32]);
    let edwards = json!({ "kty": "OKP", "crv": "Ed25519", "x": point, "kid": "e" });
    let secret = json!({ "kty": "oct", "k": "AAAA", "kid": "s" });
    let rsa = |alg: Value| json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": alg });
    use config::TokenAlgorithm as A;
    for (key, allowed, expected) in [
        (edwards.clone(), vec![A::Rs256, A::EdDsa], Some(Algorithm::EdDSA)),
        (edwards, vec![A::Rs256, A::Es256], None),
        (secret, vec![A::Rs256, A::Es256, A::EdDsa], None),
        (rsa(Value::Null), vec![A::Es256, A::Ps256, A::Rs256], Some(Algorithm::PS256)),
        (rsa(json!("RS256")), vec![A::Ps256, A::Rs256], Some(Algorithm::RS256)),
        (rsa(json!("RS512")), vec![A::Ps256, A::Rs256], None),
        (rsa(json!("HS256")), vec![A::Rs256], None),
    ] {
        let read = serde_json::from_value(key.clone()).unwrap();
        let fixed = keys::fixed(&read, &allowed).map(|key| key.algorithm);
        assert_eq!(fixed, expected, "{key} {allowed:?}");
    }
}
