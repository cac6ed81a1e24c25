//! The TLS side of a listener, from PEM files. Checked whole before anything is served.

use super::ListenError;
use config::TlsFiles;
use rustls::ServerConfig;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;

/// TLS 1.2 and 1.3 with this certificate, HTTP/2 and HTTP/1.1 offered, without early data.
pub(super) fn server_config(files: &TlsFiles) -> Result<Arc<ServerConfig>, ListenError> {
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable(&files.certificate, "certificate", &error))?;
    if chain.is_empty() {
        return Err(unusable(&files.certificate, "certificate", &pem::Error::NoItemsFound));
    }
    let key = PrivateKeyDer::from_pem_file(&files.private_key)
        .map_err(|error| unusable(&files.private_key, "private key", &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refused(files, &error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| refused(files, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn unusable(file: &Path, what: &str, error: &pem::Error) -> ListenError {
    let reason = match error {
        pem::Error::NoItemsFound => format!("it has no {what} in PEM form"),
        other => other.to_string(),
    };
    ListenError::File { file: file.to_owned(), reason }
}

/// What rustls does not like about certificate and key together.
fn refused(files: &TlsFiles, error: &rustls::Error) -> ListenError {
    let key = files.private_key.display();
    let reason = match error {
        rustls::Error::InconsistentKeys(_) => format!("it does not belong to the private key in {key}"),
        other => format!("with the private key in {key}: {other}"),
    };
    ListenError::File { file: files.certificate.clone(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

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

    fn reason(files: TlsFiles) -> (PathBuf, String) {
        match server_config(&files).unwrap_err() {
            ListenError::File { file, reason } => (file, reason),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_certificate_with_its_key_offers_http2_first() {
        let (folder, (certificate, key)) = (folder(), pair());
        let files = TlsFiles {
            certificate: folder.file("c.pem", &certificate),
            private_key: folder.file("k.pem", &key),
        };
        let config = server_config(&files).unwrap();
        assert_eq!(config.alpn_protocols, [b"h2".to_vec(), b"http/1.1".to_vec()]);
        assert_eq!(config.max_early_data_size, 0);
    }

    #[test]
    fn a_key_of_another_certificate_is_told_with_both_files() {
        let folder = folder();
        let (certificate, key) = (folder.file("c.pem", &pair().0), folder.file("k.pem", &pair().1));
        let (file, reason) = reason(TlsFiles { certificate: certificate.clone(), private_key: key.clone() });
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
            (missing.clone(), key.clone(), missing.clone()),
            (empty.clone(), key.clone(), empty.clone()),
            (key.clone(), key.clone(), key.clone()),
            (good.clone(), missing.clone(), missing),
            (good.clone(), empty.clone(), empty),
            (good.clone(), good.clone(), good),
        ] {
            let (file, reason) = reason(TlsFiles { certificate, private_key });
            assert_eq!(file, named, "{reason}");
        }
    }
}
