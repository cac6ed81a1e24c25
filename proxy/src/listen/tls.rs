//! What the listeners speak in a TLS handshake.

use super::tickets::Tickets;
use crate::keys::Keys;
use config::{Tls, TlsVersion};
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, SupportedProtocolVersion, version};
use std::sync::Arc;

/// How many tickets a client gets at the end of a TLS 1.3 handshake.
///
/// It is to use each once (RFC 8446 §C.4), and gets new ones whenever it does. Chromium keeps two of a host; a third
/// would be sealed and sent for nothing.
const TICKETS: usize = 2;

/// In the order in which they are chosen. An authority's question comes alone, so it never gets in HTTP's way.
const PROTOCOLS: [&[u8]; 3] = [b"h2", b"http/1.1", certs::ACME_TLS];

/// TLS 1.2 and 1.3, or 1.3 alone, with the certificates of this resolver and tickets sealed with these keys.
///
/// The suites are ring's: AEAD with an ephemeral key exchange, nothing else. No early data: it could be played again by
/// others. Nothing is kept of a session here: whoever comes again brings it along.
pub fn server_config(resolver: certs::Resolver, tls: &Tls, keys: &Keys) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions(tls.min_version))
        .expect("ring has suites for TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = PROTOCOLS.iter().map(|protocol| protocol.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::new(Tickets::new(keys.clone()));
    config.send_tls13_tickets = TICKETS;
    Arc::new(config)
}

static FROM_1_2: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
static FROM_1_3: [&SupportedProtocolVersion; 1] = [&version::TLS13];

fn versions(min: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match min {
        TlsVersion::V1_2 => &FROM_1_2,
        TlsVersion::V1_3 => &FROM_1_3,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use config::NamePattern;
    use rustls::client::Resumption;
    use rustls::crypto::ring::sign::any_supported_type;
    use rustls::sign::CertifiedKey;
    use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConnection};
    use rustls_pki_types::ServerName;
    use std::time::Duration;

    pub(crate) const TLS: Tls = Tls {
        min_version: TlsVersion::V1_2,
        handshake_timeout: Duration::from_secs(10),
        hsts_max_age: Duration::ZERO,
    };

    /// A certificate for all of lab.test, and who trusts it.
    struct Site {
        key: Arc<CertifiedKey>,
        roots: Arc<RootCertStore>,
    }

    impl Site {
        fn new() -> Self {
            let names = vec!["lab.test".to_owned(), "*.lab.test".to_owned()];
            let made = rcgen::generate_simple_self_signed(names).unwrap();
            let key = any_supported_type(&made.signing_key.into()).unwrap();
            let mut roots = RootCertStore::empty();
            roots.add(made.cert.der().clone()).unwrap();
            let chain = vec![made.cert.der().clone()];
            Self { key: Arc::new(CertifiedKey::new(chain, key)), roots: Arc::new(roots) }
        }

        fn server(&self, tls: &Tls, keys: &Keys) -> Arc<ServerConfig> {
            let names = ["lab.test", "*.lab.test"].map(|name| NamePattern::parse(name).unwrap());
            server_config(certs::Resolver::of_one(self.key.clone(), names.to_vec()), tls, keys)
        }

        fn client(&self, version: &'static SupportedProtocolVersion) -> ClientConfig {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(self.roots.clone())
                .with_no_client_auth()
        }
    }

    fn keys() -> Keys {
        Keys::of_secrets(&[([1; 32], None)])
    }

    /// Shakes hands in memory; how, as the client sees it.
    fn shake(
        client: &Arc<ClientConfig>,
        server: &Arc<ServerConfig>,
        host: &str,
    ) -> Result<HandshakeKind, rustls::Error> {
        let name = ServerName::try_from(host.to_owned()).unwrap();
        let mut client = ClientConnection::new(client.clone(), name).unwrap();
        let mut server = ServerConnection::new(server.clone()).unwrap();
        // Once more than it takes: tickets come after the end.
        for _ in 0..5 {
            let mut wire = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut wire).unwrap();
            }
            server.read_tls(&mut &wire[..]).unwrap();
            server.process_new_packets()?;
            wire.clear();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            client.read_tls(&mut &wire[..]).unwrap();
            client.process_new_packets()?;
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        assert_eq!(client.handshake_kind(), server.handshake_kind());
        Ok(client.handshake_kind().unwrap())
    }

    #[test]
    fn nothing_but_aead_with_ephemeral_keys_is_spoken() {
        let config = Site::new().server(&TLS, &keys());
        let suites: Vec<String> = config
            .crypto_provider()
            .cipher_suites
            .iter()
            .map(|suite| format!("{:?}", suite.suite()))
            .collect();
        assert_eq!(
            suites,
            [
                "TLS13_AES_256_GCM_SHA384",
                "TLS13_AES_128_GCM_SHA256",
                "TLS13_CHACHA20_POLY1305_SHA256",
                "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
                "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
                "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
                "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
            ]
        );
        assert_eq!(config.alpn_protocols, [&b"h2"[..], b"http/1.1", b"acme-tls/1"]);
        assert_eq!(config.max_early_data_size, 0);
        assert!(!config.session_storage.can_cache());
    }

    #[test]
    fn the_oldest_version_is_what_the_configuration_says() {
        let site = Site::new();
        let newest = Tls { min_version: TlsVersion::V1_3, ..TLS };
        for (tls, version, spoken) in [
            (&TLS, &version::TLS12, true),
            (&TLS, &version::TLS13, true),
            (&newest, &version::TLS12, false),
            (&newest, &version::TLS13, true),
        ] {
            let shaken = shake(&Arc::new(site.client(version)), &site.server(tls, &keys()), "lab.test");
            assert_eq!(shaken.is_ok(), spoken, "{version:?}: {shaken:?}");
        }
    }

    #[test]
    fn a_ticket_is_worth_a_short_handshake_at_every_replica_under_its_own_name_alone() {
        let site = Site::new();
        for version in [&version::TLS12, &version::TLS13] {
            let client = Arc::new(site.client(version));
            // Two configurations, two rings of the same secret: two replicas, or one after a restart.
            let at = |host| shake(&client, &site.server(&TLS, &keys()), host).unwrap();
            assert_eq!(at("lab.test"), HandshakeKind::Full);
            assert_eq!(at("lab.test"), HandshakeKind::Resumed, "{version:?}");
            assert_eq!(at("alice.lab.test"), HandshakeKind::Full, "{version:?}");

            let stranger = Keys::of_secrets(&[([2; 32], None)]);
            let there = shake(&client, &site.server(&TLS, &stranger), "lab.test").unwrap();
            assert_eq!(there, HandshakeKind::Full, "{version:?}: not an error");
        }
    }

    /// A client that shows what it was given under one name where it asks for another.
    #[test]
    fn a_ticket_of_one_name_does_not_resume_under_another() {
        let site = Site::new();
        for version in [&version::TLS12, &version::TLS13] {
            let store = Arc::new(OneForAll::default());
            let mut client = site.client(version);
            client.resumption = Resumption::store(store);
            let (client, server) = (Arc::new(client), site.server(&TLS, &keys()));
            assert_eq!(shake(&client, &server, "alice.lab.test").unwrap(), HandshakeKind::Full);
            assert_eq!(shake(&client, &server, "bob.lab.test").unwrap(), HandshakeKind::Full, "{version:?}");
            assert_eq!(
                shake(&client, &server, "bob.lab.test").unwrap(),
                HandshakeKind::Resumed,
                "{version:?}"
            );
        }
    }

    /// Keeps the last session, whoever it was with.
    #[derive(Debug, Default)]
    struct OneForAll {
        tls12: std::sync::Mutex<Option<rustls::client::Tls12ClientSessionValue>>,
        tls13: std::sync::Mutex<Option<rustls::client::Tls13ClientSessionValue>>,
    }

    impl rustls::client::ClientSessionStore for OneForAll {
        fn set_kx_hint(&self, _: ServerName<'static>, _: rustls::NamedGroup) {}
        fn kx_hint(&self, _: &ServerName<'_>) -> Option<rustls::NamedGroup> {
            None
        }
        fn set_tls12_session(&self, _: ServerName<'static>, value: rustls::client::Tls12ClientSessionValue) {
            *self.tls12.lock().unwrap() = Some(value);
        }
        fn tls12_session(&self, _: &ServerName<'_>) -> Option<rustls::client::Tls12ClientSessionValue> {
            self.tls12.lock().unwrap().clone()
        }
        fn remove_tls12_session(&self, _: &ServerName<'static>) {
            self.tls12.lock().unwrap().take();
        }
        fn insert_tls13_ticket(
            &self,
            _: ServerName<'static>,
            value: rustls::client::Tls13ClientSessionValue,
        ) {
            *self.tls13.lock().unwrap() = Some(value);
        }
        fn take_tls13_ticket(
            &self,
            _: &ServerName<'static>,
        ) -> Option<rustls::client::Tls13ClientSessionValue> {
            self.tls13.lock().unwrap().take()
        }
    }
}
