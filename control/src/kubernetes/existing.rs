//! What is there already: Deployments and StatefulSets that others made, which routes wake and let rest.
//!
//! Each is watched by itself, by its name, and so are its pods, by its selector: a Role can allow exactly that, and
//! what cannot be seen of one is nothing to the others. Nothing is changed but its scale and Usher's own notes, and
//! that only where whoever made it has agreed by an annotation or a label that names the route.
//!
//! Scale and notes are written at once, to the object itself and not to its `scale`, which takes no annotations: with a
//! mark, and with how many pods there were, a stop is one write under one precondition, or it is not.

mod known;
mod object;
mod plan;

use super::driver::{PATIENCE, PLANS, outdated, unix_ms};
use super::reading::answer::Call;
use super::watch::{Seen, Selection, watch};
use super::{CallError, Client, Inner, Object as ApiObject, driver, names, notes};
use crate::{Action, Cause, CauseCode, clock};
use config::{Config, DeclaredRoute, ExistingObject, ObjectKind, Runs, WorkspaceId};
use futures_util::future::{OptionFuture, join_all};
use futures_util::stream::{BoxStream, StreamExt};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Event, Pod};
use known::Known;
use object::Object;
use plan::Plan;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;
use tokio::sync::Notify;
use tokio::sync::watch::Sender;
use tokio::time::{sleep_until, timeout_at};

/// All of them.
#[derive(Default)]
pub(super) struct Existing(BTreeMap<WorkspaceId, One>);

/// One of them.
struct One {
    existing: ExistingObject,
    known: Mutex<Known>,
    /// Wakes the task that hears: a write was answered.
    woken: Notify,
    /// Counts what was taken in.
    told: Sender<u64>,
}

impl Existing {
    /// Those that the routes of a configuration lead to.
    pub(super) fn new(config: &Config) -> Self {
        let one = |DeclaredRoute { template, .. }: &DeclaredRoute| {
            let Runs::Existing(existing) = &template.runs else { return None };
            let one = One {
                existing: existing.clone(),
                known: Mutex::new(Known::new(existing.clone(), template.clone())),
                woken: Notify::new(),
                told: Sender::new(0),
            };
            Some((WorkspaceId::Route(existing.route.clone()), one))
        };
        Self(config.routes.values().filter_map(one).collect())
    }
}

/// Hears of all and tells, for ever.
pub(super) async fn listen(inner: &Inner) {
    join_all(inner.existing.0.values().map(|one| one.listen(inner))).await;
    // Without any there is nothing to end.
    std::future::pending().await
}

/// Does one action.
///
/// # Errors
/// The [`Cause`] for which it cannot be done.
pub(super) async fn act(inner: &Inner, action: Action) -> Result<(), Cause> {
    let Some(one) = inner.existing.0.get(action.id()) else {
        let code = CauseCode::TemplateGone;
        let hint = format!("{} is not in the configuration that this usher began with", action.id());
        return Err(Cause { code, detail: code.words().detail.to_owned(), hint });
    };
    let existing = &one.existing;
    match action {
        Action::Want(_) => {
            let note = notes::want(unix_ms(), &inner.replica);
            one.pursue(inner, Some(names::WANTER), |object| plan::want(existing, object, &note)).await
        }
        Action::Start(_) => {
            one.known().begin(clock::now());
            one.pursue(inner, None, |object| plan::start(existing, object)).await
        }
        Action::Mark { generation, reason, .. } => {
            let note = notes::mark(reason, &inner.replica);
            one.pursue(inner, None, |object| plan::mark(existing, object, &generation, &note)).await
        }
        Action::Unmark { mark, .. } => one.pursue(inner, None, |object| plan::unmark(object, mark)).await,
        Action::Stop { generation, why, .. } => {
            one.pursue(inner, None, |object| plan::stop(existing, object, generation.as_ref(), &why)).await
        }
        Action::Nudge(_) => {
            one.known().begin(clock::now());
            let note = unix_ms().to_string();
            let mut nudged = false;
            let nudge = |object: Option<&Object>| {
                if std::mem::replace(&mut nudged, true) {
                    Plan::Nothing
                } else {
                    plan::nudge(existing, object, &note)
                }
            };
            one.pursue(inner, None, nudge).await
        }
        Action::Delete { id, .. } => {
            let code = CauseCode::NotTheOwner;
            let hint = format!("{id} leads to what others made: usher never deletes it");
            Err(Cause { code, detail: code.words().detail.to_owned(), hint })
        }
    }
}

impl One {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nobody panics with the lock held")
    }

    /// Hears of the object and of its pods, whichever are its own by its selector.
    async fn listen(&self, inner: &Inner) {
        let mut objects = objects(&inner.client, &self.existing);
        let mut pods: Option<(String, BoxStream<'static, Seen<Pod>>)> = None;
        // They only tell causes, and are heard while there may be one.
        let mut events: Option<BoxStream<'static, Seen<Event>>> = None;
        let mut due = None;
        loop {
            let heard_of_pods = OptionFuture::from(pods.as_mut().map(|(_, pods)| pods.next()));
            let heard_of_events = OptionFuture::from(events.as_mut().map(|events| events.next()));
            tokio::select! {
                biased;
                Some(seen) = objects.next() => self.known().take_object(seen, clock::now()),
                Some(Some(seen)) = heard_of_pods => self.known().take_pod(seen, clock::now()),
                Some(Some(seen)) = heard_of_events => self.known().take_event(seen, clock::now()),
                () = at(due) => {}
                // A write was answered, which may have set another time.
                () = self.woken.notified() => {}
            }
            let selector = self.known().selector().map(str::to_owned);
            if selector.as_ref() != pods.as_ref().map(|(selector, _)| selector) {
                self.known().forget_pods();
                pods = selector.map(|selector| (selector.clone(), self.pods(inner, selector)));
            }
            due = self.tell(inner);
            let is_hindered = self.known().is_hindered();
            events = is_hindered.then(|| events.unwrap_or_else(|| self.events(inner)));
        }
    }

    /// What went wrong in its namespace: an event cannot be asked for by the pods that it may be about.
    fn events(&self, inner: &Inner) -> BoxStream<'static, Seen<Event>> {
        let all = Selection::all(&self.existing.namespace);
        watch(&inner.client, Selection { fields: Some("type=Warning".to_owned()), ..all })
    }

    fn pods(&self, inner: &Inner, selector: String) -> BoxStream<'static, Seen<Pod>> {
        let all = Selection::all(&self.existing.namespace);
        watch(&inner.client, Selection { labels: Some(selector), ..all })
    }

    /// Reads and tells; when that is to be done next if nothing is heard.
    fn tell(&self, inner: &Inner) -> Option<Instant> {
        let mut known = self.known();
        // With what is known held, so that what is told last was read last.
        if let Some(observed) = known.read(&inner.kubernetes, clock::now()) {
            inner.fold().tell(observed, !known.is_blind());
        }
        self.told.send_modify(|count| *count = count.wrapping_add(1));
        known.again_at()
    }

    /// Makes plans and carries them out until one says that nothing is left to do, as with workspaces.
    async fn pursue(
        &self,
        inner: &Inner,
        manager: Option<&str>,
        mut plan: impl FnMut(Option<&Object>) -> Plan + Send,
    ) -> Result<(), Cause> {
        let until = clock::now() + PATIENCE;
        self.seen(until).await?;
        let mut failed = None;
        for _ in 0..PLANS {
            let object = self.known().object().cloned();
            let patch = match plan(object.as_ref()) {
                Plan::Nothing if self.is_as_known(inner, object.as_ref()).await? => return Ok(()),
                Plan::Nothing => continue,
                Plan::Refuse(cause) => return Err(cause),
                Plan::Patch(patch) => patch,
            };
            let error = match self.patch(&inner.client, manager, &patch).await {
                Ok(object) => {
                    self.known().answer(object, clock::now());
                    self.tell(inner);
                    self.woken.notify_one();
                    return Ok(());
                }
                Err(error) => error,
            };
            let cause = driver::cause(&self.call(), &error);
            let again = outdated(&error) || error.may_be_done();
            if !again || !self.changes(object.as_ref(), until).await {
                return Err(cause);
            }
            failed = Some(cause);
        }
        Err(failed.unwrap_or_else(|| plan::conflict("it was changed again and again meanwhile")))
    }

    /// Whether what stands at the server is what is known here; if not, it is known now: as with workspaces. What is not
    /// there, or has not agreed, is nothing to ask about.
    async fn is_as_known(&self, inner: &Inner, object: Option<&Object>) -> Result<bool, Cause> {
        if plan::ours(&self.existing, object).is_ok() {
            match self.patch(&inner.client, None, &json!({})).await {
                Ok(object) => self.known().answer(object, clock::now()),
                Err(error) => return Err(driver::cause(&self.call(), &error)),
            }
            self.tell(inner);
            self.woken.notify_one();
        }
        inner.fold().tell_again(&WorkspaceId::Route(self.existing.route.clone()));
        Ok(self.known().object().map(which) == object.map(which))
    }

    async fn patch(
        &self,
        client: &Client,
        manager: Option<&str>,
        patch: &serde_json::Value,
    ) -> Result<Object, CallError> {
        let ExistingObject { kind, name, namespace, .. } = &self.existing;
        match kind {
            ObjectKind::Deployment => {
                client.patch_as::<Deployment>(manager, namespace, name, patch).await.map(Object::from)
            }
            ObjectKind::StatefulSet => {
                client.patch_as::<StatefulSet>(manager, namespace, name, patch).await.map(Object::from)
            }
        }
    }

    fn call(&self) -> Call<'_> {
        let ExistingObject { kind, name, namespace, .. } = &self.existing;
        let resource = match kind {
            ObjectKind::Deployment => "deployments.apps",
            ObjectKind::StatefulSet => "statefulsets.apps",
        };
        Call { verb: "patch", resource, namespace, name }
    }

    /// Waits until it was told whether the object is there.
    async fn seen(&self, until: Instant) -> Result<(), Cause> {
        self.until(until, |known| known.is_seen()).await.then_some(()).ok_or_else(|| {
            let code = CauseCode::ClusterUnreachable;
            let ExistingObject { kind, name, namespace, .. } = &self.existing;
            let hint = format!(
                "{} {name} in namespace {namespace} has not been seen: may usher list and watch it there?",
                kind.as_str()
            );
            Cause { code, detail: code.words().detail.to_owned(), hint }
        })
    }

    /// Waits until something else is known of the object than this.
    async fn changes(&self, before: Option<&Object>, until: Instant) -> bool {
        let before = before.map(which);
        self.until(until, |known| known.object().map(which) != before).await
    }

    /// Whether something came to hold in time.
    async fn until(&self, until: Instant, holds: impl Fn(&Known) -> bool + Send) -> bool {
        let mut told = self.told.subscribe();
        let held = || holds(&self.known());
        let comes = async { while !held() && told.changed().await.is_ok() {} };
        timeout_at(until.into(), comes).await.is_ok()
    }
}

/// Which object, as it was written last.
fn which(object: &Object) -> (String, u64) {
    (object.uid().to_owned(), object.version())
}

/// The one object, by its name, of whichever kind.
fn objects(client: &Client, existing: &ExistingObject) -> BoxStream<'static, Seen<Object>> {
    let ExistingObject { kind, name, namespace, .. } = existing;
    let selection = Selection { fields: Some(format!("metadata.name={name}")), ..Selection::all(namespace) };
    match kind {
        ObjectKind::Deployment => of_kind::<Deployment>(client, selection),
        ObjectKind::StatefulSet => of_kind::<StatefulSet>(client, selection),
    }
}

fn of_kind<K: ApiObject + Into<Object>>(
    client: &Client,
    selection: Selection,
) -> BoxStream<'static, Seen<Object>> {
    watch::<K>(client, selection)
        .map(|seen| match seen {
            Seen::Put(object) => Seen::Put(object.into()),
            Seen::Listed(object) => Seen::Listed(object.into()),
            Seen::Deleted(name) => Seen::Deleted(name),
            Seen::Synced => Seen::Synced,
            Seen::Blind => Seen::Blind,
        })
        .boxed()
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
