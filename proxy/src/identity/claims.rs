//! Who somebody is, from what their provider says of them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::Subject;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest claims that a session keeps, in bytes of JSON: some hundred groups, and none of a provider that sends all
/// that it knows.
const CLAIMS: usize = 32 * 1024;
/// How much clocks may differ.
pub(crate) const LEEWAY: Duration = Duration::from_secs(60);
/// The longest name that is shown, in characters.
const NAME: usize = 128;

/// What is wrong with claims that say something two times.
const TWICE: &str = "a key stands twice";

/// Claims about the token and not about a person (OpenID Connect Core 1.0 §2, RFC 7519 §4.1).
const OF_THE_TOKEN: [&str; 12] =
    ["at_hash", "aud", "azp", "c_hash", "exp", "iat", "iss", "jti", "nbf", "nonce", "s_hash", "sid"];

/// Why nobody is known by these claims.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadClaims {
    /// They are no JSON object, or one that says something twice.
    #[error("the claims cannot be read: {0}")]
    Unreadable(String),
    /// They are too many.
    #[error(
        "the claims take {0} bytes, more than {CLAIMS}; let the provider send fewer, or ask for fewer `scopes`"
    )]
    TooLong(usize),
    /// They are of no account.
    #[error("the claims have no `sub`, or one that is no text")]
    NoSubject,
    /// The account is of another domain than the one hosted.
    #[error("the account does not belong to the hosted domain")]
    AnotherDomain,
}

/// The claims of a token whose signature was verified.
///
/// # Errors
/// It is none, or says something twice: who reads the first and who reads the last would see two persons.
pub(crate) fn of_token(token: &str) -> Result<Map<String, Value>, BadClaims> {
    let unreadable = |what: &str| BadClaims::Unreadable(what.to_owned());
    let payload = token.split('.').nth(1).ok_or_else(|| unreadable("it is no JWT"))?;
    let json = URL_SAFE_NO_PAD.decode(payload).map_err(|_| unreadable("it is no base64url"))?;
    parse(&json)
}

/// Claims as JSON, each of them once.
///
/// # Errors
/// As [`of_token`].
pub(crate) fn parse(json: &[u8]) -> Result<Map<String, Value>, BadClaims> {
    if json.len() > CLAIMS {
        return Err(BadClaims::TooLong(json.len()));
    }
    let Once(claims) = serde_json::from_slice(json).map_err(|error| {
        // Where, and not what: it is about a person.
        let what = if error.to_string().starts_with(TWICE) { TWICE } else { "they are no object of JSON" };
        BadClaims::Unreadable(format!("{what}, in column {}", error.column()))
    })?;
    Ok(claims)
}

/// Whether they were issued, or hold, later than now by more than clocks may differ (RFC 7519 §4.1.5, §4.1.6).
pub(crate) fn is_of_the_future(claims: &Map<String, Value>, now: SystemTime) -> bool {
    let latest = now.duration_since(UNIX_EPOCH).unwrap_or_default() + LEEWAY;
    ["iat", "nbf"].iter().filter_map(|key| claims.get(*key)?.as_f64()).any(|time| time > latest.as_secs_f64())
}

/// Takes away what is said of the token and not of a person.
pub(crate) fn forget_token(claims: &mut Map<String, Value>) {
    claims.retain(|key, _| !OF_THE_TOKEN.contains(&key.as_str()));
}

/// A name as it is shown.
pub(crate) fn shown(name: &str) -> String {
    name.chars().filter(|character| !character.is_control()).take(NAME).collect()
}

/// What the rules see of a person; their groups are not asked yet.
///
/// # Errors
/// Who it is cannot be told.
pub(crate) fn subject(
    provider: &config::Provider,
    token: Map<String, Value>,
    user_info: Map<String, Value>,
) -> Result<Subject, BadClaims> {
    let mut claims = user_info;
    // What was signed counts more.
    claims.extend(token);
    let text = |claims: &Map<String, Value>, key: &str| {
        claims.get(key).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let subject = text(&claims, "sub").ok_or(BadClaims::NoSubject)?;
    if let Some(domain) = &provider.hosted_domain
        && text(&claims, "hd").as_ref() != Some(domain)
    {
        return Err(BadClaims::AnotherDomain);
    }
    if !(provider.emails_verified || is_true(claims.get("email_verified"))) {
        claims.remove("email");
    }
    forget_token(&mut claims);
    let names = ["name", "preferred_username", "nickname", "email"];
    let name = names.into_iter().find_map(|key| text(&claims, key)).unwrap_or_else(|| subject.clone());
    let name = shown(&name);
    let issuer = provider.protocol.issuer().to_string();
    Ok(Subject { issuer, subject, name, claims, groups: Vec::new() })
}

/// Some providers write it as a text.
fn is_true(claim: Option<&Value>) -> bool {
    match claim {
        Some(Value::Bool(truth)) => *truth,
        Some(Value::String(text)) => text == "true",
        _ => false,
    }
}

/// An object whose keys stand in it once.
struct Once(Map<String, Value>);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Once;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Once, A::Error> {
                let mut once = Map::new();
                while let Some((key, value)) = entries.next_entry::<String, Value>()? {
                    if once.insert(key, value).is_some() {
                        return Err(A::Error::custom(TWICE));
                    }
                }
                Ok(Once(once))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::{Authentication, Issuer, Protocol, ProviderName, Secret};
    use serde_json::json;

    fn provider() -> config::Provider {
        config::Provider {
            name: ProviderName::parse("lab").unwrap(),
            title: "Lab".to_owned(),
            protocol: Protocol::OpenIdConnect(Issuer::parse("https://id.example.org").unwrap()),
            client_id: "usher".to_owned(),
            authentication: Authentication::Basic(Secret::new("s".to_owned())),
            scopes: vec!["openid".to_owned()],
            parameters: Default::default(),
            prompt_another: "login",
            logout: config::ProviderLogout::Offer,
            certificate_authority: None,
            user_info: true,
            emails_verified: false,
            hosted_domain: None,
            addresses: Default::default(),
        }
    }

    fn map(json: Value) -> Map<String, Value> {
        let Value::Object(map) = json else { panic!("{json} is no object") };
        map
    }

    #[test]
    fn an_address_is_seen_only_if_it_is_verified() {
        let seen = |provider: &config::Provider, claims: Value| {
            subject(provider, map(claims), Map::new()).unwrap().claims.contains_key("email")
        };
        let vouches = config::Provider { emails_verified: true, ..provider() };
        for (verified, by_claim) in [
            (json!(true), true),
            (json!("true"), true),
            (json!(false), false),
            (json!("false"), false),
            (json!(1), false),
            (Value::Null, false),
        ] {
            let claims = json!({ "sub": "1", "email": "a@example.org", "email_verified": verified });
            assert_eq!(seen(&provider(), claims.clone()), by_claim, "{claims}");
            assert!(seen(&vouches, claims));
        }
        assert!(!seen(&provider(), json!({ "sub": "1", "email": "a@example.org" })));
    }

    #[test]
    fn what_was_signed_counts_more_and_the_rest_is_filled_in() {
        let token = map(json!({ "sub": "1", "name": "Ada", "nonce": "n", "exp": 5, "sid": "s" }));
        let info = map(json!({ "sub": "2", "name": "Eve", "groups": ["staff"] }));
        let subject = subject(&provider(), token, info).unwrap();
        assert_eq!((subject.subject.as_str(), subject.name.as_str()), ("1", "Ada"));
        assert_eq!(Value::Object(subject.claims), json!({ "sub": "1", "name": "Ada", "groups": ["staff"] }));
    }

    #[test]
    fn a_name_is_one_short_line_and_never_that_of_an_unverified_address() {
        let name = |claims: Value| subject(&provider(), map(claims), Map::new()).unwrap().name;
        assert_eq!(name(json!({ "sub": "1", "preferred_username": "ada", "nickname": "a" })), "ada");
        assert_eq!(name(json!({ "sub": "1", "name": "", "email": "ada@example.org" })), "1");
        assert_eq!(name(json!({ "sub": "1", "name": "A\nda" })), "Ada");
        assert_eq!(name(json!({ "sub": "1", "name": "x".repeat(500) })).len(), NAME);
    }

    #[test]
    fn of_another_domain_and_of_no_account_nobody_is_known() {
        let hosted = config::Provider { hosted_domain: Some("example.org".to_owned()), ..provider() };
        let of = |claims: Value| subject(&hosted, map(claims), Map::new()).map(|subject| subject.subject);
        assert_eq!(of(json!({ "sub": "1", "hd": "example.org" })), Ok("1".to_owned()));
        for other in [
            json!({ "sub": "1" }),
            json!({ "sub": "1", "hd": "example.com" }),
            json!({ "sub": "1", "hd": 1 }),
        ] {
            assert_eq!(of(other), Err(BadClaims::AnotherDomain));
        }
        for none in [json!({}), json!({ "sub": "" }), json!({ "sub": 1 }), json!({ "sub": null })] {
            assert_eq!(of(none), Err(BadClaims::NoSubject));
        }
    }

    #[test]
    fn claims_that_say_something_twice_or_too_much_are_not_read() {
        assert!(parse(br#"{"sub":"1","groups":["a"]}"#).is_ok());
        for bad in [
            r#"{"sub":"1","sub":"2"}"#,
            r#"{"sub":"1","\u0073ub":"2"}"#,
            "[]",
            "",
            "null",
            r#"{"sub":"1"} x"#,
        ] {
            assert!(matches!(parse(bad.as_bytes()), Err(BadClaims::Unreadable(_))), "{bad}");
        }
        let long = format!(r#"{{"sub":"{}"}}"#, "x".repeat(CLAIMS));
        assert!(matches!(parse(long.as_bytes()), Err(BadClaims::TooLong(_))));
    }
}
