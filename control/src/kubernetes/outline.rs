//! Objects in outline: as much of each as is read after it was taken in. Thousands are held, and what nobody reads of
//! them takes most of the room: who wrote which field, templates of pods, mounts, variables, probes.

use super::{names, notes};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, PersistentVolumeClaim, PersistentVolumeClaimStatus, Pod, PodCondition,
    PodSpec, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// What is read of a pod's conditions.
const CONDITIONS: [&str; 4] = ["PodScheduled", "PodReadyToStartContainers", "Ready", "DisruptionTarget"];

/// A StatefulSet, whose notes are read apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outline {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) version: u64,
    pub(crate) replicas: i32,
    /// Whether somebody has begun to delete it.
    pub(crate) ends: bool,
    /// Whether its pod has a volume of its own.
    pub(crate) has_volume: bool,
    /// [`names::NUDGE`].
    pub(crate) nudge: Option<String>,
}

impl From<&StatefulSet> for Outline {
    fn from(set: &StatefulSet) -> Self {
        let (meta, spec) = (&set.metadata, set.spec.as_ref());
        let claims = spec.and_then(|spec| spec.volume_claim_templates.as_ref());
        Self {
            name: meta.name.clone().unwrap_or_default(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            version: notes::version(meta),
            // As the cluster takes it where nothing is said.
            replicas: spec.and_then(|spec| spec.replicas).unwrap_or(1),
            ends: meta.deletion_timestamp.is_some(),
            has_volume: claims.is_some_and(|claims| !claims.is_empty()),
            nudge: notes::text(meta, names::NUDGE).map(str::to_owned),
        }
    }
}

/// A pod: whose it is, where it is, how its containers are, and what their images and ports are.
pub(crate) fn pod(pod: Pod) -> Pod {
    let owner_references = pod.metadata.owner_references.clone();
    let metadata = ObjectMeta { owner_references, ..meta(pod.metadata) };
    let spec = pod.spec.map(|spec| PodSpec {
        node_name: spec.node_name,
        containers: containers(spec.containers),
        init_containers: spec.init_containers.map(containers),
        ..PodSpec::default()
    });
    let status = pod.status.map(|status| PodStatus {
        phase: status.phase,
        reason: status.reason,
        message: status.message,
        pod_ip: status.pod_ip,
        conditions: status.conditions.map(conditions),
        container_statuses: status.container_statuses.map(statuses),
        init_container_statuses: status.init_container_statuses.map(statuses),
        ..PodStatus::default()
    });
    Pod { metadata, spec, status }
}

/// A claim: whether it is bound.
pub(crate) fn claim(claim: PersistentVolumeClaim) -> PersistentVolumeClaim {
    let phase = claim.status.and_then(|status| status.phase);
    let status = Some(PersistentVolumeClaimStatus { phase, ..PersistentVolumeClaimStatus::default() });
    PersistentVolumeClaim { metadata: meta(claim.metadata), spec: None, status }
}

fn meta(meta: ObjectMeta) -> ObjectMeta {
    let ObjectMeta { name, uid, deletion_timestamp, .. } = meta;
    ObjectMeta { name, uid, deletion_timestamp, ..ObjectMeta::default() }
}

fn containers(containers: Vec<Container>) -> Vec<Container> {
    let outline = |container: Container| Container {
        name: container.name,
        image: container.image,
        ports: container.ports,
        restart_policy: container.restart_policy,
        ..Container::default()
    };
    containers.into_iter().map(outline).collect()
}

fn statuses(statuses: Vec<ContainerStatus>) -> Vec<ContainerStatus> {
    let outline = |status: ContainerStatus| ContainerStatus {
        name: status.name,
        image: status.image,
        state: status.state,
        last_state: status.last_state,
        restart_count: status.restart_count,
        ..ContainerStatus::default()
    };
    statuses.into_iter().map(outline).collect()
}

/// Those of [`CONDITIONS`].
fn conditions(conditions: Vec<PodCondition>) -> Vec<PodCondition> {
    let read = conditions.into_iter().filter(|condition| CONDITIONS.contains(&condition.type_.as_str()));
    let mut read: Vec<_> = read.collect();
    read.shrink_to_fit();
    read
}
