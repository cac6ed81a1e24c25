//! A JWT by one of some keys, each of which has one algorithm and takes no other (RFC 8725 §3.1).

use crate::identity::claims::{self, BadClaims};
use crate::refusal::Refusal;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The longest token that is looked at, in bytes.
const TOKEN: usize = 8 * 1024;

/// A key and the one algorithm by which it signs.
#[derive(Clone)]
pub(super) struct FixedKey {
    /// `kid`.
    pub(super) name: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

/// Why a token is not believed. Nothing of what it says is told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadToken {
    #[error("it is not of the form that Usher gives, or mistyped")]
    Form,
    #[error("nobody has a token like this: it was never made, has expired, or was revoked")]
    Unknown,
    #[error("it is longer than {TOKEN} bytes")]
    TooLong,
    #[error("it cannot be read")]
    Unreadable,
    #[error("its head asks for what is not understood, or says that it is something else")]
    Head,
    #[error("it is signed by a key that is not known")]
    UnknownKey,
    #[error("its algorithm is not that of its key, or its signature is wrong")]
    BadSignature,
    #[error(transparent)]
    Claims(#[from] BadClaims),
    #[error("its {0} is missing, or not what it must be")]
    Claim(&'static str),
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    Early,
    #[error("it is good for longer than lifetime_max allows")]
    TooLasting,
    /// It is good, and whoever shows it is not let in all the same: that has an answer of its own.
    #[error("whoever shows it is not let in: {}", .0.sentence())]
    NotLetIn(Refusal),
}

/// The head of a token (RFC 7515 §4.1), as far as anything follows from it.
#[derive(Deserialize)]
struct Head {
    alg: Algorithm,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    /// What must be understood (§4.1.11), and is not.
    #[serde(default)]
    crit: Option<IgnoredAny>,
}

/// The claims of a token that one of these keys signed; whether they hold is not judged.
///
/// # Errors
/// None did.
pub(super) fn verify(
    keys: &[FixedKey],
    token: &str,
    is_type: impl Fn(Option<&str>) -> bool,
) -> Result<Map<String, Value>, BadToken> {
    if token.len() > TOKEN {
        return Err(BadToken::TooLong);
    }
    let head = token.split('.').next().and_then(|head| URL_SAFE_NO_PAD.decode(head).ok());
    let head: Head = head.and_then(|head| serde_json::from_slice(&head).ok()).ok_or(BadToken::Unreadable)?;
    if head.crit.is_some() || !is_type(head.typ.as_deref()) {
        return Err(BadToken::Head);
    }
    let named = |key: &&FixedKey| head.kid.is_none() || key.name == head.kid;
    let mut named = keys.iter().filter(named).peekable();
    named.peek().ok_or(BadToken::UnknownKey)?;
    if !named.any(|key| key.algorithm == head.alg && is_signed(token, key)) {
        return Err(BadToken::BadSignature);
    }
    Ok(claims::of_token(token)?)
}

/// The name under which a token is kept that was believed.
pub(super) fn hash(token: &str) -> [u8; 32] {
    digest(&SHA256, token.as_bytes()).as_ref().try_into().expect("SHA-256 has 32 bytes")
}

fn is_signed(token: &str, key: &FixedKey) -> bool {
    let mut validation = Validation::new(key.algorithm);
    validation.required_spec_claims = HashSet::new();
    (validation.validate_exp, validation.validate_aud) = (false, false);
    decode::<IgnoredAny>(token, &key.key, &validation).is_ok()
}

/// Until when the token holds, if it holds now.
///
/// # Errors
/// It does not, or does not say.
pub(super) fn holds_until(claims: &Map<String, Value>, now: SystemTime) -> Result<SystemTime, BadToken> {
    let expires = claims.get("exp").and_then(Value::as_f64).ok_or(BadToken::Claim("exp"))?;
    // No token is good for so long, and no time is outside of what a clock shows.
    let expires = Duration::try_from_secs_f64(expires).ok().filter(|expires| expires.as_secs() < 1 << 40);
    let until = UNIX_EPOCH + expires.ok_or(BadToken::Claim("exp"))? + claims::LEEWAY;
    if now >= until {
        return Err(BadToken::Expired);
    }
    for key in ["iat", "nbf"] {
        if claims.get(key).is_some_and(|time| !time.is_number()) {
            return Err(BadToken::Claim(key));
        }
    }
    if claims::is_of_the_future(claims, now) {
        return Err(BadToken::Early);
    }
    Ok(until)
}
