//! A certificate of our own making, and connections that trust it.

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A connection, encrypted or not.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A self-signed certificate for some names, in files, trusted by [`Certificate::connect`].
#[derive(Clone)]
pub struct Certificate {
    names: Vec<String>,
    folder: Arc<TempDir>,
    roots: Arc<RootCertStore>,
}

impl Certificate {
    /// Makes one.
    pub fn for_names(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names.clone()).expect("the names are DNS names");
        let folder = TempDir::new().expect("a temporary folder");
        std::fs::write(folder.path().join("certificate.pem"), made.cert.pem()).expect("the folder is ours");
        std::fs::write(folder.path().join("key.pem"), made.signing_key.serialize_pem())
            .expect("the folder is ours");
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).expect("a certificate made just now is valid");
        Self { names, folder: Arc::new(folder), roots: Arc::new(roots) }
    }

    /// The file of the chain.
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    /// The file of the key.
    pub fn private_key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// What the configuration says of it.
    pub fn tables(&self) -> String {
        let (certificate, private_key) = (self.certificate(), self.private_key());
        format!(
            "[certificates.files]\nsource = \"files\"\ncertificate = {certificate:?}\nprivate_key = {private_key:?}\nnames = {:?}\n\n",
            self.names
        )
    }

    /// What a client that trusts it begins with, speaking one version of TLS and offering these protocols.
    pub fn client(&self, version: &'static SupportedProtocolVersion, protocols: &[&str]) -> ClientConfig {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[version])
            .expect("ring supports TLS 1.2 and 1.3")
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    }

    /// A client that trusts it, and shows it as its own.
    pub fn identified_client(&self) -> ClientConfig {
        let chain = CertificateDer::pem_file_iter(self.certificate()).expect("the file is ours");
        let chain = chain.collect::<Result<_, _>>().expect("it is PEM");
        let key = PrivateKeyDer::from_pem_file(self.private_key()).expect("the file is ours");
        ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring supports the default versions")
            .with_root_certificates(Arc::clone(&self.roots))
            .with_client_auth_cert(chain, key)
            .expect("certificate and key belong together")
    }

    /// Connects and shakes hands as a client of `host` that offers one protocol: `h2` or `http/1.1`.
    pub async fn connect(
        &self,
        address: SocketAddr,
        host: &str,
        protocol: &str,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        self.shake_hands(TcpStream::connect(address).await?, host, protocol).await
    }

    /// The same over a connection that is there already.
    pub async fn shake_hands(
        &self,
        stream: TcpStream,
        host: &str,
        protocol: &str,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring supports the default versions")
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let name = ServerName::try_from(host.to_owned()).expect("a test's host is a DNS name");
        TlsConnector::from(Arc::new(config)).connect(name, stream).await
    }
}
