//! A certificate that can be served: the chain, its key, and what is known of it.

mod pem;
mod unfit;

pub(crate) use pem::encode as encode_pem;
pub use unfit::{Part, Unfit};

use crate::hex::hex;
use config::NamePattern;
use ring::digest::{SHA256, digest};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

/// How long a text of PEM may be: a chain that makes sense, with hundreds of names in each certificate, is shorter.
pub const TEXT_MAX: usize = 256 * 1024;
/// How many certificates a chain may have; public ones have two to four.
pub(crate) const CHAIN_MAX: usize = 10;

/// A chain and the key of its first certificate, the leaf. Cheap to clone.
///
/// Whoever has one knows that all of the chain is X.509, that the key is the leaf's and can be used, and that the leaf
/// is for a DNS name. Whether it is for the names that are wanted, and at this time, says [`check`](Self::check).
#[derive(Clone)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    private_key: Arc<str>,
    facts: Arc<Facts>,
}

/// What the leaf says.
struct Facts {
    names: Vec<NamePattern>,
    not_before: SystemTime,
    not_after: SystemTime,
    /// Of the whole chain.
    begins: SystemTime,
    ends: SystemTime,
    fingerprint: String,
    serial: Vec<u8>,
    authority_key_id: Option<Vec<u8>>,
}

impl Certificate {
    /// Reads a chain, leaf first, and its key, both PEM.
    ///
    /// # Errors
    /// What is wrong with them; nothing of the key is told.
    pub fn parse(chain_pem: &[u8], key_pem: &[u8]) -> Result<Self, Unfit> {
        let chain = pem::certificates(chain_pem)?;
        let facts = Facts::of(&chain)?;
        let key = pem::private_key(key_pem)?;
        let private_key = encode_key(&key).into();
        let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|_| Unfit::UnusableKey)?;
        let key = CertifiedKey::new(chain, key);
        key.keys_match().map_err(|_| Unfit::WrongKey)?;
        Ok(Self { key: Arc::new(key), private_key, facts: Arc::new(facts) })
    }

    /// Whether it can be served for these names at this time: every client must find it valid, but for its trust in
    /// who signed last. A leaf that comes alone is taken for its own.
    ///
    /// # Errors
    /// The first thing that a client would refuse.
    pub(crate) fn check(&self, wanted: &[NamePattern], now: SystemTime) -> Result<(), Unfit> {
        let missing = self.lacks(wanted);
        if !missing.is_empty() {
            return Err(Unfit::Names(missing));
        }
        let chain = &self.key.cert;
        let parsed: Vec<_> = parse_all(chain)?;
        parsed.iter().zip(1..).try_for_each(|(one, position)| check_dates(one, position, now))?;
        let leaf = parsed.first().ok_or(Unfit::Absent(Part::Certificate))?;
        check_usage(leaf)?;
        check_order(chain, &parsed)?;
        check_signatures(chain, now)
    }

    /// As [`check`](Self::check), from now on or from when the leaf is valid: a clock that is behind takes nothing away.
    pub(crate) fn check_from(&self, wanted: &[NamePattern], now: SystemTime) -> Result<(), Unfit> {
        self.check(wanted, now.max(self.facts.not_before))
    }

    /// Which of these it is not for.
    pub(crate) fn lacks(&self, wanted: &[NamePattern]) -> Vec<NamePattern> {
        wanted.iter().filter(|name| !self.is_for(name)).cloned().collect()
    }

    /// An asterisk in it stands for a host that is wanted, too.
    fn is_for(&self, wanted: &NamePattern) -> bool {
        let names = &self.facts.names;
        names.contains(wanted)
            || (!wanted.is_wildcard() && names.iter().any(|name| name.covers(wanted.base().as_str())))
    }

    /// The hosts that it is for: its subject alternative names that are DNS names; one at least, none twice.
    pub fn names(&self) -> &[NamePattern] {
        &self.facts.names
    }

    /// From when on the leaf is valid.
    pub(crate) fn not_before(&self) -> SystemTime {
        self.facts.not_before
    }

    /// Until when the leaf is valid.
    pub(crate) fn not_after(&self) -> SystemTime {
        self.facts.not_after
    }

    /// From when on no certificate of the chain is still to become valid.
    pub(crate) fn begins(&self) -> SystemTime {
        self.facts.begins
    }

    /// Until when all certificates of the chain are valid.
    pub(crate) fn ends(&self) -> SystemTime {
        self.facts.ends
    }

    /// SHA-256 of the leaf, in lower-case hexadecimal: what logs say of it.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.facts.fingerprint
    }

    /// The leaf's serial number as DER has it, a zero that keeps it positive included (RFC 9773 §4.1).
    pub(crate) fn serial(&self) -> &[u8] {
        &self.facts.serial
    }

    /// The `keyIdentifier` of the leaf's authority key identifier (RFC 5280 §4.2.1.1).
    pub(crate) fn authority_key_id(&self) -> Option<&[u8]> {
        self.facts.authority_key_id.as_deref()
    }

    /// Whether the leaf came without whoever issued it.
    pub(crate) fn is_alone(&self) -> bool {
        self.key.cert.len() == 1
    }

    /// The chain as PEM, without whatever else its text had.
    pub(crate) fn chain_pem(&self) -> String {
        self.key.cert.iter().map(|der| encode_pem("CERTIFICATE", der)).collect()
    }

    /// The key as PEM, which is nobody else's to see.
    pub(crate) fn key_pem(&self) -> &str {
        &self.private_key
    }

    /// What a handshake is shown.
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        self.key.clone()
    }
}

/// Shows nothing of the key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("names", &self.facts.names)
            .field("fingerprint", &self.facts.fingerprint)
            .finish_non_exhaustive()
    }
}

impl Facts {
    fn of(chain: &[CertificateDer<'_>]) -> Result<Self, Unfit> {
        let der = chain.first().ok_or(Unfit::Absent(Part::Certificate))?;
        let parsed = parse_all(chain)?;
        let leaf = parsed.first().ok_or(Unfit::Absent(Part::Certificate))?;
        // Stricter than the parser of the facts, and the one that clients of rustls have.
        EndEntityCert::try_from(der).map_err(|_| Unfit::NotX509 { position: 1 })?;
        let names = dns_names(leaf)?;
        if names.is_empty() {
            return Err(if leaf.is_ca() { Unfit::Authority } else { Unfit::NoName });
        }
        Ok(Self {
            names,
            not_before: system_time(leaf.validity().not_before),
            not_after: system_time(leaf.validity().not_after),
            begins: parsed
                .iter()
                .map(|one| system_time(one.validity().not_before))
                .max()
                .unwrap_or(UNIX_EPOCH),
            ends: parsed.iter().map(|one| system_time(one.validity().not_after)).min().unwrap_or(UNIX_EPOCH),
            fingerprint: hex(digest(&SHA256, der).as_ref()),
            serial: leaf.raw_serial().to_vec(),
            authority_key_id: authority_key_id(leaf),
        })
    }
}

fn parse_all<'a>(chain: &'a [CertificateDer<'_>]) -> Result<Vec<X509Certificate<'a>>, Unfit> {
    let parse = |(der, position): (&'a CertificateDer<'_>, usize)| match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(Unfit::NotX509 { position }),
    };
    chain.iter().zip(1..).map(parse).collect()
}

/// Those that no host can have, such as `_sip.example.org`, are passed over like addresses.
fn dns_names(leaf: &X509Certificate<'_>) -> Result<Vec<NamePattern>, Unfit> {
    let listed = leaf.subject_alternative_name().map_err(|_| Unfit::NotX509 { position: 1 })?;
    let listed = listed.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
    let mut names: Vec<NamePattern> = listed
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(text) => NamePattern::parse(text).ok(),
            _ => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

fn authority_key_id(leaf: &X509Certificate<'_>) -> Option<Vec<u8>> {
    leaf.iter_extensions().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::AuthorityKeyIdentifier(id) => Some(id.key_identifier.as_ref()?.0.to_vec()),
        _ => None,
    })
}

fn check_dates(certificate: &X509Certificate<'_>, position: usize, now: SystemTime) -> Result<(), Unfit> {
    let validity = certificate.validity();
    if now < system_time(validity.not_before) {
        return Err(Unfit::NotYet { position, from: validity.not_before.to_string() });
    }
    if now > system_time(validity.not_after) {
        return Err(Unfit::Expired { position, at: validity.not_after.to_string() });
    }
    Ok(())
}

fn check_usage(leaf: &X509Certificate<'_>) -> Result<(), Unfit> {
    if leaf.is_ca() {
        return Err(Unfit::Authority);
    }
    let usage = leaf.extended_key_usage().map_err(|_| Unfit::NotX509 { position: 1 })?;
    if usage.is_none_or(|usage| usage.value.server_auth) { Ok(()) } else { Err(Unfit::Usage) }
}

fn check_order(chain: &[CertificateDer<'_>], parsed: &[X509Certificate<'_>]) -> Result<(), Unfit> {
    for (index, der) in chain.iter().enumerate() {
        if chain.iter().take(index).any(|earlier| earlier == der) {
            return Err(Unfit::Twice { position: index + 1 });
        }
    }
    for (pair, position) in parsed.windows(2).zip(1..) {
        if let [issued, issuer] = pair {
            if issued.issuer().as_raw() != issuer.subject().as_raw() {
                return Err(Unfit::Order { position });
            }
            if !issuer.is_ca() {
                return Err(Unfit::NoAuthority { position: position + 1 });
            }
        }
    }
    Ok(())
}

/// The last one is who is trusted, for want of knowing whom clients trust; one that is alone has nobody to ask.
fn check_signatures(chain: &[CertificateDer<'_>], now: SystemTime) -> Result<(), Unfit> {
    let [leaf, between @ .., last] = chain else { return Ok(()) };
    let leaf = EndEntityCert::try_from(leaf).map_err(Unfit::Chain)?;
    let anchor = anchor_from_trusted_cert(last).map_err(Unfit::Chain)?;
    let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
    let (algorithms, usage) = (ALL_VERIFICATION_ALGS, KeyUsage::server_auth());
    let anchors = [anchor];
    let path =
        leaf.verify_for_usage(algorithms, &anchors, between, now, usage, None, None).map_err(Unfit::Chain)?;
    // A client takes the same way only if none is left out.
    let used = path.intermediate_certificates().count();
    if used == between.len() { Ok(()) } else { Err(Unfit::Order { position: used + 1 }) }
}

fn encode_key(key: &PrivateKeyDer<'_>) -> String {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    encode_pem(label, key.secret_der())
}

/// A time before 1970 is the beginning of 1970, which is long ago all the same.
fn system_time(time: ASN1Time) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

#[cfg(test)]
mod tests;
