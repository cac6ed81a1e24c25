//! The restricted Pod Security Standard, control by control, on a pod as it will be made.
//!
//! What is checked is the finished `PodSpec`, so it does not matter which key of a template put something there.
//! Source: kubernetes.io, *Pod Security Standards*, Kubernetes 1.36: all of *Baseline* and *Restricted*.

mod container;
mod context;

use context::Context;
use k8s_openapi::api::core::v1::{Container, PodSpec, Volume};
use serde_json::Value;

/// Something in a pod that the standard does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    /// In which part.
    pub(super) part: Part,
    /// The field, below the part.
    pub(super) field: &'static str,
    /// What is wrong.
    pub(super) problem: &'static str,
    /// What is allowed.
    pub(super) allowed: &'static str,
}

/// A part of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// The pod's own fields.
    Pod,
    /// A container, by its list and its name.
    Container(&'static str, String),
    /// A volume, by its name.
    Volume(String),
}

/// The sysctls that a pod may set: those of its own namespaces (*Baseline*, Sysctls).
const SYSCTLS: [&str; 11] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];
/// A sysctl that is allowed beside [`SYSCTLS`], in every version of the standard.
const SYNCOOKIES: &str = "net.ipv4.tcp_syncookies";

/// The sources of volumes that are allowed (*Restricted*, Volume Types).
const VOLUMES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// Collects violations of one part.
struct Finder<'a> {
    part: Part,
    found: &'a mut Vec<Violation>,
}

impl Finder<'_> {
    /// Adds a violation unless what must hold does.
    fn must(&mut self, holds: bool, field: &'static str, problem: &'static str, allowed: &'static str) {
        if !holds {
            self.found.push(Violation { part: self.part.clone(), field, problem, allowed });
        }
    }
}

/// All that a pod does against the restricted standard.
pub(super) fn violations(pod: &PodSpec) -> Vec<Violation> {
    let mut found = Vec::new();
    pod_itself(pod, &mut Finder { part: Part::Pod, found: &mut found });
    for volume in pod.volumes.iter().flatten() {
        let mut finder = Finder { part: Part::Volume(volume.name.clone()), found: &mut found };
        finder.must(
            is_allowed_volume(volume),
            "",
            "is a volume of a kind that is not allowed",
            ALLOWED_VOLUMES,
        );
    }
    let context = pod.security_context.as_ref().map(Context::of_pod).unwrap_or_default();
    for (list, container) in containers(pod) {
        let part = Part::Container(list, container.name.clone());
        container::check(container, &context, &mut Finder { part, found: &mut found });
    }
    found
}

/// All containers of a pod, each with the list that it stands in.
pub(super) fn containers(pod: &PodSpec) -> impl Iterator<Item = (&'static str, &Container)> {
    let first = pod.init_containers.iter().flatten().map(|container| ("initContainers", container));
    first.chain(pod.containers.iter().map(|container| ("containers", container)))
}

const ALLOWED_VOLUMES: &str =
    "configMap, csi, downwardAPI, emptyDir, ephemeral, persistentVolumeClaim, projected or secret";

fn pod_itself(pod: &PodSpec, finder: &mut Finder<'_>) {
    const NOT_SHARED: &str = "false: the host's namespaces are not shared";
    let off = |flag: Option<bool>| flag != Some(true);
    finder.must(off(pod.host_network), "hostNetwork", "puts the pod into the host's network", NOT_SHARED);
    finder.must(off(pod.host_pid), "hostPID", "shows the pod the host's processes", NOT_SHARED);
    finder.must(off(pod.host_ipc), "hostIPC", "lets the pod into the host's IPC", NOT_SHARED);
    let Some(context) = &pod.security_context else { return };
    let mut sysctls = context.sysctls.iter().flatten().map(|sysctl| sysctl.name.as_str());
    finder.must(
        sysctls.all(|name| name == SYNCOOKIES || SYSCTLS.contains(&name)),
        "securityContext.sysctls",
        "sets a sysctl that reaches beyond the pod",
        "the sysctls that Kubernetes counts as safe",
    );
    Context::of_pod(context).check(finder);
}

/// Whether a volume has sources of the allowed kinds only.
fn is_allowed_volume(volume: &Volume) -> bool {
    sources(volume).iter().all(|source| VOLUMES.contains(&source.as_str()))
}

/// The sources of a volume; a right one has exactly one.
pub(super) fn sources(volume: &Volume) -> Vec<String> {
    match serde_json::to_value(volume) {
        Ok(Value::Object(fields)) => {
            fields.into_iter().map(|(key, _)| key).filter(|key| key != "name").collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
