//! The key pair that signs: ECDSA on P-256 (`ES256`), made from a seed of the ring.
//!
//! `EdDSA` would need no search for a scalar and no public key to be computed, but several of the libraries that
//! applications verify with do not have it (`jsonwebtoken` of npm, python-jose, .NET's own); all have `ES256`.
//!
//! ring signs, in a ninth of the time that p256 takes; it computes no public key, so p256 does that, once.

use super::claims::Claims;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use jsonwebtoken::DecodingKey;
use p256::SecretKey;
use p256::elliptic_curve::sec1::ToEncodedPoint;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Signature};
use serde::Serialize;
use serde_json::json;
use std::iter;

/// A public key as applications are told of it (RFC 7517, RFC 7518 §6.2).
#[derive(Debug, Clone, Serialize)]
pub(super) struct Jwk {
    kty: &'static str,
    crv: &'static str,
    x: String,
    y: String,
    #[serde(rename = "use")]
    usage: &'static str,
    alg: &'static str,
    kid: String,
}

/// A key pair that signs.
pub(crate) struct SigningKey {
    pair: EcdsaKeyPair,
    jwk: Jwk,
    /// The encoded head of every token that it signs.
    header: String,
    random: SystemRandom,
}

impl SigningKey {
    /// The pair of a seed, always the same.
    pub(super) fn from_seed(seed: [u8; 32]) -> Self {
        Self::of(seed, "JWT")
    }

    /// The same for tokens of another type (`typ`, RFC 8725 §3.11).
    pub(crate) fn of(seed: [u8; 32], typ: &str) -> Self {
        let secret = secret(seed);
        let public = secret.public_key().to_encoded_point(false);
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_private_key_and_public_key(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            &secret.to_bytes(),
            public.as_bytes(),
            &random,
        )
        .expect("the public key is computed from the private one");
        let coordinate = |bytes: Option<&p256::FieldBytes>| {
            URL_SAFE_NO_PAD.encode(bytes.expect("an uncompressed point of a key has both coordinates"))
        };
        let jwk = Jwk::new(coordinate(public.x()), coordinate(public.y()));
        let header = json!({ "alg": jwk.alg, "typ": typ, "kid": jwk.kid }).to_string();
        Self { pair, jwk, header: URL_SAFE_NO_PAD.encode(header), random }
    }

    /// The public key.
    pub(super) fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    /// The name of the key.
    pub(crate) fn name(&self) -> &str {
        &self.jwk.kid
    }

    /// What tells whether a token is signed by it.
    pub(crate) fn verifier(&self) -> DecodingKey {
        DecodingKey::from_ec_components(&self.jwk.x, &self.jwk.y).expect("both are coordinates of a point")
    }

    /// The claims as a token in its compact form, for a header.
    pub(super) fn sign(&self, claims: &Claims<'_>) -> HeaderValue {
        let mut header = HeaderValue::try_from(self.token(claims)).expect("base64 is a header value");
        header.set_sensitive(true);
        header
    }

    /// The claims as a token in its compact form (RFC 7515 §7.1).
    pub(crate) fn token(&self, claims: &impl Serialize) -> String {
        let claims = serde_json::to_vec(claims).expect("texts and numbers are JSON");
        let mut token = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(claims));
        let signature = self.signature(token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }

    /// The signature as a JWS has it: both numbers, each of 32 bytes (RFC 7518 §3.4).
    fn signature(&self, message: &[u8]) -> Signature {
        self.pair.sign(&self.random, message).expect("the operating system gives random bytes")
    }
}

impl Jwk {
    /// Names the key by its thumbprint (RFC 7638): a name that no other key ever has.
    fn new(x: String, y: String) -> Self {
        let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        let kid = URL_SAFE_NO_PAD.encode(digest(&SHA256, canonical.as_bytes()));
        Self { kty: "EC", crv: "P-256", x, y, usage: "sig", alg: "ES256", kid }
    }
}

/// The seed as a scalar of the curve; of those that are none (one of 2³²) the first hash of a hash that is.
///
/// Drawing again keeps all scalars equally likely, which a reduction would not.
fn secret(seed: [u8; 32]) -> SecretKey {
    let hash = |last: &[u8; 32]| digest(&SHA256, last).as_ref().try_into().ok();
    iter::successors(Some(seed), hash)
        .find_map(|bytes| SecretKey::from_slice(&bytes).ok())
        .expect("SHA-256 has 32 bytes, so there is always a next")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The order of the curve's group: the smallest number that is no scalar (SEC 2 §2.4.2).
    const ORDER: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa,
        0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
    ];

    #[test]
    fn a_seed_that_is_no_scalar_leads_to_one_all_the_same() {
        let mut largest = ORDER;
        largest[31] -= 1;
        assert_eq!(secret(largest).to_bytes().as_slice(), largest);
        for none in [ORDER, [0xff; 32], [0; 32]] {
            assert_eq!(secret(none).to_bytes().as_slice(), digest(&SHA256, &none).as_ref(), "{none:?}");
        }
    }

    #[test]
    fn a_key_is_named_by_its_thumbprint() {
        let key = SigningKey::from_seed([7; 32]);
        let jwk: jsonwebtoken::jwk::Jwk = serde_json::from_value(json!(key.jwk())).unwrap();
        let thumbprint = jwk.thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256).unwrap();
        assert_eq!(key.jwk().kid, thumbprint);
        assert_eq!(SigningKey::from_seed([7; 32]).jwk().kid, thumbprint);
        assert_ne!(SigningKey::from_seed([8; 32]).jwk().kid, thumbprint);
    }
}
