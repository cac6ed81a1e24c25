//! From where somebody comes, as far as it helps them to recognise it: a family of browsers, a network.

use control::Device;
use http::HeaderMap;
use http::header::USER_AGENT;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a browser's `User-Agent` contains, and what people call it; the first that fits, since many name others, too.
const BROWSERS: [(&str, &str); 7] = [
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("Chromium/", "Chromium"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
];
/// As [`BROWSERS`], of systems.
const SYSTEMS: [(&str, &str); 6] = [
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Linux", "Linux"),
];

/// The device that sends these headers from this address. Neither says who somebody is, and nothing is decided by it.
pub(crate) fn of(headers: &HeaderMap, address: IpAddr) -> Device {
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let known = |table: &[(&str, &'static str)]| {
        table.iter().find(|(part, _)| agent.contains(part)).map(|(_, name)| *name)
    };
    let agent = match (known(&BROWSERS), known(&SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(only), None) | (None, Some(only)) => only.to_owned(),
        (None, None) => "unknown browser".to_owned(),
    };
    Device { agent, network: network(address) }
}

/// The network of an address that one household or office has: /24, or /48 of IPv6.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{}/24", Ipv4Addr::new(a, b, c, 0))
        }
        IpAddr::V6(address) => {
            let [a, b, c, ..] = address.segments();
            format!("{}/48", Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_device_is_what_people_call_it_and_its_network() {
        let linux = "Mozilla/5.0 (X11; Linux x86_64)";
        for (agent, told) in [
            (format!("{linux}; rv:140.0) Gecko/20100101 Firefox/140.0"), "Firefox on Linux"),
            (
                format!("{linux} AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"),
                "Chrome on Linux",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0".to_owned(),
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Safari/604.1".to_owned(),
                "Safari on iPhone",
            ),
            ("curl/8.14".to_owned(), "curl"),
            ("<script>".to_owned(), "unknown browser"),
            (String::new(), "unknown browser"),
        ] {
            let headers = HeaderMap::from_iter([(USER_AGENT, HeaderValue::try_from(agent).unwrap())]);
            assert_eq!(of(&headers, IpAddr::from([192, 0, 2, 7])).agent, told);
        }
        for (address, network) in [
            ("192.0.2.7", "192.0.2.0/24"),
            ("::ffff:192.0.2.7", "192.0.2.0/24"),
            ("2001:db8:1:2::7", "2001:db8:1::/48"),
        ] {
            assert_eq!(of(&HeaderMap::new(), address.parse().unwrap()).network, network);
        }
    }
}
