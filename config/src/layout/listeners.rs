//! `[[listeners]]`: where Usher is reached.

use crate::model::{Listener, ListenerProtocol, Login};
use crate::reader::{Field, Table, value};
use std::net::SocketAddr;

const PROTOCOLS: [(&str, ListenerProtocol); 3] = [
    ("http", ListenerProtocol::Http),
    ("https", ListenerProtocol::Https),
    ("redirect", ListenerProtocol::Redirect),
];

/// A listener, and where in the file each of its addresses stands.
pub(crate) struct Bound<'a> {
    /// The listener.
    pub(crate) listener: Listener,
    places: Vec<Place<'a>>,
}

struct Place<'a> {
    address: SocketAddr,
    field: Field<'a>,
}

/// Reads all listeners, which must not be in each other's way.
pub(crate) fn listeners<'a>(root: &mut Table<'a>, login: Option<&Login>) -> Option<Vec<Bound<'a>>> {
    // What is wrong with the list itself is told where it stands.
    let has_proxies = root.has_items("trusted_proxies");
    let listeners = root.tables("listeners", |table| listener(table, has_proxies))?;
    let places: Vec<&Place<'_>> = listeners.iter().flat_map(|bound| &bound.places).collect();
    for (index, place) in places.iter().enumerate() {
        if let Some(other) = places[..index].iter().find(|other| overlap(other.address, place.address)) {
            let problem = format!("`{}` is taken by `{}` above", place.address, other.address);
            place.field.fault(problem, "another address or port");
        }
        if let Some(login) = login
            && login.development
            && !login.development_from_anywhere_unsafe
            && !place.address.ip().is_loopback()
        {
            let problem =
                format!("the development login would be open to whoever reaches `{}`", place.address);
            let accepted = "127.0.0.1 or [::1]; login.development = false; or, if you accept that anybody can be \
                anybody, login.development_from_anywhere_unsafe = true";
            place.field.fault(problem, accepted);
        }
    }
    redirects_lead_somewhere(&listeners);
    Some(listeners)
}

fn redirects_lead_somewhere(listeners: &[Bound<'_>]) {
    let speaks = |protocol| move |bound: &&Bound<'_>| bound.listener.protocol == protocol;
    if listeners.iter().any(|bound| speaks(ListenerProtocol::Https)(&bound)) {
        return;
    }
    for place in
        listeners.iter().filter(speaks(ListenerProtocol::Redirect)).filter_map(|bound| bound.places.first())
    {
        place.field.fault("there is no listener to lead to", "another listener with protocol = \"https\"");
    }
}

/// Whether the two cannot both be bound: the same port, on the same address or on all of the family.
pub(crate) fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip = a.ip() == b.ip()
        || (a.is_ipv4() == b.is_ipv4() && (a.ip().is_unspecified() || b.ip().is_unspecified()));
    a.port() == b.port() && a.port() != 0 && same_ip
}

fn listener<'a>(table: &mut Table<'a>, has_proxies: bool) -> Option<Bound<'a>> {
    let places = addresses(table);
    let public_port = table.maybe("public_port", value::integer(1..=u16::MAX));
    let protocol = table.value("protocol", value::word(&PROTOCOLS, "what a listener speaks"));
    let proxy_protocol = proxy_protocol(table, has_proxies);
    let places = places?;
    let addresses = places.iter().map(|place| place.address).collect();
    let listener = Listener {
        addresses,
        public_port: public_port?,
        protocol: protocol?,
        proxy_protocol: proxy_protocol?,
    };
    Some(Bound { listener, places })
}

fn proxy_protocol(table: &mut Table<'_>, has_proxies: bool) -> Option<bool> {
    let proxy_protocol = table.value("proxy_protocol", value::boolean)?;
    if proxy_protocol && !has_proxies {
        let problem = "nobody is trusted to send this header, so that nobody could connect";
        table.fault("proxy_protocol", problem, "the proxies' networks in trusted_proxies");
    }
    Some(proxy_protocol)
}

fn addresses<'a>(table: &mut Table<'a>) -> Option<Vec<Place<'a>>> {
    let fields = table.items("address", true)?;
    if fields.is_empty() {
        table.fault(
            "address",
            "is empty",
            "one address or more, such as [\"127.0.0.1:8080\", \"[::1]:8080\"]",
        );
        return None;
    }
    let place = |field: Field<'a>| Some(Place { address: field.parse(value::socket_address)?, field });
    let read_all: Vec<Option<Place<'a>>> = fields.into_iter().map(place).collect();
    read_all.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_in_each_others_way_on_one_port() {
        let overlaps = |a: &str, b: &str| overlap(a.parse().unwrap(), b.parse().unwrap());
        for (a, b, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::1]:80", "[::]:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "[::1]:80", false),
            ("0.0.0.0:80", "[::1]:80", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            assert_eq!(overlaps(a, b), expected, "{a} {b}");
        }
    }
}
