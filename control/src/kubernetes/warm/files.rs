//! Files of users in warm workspaces: the volume of a warm pod keeps its name, so that the warm set which made it stays its
//! workspace's for as long as there are files.
//!
//! Which one that is stands on the workspace's own set ([`FILES`](super::names::FILES)) and on the claim, which says whose
//! it is as any other does and outlives both. Whether it is to run is said by the own set alone, as for any claimed one: a
//! warm set that its workspace does not name in [`CLAIMS`](super::names::CLAIMS) rests at 0 replicas.

use super::claim::{LOOKS, PATIENCE};
use super::known::{Claim, Handle, claimed_by};
use super::names;
use crate::kubernetes::driver::{CLAIM, only, outdated};
use crate::kubernetes::fold::{Fold, Known};
use crate::kubernetes::notes::Notes;
use crate::kubernetes::plan::{self, Wanted};
use crate::kubernetes::{CallError, Space, pods};
use crate::{Cause, Identity, StartSpec, clock};
use config::WorkspaceId;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::core::params::ListParams;
use serde_json::{Value, json};

/// What a start of a workspace with files in a warm set takes next.
#[derive(Debug, PartialEq)]
enum Next {
    /// Nothing: it runs there.
    Done,
    /// The warm set is to run; none = it was removed, and is made anew with the files.
    Raise(Option<Handle>),
    /// The workspace's own set is to say that it runs there.
    Name,
    /// The warm set is being removed.
    Wait(Handle),
    /// Somebody else's has the name.
    Refuse,
}

/// `stale` = the template that it holds is broken, as far as its own set says; `raised` = the warm set has the new one.
fn next(fold: &Fold, known: &Known, keeper: &str, stale: bool, raised: bool) -> Next {
    let Some((handle, claim)) = fold.warm().look(keeper) else { return Next::Raise(None) };
    let Claim::Of { id, uid, owner } = claim else { return Next::Refuse };
    if *id != known.notes.id || *owner != known.notes.owner {
        return Next::Refuse;
    }
    if fold.warm().ends(keeper) {
        return Next::Wait(handle);
    }
    // The workspace was removed since, and made again.
    let is_of_another = uid != known.uid();
    if is_of_another || (stale && !raised) || !fold.warm().is_up(keeper) {
        return Next::Raise(Some(handle));
    }
    if known.notes.claims.as_deref() == Some(keeper) && !stale { Next::Done } else { Next::Name }
}

impl Space {
    /// Has a workspace run in the warm set that has its files, from the template as it is now.
    ///
    /// The warm set first: until the workspace's own says so it runs for nobody, and whoever is interrupted between the
    /// two is still wanted.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses; it is not wanted any more; its name is somebody else's.
    pub(in crate::kubernetes) async fn wake_keeper(
        &self,
        spec: &StartSpec,
        wanted: &Wanted<'_>,
        keeper: &str,
    ) -> Result<(), Cause> {
        let until = clock::now() + PATIENCE;
        let mut broken = None;
        for _ in 0..LOOKS {
            let (next, known) = {
                let fold = self.inner.fold();
                let known = fold.look(&spec.id);
                let known = wanted.due(known.as_ref())?.clone();
                (next(&fold, &known, keeper, wanted.mends(&known), broken.is_some()), known)
            };
            match next {
                Next::Done => {
                    self.inner.fold().tell_again(&spec.id);
                    return match broken.flatten() {
                        Some(pod) => self.remove_pod(&spec.id, &pod).await,
                        None => Ok(()),
                    };
                }
                Next::Raise(handle) => {
                    let Some(error) = self.raise(spec, known.uid(), keeper, handle.as_ref()).await? else {
                        broken = wanted.mends(&known).then(|| known.generation());
                        continue;
                    };
                    let is_over = !outdated(&error) && !error.may_be_done();
                    if is_over || !self.warm_changes(keeper, handle.as_ref(), until).await {
                        let verb = if handle.is_some() { "patch" } else { "create" };
                        return Err(self.cause(verb, "statefulsets.apps", keeper, &error));
                    }
                }
                Next::Name => self.pursue(&spec.id, None, |known| wanted.claim(known, keeper)).await?,
                Next::Wait(handle) => {
                    if !self.warm_changes(keeper, Some(&handle), until).await {
                        return Err(plan::conflict("the StatefulSet that has its files is being removed"));
                    }
                }
                Next::Refuse => {
                    let hint = format!(
                        "its files are in {}, and StatefulSet {keeper} in namespace {} is somebody else's: remove that one",
                        names::claim_of(keeper),
                        self.namespace()
                    );
                    return Err(Cause { hint, ..Cause::not_the_owner(&spec.id) });
                }
            }
        }
        Err(plan::conflict("the StatefulSet that has its files was changed again and again meanwhile"))
    }

    /// Has a warm set run for its workspace, whose own set is this; what hindered it, if anything did.
    async fn raise(
        &self,
        spec: &StartSpec,
        own: &str,
        keeper: &str,
        handle: Option<&Handle>,
    ) -> Result<Option<CallError>, Cause> {
        let mut set =
            pods::warm_set_of(keeper, spec, self.namespace()).map_err(|error| plan::bad_pod(&error))?;
        let annotations = set.metadata.annotations.get_or_insert_default();
        annotations.insert(names::CLAIMED_BY.to_owned(), claimed_by(&spec.id, own));
        let done = match handle {
            None => self.make(None, set).await,
            Some(handle) => {
                let (client, patch) = (&self.inner.client, raising(&set, handle));
                client.patch_as::<StatefulSet>(None, self.namespace(), keeper, &patch).await
            }
        };
        match (done, handle) {
            (Ok(set), _) => {
                self.inner.fold().answer(set, clock::now());
                self.told();
                Ok(None)
            }
            (Err(error), Some(handle)) if error.code() == Some(404) => {
                self.inner.fold().warm_removed(handle);
                Ok(None)
            }
            (Err(error), _) => Ok(Some(error)),
        }
    }

    /// Takes the warm set that has the files of a workspace to 0; should this fail, the keeper of warm sets does it.
    pub(super) async fn rest(&self, handle: &Handle) {
        let patch = json!({ "metadata": { "uid": handle.uid }, "spec": { "replicas": 0 } });
        match self.inner.client.patch::<StatefulSet>(self.namespace(), &handle.name, &patch).await {
            Ok(set) => {
                self.inner.fold().answer(set, clock::now());
                self.told();
            }
            Err(error) => {
                let name = handle.name.as_str();
                tracing::debug!(kubernetes.stateful_set = name, %error, "a warm workspace does not rest yet");
            }
        }
    }

    /// Whether there are files that a workspace's own set would take.
    pub(super) async fn has_files(&self, id: &WorkspaceId) -> Result<bool, Cause> {
        let name = names::claim(id);
        let which = ListParams::default().fields(&format!("metadata.name={name}"));
        let page = self.inner.client.page::<PersistentVolumeClaim>(self.namespace(), &which).await;
        Ok(!page.map_err(|error| self.cause("list", CLAIM, &name, &error))?.items.is_empty())
    }

    /// Has the claim of a warm set, and the workspace's own set, say whose files it has.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub(in crate::kubernetes) async fn tell_of_files(&self, name: &str) -> Result<(), Cause> {
        let Some((kept, _)) = self.inner.fold().warm().kept(name) else { return Ok(()) };
        let claim = names::claim_of(name);
        let (client, patch) = (&self.inner.client, naming(&kept.id, &kept.owner));
        let lacks = |(uid, notes): (&str, &Notes)| uid == kept.uid && notes.files.as_deref() != Some(name);
        if self.inner.fold().own(&kept.id).is_some_and(lacks) {
            let patch = json!({ "metadata": { "uid": kept.uid, "annotations": { names::FILES: name } } });
            let own = names::stateful_set(&kept.id);
            let written = client.patch::<StatefulSet>(self.namespace(), &own, &patch).await;
            let set = written.map_err(|error| self.cause("patch", "statefulsets.apps", &own, &error))?;
            self.inner.fold().answer(set, clock::now());
            self.told();
        }
        match client.patch::<PersistentVolumeClaim>(self.namespace(), &claim, &patch).await {
            Err(error) if error.code() != Some(404) => Err(self.cause("patch", CLAIM, &claim, &error)),
            _ => Ok(()),
        }
    }

    /// Removes a claim that is nobody's files, unless it was written since.
    pub(super) async fn remove_stray(&self, claim: &Handle) {
        let (client, how) = (&self.inner.client, only(&claim.uid, Some(claim.version)));
        let name = claim.name.as_str();
        match client.delete::<PersistentVolumeClaim>(self.namespace(), name, &how).await {
            Ok(_) => {
                tracing::debug!(kubernetes.claim = name, "the empty claim of a warm workspace is removed")
            }
            Err(error) => {
                tracing::debug!(kubernetes.claim = name, %error, "the claim of a warm workspace was not removed yet");
            }
        }
    }
}

/// The warm set is its workspace's, and its next pod is made anew.
fn raising(set: &StatefulSet, handle: &Handle) -> Value {
    let template = set.spec.as_ref().map(|spec| &spec.template);
    let mut template = serde_json::to_value(template).expect("the types of Kubernetes are JSON");
    // In the place of what stands there: nothing of that is left.
    template["$patch"] = json!("replace");
    let metadata = json!({
        "uid": handle.uid, "resourceVersion": handle.version.to_string(),
        "annotations": set.metadata.annotations,
    });
    json!({ "metadata": metadata, "spec": { "replicas": 1, "template": template } })
}

/// Whose files a claim has.
fn naming(id: &WorkspaceId, owner: &Identity) -> Value {
    let labels = json!({ names::WORKSPACE: id.to_string() });
    json!({ "metadata": { "labels": labels, "annotations": { names::OWNER: pods::owner(owner) } } })
}

#[cfg(test)]
mod tests;
