//! A machine of its own at the other end of a cable that a test can cut: a network namespace.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;

/// A network namespace, connected by a pair of virtual interfaces. Dropped, both are gone. Needs root.
pub struct Namespace {
    name: String,
    cable: String,
    /// This side's address.
    pub here: IpAddr,
}

impl Namespace {
    /// Makes one, cable plugged in.
    pub fn new() -> Self {
        let id = std::process::id();
        // A net of its own, so that two runs on one machine do not meet.
        let [.., high, low] = id.to_be_bytes();
        let address = |last| Ipv4Addr::new(10, 64 | (high & 63), low, last);
        let here = IpAddr::V4(address(1));
        let namespace = Self { name: format!("usher{id}"), cable: format!("ush{id}"), here };
        let (name, cable) = (&namespace.name, &namespace.cable);
        ip(&format!("netns add {name}"));
        ip(&format!("link add {cable} type veth peer name far netns {name}"));
        ip(&format!("addr add {here}/30 dev {cable}"));
        ip(&format!("link set {cable} up"));
        ip(&format!("-n {name} addr add {}/30 dev far", address(2)));
        ip(&format!("-n {name} link set far up"));
        namespace
    }

    /// A command that will run in it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Cuts the cable: neither side is told, and nothing that is sent arrives any more.
    pub fn cut(&self) {
        ip(&format!("-n {} link set far down", self.name));
    }

    /// Plugs it in again.
    pub fn mend(&self) {
        ip(&format!("-n {} link set far up", self.name));
    }
}

impl Default for Namespace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Each takes the other with it; whichever is missing never came to be.
        for words in [format!("link del {}", self.cable), format!("netns del {}", self.name)] {
            let _missing = Command::new("ip").args(words.split(' ')).output();
        }
    }
}

fn ip(words: &str) {
    let output = Command::new("ip").args(words.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {words} (needs root): {}", String::from_utf8_lossy(&output.stderr));
}
