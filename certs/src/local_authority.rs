//! An authority of Usher's own, for development and for machines that no other reaches.
//!
//! Nobody trusts it until told to, and whoever does trusts it for the names of its constraints alone.

use crate::certificate::{Certificate, Unfit, encode_pem};
use crate::hex::hex;
use crate::store::{Store, StoreError};
use config::NamePattern;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData, date_time_ymd,
};
use ring::digest::{SHA256, digest};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// The document that it is kept in.
pub(crate) const DOCUMENT: &str = "authority";
/// What its name begins with.
const NAME: &str = "Usher local authority";
/// The longest common name that there is (RFC 5280, `ub-common-name`).
const NAME_MAX: usize = 64;
/// How long the authority is valid: whoever told a machine to trust it is not asked again soon.
const YEARS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long a leaf is valid.
const LEAF: Duration = Duration::from_secs(90 * 24 * 3600);
/// How far clocks of clients may be behind.
const SKEW: Duration = Duration::from_secs(3600);
/// How often others may get in between before making it is given up.
const TRIES: usize = 10;

/// Why there is no certificate of the local authority.
#[derive(Debug, thiserror::Error)]
pub enum LocalAuthorityError {
    /// The store fails.
    #[error("the local authority cannot be kept")]
    Store(#[from] StoreError),
    /// It cannot be for nothing: its constraints would permit everything.
    #[error("a certificate of the local authority needs at least one name")]
    NoNames,
    /// Other replicas make it anew all the time: their names differ.
    #[error("other replicas make the local authority anew, for other names than {names}")]
    Contended {
        /// The names that this replica wants.
        names: String,
    },
    /// The system gives no random numbers, or signing fails.
    #[error("a certificate cannot be signed")]
    Sign(#[from] rcgen::Error),
    /// What was made would be refused by clients.
    #[error("the certificate of the local authority would not be valid")]
    Unfit(#[from] Unfit),
}

/// What the document says, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Value {
    /// PEM.
    certificate: String,
    /// PEM.
    key: String,
}

/// An authority that signs for the names below some domains, and no other.
pub(crate) struct LocalAuthority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    /// The domains that it may sign for.
    permitted: Vec<String>,
    not_after: SystemTime,
}

impl LocalAuthority {
    /// The authority that is kept, or a new one if there is none that may sign for these names for the time of a leaf.
    /// Replicas that make it at once agree on one.
    ///
    /// # Errors
    /// What is in the way.
    pub(crate) async fn open(
        store: &dyn Store,
        names: &[NamePattern],
        now: SystemTime,
    ) -> Result<Self, LocalAuthorityError> {
        for _ in 0..TRIES {
            let there = store.get(DOCUMENT).await?;
            let read = there.as_ref().map(|document| Self::read(&document.value));
            let why = match read {
                None => "there is none yet",
                Some(None) => "the one that is kept cannot be read",
                Some(Some(authority)) if !authority.is_for(names) => {
                    "the names that are configured are new to it"
                }
                Some(Some(authority)) if !authority.is_fresh(now) => "it expires",
                Some(Some(authority)) => return Ok(authority),
            };
            let (made, value) = Self::make(names, now)?;
            let written = match there {
                None => store.create(DOCUMENT, value).await,
                Some(document) => store.replace(DOCUMENT, document.version, value).await,
            };
            match written {
                Ok(_) => {
                    made.tell(why);
                    return Ok(made);
                }
                // Somebody else was first, and theirs is as good.
                Err(StoreError::Exists(_) | StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let names = names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Err(LocalAuthorityError::Contended { names })
    }

    /// A certificate for these names, good for 90 days or as long as the authority is.
    ///
    /// The authority stands in its chain, though a client that trusts it has it: so what is served is checked from end
    /// to end like any other, and people can take the authority from a handshake.
    ///
    /// # Errors
    /// It cannot be signed, or the names are not within the authority's constraints.
    pub(crate) fn issue(
        &self,
        names: &[NamePattern],
        now: SystemTime,
    ) -> Result<Certificate, LocalAuthorityError> {
        let first = names.first().ok_or(LocalAuthorityError::NoNames)?;
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.distinguished_name = distinguished(&first.to_string());
        set_dates(&mut params, now - SKEW, self.not_after.min(now + LEAF));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let leaf = params.signed_by(&key, &self.issuer)?;
        let chain = leaf.pem() + &self.pem();
        let certificate = Certificate::parse(chain.as_bytes(), key.serialize_pem().as_bytes())?;
        certificate.check(names, now)?;
        Ok(certificate)
    }

    /// Its certificate, as people import it.
    pub(crate) fn pem(&self) -> String {
        encode_pem("CERTIFICATE", &self.der)
    }

    /// The certificate of the one that a document holds; `None` where it holds none.
    pub(crate) fn certificate_of(value: &[u8]) -> Option<CertificateDer<'static>> {
        Some(Self::read(value)?.der)
    }

    /// `None` where a document is no authority.
    fn read(value: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(value).ok()?;
        let der = CertificateDer::from_pem_slice(value.certificate.as_bytes()).ok()?;
        let key = KeyPair::from_pem(&value.key).ok()?;
        Self::of(der, key)
    }

    fn of(der: CertificateDer<'static>, key: KeyPair) -> Option<Self> {
        let ([], parsed) = X509Certificate::from_der(&der).ok()? else { return None };
        if parsed.public_key().raw != key.subject_public_key_info() {
            return None;
        }
        // The name is written anew into what is signed: another's may be written otherwise.
        if parsed.subject().iter_attributes().count() != 1 {
            return None;
        }
        let name = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
        let permitted = permitted(&parsed)?;
        let not_after = u64::try_from(parsed.validity().not_after.timestamp()).ok()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished(&name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let not_after = UNIX_EPOCH + Duration::from_secs(not_after);
        Some(Self { issuer: Issuer::new(params, key), der, permitted, not_after })
    }

    /// With the value of its document.
    fn make(names: &[NamePattern], now: SystemTime) -> Result<(Self, Vec<u8>), LocalAuthorityError> {
        let domains = domains(names);
        let first = domains.first().ok_or(LocalAuthorityError::NoNames)?;
        let key = KeyPair::generate()?;
        // Two of them may be trusted by one browser: they must not be taken for each other.
        let digest = digest(&SHA256, &key.subject_public_key_info());
        let id = hex(&digest.as_ref()[..4]);
        let name: String = format!("{NAME} {id}: {first}").chars().take(NAME_MAX).collect();
        let mut params = CertificateParams::default();
        params.distinguished_name = distinguished(&name);
        // From long ago: one that is made while a clock is ahead can sign when that is right again.
        set_dates(&mut params, now - YEARS, now + YEARS);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: domains.into_iter().map(GeneralSubtree::DnsName).collect(),
            // Addresses are a kind of their own, which the line before does not touch.
            excluded_subtrees: vec![
                GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(Ipv4Addr::UNSPECIFIED.into(), 0)),
                GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(Ipv6Addr::UNSPECIFIED.into(), 0)),
            ],
        });
        let certificate = params.self_signed(&key)?;
        let value = Value { certificate: certificate.pem(), key: key.serialize_pem() };
        let value = serde_json::to_vec(&value).expect("texts are JSON");
        let made = Self::of(certificate.der().clone(), key).expect("what was just made can be read");
        Ok((made, value))
    }

    fn is_for(&self, names: &[NamePattern]) -> bool {
        let within = |domain: &str| self.permitted.iter().any(|permitted| is_within(domain, permitted));
        names.iter().all(|name| within(name.base().as_str()))
    }

    /// A leaf that is made now, and the next one, end before it does.
    fn is_fresh(&self, now: SystemTime) -> bool {
        now + 2 * LEAF <= self.not_after
    }

    fn tell(&self, why: &str) {
        let fingerprint = hex(digest(&SHA256, &self.der).as_ref());
        tracing::warn!(
            why,
            names = self.permitted.join(", "),
            fingerprint,
            hint = "people must trust it (anew): `usher ca` prints it",
            "a local authority was made"
        );
    }
}

/// Shows nothing of the key.
impl fmt::Debug for LocalAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalAuthority").field("permitted", &self.permitted).finish_non_exhaustive()
    }
}

/// What is permitted; `None` where nothing is said, which would be everything.
fn permitted(certificate: &X509Certificate<'_>) -> Option<Vec<String>> {
    let constraints = certificate.name_constraints().ok()??.value;
    let permitted = constraints.permitted_subtrees.as_deref()?.iter();
    Some(
        permitted
            .filter_map(|subtree| match subtree.base {
                GeneralName::DNSName(name) => Some(name.to_owned()),
                _ => None,
            })
            .collect(),
    )
}

/// The domains that all names are within, none within another (RFC 5280 §4.2.1.10).
fn domains(names: &[NamePattern]) -> Vec<String> {
    let mut domains: Vec<&str> = names.iter().map(|name| name.base().as_str()).collect();
    domains.sort_unstable_by_key(|domain| (domain.len(), *domain));
    let mut widest: Vec<String> = Vec::new();
    for domain in domains {
        if !widest.iter().any(|wider| is_within(domain, wider)) {
            widest.push(domain.to_owned());
        }
    }
    widest
}

fn is_within(domain: &str, wider: &str) -> bool {
    domain.strip_suffix(wider).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

fn distinguished(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    if name.len() <= NAME_MAX {
        distinguished.push(DnType::CommonName, name);
    }
    distinguished
}

/// Sets when a certificate is valid; before 1970 is 1970.
fn set_dates(params: &mut CertificateParams, not_before: SystemTime, not_after: SystemTime) {
    let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since(not_before);
    params.not_after = epoch + since(not_after);
}

/// The certificate of the authority that stands in a store, PEM.
pub(crate) async fn standing(store: &dyn Store) -> Result<Option<String>, StoreError> {
    let document = store.get(DOCUMENT).await?;
    Ok(document.and_then(|document| LocalAuthority::read(&document.value)).map(|authority| authority.pem()))
}

#[cfg(test)]
mod tests;
