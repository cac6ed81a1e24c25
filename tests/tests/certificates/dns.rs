//! Certificates for a domain and all hosts below it, by `dns-01`.

use super::bind::{Bind, SECRET, free};
use super::{GETTING, acme, await_another, await_certificate, names, usher};
use std::net::SocketAddr;
use tempfile::TempDir;
use tests::{CertificateAuthority, DOMAIN, Setup, Terms, Usher};

/// Writes the records of a test's DNS server, as programs of operators are called (README, *Certificates*).
const PROGRAM: &str = r#"
import json, sys, urllib.request
_, at, deed, name, text = sys.argv
path, body = {"present": ("set-txt", {"host": name, "value": text}), "clear": ("clear-txt", {"host": name})}[deed]
body["host"] = body["host"].rstrip(".") + "."
urllib.request.urlopen(at + "/" + path, json.dumps(body).encode(), timeout=10).read()
"#;

/// What every certificate of this file is for.
pub(super) async fn is_for_all_hosts(usher: &Usher) {
    let certificate = await_certificate(usher, DOMAIN).await;
    assert_eq!(names(&certificate), [format!("*.{DOMAIN}"), DOMAIN.to_owned()]);
    assert_eq!(await_certificate(usher, &format!("alice.{DOMAIN}")).await, certificate);
}

#[tokio::test]
async fn a_program_of_the_operator_proves_a_domain_and_all_hosts_below_it() {
    let authority = CertificateAuthority::start().await;
    let folder = TempDir::new().expect("a temporary folder");
    let program = folder.path().join("dns.py");
    std::fs::write(&program, PROGRAM).expect("the folder is ours");
    let at = authority.records();
    let keys = format!(
        "challenge = \"dns-01\"\n\n[dns_providers.own]\nkind = \"exec\"\ncheck_propagation = false\n\
         command = [\"/usr/bin/env\", \"python3\", {program:?}, \"http://{at}\"]\n"
    );
    let usher = usher(&authority, &keys).await;
    is_for_all_hosts(&usher).await;
}

/// A DNS server with a folder of its own.
pub(super) struct Named {
    _bind: Bind,
    pub(super) address: SocketAddr,
    _folder: TempDir,
}

impl Named {
    /// One that listens there and has these zones, the file `zone` in its folder with that text.
    pub(super) fn start(address: SocketAddr, zones: &str, zone: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        std::fs::write(folder.path().join("zone"), zone).expect("the folder is ours");
        let config = format!("recursion no; notify no; }};\n{zones}");
        let bind = Bind::start(folder.path(), "named", address, &config);
        Self { address: bind.address, _bind: bind, _folder: folder }
    }
}

/// The statements of a primary of this zone, which takes updates that are signed with [`SECRET`].
pub(super) fn takes_updates(zone: &str) -> String {
    format!(
        "key usher {{ algorithm hmac-sha256; secret \"{SECRET}\"; }};\n\
         zone \"{zone}\" {{ type primary; file \"zone\"; update-policy {{ grant usher zonesub TXT; }}; }};\n"
    )
}

/// The tables of an Usher that writes records by updates of that server.
pub(super) fn updates(acme: &str, server: SocketAddr, keys: &str) -> String {
    format!(
        "{acme}\n[certificates.site]\nsource = \"acme\"\nchallenge = \"dns-01\"\n\n\
         [dns_providers.bind]\nkind = \"rfc2136\"\nserver = \"{server}\"\nzone = \"{DOMAIN}\"\n{keys}\n\
         tsig = {{ key_name = \"usher\", secret = {{ from_env = \"TSIG\" }} }}\n",
    )
}

/// An authority that asks a real DNS server, which takes the updates of an Usher.
async fn by_updates() -> (CertificateAuthority, Named, Usher) {
    let zone = "$TTL 60\n@ SOA ns you 1 3600 3600 36000 60\n@ NS ns\nns A 127.0.0.1\n";
    let named = Named::start(free(), &takes_updates(DOMAIN), zone);
    let terms = Terms { resolver: Some(named.address), ..Terms::default() };
    let authority = CertificateAuthority::start_with(terms).await;
    let acme = acme(&authority.directory(), &authority);
    let tables = updates(&acme, named.address, "check_propagation = false");
    let usher = Setup::new(&tables).https().environment("TSIG", SECRET).start().await;
    (authority, named, usher)
}

/// So many certificates, one after the other: each is asked for once and is another one.
async fn all_are_issued(many: usize) {
    let (_authority, _named, usher) = by_updates().await;
    is_for_all_hosts(&usher).await;
    let mut before = await_certificate(&usher, DOMAIN).await;
    for _ in 1..many {
        super::renew(&usher, "site");
        before = await_another(&usher, DOMAIN, &before).await;
    }
    assert!(usher.logs.events(super::FAILED).is_empty(), "within {GETTING:?} each");
    assert_eq!(usher.metric("usher_acme_orders_total{result=\"made\"}").await, Some(as_f64(many)));
    assert!(!usher.logs.all().contains(SECRET));
}

fn as_f64(number: usize) -> f64 {
    u32::try_from(number).expect("it is small").into()
}

#[tokio::test]
async fn ten_certificates_are_got_by_updates_of_a_dns_server() {
    all_are_issued(10).await;
}

#[tokio::test]
#[ignore = "long: for `make soak`"]
async fn of_two_hundred_certificates_that_are_asked_for_all_are_issued() {
    all_are_issued(200).await;
}
