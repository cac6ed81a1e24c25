//! Whose requests count together: those of one IPv4 address, or of one network of IPv6.

use std::net::{IpAddr, Ipv4Addr};

/// Where requests come from.
///
/// Of IPv6 the first 64 bits: whoever has one address has all of its /64, often a new one each day (RFC 8981). An IPv4
/// address in IPv6 clothes is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// One address.
    V4(Ipv4Addr),
    /// A /64.
    V6([u16; 4]),
    /// A /48, of which many /64 are.
    Network([u16; 3]),
}

impl Source {
    /// That of a client.
    pub(super) fn of(client: IpAddr) -> Self {
        match client.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Self::V6([a, b, c, d])
            }
        }
    }

    /// The /48 of a /64: as much as a single customer may have (RFC 6177), and more /64 than there are places for anything.
    pub(super) fn network(self) -> Option<Self> {
        match self {
            Self::V6([a, b, c, _]) => Some(Self::Network([a, b, c])),
            Self::V4(_) | Self::Network(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_counts_alone_and_ipv6_by_its_network() {
        let same = |a: &str, b: &str| Source::of(a.parse().unwrap()) == Source::of(b.parse().unwrap());
        for (a, b, expected) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::9", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("::1", "0.0.0.0", false),
        ] {
            assert_eq!(same(a, b), expected, "{a} {b}");
        }
    }
}
