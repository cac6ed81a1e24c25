//! Ranges of addresses.

use std::fmt;
use std::net::IpAddr;

/// A range of addresses: `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    prefix: u8,
}

impl Network {
    /// Parses CIDR notation; the bits behind the prefix must be zero, or it is another range that was meant.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (base, prefix) = text.split_once('/')?;
        let base: IpAddr = base.parse().ok()?;
        let is_number = (1..=3).contains(&prefix.len()) && prefix.bytes().all(|b| b.is_ascii_digit());
        let prefix: u8 = prefix.parse().ok().filter(|prefix| is_number && *prefix <= width(base))?;
        let network = Self { base, prefix };
        (bits(base) & !network.mask() == 0).then_some(network)
    }

    /// Whether an address is in the range. An IPv4 address in IPv6 clothes is what it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.base.is_ipv4() && bits(address) & self.mask() == bits(self.base)
    }

    /// Whether every address of its family is in the range.
    pub fn is_everything(&self) -> bool {
        self.prefix == 0
    }

    /// Whether all of `other` is in the range.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.prefix <= other.prefix && self.contains(other.base)
    }

    fn mask(&self) -> u128 {
        let free = u32::from(width(self.base) - self.prefix);
        u128::MAX.checked_shl(free).unwrap_or(0)
    }
}

/// `allow_addresses` and `deny_addresses`: from where something may be reached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AddressLists {
    /// Nobody else; empty = everybody.
    pub(crate) allow: Vec<Network>,
    /// Not even where the other list allows it.
    pub(crate) deny: Vec<Network>,
}

impl AddressLists {
    /// Whether a client at this address may come in.
    pub fn permits(&self, address: IpAddr) -> bool {
        let within = |networks: &[Network]| networks.iter().any(|network| network.contains(address));
        (self.allow.is_empty() || within(&self.allow)) && !within(&self.deny)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_its_network_only() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.1.2.3/32", "10.1.2.3", "10.1.2.2"),
            ("10.0.0.0/8", "::ffff:10.0.0.1", "::a00:1"),
            ("fc00::/7", "fd00::1", "fe80::1"),
            ("0.0.0.0/0", "192.0.2.1", "::1"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
        ] {
            let parsed = Network::parse(network).unwrap();
            assert_eq!(parsed.to_string(), network);
            assert!(parsed.contains(inside.parse().unwrap()), "{network} {inside}");
            assert!(!parsed.contains(outside.parse().unwrap()), "{network} {outside}");
        }
        let (wide, narrow) =
            (Network::parse("127.0.0.0/8").unwrap(), Network::parse("127.1.0.0/16").unwrap());
        assert!(wide.covers(&narrow) && wide.covers(&wide) && !narrow.covers(&wide));
    }

    #[test]
    fn deny_wins_and_an_empty_allow_list_allows_all() {
        let networks = |texts: &[&str]| texts.iter().map(|text| Network::parse(text).unwrap()).collect();
        for (allow, deny, address, expected) in [
            (&[][..], &[][..], "192.0.2.1", true),
            (&["10.0.0.0/8"], &[], "10.1.2.3", true),
            (&["10.0.0.0/8"], &[], "::ffff:10.1.2.3", true),
            (&["10.0.0.0/8"], &[], "192.0.2.1", false),
            (&["10.0.0.0/8"], &[], "2001:db8::1", false),
            (&["10.0.0.0/8"], &["10.1.0.0/16"], "10.1.2.3", false),
            (&["10.0.0.0/8"], &["10.1.0.0/16"], "10.2.2.3", true),
            (&[], &["2001:db8::/32"], "2001:db8::1", false),
            (&[], &["2001:db8::/32"], "192.0.2.1", true),
        ] {
            let lists = AddressLists { allow: networks(allow), deny: networks(deny) };
            assert_eq!(lists.permits(address.parse().unwrap()), expected, "{allow:?} {deny:?} {address}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for bad in ["", "10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "::/129", "10.0.0.0/+8", "10.0.0.0/", "a/8"]
        {
            assert_eq!(Network::parse(bad), None, "{bad}");
        }
    }
}
