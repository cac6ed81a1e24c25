//! Certificates from files, read once at the start.

use crate::Resolver;
use crate::resolver::Served;
use config::{CertificateSource, Certificates};
use rustls::crypto::ring::default_provider;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A certificate or key file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the file {} cannot be used: {reason}", file.display())]
pub struct FileError {
    file: PathBuf,
    reason: String,
}

/// A resolver of the certificates whose source is `files`.
///
/// # Errors
/// The first file that cannot be used.
pub fn resolver_of_files(certificates: &Certificates) -> Result<Resolver, FileError> {
    let mut served = Served::default();
    for declared in certificates.values() {
        let CertificateSource::Files { certificate, private_key } = &declared.source else { continue };
        served.add(Arc::new(pair(certificate, private_key)?), declared.names.clone());
    }
    let resolver = Resolver::of_none();
    resolver.publish(served);
    Ok(resolver)
}

fn pair(certificate: &Path, private_key: &Path) -> Result<CertifiedKey, FileError> {
    let unusable = |file: &Path, reason: &dyn std::fmt::Display| FileError {
        file: file.to_owned(),
        reason: reason.to_string(),
    };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(certificate, &error))?;
    let key = PrivateKeyDer::from_pem_file(private_key).map_err(|error| unusable(private_key, &error))?;
    CertifiedKey::from_der(chain, key, &default_provider()).map_err(|error| unusable(certificate, &error))
}
