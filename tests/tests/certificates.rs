//! Certificates by ACME, got from real Pebble by a running Usher.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tests::{Certificate, CertificateAuthority, DOMAIN, Setup, Usher, wait_for};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// How long getting one may take: some ten answers of the authority, half of whose nonces are refused.
const GETTING: Duration = Duration::from_secs(30);

/// The tables of an authority and of one certificate.
fn tables(authority: &CertificateAuthority, certificate: &str) -> String {
    format!(
        "[acme.pebble]\ndirectory = \"{}\"\nterms_of_service_agreed = true\ncertificate_authority = {:?}\n\n\
         [certificates.site]\nsource = \"acme\"\n{certificate}\n",
        authority.directory(),
        authority.certificate().certificate(),
    )
}

/// An Usher whose listeners the authority asks.
async fn usher(authority: &CertificateAuthority, certificate: &str) -> Usher {
    let usher = Setup::new(&tables(authority, certificate)).https().start().await;
    let listeners = usher.listeners();
    authority.asks_by_tls(&listeners[..1]);
    authority.asks_by_http(&listeners[1..]);
    usher
}

/// Believes whatever it is shown.
#[derive(Debug)]
struct Anything;

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What is shown to a client that asks for a host; `None` where that is an alert.
async fn shown(address: SocketAddr, host: &str) -> Option<CertificateDer<'static>> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything))
        .with_no_client_auth();
    let tcp = TcpStream::connect(address).await.expect("usher listens");
    let name = ServerName::try_from(host.to_owned()).expect("a host name");
    let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.ok()?;
    Some(stream.get_ref().1.peer_certificates()?.first()?.clone().into_owned())
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

/// Whoever trusts the authority is served under this host.
async fn is_trusted(usher: &Usher, authority: &CertificateAuthority, host: &str) {
    let key = rcgen::KeyPair::generate().expect("random numbers").serialize_pem();
    let trusting = Certificate::issued(authority.root(), &key, authority.root());
    trusting
        .connect(usher.listeners()[0], host, "http/1.1")
        .await
        .expect("the authority's root signs for it");
}

#[tokio::test]
async fn a_host_gets_its_certificate_by_http_01() {
    let authority = CertificateAuthority::start().await;
    let usher = usher(&authority, "challenge = \"http-01\"\nper_host = true\n").await;
    let certificate = await_certificate(&usher, DOMAIN).await;
    assert_eq!(names(&certificate), [DOMAIN]);
    is_trusted(&usher, &authority, DOMAIN).await;
    assert!(shown(usher.listeners()[0], &format!("nobody.{DOMAIN}")).await.is_none());
}

#[tokio::test]
async fn a_host_gets_its_certificate_by_tls_alpn_01() {
    let authority = CertificateAuthority::start().await;
    let usher = usher(&authority, "challenge = \"tls-alpn-01\"\nper_host = true\n").await;
    let certificate = await_certificate(&usher, DOMAIN).await;
    assert_eq!(names(&certificate), [DOMAIN]);
    is_trusted(&usher, &authority, DOMAIN).await;
}
