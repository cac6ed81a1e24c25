//! What is read: the objects of one workspace, as they were received.

use super::happening::Happening;
use crate::kubernetes::outline::{self, Outline};
use k8s_openapi::api::core::v1::{ContainerStatus, PersistentVolumeClaim, Pod, PodCondition};
use std::time::Instant;

/// Everything that is known of one workspace. Instants are those of receipt; no clock of the cluster is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    /// The workspace.
    pub(crate) set: &'a Outline,
    /// The kind of object that `set` tells of, as `kubectl` takes it: what others made may be of another.
    pub(crate) kind: &'static str,
    /// Its pod.
    pub(crate) pod: Option<&'a Pod>,
    /// Its claims.
    pub(crate) claims: &'a [PersistentVolumeClaim],
    /// What was told of them lately, in any order; what concerns others or an earlier pod is left alone.
    pub(crate) happenings: &'a [Happening],
    /// The name of the container that is the workspace; any other is beside it.
    pub(crate) container: &'a str,
    /// Where it listens.
    pub(crate) port: u16,
    /// How well the cluster is seen.
    pub(crate) sight: Sight,
    /// When this process first knew that it is to run, or began anew to start it.
    pub(crate) asked: Instant,
    /// Whether it is many people's: what its programs print is not quoted to any of them.
    pub(crate) is_shared: bool,
}

/// How well the cluster is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sight {
    /// The watches were not confirmed lately: what is known may be over.
    Blind,
    /// The watches are confirmed.
    Confirmed {
        /// When the API last came back after it had been away; none = it never was.
        back: Option<Instant>,
    },
}

impl<'a> View<'a> {
    /// Whether it is to run.
    pub(super) fn wanted(&self) -> bool {
        !self.set.ends && self.set.replicas != 0
    }

    /// Whether it keeps files on a volume, its own or one that its pod mounts. The template may have changed since the
    /// pod was made.
    pub(super) fn has_volume(&self) -> bool {
        !self.claims.is_empty() || self.set.has_volume || self.pod.is_some_and(outline::has_volume)
    }

    /// The states of its containers, those that prepare it first.
    pub(super) fn containers(&self) -> impl Iterator<Item = &'a ContainerStatus> + use<'a> {
        let status = self.pod.and_then(|pod| pod.status.as_ref());
        let first = status.and_then(|status| status.init_container_statuses.as_deref()).unwrap_or_default();
        let then = status.and_then(|status| status.container_statuses.as_deref()).unwrap_or_default();
        first.iter().chain(then)
    }

    /// The state of the container that is the workspace.
    pub(super) fn main(&self) -> Option<&'a ContainerStatus> {
        let status = self.pod?.status.as_ref()?;
        status.container_statuses.as_ref()?.iter().find(|status| status.name == self.container)
    }

    /// A condition of its pod.
    pub(super) fn condition(&self, kind: &str) -> Option<&'a PodCondition> {
        let conditions = self.pod?.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|condition| condition.type_ == kind)
    }

    /// Its node.
    pub(super) fn node(&self) -> Option<&'a str> {
        self.pod?.spec.as_ref()?.node_name.as_deref().filter(|node| !node.is_empty())
    }

    /// The command that shows its pod.
    pub(super) fn describe_pod(&self) -> String {
        self.describe("pod", &self.pod_name())
    }

    /// Its pod's name, also before there is one.
    pub(super) fn pod_name(&self) -> String {
        let pod = self.pod.and_then(|pod| pod.metadata.name.clone());
        pod.unwrap_or_else(|| format!("{}-0", self.name()))
    }

    /// The command that shows the workspace's own object.
    pub(super) fn describe_set(&self) -> String {
        self.describe(self.kind, self.name())
    }

    /// The command that shows its claims, and those of others if its own is not known yet.
    pub(super) fn describe_claim(&self) -> String {
        let name = self.claims.first().and_then(|claim| claim.metadata.name.as_deref());
        self.describe("pvc", name.unwrap_or_default())
    }

    /// The namespace of its objects.
    pub(super) fn namespace(&self) -> &'a str {
        &self.set.namespace
    }

    fn name(&self) -> &'a str {
        &self.set.name
    }

    fn describe(&self, kind: &str, name: &str) -> String {
        format!("kubectl -n {} describe {kind} {name}", self.namespace()).trim_end().to_owned()
    }
}
