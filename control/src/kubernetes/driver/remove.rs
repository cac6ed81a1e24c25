//! What is taken away: pods that are stuck, and workspaces with or without their files.

use crate::kubernetes::fold::Known;
use crate::kubernetes::{CallError, Inner, Space, names, notes};
use crate::{Cause, CauseCode, Generation, Identity};
use config::WorkspaceId;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::core::params::{DeleteParams, ListParams, Preconditions};

/// How many claims are looked at: a workspace has one.
const CLAIMS: u32 = 16;
pub(in crate::kubernetes) const CLAIM: &str = "persistentvolumeclaims";

impl Space {
    /// Removes a pod, this one only; its controller makes the next.
    pub(in crate::kubernetes) async fn remove_pod(&self, id: &WorkspaceId, pod: &Generation) -> Result<(), Cause> {
        let deleted = remove_pod(&self.inner, id, &only(&pod.0, None)).await;
        deleted.map_err(|error| self.cause("delete", "pods", &names::pod(id), &error))
    }

    /// Removes a workspace; the files first, so that whoever is interrupted can be asked again. With an `owner` only
    /// what is theirs.
    pub(super) async fn delete(
        &self,
        id: &WorkspaceId,
        volume: bool,
        owner: Option<&Identity>,
    ) -> Result<(), Cause> {
        let mut known = self.inner.fold().look(id);
        if known.is_none() && !self.is_as_known(id, None).await? {
            // It was made a moment ago, by another or by a request whose answer was lost.
            known = self.inner.fold().look(id);
        }
        if let (Some(known), Some(owner)) = (&known, owner)
            && known.notes.owner != *owner
        {
            return Err(Cause::not_the_owner(id));
        }
        if let Some(keeper) = known.as_ref().and_then(Known::keeper)
            && !self.tell_of_files(keeper).await
        {
            let hint = "it could not be written down whose the files in its warm workspace are; see the log".to_owned();
            let code = CauseCode::ClusterUnreachable;
            return Err(Cause { code, detail: code.words().detail.to_owned(), hint });
        }
        if volume {
            self.delete_claims(id, owner).await?;
        }
        let Some(known) = known else { return Ok(()) };
        let (name, how) = (names::stateful_set(id), only(known.uid(), None));
        let deleted = self.inner.client.delete::<StatefulSet>(self.namespace(), &name, &how).await;
        deleted.map_err(|error| self.cause("delete", "statefulsets.apps", &name, &error))?;
        self.forget(id, Some(&known));
        self.let_go(id, known.body).await;
        Ok(())
    }

    /// Removes the claims of this workspace, if all are this owner's (none = whoever's they are); whether there were
    /// any.
    pub(super) async fn delete_claims(
        &self,
        id: &WorkspaceId,
        owner: Option<&Identity>,
    ) -> Result<bool, Cause> {
        let claims = self.claims(id).await?;
        if owner.is_some() && !claims.iter().all(|claim| notes::owner(&claim.metadata).as_ref() == owner) {
            return Err(Cause::not_the_owner(id));
        }
        let found = !claims.is_empty();
        for claim in claims {
            let name = claim.metadata.name.unwrap_or_default();
            let how = only(&claim.metadata.uid.unwrap_or_default(), None);
            let deleted =
                self.inner.client.delete::<PersistentVolumeClaim>(self.namespace(), &name, &how).await;
            deleted.map_err(|error| self.cause("delete", CLAIM, &name, &error))?;
        }
        Ok(found)
    }

    /// Whether files of this owner are kept under this name.
    pub(in crate::kubernetes) async fn keeps_files(
        &self,
        id: &WorkspaceId,
        owner: &Identity,
    ) -> Result<bool, Cause> {
        let claims = self.claims(id).await?;
        Ok(claims.iter().any(|claim| notes::owner(&claim.metadata).as_ref() == Some(owner)))
    }

    pub(super) async fn claims(&self, id: &WorkspaceId) -> Result<Vec<PersistentVolumeClaim>, Cause> {
        let labels = format!("{}={id},{}={}", names::WORKSPACE, names::MANAGED_BY, names::USHER);
        let which = ListParams { label_selector: Some(labels), limit: Some(CLAIMS), ..ListParams::default() };
        let page = self.inner.client.page::<PersistentVolumeClaim>(self.namespace(), &which).await;
        Ok(page.map_err(|error| self.cause("list", CLAIM, "", &error))?.items)
    }
}

/// Removes a pod whose node does not answer, without waiting for the node to agree.
pub(crate) async fn force(inner: &Inner, id: &WorkspaceId, pod: &Generation) {
    let how = DeleteParams { grace_period_seconds: Some(0), ..only(&pod.0, None) };
    tracing::warn!(workspace.name = %id, "the pod's node does not answer, and it keeps no files: it is removed by force");
    if let Err(error) = remove_pod(inner, id, &how).await {
        let hint = error.hint();
        tracing::warn!(workspace.name = %id, %error, hint, "a pod could not be removed by force");
    }
}

async fn remove_pod(inner: &Inner, id: &WorkspaceId, how: &DeleteParams) -> Result<(), CallError> {
    let name = inner.fold().look(id).map_or_else(|| names::pod(id), |known| known.pod_name());
    match inner.client.delete::<Pod>(&inner.kubernetes.namespace, &name, how).await {
        // Another has its name by now.
        Err(error) if error.code() == Some(409) => Ok(()),
        deleted => deleted.map(drop),
    }
}

/// Only the object with this `uid`, and what it made with it; with a `version` only if it was not written since.
pub(in crate::kubernetes) fn only(uid: &str, version: Option<u64>) -> DeleteParams {
    let resource_version = version.map(|version| version.to_string());
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() }
}
