//! The pod that a template's own keys make, before what is given in Kubernetes' words.

use super::container::workspace;
use crate::StartSpec;
use crate::kubernetes::names;
use config::{BadValue, Mount, MountSource, PodTemplate, Template, Values};
use k8s_openapi::api::core::v1::{
    ConfigMapVolumeSource, DownwardAPIVolumeFile, DownwardAPIVolumeSource, EmptyDirVolumeSource,
    ObjectFieldSelector, PersistentVolumeClaimVolumeSource, PodSecurityContext, PodSpec, SeccompProfile,
    SecretVolumeSource, Toleration, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;
use std::time::Duration;

/// Where the files are when they end with the pod.
const HOME_OF_NO_VOLUME: &str = "/home/workspace";
/// How long a pod may stay on a node that does not answer: a flap of the network is no reason to begin anew.
const NODE_PATIENCE: i64 = 30;

/// The pod of a workspace as its template's keys say; `whose` = none: it runs before its user comes.
///
/// # Errors
/// The values are not of this template.
pub(crate) fn of_template(
    whose: Option<&StartSpec>,
    template: &Template,
    pods: &PodTemplate,
    values: &Values,
) -> Result<PodSpec, BadValue> {
    let home = pods.volume.as_ref().map_or(HOME_OF_NO_VOLUME, |volume| &volume.mount);
    let selector =
        pods.node_selector.iter().map(|(key, text)| Ok((key.clone(), text.given(values)?.to_owned())));
    let selector = selector.collect::<Result<BTreeMap<_, _>, BadValue>>()?;
    let account = pods.service_account.as_ref().map(|text| text.given(values)).transpose()?;
    Ok(PodSpec {
        containers: vec![workspace(whose, pods, values, home)?],
        volumes: Some(volumes(pods)),
        security_context: Some(security(pods)),
        termination_grace_period_seconds: Some(grace(template.stop_grace)),
        tolerations: Some(vec![unanswering("unreachable"), unanswering("not-ready")]),
        node_selector: (!selector.is_empty()).then_some(selector),
        service_account_name: account.map(str::to_owned),
        automount_service_account_token: Some(false),
        // Thousands of workspaces would otherwise find each other's addresses in their environment.
        enable_service_links: Some(false),
        ..PodSpec::default()
    })
}

/// The name of the volume of a mount.
pub(super) fn volume_name(index: usize) -> String {
    format!("mount-{index}")
}

fn security(pods: &PodTemplate) -> PodSecurityContext {
    PodSecurityContext {
        run_as_user: Some(pods.run_as.uid.into()),
        run_as_group: Some(pods.run_as.gid.into()),
        run_as_non_root: Some(true),
        fs_group: Some(pods.run_as.fs_group.into()),
        // Walking over all files at each start would take minutes on a full volume.
        fs_group_change_policy: Some("OnRootMismatch".to_owned()),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

/// Whole seconds, and never 0: to Kubernetes that means to forget the pod without waiting for its end.
fn grace(grace: Duration) -> i64 {
    let whole = grace.as_secs() + u64::from(grace.subsec_nanos() > 0);
    i64::try_from(whole.max(1)).unwrap_or(i64::MAX)
}

fn unanswering(condition: &str) -> Toleration {
    Toleration {
        key: Some(format!("node.kubernetes.io/{condition}")),
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        toleration_seconds: Some(NODE_PATIENCE),
        value: None,
    }
}

/// The volumes that are not claims of the workspace's own: those the StatefulSet puts in.
fn volumes(pods: &PodTemplate) -> Vec<Volume> {
    let files = pods.volume.is_none().then(|| Volume {
        name: names::HOME.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    });
    let mounts = pods.mounts.iter().enumerate().map(|(index, mount)| volume(index, mount));
    files.into_iter().chain([about()]).chain(mounts).collect()
}

/// Whose the pod is, in files that follow its annotations: a pod that runs already is told by them.
fn about() -> Volume {
    let files = [("workspace", names::WORKSPACE), ("host", names::HOST), ("owner", names::OWNER)];
    let file = |(path, annotation): (&str, &str)| DownwardAPIVolumeFile {
        path: path.to_owned(),
        field_ref: Some(ObjectFieldSelector {
            field_path: format!("metadata.annotations['{annotation}']"),
            api_version: None,
        }),
        ..DownwardAPIVolumeFile::default()
    };
    let source =
        DownwardAPIVolumeSource { items: Some(files.map(file).into()), ..DownwardAPIVolumeSource::default() };
    Volume { name: names::ABOUT.to_owned(), downward_api: Some(source), ..Volume::default() }
}

fn volume(index: usize, mount: &Mount) -> Volume {
    let mut volume = Volume { name: volume_name(index), ..Volume::default() };
    match &mount.source {
        MountSource::ConfigMap(name) => {
            volume.config_map =
                Some(ConfigMapVolumeSource { name: name.clone(), ..ConfigMapVolumeSource::default() });
        }
        MountSource::Secret(name) => {
            volume.secret =
                Some(SecretVolumeSource { secret_name: Some(name.clone()), ..SecretVolumeSource::default() });
        }
        MountSource::Claim(name) => {
            volume.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                claim_name: name.clone(),
                read_only: mount.read_only.then_some(true),
            });
        }
        MountSource::EmptyDir(size) => {
            volume.empty_dir =
                Some(EmptyDirVolumeSource { size_limit: Some(Quantity(size.clone())), medium: None });
        }
    }
    volume
}
