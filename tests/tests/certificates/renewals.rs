//! Renewals: when, and what the authority is told.

use super::{
    BY_HTTP, DOMAIN, FAILED, SITE, await_another, await_certificate, failures, listed, started, tables,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use rustls_pki_types::CertificateDer;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tests::{CertificateAuthority, FalseAuthority, Fault, Kind, Setup, Terms, wait_for};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Of certificates that are good for so long.
fn terms(profile: &str, lasts: Duration) -> Terms {
    Terms { bad_nonces: 0, profiles: [(profile.to_owned(), lasts)].into(), ..Terms::default() }
}

/// With its table's keys: which profile.
fn of_profile(tables: &str, profile: &str) -> String {
    tables.replace("terms_of", &format!("profile = \"{profile}\"\nterms_of"))
}

fn serial(certificate: &CertificateDer<'_>) -> String {
    let (_, certificate) = X509Certificate::from_der(certificate).expect("a certificate is X.509");
    URL_SAFE_NO_PAD.encode(certificate.raw_serial())
}

fn life(certificate: &CertificateDer<'_>) -> (u64, u64) {
    let (_, certificate) = X509Certificate::from_der(certificate).expect("a certificate is X.509");
    let validity = certificate.validity();
    let unix = |at: i64| u64::try_from(at).expect("it is after 1970");
    (unix(validity.not_before.timestamp()), unix(validity.not_after.timestamp()))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later").as_secs()
}

#[tokio::test]
async fn a_certificate_of_a_short_life_is_renewed_with_a_third_of_it_left() {
    let real = CertificateAuthority::start_with(terms("short", Duration::from_secs(24))).await;
    let faulty = FalseAuthority::before(&real).await;
    // It has no wish.
    faulty.fails(Kind::RenewalInfo, Fault::problem(StatusCode::NOT_FOUND, "malformed", None));
    let usher = started(&real, &of_profile(&tables(&faulty.directory(), &real, BY_HTTP), "short")).await;
    let first = await_certificate(&usher, DOMAIN).await;
    let (begins, ends) = life(&first);
    assert!((22..=26).contains(&(ends - begins)), "{begins} {ends}");
    let second = await_another(&usher, DOMAIN, &first).await;
    let third = begins + (ends - begins) * 3 / 5;
    assert!((third..ends).contains(&now()), "{begins} {} {ends}", now());
    let orders = faulty.orders();
    assert_eq!(orders.len(), 2, "{orders:?}");
    assert_eq!(orders[0]["profile"], "short");
    assert!(orders[0].get("replaces").is_none(), "{orders:?}");
    let replaced = orders[1]["replaces"].as_str().expect("it says what it replaces");
    assert_eq!(replaced.split('.').next_back(), Some(serial(&first).as_str()));
    assert_ne!(serial(&second), serial(&first));
}

#[tokio::test]
async fn a_certificate_is_renewed_when_its_authority_wants_it() {
    let real = CertificateAuthority::start_with(terms("default", Duration::from_secs(90))).await;
    let faulty = FalseAuthority::before(&real).await;
    let past = r#"{ "suggestedWindow": { "start": "2020-01-01T00:00:00Z", "end": "2020-01-02T00:00:00Z" } }"#;
    let says =
        Fault::Says { status: StatusCode::OK, retry_after: Some("21600".to_owned()), body: past.to_owned() };
    faulty.fails(Kind::RenewalInfo, says);
    let usher = started(&real, &tables(&faulty.directory(), &real, BY_HTTP)).await;
    let first = await_certificate(&usher, DOMAIN).await;
    await_another(&usher, DOMAIN, &first).await;
    let (begins, ends) = life(&first);
    assert!(now() < begins + (ends - begins) / 2);
    let orders = faulty.orders();
    let replaced = orders[1]["replaces"].as_str().expect("it says what it replaces");
    assert_eq!(replaced.split('.').next_back(), Some(serial(&first).as_str()));
}

/// An external account's key, base64url.
const EXTERNAL: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";

#[tokio::test]
async fn who_has_an_external_account_gets_one_of_the_authoritys_and_nobody_else() {
    let external_accounts = BTreeMap::from([("kid-1".to_owned(), EXTERNAL.to_owned())]);
    let real = CertificateAuthority::start_with(Terms { external_accounts, ..Terms::default() }).await;
    let tables = tables(&real.directory(), &real, BY_HTTP);
    let nobody = started(&real, &tables).await;
    let cause = failures(&nobody, 1).await;
    assert!(cause.contains("externalAccountRequired"), "{cause}");
    drop(nobody);

    let bound = "external_account = { key_id = \"kid-1\", hmac_key = { from_env = \"EAB\" } }\nterms_of";
    let tables = tables.replace("terms_of", bound);
    let setup = Setup::new(&tables).https().environment("EAB", EXTERNAL);
    let somebody = setup.start().await;
    super::asked(&real, &somebody);
    await_certificate(&somebody, DOMAIN).await;
    assert!(!somebody.logs.all().contains(EXTERNAL));
    assert!(somebody.logs.events(FAILED).is_empty());

    let wrong = Setup::new(&tables).https().environment("EAB", "bm90IHRoZSBrZXkgb2YgdGhpcyBhY2NvdW50IQ");
    let wrong = wrong.start().await;
    let cause = failures(&wrong, 1).await;
    wait_for("the failure to be listed", super::GETTING, async || {
        listed(&wrong, SITE)["failures"].to_string().contains(&cause).then_some(())
    })
    .await;
}
