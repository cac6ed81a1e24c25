//! TLS for the admin address, and certificates of those who may ask.
//!
//! Its files are somebody else's to keep. They are looked at again when they change; as long as new ones cannot be used,
//! the ones before serve on.

use crate::pem::{self, Unusable};
use arc_swap::ArcSwap;
use axum::serve::Listener;
use certs::NoRoots;
use config::AdminTls;
use rustls::crypto::ring::default_provider;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{ServerConfig, version};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(10);
/// How long a handshake may take.
const WITHIN: Duration = Duration::from_secs(10);
/// How many handshakes may be under way: more operators' tools than there are. Others wait to be accepted.
const UNDER_WAY_MAX: usize = 64;

/// What is shaken hands with just now.
pub struct Shown {
    files: AdminTls,
    current: ArcSwap<ServerConfig>,
}

impl Shown {
    /// Reads the files.
    ///
    /// # Errors
    /// The first one that cannot be used.
    pub fn read(files: &AdminTls) -> Result<Arc<Self>, Unusable> {
        let current = ArcSwap::new(server_config(files)?);
        Ok(Arc::new(Self { files: files.clone(), current }))
    }

    /// Looks at the files for as long as it is polled, and takes what is new and good.
    pub async fn follow(self: Arc<Self>) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            ticks.tick().await;
            let shown = self.clone();
            // Files may be slow, or on another machine.
            let looked = tokio::task::spawn_blocking(move || shown.look(seen)).await;
            seen = looked.unwrap_or_default();
        }
    }

    /// Reads the files again if they have changed since they were seen so; as which they were seen now.
    fn look(&self, seen: Option<Stamps>) -> Option<Stamps> {
        let now = stamps(&self.files);
        if seen.as_ref() == Some(&now) {
            return seen;
        }
        match server_config(&self.files) {
            Ok(config) => {
                self.current.store(config);
                if seen.is_some() {
                    tracing::info!("the certificate of the admin address was read anew");
                }
            }
            // Told once for each change, be it that one file is there and the other is still to come.
            Err(error) => {
                tracing::error!(%error, "the admin address serves on with its certificate of before")
            }
        }
        Some(now)
    }
}

/// By what a file is known to be the one that was read: a link may lead to another by now.
type Stamp = Option<(SystemTime, (i64, i64), u64, u64)>;
type Stamps = [Stamp; 3];

fn stamps(files: &AdminTls) -> Stamps {
    let stamp = |file: &Path| {
        let seen = file.metadata().ok()?;
        // Of a file that others may read at last only this changes.
        let changed = (seen.ctime(), seen.ctime_nsec());
        Some((seen.modified().ok()?, changed, seen.ino(), seen.len()))
    };
    [stamp(&files.certificate), stamp(&files.private_key), files.client_authority.as_deref().and_then(stamp)]
}

/// TLS 1.3 alone: below it the certificate of a client travels in the clear (RFC 8446 §E.1.2). No tickets: whoever is
/// not trusted any more must not come again by what they had before.
fn server_config(files: &AdminTls) -> Result<Arc<ServerConfig>, Unusable> {
    let key = pem::certified_key(&files.certificate, &files.private_key)?;
    let provider = Arc::new(default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&version::TLS13])
        .expect("ring has suites for TLS 1.3");
    let builder = match &files.client_authority {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let unusable =
                |error: &dyn std::fmt::Display| Unusable { file: file.clone(), reason: error.to_string() };
            let roots = certs::roots(Some(file)).map_err(|error| match error {
                NoRoots::File { reason, .. } | NoRoots::System { reason } => {
                    Unusable { file: file.clone(), reason }
                }
            })?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.map_err(|error| unusable(&error))?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Accepts connections and shakes hands with each by itself: a slow one keeps nobody waiting.
pub struct TlsListener {
    tcp: TcpListener,
    shown: Arc<Shown>,
    under_way: JoinSet<Option<(TlsStream<TcpStream>, SocketAddr)>>,
}

impl TlsListener {
    /// Over a bound socket.
    pub fn new(tcp: TcpListener, shown: Arc<Shown>) -> Self {
        Self { tcp, shown, under_way: JoinSet::new() }
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            tokio::select! {
                // As axum accepts for itself: what is wrong with one connection, or for a moment, ends nothing.
                (tcp, peer) = Listener::accept(&mut self.tcp), if self.under_way.len() < UNDER_WAY_MAX => {
                    let acceptor = TlsAcceptor::from(self.shown.current.load_full());
                    self.under_way.spawn(async move {
                        let shaken = timeout(WITHIN, acceptor.accept(tcp)).await;
                        Some((shaken.ok()?.ok()?, peer))
                    });
                }
                Some(shaken) = self.under_way.join_next() => {
                    if let Ok(Some(connection)) = shaken {
                        return connection;
                    }
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.tcp.local_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
    use rustls::{ClientConfig, RootCertStore};
    use rustls_pki_types::ServerName;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use tempfile::TempDir;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::TlsConnector;
    use tokio_rustls::client;

    /// An authority, what it has signed, and the files of it.
    struct Authority {
        folder: TempDir,
        issuer: Issuer<'static, KeyPair>,
        root: rcgen::Certificate,
    }

    impl Authority {
        fn new() -> Self {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let root = params.self_signed(&key).unwrap();
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join("ca.pem"), root.pem()).unwrap();
            Self { folder, issuer: Issuer::new(params, key), root }
        }

        fn file(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn sign(&self, purpose: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["admin.test".to_owned()]).unwrap();
            params.extended_key_usages = vec![purpose];
            (params.signed_by(&key, &self.issuer).unwrap(), key)
        }

        /// Writes a new pair of the server's; its certificate.
        fn renew(&self) -> Vec<u8> {
            let (certificate, key) = self.sign(ExtendedKeyUsagePurpose::ServerAuth);
            std::fs::write(self.file("key.pem"), key.serialize_pem()).unwrap();
            std::fs::write(self.file("certificate.pem"), certificate.pem()).unwrap();
            certificate.der().to_vec()
        }

        fn files(&self, client_authority: bool) -> AdminTls {
            AdminTls {
                certificate: self.file("certificate.pem"),
                private_key: self.file("key.pem"),
                client_authority: client_authority.then(|| self.file("ca.pem")),
            }
        }

        /// A client that trusts this authority, with a certificate of that one.
        fn client(&self, of: Option<&Self>) -> TlsConnector {
            let mut roots = RootCertStore::empty();
            roots.add(self.root.der().clone()).unwrap();
            let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_root_certificates(roots);
            let config = match of {
                None => builder.with_no_client_auth(),
                Some(authority) => {
                    let (certificate, key) = authority.sign(ExtendedKeyUsagePurpose::ClientAuth);
                    builder.with_client_auth_cert(vec![certificate.der().clone()], key.into()).unwrap()
                }
            };
            TlsConnector::from(Arc::new(config))
        }
    }

    async fn connect(connector: &TlsConnector, to: SocketAddr) -> io::Result<client::TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(to).await?;
        connector.connect(ServerName::try_from("admin.test").unwrap(), tcp).await
    }

    /// Greets whoever gets through.
    async fn serve(shown: &Arc<Shown>) -> SocketAddr {
        let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut listener = TlsListener::new(tcp, shown.clone());
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await;
                let _ = stream.write_all(b"!").await;
                let _ = stream.flush().await;
            }
        });
        address
    }

    /// The certificate that is shown to somebody who is greeted.
    async fn shown_to(connector: &TlsConnector, to: SocketAddr) -> io::Result<Vec<u8>> {
        let mut stream = connect(connector, to).await?;
        let mut greeting = [0];
        stream.read_exact(&mut greeting).await?;
        Ok(stream.get_ref().1.peer_certificates().unwrap()[0].to_vec())
    }

    #[tokio::test]
    async fn only_who_has_a_certificate_of_the_authority_may_ask() {
        let (ours, theirs) = (Authority::new(), Authority::new());
        ours.renew();
        let open = serve(&Shown::read(&ours.files(false)).unwrap()).await;
        shown_to(&ours.client(None), open).await.unwrap();
        let closed = serve(&Shown::read(&ours.files(true)).unwrap()).await;
        shown_to(&ours.client(Some(&ours)), closed).await.unwrap();
        assert!(shown_to(&ours.client(None), closed).await.is_err());
        assert!(shown_to(&ours.client(Some(&theirs)), closed).await.is_err());
    }

    #[tokio::test]
    async fn one_that_does_not_shake_hands_keeps_nobody_waiting() {
        let ours = Authority::new();
        ours.renew();
        let address = serve(&Shown::read(&ours.files(false)).unwrap()).await;
        let _silent = TcpStream::connect(address).await.unwrap();
        let answered = timeout(WITHIN / 2, shown_to(&ours.client(None), address)).await;
        answered.expect("it does not wait for the silent one").unwrap();
    }

    #[tokio::test]
    async fn a_new_pair_is_shown_and_a_bad_one_is_not() {
        let ours = Authority::new();
        let first = ours.renew();
        let shown = Shown::read(&ours.files(false)).unwrap();
        let (address, client) = (serve(&shown).await, ours.client(None));
        let seen = shown.look(None);
        let second = ours.renew();
        assert_eq!(shown_to(&client, address).await.unwrap(), first, "nobody has looked yet");
        let seen = shown.look(seen);
        assert_eq!(shown_to(&client, address).await.unwrap(), second);

        std::fs::write(ours.file("certificate.pem"), "none").unwrap();
        let bad = shown.look(seen);
        assert_eq!(shown_to(&client, address).await.unwrap(), second, "a bad one changes nothing");
        assert_eq!(shown.look(bad), bad);
        let third = ours.renew();
        let good = shown.look(bad);
        assert_eq!(shown_to(&client, address).await.unwrap(), third);
        // What could not be read and now can be is looked at again.
        std::fs::set_permissions(ours.file("certificate.pem"), Permissions::from_mode(0o640)).unwrap();
        assert_ne!(shown.look(good), good);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_at_the_start() {
        let ours = Authority::new();
        ours.renew();
        std::fs::write(ours.file("ca.pem"), "none").unwrap();
        let told = Shown::read(&ours.files(true)).err().unwrap().to_string();
        assert!(told.contains("ca.pem"), "{told}");
        Shown::read(&ours.files(false)).map(drop).unwrap();
    }
}
