//! The token of a service account in a pod: with it the workspace's code would speak to the cluster in its name.

use super::profile::{Part, Violation};
use k8s_openapi::api::core::v1::{PodSpec, Volume};

/// Where a finished pod is given a token, also by saying nothing: Kubernetes mounts one unless it is told not to.
pub(super) fn tokens(pod: &PodSpec) -> Vec<Violation> {
    let mounts = (pod.automount_service_account_token != Some(false)).then_some(Violation {
        part: Part::Pod,
        field: "automountServiceAccountToken",
        problem: "puts the token of the service account into the pod",
        allowed: "false",
    });
    let projected = pod.volumes.iter().flatten().filter(|volume| has_token(volume)).map(|volume| Violation {
        part: Part::Volume(volume.name.clone()),
        field: "projected.sources",
        problem: "puts a token of the service account into the pod",
        allowed: "sources without serviceAccountToken",
    });
    mounts.into_iter().chain(projected).collect()
}

fn has_token(volume: &Volume) -> bool {
    let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    sources.into_iter().any(|source| source.service_account_token.is_some())
}
