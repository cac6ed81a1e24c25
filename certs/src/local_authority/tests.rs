use super::*;
use crate::broken::{now, wanted};
use crate::store::DirectoryStore;
use rcgen::SanType;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

const DAY: Duration = Duration::from_hours(24);

fn fresh() -> (tempfile::TempDir, DirectoryStore) {
    let place = tempfile::tempdir().expect("a folder");
    let store = DirectoryStore::open(&place.path().join("store")).expect("it is new");
    (place, store)
}

fn patterns(names: &[&str]) -> Vec<NamePattern> {
    names.iter().map(|name| NamePattern::parse(name).expect("a name")).collect()
}

fn openssl(folder: &Path, args: &[&str]) -> String {
    let output =
        Command::new("openssl").args(args).current_dir(folder).output().expect("openssl is installed");
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {told}");
    told.into_owned()
}

#[tokio::test]
async fn who_trusts_the_authority_trusts_its_certificates_and_others_see_what_it_may_do() {
    let (place, store) = fresh();
    let now = SystemTime::now();
    let authority = LocalAuthority::open(&store, &wanted(), now).await.unwrap();
    let certificate = authority.issue(&wanted(), now).unwrap();
    let lasts = certificate.not_after().duration_since(now).unwrap();
    assert!(lasts <= LEAF && lasts > LEAF - Duration::from_secs(2), "{lasts:?}");

    let folder = place.path();
    std::fs::write(folder.join("authority.pem"), authority.pem()).unwrap();
    std::fs::write(folder.join("chain.pem"), certificate.chain_pem()).unwrap();
    for host in ["lab.test", "alice.lab.test"] {
        let verify = ["verify", "-x509_strict", "-CAfile", "authority.pem", "-verify_hostname", host];
        openssl(folder, &[&verify[..], &["-purpose", "sslserver", "chain.pem"]].concat());
    }
    let told = openssl(folder, &["x509", "-in", "authority.pem", "-noout", "-text"]);
    for words in
        ["Usher local authority", "CA:TRUE, pathlen:0", "Permitted:\n                  DNS:lab.test\n"]
    {
        assert!(told.contains(words), "{words:?} is missing in {told}");
    }
    assert!(
        openssl(folder, &["x509", "-in", "authority.pem", "-noout", "-checkend", "314000000"])
            .contains("not expire")
    );
}

#[tokio::test]
async fn it_signs_for_nothing_but_its_names_and_whoever_does_with_its_key_is_not_believed() {
    let (_place, store) = fresh();
    let authority = LocalAuthority::open(&store, &wanted(), now()).await.unwrap();
    for name in ["lab.example", "test", "xlab.test"] {
        let refused = authority.issue(&patterns(&[name]), now());
        assert!(
            matches!(
                refused,
                Err(LocalAuthorityError::Unfit(Unfit::Chain(webpki::Error::NameConstraintViolation)))
            ),
            "{name}: {refused:?}"
        );
    }
    assert!(matches!(authority.issue(&[], now()), Err(LocalAuthorityError::NoNames)));
    // An address is no DNS name, and not permitted either.
    let mut params = CertificateParams::new(["lab.test".to_owned()]).unwrap();
    params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))));
    let key = KeyPair::generate().unwrap();
    let chain = params.signed_by(&key, &authority.issuer).unwrap().pem() + &authority.pem();
    let certificate = Certificate::parse(chain.as_bytes(), key.serialize_pem().as_bytes()).unwrap();
    let refused = certificate.check(&patterns(&["lab.test"]), now());
    assert_eq!(refused, Err(Unfit::Chain(webpki::Error::NameConstraintViolation)));
}

#[tokio::test]
async fn it_stays_the_same_for_as_long_as_it_can_sign_for_what_is_configured() {
    let (_place, store) = fresh();
    let open = async |names: &[&str], now| LocalAuthority::open(&store, &patterns(names), now).await.unwrap();
    let first = open(&["*.lab.test", "lab.test"], now()).await;
    assert_eq!(first.permitted, ["lab.test"]);
    for names in [&["lab.test"][..], &["*.lab.test"], &["deep.in.lab.test", "*.alice.lab.test"]] {
        let same = open(names, now()).await;
        assert_eq!(same.pem(), first.pem(), "{names:?}");
        let certificate = same.issue(&patterns(names), now()).unwrap();
        assert!(certificate.chain_pem().ends_with(&first.pem()));
    }
    // A clock that is wrong by a year takes nobody's trust away.
    for now in [now() - 365 * DAY, now() + 365 * DAY] {
        assert_eq!(open(&["lab.test"], now).await.pem(), first.pem());
    }
    // One that was made while a clock was ahead signs when that is right again.
    assert!(first.issue(&patterns(&["lab.test"]), now() - 365 * DAY).is_ok());
    let wider = open(&["lab.test", "other.test"], now()).await;
    assert_ne!(wider.pem(), first.pem());
    assert_eq!(wider.permitted, ["lab.test", "other.test"]);
    assert_eq!(open(&["lab.test"], now()).await.pem(), wider.pem());
    let later = now() + YEARS - LEAF;
    let next = open(&["lab.test"], later).await;
    assert_ne!(next.pem(), wider.pem());
    next.issue(&patterns(&["lab.test"]), later).unwrap();
    let none = LocalAuthority::open(&store, &[], later).await;
    assert!(none.is_ok(), "what is there will do for no name");
}

#[tokio::test]
async fn replicas_that_make_it_at_once_agree() {
    for _ in 0..10 {
        let (_place, store) = fresh();
        let names = wanted();
        let open = || LocalAuthority::open(&store, &names, now());
        let opened = futures_util::future::join_all([open(), open(), open(), open()]).await;
        let pems: std::collections::BTreeSet<_> =
            opened.into_iter().map(|opened| opened.unwrap().pem()).collect();
        assert_eq!(pems.len(), 1);
        assert_eq!(store.list().await.unwrap()[0].version.0, 1);
    }
}

#[tokio::test]
async fn a_document_that_is_no_authority_of_ours_is_replaced() {
    let (_place, store) = fresh();
    let good = LocalAuthority::make(&wanted(), now()).unwrap().1;
    let other = LocalAuthority::make(&wanted(), now()).unwrap().1;
    let value = |value: &[u8]| serde_json::from_slice::<Value>(value).unwrap();
    let (good, other) = (value(&good), value(&other));
    let unbound = crate::broken::Pki::new().root;
    let text = |certificate: &str, key: &str| {
        serde_json::to_vec(&Value { certificate: certificate.to_owned(), key: key.to_owned() }).unwrap()
    };
    for (what, broken) in [
        ("empty", Vec::new()),
        ("another JSON", b"[]".to_vec()),
        ("no certificate", text("", &good.key)),
        ("no key", text(&good.certificate, "")),
        ("another's key", text(&good.certificate, &other.key)),
        ("exchanged", text(&good.key, &good.certificate)),
        ("without constraints", text(&unbound.pem(), &unbound.key().serialize_pem())),
    ] {
        store.delete(DOCUMENT).await.unwrap();
        store.create(DOCUMENT, broken).await.unwrap();
        let authority = LocalAuthority::open(&store, &wanted(), now()).await.unwrap();
        authority.issue(&wanted(), now()).unwrap();
        let kept = store.get(DOCUMENT).await.unwrap().unwrap();
        assert_eq!(value(&kept.value).certificate, authority.pem(), "{what}");
        assert_eq!(format!("{authority:?}"), "LocalAuthority { permitted: [\"lab.test\"], .. }");
    }
}

#[test]
fn its_domains_are_the_widest() {
    for (names, expected) in [
        (&["*.lab.test", "lab.test"][..], &["lab.test"][..]),
        (&["a.lab.test", "lab.test", "*.b.lab.test"], &["lab.test"]),
        (&["a.test", "xa.test", "b.a.test"], &["a.test", "xa.test"]),
        (&["localhost"], &["localhost"]),
        (&[], &[]),
    ] {
        assert_eq!(domains(&patterns(names)), expected);
    }
}
