//! The TLS side of the listeners.

use certs::Resolver;
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use std::sync::Arc;

/// TLS 1.2 and 1.3 with the certificates of the resolver, HTTP/2 and HTTP/1.1 offered, without early data.
pub fn server_config(resolver: Resolver) -> Arc<ServerConfig> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the suites of the default versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}
