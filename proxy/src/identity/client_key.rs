//! The key by which Usher proves to a provider who it is (`private_key_jwt`, OpenID Connect Core 1.0 §9).

use crate::keys::random;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::Secret;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde::Serialize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a proof is good for.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// Why a key proves nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadKey {
    /// It is none of the two kinds.
    #[error("the private_key is neither an RSA nor a P-256 key in PEM (PKCS #8, or PKCS #1 for RSA)")]
    Unreadable,
    /// It cannot sign.
    #[error("the private_key cannot sign: {0}")]
    Unusable(#[from] jsonwebtoken::errors::Error),
}

/// A private key of RSA or P-256.
pub(crate) struct ClientKey {
    key: EncodingKey,
    algorithm: Algorithm,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: String,
    iat: u64,
    exp: u64,
}

impl ClientKey {
    /// Reads a key.
    ///
    /// # Errors
    /// It is none, or of another kind.
    pub(crate) fn parse(pem: &Secret) -> Result<Self, BadKey> {
        let pem = pem.reveal().as_bytes();
        let rsa = EncodingKey::from_rsa_pem(pem).map(|key| Self { key, algorithm: Algorithm::RS256 });
        let curve = || EncodingKey::from_ec_pem(pem).map(|key| Self { key, algorithm: Algorithm::ES256 });
        rsa.or_else(|_| curve()).map_err(|_| BadKey::Unreadable)
    }

    /// A proof for an audience, once.
    ///
    /// # Errors
    /// The key cannot sign.
    pub(crate) fn assertion(&self, client: &str, audience: &str) -> Result<String, BadKey> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let claims = Claims {
            iss: client,
            sub: client,
            aud: audience,
            jti: URL_SAFE_NO_PAD.encode(random::<16>()),
            iat: now.as_secs(),
            exp: (now + GOOD_FOR).as_secs(),
        };
        Ok(jsonwebtoken::encode(&Header::new(self.algorithm), &claims, &self.key)?)
    }
}
