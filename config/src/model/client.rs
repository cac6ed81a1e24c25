//! Where clients are, and how much they may ask for: `trusted_proxies`, `client_address`, `[limits]`.

use crate::expression::Expression;
use crate::network::Network;
use std::net::IpAddr;

/// `trusted_proxies` and `client_address`: whom to believe where a client is.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// `trusted_proxies`: whose word is taken.
    pub trusted: Vec<Network>,
    /// `client_address`: where they say it.
    pub client_address: ClientAddress,
}

impl Proxies {
    /// Whether what this address says of others is believed.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }
}

/// `client_address`: where a client's address is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAddress {
    /// `"peer"`: from the connection, or its header of the PROXY protocol.
    #[default]
    Peer,
    /// `"x-forwarded-for"`: from this header, if a trusted proxy sends it.
    XForwardedFor,
    /// `"forwarded"`: from that of RFC 7239, likewise.
    Forwarded,
}

/// `[limits]`: how much one address and one user may ask for in a minute. At once they may ask for as much.
#[derive(Debug)]
pub struct Limits {
    /// `handshakes_per_address`: connections that begin a TLS handshake, those of IPv6 by /64.
    pub handshakes_per_address: u32,
    /// `handshakes`: TLS handshakes that are under way at a time, of all addresses.
    pub handshakes: usize,
    /// `requests_per_address`: all requests, those of IPv6 by /64.
    pub requests_per_address: u32,
    /// `logins_per_address`: attempts to log in.
    pub logins_per_address: u32,
    /// `bad_tokens_per_address`: requests with a token that is no good, or with a code or secret of
    /// `usher login` that is none.
    pub bad_tokens_per_address: u32,
    /// `requests_per_user`: int, over `user` with its tier, `claims`, `groups`.
    pub requests_per_user: Expression<i64>,
    /// `spawns_per_user`: int; starts that somebody asks for.
    pub spawns_per_user: Expression<i64>,
    /// `messages_per_user`: int; data frames that somebody sends over all their WebSockets.
    pub messages_per_user: Expression<i64>,
}
