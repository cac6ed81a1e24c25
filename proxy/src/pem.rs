//! A certificate and its key from PEM files, checked whole before anything is served with them.

use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the file {} cannot be used: {reason}", file.display())]
pub struct Unusable {
    /// The file.
    pub file: PathBuf,
    /// Why.
    pub reason: String,
}

/// The certificates of a file, at least one.
fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let all = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(file, "certificate", &error))?;
    if all.is_empty() { Err(unusable(file, "certificate", &pem::Error::NoItemsFound)) } else { Ok(all) }
}

/// A chain, leaf first, with the key of the leaf.
///
/// # Errors
/// One of the files, or that they do not belong together.
pub fn certified_key(certificate: &Path, private_key: &Path) -> Result<CertifiedKey, Unusable> {
    let chain = certificates(certificate)?;
    let key = PrivateKeyDer::from_pem_file(private_key)
        .map_err(|error| unusable(private_key, "private key", &error))?;
    CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())
        .map_err(|error| refused(certificate, private_key, &error))
}

fn unusable(file: &Path, what: &str, error: &pem::Error) -> Unusable {
    let reason = match error {
        pem::Error::NoItemsFound => format!("it has no {what} in PEM form"),
        other => other.to_string(),
    };
    Unusable { file: file.to_owned(), reason }
}

/// What rustls does not like about certificate and key together.
fn refused(certificate: &Path, private_key: &Path, error: &rustls::Error) -> Unusable {
    let key = private_key.display();
    let reason = match error {
        rustls::Error::InconsistentKeys(_) => format!("it does not belong to the private key in {key}"),
        other => format!("with the private key in {key}: {other}"),
    };
    Unusable { file: certificate.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn file(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        }
    }

    fn folder() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["lab.test".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_certificate_comes_with_its_key() {
        let (folder, (certificate, key)) = (folder(), pair());
        let read = certified_key(&folder.file("c.pem", &certificate), &folder.file("k.pem", &key)).unwrap();
        assert_eq!(read.cert.len(), 1);
    }

    #[test]
    fn a_key_of_another_certificate_is_told_with_both_files() {
        let folder = folder();
        let (certificate, key) = (folder.file("c.pem", &pair().0), folder.file("k.pem", &pair().1));
        let Unusable { file, reason } = certified_key(&certificate, &key).unwrap_err();
        assert_eq!(file, certificate);
        assert!(reason.contains("does not belong") && reason.contains(key.to_str().unwrap()), "{reason}");
    }

    #[test]
    fn a_missing_an_empty_and_a_swapped_file_are_named() {
        let (folder, (certificate, key)) = (folder(), pair());
        let good = folder.file("c.pem", &certificate);
        let key = folder.file("k.pem", &key);
        let empty = folder.file("empty.pem", "");
        let missing = folder.0.path().join("missing.pem");
        for (certificate, private_key, named) in [
            (&missing, &key, &missing),
            (&empty, &key, &empty),
            (&key, &key, &key),
            (&good, &missing, &missing),
            (&good, &empty, &empty),
            (&good, &good, &good),
        ] {
            let Unusable { file, reason } = certified_key(certificate, private_key).unwrap_err();
            assert_eq!(&file, named, "{reason}");
        }
    }
}
