//! Who may sign for those whom Usher asks: the certificate authorities of a file, or those of the system.

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why nobody can be believed.
#[derive(Debug, thiserror::Error)]
pub enum NoRoots {
    /// The file of the certificate authority cannot be used.
    #[error("{}: {reason}; it must hold certificates in PEM", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The system has no certificate authorities.
    #[error("this system has no certificate authorities: {reason}; install `ca-certificates`")]
    System {
        /// What is wrong.
        reason: String,
    },
}

/// Those of a file alone, or without one those of the system.
///
/// # Errors
/// There are none to believe.
pub fn roots(file: Option<&Path>) -> Result<RootCertStore, NoRoots> {
    file.map_or_else(of_system, of_file)
}

/// How whoever is asked is spoken to by TLS; it is to be one whom those of [`roots`] have signed.
pub(crate) fn client_config(file: Option<&Path>) -> Result<ClientConfig, NoRoots> {
    let roots = roots(file)?;
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the suites of the default versions");
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn of_file(file: &Path) -> Result<RootCertStore, NoRoots> {
    let wrong = |reason: String| NoRoots::File { file: file.to_owned(), reason };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))? {
        let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() { Err(wrong("there is no certificate in it".to_owned())) } else { Ok(roots) }
}

fn of_system() -> Result<RootCertStore, NoRoots> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some that rustls does not take stand in many stores, and nobody who is asked here was signed by them.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        let reason = found.errors.first().map_or_else(|| "none is found".to_owned(), ToString::to_string);
        return Err(NoRoots::System { reason });
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_named_and_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["lab.test".to_owned()]).unwrap();
        let (good, bad) = (made.cert.pem(), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        for (text, told) in [
            (Some(good.clone() + &good), None),
            (Some(good + bad), Some("it must hold certificates in PEM")),
            (Some(made.signing_key.serialize_pem()), Some("there is no certificate in it")),
            (Some(String::new()), Some("there is no certificate in it")),
            (None, Some("No such file")),
        ] {
            let file = folder.path().join("ca.pem");
            let _before = std::fs::remove_file(&file);
            if let Some(text) = text {
                std::fs::write(&file, text).unwrap();
            }
            let read = roots(Some(&file)).map(|roots| roots.len()).map_err(|error| error.to_string());
            match told {
                None => assert!(matches!(read, Ok(1..)), "{read:?}"),
                Some(told) => {
                    let said = read.unwrap_err();
                    assert!(said.contains("ca.pem: ") && said.contains(told), "{said}");
                }
            }
        }
    }
}
