//! What the driver `kubernetes` is told: `[kubernetes]`, and the templates of pods.

use crate::expression::{RequestFacts, Subject};
use crate::network::Network;
use crate::values::{BadValue, Text, Values};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// `[kubernetes]`.
#[derive(Debug, Clone)]
pub struct Kubernetes {
    /// `namespace`: where the workspaces are, those whose template names no other.
    pub namespace: String,
    /// `more_namespaces`: where else workspaces may be.
    pub more_namespaces: Vec<String>,
    /// `records_namespace`: where users, sessions and keys are; none = the namespace of usher's own pod.
    /// None of [`Kubernetes::namespaces`].
    pub records_namespace: Option<String>,
    /// `kubeconfig` and `context`: how the cluster is reached; none = from within it.
    pub cluster: Option<Kubeconfig>,
    /// `pod_networks`: where pods have their addresses.
    pub pod_networks: Vec<Network>,
    /// `use_every`: how often a replica writes down what it saw in use.
    pub use_every: Duration,
}

/// A cluster of a kubeconfig file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubeconfig {
    /// `kubeconfig`: the file; none = as `kubectl` finds it.
    pub file: Option<PathBuf>,
    /// `context`: which of its contexts; none = its current one.
    pub context: Option<String>,
}

impl Kubernetes {
    /// All that workspaces may be in, `namespace` first.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.namespace).chain(&self.more_namespaces).map(String::as_str)
    }

    /// Whether an address may be a pod's: within [`Kubernetes::pod_networks`], and never loopback or link-local,
    /// where the node and the cloud's metadata are.
    pub fn may_dial(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_local = match address {
            IpAddr::V4(v4) => {
                v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_multicast()
            }
            IpAddr::V6(v6) => {
                v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast()
            }
        };
        !is_local && self.pod_networks.iter().any(|network| network.contains(address))
    }
}

/// How a template's workspaces run as pods.
#[derive(Debug)]
pub struct PodTemplate {
    /// `namespace`: one of [`Kubernetes::namespaces`]; none = the first.
    pub namespace: Option<Text>,
    /// `image`.
    pub image: Text,
    /// `image_pull_policy`; none = as Kubernetes decides.
    pub image_pull_policy: Option<PullPolicy>,
    /// `command`: program and arguments, with [`crate::PLACEHOLDERS`] replaced; empty = the image's own.
    pub command: Vec<String>,
    /// `working_dir`: where its program begins; none = where the image says.
    pub working_dir: Option<String>,
    /// `environment`: what the workspace gets besides `HOME` and Usher's own variables.
    pub environment: BTreeMap<String, PodVariable>,
    /// `port`: where the workspace listens.
    pub port: u16,
    /// `resources`.
    pub resources: Resources,
    /// `run_as`.
    pub run_as: RunAs,
    /// `volume`: the user's files; none (`"none"`) = they end with the pod.
    pub volume: Option<Volume>,
    /// `mounts`: what else it sees.
    pub mounts: Vec<Mount>,
    /// `node_selector`: labels that the node must have.
    pub node_selector: BTreeMap<String, Text>,
    /// `service_account`; none = the namespace's default, and in any case without a token, unless `pod` gives one.
    pub service_account: Option<Text>,
    /// `schedule_timeout`: how long a pod may wait for a node.
    pub schedule_timeout: Duration,
    /// `pull_timeout`: how long its images may take.
    pub pull_timeout: Duration,
    /// `warm`: pods that run before their users come.
    pub warm: Warm,
    /// `allow_privileged`: let the template leave the restricted Pod Security Standard, or give its pods a token.
    pub allow_privileged: bool,
    /// What is given in Kubernetes' own words.
    pub verbatim: Verbatim,
}

/// `warm`: pods of a template that run already, for the next users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Warm {
    /// `ready`: how many; 0 = none.
    pub ready: u16,
}

/// The keys of a template that are in Kubernetes' own words; judged by who knows them, which is not this package.
#[derive(Debug, Clone, Default)]
pub struct Verbatim {
    /// `tolerations`: each a `Toleration`.
    pub tolerations: Vec<Value>,
    /// `init_containers`: each a `Container`, run to its end before the workspace.
    pub init_containers: Vec<Value>,
    /// `sidecars`: each a `Container`, running beside the workspace.
    pub sidecars: Vec<Value>,
    /// `pod`: merged over the `PodSpec`, strategically.
    pub pod: Map<String, Value>,
}

/// `image_pull_policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// `"Always"`.
    Always,
    /// `"IfNotPresent"`.
    IfNotPresent,
    /// `"Never"`.
    Never,
}

/// A variable of a pod.
#[derive(Debug)]
pub enum PodVariable {
    /// Written in the configuration, or made for each user; only what is written has placeholders.
    Text(Text),
    /// `{ from_secret = { name = …, key = … } }`: a Secret in the workspaces' namespace.
    FromSecret {
        /// Its name.
        name: String,
        /// The key in it.
        key: String,
    },
}

/// `resources`: amounts by the names of resources.
#[derive(Debug, Default)]
pub struct Resources {
    /// `resources.NAME`: requested, and the limit.
    pub both: BTreeMap<String, Text>,
    /// `resources.requests.NAME`.
    pub requests: BTreeMap<String, Text>,
    /// `resources.limits.NAME`.
    pub limits: BTreeMap<String, Text>,
}

/// `run_as`: who the workspace is in its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunAs {
    /// `uid`.
    pub uid: u32,
    /// `gid`.
    pub gid: u32,
    /// `fs_group`: the group that owns the volume.
    pub fs_group: u32,
}

/// `volume`: a claim of the workspace's own, which outlives it.
#[derive(Debug)]
pub struct Volume {
    /// `size`.
    pub size: Text,
    /// `class`; none = the cluster's default.
    pub class: Option<String>,
    /// `mount`: where the workspace sees it; its home.
    pub mount: String,
    /// `access`.
    pub access: VolumeAccess,
}

/// `volume.access`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeAccess {
    /// `"ReadWriteOnce"`: one node at a time.
    ReadWriteOnce,
    /// `"ReadWriteOncePod"`: one pod at a time, where the storage knows it.
    ReadWriteOncePod,
    /// `"ReadWriteMany"`.
    ReadWriteMany,
}

/// One of `mounts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// `path`: where the workspace sees it.
    pub path: String,
    /// What it is.
    pub source: MountSource,
    /// `sub_path`: only this of it.
    pub sub_path: Option<String>,
    /// `read_only`.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// `config_map`: by name.
    ConfigMap(String),
    /// `secret`: by name.
    Secret(String),
    /// `claim`: an existing claim, shared by all workspaces of the template.
    Claim(String),
    /// `empty_dir`: an empty folder of at most this size, which ends with the pod.
    EmptyDir(String),
}

impl PodTemplate {
    /// Evaluates what is made for each user, when a start of theirs is admitted.
    ///
    /// # Errors
    /// The first rule that fails or gives what its key does not take.
    pub fn evaluate(&self, subject: &Subject, request: &RequestFacts) -> Result<Values, BadValue> {
        Values::evaluate(self.texts(), subject, request)
    }

    /// Whether something of it is made for each user.
    pub(super) fn has_rules(&self) -> bool {
        self.texts().any(|text| matches!(text, Text::Rule(_)))
    }

    /// Values for a user who does not exist, to judge the template by.
    pub fn sample(&self) -> Values {
        Values::sample(self.texts())
    }

    /// A key whose value is made for each user, if there is one.
    pub fn of_a_user(&self) -> Option<&str> {
        self.texts().find_map(|text| match text {
            Text::Rule(rule) => Some(rule.key()),
            Text::Plain(_) => None,
        })
    }

    /// Every text that may differ from user to user.
    fn texts(&self) -> impl Iterator<Item = &Text> {
        let Resources { both, requests, limits } = &self.resources;
        let variables = self.environment.values().filter_map(|variable| match variable {
            PodVariable::Text(text) => Some(text),
            PodVariable::FromSecret { .. } => None,
        });
        let amounts = both.values().chain(requests.values()).chain(limits.values());
        let size = self.volume.iter().map(|volume| &volume.size);
        let named = std::iter::once(&self.image).chain(&self.service_account).chain(&self.namespace);
        named.chain(variables).chain(amounts).chain(size).chain(self.node_selector.values())
    }
}
