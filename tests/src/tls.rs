//! A certificate of our own making, and connections that trust it.

use crate::issuer::Issuer;
use rustls::crypto::ring;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A connection, encrypted or not.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A certificate in files, trusted by [`Certificate::connect`].
#[derive(Clone)]
pub struct Certificate {
    folder: Arc<TempDir>,
    roots: Arc<RootCertStore>,
}

impl Certificate {
    /// Makes a self-signed one.
    pub fn for_names(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("the names are DNS names");
        let certificate = made.cert.pem();
        Self::issued(&certificate, &made.signing_key.serialize_pem(), &certificate)
    }

    /// Has one made that public authorities could have issued: by an authority of its own, for 90 days.
    pub fn by_an_authority(names: &[&str]) -> Self {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        let (issuer, key) = (Issuer::new(), rcgen::KeyPair::generate().expect("random numbers"));
        Self::issued(&issuer.sign(names, &key, -1..89), &key.serialize_pem(), issuer.root())
    }

    /// One that was issued: PEM of its chain, of its key, and of the root that is trusted.
    pub fn issued(chain: &str, key: &str, root: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        for (file, text) in [("certificate.pem", chain), ("key.pem", key), ("root.pem", root)] {
            std::fs::write(folder.path().join(file), text).expect("the folder is ours");
        }
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_slice(root.as_bytes()).expect("the root is PEM");
        roots.add(root).expect("the root is a certificate");
        Self { folder: Arc::new(folder), roots: Arc::new(roots) }
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
            "[certificates.files]\nsource = \"files\"\ncertificate = {certificate:?}\nprivate_key = {private_key:?}\n\n"
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

    /// The file of the root that is trusted.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root.pem")
    }

    /// What shakes hands with it as a server.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor_of("http/1.1")
    }

    /// The same for another protocol.
    pub fn acceptor_of(&self, protocol: &str) -> TlsAcceptor {
        let chain = CertificateDer::pem_file_iter(self.certificate()).expect("the file is there");
        let chain = chain.collect::<Result<_, _>>().expect("the file is PEM");
        let key = PrivateKeyDer::from_pem_file(self.private_key()).expect("the file is a key's");
        let key = ring::sign::any_supported_type(&key).expect("the file is a key's");
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring supports the default versions")
            .with_no_client_auth()
            // Not `with_single_cert`: that refuses the critical extension of `tls-alpn-01`.
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))));
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        TlsAcceptor::from(Arc::new(config))
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
