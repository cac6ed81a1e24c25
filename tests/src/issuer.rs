//! A certificate authority that signs whatever it is told to.

use rcgen::{
    BasicConstraints, CertificateParams, CrlDistributionPoint, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use std::ops::Range;
use std::time::{Duration, SystemTime};

const REVOKED: &str = "http://crl.invalid/revoked.crl";

/// One with a key of its own.
pub(crate) struct Issuer {
    issuer: rcgen::Issuer<'static, KeyPair>,
    root: String,
}

impl Issuer {
    /// Makes one.
    pub(crate) fn new() -> Self {
        let mut params = params(Vec::new(), -1..365);
        params.distinguished_name.push(DnType::CommonName, "an authority of the tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("random numbers");
        let root = params.self_signed(&key).expect("the parameters are valid").pem();
        Self { issuer: rcgen::Issuer::new(params, key), root }
    }

    /// Its own certificate, PEM.
    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    /// A server's certificate for these names and this key, good between these days from now; PEM.
    pub(crate) fn sign(&self, names: Vec<String>, key: &impl PublicKeyData, days: Range<i64>) -> String {
        let mut params = params(names, days);
        params.use_authority_key_identifier_extension = true;
        // As public authorities have it (CA/Browser Forum BR §7.1.2.11.2); nothing answers there.
        params.crl_distribution_points = vec![CrlDistributionPoint { uris: vec![REVOKED.to_owned()] }];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.signed_by(key, &self.issuer).expect("the parameters are valid").pem()
    }
}

fn params(names: Vec<String>, days: Range<i64>) -> CertificateParams {
    let mut params = CertificateParams::new(names).expect("the names are DNS names");
    params.distinguished_name = DistinguishedName::new();
    params.not_before = in_days(days.start).into();
    params.not_after = in_days(days.end).into();
    params
}

fn in_days(days: i64) -> SystemTime {
    let away = Duration::from_secs(days.unsigned_abs() * 86400);
    if days < 0 { SystemTime::now() - away } else { SystemTime::now() + away }
}
