//! What Usher may do in a cluster, looked at once, at its start: what lacks is told then, and not when it is needed.

use super::{CallError, Client, REAPER};
use config::{ExistingObject, ObjectKind};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::authorization::v1::{
    ResourceRule, SelfSubjectRulesReview, SelfSubjectRulesReviewSpec, SubjectRulesReviewStatus,
};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::fmt;

/// A right in a namespace, and what Usher needs it for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Right<'a> {
    group: &'static str,
    resource: &'static str,
    verb: &'static str,
    /// The one object that it is needed for; empty = all.
    object: &'a str,
    /// What does not work without it; none = nothing does.
    lost: Option<&'static str>,
}

const fn must(group: &'static str, resource: &'static str, verb: &'static str) -> Right<'static> {
    Right { group, resource, verb, object: "", lost: None }
}

const fn must_on(
    group: &'static str,
    resource: &'static str,
    verb: &'static str,
    object: &'static str,
) -> Right<'static> {
    Right { group, resource, verb, object, lost: None }
}

const fn may(
    group: &'static str,
    resource: &'static str,
    verb: &'static str,
    lost: &'static str,
) -> Right<'static> {
    Right { group, resource, verb, object: "", lost: Some(lost) }
}

const DELETE: &str = "workspaces cannot be deleted";
const DELETE_VOLUME: &str = "workspaces cannot be deleted together with their files";
const CAUSES: &str = "less is told of why a workspace does not start";
const RETRY: &str =
    "a broken start is not made anew, and a workspace without a volume stays on a node that is lost";

const TELL: &str = "a warm workspace is not told whose it is";
const TELL_FILES: &str = "files in a warm workspace do not say whose they are, and it cannot be deleted";
const CAUSES_OF_ROUTE: &str = "less is told of why what a route leads to does not start";
const ROUTE: &str = "a route does not wake what it leads to";

/// The key of the namespaces whose loss is nothing to the others.
const MORE: &str = "more_namespaces";

/// In the namespace of the workspaces. What is watched need not be listed where lists can be streamed.
const WORKSPACES: &[Right<'_>] = &[
    must("apps", "statefulsets", "watch"),
    must("apps", "statefulsets", "create"),
    must("apps", "statefulsets", "patch"),
    may("apps", "statefulsets", "delete", DELETE),
    must("", "pods", "watch"),
    // Whose the files are that a workspace would get.
    must("", "persistentvolumeclaims", "list"),
    may("", "pods", "patch", TELL),
    may("", "pods", "delete", RETRY),
    may("", "persistentvolumeclaims", "watch", CAUSES),
    may("", "persistentvolumeclaims", "patch", TELL_FILES),
    may("", "persistentvolumeclaims", "delete", DELETE_VOLUME),
    may("", "events", "watch", CAUSES),
];

/// In the namespace of the records.
const RECORDS: &[Right<'_>] = &[
    must("", "secrets", "get"),
    must("", "secrets", "list"),
    must("", "secrets", "watch"),
    must("", "secrets", "create"),
    must("", "secrets", "patch"),
    must("", "secrets", "delete"),
    must_on("coordination.k8s.io", "leases", "get", REAPER),
    must("coordination.k8s.io", "leases", "create"),
    must_on("coordination.k8s.io", "leases", "update", REAPER),
];

/// Why Usher cannot work in a cluster. Nothing but the silence of the API is repaired by waiting.
#[derive(Debug, thiserror::Error)]
pub enum RightsError {
    /// A namespace does not exist.
    #[error("there is no namespace {0} in the cluster: make it, or correct `kubernetes.{1}`")]
    NoNamespace(String, &'static str),
    /// Rights lack.
    #[error(
        "Usher's account may not {} in namespace {namespace}: give it a Role there with these rights (README, *On Kubernetes*)",
        Listed(missing)
    )]
    Missing {
        /// Where.
        namespace: String,
        /// `watch pods`, and so on.
        missing: Vec<String>,
    },
    /// The API cannot be asked.
    #[error("{error}; {}", error.hint())]
    Call {
        /// Why.
        error: CallError,
    },
}

struct Listed<'a>(&'a [String]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(", "))
    }
}

/// In the namespace of an object that a route leads to. None of it is needed for anything else.
fn of_route(object: &ExistingObject) -> [Right<'_>; 4] {
    let resource = match object.kind {
        ObjectKind::Deployment => "deployments",
        ObjectKind::StatefulSet => "statefulsets",
    };
    let right = |group, resource, verb, object| Right { group, resource, verb, object, lost: Some(ROUTE) };
    let aside = may("", "events", "watch", CAUSES_OF_ROUTE);
    [
        right("apps", resource, "watch", object.name.as_str()),
        right("apps", resource, "patch", object.name.as_str()),
        right("", "pods", "watch", ""),
        aside,
    ]
}

/// Looks whether the namespaces are there and what may be done in them, and with what the routes lead to; says in the
/// log what will not work: what is in another namespace of workspaces than the first is tried on, and nothing to the rest.
///
/// # Errors
/// What lacks without which Usher can do nothing.
pub async fn check(
    client: &Client,
    workspaces: impl IntoIterator<Item = &str>,
    records: &str,
    routes: impl IntoIterator<Item = &ExistingObject>,
) -> Result<(), RightsError> {
    let keys = std::iter::once("namespace").chain(std::iter::repeat(MORE));
    let workspaces = workspaces.into_iter().zip(keys).map(|(namespace, key)| (namespace, key, WORKSPACES));
    for (namespace, key, rights) in workspaces.chain([(records, "records_namespace", RECORDS)]) {
        match is_usable(client, namespace, key, rights).await {
            Err(error @ (RightsError::NoNamespace(..) | RightsError::Missing { .. })) if key == MORE => {
                tracing::warn!(kubernetes.namespace = namespace, %error, "workspaces in a namespace cannot be served");
            }
            done => done?,
        }
    }
    for object in routes {
        lacking(client, &object.namespace, &of_route(object)).await?;
    }
    Ok(())
}

async fn is_usable(
    client: &Client,
    namespace: &str,
    key: &'static str,
    rights: &[Right<'_>],
) -> Result<(), RightsError> {
    is_there(client, namespace, key).await?;
    let needed = lacking(client, namespace, rights).await?;
    let missing: Vec<String> =
        needed.iter().filter(|right| right.lost.is_none()).map(ToString::to_string).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(RightsError::Missing { namespace: namespace.to_owned(), missing })
}

/// Which of these rights lack in a namespace; says in the log what will not work without those that can be missed.
async fn lacking<'a>(
    client: &Client,
    namespace: &str,
    rights: &[Right<'a>],
) -> Result<Vec<Right<'a>>, RightsError> {
    let Some(rules) = rules(client, namespace).await? else { return Ok(Vec::new()) };
    let missing: Vec<_> = rights.iter().filter(|right| !granted(&rules, right)).copied().collect();
    for right in &missing {
        if let Some(lost) = right.lost {
            tracing::warn!(kubernetes.namespace = namespace, right = %right, lost, "a right lacks in the cluster");
        }
    }
    Ok(missing)
}

/// A list of what is not there is empty, and to look at the namespace itself takes a right of its own: so something is
/// made without being made, which is refused with 404 where there is no namespace.
async fn is_there(client: &Client, namespace: &str, key: &'static str) -> Result<(), RightsError> {
    let metadata = ObjectMeta { name: Some("usher-looks".to_owned()), ..ObjectMeta::default() };
    let answered = if key != "records_namespace" {
        client.try_out(namespace, &StatefulSet { metadata, ..StatefulSet::default() }).await
    } else {
        client.try_out(namespace, &Secret { metadata, ..Secret::default() }).await
    };
    match answered {
        Err(error) if error.code() == Some(404) => Err(RightsError::NoNamespace(namespace.to_owned(), key)),
        // Whatever else it says, it knows the namespace, or does not tell.
        Ok(()) | Err(CallError::Refused { .. }) => Ok(()),
        Err(error) => Err(RightsError::Call { error }),
    }
}

/// What may be done in a namespace; none = that is not told, and is found out when it is needed.
async fn rules(client: &Client, namespace: &str) -> Result<Option<Vec<ResourceRule>>, RightsError> {
    let spec = SelfSubjectRulesReviewSpec { namespace: Some(namespace.to_owned()) };
    let review = SelfSubjectRulesReview { spec, ..SelfSubjectRulesReview::default() };
    match client.review(&review).await {
        Ok(SelfSubjectRulesReview { status: Some(status), .. }) => Ok(complete(status)),
        Ok(_) | Err(CallError::Refused { .. }) => Ok(None),
        Err(error) => Err(RightsError::Call { error }),
    }
}

/// The rules, if those are all: an authoriser that is asked for each request cannot list them.
fn complete(status: SubjectRulesReviewStatus) -> Option<Vec<ResourceRule>> {
    (!status.incomplete).then_some(status.resource_rules)
}

fn granted(rules: &[ResourceRule], right: &Right<'_>) -> bool {
    let has = |all: &[String], one: &str| all.iter().any(|it| it == "*" || it == one);
    rules.iter().any(|rule| {
        let names = rule.resource_names.as_deref().unwrap_or_default();
        (names.is_empty() || names.iter().any(|name| name == right.object))
            && has(&rule.verbs, right.verb)
            && has(rule.api_groups.as_deref().unwrap_or_default(), right.group)
            && has(rule.resources.as_deref().unwrap_or_default(), right.resource)
    })
}

impl fmt::Display for Right<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        write!(f, "{} {}{dot}{}", self.verb, self.resource, self.group)?;
        if self.object.is_empty() { Ok(()) } else { write!(f, " {}", self.object) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::testing::{Reply, Server};
    use config::RouteName;
    use serde_json::{Value, json};
    use std::time::Duration;

    fn rule(groups: Value, resources: Value, verbs: Value, names: Value) -> Value {
        json!({ "apiGroups": groups, "resources": resources, "verbs": verbs, "resourceNames": names })
    }

    #[test]
    fn a_right_is_granted_by_a_rule_for_all_objects_of_its_resource() {
        let right = must("apps", "statefulsets", "watch");
        for (groups, resources, verbs, names, expected) in [
            (json!(["apps"]), json!(["statefulsets"]), json!(["get", "watch"]), json!([]), true),
            (json!(["*"]), json!(["*"]), json!(["*"]), Value::Null, true),
            (json!([""]), json!(["statefulsets"]), json!(["watch"]), json!([]), false),
            (json!(["apps"]), json!(["statefulsets/scale"]), json!(["watch"]), json!([]), false),
            (json!(["apps"]), json!(["statefulsets"]), json!(["list"]), json!([]), false),
            (json!(["apps"]), json!(["statefulsets"]), json!(["watch"]), json!(["alice"]), false),
        ] {
            let rules = [serde_json::from_value(rule(groups, resources, verbs, names)).unwrap()];
            assert_eq!(granted(&rules, &right), expected, "{rules:?}");
        }
    }

    #[test]
    fn a_right_that_is_needed_for_one_object_may_be_granted_for_that_one_alone() {
        let right = must_on("coordination.k8s.io", "leases", "update", REAPER);
        for (names, expected) in
            [(json!([]), true), (json!(["other", REAPER]), true), (json!(["other"]), false)]
        {
            let rule = rule(json!(["coordination.k8s.io"]), json!(["leases"]), json!(["update"]), names);
            assert_eq!(granted(&[serde_json::from_value(rule.clone()).unwrap()], &right), expected, "{rule}");
        }
    }

    #[test]
    fn what_a_route_leads_to_may_be_allowed_by_its_name_alone() {
        let wiki = ExistingObject {
            route: RouteName::parse("docs").unwrap(),
            kind: ObjectKind::Deployment,
            name: "wiki".to_owned(),
            namespace: "docs".to_owned(),
            port: 80,
            replicas: 1,
            schedule_timeout: Duration::ZERO,
            pull_timeout: Duration::ZERO,
        };
        let names = json!(["wiki"]);
        let rule = |verbs| rule(json!(["apps"]), json!(["deployments"]), verbs, names.clone());
        let rules = [serde_json::from_value(rule(json!(["list", "watch"]))).unwrap()];
        let lacking: Vec<String> =
            of_route(&wiki).iter().filter(|right| !granted(&rules, right)).map(ToString::to_string).collect();
        assert_eq!(lacking, ["patch deployments.apps wiki", "watch pods", "watch events"]);
    }

    /// What a check comes to where every namespace is there and has these rules.
    async fn checked(rules: Value) -> Result<(), RightsError> {
        let server = Server::new(move |asked| {
            if asked.line.contains("selfsubjectrulesreviews") {
                let status = json!({ "incomplete": false, "nonResourceRules": [], "resourceRules": rules });
                Reply::json(201, &json!({ "metadata": {}, "spec": {}, "status": status }))
            } else {
                Reply::refusal(422, "Invalid")
            }
        });
        check(&server.in_memory(), ["ws"], "usher", []).await
    }

    #[tokio::test]
    async fn rights_that_lack_are_named_with_their_namespace() {
        let all = json!(["*"]);
        checked(json!([rule(all.clone(), all.clone(), all.clone(), json!([]))])).await.unwrap();
        let pods =
            rule(json!(["", "apps"]), json!(["pods", "statefulsets"]), json!(["watch", "create"]), json!([]));
        let error = checked(json!([pods])).await.unwrap_err().to_string();
        assert!(
            error.contains("may not patch statefulsets.apps, list persistentvolumeclaims in namespace ws"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn of_several_namespaces_only_the_first_must_be_there_and_open() {
        let (gone, closed, open) = ("gone", "closed", "open");
        let server = Server::new(move |asked| {
            if asked.line.contains("selfsubjectrulesreviews") {
                let all = json!(["*"]);
                let is_closed = asked.json()["spec"]["namespace"] == closed;
                let rules = if is_closed {
                    json!([])
                } else {
                    json!([rule(all.clone(), all.clone(), all, json!([]))])
                };
                let status = json!({ "incomplete": false, "nonResourceRules": [], "resourceRules": rules });
                return Reply::json(201, &json!({ "metadata": {}, "spec": {}, "status": status }));
            }
            let is_gone = asked.line.contains("/namespaces/gone/");
            if is_gone { Reply::refusal(404, "NotFound") } else { Reply::refusal(422, "Invalid") }
        });
        let client = server.in_memory();
        for (namespaces, records, begins) in [
            ([open, gone, closed], "usher", true),
            ([gone, open, open], "usher", false),
            ([closed, open, open], "usher", false),
            ([open, open, open], gone, false),
        ] {
            let checked = check(&client, namespaces, records, []).await;
            assert_eq!(checked.is_ok(), begins, "{namespaces:?} {records}: {checked:?}");
        }
    }

    #[tokio::test]
    async fn a_namespace_that_is_not_there_is_named_with_its_key() {
        let server = Server::new(|_| Reply::refusal(404, "NotFound"));
        let error = check(&server.in_memory(), ["ws"], "usher", []).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "there is no namespace ws in the cluster: make it, or correct `kubernetes.namespace`"
        );
    }
}
