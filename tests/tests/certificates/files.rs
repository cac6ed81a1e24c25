//! Files of others, swapped while people work.

use super::{Usher, credulous::shown, listed, wait_for};
use futures_util::future::join_all;
use http::Method;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use rustls_pki_types::CertificateDer;
use std::path::Path;
use std::time::{Duration, Instant};
use tests::{Certificate, DOMAIN, Person, SOON, Setup, wait_instead_of};

/// Within which what was changed is shown.
const SHOWN_WITHIN: Duration = Duration::from_secs(1);

/// Signs for the domain and all hosts below it.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("random numbers");
        Self(CertifiedIssuer::self_signed(params, key).expect("the parameters are valid"))
    }

    /// A chain and its key, PEM, and what is shown of it.
    fn pair(&self) -> (String, String, CertificateDer<'static>) {
        let names = vec![DOMAIN.to_owned(), format!("*.{DOMAIN}")];
        let params = CertificateParams::new(names).expect("they are names");
        let key = KeyPair::generate().expect("random numbers");
        let signed = params.signed_by(&key, &self.0).expect("the parameters are valid");
        (signed.pem(), key.serialize_pem(), signed.der().clone())
    }
}

/// Puts a file in the place of another, as whoever renews certificates should.
fn put(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).expect("the folder is ours");
    std::fs::rename(&new, file).expect("the folder is ours");
}

/// Waits until a new handshake is shown this; how long it took.
async fn await_shown(usher: &Usher, expected: &CertificateDer<'_>) -> Duration {
    let (begun, address) = (Instant::now(), usher.listeners()[0]);
    let is_shown = async || shown(address, DOMAIN).await.filter(|now| now == expected);
    wait_for("the new certificate", SHOWN_WITHIN, is_shown).await;
    begun.elapsed()
}

/// So many swaps under so many sockets and steady requests.
async fn swapped(swaps: usize, sockets: usize) {
    let authority = Authority::new();
    let (chain, key, _) = authority.pair();
    let files = Certificate::issued(&chain, &key, &authority.0.pem());
    let usher = Setup::new("").certificate(&files).start().await;
    let alice = Person::at_work(&usher, "alice").await;
    let mut open = Vec::new();
    for _ in 0..sockets {
        open.push(alice.socket("/ws").await.expect("the workspace runs"));
    }
    let mut kept = tests::Kept::default();
    let mut slowest = Duration::ZERO;
    for round in 0..swaps {
        let (chain, key, expected) = authority.pair();
        put(&files.certificate(), &chain);
        put(&files.private_key(), &key);
        let requests = async {
            for _ in 0..20 {
                let answer = kept.send(alice.fetch(Method::GET, "/")).await.expect("it is answered");
                assert!(answer.status.is_success(), "{}", answer.text());
            }
        };
        let (took, ()) = tokio::join!(await_shown(&usher, &expected), requests);
        slowest = slowest.max(took);
        let answers = join_all(open.iter_mut().map(|socket| socket.answers("still here"))).await;
        let dropped = answers.iter().filter(|answers| !**answers).count();
        assert_eq!(dropped, 0, "after swap {round}");
    }
    println!("{swaps} swaps under {sockets} sockets: the slowest was shown after {slowest:?}");
    assert!(slowest < SHOWN_WITHIN);
}

#[tokio::test]
async fn a_pair_that_is_swapped_is_shown_within_a_second_and_no_socket_drops() {
    swapped(5, 50).await;
}

#[tokio::test]
#[ignore = "long: for `make soak`"]
async fn a_hundred_swaps_drop_none_of_a_thousand_sockets() {
    swapped(100, 1000).await;
}

#[tokio::test]
async fn a_pair_that_does_not_belong_together_leaves_the_one_before() {
    const UNFIT: &str = "the files of a certificate cannot be used";
    let authority = Authority::new();
    let (chain, key, first) = authority.pair();
    let files = Certificate::issued(&chain, &key, &authority.0.pem());
    let usher = Setup::new("").certificate(&files).start().await;
    let (other, _, _) = authority.pair();
    for (many, broken) in [other.as_str(), "", &chain[..chain.len() / 2]].into_iter().enumerate() {
        put(&files.certificate(), broken);
        wait_for("the mistake to be told", SOON, async || {
            (usher.logs.events(UNFIT).len() > many).then_some(())
        })
        .await;
        assert_eq!(shown(usher.listeners()[0], DOMAIN).await.as_ref(), Some(&first), "{broken}");
    }
    std::fs::remove_file(files.certificate()).expect("it is ours");
    wait_for("the mistake to be told", SOON, async || (usher.logs.events(UNFIT).len() > 3).then_some(()))
        .await;
    assert_eq!(shown(usher.listeners()[0], DOMAIN).await.as_ref(), Some(&first));
    let failures = async || listed(&usher, "files")["failures"].to_string();
    wait_instead_of("the mistake to be listed", SOON, async || {
        let failures = failures().await;
        if failures.contains("there is no file") { Ok(()) } else { Err(failures) }
    })
    .await;
    let (chain, key, last) = authority.pair();
    put(&files.certificate(), &chain);
    put(&files.private_key(), &key);
    await_shown(&usher, &last).await;
    wait_for("nothing to be listed", SOON, async || (failures().await == "[]").then_some(())).await;
}
