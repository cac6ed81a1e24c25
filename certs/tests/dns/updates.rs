//! Dynamic updates at a real BIND.

use super::bind::SECRET;
use super::servers::{Servers, host};
use certs::DnsError;
use config::DnsProviderKind;
use futures_util::future::join_all;
use std::net::UdpSocket;
use std::time::Duration;

const NAME: &str = "_acme-challenge.lab.test";

#[tokio::test]
async fn both_texts_of_a_name_stand_beside_each_other_and_go_one_by_one() {
    let servers = Servers::start().await;
    let records = servers.records();
    let lab = host("lab.test");
    for text in ["one", "two", "two"] {
        records.present(&lab, text).await.unwrap();
    }
    assert_eq!(servers.primary.texts(NAME), ["one", "two"]);
    let propagated = records.propagated(&lab, &["one".to_owned(), "two".to_owned()]).await.unwrap();
    assert!(propagated.silent.is_empty(), "{propagated:?}");
    assert_eq!(servers.secondary.texts(NAME), ["one", "two"]);
    records.clear(&lab, "one").await.unwrap();
    assert_eq!(servers.primary.texts(NAME), ["two"]);
    for _ in 0..2 {
        records.clear(&lab, "two").await.unwrap();
    }
    assert!(servers.primary.texts(NAME).is_empty());
}

#[tokio::test]
async fn two_hundred_rounds_leave_no_record() {
    let servers = Servers::start().await;
    let records = servers.records();
    // Eight hosts at once, one round after the other.
    let hosts: Vec<String> = (0..8).map(|number| format!("host{number}.records.test")).collect();
    let rounds = hosts.iter().map(async |name| {
        let (name, host) = (format!("_acme-challenge.{name}"), host(name));
        for round in 0..25 {
            let texts = [format!("of the name {round}"), format!("of the wildcard {round}")];
            for text in &texts {
                records.present(&host, text).await.unwrap();
            }
            let propagated = records.propagated(&host, &texts).await.unwrap();
            assert!(propagated.silent.is_empty(), "{propagated:?}");
            assert_eq!(servers.secondary.texts(&name), texts, "round {round} of {name}");
            for text in &texts {
                records.clear(&host, text).await.unwrap();
            }
        }
        assert!(servers.primary.texts(&name).is_empty(), "{name}");
    });
    join_all(rounds).await;
}

#[tokio::test]
async fn every_algorithm_of_a_key_is_spoken() {
    let servers = Servers::start().await;
    for key in ["usher", "usher-384", "usher-512"] {
        let records = servers.records_of(servers.provider(servers.updates(key, SECRET)));
        records.present(&host("lab.test"), key).await.unwrap();
        assert_eq!(servers.primary.texts(NAME), [key]);
        records.clear(&host("lab.test"), key).await.unwrap();
    }
}

#[tokio::test]
async fn a_refusal_names_what_is_wrong_and_what_to_do() {
    let servers = Servers::start().await;
    let refused = async |kind: DnsProviderKind, of: &str| {
        let records = servers.records_of(servers.provider(kind));
        let error = records.present(&host(of), "text").await.unwrap_err();
        assert!(matches!(error, DnsError::Refused { .. }), "{error:?}");
        let told = error.to_string();
        assert!(told.contains("home") && told.contains(of), "{told}");
        assert!(told.contains(&servers.primary.address.to_string()), "{told}");
        told
    };
    let other = "YW5vdGhlciBzZWNyZXQ=";
    let told = refused(servers.updates("usher", other), "lab.test").await;
    assert!(told.contains("NOTAUTH (BADSIG); it has another secret for this key"), "{told}");
    assert!(!told.contains(other), "{told}");
    let told = refused(servers.updates("nobody", SECRET), "lab.test").await;
    assert!(told.contains("NOTAUTH (BADKEY); it knows no key of this name"), "{told}");
    let told = refused(servers.updates("usher", SECRET), "bob.lab.test").await;
    assert!(told.contains("REFUSED; its policy"), "{told}");
    let told = refused(servers.updates("usher", SECRET), "fixed.test").await;
    assert!(told.contains("in zone fixed.test: REFUSED"), "{told}");
    let unsigned = DnsProviderKind::Rfc2136 { server: servers.primary.address, zone: None, tsig: None };
    let told = refused(unsigned, "lab.test").await;
    assert!(told.contains("REFUSED"), "{told}");
    assert!(servers.primary.texts(NAME).is_empty());
}

#[tokio::test]
async fn a_wrong_zone_is_told() {
    let servers = Servers::start().await;
    let with_zone = |zone: &str, server| {
        let mut kind = servers.updates("usher", SECRET);
        if let DnsProviderKind::Rfc2136 { zone: of, server: at, .. } = &mut kind {
            (*of, *at) = (Some(host(zone)), server);
        }
        servers.records_of(servers.provider(kind))
    };
    let primary = servers.primary.address;
    with_zone("lab.test", primary).present(&host("lab.test"), "text").await.unwrap();
    let error = with_zone("records.test", primary).present(&host("lab.test"), "text").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "_acme-challenge.lab.test is not in records.test, the zone of dns_providers.home; set its zone right, or \
         leave it out"
    );
    // A zone that the server has as a part of another.
    let error = with_zone("a.lab.test", primary).present(&host("b.a.lab.test"), "text").await.unwrap_err();
    assert!(error.to_string().contains("NOTAUTH; it is not the primary server of this zone"), "{error}");
    // The secondary knows nothing of the key, and could not write.
    let error = with_zone("lab.test", servers.secondary.address).present(&host("lab.test"), "text").await;
    let told = error.unwrap_err().to_string();
    assert!(told.contains("(BADKEY); it knows no key"), "{told}");
}

#[tokio::test]
async fn a_server_that_is_not_there_or_says_nothing_is_told() {
    let servers = Servers::start().await;
    let at = |server| {
        let mut kind = servers.updates("usher", SECRET);
        if let DnsProviderKind::Rfc2136 { server: at, .. } = &mut kind {
            *at = server;
        }
        servers.records_of(servers.provider(kind))
    };
    let mute = UdpSocket::bind(servers.at(5)).expect("nobody is there");
    for server in [servers.at(4), mute.local_addr().unwrap()] {
        let error = at(server).present(&host("lab.test"), "text").await.unwrap_err();
        assert!(matches!(error, DnsError::Unreachable { .. }), "{error:?}");
        let told = error.to_string();
        assert!(told.contains(&server.to_string()) && told.contains("home") && told.contains(NAME), "{told}");
    }
}

#[tokio::test]
async fn a_delegated_name_is_written_and_seen_where_its_cnames_lead() {
    let servers = Servers::start().await;
    let records = servers.records();
    let alias = host("alias.lab.test");
    records.present(&alias, "text").await.unwrap();
    assert_eq!(servers.primary.texts("alias.records.test"), ["text"]);
    let propagated = records.propagated(&alias, &["text".to_owned()]).await.unwrap();
    assert!(propagated.silent.is_empty(), "{propagated:?}");
    assert_eq!(servers.secondary.texts("alias.records.test"), ["text"]);
    records.clear(&alias, "text").await.unwrap();
    assert!(servers.primary.texts("alias.records.test").is_empty());
}

#[tokio::test]
async fn the_cname_of_a_wildcard_is_no_delegation() {
    let servers = Servers::start().await;
    let records = servers.records();
    let host = host("wild.records.test");
    for text in ["one", "two"] {
        records.present(&host, text).await.unwrap();
    }
    let both = ["one", "two"].map(str::to_owned);
    assert_eq!(servers.primary.texts("_acme-challenge.wild.records.test"), both);
    let propagated = records.propagated(&host, &both).await.unwrap();
    assert!(propagated.silent.is_empty(), "{propagated:?}");
    for text in both {
        records.clear(&host, &text).await.unwrap();
    }
    assert!(servers.primary.texts("_acme-challenge.wild.records.test").is_empty());
    // Below a name that the wildcard makes as well.
    let deep = self::host("alice.wild.records.test");
    records.present(&deep, "three").await.unwrap();
    assert_eq!(servers.primary.texts("_acme-challenge.alice.wild.records.test"), ["three"]);
}

#[tokio::test]
async fn cnames_that_go_round_are_told() {
    let servers = Servers::start().await;
    let mut provider = servers.provider(servers.updates("usher", SECRET));
    provider.propagation_timeout = Duration::from_secs(3);
    let records = servers.records_of(provider);
    let round = host("round.lab.test");
    let says = "the CNAME records that begin at _acme-challenge.round.lab.test do not end within 8 steps \
        (dns_providers.home)";
    assert_eq!(records.present(&round, "text").await.unwrap_err().to_string(), says);
    assert_eq!(records.propagated(&round, &["text".to_owned()]).await.unwrap_err().to_string(), says);
}
