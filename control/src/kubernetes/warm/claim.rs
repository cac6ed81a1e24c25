//! Gives a warm workspace to its user, and takes it away when they are done.

use super::known::{Claim, Handle, claimed_by};
use super::metrics::Took;
use super::{hash_of, names, pod_name};
use crate::kubernetes::driver::{only, outdated};
use crate::kubernetes::fold::{Fold, Known};
use crate::kubernetes::outline::Outline;
use crate::kubernetes::plan::{Plan, Wanted};
use crate::kubernetes::{Space, pods};
use crate::{Cause, StartSpec, clock};
use config::WorkspaceId;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::timeout_at;

/// Until then a warm one is had, or the workspace is started as usual: whoever waits for a start that failed is owed
/// an answer within a second.
pub(super) const PATIENCE: Duration = Duration::from_millis(900);
/// How many looks a claim takes at most: each but the last costs a call.
pub(super) const LOOKS: usize = 8;

/// What a claim takes next.
#[derive(Debug, PartialEq)]
enum Next {
    /// Nothing: it has one.
    Done,
    /// It starts as usual.
    Ordinary(Option<Took>),
    /// Its own set, if it is still of this version, is to say that it runs in this one.
    Name(Handle, Option<u64>),
    /// This one, which its own set of this `uid` names, is to say the same.
    Take(Handle, String),
    /// The one that it names is not known here yet, or not any more.
    Wait(String),
}

fn next(fold: &Fold, spec: &StartSpec, hash: &str, lost: &BTreeSet<String>, now: Instant) -> Next {
    let known = fold.look(&spec.id);
    if let Some(known) = &known {
        if known.notes.owner != spec.owner || known.ends() {
            return Next::Ordinary(None);
        }
        let is_wanted = known.is_wanted();
        match known.notes.claims.as_deref() {
            Some(_) if known.body.is_some() && is_wanted => return Next::Done,
            Some(name) if known.body.is_none() && !lost.contains(name) => match fold.warm().look(name) {
                Some((handle, Claim::Nobodys)) => return Next::Take(handle, known.uid().to_owned()),
                Some((_, Claim::Of { .. } | Claim::Unclear)) => {}
                None => return Next::Wait(name.to_owned()),
            },
            Some(_) => {}
            None if is_wanted => return Next::Ordinary(None),
            None => {}
        }
    }
    let free = fold.warm().free(&spec.template.name, hash, &spec.id, now);
    let took = if free.is_empty() && lost.is_empty() { Took::NoneReady } else { Took::Lost };
    let first = free.into_iter().find(|handle| !lost.contains(&handle.name));
    let seen = known.map(|known| known.version());
    first.map_or(Next::Ordinary(Some(took)), |handle| Next::Name(handle, seen))
}

impl Space {
    /// Has a workspace run in a warm set: in the one that has its files, or else, if it has none, in one of its template
    /// that is ready; `false` = it is to start as usual.
    ///
    /// # Errors
    /// The cluster does not answer, or refuses.
    pub(in crate::kubernetes) async fn claim(
        &self,
        spec: &StartSpec,
        wanted: &Wanted<'_>,
    ) -> Result<bool, Cause> {
        let known = self.inner.fold().look(&spec.id);
        if let Some(keeper) = known.as_ref().and_then(Known::keeper) {
            return self.wake_keeper(spec, wanted, keeper).await.map(|()| true);
        }
        let Some(hash) = hash_of(&spec.template, self.namespace()) else { return Ok(false) };
        if wanted.has_files() && self.has_files(&spec.id).await? {
            return Ok(false);
        }
        let until = clock::now() + PATIENCE;
        let mut lost = BTreeSet::new();
        for _ in 0..LOOKS {
            let next = next(&self.inner.fold(), spec, &hash, &lost, clock::now());
            match next {
                Next::Done => {
                    self.inner.fold().tell_again(&spec.id);
                    return Ok(true);
                }
                Next::Ordinary(took) => {
                    took.inspect(|took| self.inner.warm.took(*took));
                    return Ok(false);
                }
                Next::Name(handle, seen) => {
                    // Unless somebody was faster: then what they wrote holds.
                    self.pursue(&spec.id, None, |known| {
                        let is_as_seen = known.map(|known| known.version()) == seen;
                        if is_as_seen { wanted.claim(known, &handle.name) } else { Plan::Nothing }
                    })
                    .await?;
                }
                Next::Take(handle, own) => {
                    if self.take(spec, &own, &handle, until).await? {
                        self.inner.warm.took(Took::Claimed);
                        return Ok(true);
                    }
                    if clock::now() >= until {
                        lost.insert(handle.name);
                    }
                }
                Next::Wait(name) => {
                    if !self.warm_changes(&name, None, until).await {
                        lost.insert(name);
                    }
                }
            }
        }
        self.inner.warm.took(Took::Lost);
        Ok(false)
    }

    /// Has a warm set say whose it is, if it is still nobody's; `false` = something else stands there by now.
    async fn take(
        &self,
        spec: &StartSpec,
        own: &str,
        handle: &Handle,
        until: Instant,
    ) -> Result<bool, Cause> {
        let patch = taking(spec, own, handle);
        let client = &self.inner.client;
        let error = match client.patch::<StatefulSet>(self.namespace(), &handle.name, &patch).await {
            Ok(set) => {
                self.inner.fold().answer(set, clock::now());
                self.told();
                // Its route stands by now; should this fail, the keeper of warm sets does it.
                self.tell(handle).await;
                return Ok(true);
            }
            Err(error) => error,
        };
        if error.code() == Some(404) {
            self.inner.fold().warm_removed(handle);
            return Ok(false);
        }
        let is_over = !outdated(&error) && !error.may_be_done();
        // Where nothing is heard, a start as usual would not come further.
        let changed = !is_over && self.warm_changes(&handle.name, Some(handle), until).await;
        if is_over || (!changed && !outdated(&error)) {
            return Err(self.cause("patch", "statefulsets.apps", &handle.name, &error));
        }
        Ok(false)
    }

    /// Waits until something else is known of a warm set than this; `false` = it was not in time.
    pub(super) async fn warm_changes(&self, name: &str, before: Option<&Handle>, until: Instant) -> bool {
        let mut told = self.inner.told.subscribe();
        let changed = async {
            while self.inner.fold().warm().look(name).map(|(handle, _)| handle).as_ref() == before {
                if told.changed().await.is_err() {
                    return;
                }
            }
        };
        timeout_at(until.into(), changed).await.is_ok()
    }

    /// Has the pod of a claimed set, and what it keeps, say whose they are, as the set does.
    pub(super) async fn tell(&self, handle: &Handle) {
        self.tell_pod(handle).await;
        if let Err(cause) = self.tell_of_files(&handle.name).await {
            let (name, cause, hint) = (handle.name.as_str(), cause.code.as_str(), cause.hint);
            tracing::debug!(
                kubernetes.stateful_set = name,
                cause,
                hint,
                "its files do not say yet whose they are"
            );
        }
    }

    async fn tell_pod(&self, handle: &Handle) {
        let untold = self.inner.fold().warm().untold(&handle.name);
        let Some((pod, annotations)) = untold else { return };
        let patch = json!({ "metadata": { "uid": pod, "annotations": annotations } });
        let (client, name) = (&self.inner.client, pod_name(&handle.name));
        if let Err(error) = client.patch::<Pod>(self.namespace(), &name, &patch).await {
            tracing::debug!(kubernetes.pod = name, %error, "a pod was not told yet whose it is");
        }
    }

    /// Has the controller of the warm set that a workspace runs in try again at once.
    pub(in crate::kubernetes) async fn nudge_body(&self, known: &Known, note: &str) {
        let Some(body) = &known.body else { return };
        let patch = json!({ "metadata": { "uid": body.uid, "annotations": { names::NUDGE: note } } });
        let name = body.name.as_str();
        if let Err(error) = self.inner.client.patch::<StatefulSet>(self.namespace(), name, &patch).await {
            tracing::debug!(kubernetes.stateful_set = name, %error, "a warm workspace was not nudged");
        }
    }

    /// Removes the warm set that a workspace had, unless it still names it: nobody gets it after them. One that keeps
    /// their files stays for as long as the workspace does, and rests.
    pub(in crate::kubernetes) async fn let_go(&self, id: &WorkspaceId, body: Option<Arc<Outline>>) {
        let Some(name) = body.as_ref().map(|body| body.name.as_str()) else { return };
        let (left, keeps) = {
            let fold = self.inner.fold();
            let notes = fold.own(id).map(|(_, notes)| notes);
            let names_it = |named: Option<&String>| named.is_some_and(|named| named == name);
            let is_named = names_it(notes.and_then(|notes| notes.claims.as_ref()));
            let keeps = names_it(notes.and_then(|notes| notes.files.as_ref()));
            (fold.warm().look(name).map(|(handle, _)| handle).filter(|_| !is_named), keeps)
        };
        match left {
            Some(handle) if keeps => self.rest(&handle).await,
            Some(handle) => self.remove_warm(&handle, None).await,
            None => {}
        }
    }

    /// Removes a warm set with its pod; with a `version` only if it was not written since.
    pub(super) async fn remove_warm(&self, handle: &Handle, version: Option<u64>) {
        let how = only(&handle.uid, version);
        let client = &self.inner.client;
        match client.delete::<StatefulSet>(self.namespace(), &handle.name, &how).await {
            Ok(_) => {
                self.inner.fold().warm_removed(handle);
                self.told();
            }
            // It is looked at again in the next round of whoever keeps the warm sets.
            Err(error) => {
                let name = handle.name.as_str();
                tracing::debug!(kubernetes.stateful_set = name, %error, "a warm workspace was not removed yet");
            }
        }
    }
}

/// A warm set says whose it is. Its next pod knows it from the start; this one is not touched.
fn taking(spec: &StartSpec, own: &str, handle: &Handle) -> Value {
    let owned = pods::owned(spec);
    let annotations = json!({
        names::CLAIMED_BY: claimed_by(&spec.id, own),
        names::OWNER: owned[names::OWNER],
    });
    let metadata = json!({
        "uid": handle.uid, "resourceVersion": handle.version.to_string(), "annotations": annotations,
    });
    json!({ "metadata": metadata, "spec": { "template": { "metadata": { "annotations": owned } } } })
}

#[cfg(test)]
pub(super) mod tests;
