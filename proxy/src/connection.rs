//! Our own connection under Pingora: plain TCP or TLS, given back whole for the tunnel.

/// Facts of one connection, for its requests: Pingora hands them on in the `ProxyDigest`'s user data.
#[derive(Debug, Clone)]
pub struct ConnectionFacts {
    /// The listener it came in by.
    pub listener: std::sync::Arc<crate::edge::ListenerFacts>,
    /// The client's address.
    pub client: std::net::SocketAddr,
    /// The server name of the TLS handshake, lower case.
    pub server_name: Option<String>,
}
