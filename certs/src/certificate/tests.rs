use super::*;
use crate::broken::{Case, Pki, cases, now, wanted};
use proptest::prelude::*;
use std::process::Command;
use std::sync::LazyLock;

fn judge(chain: &[u8], key: &[u8]) -> Result<(), Unfit> {
    Certificate::parse(chain, key)?.check(&wanted(), now())
}

#[test]
fn of_all_kinds_of_broken_texts_each_is_called_what_it_is() {
    let cases = cases();
    assert!(cases.len() > 50, "{}", cases.len());
    let told = |case: &Case| (case.name, judge(&case.chain, &case.key));
    let expected: Vec<_> = cases.iter().map(|case| (case.name, case.expected.clone())).collect();
    assert_eq!(cases.iter().map(told).collect::<Vec<_>>(), expected);
}

#[test]
fn what_a_certificate_says_is_told_and_its_key_is_not() {
    let pki = Pki::new();
    let pair = pki.leaf(&["lab.test", "*.lab.test", "192.0.2.1", "lab.test"], |_| ());
    let text = format!("a remark\r\n{}", pki.chain(&pair).replace('\n', "\r\n"));
    let certificate = Certificate::parse(text.as_bytes(), pair.key.serialize_pem().as_bytes()).unwrap();
    assert_eq!(certificate.names(), wanted());
    let days = |n: u64| Duration::from_secs(n * 24 * 3600);
    let midnight = now() - Duration::from_secs(8 * 3600);
    assert_eq!(
        (certificate.not_before(), certificate.not_after()),
        (midnight - days(14), midnight + days(45))
    );
    assert_eq!(certificate.fingerprint(), hex(digest(&SHA256, pair.certificate.der()).as_ref()));
    assert_eq!((certificate.serial().len(), certificate.authority_key_id().unwrap().len()), (20, 20));
    assert_eq!(certificate.chain_pem(), pki.chain(&pair).replace("\r\n", "\n"));
    assert_eq!(certificate.certified_key().cert.len(), 2);

    let key = certificate.key_pem();
    assert!(Certificate::parse(certificate.chain_pem().as_bytes(), key.as_bytes()).is_ok());
    let shown = format!("{certificate:?}");
    assert!(key.lines().all(|line| !shown.contains(line)), "{shown}");
}

#[test]
fn an_asterisk_is_good_for_a_host_below_it() {
    let pki = Pki::new();
    let pair = pki.leaf(&["*.lab.test"], |_| ());
    let certificate =
        Certificate::parse(pki.chain(&pair).as_bytes(), pair.key.serialize_pem().as_bytes()).unwrap();
    for (name, good) in [("alice.lab.test", true), ("a.alice.lab.test", false), ("lab.test", false)] {
        let name = NamePattern::parse(name).unwrap();
        assert_eq!(certificate.check(std::slice::from_ref(&name), now()).is_ok(), good, "{name}");
    }
}

/// A self-signed certificate and its key, by OpenSSL.
fn openssl(kind: &[&str]) -> (Vec<u8>, Vec<u8>) {
    let folder = tempfile::tempdir().expect("a folder");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-nodes", "-subj", "/CN=lab.test", "-keyout", "key", "-out", "certificate"])
        .args(["-addext", "subjectAltName=DNS:lab.test,DNS:*.lab.test"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-newkey"])
        .args(kind)
        .current_dir(&folder)
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |name| std::fs::read(folder.path().join(name)).expect("openssl wrote it");
    (read("certificate"), read("key"))
}

#[test]
fn keys_of_the_usual_kinds_can_be_used_and_others_are_refused() {
    let today = SystemTime::now() + Duration::from_secs(60);
    for (kind, usable) in [
        (&["rsa:2048"][..], true),
        (&["rsa:4096"], true),
        (&["rsa:1024"], false),
        (&["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], true),
        (&["ec", "-pkeyopt", "ec_paramgen_curve:P-384"], true),
        (&["ec", "-pkeyopt", "ec_paramgen_curve:P-521"], false),
        (&["ed25519"], true),
        (&["ed448"], false),
    ] {
        let (chain, key) = openssl(kind);
        match Certificate::parse(&chain, &key) {
            Ok(certificate) => {
                assert!(usable, "{kind:?}");
                certificate.check(&wanted(), today).unwrap();
            }
            Err(unfit) => assert_eq!((usable, unfit), (false, Unfit::UnusableKey), "{kind:?}"),
        }
    }
}

/// A good chain and its key, to be changed.
static GOOD: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
    let pki = Pki::new();
    let pair = pki.good();
    (pki.chain(&pair).into_bytes(), pair.key.serialize_pem().into_bytes())
});

/// The first certificate of the good chain, in DER.
static LEAF: LazyLock<Vec<u8>> =
    LazyLock::new(|| pem::certificates(&GOOD.0).expect("it is good").remove(0).to_vec());

fn change(text: &mut Vec<u8>, changes: &[(prop::sample::Index, u8)], cut: &prop::sample::Index) {
    for (index, byte) in changes {
        let index = index.index(text.len());
        text[index] = *byte;
    }
    text.truncate(cut.index(text.len() * 2));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn no_text_whatever_makes_it_panic(chain: Vec<u8>, key: Vec<u8>) {
        prop_assert!(judge(&chain, &key).is_err());
    }

    #[test]
    fn no_change_of_a_good_text_makes_it_panic(
        changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..8),
        cut: prop::sample::Index,
        of_the_key: bool,
    ) {
        let (mut chain, mut key) = GOOD.clone();
        change(if of_the_key { &mut key } else { &mut chain }, &changes, &cut);
        let _either = judge(&chain, &key);
    }

    #[test]
    fn no_change_of_good_der_makes_it_panic_or_pass_for_signed(
        changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..8),
        cut: prop::sample::Index,
    ) {
        let mut der = LEAF.clone();
        change(&mut der, &changes, &cut);
        let intermediate = pem::certificates(&GOOD.0).unwrap().remove(1);
        let chain = encode_pem("CERTIFICATE", &der) + &encode_pem("CERTIFICATE", &intermediate);
        prop_assert_eq!(judge(chain.as_bytes(), &GOOD.1).is_ok(), der == *LEAF);
    }
}
