//! Renewals: when, and what the authority is told.

use super::{
    BY_HTTP, DOMAIN, FAILED, GETTING, SITE, asked, await_another, await_certificate, before_a_false_one,
    failures, listed, renew, shown, started, tables,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::StatusCode;
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tests::{CertificateAuthority, FalseAuthority, Fault, Kind, Setup, Terms, WallClock, wait_for};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The profile of certificates that are good for so long, beside the usual ones: who asks for none gets either.
fn with_short_ones(lasts: Duration) -> Terms {
    let mut terms = Terms::default();
    terms.profiles.insert("short".to_owned(), lasts);
    terms
}

/// With its table's keys: that profile.
fn of_short_ones(tables: &str) -> String {
    tables.replace("terms_of", "profile = \"short\"\nterms_of")
}

fn serial(certificate: &CertificateDer<'_>) -> Vec<u8> {
    let (_, certificate) = X509Certificate::from_der(certificate).expect("a certificate is X.509");
    certificate.raw_serial().to_vec()
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

/// The second of these orders says that what it gives takes the place of this certificate.
fn replaces(orders: &[Value], first: &CertificateDer<'_>) {
    let serial = serial(first);
    // One that begins with a zero, for its sign, Pebble does not find: then nothing is replaced.
    if serial[0] != 0 {
        let replaced = orders[1]["replaces"].as_str().expect("it says what it replaces");
        assert_eq!(replaced.split('.').next_back(), Some(URL_SAFE_NO_PAD.encode(serial).as_str()));
    }
}

#[tokio::test]
async fn a_certificate_of_a_short_life_is_renewed_with_a_third_of_it_left() {
    let real = CertificateAuthority::start_with(with_short_ones(Duration::from_secs(30))).await;
    let faulty = FalseAuthority::before(&real).await;
    // It has no wish.
    faulty.fails(Kind::RenewalInfo, Fault::problem(StatusCode::NOT_FOUND, "malformed", None));
    let usher = started(&real, &of_short_ones(&tables(&faulty.directory(), &real, BY_HTTP))).await;
    let first = await_certificate(&usher, DOMAIN).await;
    let (begins, ends) = life(&first);
    assert!((28..=32).contains(&(ends - begins)), "{begins} {ends}");
    let second = await_another(&usher, DOMAIN, &first).await;
    let third = begins + (ends - begins) * 3 / 5;
    assert!((third..ends).contains(&now()), "{begins} {} {ends}", now());
    let orders = faulty.orders();
    assert_eq!(orders.len(), 2, "{orders:?}");
    assert_eq!(orders[0]["profile"], "short");
    assert!(orders[0].get("replaces").is_none(), "{orders:?}");
    replaces(&orders, &first);
    assert_ne!(serial(&second), serial(&first));
}

/// When an authority wants a renewal at once.
const LONG_AGO: &str =
    r#"{ "suggestedWindow": { "start": "2020-01-01T00:00:00Z", "end": "2020-01-02T00:00:00Z" } }"#;

/// The PEM of one certificate.
fn pem(certificate: &CertificateDer<'_>) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(certificate))
}

#[tokio::test]
async fn a_certificate_is_renewed_when_its_authority_wants_it() {
    // How long Pebble does not want to be asked again (`RenewalInfo` of its wfe).
    const SIX_HOURS: i64 = 6 * 3600;
    let real = CertificateAuthority::start().await;
    // Which only counts.
    let before = FalseAuthority::before(&real).await;
    let clock = WallClock::new();
    let usher = clock.of(Setup::new(&tables(&before.directory(), &real, BY_HTTP)).https()).start().await;
    asked(&real, &usher);
    let first = await_certificate(&usher, DOMAIN).await;
    // In sixty days, it says.
    wait_for("it to be asked when", GETTING, async || (before.asked(Kind::RenewalInfo) > 0).then_some(()))
        .await;
    real.says_of_renewal(&pem(&first), LONG_AGO).await;
    let usher = usher.killed_and_restarted_after(|| clock.is_ahead(SIX_HOURS + 60)).await;
    asked(&real, &usher);
    await_another(&usher, DOMAIN, &first).await;
    let orders = before.orders();
    assert_eq!(orders.len(), 2, "{orders:?}");
    replaces(&orders, &first);
}

#[tokio::test]
async fn what_an_authority_has_forgotten_is_renewed_all_the_same() {
    let (_real, faulty, usher) = before_a_false_one().await;
    let first = await_certificate(&usher, DOMAIN).await;
    faulty.fails(Kind::NewOrder, Fault::Forgets);
    renew(&usher, SITE);
    await_another(&usher, DOMAIN, &first).await;
    assert!(faulty.orders()[1].get("replaces").is_none(), "{:?}", faulty.orders());
    assert!(usher.logs.events(FAILED).is_empty());
}

/// Asks for what is shown again and again, each time in a new handshake, until it is renewed. The authority wants that
/// soon, is down by then, and comes back after so long.
async fn served_while_down(lasts: Duration, down: Duration) {
    let real = CertificateAuthority::start_with(with_short_ones(lasts)).await;
    let mut faulty = FalseAuthority::before(&real).await;
    let (retry_after, body) = (Some("21600".to_owned()), LONG_AGO.to_owned());
    faulty.fails(Kind::RenewalInfo, Fault::Says { status: StatusCode::OK, retry_after, body });
    let usher = started(&real, &of_short_ones(&tables(&faulty.directory(), &real, BY_HTTP))).await;
    let first = await_certificate(&usher, DOMAIN).await;
    let (begins, ends) = life(&first);
    wait_for("the wish to be known", GETTING, async || {
        listed(&usher, SITE)["next"]["at"].as_u64().filter(|at| *at < begins + (ends - begins) / 3)
    })
    .await;
    faulty.goes_down().await;
    let (begun, mut is_down, mut handshakes) = (Instant::now(), true, 0);
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    let failures = || usher.logs.events(FAILED).len();
    loop {
        ticks.tick().await;
        let now = shown(usher.listeners()[0], DOMAIN).await.expect("something is always shown");
        handshakes += 1;
        if now != first {
            break;
        }
        assert!(begun.elapsed() < lasts, "it has ended, after {} tries in vain", failures());
        if is_down && begun.elapsed() > down && failures() > 0 {
            faulty.comes_up().await;
            is_down = false;
        }
    }
    let (took, failures) = (begun.elapsed(), failures());
    println!(
        "renewed {took:?} after it went down for {down:?}: {handshakes} handshakes, {failures} tries in vain"
    );
    assert!(!is_down && now() < ends);
    assert_eq!(faulty.orders().len(), 2);
}

#[tokio::test]
async fn while_an_authority_is_down_at_the_time_of_a_renewal_every_handshake_shows_what_there_is() {
    served_while_down(Duration::from_mins(6), Duration::from_secs(10)).await;
}

#[tokio::test]
#[ignore = "long: for `make soak`"]
async fn an_authority_may_be_down_for_five_of_ten_minutes() {
    served_while_down(Duration::from_mins(10), Duration::from_mins(5)).await;
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
    asked(&real, &somebody);
    await_certificate(&somebody, DOMAIN).await;
    assert!(!somebody.logs.all().contains(EXTERNAL));
    assert!(somebody.logs.events(FAILED).is_empty());

    let wrong = Setup::new(&tables).https().environment("EAB", "bm90IHRoZSBrZXkgb2YgdGhpcyBhY2NvdW50IQ");
    let wrong = wrong.start().await;
    let cause = failures(&wrong, 1).await;
    wait_for("the failure to be listed", GETTING, async || {
        listed(&wrong, SITE)["failures"].to_string().contains(&cause).then_some(())
    })
    .await;
}
