//! A real Kubernetes in a network of its own, started by `tests/cluster/cluster.sh`.
//!
//! A test that has one runs in its network: [`Cluster::shared`] and [`Cluster::alone`] move the test's thread there.
//! What the thread starts and connects from then on, an [`Usher`] included, reaches pods by their addresses. So such
//! a test needs a runtime of one thread, which is what `#[tokio::test]` makes.

mod cable;
mod realm;

use crate::usher::Usher;
use crate::wait::{SOON, wait_for};
pub use cable::{Cable, Way};
pub use realm::Realm;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::io::AsyncWriteExt;
use tokio::runtime::{Handle, RuntimeFlavor};

/// Label and taint of the simulated nodes: pods that select the one and tolerate the other "run" there at once.
pub const SIMULATED: &str = "usher.test/simulated";
/// Names the folder of a cluster that runs already, for all tests of a run to share.
const SHARED: &str = "USHER_TEST_CLUSTER";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/cluster.sh");

/// A process of the cluster that a test can end, stop for a while, and start again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Where everything is kept.
    Etcd,
    /// What everybody talks to.
    ApiServer,
    /// Makes pods of StatefulSets, takes note of lost nodes, and so on.
    ControllerManager,
    /// Finds a node for each pod.
    Scheduler,
    /// The real node's; its containers outlive it.
    Kubelet,
    /// Plays the simulated nodes.
    Kwok,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::Kwok => "kwok",
        }
    }
}

/// What a container can be made of: no registry is asked, so pods need `imagePullPolicy: Never`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Image {
    /// A shell and small tools.
    Busybox,
    /// This build of Usher, for itself and for its demo: `usher demo --address 0.0.0.0:8888`.
    Usher,
    /// JupyterLab: `jupyter lab`.
    JupyterLab,
}

/// A handle to a running cluster.
#[derive(Clone)]
pub struct Cluster {
    inner: Arc<Inner>,
}

struct Inner {
    run: PathBuf,
    /// The file of its network namespace.
    network: String,
    /// The names of the images that were brought in: telling one takes a second, since it is told by its content.
    images: Mutex<Vec<(Image, String)>>,
    /// None = somebody else's. The cluster ends when its standard input does: also when this process is killed.
    owned: Option<Child>,
}

impl Cluster {
    /// The one that the tests of this run share: leave its parts alone.
    ///
    /// It is the one that `USHER_TEST_CLUSTER` names, or one that the first to ask starts for this test binary.
    pub fn shared() -> Self {
        static CLUSTER: OnceLock<Cluster> = OnceLock::new();
        let cluster = CLUSTER.get_or_init(|| match std::env::var_os(SHARED) {
            Some(run) => Self::at(run.into(), None),
            None => Self::start(""),
        });
        cluster.enter();
        cluster.clone()
    }

    /// One for this test alone, which may break it. It ends with its last handle.
    pub fn alone() -> Self {
        Self::with_features("")
    }

    /// As [`Cluster::alone`], with some of the API server's features on or off: `WatchList=false`.
    pub fn with_features(features: &str) -> Self {
        let cluster = Self::start(features);
        cluster.enter();
        cluster
    }

    fn start(features: &str) -> Self {
        let mut child = Command::new(SCRIPT)
            .args(["up", "--until-eof"])
            .env("CLUSTER_FEATURES", features)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the script can be started");
        let mut line = String::new();
        // It gives up by itself when a cluster does not become ready, and says why.
        let stdout = child.stdout.as_mut().expect("stdout is piped");
        let _no_line = BufReader::new(stdout).read_line(&mut line);
        let run = line.strip_prefix("cluster ").and_then(|line| line.split(' ').next());
        let run = PathBuf::from(run.expect("a cluster (needs root and `.ci/provision.sh cluster`)"));
        eprint!("{line}");
        Self::at(run, Some(child))
    }

    fn at(run: PathBuf, owned: Option<Child>) -> Self {
        let pid = std::fs::read_to_string(run.join("pid")).expect("the cluster runs");
        let network = format!("/proc/{}/ns/net", pid.trim());
        Self { inner: Arc::new(Inner { run, network, images: Mutex::default(), owned }) }
    }

    /// Moves this thread into the cluster's network.
    pub fn enter(&self) {
        let flavor = Handle::try_current().map(|handle| handle.runtime_flavor());
        assert!(
            !matches!(flavor, Ok(RuntimeFlavor::MultiThread)),
            "the runtime's other threads would stay outside of the cluster's network"
        );
        let namespace = File::open(&self.inner.network).expect("the cluster runs");
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("root may change a thread's network");
    }

    /// Its folder; logs of its parts are in `logs` there.
    pub fn folder(&self) -> &Path {
        &self.inner.run
    }

    /// The kubeconfig of one who may do everything.
    pub fn admin(&self) -> PathBuf {
        self.inner.run.join("admin.kubeconfig")
    }

    /// The API server's address and the file of the certificate that it is known by.
    fn server(&self) -> (SocketAddr, PathBuf) {
        let admin = std::fs::read_to_string(self.admin()).expect("the cluster wrote it");
        let after = |what: &str| {
            let (_, rest) = admin.split_once(what)?;
            rest.split(['"', '}', ',', '\n']).next().map(|text| text.trim().to_owned())
        };
        let address = after("https://").and_then(|address| address.parse().ok());
        let authority = after("certificate-authority: ").expect("a kubeconfig names it");
        (address.expect("a kubeconfig names the server"), authority.into())
    }

    /// Runs kubectl as the admin; what it printed. Panics when it fails.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        self.try_kubectl(arguments).await.unwrap_or_else(|said| panic!("kubectl {arguments:?}: {said}"))
    }

    /// As [`Cluster::kubectl`], where it may well fail.
    ///
    /// # Errors
    /// What it said.
    pub async fn try_kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        self.kubectl_reading(arguments, "").await
    }

    /// An object or a list, as JSON.
    pub async fn object(&self, arguments: &[&str]) -> serde_json::Value {
        let text = self.kubectl(&[&["get", "--output=json"], arguments].concat()).await;
        serde_json::from_str(&text).expect("kubectl writes JSON")
    }

    /// Creates an object, or changes it to be so. Panics when it is refused.
    pub async fn apply(&self, object: &serde_json::Value) {
        let applied = self.kubectl_reading(&["apply", "--filename=-"], &object.to_string()).await;
        applied.unwrap_or_else(|said| panic!("{object:#} is refused: {said}"));
    }

    async fn kubectl_reading(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = self.kubectl_command();
        command.args(arguments);
        output_of(command, input).await
    }

    /// Runs helm as the admin, with values where `--values=-` asks for them; what it printed.
    ///
    /// # Errors
    /// What it said.
    pub async fn helm(&self, arguments: &[&str], values: &serde_json::Value) -> Result<String, String> {
        let mut command = self.program("helm");
        command.args(arguments);
        output_of(command, &values.to_string()).await
    }

    /// kubectl as the admin, to be given arguments.
    pub fn kubectl_command(&self) -> Command {
        self.program("kubectl")
    }

    /// A program as the admin, to be given arguments: by this way it reaches the cluster from any thread.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.inner.network)).arg(self.inner.run.join("programs").join(name));
        command.arg("--kubeconfig").arg(self.admin());
        command
    }

    /// Makes an image known to the real node, unless it is, and names it.
    pub fn image(&self, image: &Image) -> String {
        let mut known = self.inner.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, name)) = known.iter().find(|(other, _)| other == image) {
            return name.clone();
        }
        let name = match image {
            Image::Busybox => self.script("image", &["box".as_ref()]),
            Image::Usher => self.script("image", &["usher".as_ref(), &Usher::binary()]),
            Image::JupyterLab => self.script("image", &["jupyterlab".as_ref()]),
        };
        known.push((image.clone(), name.clone()));
        name
    }

    /// Sees to it that there are this many simulated nodes at least.
    pub fn simulated_nodes(&self, count: usize) {
        self.script("nodes", &[count.to_string().as_ref()]);
    }

    /// Ends a part as `kill -9` does.
    pub fn kill(&self, part: Part) {
        self.script("kill", &[part.name().as_ref()]);
    }

    /// Starts a part that was ended.
    pub fn start_again(&self, part: Part) {
        self.script("start", &[part.name().as_ref()]);
    }

    /// Ends a part as by a fault of its own, so that it is started again without a word.
    pub fn crash(&self, part: Part) {
        self.script("crash", &[part.name().as_ref()]);
    }

    /// Stops a part where it stands: it neither answers nor breaks a connection.
    pub fn pause(&self, part: Part) {
        self.script("pause", &[part.name().as_ref()]);
    }

    /// Lets a paused part go on.
    pub fn resume(&self, part: Part) {
        self.script("resume", &[part.name().as_ref()]);
    }

    /// Waits until the API server answers and says that it is ready.
    pub async fn api_is_ready(&self) {
        wait_for("the API server to be ready", SOON * 3, async || {
            self.try_kubectl(&["get", "--raw=/readyz", "--request-timeout=2s"]).await.ok()
        })
        .await;
    }

    fn script(&self, word: &str, arguments: &[&Path]) -> String {
        let mut command = Command::new(SCRIPT);
        let output = command.arg(word).arg(&self.inner.run).args(arguments).output();
        let output = output.expect("the script can be started");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cluster.sh {word} {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

/// What a program printed that was given this to read; where it fails, what it said.
async fn output_of(command: Command, input: &str) -> Result<String, String> {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.kill_on_drop(true).spawn().expect("nsenter can be started");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // Fails only when the program has ended, and then it says why.
    let _ended = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = tokio::time::timeout(SOON * 3, child.wait_with_output()).await;
    let output = output.map_err(|_| "no answer in time")?.expect("the program is our child");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(child) = &mut self.owned {
            drop(child.stdin.take());
            // The script has a deadline of its own; what it cannot remove, the next one to start does.
            let _status = child.wait();
        }
    }
}
