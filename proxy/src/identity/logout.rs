//! What a provider says when it has ended a session (OpenID Connect Back-Channel Logout 1.0), and where somebody ends theirs
//! there (RP-Initiated Logout 1.0).

use super::claims::LEEWAY;
use super::exchange::Failure;
use super::provider::{Metadata, Provider};
use super::signed::{self, BadToken};
use jsonwebtoken::Header;
use serde_json::{Map, Value};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The event of a logout token (Back-Channel Logout 1.0 §2.4).
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";
/// How old a logout token may be.
pub(crate) const AGE: Duration = Duration::from_secs(600);
/// How long somebody else's key is waited for.
const KEYS_PATIENCE: Duration = Duration::from_secs(5);
/// The longest name of a session, an account or a token, in bytes.
const NAME: usize = 512;

/// What a provider has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The account; none = whoever had the session.
    pub(crate) subject: Option<String>,
    /// The provider's session; none = all of the account.
    pub(crate) sid: Option<String>,
    /// The token's own name, which comes once.
    pub(crate) token: String,
}

/// Why a logout token ends nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadLogout {
    /// The provider's keys are not known.
    #[error(transparent)]
    Provider(#[from] Failure),
    /// It is not the provider's.
    #[error("the token is not to be believed: {0}")]
    Token(#[from] BadToken),
    /// It does not say what a logout token has to (§2.6).
    #[error("the logout token's {0} is missing or wrong")]
    Claim(&'static str),
}

impl Provider {
    /// What a logout token ends.
    ///
    /// # Errors
    /// It is not to be believed.
    pub(crate) async fn ended(&self, token: &str, now: SystemTime) -> Result<Ended, BadLogout> {
        let check = |metadata: &Metadata| signed::verify(metadata.jwks(), token);
        let mut checked = check(&*self.metadata()?);
        if matches!(checked, Err(BadToken::UnknownKey)) {
            self.renewed(KEYS_PATIENCE).await;
            checked = check(&*self.metadata()?);
        }
        let (header, claims) = checked?;
        let issuer = self.told.protocol.issuer().as_str();
        judge(&header, &claims, issuer, &self.told.client_id, now)
    }

    /// Where somebody logs out at the provider, if it has such a place.
    pub(crate) fn exit(&self) -> Option<String> {
        let metadata = self.metadata().ok()?;
        metadata.additional_metadata().end_session_endpoint.clone()
    }
}

/// Judges what a logout token says (§2.6), its signature apart.
fn judge(
    header: &Header,
    claims: &Map<String, Value>,
    issuer: &str,
    client: &str,
    now: SystemTime,
) -> Result<Ended, BadLogout> {
    let text =
        |key: &str| claims.get(key).and_then(Value::as_str).filter(|text| (1..=NAME).contains(&text.len()));
    let demand = |holds: bool, claim: &'static str| if holds { Ok(()) } else { Err(BadLogout::Claim(claim)) };
    let kind = header.typ.as_deref().unwrap_or("JWT");
    demand(["JWT", "logout+jwt"].iter().any(|known| kind.eq_ignore_ascii_case(known)), "typ")?;
    demand(text("iss") == Some(issuer), "iss")?;
    let is_for_us = match claims.get("aud") {
        Some(Value::String(one)) => one == client,
        Some(Value::Array(many)) => many.iter().any(|one| one == client),
        _ => false,
    };
    demand(is_for_us, "aud")?;
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let issued = claims.get("iat").and_then(Value::as_u64).map(Duration::from_secs);
    demand(issued.is_some_and(|at| at <= now + LEEWAY && now <= at.saturating_add(AGE)), "iat")?;
    let lives = |expires: &Value| {
        expires.as_u64().is_some_and(|at| now < Duration::from_secs(at).saturating_add(LEEWAY))
    };
    demand(claims.get("exp").is_none_or(lives), "exp")?;
    demand(
        claims.get("events").and_then(|events| events.get(EVENT)).is_some_and(Value::is_object),
        "events",
    )?;
    // Else an id token would pass for one (§2.4).
    demand(!claims.contains_key("nonce"), "nonce")?;
    let token = text("jti").ok_or(BadLogout::Claim("jti"))?.to_owned();
    let (subject, sid) = (text("sub").map(str::to_owned), text("sid").map(str::to_owned));
    demand(subject.is_some() || sid.is_some(), "sub or sid")?;
    Ok(Ended { subject, sid, token })
}

#[cfg(test)]
mod tests {
    use super::*;
    use jsonwebtoken::Algorithm;
    use serde_json::json;

    const NOW: u64 = 1_800_000_000;

    fn good() -> Value {
        json!({
            "iss": "https://id.example.org", "aud": "usher", "iat": NOW, "exp": NOW + 120, "jti": "1", "sub": "ada",
            "sid": "s", "events": { EVENT: {} },
        })
    }

    fn judged(claims: &Value, typ: Option<&str>) -> Result<Ended, String> {
        let header = Header { typ: typ.map(str::to_owned), ..Header::new(Algorithm::RS256) };
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        judge(&header, claims.as_object().unwrap(), "https://id.example.org", "usher", now)
            .map_err(|bad| bad.to_string())
    }

    #[test]
    fn a_logout_token_says_who_and_for_whom_and_when() {
        let ended = Ended { subject: Some("ada".into()), sid: Some("s".into()), token: "1".into() };
        for typ in [None, Some("JWT"), Some("logout+jwt"), Some("Logout+JWT")] {
            assert_eq!(judged(&good(), typ), Ok(ended.clone()));
        }
        for (key, value, wrong) in [
            ("iss", json!("https://id.example.org/"), "iss"),
            ("iss", Value::Null, "iss"),
            ("aud", json!("other"), "aud"),
            ("aud", json!(["other"]), "aud"),
            ("aud", Value::Null, "aud"),
            ("iat", json!(NOW + 61), "iat"),
            ("iat", json!(NOW - 601), "iat"),
            ("iat", json!("now"), "iat"),
            ("iat", Value::Null, "iat"),
            ("exp", json!(NOW - 60), "exp"),
            ("exp", json!("never"), "exp"),
            ("events", json!({}), "events"),
            ("events", json!({ EVENT: 1 }), "events"),
            ("events", json!([EVENT]), "events"),
            ("nonce", json!("n"), "nonce"),
            ("jti", json!(""), "jti"),
            ("jti", json!(1), "jti"),
        ] {
            let mut claims = good();
            claims[key] = value.clone();
            assert_eq!(
                judged(&claims, None),
                Err(format!("the logout token's {wrong} is missing or wrong")),
                "{key}: {value}"
            );
        }
        assert!(judged(&good(), Some("at+jwt")).is_err());
        let mut nobody = good();
        nobody.as_object_mut().unwrap().retain(|key, _| key != "sub" && key != "sid");
        assert!(judged(&nobody, None).is_err());
        let mut several = good();
        several["aud"] = json!(["other", "usher"]);
        assert!(judged(&several, None).is_ok());
    }
}
