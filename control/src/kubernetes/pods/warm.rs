//! StatefulSets of pods that run before their users come.

use super::{BadPod, hash, ours, owner, pod_template, rules};
use crate::StartSpec;
use crate::kubernetes::names;
use config::{Runs, Template, Values};
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use std::collections::BTreeMap;

/// A StatefulSet of this name with one running pod, which is nobody's.
///
/// Its hash is that of all warm ones which its template makes, whatever their names.
///
/// # Errors
/// The template is not one of pods, or its overlay does not fit.
pub(crate) fn warm_set(name: &str, template: &Template, namespace: &str) -> Result<StatefulSet, BadPod> {
    let Runs::Kubernetes(pods) = &template.runs else {
        return Err(BadPod::NotOfPods(template.name.clone()));
    };
    let metadata = ObjectMeta { labels: Some(ours(template).into()), ..ObjectMeta::default() };
    let mut pod = pod_template(None, template, pods, &Values::default(), metadata)?;
    let hash = hash(&pod);
    let selector = BTreeMap::from([(names::WARM.to_owned(), name.to_owned())]);
    let labels: BTreeMap<_, _> = selector.clone().into_iter().chain(ours(template)).collect();
    pod.metadata.get_or_insert_default().labels = Some(labels.clone());
    Ok(StatefulSet {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels),
            annotations: Some(BTreeMap::from([(names::TEMPLATE_HASH.to_owned(), hash)])),
            ..ObjectMeta::default()
        },
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            selector: LabelSelector { match_labels: Some(selector), ..LabelSelector::default() },
            template: pod,
            ..rules()
        }),
        status: None,
    })
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
