//! Peers that vanish without a word.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;
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
    /// KiB in memory: what a limit counts, and what `top` shows.
    resident: usize,
    /// KiB of it that were allocated. The others are pages of the program, which come and go as the kernel likes.
    allocated: usize,
}

impl Held {
    fn by(usher: &Usher) -> Self {
        let (resident, allocated) = (usher.memory("Rss"), usher.memory("Anonymous"));
        Self { descriptors: usher.descriptors(), resident, allocated }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { descriptors, resident, allocated } = self;
        write!(f, "{descriptors} descriptors, {resident} KiB resident, {allocated} KiB of it allocated")
    }
}

/// Whether it is as much as before, or at most a tenth more.
fn is_as_before(now: usize, before: usize) -> bool {
    now <= before + before / 10
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

/// A net with an usher, and alice at the other end of its cable.
struct Lab {
    namespace: Namespace,
    usher: Usher,
    alice: Person,
    /// What the usher held before any socket.
    start: Held,
}

impl Lab {
    async fn new() -> Self {
        allow_many_descriptors();
        let namespace = Namespace::new();
        let rest = "[workspaces]\nidle_after = \"1h\"\n";
        let usher = Setup::new(rest).listening_on(namespace.here).start().await;
        let alice = Person::at_work(&usher, "alice").await;
        let start = Held::by(&usher);
        eprintln!("at the start: {start}");
        Self { namespace, usher, alice, start }
    }

    /// Opens so many sockets, abandons them, and tells what is held when they must be forgotten.
    ///
    /// Looked at once, at the very end: the first moment that fits would flatter, since pages go back by and by.
    async fn after_abandoning(&self, sockets: usize) -> Held {
        let peer = peer_with(sockets, &self.namespace, &self.usher, &self.alice);
        let open = Held::by(&self.usher);
        eprintln!("with {sockets} sockets: {open}");
        assert!(open.descriptors >= 2 * sockets, "the sockets are not open");
        self.namespace.cut();
        drop(peer);
        tokio::time::sleep(FORGOTTEN).await;
        let after = Held::by(&self.usher);
        eprintln!("{FORGOTTEN:?} after the cut: {after}");
        self.namespace.mend();
        assert!(is_as_before(after.descriptors, self.start.descriptors), "descriptors are left");
        let left = after.allocated.saturating_sub(self.start.allocated);
        assert!(left <= self.start.resident / 10, "{left} KiB are left");
        after
    }
}

#[tokio::test]
#[ignore = "needs root and two minutes; `make test` runs it where it may"]
async fn some_hundred_abandoned_sockets_are_forgotten() {
    let lab = Lab::new().await;
    // So many that their memory is more than a tenth, and so few that the allocator's books on them are less.
    let after = lab.after_abandoning(chance().usize(400..800)).await;
    assert!(
        is_as_before(after.allocated, lab.start.allocated),
        "more is left than a tenth of what was allocated"
    );
}

/// What a socket leaves for good adds up; what the allocator needs to keep book of its pages (a quarter of a MiB for
/// a thousand sockets, on each core) it keeps once, for the next ones.
#[tokio::test]
#[ignore = "soak: needs root and four minutes; `make soak` runs it"]
async fn two_thousand_abandoned_sockets_are_forgotten_and_two_thousand_more() {
    let lab = Lab::new().await;
    let first = lab.after_abandoning(2_000).await;
    let second = lab.after_abandoning(2_000).await;
    assert!(is_as_before(second.allocated, first.allocated), "each socket leaves something");
}
