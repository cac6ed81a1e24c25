use super::*;
use config::{Config, Network};
use http::HeaderValue;
use proptest::prelude::*;
use std::sync::LazyLock;

static TRUSTED: LazyLock<Vec<Network>> = LazyLock::new(|| {
    let text = include_str!("../../../config/usher.example.toml")
        .replace("trusted_proxies = []", "trusted_proxies = ['10.0.0.0/8', 'fd00::/8']")
        .replace("proxy_protocol = false", "proxy_protocol = true");
    Config::parse("test", &text, &|_| None).unwrap_or_else(|e| panic!("{e}")).proxies.trusted
});

fn proxies(client_address: ClientAddress) -> Proxies {
    Proxies { trusted: TRUSTED.clone(), client_address }
}

fn headers(fields: &[(&'static str, &[u8])]) -> HeaderMap {
    let value = |field: &[u8]| HeaderValue::from_bytes(field).unwrap();
    fields.iter().map(|(name, field)| (HeaderName::from_static(name), value(field))).collect()
}

fn client(proxies: &Proxies, peer: &str, fields: &[(&'static str, &[u8])]) -> String {
    of(peer.parse().unwrap(), &headers(fields), proxies).to_string()
}

const XFF: &str = "x-forwarded-for";

#[test]
fn a_list_is_read_from_the_right_up_to_the_first_who_is_not_trusted() {
    let proxies = proxies(ClientAddress::XForwardedFor);
    for (peer, fields, expected) in [
        ("10.0.0.1", vec!["192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", vec!["198.51.100.9, 192.0.2.1"], "192.0.2.1"),
        ("10.0.0.1", vec!["198.51.100.9, 192.0.2.1, 10.0.0.2"], "192.0.2.1"),
        ("10.0.0.1", vec!["198.51.100.9", "192.0.2.1", "10.0.0.2"], "192.0.2.1"),
        ("::ffff:10.0.0.1", vec!["192.0.2.1"], "192.0.2.1"),
        ("fd00::1", vec!["2001:db8::1"], "2001:db8::1"),
        // Nobody but trusted ones: the first of them.
        ("10.0.0.1", vec!["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        // What cannot be read ends it, at the last who could.
        ("10.0.0.1", vec!["192.0.2.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", vec!["192.0.2.1, unknown, 10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", vec!["192.0.2.1, 10.0.0.2,"], "192.0.2.1"),
        ("10.0.0.1", vec![""], "10.0.0.1"),
        ("10.0.0.1", vec![], "10.0.0.1"),
        // Who is not trusted is not asked.
        ("192.0.2.7", vec!["10.0.0.1"], "192.0.2.7"),
        ("192.0.2.7", vec!["198.51.100.9, 10.0.0.1"], "192.0.2.7"),
    ] {
        let fields: Vec<_> = fields.iter().map(|field| (XFF, field.as_bytes())).collect();
        assert_eq!(client(&proxies, peer, &fields), expected, "{peer} {fields:?}");
    }
}

#[test]
fn only_the_header_that_the_operator_named_is_read() {
    let both: [(_, &[u8]); 2] = [(XFF, b"192.0.2.1"), ("forwarded", b"for=192.0.2.2")];
    for (named, expected) in [
        (ClientAddress::Peer, "10.0.0.1"),
        (ClientAddress::XForwardedFor, "192.0.2.1"),
        (ClientAddress::Forwarded, "192.0.2.2"),
    ] {
        assert_eq!(client(&proxies(named), "10.0.0.1", &both), expected, "{named:?}");
    }
}

#[test]
fn a_quote_that_a_client_leaves_open_does_not_hide_it() {
    let field = b"for=\"203.0.113.1, for=192.0.2.1;proto=https, for=\"10.0.0.2:80\"";
    assert_eq!(client(&proxies(ClientAddress::Forwarded), "10.0.0.1", &[("forwarded", field)]), "192.0.2.1");
}

#[test]
fn a_chain_without_end_is_read_so_far_and_no_further() {
    let long = vec!["10.0.0.9"; HOPS_MAX + 1].join(",");
    let field = format!("192.0.2.1,{long}");
    let found = client(&proxies(ClientAddress::XForwardedFor), "10.0.0.1", &[(XFF, field.as_bytes())]);
    assert_eq!(found, "10.0.0.9");
}

/// What stands in such headers, in any order.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "for=",
        "For=",
        "\"",
        "\\",
        ",",
        ";",
        "=",
        "[",
        "]",
        ":",
        "10.0.0.1",
        "192.0.2.1",
        "::1",
        "unknown",
        "_x",
        " ",
        "fd00::1",
        "for=10.0.0.1",
        "65536",
        "\t",
        "",
    ];
    prop_oneof![
        prop::sample::select(words.map(|word| word.as_bytes().to_vec()).to_vec()),
        prop::collection::vec(32_u8..=255, 0..4)
            .prop_map(|bytes| bytes.into_iter().filter(|b| *b != 127).collect()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn whatever_stands_in_a_header_what_a_proxy_adds_behind_it_is_found(
        pieces in prop::collection::vec(piece(), 0..12),
    ) {
        let made_up = pieces.concat();
        for (named, name, added) in [
            (ClientAddress::XForwardedFor, XFF, "192.0.2.1"),
            (ClientAddress::Forwarded, "forwarded", "for=192.0.2.1"),
        ] {
            let field = [&made_up[..], b", ", added.as_bytes()].concat();
            prop_assert_eq!(client(&proxies(named), "10.0.0.1", &[(name, &field)]), "192.0.2.1");
            // Without an entry of a proxy's it is worth nothing, and still no panic.
            let _ = client(&proxies(named), "10.0.0.1", &[(name, &made_up)]);
        }
    }
}
