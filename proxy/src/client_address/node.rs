//! One entry: an address as proxies write it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The longest address with a port, and some more: `[` eight groups `]:65535`.
const NODE_MAX: usize = 64;

/// An entry of `X-Forwarded-For`, which no standard defines: an address, mostly without a port, IPv6 with brackets or
/// without.
pub(super) fn bare(entry: &[u8]) -> Option<IpAddr> {
    let text = text(entry)?;
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    node(text).or_else(|| Ipv6Addr::from_str(text).ok().map(|v6| v6.to_canonical()))
}

/// The `for` of an entry of `Forwarded` (RFC 7239 §4, §6): none for `unknown`, for a hidden name such as `_lb1`, and
/// where there is no `for` or more than one.
pub(super) fn forwarded(entry: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    for pair in pairs(entry) {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"for") && found.replace(value).is_some() {
            return None;
        }
    }
    let value = text(found?)?;
    match value.strip_prefix('"') {
        // Neither an address nor a port has anything to escape.
        Some(quoted) => node(quoted.strip_suffix('"')?),
        None => node(value),
    }
}

/// The parts of an entry between semicolons that are not in quotes, without empty ones.
fn pairs(entry: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    entry
        .split(move |byte| {
            let ends = *byte == b';' && !quoted;
            quoted ^= *byte == b'"' && !escaped;
            escaped = quoted && *byte == b'\\' && !escaped;
            ends
        })
        .map(<[u8]>::trim_ascii)
        .filter(|pair| !pair.is_empty())
}

/// `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn node(text: &str) -> Option<IpAddr> {
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let is_node = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return Ipv6Addr::from_str(address).ok().filter(|_| is_node).map(|v6| v6.to_canonical());
    }
    let (address, port) = text.split_once(':').map_or((text, None), |(address, port)| (address, Some(port)));
    Ipv4Addr::from_str(address).ok().filter(|_| port.is_none_or(is_port)).map(IpAddr::V4)
}

/// A number, or a hidden one (RFC 7239 §6.2).
fn is_port(text: &str) -> bool {
    let is_number = || (1..=5).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_hidden = |name: &str| {
        let may_hold = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        !name.is_empty() && name.bytes().all(may_hold)
    };
    is_number() || text.strip_prefix('_').is_some_and(is_hidden)
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| text.len() <= NODE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(node: Option<IpAddr>) -> Option<String> {
        node.map(|address| address.to_string())
    }

    #[test]
    fn an_entry_of_x_forwarded_for_is_an_address_in_any_dress() {
        for (entry, expected) in [
            ("192.0.2.1", Some("192.0.2.1")),
            ("192.0.2.1:4711", Some("192.0.2.1")),
            ("\"192.0.2.1\"", Some("192.0.2.1")),
            ("2001:db8::1", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("[2001:DB8::1]:4711", Some("2001:db8::1")),
            ("::ffff:192.0.2.1", Some("192.0.2.1")),
            ("[::ffff:192.0.2.1]:80", Some("192.0.2.1")),
            ("unknown", None),
            ("_hidden", None),
            ("example.org", None),
            ("192.0.2.1:", None),
            ("192.0.2.1:http", None),
            ("192.0.2.1:123456", None),
            ("192.0.2.01", None),
            ("192.0.2", None),
            ("192.0.2.1/32", None),
            ("fe80::1%eth0", None),
            ("[2001:db8::1", None),
            ("[2001:db8::1]x", None),
            ("[192.0.2.1]", None),
            ("\"192.0.2.1", None),
            ("", None),
        ] {
            assert_eq!(told(bare(entry.as_bytes())).as_deref(), expected, "{entry}");
        }
    }

    #[test]
    fn an_entry_of_forwarded_has_one_for() {
        for (entry, expected) in [
            ("for=192.0.2.60;proto=http;by=203.0.113.43", Some("192.0.2.60")),
            ("For=\"[2001:db8:cafe::17]:4711\"", Some("2001:db8:cafe::17")),
            ("proto=https; FOR = 192.0.2.60 ;", Some("192.0.2.60")),
            ("for=\"192.0.2.43:47011\"", Some("192.0.2.43")),
            ("for=\"192.0.2.43:_p-1.x\"", Some("192.0.2.43")),
            ("for=\"[::ffff:192.0.2.1]\"", Some("192.0.2.1")),
            ("host=\"a;for=10.0.0.1\";for=192.0.2.1", Some("192.0.2.1")),
            ("host=\"a\\\";for=10.0.0.1\";for=192.0.2.1", Some("192.0.2.1")),
            ("for=unknown", None),
            ("for=_hidden", None),
            ("for=\"_SEVKISEK\"", None),
            ("for=2001:db8::1", None),
            ("for=\"\"", None),
            ("for=", None),
            ("for", None),
            ("192.0.2.1", None),
            ("proto=https", None),
            ("for=192.0.2.1;for=192.0.2.2", None),
            ("for=\"192.0.2.1", None),
            ("for=192.0.2.1;junk", None),
            ("for=\"192.0.2.1:_\"", None),
            ("", None),
        ] {
            assert_eq!(told(forwarded(entry.as_bytes())).as_deref(), expected, "{entry}");
        }
    }
}
