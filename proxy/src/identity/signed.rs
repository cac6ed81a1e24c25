//! A token that a provider signed (RFC 7515), checked with the keys that it publishes.
//!
//! Only its signature is checked here, and only with algorithms whose secret nobody else has. Which algorithm fits a key says
//! the key; what the token says must be the same.

use super::claims::{self, BadClaims};
use jsonwebtoken::jwk::{Jwk, JwkSet, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use openidconnect::core::CoreJsonWebKeySet;
use serde_json::{Map, Value};
use std::collections::HashSet;

/// The longest token that is looked at, in bytes.
const TOKEN: usize = 8 * 1024;
/// What a token may be signed with.
const ALGORITHMS: [Algorithm; 8] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
];

/// Why a token is not to be believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadToken {
    /// It is too long to be looked at.
    #[error("it is longer than {TOKEN} bytes")]
    TooLong,
    /// It is no JWT, or not one whose signature means something.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    /// No key of the provider fits it: it may have a new one.
    #[error("it is signed by a key that the provider does not publish")]
    UnknownKey,
    /// The signature is wrong.
    #[error("its signature is wrong")]
    BadSignature,
    /// What it says cannot be read.
    #[error(transparent)]
    Claims(#[from] BadClaims),
}

/// The header and the claims of a token, if one of these keys signed it.
///
/// # Errors
/// None did.
pub(super) fn verify(
    keys: &CoreJsonWebKeySet,
    token: &str,
) -> Result<(Header, Map<String, Value>), BadToken> {
    if token.len() > TOKEN {
        return Err(BadToken::TooLong);
    }
    let unreadable = |error: &dyn std::fmt::Display| BadToken::Unreadable(error.to_string());
    let header = decode_header(token).map_err(|error| unreadable(&error))?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(unreadable(&format!("{:?} is no algorithm of a provider", header.alg)));
    }
    let keys = serde_json::to_value(keys).and_then(serde_json::from_value::<JwkSet>);
    let keys = keys.map_err(|error| unreadable(&error))?;
    let mut fitting = keys.keys.iter().filter(|key| fits(key, &header)).peekable();
    fitting.peek().ok_or(BadToken::UnknownKey)?;
    if !fitting.any(|key| is_signed(token, key, header.alg)) {
        return Err(BadToken::BadSignature);
    }
    let claims = claims::of_token(token)?;
    Ok((header, claims))
}

/// Whether a key may have signed a token with this header.
fn fits(key: &Jwk, header: &Header) -> bool {
    let common = &key.common;
    let is_named = header.kid.is_none() || common.key_id == header.kid;
    let signs = !matches!(common.public_key_use, Some(PublicKeyUse::Encryption));
    let is_of = common
        .key_algorithm
        .is_none_or(|algorithm: KeyAlgorithm| algorithm.to_string() == format!("{:?}", header.alg));
    is_named && signs && is_of
}

fn is_signed(token: &str, key: &Jwk, algorithm: Algorithm) -> bool {
    // A key of another kind than the algorithm's fails here.
    let Ok(decoding) = DecodingKey::from_jwk(key) else { return false };
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims = HashSet::new();
    (validation.validate_exp, validation.validate_aud) = (false, false);
    decode::<serde::de::IgnoredAny>(token, &decoding, &validation).is_ok()
}
