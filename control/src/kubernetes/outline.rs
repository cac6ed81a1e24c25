//! Objects in outline: as much of each as is read after it was taken in. Thousands are held, and what nobody reads of
//! them takes most of the room: who wrote which field, templates of pods, mounts, variables, probes.

use super::{names, notes};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    Container, ContainerStatus, PersistentVolumeClaim, PersistentVolumeClaimStatus, Pod, PodCondition,
    PodSpec, PodStatus, Volume,
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
    /// Whether its pod has a volume that outlives it, or that something else may have open.
    pub(crate) has_volume: bool,
    /// Whether its pod has a claim of its own: the files of a workspace.
    pub(crate) keeps_files: bool,
    /// [`names::NUDGE`].
    pub(crate) nudge: Option<String>,
}

impl From<&StatefulSet> for Outline {
    fn from(set: &StatefulSet) -> Self {
        let (meta, spec) = (&set.metadata, set.spec.as_ref());
        let claims = spec.and_then(|spec| spec.volume_claim_templates.as_deref()).unwrap_or_default();
        let pod = spec.and_then(|spec| spec.template.spec.as_ref());
        let volumes = pod.and_then(|pod| pod.volumes.as_deref()).unwrap_or_default();
        Self {
            name: meta.name.clone().unwrap_or_default(),
            namespace: meta.namespace.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            version: notes::version(meta),
            // As the cluster takes it where nothing is said.
            replicas: spec.and_then(|spec| spec.replicas).unwrap_or(1),
            ends: meta.deletion_timestamp.is_some(),
            has_volume: !claims.is_empty() || volumes.iter().any(outlives_the_pod),
            keeps_files: !claims.is_empty(),
            nudge: notes::text(meta, names::NUDGE).map(str::to_owned),
        }
    }
}

/// Whether what is written to a volume is there when the pod is gone, so that two pods must not write it at once. What
/// is not known to end with the pod counts as such: a claim, a folder of the node, whatever a driver mounts.
fn outlives_the_pod(volume: &Volume) -> bool {
    let ends_with_it = volume.empty_dir.is_some()
        || volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some()
        || volume.image.is_some();
    let claim = volume.persistent_volume_claim.as_ref().and_then(|claim| claim.read_only);
    let driver = volume.csi.as_ref().and_then(|driver| driver.read_only);
    let is_only_read = claim.or(driver) == Some(true);
    !ends_with_it && !is_only_read
}

/// Whether a pod, in outline or not, has a volume that outlives it, or that something else may have open.
pub(crate) fn has_volume(pod: &Pod) -> bool {
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
    // The server gives no empty list.
    volumes.is_some_and(|volumes| volumes.is_empty() || volumes.iter().any(outlives_the_pod))
}

/// A pod: whose it is, where it is, how its containers are, and what their images and ports are. Of its volumes an empty
/// list is left, if [`has_volume`]: each takes more room than all the rest.
pub(crate) fn pod(pod: Pod) -> Pod {
    let volumes = has_volume(&pod).then(Vec::new);
    let owner_references = pod.metadata.owner_references.clone();
    let metadata = ObjectMeta { owner_references, ..meta(pod.metadata) };
    let spec = pod.spec.map(|spec| PodSpec {
        node_name: spec.node_name,
        containers: containers(spec.containers),
        init_containers: spec.init_containers.map(containers),
        volumes,
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// What is read of a StatefulSet of this pod, with these claims.
    fn set_has_volume(pod: &Value, claims: &Value) -> bool {
        let template = json!({ "spec": pod });
        let spec = json!({ "selector": {}, "template": template, "volumeClaimTemplates": claims });
        let set: StatefulSet = serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap();
        Outline::from(&set).has_volume
    }

    #[test]
    fn a_pod_that_mounts_what_outlives_it_has_a_volume() {
        let table = [
            ("persistentVolumeClaim", json!({ "claimName": "team" }), true),
            ("persistentVolumeClaim", json!({ "claimName": "team", "readOnly": true }), false),
            ("ephemeral", json!({ "volumeClaimTemplate": { "spec": {} } }), true),
            ("csi", json!({ "driver": "files.example.org" }), true),
            ("csi", json!({ "driver": "secrets.example.org", "readOnly": true }), false),
            ("nfs", json!({ "server": "nfs", "path": "/home" }), true),
            ("hostPath", json!({ "path": "/home" }), true),
            ("emptyDir", json!({}), false),
            ("configMap", json!({ "name": "c" }), false),
            ("secret", json!({ "secretName": "s" }), false),
            ("downwardAPI", json!({}), false),
            ("projected", json!({}), false),
            ("image", json!({ "reference": "data:1" }), false),
        ];
        for (kind, source, expected) in table {
            let volumes = json!([{ "name": "a", "emptyDir": {} }, { "name": "b", kind: source }]);
            let spec = json!({ "containers": [], "volumes": volumes });
            assert_eq!(set_has_volume(&spec, &json!([])), expected, "{spec}");
            let made: Pod = serde_json::from_value(json!({ "metadata": {}, "spec": spec })).unwrap();
            let known = pod(made.clone());
            assert_eq!(
                (has_volume(&made), has_volume(&known), has_volume(&pod(known.clone()))),
                (expected, expected, expected),
                "{spec}"
            );
            let left = known.spec.unwrap().volumes.unwrap_or_default();
            assert_eq!(left.len(), 0, "their room is not taken");
        }
        assert!(set_has_volume(&json!({ "containers": [] }), &json!([{ "metadata": { "name": "home" } }])));
    }
}
