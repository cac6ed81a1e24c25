//! Peers that vanish without a word.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;
use tests::{Namespace, Person, Setup, wait_for};

/// Keep-alive 30 s + 3 × 10 s, and some time for what follows.
const FORGOTTEN: Duration = Duration::from_secs(90);
const SOCKETS: usize = 2_000;

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// For this process and all that it starts.
fn allow_many_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })
        .expect("up to the hard limit all may");
}

fn within_a_tenth(now: usize, start: usize) -> bool {
    now <= start + start / 10
}

#[tokio::test]
#[ignore = "soak: needs root and two minutes; `make soak` runs it"]
async fn two_thousand_abandoned_sockets_are_forgotten() {
    allow_many_descriptors();
    let namespace = Namespace::new();
    let rest = "[workspaces]\nidle_after = \"1h\"\n";
    let usher = Setup::new(rest).listening_on(Namespace::HERE).start().await;
    let alice = Person::at_work(&usher, "alice").await;
    let (descriptors, memory) = (usher.descriptors(), usher.memory());

    let cookies = alice.jar.field(&alice.host()).unwrap();
    let peer = namespace
        .command(env!("CARGO_BIN_EXE_abandon"))
        .args([&usher.client().address.to_string(), &alice.host(), &cookies, &SOCKETS.to_string()])
        .stdout(Stdio::piped())
        .spawn();
    let mut peer = Killed(peer.unwrap());
    let mut line = String::new();
    BufReader::new(peer.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "open\n", "the peer could not open its sockets");
    assert!(usher.descriptors() >= descriptors + 2 * SOCKETS, "the sockets are not open");

    namespace.cut();
    drop(peer);
    wait_for("descriptors to be as they were", FORGOTTEN, async || {
        within_a_tenth(usher.descriptors(), descriptors).then_some(())
    })
    .await;
    let mut now = 0;
    let back = tokio::time::timeout(
        FORGOTTEN / 3,
        wait_for("memory to be as it was", FORGOTTEN, async || {
            now = usher.memory();
            within_a_tenth(now, memory).then_some(())
        }),
    );
    let back = back.await.is_ok();
    assert!(back, "{memory} KiB before the sockets, {now} KiB after them");
}
