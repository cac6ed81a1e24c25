//! One BIND. The tests of a running Usher (`tests/tests/certificates`) have theirs from here, too.

use std::fmt::Write;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::sync::{LazyLock, mpsc};
use std::time::Duration;

/// The secret of the keys of the tests, base64.
pub const SECRET: &str = "dGhlIHNlY3JldCBvZiB0aGUga2V5cyBvZiB0aGUgdGVzdHM=";

/// How long it may take until it runs.
const PATIENCE: Duration = Duration::from_secs(30);

/// It ends with this.
pub struct Bind {
    pub child: Child,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Drop for Bind {
    fn drop(&mut self) {
        // Both fail only for a process that has ended already.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Bind {
    /// One that listens there; its configuration is written to the folder, and is what comes behind [`options`].
    pub fn start(folder: &Path, name: &str, address: SocketAddr, config: &str) -> Self {
        let file = folder.join(format!("{name}.conf"));
        std::fs::write(&file, options(folder, address) + config).expect("the folder can be written");
        // With its parent's thread, which is the test's, it ends also when that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program("named", "/usr/sbin"));
        command.args(["-g", "-n", "1", "-c"]).arg(&file).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("setpriv of util-linux is there");
        let log = BufReader::new(child.stderr.take().expect("it is piped"));
        let (told, runs) = mpsc::channel();
        std::thread::spawn(move || {
            let mut before = String::new();
            for line in log.lines().map_while(Result::ok) {
                if line.ends_with(" running") {
                    let _gone = told.send(Ok(()));
                    before.clear();
                }
                let _written = writeln!(before, "{line}");
            }
            let _gone = told.send(Err(before));
        });
        match runs.recv_timeout(PATIENCE) {
            Ok(Ok(())) => Self { child, address },
            Ok(Err(log)) => panic!("the DNS server {name} ends at once:\n{log}"),
            Err(_) => panic!("the DNS server {name} does not start within {PATIENCE:?}"),
        }
    }
}

/// The beginning of a configuration; the block of options is open still.
fn options(folder: &Path, address: SocketAddr) -> String {
    let (folder, ip, port) = (folder.display(), address.ip(), address.port());
    format!(
        "controls {{ }};\noptions {{ directory \"{folder}\"; pid-file none; session-keyfile none; lock-file none; \
         managed-keys-directory \"{folder}\"; dnssec-validation no; empty-zones-enable no; listen-on-v6 {{ none; }}; \
         listen-on port {port} {{ {ip}; }}; "
    )
}

/// A program, out of a folder or the search path.
pub fn program(name: &str, folder: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(folder.into()).chain(std::env::split_paths(&path));
    let found = folders.map(|folder| folder.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is not here; `.ci/provision.sh dns` installs it"))
}

/// A free port of 127.0.0.1, where alone BIND finds an interface; below those that the kernel gives away by itself.
pub fn free() -> SocketAddr {
    // One after the other, so that no two tests get the same; from anywhere, for the sake of other processes.
    static COUNT: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(fastrand::u16(0..12_000)));
    loop {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 20_000 + COUNT.fetch_add(1, Relaxed) % 12_000));
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}
