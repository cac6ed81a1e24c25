//! Records that are looked for where the world asks for them: at port 53 of all of a zone's servers.

use super::bind::SECRET;
use super::dns::{Named, is_for_all_hosts, takes_updates, updates};
use super::{FAILED, GETTING, acme};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;
use tests::{CertificateAuthority, DOMAIN, FalseAuthority, Kind, SOON, Setup, Terms, wait_for};

/// Of the two servers, in the network of the test.
const PRIMARY: Ipv4Addr = Ipv4Addr::new(10, 53, 0, 1);
const SECONDARY: Ipv4Addr = Ipv4Addr::new(10, 53, 0, 2);
/// The types of records (RFC 1035 §3.2.2).
const SOA: u16 = 6;
const TXT: u16 = 16;

/// Whether this is the network of the test: one of its own, where port 53 is free. If not, all of the test is done there,
/// by this program once more. Needs root.
fn is_alone(test: &str) -> bool {
    const ALONE: &str = "USHER_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let prepared = format!(
        "ip link set lo up && ip addr add {PRIMARY} dev lo && ip addr add {SECONDARY} dev lo && exec \"$@\""
    );
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--net", "sh", "-c", &prepared, "sh"]);
    command.arg(std::env::current_exe().expect("a test knows its own file"));
    command.args(["--exact", test, "--ignored", "--nocapture"]).env(ALONE, "1");
    // What it says is shown only where it fails: its result is not to be counted twice.
    let output = command.output().expect("setpriv of util-linux is there");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let is_done = output.status.success() && said.contains("1 passed");
    assert!(is_done, "in a network of its own (needs root): {}\n{said}", output.status);
    false
}

/// How many records a server answers a message with (RFC 1035 §4.1).
fn answered(server: &Named, flags: u16, name: &str, kind: u16) -> u16 {
    let mut message = vec![0, 1];
    for number in [flags, 1, 0, 0, 0] {
        message.extend(number.to_be_bytes());
    }
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).expect("labels are short"));
        message.extend(label.as_bytes());
    }
    message.push(0);
    for number in [kind, 1] {
        message.extend(number.to_be_bytes());
    }
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port is free");
    socket.set_read_timeout(Some(SOON)).expect("it is not zero");
    socket.send_to(&message, server.address).expect("the server can be reached");
    let mut answer = [0; 1024];
    socket.recv(&mut answer).expect("the server answers");
    u16::from_be_bytes([answer[6], answer[7]])
}

/// How many texts a server shows.
fn texts(server: &Named) -> u16 {
    answered(server, 0, &format!("_acme-challenge.{DOMAIN}"), TXT)
}

/// Tells a server that a zone has changed (RFC 1996 §3.6).
fn notify(server: &Named) {
    answered(server, 0x2400, DOMAIN, SOA);
}

/// A primary that takes updates, and a secondary that takes over what has changed when it is told so.
fn servers() -> (Named, Named) {
    let zone = format!(
        "$TTL 60\n@ SOA ns1 you 1 3600 3600 36000 60\n@ NS ns1\n@ NS ns2\nns1 A {PRIMARY}\nns2 A {SECONDARY}\n"
    );
    let primary = Named::start(SocketAddr::from((PRIMARY, 53)), &takes_updates(DOMAIN), &zone);
    let second = format!(
        "zone \"{DOMAIN}\" {{ type secondary; file \"copy\"; primaries {{ {PRIMARY}; }}; allow-notify {{ any; }}; }};\n"
    );
    (primary, Named::start(SocketAddr::from((SECONDARY, 53)), &second, ""))
}

#[tokio::test]
#[ignore = "only root may make a network; `make test` runs it where it may"]
async fn an_authority_is_told_when_a_slow_secondary_has_the_records_as_well() {
    if !is_alone("propagation::an_authority_is_told_when_a_slow_secondary_has_the_records_as_well") {
        return;
    }
    let (primary, secondary) = servers();
    wait_for("the secondary to have the zone", SOON, async || {
        (answered(&secondary, 0, DOMAIN, SOA) == 1).then_some(())
    })
    .await;
    // Who is told too early finds nothing there.
    let terms = Terms { resolver: Some(secondary.address), ..Terms::default() };
    let real = CertificateAuthority::start_with(terms).await;
    let before = FalseAuthority::before(&real).await;
    let resolvers = format!("resolvers = [\"{}\"]", primary.address);
    let tables = updates(&acme(&before.directory(), &real), primary.address, &resolvers);
    let usher = Setup::new(&tables).https().environment("TSIG", SECRET).start().await;

    wait_for("the records at the primary", GETTING, async || (texts(&primary) == 2).then_some(())).await;
    // A second is longer than it is before the servers are asked again.
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    for _ in 0..4 {
        ticks.tick().await;
        assert_eq!((texts(&secondary), before.asked(Kind::Challenge)), (0, 0), "it is told too early");
    }
    notify(&secondary);
    is_for_all_hosts(&usher).await;
    assert!(before.asked(Kind::Challenge) >= 2);
    assert!(usher.logs.events(FAILED).is_empty());
    wait_for("the records to be gone", SOON, async || (texts(&primary) == 0).then_some(())).await;
}
