//! DNS servers of a test: a primary, a secondary and a resolver, each a BIND with an address of its own.

use super::bind::{Bind, SECRET, free};
use super::{PATIENCE, relay, wait_for};
use certs::DnsRecords;
use config::{DnsProvider, DnsProviderKind, DnsProviderName, HostName, Secret, Tsig, TsigAlgorithm};
use hickory_proto::op::{Message, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};
use rustix::process::{Pid, Signal, kill_process};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// The primary (`.1`, also the parent of all zones), the secondary (`.2`) and the resolver; nobody is at `.4`.
pub struct Servers {
    pub primary: Named,
    pub secondary: Named,
    pub resolver: Named,
    pub port: u16,
    net: [u8; 3],
    _dir: TempDir,
}

/// How the secondary learns of changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Notify {
    AtOnce,
    /// When the test says so.
    Never,
}

/// One of them.
pub struct Named {
    bind: Bind,
    /// Where the world sees it.
    pub address: SocketAddr,
}

impl Named {
    fn start(dir: &Path, name: &str, own: SocketAddr, config: &str) -> Self {
        Self { bind: Bind::start(dir, name, own, config), address: own }
    }

    /// It keeps its sockets and answers nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.bind.child.id().cast_signed()).expect("a child has an id");
        kill_process(pid, signal).expect("the child was not waited for");
    }

    /// The TXT records of a name, sorted.
    pub fn texts(&self, name: &str) -> Vec<String> {
        let answer = self.exchange(&question(name, RecordType::TXT));
        let texts = answer.answers.iter().filter_map(|record| match &record.data {
            RData::TXT(text) => Some(String::from_utf8_lossy(&text.txt_data.concat()).into_owned()),
            _ => None,
        });
        let mut texts: Vec<String> = texts.collect();
        texts.sort();
        texts
    }

    /// Tells it that a zone has changed (RFC 1996).
    pub fn notify(&self, zone: &str) {
        let mut notify = question(zone, RecordType::SOA);
        notify.metadata.op_code = OpCode::Notify;
        notify.metadata.authoritative = true;
        self.exchange(&notify);
    }

    fn exchange(&self, message: &Message) -> Message {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback has a free port");
        socket.set_read_timeout(Some(PATIENCE)).expect("it is not zero");
        let bytes = message.to_vec().expect("it is short");
        socket.send_to(&bytes, self.bind.address).expect("loopback can be reached");
        let mut answer = [0; 4096];
        let length = socket.recv(&mut answer).expect("the server answers");
        Message::from_vec(&answer[..length]).expect("it answers by the standard")
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut question = Message::query();
    question.add_query(Query::query(Name::from_ascii(format!("{name}.")).expect("a name"), kind));
    question
}

/// Numbers that no other test has.
fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    std::process::id().wrapping_mul(64) + NEXT.fetch_add(1, Ordering::Relaxed)
}

fn address([a, b, c]: [u8; 3], host: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, host)
}

impl Servers {
    pub async fn start() -> Self {
        Self::with(Notify::AtOnce).await
    }

    pub async fn with(notify: Notify) -> Self {
        let dir = tempfile::tempdir().expect("the folder for temporary files can be written");
        let [_, a, b, _] = number().to_be_bytes();
        let net = [127, 64 + a % 128, b];
        let (first, second, third) = (free(), free(), free());
        for zone in ZONES {
            std::fs::write(dir.path().join(zone), zone_file(zone, net)).expect("the folder can be written");
        }
        let config = primary_config(second, notify);
        let mut primary = Named::start(dir.path(), "primary", first, &config);
        let config = secondary_config(first);
        let mut secondary = Named::start(dir.path(), "secondary", second, &config);
        let ahead = format!("{} port {}", first.ip(), first.port());
        let config = format!("recursion yes; forward only; forwarders {{ {ahead}; }}; }};\n");
        let resolver = Named::start(dir.path(), "resolver", third, &config);
        let relayed = async |host, port, to| {
            let at = (address(net, host), port).into();
            relay::start(at, to).await.expect("the address is this test's alone")
        };
        primary.address = relayed(1, 0, first).await;
        let port = primary.address.port();
        secondary.address = relayed(2, port, second).await;
        let servers = Self { primary, secondary, resolver, port, net, _dir: dir };
        servers.expect_transfer().await;
        servers
    }

    /// The secondary takes zones over in its own time.
    async fn expect_transfer(&self) {
        let soa = |zone: &str| self.secondary.exchange(&question(zone, RecordType::SOA));
        let is_over = || SECONDED.iter().all(|zone| !soa(zone).answers.is_empty());
        wait_for("the secondary takes the zones over", is_over).await;
    }

    pub fn at(&self, host: u8) -> SocketAddr {
        (address(self.net, host), self.port).into()
    }

    /// Records by updates at the primary, with the key `usher`.
    pub fn records(&self) -> DnsRecords {
        self.records_of(self.provider(self.updates("usher", SECRET)))
    }

    pub fn records_of(&self, provider: DnsProvider) -> DnsRecords {
        DnsRecords::with_port(Arc::new(provider), self.port).expect("it can be used")
    }

    pub fn provider(&self, kind: DnsProviderKind) -> DnsProvider {
        DnsProvider {
            name: DnsProviderName::parse("home").expect("a name"),
            kind,
            check_propagation: true,
            propagation_timeout: PATIENCE,
            resolvers: vec![self.resolver.address],
        }
    }

    pub fn updates(&self, key: &str, secret: &str) -> DnsProviderKind {
        let algorithm = match key {
            "usher-384" => TsigAlgorithm::HmacSha384,
            "usher-512" => TsigAlgorithm::HmacSha512,
            _ => TsigAlgorithm::HmacSha256,
        };
        let tsig = Tsig { key_name: host(key), secret: Secret::new(secret.to_owned()), algorithm };
        DnsProviderKind::Rfc2136 { server: self.primary.address, zone: None, tsig: Some(tsig) }
    }
}

pub fn host(text: &str) -> HostName {
    HostName::parse(text).expect("a host name")
}

/// The zones of the primary. `lab.test` and `records.test` take updates and have a secondary; `dead.test` takes updates
/// and names a server beside the primary where none is.
const ZONES: [&str; 5] = ["test", "lab.test", "records.test", "dead.test", "fixed.test"];
const SECONDED: [&str; 2] = ["lab.test", "records.test"];

fn zone_file(zone: &str, net: [u8; 3]) -> String {
    let mut text =
        "$TTL 60\n@ SOA ns1.lab.test. you.test. 1 3600 3600 36000 60\n@ NS ns1.lab.test.\n".to_owned();
    let mut add = |lines: &str| text.push_str(lines);
    match zone {
        "test" => {
            for zone in &ZONES[1..] {
                add(&format!("{zone}. NS ns1.lab.test.\n"));
            }
        }
        "lab.test" => {
            add("@ NS ns2.lab.test.\n");
            for (name, last) in [("ns1", 1), ("ns2", 2), ("ns4", 4)] {
                add(&format!("{name} A {}\n", address(net, last)));
            }
            add("_acme-challenge.alias CNAME middle\nmiddle CNAME alias.records.test.\n");
            add("_acme-challenge.round CNAME there\nthere CNAME _acme-challenge.round\n");
            add("_acme-challenge.registered CNAME 8e5700ea.records.test.\n");
        }
        "records.test" => add("@ NS ns2.lab.test.\n*.wild CNAME balancer.elsewhere.example.\n"),
        "dead.test" => add("@ NS ns4.lab.test.\n"),
        _ => (),
    }
    text
}

fn primary_config(secondary: SocketAddr, notify: Notify) -> String {
    let mut config = "recursion no; notify-delay 0; minimal-responses no; ".to_owned();
    match notify {
        Notify::AtOnce => {
            let also = format!("{} port {}", secondary.ip(), secondary.port());
            config.push_str(&format!("notify explicit; also-notify {{ {also}; }}; }};\n"));
        }
        Notify::Never => config.push_str("notify no; };\n"),
    }
    for (key, algorithm) in
        [("usher", "hmac-sha256"), ("usher-384", "hmac-sha384"), ("usher-512", "hmac-sha512")]
    {
        config.push_str(&format!("key {key} {{ algorithm {algorithm}; secret \"{SECRET}\"; }};\n"));
    }
    for zone in ZONES {
        // As the README of deploy/dns says it.
        let grants = match zone {
            "lab.test" => {
                "grant usher name _acme-challenge.lab.test. TXT; grant usher-384 name _acme-challenge.lab.test. TXT; \
                 grant usher-512 name _acme-challenge.lab.test. TXT;"
            }
            "records.test" | "dead.test" => "grant usher zonesub TXT;",
            _ => "",
        };
        let policy = if grants.is_empty() { String::new() } else { format!("update-policy {{ {grants} }};") };
        config.push_str(&format!("zone \"{zone}\" {{ type primary; file \"{zone}\"; {policy} }};\n"));
    }
    config
}

fn secondary_config(primary: SocketAddr) -> String {
    let mut config = "recursion no; allow-notify { any; }; notify no; };\n".to_owned();
    for zone in SECONDED {
        let primaries = format!("{} port {}", primary.ip(), primary.port());
        config.push_str(&format!(
            "zone \"{zone}\" {{ type secondary; file \"{zone}.copy\"; primaries {{ {primaries}; }}; }};\n"
        ));
    }
    config
}
