//! Where the client of a request is, by what proxies say that the operator trusts.
//!
//! A header is read from right to left: each proxy adds at the end whom it heard, so that what stands to the left of
//! the first address that is no trusted proxy's may be made up.

mod list;
mod node;

use config::{ClientAddress, Proxies};
use http::{HeaderMap, HeaderName};
use std::net::IpAddr;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED: HeaderName = HeaderName::from_static("forwarded");

/// The most entries that are read: no chain of proxies is as long.
const HOPS_MAX: usize = 32;

/// Reads one entry of a list.
type Node = fn(&[u8]) -> Option<IpAddr>;

/// The client's address, where the connection says that `peer` sent the request.
///
/// Unless a trusted peer sent the header that the operator named, it is the peer's. An entry that cannot be read ends
/// the reading: what is left is the proxy that passed it on.
pub fn of(peer: IpAddr, headers: &HeaderMap, proxies: &Proxies) -> IpAddr {
    let (name, node) = match proxies.client_address {
        ClientAddress::Peer => return peer.to_canonical(),
        ClientAddress::XForwardedFor => (X_FORWARDED_FOR, node::bare as Node),
        ClientAddress::Forwarded => (FORWARDED, node::forwarded as Node),
    };
    let mut client = peer.to_canonical();
    let fields = headers.get_all(name).iter().rev();
    let mut entries = fields.flat_map(|field| list::from_the_right(field.as_bytes())).take(HOPS_MAX);
    while proxies.trusts(client) {
        match entries.next().and_then(node) {
            Some(before) => client = before,
            None => break,
        }
    }
    client
}

#[cfg(test)]
mod tests;
