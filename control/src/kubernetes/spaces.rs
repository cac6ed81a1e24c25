//! Several namespaces of workspaces as one.
//!
//! A workspace is in one of them: where its object is, if there is one, whatever its template says by now; else where it
//! was written down to be when it was first made, since its files may still be there; else where its template says. The
//! choice is made by creating a record, so that two Ushers who know different things of a user choose alike. With one
//! namespace there is nothing to choose and nothing is written down.
//!
//! Should two namespaces hold an object for one id, which is some hand's doing, the first of them in the configuration
//! has it, for all Ushers alike, and the other is let alone.

mod merge;

use super::driver::PATIENCE;
use super::{KubernetesDriver, Space};
use crate::{
    Action, Cause, CauseCode, Driver, Event, Identity, Kind, RecordError, Records, Shared, StartSpec, clock,
};
use config::{BadValue, Config, PodTemplate, Runs, Values, WorkspaceId};
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream, StreamExt};
use merge::{Merge, Told};
use std::fmt::Display;
use std::sync::Arc;
use tokio::time::timeout_at;

/// In which namespace a template's workspaces are made.
///
/// # Errors
/// The values are not of this template.
pub(super) fn home_of<'a>(
    config: &'a Config,
    pods: &'a PodTemplate,
    values: &'a Values,
) -> Result<&'a str, BadValue> {
    match (&pods.namespace, &config.driver) {
        (Some(namespace), _) => namespace.given(values),
        (None, config::Driver::Kubernetes(kubernetes)) => Ok(&kubernetes.namespace),
        (None, config::Driver::Process) => Ok(""),
    }
}

/// What is written down of where workspaces are.
pub(super) struct Places(Arc<dyn Records>);

impl Places {
    pub(super) fn new(records: Arc<dyn Records>) -> Self {
        Self(records)
    }

    /// Where a workspace is, as it was written down; `None` = it was never chosen.
    async fn of(&self, id: &WorkspaceId) -> Result<Option<String>, RecordError> {
        let record = self.0.get(Kind::Place, &id.to_string()).await?;
        Ok(record.map(|record| String::from_utf8_lossy(&record.value).into_owned()))
    }

    /// Where a workspace is from now on: in this namespace, unless another has chosen one a moment ago.
    async fn choose(&self, id: &WorkspaceId, namespace: &str) -> Result<String, RecordError> {
        let name = id.to_string();
        match self.0.create(Kind::Place, &name, namespace.as_bytes().to_vec()).await {
            Ok(_) => Ok(namespace.to_owned()),
            Err(RecordError::Exists(_)) => self.of(id).await?.ok_or(RecordError::Conflict(name)),
            Err(error) => Err(error),
        }
    }

    /// Nothing of a workspace is left anywhere.
    async fn forget(&self, id: &WorkspaceId) {
        if let Err(error) = self.0.delete(Kind::Place, &id.to_string()).await {
            // Its next one is made where this one was.
            tracing::warn!(workspace.name = %id, %error, "where a deleted workspace was stays written down");
        }
    }
}

#[async_trait::async_trait]
impl Driver for KubernetesDriver {
    fn observe(&self) -> BoxStream<'static, Event> {
        if let [only] = &*self.spaces {
            return only.observe();
        }
        let all = self.spaces.iter().enumerate();
        // A space that ends ends all.
        let told = stream::select_all(all.map(|(from, space)| {
            space.observe().map(move |event| Some((from, event))).chain(stream::iter([None])).boxed()
        }));
        let (spaces, merge) = (self.spaces.clone(), Merge::new(self.spaces.len()));
        stream::unfold((told, merge, spaces), async |(mut told, mut merge, spaces)| {
            loop {
                let (from, event) = told.next().await??;
                match merge.take(from, event) {
                    Told::On(event) => return Some((event, (told, merge, spaces))),
                    Told::Ask(space, id) => spaces[space].inner.fold().tell_again(&id),
                    Told::Nothing => {}
                }
            }
        })
        .boxed()
    }

    async fn act(&self, action: Action) -> Result<(), Cause> {
        let space = match &action {
            Action::Want(spec) | Action::Start(spec) | Action::Nudge(spec) => self.place(spec).await?,
            _ => self.space_of(action.id()),
        };
        let deleted = match &action {
            Action::Delete { id, volume: true, .. } if self.spaces.len() > 1 => Some(id.clone()),
            _ => None,
        };
        space.act(action).await?;
        if let Some(id) = deleted {
            self.places.forget(&id).await;
        }
        Ok(())
    }

    async fn remove_kept_files(&self, id: &WorkspaceId, owner: Option<&Identity>) -> Result<bool, Cause> {
        let (mut found, mut lost) = (false, None);
        for space in &self.spaces {
            // What is not seen may be running.
            let removed = if space.inner.fold().is_sighted() {
                space.remove_kept_files(id, owner).await
            } else {
                Err(unseen(space.namespace()))
            };
            match removed {
                Err(cause) if cause.code == CauseCode::ClusterUnreachable || is_lost(&cause) => {
                    lost = lost.or(Some(cause));
                }
                removed => found |= removed?,
            }
        }
        if found && self.spaces.len() > 1 {
            self.places.forget(id).await;
        }
        match lost {
            Some(cause) if !found => Err(cause),
            _ => Ok(found),
        }
    }

    async fn log_tail(&self, id: &WorkspaceId) -> String {
        self.space_of(id).log_tail(id).await
    }

    fn shared(&self) -> Option<Shared> {
        let shared = self.spaces[0].shared()?;
        Some(Shared { one_order: self.spaces.len() == 1, ..shared })
    }
}

impl KubernetesDriver {
    /// The first space that knows a workspace.
    fn known(&self, id: &WorkspaceId) -> Option<&Space> {
        self.spaces.iter().find(|space| space.inner.fold().look(id).is_some())
    }

    /// The space of a workspace; what is known nowhere is nothing to any.
    fn space_of(&self, id: &WorkspaceId) -> &Space {
        self.known(id).unwrap_or(&self.spaces[0])
    }

    /// The space in which a workspace is to be started.
    ///
    /// # Errors
    /// It is not known yet, and not told in time, where the workspace is, or it is nowhere that it can be.
    async fn place(&self, spec: &StartSpec) -> Result<&Space, Cause> {
        let Runs::Kubernetes(pods) = &spec.template.runs else { return Ok(&self.spaces[0]) };
        if let [only] = &*self.spaces {
            return Ok(only);
        }
        // In one that is not listed yet it may be running.
        if !self.spaces.iter().all(|space| space.inner.fold().is_synced()) {
            return Err(unplaced("not all namespaces are listed yet"));
        }
        if let Some(known) = self.known(&spec.id) {
            return Ok(known);
        }
        let chosen = timeout_at((clock::now() + PATIENCE).into(), self.choose(spec, pods)).await;
        chosen.unwrap_or_else(|_| Err(unplaced(format!("no answer after {} ms", PATIENCE.as_millis()))))
    }

    /// The space of a workspace that is known in none.
    async fn choose(&self, spec: &StartSpec, pods: &PodTemplate) -> Result<&Space, Cause> {
        let first = &self.spaces[0];
        let home = match &pods.namespace {
            Some(namespace) => namespace.given(&spec.grant.values).map_err(|error| {
                let code = CauseCode::SpecInvalid;
                Cause { code, detail: code.words().detail.to_owned(), hint: error.to_string() }
            })?,
            None => first.namespace(),
        };
        // What is not listed is not written down either: it would stay so.
        let home = self.listed(home)?;
        if let Some(chosen) = self.places.of(&spec.id).await.map_err(unplaced)? {
            return self.listed(&chosen);
        }
        // Its files may be from a time in which nothing was written down.
        let home = self.with_files_of(spec, home).await?.unwrap_or(home);
        let chosen = self.places.choose(&spec.id, home.namespace()).await;
        self.listed(&chosen.map_err(unplaced)?)
    }

    /// The first space in which files of a workspace are kept. One that is lost is no reason not to start elsewhere.
    async fn with_files_of(&self, spec: &StartSpec, home: &Space) -> Result<Option<&Space>, Cause> {
        let kept = self.spaces.iter().map(|space| space.keeps_files(&spec.id, &spec.owner));
        for (space, kept) in self.spaces.iter().zip(join_all(kept).await) {
            match kept {
                Ok(true) => return Ok(Some(space)),
                Ok(false) => {}
                Err(cause) if is_lost(&cause) && space.namespace() != home.namespace() => {
                    let (namespace, id) = (space.namespace(), &spec.id);
                    tracing::warn!(
                        kubernetes.namespace = namespace, workspace.name = %id, hint = cause.hint,
                        "a namespace is lost: files of a new workspace were not looked for there"
                    );
                }
                Err(cause) => return Err(cause),
            }
        }
        Ok(None)
    }

    fn listed(&self, namespace: &str) -> Result<&Space, Cause> {
        self.spaces.iter().find(|space| space.namespace() == namespace).ok_or_else(|| {
            let code = CauseCode::NamespaceMissing;
            let hint = format!("put {namespace:?} into kubernetes.more_namespaces, or correct the template");
            Cause { code, detail: code.words().detail.to_owned(), hint }
        })
    }
}

/// Whether a namespace is gone or closed to Usher, by whoever's doing: nobody in another is to suffer for it.
fn is_lost(cause: &Cause) -> bool {
    matches!(cause.code, CauseCode::NamespaceMissing | CauseCode::NotPermitted)
}

fn unseen(namespace: &str) -> Cause {
    let code = CauseCode::ClusterUnreachable;
    let hint = format!("namespace {namespace} is not seen: is it there, and may usher list and watch in it?");
    Cause { code, detail: code.words().detail.to_owned(), hint }
}

fn unplaced(why: impl Display) -> Cause {
    let code = CauseCode::ClusterUnreachable;
    let hint = format!("in which namespace the workspace is to be could not be written down or read: {why}");
    Cause { code, detail: code.words().detail.to_owned(), hint }
}

#[cfg(test)]
mod tests;
