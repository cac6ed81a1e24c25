//! What Usher writes down on a workspace's StatefulSet, as it is read and as it is written. Pure.

use super::{names, pods};
use crate::{Cause, CauseCode, Grant, Identity, Order, StopReason};
use config::{Kubernetes, TemplateName, WorkspaceId};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What is written on a StatefulSet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notes {
    /// Which workspace it is.
    pub(crate) id: WorkspaceId,
    /// Whose.
    pub(crate) owner: Identity,
    /// The template that its pods are made from.
    pub(crate) template: TemplateName,
    /// What its last start, or want, was admitted with.
    pub(crate) grant: Grant,
    /// The hash of the pod template that it holds.
    pub(crate) hash: Option<String>,
    /// Its place, while it waits for its turn.
    pub(crate) wanted: Option<Order>,
    /// The Usher that wrote down that it is wanted.
    pub(crate) wanter: Option<String>,
    /// The first half of a stop.
    pub(crate) mark: Option<StopReason>,
    /// Why it was last stopped.
    pub(crate) stopped: Option<StopReason>,
    /// Why it failed.
    pub(crate) failed: Option<Cause>,
    /// The warm set that it runs in, if that says so, too.
    pub(crate) claims: Option<String>,
    /// The warm set that has its files.
    pub(crate) files: Option<String>,
}

/// What is written of the course of things on whatever Usher starts and stops.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Course {
    /// Its place, while it waits for its turn.
    pub(crate) wanted: Option<Order>,
    /// The first half of a stop.
    pub(crate) mark: Option<StopReason>,
    /// Why it was last stopped.
    pub(crate) stopped: Option<StopReason>,
    /// Why it failed.
    pub(crate) failed: Option<Cause>,
}

impl Course {
    /// Reads it.
    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        Self {
            wanted: wanted(meta),
            mark: annotation::<Marked>(meta, names::MARK).and_then(|mark| reason(&mark.reason)),
            stopped: text(meta, names::STOPPED).and_then(reason),
            failed: annotation::<Failed>(meta, names::FAILED).map(cause),
        }
    }
}

/// Why a StatefulSet with Usher's label is not one of its workspaces.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotOurs {
    /// Its name is not that of the workspace in its label.
    #[error("its label {} is not the workspace of its name", names::WORKSPACE)]
    Name,
    /// Nothing says whose it is.
    #[error("its annotation {} does not say whose it is", names::OWNER)]
    Owner,
    /// Nothing says how it runs.
    #[error("its label {} does not name a template", names::TEMPLATE)]
    Template,
}

#[derive(Serialize, Deserialize)]
struct Owner {
    iss: String,
    sub: String,
}

#[derive(Serialize, Deserialize)]
struct Wanted {
    at_ms: u64,
    replica: String,
}

#[derive(Serialize, Deserialize)]
struct Marked {
    reason: String,
    replica: String,
}

#[derive(Serialize, Deserialize)]
struct Failed {
    code: String,
    detail: String,
    hint: String,
}

impl Notes {
    /// Reads them.
    ///
    /// # Errors
    /// Why it is not one of Usher's workspaces.
    pub(crate) fn of(set: &StatefulSet) -> Result<Self, NotOurs> {
        let meta = &set.metadata;
        let id = workspace(meta).filter(|id| meta.name.as_deref() == Some(&names::stateful_set(id)));
        let owner = owner(meta).ok_or(NotOurs::Owner)?;
        let template = label(meta, names::TEMPLATE).and_then(|name| TemplateName::parse(name).ok());
        let Course { wanted, mark, stopped, failed } = Course::of(meta);
        Ok(Self {
            id: id.ok_or(NotOurs::Name)?,
            owner,
            template: template.ok_or(NotOurs::Template)?,
            grant: meta.annotations.as_ref().map(pods::granted).unwrap_or_default(),
            hash: text(meta, names::TEMPLATE_HASH).map(str::to_owned),
            wanted,
            wanter: annotation::<Wanted>(meta, names::WANTED).map(|want| want.replica),
            mark,
            stopped,
            failed,
            claims: text(meta, names::CLAIMS).map(str::to_owned),
            files: text(meta, names::FILES).map(str::to_owned),
        })
    }
}

/// The workspace that an object is of, by its label.
pub(crate) fn workspace(meta: &ObjectMeta) -> Option<WorkspaceId> {
    WorkspaceId::parse(label(meta, names::WORKSPACE)?).ok()
}

/// Whose an object is, by its annotation.
pub(crate) fn owner(meta: &ObjectMeta) -> Option<Identity> {
    let owner = annotation::<Owner>(meta, names::OWNER)?;
    Some(Identity { issuer: owner.iss, subject: owner.sub })
}

/// Whether another installation than the one of this configuration made an object: its users and sessions are not known
/// here.
pub(crate) fn is_anothers(meta: &ObjectMeta, kubernetes: &Kubernetes) -> bool {
    let made_by = text(meta, names::RECORDS);
    made_by.zip(kubernetes.records_namespace.as_deref()).is_some_and(|(theirs, ours)| theirs != ours)
}

/// `resourceVersion` as the number that it is; 0 = it has none.
pub(crate) fn version(meta: &ObjectMeta) -> u64 {
    meta.resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}

/// [`names::WANTED`], of this replica at this time by its clock.
pub(crate) fn want(at_ms: u64, replica: &str) -> String {
    json!(Wanted { at_ms, replica: replica.to_owned() }).to_string()
}

/// [`names::MARK`].
pub(crate) fn mark(reason: StopReason, replica: &str) -> String {
    json!(Marked { reason: reason.as_str().to_owned(), replica: replica.to_owned() }).to_string()
}

/// [`names::FAILED`].
pub(crate) fn failure(cause: &Cause) -> String {
    let Cause { code, detail, hint } = cause.clone();
    json!(Failed { code: code.as_str().to_owned(), detail, hint }).to_string()
}

/// A place in the queue: by the API server's clock, which dates the write, and within a second by the writer's.
///
/// The dates of writes have whole seconds; within one, what replicas with clocks apart write is in no fair order,
/// but in the same for all.
fn wanted(meta: &ObjectMeta) -> Option<Order> {
    let wanted = annotation::<Wanted>(meta, names::WANTED)?;
    let writes = meta.managed_fields.iter().flatten();
    let dated = writes.filter(|write| write.manager.as_deref() == Some(names::WANTER));
    let second = dated.filter_map(|write| write.time.as_ref()).map(|time| time.0.as_second()).max();
    let second = second.unwrap_or_else(|| i64::try_from(wanted.at_ms / 1000).unwrap_or(i64::MAX));
    Some(Order { second, within: wanted.at_ms })
}

fn cause(failed: Failed) -> Cause {
    let known = CauseCode::ALL.iter().find(|code| code.as_str() == failed.code);
    // A newer Usher may know more causes; its words say what it is.
    let code = known.copied().unwrap_or(CauseCode::StartRefused);
    Cause { code, detail: failed.detail, hint: failed.hint }
}

fn reason(word: &str) -> Option<StopReason> {
    [StopReason::Idle, StopReason::MaxAge, StopReason::Asked]
        .into_iter()
        .find(|reason| reason.as_str() == word)
}

pub(crate) fn label<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.labels.as_ref()?.get(key).map(String::as_str)
}

pub(crate) fn text<'a>(meta: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(key).map(String::as_str)
}

fn annotation<T: serde::de::DeserializeOwned>(meta: &ObjectMeta, key: &str) -> Option<T> {
    serde_json::from_str(text(meta, key)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn set(metadata: &Value) -> StatefulSet {
        let mut whole = json!({
            "name": "gpu--alice",
            "resourceVersion": "41",
            "labels": { names::WORKSPACE: "gpu--alice", names::TEMPLATE: "t" },
            "annotations": { names::OWNER: r#"{"iss":"https://id.example.org","sub":"7"}"# },
        });
        for (key, value) in metadata.as_object().unwrap() {
            match value {
                Value::Object(fields) => {
                    fields.iter().for_each(|(field, value)| whole[key][field] = value.clone())
                }
                _ => whole[key] = value.clone(),
            }
        }
        serde_json::from_value(json!({ "metadata": whole })).unwrap()
    }

    fn annotated(key: &str, text: &str) -> StatefulSet {
        set(&json!({ "annotations": { key: text } }))
    }

    #[test]
    fn only_what_says_all_that_matters_is_ours() {
        assert_eq!(Notes::of(&set(&json!({}))).unwrap().id.to_string(), "gpu--alice");
        for (metadata, wrong) in [
            (json!({ "name": "bob" }), NotOurs::Name),
            (json!({ "labels": { names::WORKSPACE: "bob" } }), NotOurs::Name),
            (json!({ "labels": { names::WORKSPACE: "Not An Id" } }), NotOurs::Name),
            (json!({ "annotations": { names::OWNER: "alice" } }), NotOurs::Owner),
            (json!({ "annotations": { names::OWNER: r#"{"iss":"x"}"# } }), NotOurs::Owner),
            (json!({ "labels": { names::TEMPLATE: "" } }), NotOurs::Template),
        ] {
            assert_eq!(Notes::of(&set(&metadata)).unwrap_err(), wrong, "{metadata}");
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        for reason in [StopReason::Idle, StopReason::MaxAge, StopReason::Asked] {
            let notes = Notes::of(&annotated(names::MARK, &mark(reason, "r"))).unwrap();
            assert_eq!(notes.mark, Some(reason));
            let notes = Notes::of(&annotated(names::STOPPED, reason.as_str())).unwrap();
            assert_eq!(notes.stopped, Some(reason));
        }
        for code in CauseCode::ALL {
            let cause = crate::testing::cause(*code);
            let notes = Notes::of(&annotated(names::FAILED, &failure(&cause))).unwrap();
            assert_eq!(notes.failed, Some(cause));
        }
        let newer = annotated(names::FAILED, r#"{"code":"of_tomorrow","detail":"d","hint":"h"}"#);
        let failed = Notes::of(&newer).unwrap().failed.unwrap();
        assert_eq!((failed.code, failed.detail.as_str()), (CauseCode::StartRefused, "d"));
        let nonsense = json!({ "annotations": {
            names::MARK: "idle", names::STOPPED: "tired", names::FAILED: "no", names::WANTED: "soon",
        } });
        let notes = Notes::of(&set(&nonsense)).unwrap();
        assert_eq!((notes.mark, notes.stopped, notes.failed, notes.wanted), (None, None, None, None));
    }

    #[test]
    fn a_want_has_its_place_by_the_clock_of_the_api_server() {
        let wanted = |writes: Value| {
            let metadata = json!({ "annotations": { names::WANTED: want(1_700_000_005_250, "r") }, "managedFields": writes });
            Notes::of(&set(&metadata)).unwrap().wanted.unwrap()
        };
        let write =
            |manager: &str, time: &str| json!({ "manager": manager, "time": time, "operation": "Update" });
        let order = |second| Order { second, within: 1_700_000_005_250 };
        let theirs = write("kubectl", "2026-11-21T12:00:09Z");
        let ours = write(names::WANTER, "2026-11-21T12:00:01Z");
        assert_eq!(wanted(json!([theirs, ours])), order(1_795_262_401));
        // Where the server does not say, the writer's clock must do.
        assert_eq!(wanted(json!([theirs])), order(1_700_000_005));
    }
}
