//! Certificates by ACME, got from real Pebble by a running Usher; and what operators and users see of certificates.

mod accounts;
#[path = "../../../certs/tests/dns/bind.rs"]
mod bind;
mod credulous;
mod dns;
mod faults;
mod files;
mod hosts;
mod operators;
mod propagation;
mod renewals;

use credulous::shown;
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use std::time::Duration;
use tests::{Certificate, CertificateAuthority, DOMAIN, FalseAuthority, Setup, Terms, Usher, wait_for};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// How long getting one may take: some ten answers of the authority, half of whose nonces are refused.
const GETTING: Duration = Duration::from_secs(30);

/// By `http-01`, one for each host.
const BY_HTTP: &str = "challenge = \"http-01\"\nper_host = true\n";
/// What an Usher says when it got none.
const FAILED: &str = "a certificate could not be got; what there is is served on";

/// The table of an authority by the name `pebble`.
fn acme(directory: &str, authority: &CertificateAuthority) -> String {
    format!(
        "[acme.pebble]\ndirectory = \"{directory}\"\nterms_of_service_agreed = true\ncertificate_authority = {:?}\n",
        authority.certificate().certificate(),
    )
}

/// The tables of an authority and of one certificate.
fn tables(directory: &str, authority: &CertificateAuthority, certificate: &str) -> String {
    format!("{}\n[certificates.site]\nsource = \"acme\"\n{certificate}\n", acme(directory, authority))
}

/// An Usher whose listeners the authority asks.
async fn usher(authority: &CertificateAuthority, certificate: &str) -> Usher {
    started(authority, &tables(&authority.directory(), authority, certificate)).await
}

/// One with these tables.
async fn started(authority: &CertificateAuthority, tables: &str) -> Usher {
    let usher = Setup::new(tables).https().start().await;
    asked(authority, &usher);
    usher
}

/// The authority asks this Usher from now on.
fn asked(authority: &CertificateAuthority, usher: &Usher) {
    let listeners = usher.listeners();
    authority.asks_by_tls(&listeners[..1]);
    authority.asks_by_http(&listeners[1..]);
}

/// An authority that gives whatever it is asked for, and another before it that fails as the test says.
async fn false_one() -> (CertificateAuthority, FalseAuthority) {
    let real = CertificateAuthority::start_with(Terms { bad_nonces: 0, ..Terms::default() }).await;
    let faulty = FalseAuthority::before(&real).await;
    (real, faulty)
}

/// The two of [`false_one`], and an Usher that asks the second one, for [`DOMAIN`] alone.
async fn before_a_false_one() -> (CertificateAuthority, FalseAuthority, Usher) {
    let (real, faulty) = false_one().await;
    let usher = started(&real, &tables(&faulty.directory(), &real, BY_HTTP)).await;
    (real, faulty, usher)
}

/// What `usher certs list --json` tells of one certificate.
fn listed(usher: &Usher, id: &str) -> Value {
    let (done, text) = usher.command(&["certs", "list", "--json"]);
    assert!(done, "{text}");
    let all: Vec<Value> = serde_json::from_str(&text).expect("it is JSON");
    all.into_iter().find(|one| one["id"] == id).unwrap_or_else(|| panic!("there is no {id}"))
}

/// The one of [`DOMAIN`], of certificates made per host.
const SITE: &str = "site--lab.localhost";

/// Has it renewed, as an operator does.
fn renew(usher: &Usher, name: &str) {
    let (done, text) = usher.command(&["certs", "renew", name]);
    assert!(done, "{text}");
}

/// Has it replaced by this one, as an operator does; whether that was done, and what was said.
fn import(usher: &Usher, name: &str, pair: &Certificate) -> (bool, String) {
    let files = [pair.certificate(), pair.private_key()].map(|file| file.display().to_string());
    usher.command(&["certs", "import", name, "--certificate", &files[0], "--private-key", &files[1]])
}

/// Waits until it was tried in vain so often since the start; why not, the last time.
async fn failures(usher: &Usher, many: usize) -> String {
    let causes = async || Some(usher.logs.values(FAILED, "cause")).filter(|causes| causes.len() >= many);
    wait_for("a failure", GETTING * 2, causes).await.pop().expect("there are some")
}

/// Waits until a host is shown another certificate than this.
async fn await_another(usher: &Usher, host: &str, than: &CertificateDer<'_>) -> CertificateDer<'static> {
    let address = usher.listeners()[0];
    let other = async || shown(address, host).await.filter(|certificate| certificate != than);
    wait_for("another certificate", GETTING, other).await
}

/// Waits until a host has a certificate.
async fn await_certificate(usher: &Usher, host: &str) -> CertificateDer<'static> {
    let address = usher.listeners()[0];
    let got = wait_for("a certificate", GETTING, async || shown(address, host).await);
    got.await
}

fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).expect("a certificate is X.509");
    let names = certificate.subject_alternative_name().expect("it is well formed").expect("it has names");
    let mut names: Vec<String> = names
        .value
        .general_names
        .iter()
        .map(|name| match name {
            GeneralName::DNSName(name) => (*name).to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    names.sort_unstable();
    names
}

/// Whether whoever trusts the authority is served under this host.
async fn is_trusted(usher: &Usher, authority: &CertificateAuthority, host: &str) -> bool {
    let key = rcgen::KeyPair::generate().expect("random numbers").serialize_pem();
    let trusting = Certificate::issued(authority.root(), &key, authority.root());
    trusting.connect(usher.listeners()[0], host, "http/1.1").await.is_ok()
}

#[tokio::test]
async fn a_host_gets_its_certificate_by_http_01() {
    let authority = CertificateAuthority::start().await;
    let usher = usher(&authority, "challenge = \"http-01\"\nper_host = true\n").await;
    let certificate = await_certificate(&usher, DOMAIN).await;
    assert_eq!(names(&certificate), [DOMAIN]);
    assert!(is_trusted(&usher, &authority, DOMAIN).await);
    assert!(shown(usher.listeners()[0], &format!("nobody.{DOMAIN}")).await.is_none());
}

#[tokio::test]
async fn a_host_gets_its_certificate_by_tls_alpn_01() {
    let authority = CertificateAuthority::start().await;
    let usher = usher(&authority, "challenge = \"tls-alpn-01\"\nper_host = true\n").await;
    let certificate = await_certificate(&usher, DOMAIN).await;
    assert_eq!(names(&certificate), [DOMAIN]);
    assert!(is_trusted(&usher, &authority, DOMAIN).await);
}
