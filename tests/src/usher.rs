//! The real binary, on free ports and a state folder of its own.

use crate::http_client::{Ask, Client, answer_over};
use crate::logs::Logs;
use crate::processes;
use crate::tls::Certificate;
use crate::wait::{SOON, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::UnixStream;

/// The base under which every test's workspaces have their hosts.
pub const DOMAIN: &str = "lab.localhost";

/// What a test gets unless it says otherwise: everybody works in the demo.
const ACCESS: &str = "[access]\nallow = \"true\"\ntemplate = \"'demo'\"\n\n";
const DEMO: &str =
    "[templates.demo]\ncommand = [\"{usher}\", \"demo\", \"--socket\", \"{socket}\"]\nconnect = \"socket\"\n";

/// Tests hurry as no person does, and all come from one address.
const LIMITS: &str = "[limits]\nhandshakes_per_address = 1000000000\nrequests_per_address = 1000000000\nlogins_per_address = 1000000000\n\
    bad_tokens_per_address = 1000000000\nrequests_per_user = \"1000000000\"\n\
    spawns_per_user = \"1000000000\"\nmessages_per_user = \"1000000000\"\n\n";

/// The demo beside a shell that ignores SIGTERM.
const STUBBORN: &str = "[templates.demo]\nstop_grace = \"1s\"\nconnect = \"socket\"\n\
    command = [\"/bin/sh\", \"-c\", \"trap '' TERM; {usher} demo --socket {socket} & while :; do sleep 60; done\"]\n";

/// How to start an usher: its configuration, its certificate, its environment.
#[derive(Clone, Default)]
pub struct Setup {
    /// Keys that stand before the first table.
    root: String,
    /// Further keys of the listener.
    listener: String,
    /// Further keys of `[admin]`.
    admin: String,
    rest: String,
    certificate: Option<Certificate>,
    https: bool,
    listen_on: Option<IpAddr>,
    environment: Vec<(String, String)>,
    no_development: bool,
}

impl Setup {
    /// Listeners, admin, domain, state folder and login are the fixture's; this is the rest of the TOML.
    ///
    /// Without an `[access]` of its own everybody gets the template `demo`, without a `[templates.demo]` of its own that
    /// is the application inside the binary, and without `[limits]` of its own there are none.
    pub fn new(rest: &str) -> Self {
        Self { rest: rest.to_owned(), ..Self::default() }
    }

    /// With keys before the first table.
    pub fn root(mut self, keys: &str) -> Self {
        self.root.push_str(keys);
        self
    }

    /// With further keys of its listener.
    pub fn listener(mut self, keys: &str) -> Self {
        self.listener.push_str(keys);
        self
    }

    /// With further keys of `[admin]`.
    pub fn admin(mut self, keys: &str) -> Self {
        self.admin.push_str(keys);
        self
    }

    /// Serves TLS with this certificate.
    pub fn certificate(mut self, certificate: &Certificate) -> Self {
        self.certificate = Some(certificate.clone());
        self
    }

    /// Serves TLS with the certificates of its own tables, and leads to it from a second listener.
    pub fn https(mut self) -> Self {
        self.https = true;
        self
    }

    /// Listens on this address in place of loopback, the development login included.
    pub fn listening_on(mut self, address: IpAddr) -> Self {
        self.listen_on = Some(address);
        self
    }

    /// With one more variable in its environment.
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With one more table.
    pub(crate) fn more(mut self, table: &str) -> Self {
        self.rest.push_str(&format!("\n{table}"));
        self
    }

    /// Without the development login.
    pub fn without_development(mut self) -> Self {
        self.no_development = true;
        self
    }

    /// With workspaces that take no notice of SIGTERM, if so asked.
    pub fn stubborn(mut self, stubborn: bool) -> Self {
        if stubborn {
            self.rest.push_str(STUBBORN);
        }
        self
    }

    /// Starts it and waits until it listens.
    pub async fn start(self) -> Usher {
        let folder = Arc::new(TempDir::new().expect("a temporary folder"));
        let mut usher = Usher::spawn(self, folder);
        usher.await_listening().await;
        usher
    }

    /// As [`Setup::start`], where it may well end in place of listening; then what it said.
    ///
    /// # Errors
    /// It ended.
    pub async fn try_start(self) -> Result<Usher, String> {
        let folder = Arc::new(TempDir::new().expect("a temporary folder"));
        let mut usher = Usher::spawn(self, folder);
        let begun = wait_for("usher to listen or to end", SOON, async || {
            usher.address("admin.address").map(Ok).or_else(|| usher.child.try_wait().ok()?.map(Err))
        });
        match begun.await {
            Ok(_) => {
                usher.await_listening().await;
                Ok(usher)
            }
            Err(_status) => {
                let words = "the last of what it said";
                Err(wait_for(words, SOON, async || {
                    Some(usher.logs.all()).filter(|logs| logs.contains("usher:"))
                })
                .await)
            }
        }
    }

    fn toml(&self, folder: &Path) -> String {
        let folder = folder.display();
        let protocol = if self.https || self.certificate.is_some() { "https" } else { "http" };
        let redirect = match self.https {
            true => "[[listeners]]\naddress = \"127.0.0.1:0\"\nprotocol = \"redirect\"\n",
            false => "",
        };
        let certificates = self.certificate.as_ref().map(Certificate::tables).unwrap_or_default();
        let address = SocketAddr::new(self.listen_on.unwrap_or(Ipv4Addr::LOCALHOST.into()), 0);
        let anywhere = self.listen_on.is_some_and(|address| !address.is_loopback())
            || self.root.contains("trusted_proxies");
        let access = if self.rest.contains("[access]") { "" } else { ACCESS };
        let limits = if self.rest.contains("[limits]") { "" } else { LIMITS };
        let demo = if self.rest.contains("[templates.demo]") { "" } else { DEMO };
        let login = match self.no_development {
            true => String::new(),
            false => {
                format!("[login]\ndevelopment = true\ndevelopment_from_anywhere_unsafe = {anywhere}\n\n")
            }
        };
        format!(
            "domain = \"{DOMAIN}\"\nstate_dir = \"{folder}/state\"\n{}\n\
             [[listeners]]\naddress = \"{address}\"\nprotocol = \"{protocol}\"\n{}\n{redirect}\
             [admin]\naddress = \"127.0.0.1:0\"\nsocket = \"{folder}/admin.sock\"\n{}\n\
             {certificates}{login}{access}{limits}{demo}\n{}\n",
            self.root, self.listener, self.admin, self.rest
        )
    }
}

/// A running usher. Dropped, it is killed, and every process of its workspaces with it.
pub struct Usher {
    child: Child,
    folder: Arc<TempDir>,
    setup: Setup,
    client: Client,
    admin: SocketAddr,
    /// What it logged since its start.
    pub logs: Logs,
}

impl Usher {
    /// Starts one: `rest` as for [`Setup::new`].
    pub async fn start(rest: &str) -> Self {
        Setup::new(rest).start().await
    }

    fn spawn(setup: Setup, folder: Arc<TempDir>) -> Self {
        let config = folder.path().join("usher.toml");
        std::fs::write(&config, setup.toml(folder.path())).expect("the folder is ours");
        let mut child = Command::new(Self::binary())
            .args(["serve", "--config"])
            .arg(&config)
            .envs(setup.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary can be started");
        let logs = Logs::default();
        logs.follow(child.stderr.take().expect("stderr is piped"));
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let client = Client::at(nowhere, setup.certificate.clone());
        Self { child, folder, setup, client, admin: nowhere, logs }
    }

    /// It has told all of its addresses by then.
    async fn await_listening(&mut self) {
        wait_for("usher to carry connections", SOON, async || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("usher ended with {status}:\n{}", self.logs.all());
            }
            (!self.logs.events("carrying connections").is_empty()).then_some(())
        })
        .await;
        let told = "the addresses are told before";
        (self.client.address, self.admin) =
            (self.address("listener.address").expect(told), self.address("admin.address").expect(told));
    }

    fn address(&self, field: &str) -> Option<SocketAddr> {
        self.logs.values("listening", field).first()?.parse().ok()
    }

    /// The binary that `USHER_BIN` names, or else the one beside this test, as `cargo build --workspace --bins` leaves it.
    ///
    /// Panics when it is not there: cargo builds a package's binaries for the tests of that package only.
    pub fn binary() -> PathBuf {
        let beside = || {
            let test = std::env::current_exe().expect("a test knows its own file");
            let target = test.parent().and_then(Path::parent).expect("tests are in target/<profile>/deps");
            target.join("usher")
        };
        let binary = std::env::var_os("USHER_BIN").map_or_else(beside, PathBuf::from);
        assert!(
            binary.exists(),
            "{} is missing: run `cargo build --workspace --bins` first",
            binary.display()
        );
        binary
    }

    /// What asks its listener.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The addresses of its listeners, in the order of the configuration.
    pub fn listeners(&self) -> Vec<SocketAddr> {
        let logged = self.logs.values("listening", "listener.address");
        logged.iter().map(|address| address.parse().expect("an address is logged")).collect()
    }

    /// Its admin address.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// A GET of its admin address.
    pub fn admin(&self, path: &str) -> Ask {
        Client::at(self.admin, None).get("127.0.0.1", path)
    }

    /// The value of a metric's first sample whose line begins so.
    pub async fn metric(&self, sample: &str) -> Option<f64> {
        let text = self.admin("/metrics").send().await.text();
        let line = text.lines().find(|line| line.starts_with(sample))?;
        line.rsplit_once(' ')?.1.parse().ok()
    }

    /// What `/status` says, over the admin socket.
    pub async fn status(&self) -> serde_json::Value {
        let stream =
            UnixStream::connect(self.folder.path().join("admin.sock")).await.expect("the socket is there");
        answer_over(stream, "/status").await.expect("/status answers").json()
    }

    /// Runs another command of the binary on the same configuration; its whole output and whether it succeeded.
    pub fn command(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(Self::binary());
        command.args(arguments).arg("--config").arg(self.folder.path().join("usher.toml"));
        command.envs(self.setup.environment.iter().map(|(name, value)| (name, value)));
        let output = command.output().expect("the binary can be started");
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }

    /// Its state folder.
    pub fn state_dir(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// The processes of its workspaces.
    pub fn workspace_processes(&self) -> Vec<Pid> {
        processes::of_workspaces(&self.state_dir())
    }

    /// How many descriptors it holds.
    pub fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.pid().as_raw_pid());
        std::fs::read_dir(folder).expect("usher runs").count()
    }

    /// Its memory in KiB, by the kernel's word for a part of it: `Rss` for all, `Anonymous` for what it allocated.
    pub fn memory(&self, part: &str) -> usize {
        let file = format!("/proc/{}/smaps_rollup", self.pid().as_raw_pid());
        let text = std::fs::read_to_string(file).expect("usher runs");
        let line = text.lines().find_map(|line| line.strip_prefix(part)?.strip_prefix(':'));
        let kib = line.expect("the kernel counts pages").trim().trim_end_matches(" kB");
        kib.parse().expect("a number of KiB")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("usher runs until its fixture is dropped");
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self, deadline: Duration) -> ExitStatus {
        let child = &mut self.child;
        wait_for("usher to end", deadline, async || child.try_wait().expect("usher is our child")).await
    }

    /// Ends it as `kill -9` does and starts it again on the same state.
    pub async fn kill_and_restart(self) -> Self {
        self.killed_and_restarted_after(|| ()).await
    }

    /// As [`Usher::kill_and_restart`]; something happens while it is away.
    pub async fn killed_and_restarted_after(mut self, happens: impl FnOnce()) -> Self {
        self.end();
        happens();
        let setup = self.setup.clone();
        self.replaced_by(setup).await
    }

    /// Ends it as `kill -9` does, unless it has ended, and starts another on the same state.
    pub async fn replaced_by(mut self, setup: Setup) -> Self {
        self.end();
        let mut again = Self::spawn(setup, Arc::clone(&self.folder));
        again.await_listening().await;
        again
    }

    fn end(&mut self) {
        // Both fail only for a process that has ended already.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

impl Drop for Usher {
    fn drop(&mut self) {
        self.end();
        // The last holder of the folder takes the workspaces with it: a restarted usher still needs them.
        if Arc::strong_count(&self.folder) == 1 {
            self.workspace_processes().into_iter().for_each(processes::kill);
        }
        let panics = self.logs.panics();
        if !std::thread::panicking() {
            assert!(panics.is_empty(), "usher panicked: {panics:?}");
        } else {
            eprintln!("usher's log:\n{}", self.logs.all());
        }
    }
}
