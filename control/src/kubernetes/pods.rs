//! From a workspace and its template to the StatefulSet that runs it. Pure: nothing here talks to a cluster.
//!
//! The pod keeps the restricted Pod Security Standard unless its template may leave it, has no token of the
//! cluster, and does not share its name, selector, labels or claim with another workspace's.

mod claim;
mod container;
mod finish;
mod grant;
mod spec;
mod warm;

pub(super) use finish::finished;
pub(crate) use grant::{annotations, granted};
pub(super) use spec::of_template;
pub(crate) use warm::{owned, warm_set, warm_set_of};

use super::names;
use crate::hash::digest;
use crate::{Identity, StartSpec};
use config::{BadValue, PodTemplate, Runs, Template, TemplateName, Values};
use k8s_openapi::api::apps::v1::{
    StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use std::collections::BTreeMap;

/// Why a workspace makes no pod. What the template alone decides was judged when it was read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadPod {
    /// The template is of another driver.
    #[error("the template {0} is not one of pods")]
    NotOfPods(TemplateName),
    /// The values are not those of the template, which was changed since they were made.
    #[error(transparent)]
    Value(#[from] BadValue),
    /// The overlay does not fit over these values.
    #[error("the pod of the template {0} does not fit PodSpec")]
    Unfit(TemplateName),
}

/// The StatefulSet of a workspace in a namespace.
///
/// Its name, selector and owner come from the request, which names one workspace and one owner: neither a template
/// nor an overlay can name another. The claim of its volume outlives it.
///
/// # Errors
/// The values or the overlay do not fit the template.
pub(crate) fn stateful_set(spec: &StartSpec, namespace: &str, replicas: u8) -> Result<StatefulSet, BadPod> {
    let (template, values) = (&spec.template, &spec.grant.values);
    let pods = of_pods(template)?;
    let told =
        ObjectMeta { labels: Some(labels(spec)), annotations: Some(owned(spec)), ..ObjectMeta::default() };
    let pod = pod_template(Some(spec), template, pods, values, told)?;
    let mut annotations = BTreeMap::from([
        (names::OWNER.to_owned(), owner(&spec.owner)),
        (names::TEMPLATE_HASH.to_owned(), hash(&pod)),
    ]);
    for (key, value) in grant::annotations(&spec.grant) {
        annotations.extend(value.map(|value| (key.to_owned(), value)));
    }
    let claim = |volume| claim::claim(selector(spec), Some(owner(&spec.owner)), volume, values);
    let claim = pods.volume.as_ref().map(claim).transpose()?;
    Ok(StatefulSet {
        metadata: ObjectMeta {
            name: Some(names::stateful_set(&spec.id)),
            namespace: Some(namespace.to_owned()),
            labels: Some(labels(spec)),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(StatefulSetSpec {
            replicas: Some(replicas.into()),
            selector: LabelSelector { match_labels: Some(selector(spec)), ..LabelSelector::default() },
            template: pod,
            volume_claim_templates: claim.map(|claim| vec![claim]),
            ..rules()
        }),
        status: None,
    })
}

/// What is the same for every workspace. Written out where a change would cost files or sockets, though it is the
/// default: it can be changed later, by hand or by a policy.
fn rules() -> StatefulSetSpec {
    StatefulSetSpec {
        // A pod of a broken template is not waited for. Cannot be changed later.
        pod_management_policy: Some("Parallel".to_owned()),
        // A template that is edited waits for the next start: RollingUpdate would end live workspaces.
        update_strategy: Some(StatefulSetUpdateStrategy {
            type_: Some("OnDelete".to_owned()),
            rolling_update: None,
        }),
        persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
            when_deleted: Some("Retain".to_owned()),
            when_scaled: Some("Retain".to_owned()),
        }),
        // Nobody rolls back; ten for each of thousands would only fill the store.
        revision_history_limit: Some(1),
        ..StatefulSetSpec::default()
    }
}

/// `whose` = none: it runs before its user comes.
fn pod_template(
    whose: Option<&StartSpec>,
    template: &Template,
    pods: &PodTemplate,
    values: &Values,
    metadata: ObjectMeta,
) -> Result<PodTemplateSpec, BadPod> {
    let made = of_template(whose, template, pods, values)?;
    let pod: PodSpec = finished(&made, pods).ok_or_else(|| BadPod::Unfit(template.name.clone()))?;
    Ok(PodTemplateSpec { metadata: Some(metadata), spec: Some(pod) })
}

fn of_pods(template: &Template) -> Result<&PodTemplate, BadPod> {
    match &template.runs {
        Runs::Kubernetes(pods) => Ok(pods),
        Runs::Process(_) | Runs::Existing(_) => Err(BadPod::NotOfPods(template.name.clone())),
    }
}

/// What makes a pod the workspace's.
fn selector(spec: &StartSpec) -> BTreeMap<String, String> {
    BTreeMap::from([(names::WORKSPACE.to_owned(), spec.id.to_string())])
}

fn labels(spec: &StartSpec) -> BTreeMap<String, String> {
    selector(spec).into_iter().chain(ours(&spec.template)).collect()
}

/// What all of Usher's pods of a template have in common.
fn ours(template: &Template) -> [(String, String); 2] {
    let labels = [(names::TEMPLATE, template.name.as_str()), (names::MANAGED_BY, names::USHER)];
    labels.map(|(key, value)| (key.to_owned(), value.to_owned()))
}

/// `{"iss":…,"sub":…}`: who may adopt it.
pub(crate) fn owner(owner: &Identity) -> String {
    json(&BTreeMap::from([("iss", &owner.issuer), ("sub", &owner.subject)]))
}

/// A digest of a pod template: another one takes effect at the next start.
fn hash(pod: &PodTemplateSpec) -> String {
    digest(&[json(pod).as_bytes()]).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("texts and the types of Kubernetes are JSON")
}

#[cfg(test)]
mod tests;
