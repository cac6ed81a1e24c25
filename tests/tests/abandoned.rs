//! Peers that vanish without a word.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};
use tests::{Namespace, Person, Setup, Usher, chance};

/// So long after the cable is cut nothing is left: keep-alive gives up after 30 s + 3 × 10 s, and the allocator
/// gives pages back within some 10 s.
const FORGOTTEN: Duration = Duration::from_secs(90);

/// Kills a peer that is dropped.
struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// What an usher holds.
#[derive(Clone, Copy)]
struct Held {
    descriptors: usize,
    kib: usize,
}

impl Held {
    fn by(usher: &Usher) -> Self {
        Self { descriptors: usher.descriptors(), kib: usher.memory() }
    }

    /// Whether it is as much as at the start, or at most a tenth more.
    fn is_as_at(self, start: Self) -> bool {
        let tenth_more = |value: usize| value + value / 10;
        self.descriptors <= tenth_more(start.descriptors) && self.kib <= tenth_more(start.kib)
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} descriptors, {} KiB", self.descriptors, self.kib)
    }
}

/// For this process and all that it starts.
fn allow_many_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .expect("up to the hard limit all may");
}

/// Somebody at the other end of the cable, with so many sockets open.
fn peer_with(sockets: usize, namespace: &Namespace, usher: &Usher, alice: &Person) -> Peer {
    let cookies = alice.jar.field(&alice.host()).expect("alice is logged in");
    let mut command = namespace.command(env!("CARGO_BIN_EXE_abandon"));
    command.args([&usher.client().address.to_string(), &alice.host(), &cookies, &sockets.to_string()]);
    let mut peer = Peer(command.stdout(Stdio::piped()).spawn().expect("the program can be started"));
    let mut line = String::new();
    let output = peer.0.stdout.take().expect("stdout is piped");
    BufReader::new(output).read_line(&mut line).expect("a line or an end");
    assert_eq!(line, "open\n", "the peer could not open its sockets");
    peer
}

/// Abandons so many sockets so often, and measures from the start, before any: what a socket leaves behind for good
/// adds up, what the allocator and the runtimes keep for the next ones does not.
async fn abandoned_sockets_are_forgotten(sockets: usize, rounds: usize) {
    allow_many_descriptors();
    let namespace = Namespace::new();
    let usher = Setup::new("[workspaces]\nidle_after = \"1h\"\n").listening_on(namespace.here).start().await;
    let alice = Person::at_work(&usher, "alice").await;
    let start = Held::by(&usher);
    eprintln!("at the start: {start}");
    for round in 1..=rounds {
        let peer = peer_with(sockets, &namespace, &usher, &alice);
        let open = Held::by(&usher);
        eprintln!("round {round}, {sockets} sockets open: {open}");
        assert!(open.descriptors >= 2 * sockets, "the sockets are not open");
        namespace.cut();
        drop(peer);
        let cut = Instant::now();
        let mut now = open;
        while !now.is_as_at(start) {
            assert!(cut.elapsed() < FORGOTTEN, "{start} at the start, {now} after {FORGOTTEN:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
            now = Held::by(&usher);
        }
        eprintln!("round {round}, {:.0?} after the cut: {now}", cut.elapsed());
        namespace.mend();
    }
}

#[tokio::test]
#[ignore = "needs root and a minute; `make test` runs it where it may"]
async fn some_hundred_abandoned_sockets_are_forgotten() {
    // Enough for their memory to be more than the tenth that may stay.
    abandoned_sockets_are_forgotten(chance().usize(400..800), 1).await;
}

#[tokio::test]
#[ignore = "soak: needs root and three minutes; `make soak` runs it"]
async fn two_thousand_abandoned_sockets_are_forgotten_and_two_thousand_more() {
    abandoned_sockets_are_forgotten(2_000, 2).await;
}
