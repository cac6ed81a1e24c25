//! A real certificate authority that speaks ACME: Pebble, with a DNS server by which every name leads to the test.

use crate::http_client::{Answer, Client};
use crate::relay::Relay;
use crate::tls::Certificate;
use crate::wait::{SOON, wait_instead_of};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// Ports of the address that each authority has for itself; below those that the kernel gives to clients.
const HTTP: u16 = 5080;
const TLS: u16 = 5443;
const DIRECTORY: u16 = 14000;
const MANAGEMENT: u16 = 15000;
const DNS: u16 = 8053;
const RECORDS: u16 = 8055;

/// What it demands and what it gives.
#[derive(Debug, Clone)]
pub struct Terms {
    /// How many of a hundred good nonces it calls bad.
    pub bad_nonces: u8,
    /// The keys (base64url) of external accounts by their names: who has none gets no account. Empty = everybody does.
    pub external_accounts: BTreeMap<String, String>,
    /// For how long certificates are good, by profile. Who names none gets any of them.
    pub profiles: BTreeMap<String, Duration>,
    /// Whom it asks for names, over TCP; none = a server of its own, by which all of them lead to this test.
    pub resolver: Option<SocketAddr>,
}

impl Default for Terms {
    fn default() -> Self {
        Self {
            bad_nonces: 50,
            external_accounts: BTreeMap::new(),
            profiles: [("default".to_owned(), Duration::from_secs(90 * 86400))].into(),
            resolver: None,
        }
    }
}

/// A running one. Dropped, it ends; it ends with the test's thread, too.
pub struct CertificateAuthority {
    ip: IpAddr,
    certificate: Certificate,
    root: String,
    /// Where it connects for the challenge `http-01`.
    http: Relay,
    /// Where it connects for the challenge `tls-alpn-01`.
    tls: Relay,
    _programs: Vec<Program>,
    _folder: TempDir,
}

impl CertificateAuthority {
    /// Starts one that rejects half of the good nonces, and demands no external account.
    pub async fn start() -> Self {
        Self::start_with(Terms::default()).await
    }

    /// Starts one.
    pub async fn start_with(terms: Terms) -> Self {
        let (ip, http) = claimed().await;
        let at = |port| SocketAddr::new(ip, port);
        let tls = Relay::at(at(TLS)).await.expect("the address is this authority's alone");
        let certificate = Certificate::for_names(&[&ip.to_string()]);
        let folder = TempDir::new().expect("a temporary folder");
        let config = folder.path().join("pebble.json");
        std::fs::write(&config, terms.config(ip, &certificate).to_string()).expect("the folder is ours");

        let mut programs = Vec::new();
        if terms.resolver.is_none() {
            let mut dns = program("pebble-challtestsrv");
            dns.args(["-http01", "", "-https01", "", "-doh", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
            dns.args(["-defaultIPv4", &ip.to_string(), "-dnsserver", &at(DNS).to_string()]);
            dns.args(["-management", &at(RECORDS).to_string()]);
            programs.push(Program::start(dns, folder.path().join("dns.log")));
        }
        let mut pebble = program("pebble");
        pebble.arg("-config").arg(config);
        pebble.args(["-dnsserver", &terms.resolver.unwrap_or(at(DNS)).to_string()]);
        pebble.env("PEBBLE_WFE_NONCEREJECT", terms.bad_nonces.to_string());
        pebble.envs([("PEBBLE_VA_NOSLEEP", "1"), ("PEBBLE_AUTHZREUSE", "0")]);
        programs.push(Program::start(pebble, folder.path().join("pebble.log")));

        for port in [DIRECTORY, MANAGEMENT].into_iter().chain(terms.resolver.is_none().then_some(DNS)) {
            listening(at(port), &mut programs).await;
        }
        let management = Client::at(at(MANAGEMENT), Some(certificate.clone()));
        let root = management.get(&ip.to_string(), "/roots/0").send().await;
        done(&root);
        Self { ip, certificate, root: root.text(), http, tls, _programs: programs, _folder: folder }
    }

    /// Its address for ACME clients.
    pub fn directory(&self) -> String {
        format!("https://{}/dir", self.address())
    }

    /// What its own https shows: whoever trusts its file can ask the directory.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The root of what it issues, PEM.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// Where what its DNS server says can be changed, by HTTP.
    pub fn records(&self) -> SocketAddr {
        SocketAddr::new(self.ip, RECORDS)
    }

    /// Where its DNS server is asked, over UDP and TCP.
    pub fn resolver(&self) -> SocketAddr {
        SocketAddr::new(self.ip, DNS)
    }

    /// Looks for answers to `http-01` at these, in turn. Until then its questions wait.
    pub fn asks_by_http(&self, addresses: &[SocketAddr]) {
        self.http.leads_to(addresses);
    }

    /// Looks for answers to `tls-alpn-01` at these, in turn. Until then its questions wait.
    pub fn asks_by_tls(&self, addresses: &[SocketAddr]) {
        self.tls.leads_to(addresses);
    }

    /// Adds a text to those that its DNS server has under a name.
    pub async fn add_text(&self, name: &str, text: &str) {
        let records = Client::at(self.records(), None);
        let ask = records.post("127.0.0.1", "/set-txt");
        done(&ask.body(json!({ "host": name, "value": text }).to_string()).send().await);
    }

    /// Answers so from now on when it is asked when to renew a certificate (RFC 9773 §4.2): the first of this chain.
    pub async fn says_of_renewal(&self, chain: &str, answer: &str) {
        let said = json!({ "Certificate": chain, "ARIResponse": answer }).to_string();
        let management = Client::at(SocketAddr::new(self.ip, MANAGEMENT), Some(self.certificate.clone()));
        let ask = management.post(&self.ip.to_string(), "/set-renewal-info/").with("user-agent", "test");
        done(&ask.body(said).send().await);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, DIRECTORY)
    }
}

impl Terms {
    fn config(&self, ip: IpAddr, certificate: &Certificate) -> Value {
        let profile = |(name, lasts): (&String, &Duration)| {
            (name.clone(), json!({ "description": name, "validityPeriod": lasts.as_secs() }))
        };
        json!({ "pebble": {
            "listenAddress": SocketAddr::new(ip, DIRECTORY),
            "managementListenAddress": SocketAddr::new(ip, MANAGEMENT),
            "certificate": certificate.certificate(),
            "privateKey": certificate.private_key(),
            "httpPort": HTTP,
            "tlsPort": TLS,
            "externalAccountBindingRequired": !self.external_accounts.is_empty(),
            "externalAccountMACKeys": self.external_accounts,
            "keyAlgorithm": "ecdsa",
            "profiles": self.profiles.iter().map(profile).collect::<Map<_, _>>(),
        }})
    }
}

/// An address of loopback that nobody else uses while its port [`HTTP`] is held.
///
/// Pebble does not tell which port it got, so its ports have to be known before, and free until it listens.
async fn claimed() -> (IpAddr, Relay) {
    loop {
        let ip = Ipv4Addr::new(127, fastrand::u8(1..), fastrand::u8(..), fastrand::u8(1..255)).into();
        match Relay::at(SocketAddr::new(ip, HTTP)).await {
            Ok(held) => return (ip, held),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => panic!("{ip} cannot be listened on: {error}"),
        }
    }
}

/// One of Pebble's programs, which ends with the thread that starts it.
fn program(name: &str) -> Command {
    let folder = std::env::var("PEBBLE")
        .expect("PEBBLE is the folder of Pebble's programs: run `make test`, or see .ci/provision.sh");
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(Path::new(&folder).join(name));
    command
}

async fn listening(address: SocketAddr, programs: &mut [Program]) {
    wait_instead_of("the authority to listen", SOON, async || {
        for program in programs.iter_mut() {
            if let Ok(Some(status)) = program.child.try_wait() {
                panic!("{} ended with {status}:\n{}", program.log.display(), program.said());
            }
        }
        TcpStream::connect(address).await
    })
    .await;
}

fn done(answer: &Answer) {
    assert!(answer.status.is_success(), "the authority does not do it: {}", answer.text());
}

struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    fn start(mut command: Command, log: PathBuf) -> Self {
        let output = File::create(&log).expect("the folder is ours");
        let errors = output.try_clone().expect("a descriptor is free");
        let child = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
        Self { child: child.expect("the program can be started"), log }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ended = self.child.kill();
        let _status = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), self.said());
        }
    }
}
