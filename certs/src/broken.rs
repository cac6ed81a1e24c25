//! Chains and keys of all kinds, most of them broken, as tests put them in files and in documents.

use crate::certificate::{CHAIN_MAX, Part, Unfit, encode_pem};
use config::NamePattern;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, GeneralSubtree,
    IsCa, KeyPair, KeyUsagePurpose, NameConstraints, date_time_ymd,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The moment of all tests: 15 January 2027, 8:00 UTC.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// The names that tests ask for.
pub(crate) fn wanted() -> Vec<NamePattern> {
    ["lab.test", "*.lab.test"].map(|name| NamePattern::parse(name).expect("a name")).into()
}

/// A chain and a key, and what must be said of them.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) chain: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) expected: Result<(), Unfit>,
}

fn case(
    name: &'static str,
    chain: impl Into<Vec<u8>>,
    key: impl Into<Vec<u8>>,
    expected: Result<(), Unfit>,
) -> Case {
    Case { name, chain: chain.into(), key: key.into(), expected }
}

/// A certificate and its key.
pub(crate) struct Pair {
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key: KeyPair,
}

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// A root, and an authority below it.
pub(crate) struct Pki {
    pub(crate) root: Issuer,
    pub(crate) intermediate: Issuer,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let root = CertifiedIssuer::self_signed(authority("root"), new_key()).expect("it can be signed");
        let intermediate = below(&root, |_| ());
        Self { root, intermediate }
    }

    /// A leaf for these names, as changed.
    pub(crate) fn leaf(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let (params, key) = (leaf(names, change), new_key());
        Pair { certificate: params.signed_by(&key, &self.intermediate).expect("it can be signed"), key }
    }

    /// A leaf that is fit.
    pub(crate) fn good(&self) -> Pair {
        self.leaf(&["lab.test", "*.lab.test"], |_| ())
    }

    /// The chain of a leaf, without the root.
    pub(crate) fn chain(&self, pair: &Pair) -> String {
        pair.certificate.pem() + &self.intermediate.pem()
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("the system gives random numbers")
}

fn below(root: &Issuer, change: impl FnOnce(&mut CertificateParams)) -> Issuer {
    let mut params = authority("intermediate");
    change(&mut params);
    CertifiedIssuer::signed_by(params, new_key(), root).expect("it can be signed")
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// Parameters of a leaf.
fn leaf(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name.remove(DnType::CommonName);
    params.not_before = date_time_ymd(2027, 1, 1);
    params.not_after = date_time_ymd(2027, 3, 1);
    params.use_authority_key_identifier_extension = true;
    change(&mut params);
    params
}

/// All kinds.
pub(crate) fn cases() -> Vec<Case> {
    let pki = Pki::new();
    let mut cases = texts(&pki);
    cases.extend(kinds(&pki));
    cases.extend(leaves(&pki));
    cases.extend(chains(&pki));
    cases
}

/// What goes wrong with texts.
fn texts(pki: &Pki) -> Vec<Case> {
    use Part::{Certificate, PrivateKey};
    let pair = pki.good();
    let (chain, key) = (pki.chain(&pair), pair.key.serialize_pem());
    let cut = |text: &str| text[..text.len() / 2].to_owned();
    let mark = "\u{feff}";
    let unended = pair.certificate.pem().replace("-----END CERTIFICATE-----\n", "") + &chain;
    let parameters = "-----BEGIN DH PARAMETERS-----\nMAA=\n-----END DH PARAMETERS-----\n";
    let swallowed = pair.certificate.pem().replace("-----END CERTIFICATE-----\n", parameters) + &chain;
    let marked_within = format!("{}{mark}{}", pair.certificate.pem(), pki.intermediate.pem());
    let crlf = |text: &str| text.replace('\n', "\r\n");
    let commented = chain.replace("-----BEGIN", "subject=CN = lab.test\n\n-----BEGIN");
    let strange = chain.replace("BEGIN CERTIFICATE", "BEGIN CERT\u{fc}");
    let indented = chain.replace("-----BEGIN", "  -----BEGIN");
    vec![
        case("good", &*chain, &*key, Ok(())),
        case("an empty chain", "", &*key, Err(Unfit::Absent(Certificate))),
        case("an empty key", &*chain, "", Err(Unfit::Absent(PrivateKey))),
        case("a key that is only a remark", &*chain, "to be copied here", Err(Unfit::Absent(PrivateKey))),
        case(
            "a chain that is cut off",
            cut(&pair.certificate.pem()),
            &*key,
            Err(Unfit::Damaged(Certificate)),
        ),
        case("a key that is cut off", &*chain, cut(&key), Err(Unfit::Damaged(PrivateKey))),
        case("a block that does not end", unended, &*key, Err(Unfit::Damaged(Certificate))),
        case("one that another swallows", swallowed, &*key, Err(Unfit::Damaged(Certificate))),
        case("lines that end as elsewhere", crlf(&chain), crlf(&key), Ok(())),
        case("marks of the byte order", format!("{mark}{chain}"), format!("{mark}{key}"), Ok(())),
        case("such a mark within", marked_within, &*key, Err(Unfit::Damaged(Certificate))),
        case("remarks between the blocks", commented, &*key, Ok(())),
        case("indented", indented, &*key, Err(Unfit::Damaged(Certificate))),
        case("garbage in a block", chain.replace("MII", "M!I"), &*key, Err(Unfit::Damaged(Certificate))),
        case("a NUL in a block", chain.replace("MII", "M\0I"), &*key, Err(Unfit::Damaged(Certificate))),
        case("a label that is not ASCII", strange, &*key, Err(Unfit::Damaged(Certificate))),
        case("1 MiB of As", vec![b'A'; 1 << 20], &*key, Err(Unfit::TooLong(Certificate))),
        case("1 MiB of As for a key", &*chain, vec![b'A'; 1 << 20], Err(Unfit::TooLong(PrivateKey))),
        case("NULs", vec![0; 4096], &*key, Err(Unfit::Absent(Certificate))),
        case("all bytes one", vec![0xff; 4096], &*key, Err(Unfit::Absent(Certificate))),
    ]
}

/// Something else in place of what should be there.
fn kinds(pki: &Pki) -> Vec<Case> {
    use Part::{Certificate, PrivateKey};
    let (pair, other) = (pki.good(), pki.good());
    let (chain, key) = (pki.chain(&pair), pair.key.serialize_pem());
    let request = leaf(&["lab.test"], |params| {
        params.not_before = CertificateParams::default().not_before;
        params.not_after = CertificateParams::default().not_after;
        params.use_authority_key_identifier_extension = false;
    });
    let request = request.serialize_request(&pair.key).expect("it can be signed").pem().expect("PEM");
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let encrypted_of_old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\
        DEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let is_other = |part, label: &str| Err(Unfit::Other { part, label: label.to_owned() });
    let no_key = encode_pem("PRIVATE KEY", b"no key at all");
    let no_certificate = encode_pem("CERTIFICATE", b"no certificate at all");
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    let mut longer = pair.certificate.der().to_vec();
    longer.push(0);
    vec![
        case("exchanged", &*key, &*chain, is_other(Certificate, "PRIVATE KEY")),
        case("key and chain in both", format!("{key}{chain}"), format!("{chain}{key}"), Ok(())),
        case("another's key", &*chain, other.key.serialize_pem(), Err(Unfit::WrongKey)),
        case("two keys", &*chain, key.repeat(2), Err(Unfit::ManyKeys { found: 2 })),
        case("parameters before the key", &*chain, format!("{parameters}{key}"), Ok(())),
        case("an encrypted key", &*chain, encrypted, Err(Unfit::Encrypted)),
        case("a key encrypted as of old", &*chain, encrypted_of_old, Err(Unfit::Encrypted)),
        case("a public key", &*chain, pair.key.public_key_pem(), is_other(PrivateKey, "PUBLIC KEY")),
        case("no key in its block", &*chain, no_key, Err(Unfit::UnusableKey)),
        case("a request", request, &*key, is_other(Certificate, "CERTIFICATE REQUEST")),
        case("a chain in DER", pair.certificate.der().to_vec(), &*key, Err(Unfit::Der(Certificate))),
        case("a key in DER", &*chain, pair.key.serialize_der(), Err(Unfit::Der(PrivateKey))),
        case(
            "no certificate in its block",
            no_certificate.as_str(),
            &*key,
            Err(Unfit::NotX509 { position: 1 }),
        ),
        case(
            "then no certificate",
            chain.clone() + &no_certificate,
            &*key,
            Err(Unfit::NotX509 { position: 3 }),
        ),
        case(
            "a byte too many",
            encode_pem("CERTIFICATE", &longer),
            &*key,
            Err(Unfit::NotX509 { position: 1 }),
        ),
        case("too many", chain.repeat(CHAIN_MAX), &*key, Err(Unfit::TooMany)),
    ]
}

/// What goes wrong with leaves.
fn leaves(pki: &Pki) -> Vec<Case> {
    let names = ["lab.test", "*.lab.test"];
    let with = |name, names: &[&str], change: fn(&mut CertificateParams), unfit: Unfit| {
        let pair = pki.leaf(names, change);
        case(name, pki.chain(&pair), pair.key.serialize_pem(), Err(unfit))
    };
    let missing = |names: &[NamePattern]| Unfit::Names(names.to_vec());
    let ended = Unfit::Expired { position: 1, at: "Jan 10 00:00:00 2027 +00:00".to_owned() };
    let early = Unfit::NotYet { position: 1, from: "Jan 20 00:00:00 2027 +00:00".to_owned() };
    let alone = leaf(&names, |_| ());
    let key = new_key();
    let alone = alone.self_signed(&key).expect("it can be signed").pem();
    let authority_of_names = |params: &mut CertificateParams| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    };
    vec![
        case("signed by itself", alone, key.serialize_pem(), Ok(())),
        with("expired", &names, |params| params.not_after = date_time_ymd(2027, 1, 10), ended),
        with("not yet valid", &names, |params| params.not_before = date_time_ymd(2027, 1, 20), early),
        with("for others", &["lab.example", "*.lab.example"], |_| (), missing(&wanted())),
        with("without the asterisk", &["lab.test"], |_| (), missing(&wanted()[1..])),
        with("the asterisk alone", &["*.lab.test"], |_| (), missing(&wanted()[..1])),
        with("without names", &[], |_| (), Unfit::NoName),
        with(
            "a common name alone",
            &[],
            |it| it.distinguished_name.push(DnType::CommonName, "lab.test"),
            Unfit::NoName,
        ),
        with("for an address", &["192.0.2.1"], |_| (), Unfit::NoName),
        with("for a name of no host", &["_sip.lab.test"], |_| (), Unfit::NoName),
        with("an authority's", &names, authority_of_names, Unfit::Authority),
        with(
            "for clients",
            &names,
            |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
            Unfit::Usage,
        ),
    ]
}

/// What goes wrong with what comes after the leaf.
fn chains(pki: &Pki) -> Vec<Case> {
    let pair = pki.good();
    let key = pair.key.serialize_pem();
    let (leaf_pem, intermediate, root) = (pair.certificate.pem(), pki.intermediate.pem(), pki.root.pem());
    let with = |name, chain: &[&str], unfit| case(name, chain.concat(), &*key, Err(unfit));
    let foreign = Pki::new();
    let order = |position| Unfit::Order { position };
    // Issuers that may not issue this leaf.
    let under = |name, issuer: &Issuer, unfit| {
        let (params, key) = (leaf(&["lab.test", "*.lab.test"], |_| ()), new_key());
        let signed = params.signed_by(&key, issuer).expect("it can be signed").pem();
        case(name, [signed, issuer.pem(), root.clone()].concat(), key.serialize_pem(), Err(unfit))
    };
    let ended = below(&pki.root, |params| params.not_after = date_time_ymd(2027, 1, 10));
    let constrained = below(&pki.root, |params| {
        let permitted_subtrees = vec![GeneralSubtree::DnsName("elsewhere.test".to_owned())];
        params.name_constraints = Some(NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() });
    });
    let no_authority = below(&pki.root, |params| params.is_ca = IsCa::NoCa);
    let at = "Jan 10 00:00:00 2027 +00:00".to_owned();
    vec![
        case("with its root", [&*leaf_pem, &intermediate, &root].concat(), &*key, Ok(())),
        with("its authority first", &[&intermediate, &leaf_pem], Unfit::Authority),
        with("the root before the other", &[&leaf_pem, &root, &intermediate], order(1)),
        with("a step left out", &[&leaf_pem, &root], order(1)),
        with("itself twice", &[&leaf_pem, &leaf_pem, &intermediate], Unfit::Twice { position: 2 }),
        with("its authority twice", &[&leaf_pem, &intermediate, &intermediate], Unfit::Twice { position: 3 }),
        with(
            "another authority of that name",
            &[&leaf_pem, &foreign.intermediate.pem()],
            Unfit::Chain(webpki::Error::InvalidSignatureForPublicKey),
        ),
        with(
            "another root of that name",
            &[&leaf_pem, &intermediate, &foreign.root.pem()],
            Unfit::Chain(webpki::Error::InvalidSignatureForPublicKey),
        ),
        with(
            "another root of that name before its own",
            &[&leaf_pem, &intermediate, &foreign.root.pem(), &root],
            order(2),
        ),
        under("an authority that has expired", &ended, Unfit::Expired { position: 2, at }),
        under("an authority of others", &constrained, Unfit::Chain(webpki::Error::NameConstraintViolation)),
        under("a server for authority", &no_authority, Unfit::NoAuthority { position: 2 }),
    ]
}
