//! A Deployment or StatefulSet that others made, as far as a route needs it. Pure.

use crate::kubernetes::names;
use crate::kubernetes::notes::{self, Course};
use config::{ObjectKind, RouteName};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

/// What is read of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Object {
    pub(super) kind: ObjectKind,
    pub(super) meta: ObjectMeta,
    /// How many pods it is to have.
    pub(super) replicas: u32,
    /// Which pods are its own, as a label selector.
    pub(super) selector: String,
    /// Why its controller can make no pod, in the cluster's words.
    pub(super) refusal: Option<String>,
    /// What Usher wrote on it.
    pub(super) course: Course,
}

impl From<Deployment> for Object {
    fn from(deployment: Deployment) -> Self {
        let spec = deployment.spec.unwrap_or_default();
        let conditions = deployment.status.and_then(|status| status.conditions).unwrap_or_default();
        let fails = |condition: &&DeploymentCondition| {
            condition.type_ == "ReplicaFailure" && condition.status == "True"
        };
        let refusal = conditions.iter().find(fails).and_then(|condition| condition.message.clone());
        Self::of(ObjectKind::Deployment, deployment.metadata, spec.replicas, &spec.selector, refusal)
    }
}

impl From<StatefulSet> for Object {
    fn from(set: StatefulSet) -> Self {
        let spec = set.spec.unwrap_or_default();
        Self::of(ObjectKind::StatefulSet, set.metadata, spec.replicas, &spec.selector, None)
    }
}

impl Object {
    fn of(
        kind: ObjectKind,
        mut meta: ObjectMeta,
        replicas: Option<i32>,
        selector: &LabelSelector,
        refusal: Option<String>,
    ) -> Self {
        let course = Course::of(&meta);
        // Who wrote which field is read for the course alone, and takes much room.
        meta.managed_fields = None;
        // The API server writes 1 where nothing is given.
        let replicas = u32::try_from(replicas.unwrap_or(1)).unwrap_or_default();
        Self { kind, meta, replicas, selector: written(selector), refusal, course }
    }

    /// Whether who made it lets this route wake it and let it rest.
    pub(super) fn agrees(&self, route: &RouteName) -> bool {
        let says = [notes::text(&self.meta, names::ROUTE), notes::label(&self.meta, names::ROUTE)];
        says.contains(&Some(route.as_str()))
    }

    pub(super) fn uid(&self) -> &str {
        self.meta.uid.as_deref().unwrap_or_default()
    }

    pub(super) fn name(&self) -> &str {
        self.meta.name.as_deref().unwrap_or_default()
    }

    pub(super) fn version(&self) -> u64 {
        notes::version(&self.meta)
    }

    /// Whether somebody has begun to delete it.
    pub(super) fn ends(&self) -> bool {
        self.meta.deletion_timestamp.is_some()
    }

    /// How many pods it had when it was last scaled to 0.
    pub(super) fn remembered(&self) -> Option<u32> {
        notes::text(&self.meta, names::REPLICAS)?.parse().ok().filter(|replicas| *replicas > 0)
    }

    /// How often Usher has scaled it to 0.
    pub(super) fn stops(&self) -> u64 {
        notes::text(&self.meta, names::STOPS).and_then(|stops| stops.parse().ok()).unwrap_or_default()
    }

    /// Whether it, by its controller, made this pod. A label alone others may have, too.
    pub(super) fn made(&self, pod: &Pod) -> bool {
        let owners = pod.metadata.owner_references.iter().flatten();
        let mut controllers = owners.filter(|owner| owner.controller == Some(true));
        match self.kind {
            ObjectKind::StatefulSet => controllers.any(|owner| owner.uid == self.uid()),
            // Its ReplicaSets are named by what their pods have as a label.
            ObjectKind::Deployment => notes::label(&pod.metadata, "pod-template-hash").is_some_and(|hash| {
                let name = format!("{}-{hash}", self.name());
                controllers.any(|owner| owner.kind == "ReplicaSet" && owner.name == name)
            }),
        }
    }
}

/// A selector as the API takes it in a query.
fn written(selector: &LabelSelector) -> String {
    let labels = selector.match_labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let rules = selector.match_expressions.iter().flatten().map(|rule| {
        let (key, values) = (&rule.key, rule.values.as_deref().unwrap_or_default().join(","));
        match rule.operator.as_str() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.clone(),
        }
    });
    labels.chain(rules).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn deployment(object: Value) -> Object {
        serde_json::from_value::<Deployment>(object).unwrap().into()
    }

    #[test]
    fn who_made_it_agrees_by_an_annotation_or_a_label_that_names_the_route() {
        let docs = RouteName::parse("docs").unwrap();
        for (metadata, agrees) in [
            (json!({}), false),
            (json!({ "annotations": { "usher.dev/route": "docs" } }), true),
            (json!({ "labels": { "usher.dev/route": "docs" } }), true),
            (json!({ "annotations": { "usher.dev/route": "wiki" } }), false),
            (json!({ "annotations": { "usher.dev/route": "true" } }), false),
            (json!({ "labels": { "app": "docs" } }), false),
        ] {
            let object = deployment(json!({ "metadata": metadata }));
            assert_eq!(object.agrees(&docs), agrees, "{object:?}");
        }
    }

    #[test]
    fn a_selector_is_written_as_a_query() {
        let selector = json!({
            "matchLabels": { "app": "docs", "tier": "web" },
            "matchExpressions": [
                { "key": "env", "operator": "In", "values": ["a", "b"] },
                { "key": "old", "operator": "NotIn", "values": ["c"] },
                { "key": "x", "operator": "Exists" },
                { "key": "y", "operator": "DoesNotExist" },
            ],
        });
        let object = deployment(json!({ "spec": { "selector": selector, "template": {} } }));
        assert_eq!(object.selector, "app=docs,tier=web,env in (a,b),old notin (c),x,!y");
        assert_eq!(object.replicas, 1, "as the API server has it where nothing is given");
    }

    #[test]
    fn only_what_its_own_controller_made_is_its_pod() {
        let pod = |hash: &str, owner: Value| -> Pod {
            let metadata = json!({ "labels": { "pod-template-hash": hash }, "ownerReferences": [owner] });
            serde_json::from_value(json!({ "metadata": metadata })).unwrap()
        };
        let owner = |kind: &str, name: &str, uid: &str| json!({ "apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true });
        let docs = deployment(json!({ "metadata": { "name": "docs", "uid": "1" } }));
        assert!(docs.made(&pod("5f", owner("ReplicaSet", "docs-5f", "9"))));
        assert!(!docs.made(&pod("5f", owner("ReplicaSet", "docs-v2-5f", "9"))));
        assert!(!docs.made(&pod("5f", owner("Job", "docs-5f", "9"))));
        let set: StatefulSet =
            serde_json::from_value(json!({ "metadata": { "name": "docs", "uid": "1" } })).unwrap();
        let set = Object::from(set);
        assert!(set.made(&pod("", owner("StatefulSet", "docs", "1"))));
        assert!(!set.made(&pod("", owner("StatefulSet", "docs", "2"))), "one of that name that was deleted");
    }
}
