//! Chains that are not as they should be.

use crate::issuer::Issuer;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// What is wrong with a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forgery {
    /// It is for this name, and the key that asked.
    AnotherName(String),
    /// It is for the names that were asked for, and another key.
    AnotherKey,
    /// All is right, but that it ended yesterday.
    Expired,
    /// The leaf alone.
    WithoutIntermediate,
    /// No PEM.
    Garbage,
}

impl Forgery {
    /// What comes in the place of this chain.
    pub(super) fn of(&self, chain: &str, issuer: &Issuer) -> String {
        let leaf = CertificateDer::from_pem_slice(chain.as_bytes()).expect("Pebble sends PEM");
        let (_, leaf) = X509Certificate::from_der(&leaf).expect("Pebble sends certificates");
        let own = Point(leaf.public_key().subject_public_key.data.to_vec());
        let names = leaf.subject_alternative_name().expect("Pebble sends valid names");
        let names = names.map_or(&[][..], |names| &names.value.general_names).iter();
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        let forged = match self {
            Self::AnotherName(name) => issuer.sign(vec![name.clone()], &own, -1..89),
            Self::AnotherKey => {
                issuer.sign(names.collect(), &KeyPair::generate().expect("random numbers"), -1..89)
            }
            Self::Expired => issuer.sign(names.collect(), &own, -91..-1),
            Self::WithoutIntermediate => {
                let end = "-----END CERTIFICATE-----\n";
                return chain.split_inclusive(end).next().unwrap_or_default().to_owned();
            }
            Self::Garbage => return "-----BEGIN CERTIFICATE-----\nno base64!\n".to_owned(),
        };
        forged + issuer.root()
    }
}

/// A public key on the curve P-256, of which nobody here has the other half.
struct Point(Vec<u8>);

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}
