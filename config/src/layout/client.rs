//! `trusted_proxies`, `client_address` and `[limits]`: where clients are, and how much they may ask for.

use crate::expression::Scope;
use crate::model::{ClientAddress, Limits, Proxies};
use crate::network::AddressLists;
use crate::reader::{Table, value};

/// Most of anything in a minute: beyond it a limit is none.
const PER_MINUTE_MAX: u32 = 1_000_000_000;

/// Reads whom to believe. What trusts nobody, and what nobody is trusted for, is a slip.
pub(super) fn proxies(root: &mut Table<'_>, has_proxy_protocol: bool) -> Option<Proxies> {
    let trusted = root.value("trusted_proxies", value::list(value::network));
    let words = [
        ("peer", ClientAddress::Peer),
        ("x-forwarded-for", ClientAddress::XForwardedFor),
        ("forwarded", ClientAddress::Forwarded),
    ];
    let client_address = root.value("client_address", value::word(&words, "a place of a client's address"));
    let proxies = Proxies { trusted: trusted?, client_address: client_address? };
    let reads_a_header = proxies.client_address != ClientAddress::Peer;
    if proxies.trusted.is_empty() && reads_a_header {
        let problem = "nobody is trusted to set this header";
        root.fault("client_address", problem, "\"peer\"; or the proxies' networks in trusted_proxies");
    }
    if !proxies.trusted.is_empty() && !reads_a_header && !has_proxy_protocol {
        let problem = "nothing is asked of these proxies";
        let accepted =
            "client_address = \"x-forwarded-for\" or \"forwarded\"; or proxy_protocol = true at a listener";
        root.fault("trusted_proxies", problem, accepted);
    }
    Some(proxies)
}

/// Reads `[limits]`.
pub(super) fn limits(table: &mut Table<'_>) -> Option<Limits> {
    let handshakes_per_address = table.value("handshakes_per_address", value::integer(1..=PER_MINUTE_MAX));
    let handshakes = table.value("handshakes", value::integer(1..=1_000_000));
    let requests_per_address = table.value("requests_per_address", value::integer(1..=PER_MINUTE_MAX));
    let logins_per_address = table.value("logins_per_address", value::integer(1..=PER_MINUTE_MAX));
    let bad_tokens_per_address = table.value("bad_tokens_per_address", value::integer(1..=PER_MINUTE_MAX));
    let requests_per_user = table.rule("requests_per_user", Scope::Limit);
    let spawns_per_user = table.rule("spawns_per_user", Scope::Limit);
    let messages_per_user = table.rule("messages_per_user", Scope::Limit);
    Some(Limits {
        handshakes_per_address: handshakes_per_address?,
        handshakes: handshakes?,
        requests_per_address: requests_per_address?,
        logins_per_address: logins_per_address?,
        bad_tokens_per_address: bad_tokens_per_address?,
        requests_per_user: requests_per_user?.expression,
        spawns_per_user: spawns_per_user?.expression,
        messages_per_user: messages_per_user?.expression,
    })
}

/// Reads `allow_addresses` and `deny_addresses` of a table.
pub(super) fn address_lists(table: &mut Table<'_>) -> Option<AddressLists> {
    let allow = table.value("allow_addresses", value::list(value::network));
    let deny = table.value("deny_addresses", value::list(value::network));
    Some(AddressLists { allow: allow?, deny: deny? })
}
