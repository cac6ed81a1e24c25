//! The authorities that other tests stand on, asked by an ACME client that is not Usher's.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, ExternalAccountKey,
    Identifier, NewAccount, NewOrder, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tests::false_provider::answer;
use tests::{Certificate, CertificateAuthority, Client, FalseAuthority, Fault, Forgery, Kind, SOON, Terms};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use x509_parser::prelude::{FromDer, X509Certificate};

const HOST: &str = "alice.lab.test";

/// As a client wants it that gives up after three bad nonces.
fn lenient() -> Terms {
    Terms { bad_nonces: 0, ..Terms::default() }
}

async fn account_at(
    directory: String,
    authority: &CertificateAuthority,
    external: Option<&ExternalAccountKey>,
) -> Result<Account, Error> {
    let new = NewAccount { contact: &[], terms_of_service_agreed: true, only_return_existing: false };
    let builder = Account::builder_with_root(authority.certificate().certificate())?;
    Ok(builder.create(&new, directory, external).await?.0)
}

async fn account(authority: &CertificateAuthority) -> Account {
    account_at(authority.directory(), authority, None).await.expect("nobody is refused")
}

/// Answers `http-01` for this account, on a port of its own.
async fn answers(account: &Account) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let thumbprint = account.key_thumbprint().to_owned();
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else { continue };
            tokio::spawn(answer_one(stream, thumbprint.clone()));
        }
    });
    address
}

async fn answer_one(mut stream: TcpStream, thumbprint: String) -> std::io::Result<()> {
    let (mut request, mut buffer) = (String::new(), [0; 1024]);
    while !request.contains("\r\n\r\n") {
        let count = stream.read(&mut buffer).await?;
        request.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    let path = request.split(' ').nth(1).unwrap_or_default();
    let token = path.strip_prefix("/.well-known/acme-challenge/").unwrap_or_default();
    let body = format!("{token}.{thumbprint}");
    stream.write_all(&answer("200 OK", "text/plain", body.as_bytes())).await
}

/// Orders a certificate. What its challenges ask for, `prepare` does: the name, what DNS shall say, the digest.
async fn ordered(
    account: &Account,
    order: &NewOrder<'_>,
    challenge: ChallengeType,
    mut prepare: impl AsyncFnMut(String, String, Vec<u8>),
) -> Result<(String, String), Error> {
    let mut order = account.new_order(order).await?;
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let mut authorization = authorization?;
        if authorization.status == AuthorizationStatus::Invalid {
            return Err(Error::Str("the authorization has failed"));
        }
        // Of an order before: Pebble takes it again now and then, whatever it is told.
        if authorization.status == AuthorizationStatus::Valid {
            continue;
        }
        let mut asked = authorization.challenge(challenge.clone()).expect("Pebble offers it");
        let name = asked.identifier().to_string().trim_start_matches("*.").to_owned();
        let key = asked.key_authorization();
        prepare(name, key.dns_value(), key.digest().as_ref().to_vec()).await;
        asked.set_ready().await?;
    }
    let patience = RetryPolicy::default().timeout(SOON).backoff(1.0);
    if order.poll_ready(&patience).await? != OrderStatus::Ready {
        return Err(Error::Str("the order has failed"));
    }
    let key = order.finalize().await?;
    Ok((order.poll_certificate(&patience).await?, key))
}

/// A chain and its key for [`HOST`], by `http-01`.
async fn issued(account: &Account, profile: Option<&str>) -> Result<(String, String), Error> {
    let names = [Identifier::Dns(HOST.to_owned())];
    let order = NewOrder::new(&names);
    let order = match profile {
        Some(profile) => order.profile(profile),
        None => order,
    };
    ordered(account, &order, ChallengeType::Http01, async |_, _, _| ()).await
}

fn leaf(chain: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(chain.as_bytes()).expect("a chain is PEM")
}

/// How long a certificate is good, in seconds from now.
fn left(chain: &str) -> i64 {
    let leaf = leaf(chain);
    let (_, leaf) = X509Certificate::from_der(&leaf).expect("a leaf is a certificate");
    leaf.validity().not_after.timestamp() - jiff::Timestamp::now().as_second()
}

fn kind_of(result: Result<impl Sized, Error>) -> String {
    match result {
        Err(Error::Api(problem)) => problem.r#type.unwrap_or_default(),
        Err(error) => panic!("no problem document: {error}"),
        Ok(_) => panic!("no error"),
    }
}

/// Who connects with this certificate as the server, and asks for this name.
async fn is_believed(certificate: &Certificate, name: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let acceptor = certificate.acceptor();
    let serving = tokio::spawn(async move { acceptor.accept(listener.accept().await?.0).await.map(drop) });
    certificate.connect(address, name, "http/1.1").await?;
    serving.await.expect("accepting does not panic")
}

#[tokio::test]
async fn what_is_issued_is_believed_by_whoever_trusts_the_root() {
    let authority = CertificateAuthority::start_with(lenient()).await;
    let account = account(&authority).await;
    authority.asks_by_http(&[answers(&account).await]);
    let (chain, key) = issued(&account, None).await.unwrap();
    let certificate = Certificate::issued(&chain, &key, authority.root());
    is_believed(&certificate, HOST).await.unwrap();
    is_believed(&certificate, "bob.lab.test").await.unwrap_err();
}

#[tokio::test]
async fn of_several_that_are_asked_every_one_must_know_the_answer() {
    let authority = CertificateAuthority::start_with(lenient()).await;
    let (account, other) = (account(&authority).await, account(&authority).await);
    let (knows, does_not) = (answers(&account).await, answers(&other).await);
    authority.asks_by_http(&[knows, does_not]);
    assert_eq!(kind_of(issued(&account, None).await), "urn:ietf:params:acme:error:unauthorized");
    authority.asks_by_http(&[knows, knows]);
    issued(&account, None).await.unwrap();
}

#[tokio::test]
async fn a_profile_says_for_how_long() {
    let profiles =
        [("short".to_owned(), Duration::from_secs(60)), ("long".to_owned(), Duration::from_secs(3600))];
    let authority = CertificateAuthority::start_with(Terms { profiles: profiles.into(), ..lenient() }).await;
    let account = account(&authority).await;
    authority.asks_by_http(&[answers(&account).await]);
    let offered: BTreeSet<_> = account.profiles().map(|profile| profile.name.to_owned()).collect();
    assert_eq!(offered, ["long".to_owned(), "short".to_owned()].into());
    let lasts = left(&issued(&account, Some("short")).await.unwrap().0);
    assert!((1..60).contains(&lasts), "{lasts}");
    let lasts = left(&issued(&account, Some("long")).await.unwrap().0);
    assert!((3500..3600).contains(&lasts), "{lasts}");
    assert_eq!(kind_of(issued(&account, Some("endless")).await), "urn:ietf:params:acme:error:invalidProfile");
}

#[tokio::test]
async fn where_an_external_account_is_demanded_nobody_has_one_without() {
    let key = b"thirty-two bytes that two sides know";
    let accounts = [("lab".to_owned(), URL_SAFE_NO_PAD.encode(key))];
    let authority =
        CertificateAuthority::start_with(Terms { external_accounts: accounts.into(), ..lenient() }).await;
    let ask = async |external: Option<ExternalAccountKey>| {
        account_at(authority.directory(), &authority, external.as_ref()).await
    };
    assert_eq!(kind_of(ask(None).await), "urn:ietf:params:acme:error:externalAccountRequired");
    let other = ExternalAccountKey::new("lab".to_owned(), b"thirty-two bytes that nobody knows");
    assert_eq!(kind_of(ask(Some(other)).await), "urn:ietf:params:acme:error:unauthorized");
    ask(Some(ExternalAccountKey::new("lab".to_owned(), key))).await.unwrap();
}

#[tokio::test]
async fn a_wildcard_is_had_by_the_dns_wherever_names_are_looked_up() {
    let with_dns = CertificateAuthority::start_with(lenient()).await;
    let without =
        CertificateAuthority::start_with(Terms { resolver: Some(with_dns.resolver()), ..lenient() }).await;
    for authority in [&with_dns, &without] {
        let account = account(authority).await;
        let names = ["*.lab.test", "lab.test"].map(|name| Identifier::Dns(name.to_owned()));
        let (chain, key) =
            ordered(&account, &NewOrder::new(&names), ChallengeType::Dns01, async |name, text, _| {
                with_dns.add_text(&format!("_acme-challenge.{name}."), &text).await
            })
            .await
            .unwrap();
        let certificate = Certificate::issued(&chain, &key, authority.root());
        is_believed(&certificate, HOST).await.unwrap();
        is_believed(&certificate, "lab.test").await.unwrap();
    }
}

#[tokio::test]
async fn a_certificate_proves_a_name_by_tls() {
    let authority = CertificateAuthority::start_with(lenient()).await;
    let account = account(&authority).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    authority.asks_by_tls(&[listener.local_addr().unwrap()]);
    let names = [Identifier::Dns(HOST.to_owned())];
    let order = NewOrder::new(&names);
    let listener = Arc::new(listener);
    let prepare = async |name: String, _, digest: Vec<u8>| {
        let mut params = CertificateParams::new(vec![name]).expect("a DNS name");
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(&digest)];
        let key = KeyPair::generate().expect("random numbers");
        let certificate = params.self_signed(&key).expect("the parameters are valid").pem();
        let acceptor =
            Certificate::issued(&certificate, &key.serialize_pem(), &certificate).acceptor_of("acme-tls/1");
        let listener = listener.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _gone = acceptor.accept(stream).await;
            }
        });
    };
    ordered(&account, &order, ChallengeType::TlsAlpn01, prepare).await.unwrap();
}

#[tokio::test]
async fn the_time_to_renew_is_as_the_test_says() {
    let authority = CertificateAuthority::start_with(lenient()).await;
    let account = account(&authority).await;
    authority.asks_by_http(&[answers(&account).await]);
    let (chain, _) = issued(&account, None).await.unwrap();
    let window = r#"{"suggestedWindow":{"start":"2031-05-01T00:00:00Z","end":"2031-05-02T00:00:00Z"}}"#;
    authority.says_of_renewal(&chain, window).await;
    let leaf = leaf(&chain);
    let id = CertificateIdentifier::try_from(&leaf).unwrap();
    let (info, _) = account.renewal_info(&id).await.unwrap();
    let (start, end) = (info.suggested_window.start, info.suggested_window.end);
    assert_eq!((start.unix_timestamp(), end.unix_timestamp()), (1935360000, 1935446400));
}

#[tokio::test]
async fn half_of_the_nonces_are_bad_unless_said_otherwise() {
    let strict = CertificateAuthority::start().await;
    let proxy = FalseAuthority::before(&strict).await;
    for _ in 0..20 {
        // One of eight gets none at all: three bad nonces, and this client gives up.
        let _account = account_at(proxy.directory(), &strict, None).await;
    }
    let asked = proxy.asked(Kind::NewAccount);
    assert!((21..=60).contains(&asked), "{asked} requests for 20 accounts");
}

#[tokio::test]
async fn a_proxy_counts_and_passes_all_on() {
    let authority = CertificateAuthority::start_with(lenient()).await;
    let proxy = FalseAuthority::before(&authority).await;
    let account = account_at(proxy.directory(), &authority, None).await.unwrap();
    authority.asks_by_http(&[answers(&account).await]);
    let (chain, key) = issued(&account, None).await.unwrap();
    is_believed(&Certificate::issued(&chain, &key, authority.root()), HOST).await.unwrap();
    let once = [
        Kind::Directory,
        Kind::NewAccount,
        Kind::NewOrder,
        Kind::Challenge,
        Kind::Finalize,
        Kind::Certificate,
    ];
    assert_eq!(once.map(|kind| proxy.asked(kind)), [1; 6]);
}

#[tokio::test]
async fn an_authority_goes_down_and_comes_up() {
    let authority = CertificateAuthority::start_with(lenient()).await;
    let mut proxy = FalseAuthority::before(&authority).await;
    let account = account_at(proxy.directory(), &authority, None).await.unwrap();
    authority.asks_by_http(&[answers(&account).await]);
    proxy.goes_down().await;
    issued(&account, None).await.unwrap_err();
    let asked = proxy.asked(Kind::NewOrder);
    proxy.comes_up().await;
    issued(&account, None).await.unwrap();
    assert_eq!((asked, proxy.asked(Kind::NewOrder)), (0, 1));
}

#[tokio::test]
async fn an_authority_answers_with_problems() {
    let authority = CertificateAuthority::start_with(lenient()).await;
    let proxy = FalseAuthority::before(&authority).await;
    let account = account_at(proxy.directory(), &authority, None).await.unwrap();
    authority.asks_by_http(&[answers(&account).await]);

    proxy.fails(Kind::NewOrder, Fault::problem(StatusCode::TOO_MANY_REQUESTS, "rateLimited", None));
    assert_eq!(kind_of(issued(&account, None).await), "urn:ietf:params:acme:error:rateLimited");
    proxy.fails(Kind::NewOrder, Fault::problem(StatusCode::BAD_REQUEST, "badNonce", None));
    assert_eq!(kind_of(issued(&account, None).await), "urn:ietf:params:acme:error:badNonce");
    assert_eq!(proxy.asked(Kind::NewOrder), 1 + 3);
    proxy.mends();
    for kind in [Kind::Authorization, Kind::Order] {
        proxy.fails(kind, Fault::Invalid);
        issued(&account, None).await.unwrap_err();
        proxy.mends();
    }
    issued(&account, None).await.unwrap();
}

#[tokio::test]
async fn an_authority_answers_with_anything() {
    let authority = CertificateAuthority::start_with(lenient()).await;
    let proxy = FalseAuthority::before(&authority).await;
    let address: SocketAddr = proxy.directory()["https://".len()..].trim_end_matches("/dir").parse().unwrap();
    let client = Client::at(address, Some(authority.certificate().clone()));
    let host = address.ip().to_string();
    let get = || client.get(&host, "/dir").with("user-agent", "test");
    let directory = get().send().await;
    assert_eq!(directory.status, StatusCode::OK);

    let later = jiff::Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    for (status, retry_after, body) in [(429, "30", "{}"), (503, later.as_str(), "<h1>Come back later</h1>")]
    {
        let status = StatusCode::from_u16(status).unwrap();
        let (after, says) = (Some(retry_after.to_owned()), body.to_owned());
        proxy.fails(Kind::Directory, Fault::Says { status, retry_after: after, body: says });
        let answer = get().send().await;
        assert_eq!(
            (answer.status, answer.field("retry-after"), answer.text()),
            (status, retry_after, body.to_owned())
        );
    }
    proxy.fails_everywhere(&Fault::HalfABody);
    get().try_send().await.unwrap_err();
    for silence in [Fault::Silence, Fault::HeadAlone] {
        proxy.fails_everywhere(&silence);
        let answer = get().try_send();
        tokio::time::timeout(Duration::from_millis(300), answer).await.unwrap_err();
    }
    proxy.mends();
    assert_eq!(get().send().await.text(), directory.text());
}

#[tokio::test]
async fn a_chain_is_wrong_as_asked_for() {
    let authority = CertificateAuthority::start_with(lenient()).await;
    let proxy = FalseAuthority::before(&authority).await;
    let account = account_at(proxy.directory(), &authority, None).await.unwrap();
    authority.asks_by_http(&[answers(&account).await]);
    let other = "bob.lab.test";
    // What is wrong: the name, the key, the time, the number of certificates.
    for (forgery, wrong) in [
        (Forgery::AnotherName(other.to_owned()), [true, false, false, false]),
        (Forgery::AnotherKey, [false, true, false, false]),
        (Forgery::Expired, [false, false, true, false]),
        (Forgery::WithoutIntermediate, [false, false, false, true]),
    ] {
        proxy.fails(Kind::Certificate, Fault::Chain(forgery.clone()));
        let (chain, key) = issued(&account, None).await.unwrap();
        let der = leaf(&chain);
        let (_, leaf) = X509Certificate::from_der(&der).unwrap();
        let names = leaf.subject_alternative_name().unwrap().unwrap().value;
        let key = KeyPair::from_pem(&key).unwrap();
        let found = [
            format!("{names:?}").contains(other),
            leaf.public_key().subject_public_key.data != key.public_key_raw(),
            left(&chain) < 0,
            chain.matches("BEGIN").count() != 2,
        ];
        assert_eq!(found, wrong, "{forgery:?}: {chain}");
    }
    proxy.fails(Kind::Certificate, Fault::Chain(Forgery::Garbage));
    let (chain, _) = issued(&account, None).await.unwrap();
    CertificateDer::from_pem_slice(chain.as_bytes()).unwrap_err();
}
