//! The key by which Usher proves to a provider who it is (`private_key_jwt`, OpenID Connect Core 1.0 §9).
//!
//! ring signs: the crate by which tokens are verified does not hide from a clock what it does with a private RSA key.

use crate::keys::random;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::Secret;
use ring::error::Unspecified;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a proof is good for.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// Why a key proves nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadKey {
    /// It is none of the two kinds.
    #[error(
        "the private_key is neither an RSA key of 2048 bits or more nor a P-256 key in PEM (PKCS #8, or PKCS #1 for RSA)"
    )]
    Unreadable,
    /// It cannot sign.
    #[error("the private_key cannot sign")]
    Unusable,
}

/// A private key of RSA or P-256.
pub(crate) enum ClientKey {
    /// Signs `RS256`.
    Rsa(Box<RsaKeyPair>),
    /// Signs `ES256`.
    Curve(Box<EcdsaKeyPair>),
}

impl ClientKey {
    /// Reads a key.
    ///
    /// # Errors
    /// It is none, or of another kind.
    pub(crate) fn parse(pem: &Secret) -> Result<Self, BadKey> {
        let key = PrivateKeyDer::from_pem_slice(pem.reveal().as_bytes()).map_err(|_| BadKey::Unreadable)?;
        let rsa = match &key {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            _ => return Err(BadKey::Unreadable),
        };
        if let Ok(rsa) = rsa {
            return Ok(Self::Rsa(Box::new(rsa)));
        }
        let der = key.secret_der();
        let curve = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new());
        curve.map(|pair| Self::Curve(Box::new(pair))).map_err(|_| BadKey::Unreadable)
    }

    /// A proof for an audience, once.
    ///
    /// # Errors
    /// The key cannot sign.
    pub(crate) fn assertion(&self, client: &str, audience: &str) -> Result<String, BadKey> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let header = json!({ "alg": self.algorithm(), "typ": "JWT" });
        let claims = json!({
            "iss": client,
            "sub": client,
            "aud": audience,
            "jti": URL_SAFE_NO_PAD.encode(random::<16>()),
            "iat": now.as_secs(),
            "exp": (now + GOOD_FOR).as_secs(),
        });
        let encoded = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = encoded.join(".");
        let signature = self.sign(signed.as_bytes()).map_err(|_: Unspecified| BadKey::Unusable)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Curve(_) => "ES256",
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Unspecified> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)?;
                Ok(signature)
            }
            Self::Curve(pair) => Ok(pair.sign(&random, message)?.as_ref().to_vec()),
        }
    }
}
