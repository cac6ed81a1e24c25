//! Where clients are, and how much they may ask for.

use super::{GOOD, each_is_told, findings, parse, with};
use crate::{ClientAddress, Subject};

#[test]
fn nobody_is_trusted_and_limits_are_generous_unless_the_file_says_so() {
    let config = parse(GOOD).unwrap();
    assert!(config.proxies.trusted.is_empty() && !config.listeners[0].proxy_protocol);
    assert_eq!(config.proxies.client_address, ClientAddress::Peer);
    assert_eq!((config.limits.requests_per_address, config.limits.logins_per_address), (30_000, 10));
    assert_eq!(config.limits.bad_tokens_per_address, 30);
    let alice = Subject { name: "alice".to_owned(), ..Subject::default() };
    let limits = &config.limits;
    let given = [&limits.requests_per_user, &limits.spawns_per_user, &limits.messages_per_user]
        .map(|rule| rule.evaluate_being(&alice, Some("")).unwrap());
    assert_eq!(given, [6_000, 20, 60_000]);
    assert_eq!(config.access.tier.evaluate_being(&alice, None).as_deref(), Ok(""));
    let anywhere = "192.0.2.1".parse().unwrap();
    let demo = config.templates.values().next().unwrap();
    assert!(config.access.addresses.permits(anywhere) && demo.addresses.permits(anywhere));
}

#[test]
fn trust_that_nobody_needs_and_what_needs_trust_are_told_with_their_places() {
    each_is_told(&[
        (
            "[[listeners]]",
            "trusted_proxies = ['10.0.0.0/8']\n[[listeners]]",
            "f:2:19: trusted_proxies: nothing is asked of these proxies",
        ),
        (
            "[[listeners]]",
            "client_address = 'forwarded'\n[[listeners]]",
            "f:2:18: client_address: nobody is trusted to set this header",
        ),
        (
            "[access]",
            "proxy_protocol = true\n[access]",
            "f:4:18: listeners[0].proxy_protocol: nobody is trusted to send this header",
        ),
        (
            "[[listeners]]",
            "trusted_proxies = ['10.0.0.1/8']\nclient_address = 'forwarded'\n[[listeners]]",
            "f:2:19: trusted_proxies: `['10.0.0.1/8']` is not a network",
        ),
        (
            "[[listeners]]",
            "client_address = 'x-real-ip'\n[[listeners]]",
            "f:2:18: client_address: `'x-real-ip'` is not a place of a client's address",
        ),
        (
            "[templates.demo]",
            "[templates.demo]\nallow_addresses = ['10.0.0.1']",
            "f:8:19: templates.demo.allow_addresses: `['10.0.0.1']` is not a network",
        ),
    ]);
}

#[test]
fn proxies_are_believed_by_a_header_or_by_the_proxy_protocol() {
    for (good, fine) in [
        (
            "[[listeners]]",
            "trusted_proxies = ['10.0.0.0/8']\nclient_address = 'x-forwarded-for'\n[[listeners]]",
        ),
        ("[[listeners]]", "trusted_proxies = ['::1/128']\n[[listeners]]\nproxy_protocol = true"),
        ("[[listeners]]", "trusted_proxies = []\nclient_address = 'peer'\n[[listeners]]"),
    ] {
        assert_eq!(with(good, fine), "", "{fine}");
    }
}

#[test]
fn a_limit_is_a_number_for_an_address_and_a_rule_for_a_user() {
    let limits = |keys: &str| findings(&format!("{GOOD}[limits]\n{keys}\n"));
    assert_eq!(limits("requests_per_address = 1\nspawns_per_user = \"user.tier == 'a' ? 9 : 1\""), "");
    for (keys, told) in [
        ("requests_per_address = 0", "limits.requests_per_address: `0` is not a number in range"),
        ("bad_tokens_per_address = 0", "limits.bad_tokens_per_address: `0` is not a number"),
        ("logins_per_address = 2000000000", "limits.logins_per_address: `2000000000` is not a number"),
        ("requests_per_user = 60", "limits.requests_per_user: `60` is not a string"),
        ("spawns_per_user = \"request.path\"", "limits.spawns_per_user: unknown variable `request`"),
        ("messages_per_user = \"'many'\"", "limits.messages_per_user: the expression gives string"),
    ] {
        assert!(limits(keys).contains(told), "{}", limits(keys));
    }
}

#[test]
fn a_provider_is_open_to_some_addresses_only() {
    let provider = "[login.providers.uni]\nissuer = 'https://id.example.org'\nclient_id = 'usher'\n\
        client_secret = { from_env = 'TOKEN' }\nallow_addresses = ['10.0.0.0/8']\ndeny_addresses = ['10.9.0.0/16']\n";
    let config = parse(&format!("{GOOD}{provider}")).unwrap_or_else(|e| panic!("{e}"));
    let provider = config.login.providers.values().next().unwrap();
    for (address, expected) in [("10.1.1.1", true), ("10.9.1.1", false), ("192.0.2.1", false)] {
        assert_eq!(provider.permits(address.parse().unwrap()), expected, "{address}");
    }
}
