//! StatefulSets of pods that run before their users come.

use super::{BadPod, claim, hash, of_pods, ours, owner, pod_template, rules};
use crate::StartSpec;
use crate::kubernetes::names;
use config::{Template, Values};
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use std::collections::BTreeMap;

/// A StatefulSet of this name with one running pod, which is nobody's.
///
/// Its hash is that of all warm ones which its template makes, whatever their names.
///
/// # Errors
/// The template is not one of pods, or its overlay does not fit.
pub(crate) fn warm_set(name: &str, template: &Template, namespace: &str) -> Result<StatefulSet, BadPod> {
    let (pods, nobodys) = (of_pods(template)?, Values::default());
    let metadata = ObjectMeta { labels: Some(ours(template).into()), ..ObjectMeta::default() };
    let mut pod = pod_template(None, template, pods, &nobodys, metadata)?;
    let annotations = BTreeMap::from([(names::TEMPLATE_HASH.to_owned(), hash(&pod))]);
    pod.metadata.get_or_insert_default().labels = Some(labels(name, template));
    set(name, template, namespace, annotations, pod, &nobodys)
}

/// The StatefulSet of this name with one running pod, which has the files of a workspace: a warm one that the
/// workspace once took, made as the workspace's own would be now.
///
/// # Errors
/// As for [`stateful_set`](super::stateful_set).
pub(crate) fn warm_set_of(name: &str, spec: &StartSpec, namespace: &str) -> Result<StatefulSet, BadPod> {
    let (template, values) = (&spec.template, &spec.grant.values);
    let metadata = ObjectMeta {
        labels: Some(labels(name, template)),
        annotations: Some(owned(spec)),
        ..ObjectMeta::default()
    };
    let pod = pod_template(Some(spec), template, of_pods(template)?, values, metadata)?;
    let annotations = BTreeMap::from([(names::OWNER.to_owned(), owner(&spec.owner))]);
    set(name, template, namespace, annotations, pod, values)
}

fn set(
    name: &str,
    template: &Template,
    namespace: &str,
    annotations: BTreeMap<String, String>,
    pod: PodTemplateSpec,
    values: &Values,
) -> Result<StatefulSet, BadPod> {
    let claim = |volume| claim::claim(selector(name), None, volume, values);
    let claim = of_pods(template)?.volume.as_ref().map(claim).transpose()?;
    Ok(StatefulSet {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels(name, template)),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            selector: LabelSelector { match_labels: Some(selector(name)), ..LabelSelector::default() },
            template: pod,
            volume_claim_templates: claim.map(|claim| vec![claim]),
            ..rules()
        }),
        status: None,
    })
}

fn selector(name: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(names::WARM.to_owned(), name.to_owned())])
}

fn labels(name: &str, template: &Template) -> BTreeMap<String, String> {
    selector(name).into_iter().chain(ours(template)).collect()
}

/// What a pod is told of whose it is, in its annotations: see [`names::ABOUT_PATH`].
pub(crate) fn owned(spec: &StartSpec) -> BTreeMap<String, String> {
    let told = [
        (names::WORKSPACE, spec.id.to_string()),
        (names::HOST, spec.host.clone()),
        (names::OWNER, owner(&spec.owner)),
    ];
    told.map(|(key, value)| (key.to_owned(), value)).into()
}
