//! Whose files a workspace would get: a new StatefulSet takes the claim that has the right name, whoever made that.

use super::remove::CLAIM;
use crate::kubernetes::reading::answer::{self, Call};
use crate::kubernetes::warm::is_warm_name;
use crate::kubernetes::{Space, names, notes};
use crate::{Cause, Identity, clock};
use config::{Kubernetes, WorkspaceId};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use std::time::Instant;
use tokio::time::timeout_at;

impl Space {
    /// Looks whether the claim that this StatefulSet would take is its owner's, or not there yet; and, if a warm set has
    /// files of theirs from before, which that is.
    ///
    /// To look once, before it is made, is enough: claims of this name are made by StatefulSets of its name only.
    ///
    /// # Errors
    /// The claim is not its owner's, or the server does not say so in time.
    pub(super) async fn may_take_files(
        &self,
        id: &WorkspaceId,
        set: &StatefulSet,
        until: Instant,
    ) -> Result<Option<String>, Cause> {
        if !has_claims(set) {
            return Ok(None);
        }
        let (owner, name, begun) = (notes::owner(&set.metadata), names::claim(id), clock::now());
        let kubernetes = &self.inner.kubernetes;
        let claims = timeout_at(until.into(), self.all_claims(id)).await.map_err(|_| {
            let call = Call { verb: "list", resource: CLAIM, namespace: self.namespace(), name: &name };
            answer::silent(&call, clock::now() - begun, "whose files these are is not known")
        })??;
        let is_kept = |claim: &&PersistentVolumeClaim| {
            keeper(claim).is_some() && !notes::is_anothers(&claim.metadata, kubernetes)
        };
        let kept: Vec<_> = claims.iter().filter(is_kept).collect();
        let named = claims.iter().filter(|claim| claim.metadata.name.as_ref() == Some(&name));
        named
            .chain(kept.iter().copied())
            .try_for_each(|claim| adopt(id, owner.as_ref(), claim, kubernetes))?;
        Ok(kept.into_iter().find_map(keeper).map(str::to_owned))
    }
}

fn has_claims(set: &StatefulSet) -> bool {
    let templates = set.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_ref());
    templates.is_some_and(|templates| !templates.is_empty())
}

/// The warm set that made a claim, and to whose pod it goes; none = it is of a workspace's own set.
fn keeper(claim: &PersistentVolumeClaim) -> Option<&str> {
    names::set_of_claim(claim.metadata.name.as_deref()?).filter(|set| is_warm_name(set))
}

/// Whether a claim may become the files of this owner's workspace. One that names no owner is nobody's to take.
fn adopt(
    id: &WorkspaceId,
    owner: Option<&Identity>,
    claim: &PersistentVolumeClaim,
    kubernetes: &Kubernetes,
) -> Result<(), Cause> {
    let (meta, namespace) = (&claim.metadata, &kubernetes.namespace);
    let (kept_for, is_anothers) = (notes::owner(meta), notes::is_anothers(meta, kubernetes));
    if kept_for.is_some() && kept_for.as_ref() == owner && !is_anothers {
        return Ok(());
    }
    let name = meta.name.as_deref().unwrap_or_default();
    let of_usher = notes::label(meta, names::MANAGED_BY) == Some(names::USHER)
        && notes::label(meta, names::WORKSPACE) == Some(id.to_string().as_str());
    let hint = if is_anothers {
        format!(
            "claim {name} in namespace {namespace} is of another installation of Usher (annotation {}): give each \
             namespaces of its own, or, if the other is gone, remove the claim or this annotation",
            names::RECORDS
        )
    } else if of_usher {
        format!(
            "claim {name} in namespace {namespace} keeps the files of another owner: \
             `usher delete {id} --with-volume` removes them and makes the name free"
        )
    } else {
        format!(
            "claim {name} in namespace {namespace} is not known to be this user's: remove it, or, if the files are \
             theirs, give it the annotation {} of their workspace",
            names::OWNER
        )
    };
    let detail = "Files of somebody else are kept under the name of this workspace.".to_owned();
    Err(Cause { detail, hint, ..Cause::not_the_owner(id) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CauseCode;
    use crate::kubernetes::testing::{config_of, start_spec};
    use serde_json::{Value, json};

    fn kubernetes() -> Kubernetes {
        let config::Driver::Kubernetes(kubernetes) = config_of("i").driver else { panic!("another driver") };
        kubernetes
    }

    /// A claim of alice's name with these labels and this owner.
    fn claim(labels: &Value, owner: Option<&str>) -> PersistentVolumeClaim {
        let annotations = json!({ names::OWNER: owner.unwrap_or_default() });
        let metadata = json!({ "name": "home-alice-0", "labels": labels, "annotations": annotations });
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    }

    #[test]
    fn only_a_claim_of_the_same_owner_becomes_a_workspaces_files() {
        let spec = start_spec("i");
        let (own, other) = (
            r#"{"iss":"https://id.example.org","sub":"7"}"#,
            r#"{"iss":"https://id.example.org","sub":"8"}"#,
        );
        let of_usher = json!({ names::MANAGED_BY: names::USHER, names::WORKSPACE: "alice" });
        let of_bobs = json!({ names::MANAGED_BY: names::USHER, names::WORKSPACE: "bob" });
        let table = [
            (&of_usher, Some(own), None),
            // Brought back from a backup.
            (&json!({}), Some(own), None),
            (&of_usher, Some(other), Some("`usher delete alice --with-volume` removes them")),
            (&of_usher, None, Some("`usher delete alice --with-volume` removes them")),
            (&of_bobs, Some(other), Some("claim home-alice-0 in namespace w is not known to be this user's")),
            (
                &json!({}),
                Some(other),
                Some("claim home-alice-0 in namespace w is not known to be this user's"),
            ),
            (&json!({}), None, Some("claim home-alice-0 in namespace w is not known to be this user's")),
        ];
        for (labels, owner, refused) in table {
            let adopted = adopt(&spec.id, Some(&spec.owner), &claim(labels, owner), &kubernetes());
            let Some(hint) = refused else {
                assert_eq!(adopted, Ok(()), "{labels} {owner:?}");
                continue;
            };
            let cause = adopted.unwrap_err();
            assert_eq!(cause.code, CauseCode::NotTheOwner);
            assert!(cause.hint.contains(hint), "{}", cause.hint);
        }
        assert!(
            adopt(&spec.id, None, &claim(&of_usher, None), &kubernetes()).is_err(),
            "nobody's is not nobody else's"
        );
    }
}
