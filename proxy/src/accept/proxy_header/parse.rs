//! What a header says, from its bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// What a header of version 2 begins with (§2.2).
pub(super) const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// What follows it: version and command, family, length.
pub(super) const V2_HEAD: usize = 4;

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// From this client.
    Client(SocketAddr),
    /// From whoever opened it: the proxy speaks for itself, or does not know.
    Peer,
}

/// A line of version 1, its line break included (§2.1).
pub(super) fn v1(line: &[u8]) -> Option<Source> {
    let line = std::str::from_utf8(line.strip_suffix(b"\r\n")?).ok()?;
    let rest = line.strip_prefix("PROXY ")?;
    if rest == "UNKNOWN" || rest.starts_with("UNKNOWN ") {
        return Some(Source::Peer);
    }
    let parts: Vec<&str> = rest.split(' ').collect();
    let [family, source, destination, port, to_port] = parts[..] else { return None };
    let (port, _) = (v1_port(port)?, v1_port(to_port)?);
    let ip = match family {
        "TCP4" => both::<Ipv4Addr>(source, destination)?.into(),
        "TCP6" => both::<Ipv6Addr>(source, destination)?.into(),
        _ => return None,
    };
    Some(client(ip, port))
}

/// The first of two addresses of one family.
fn both<A: FromStr>(source: &str, destination: &str) -> Option<A> {
    A::from_str(destination).ok().and(A::from_str(source).ok())
}

/// Digits alone, without a zero in front.
fn v1_port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_number)
}

/// How many bytes follow the head of version 2.
pub(super) fn v2_length(head: &[u8; V2_HEAD]) -> usize {
    usize::from(u16::from_be_bytes([head[2], head[3]]))
}

/// A header of version 2 (§2.2): what stands behind the addresses is of no interest.
pub(super) fn v2(head: &[u8; V2_HEAD], rest: &[u8]) -> Option<Source> {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    match (head[0], head[1]) {
        // Its family says nothing.
        (LOCAL, _) => Some(Source::Peer),
        (PROXY, 0x11) => {
            let [a, b, c, d, _, _, _, _, high, low] = *rest.get(..12)?.first_chunk()?;
            Some(client(Ipv4Addr::new(a, b, c, d).into(), u16::from_be_bytes([high, low])))
        }
        (PROXY, 0x21) => {
            let (source, ports) = rest.get(..36)?.split_at(32);
            let source: [u8; 16] = *source.first_chunk()?;
            Some(client(Ipv6Addr::from(source).into(), u16::from_be_bytes(*ports.first_chunk()?)))
        }
        // Of no family, or of Unix sockets: there is a client, and it has no address.
        (PROXY, 0x00 | 0x31 | 0x32) => Some(Source::Peer),
        _ => None,
    }
}

fn client(ip: IpAddr, port: u16) -> Source {
    Source::Client(SocketAddr::new(ip.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn from(address: &str) -> Option<Source> {
        Some(Source::Client(address.parse().unwrap()))
    }

    #[test]
    fn a_line_of_version_1_names_the_client() {
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", from("192.0.2.1:56324")),
            ("PROXY TCP6 2001:db8::1 2001:db8::2 0 65535\r\n", from("[2001:db8::1]:0")),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1 2\r\n", from("192.0.2.1:1")),
            ("PROXY UNKNOWN\r\n", Some(Source::Peer)),
            ("PROXY UNKNOWN ffff:f...f:ffff 65535 anything\r\n", Some(Source::Peer)),
            ("PROXY UNKNOWNS\r\n", None),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\n", None),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n", None),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443 1\r\n", None),
            ("PROXY TCP4  192.0.2.1 198.51.100.1 56324 443\r\n", None),
            ("PROXY TCP4 2001:db8::1 198.51.100.1 1 2\r\n", None),
            ("PROXY TCP6 2001:db8::1 198.51.100.1 1 2\r\n", None),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 65536 443\r\n", None),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 +1 443\r\n", None),
            ("PROXY TCP4 192.0.2.1 198.51.100.1 01 443\r\n", None),
            ("PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n", None),
            ("PROXY\r\n", None),
            ("\r\n", None),
            ("", None),
        ] {
            assert_eq!(v1(line.as_bytes()), expected, "{line:?}");
        }
    }

    #[test]
    fn a_header_of_version_2_names_the_client() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];
        let v6 =
            [&"2001:db8::1".parse::<Ipv6Addr>().unwrap().octets()[..], &[0; 16], &[0, 80, 1, 187]].concat();
        let with_tlv = [&v4[..], &[0x04, 0, 1, 0]].concat();
        for (command, family, rest, expected) in [
            (0x21, 0x11, &v4[..], from("192.0.2.1:56324")),
            (0x21, 0x11, &with_tlv, from("192.0.2.1:56324")),
            (0x21, 0x21, &v6, from("[2001:db8::1]:80")),
            (0x20, 0x00, &[], Some(Source::Peer)),
            (0x20, 0x11, &v4, Some(Source::Peer)),
            (0x21, 0x00, &[], Some(Source::Peer)),
            (0x21, 0x31, &[0; 216], Some(Source::Peer)),
            (0x21, 0x11, &v4[..11], None),
            (0x21, 0x21, &v6[..35], None),
            (0x21, 0x12, &v4, None),
            (0x21, 0x22, &v6, None),
            (0x22, 0x11, &v4, None),
            (0x11, 0x11, &v4, None),
            (0x31, 0x11, &v4, None),
            (0x21, 0x41, &v4, None),
        ] {
            let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
            let head = [command, family, length[0], length[1]];
            assert_eq!(v2_length(&head), rest.len());
            assert_eq!(v2(&head, rest), expected, "{command:02x} {family:02x} {}", rest.len());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0..60_usize) {
            let _ = v1(&bytes);
            if let Some((head, rest)) = bytes.split_first_chunk::<V2_HEAD>() {
                let _ = v2(head, rest);
                let _ = v2(&[0x21, head[1], head[2], head[3]], rest);
            }
            let line = b"PROXY TCP6 2001:db8::1 2001:db8::2 4711 65535\r\n";
            let _ = v1(&[&line[..cut.min(line.len())], &bytes[..bytes.len().min(20)], b"\r\n"].concat());
        }
    }
}
