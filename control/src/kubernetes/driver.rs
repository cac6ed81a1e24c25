//! What is done in the cluster: plans carried out, with few calls and within a second.

mod adopt;
mod remove;

pub(super) use remove::{CLAIM, force, only};

use super::fold::Known;
use super::plan::{self, Plan, Wanted};
use super::reading::answer::{self, Call};
use super::{CallError, Space, existing, names, notes};
use crate::{Action, Cause, CauseCode, Driver, Event, Generation, Identity, Shared, StartSpec, Stop, clock};
use config::WorkspaceId;
use futures_util::stream::BoxStream;
use k8s_openapi::api::apps::v1::StatefulSet;
use kube::core::Status;
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::time::timeout_at;

/// Until then an action is done or has failed: whoever waits for it is owed an answer within a second, and the page
/// that shows it takes its time, too. A little longer than one call may take.
pub(super) const PATIENCE: Duration = Duration::from_millis(850);
/// How often a plan is made: each costs a call, and who loses three races in a row is told so.
pub(super) const PLANS: usize = 3;
/// For how long others let the Usher that wrote a want begin with it: many times what a write takes, and little for
/// somebody whose Usher has just died.
const AHEAD: Duration = Duration::from_millis(300);

#[async_trait::async_trait]
impl Driver for Space {
    fn observe(&self) -> BoxStream<'static, Event> {
        self.inner.fold().observe(self.inner.broken.clone())
    }

    async fn act(&self, action: Action) -> Result<(), Cause> {
        if action.id().route().is_some() {
            return existing::act(&self.inner, action).await;
        }
        match action {
            Action::Want(spec) => {
                let wanted = Wanted::of(&spec, self.namespace())?;
                let note = notes::want(unix_ms(), &self.inner.replica);
                self.pursue(&spec.id, Some(names::WANTER), |known| wanted.want(known, &note)).await
            }
            Action::Start(spec) => self.start(&spec).await,
            Action::Mark { id, generation, reason } => {
                let note = notes::mark(reason, &self.inner.replica);
                self.pursue(&id, None, |known| plan::mark(known, &generation, &note)).await?;
                self.watched(&id).await
            }
            Action::Unmark { id, mark } => self.pursue(&id, None, |known| plan::unmark(known, mark)).await,
            Action::Stop { id, generation, why } => self.stop(&id, generation.as_ref(), &why).await,
            Action::Delete { id, volume, owner } => self.delete(&id, volume, owner.as_ref()).await,
            Action::Nudge(spec) => self.nudge(&spec).await,
        }
    }

    async fn remove_kept_files(&self, id: &WorkspaceId, owner: Option<&Identity>) -> Result<bool, Cause> {
        if self.inner.fold().look(id).is_some() {
            // It was made meanwhile: whoever asks has to ask again, and sees what goes.
            return Err(Cause {
                code: CauseCode::Conflict,
                detail: CauseCode::Conflict.words().detail.to_owned(),
                hint: format!("{id} was started again meanwhile"),
            });
        }
        self.delete_claims(id, owner).await
    }

    async fn log_tail(&self, id: &WorkspaceId) -> String {
        // Routes are not among these: whoever may enter one would read what was printed while it served others.
        self.inner.fold().last_output(id, clock::now())
    }

    fn shared(&self) -> Option<Shared> {
        let inner = &self.inner;
        Some(Shared {
            name: inner.replica.clone(),
            use_every: inner.kubernetes.use_every,
            one_order: true,
            leads: inner.leads.clone(),
        })
    }
}

impl Space {
    pub(super) fn namespace(&self) -> &str {
        &self.inner.kubernetes.namespace
    }

    async fn start(&self, spec: &StartSpec) -> Result<(), Cause> {
        let wanted = Wanted::of(spec, self.namespace())?;
        self.inner.fold().begin(&spec.id, clock::now());
        self.let_its_wanter_begin(&spec.id).await;
        match self.claim(spec, &wanted).await {
            Ok(false) => {}
            claimed => {
                claimed.inspect_err(|_| self.inner.fold().call_off(&spec.id))?;
                return Ok(());
            }
        }
        let known = self.inner.fold().look(&spec.id);
        let broken = known.filter(|known| wanted.mends(known)).and_then(|known| known.generation());
        let done = self.pursue(&spec.id, None, |known| wanted.start(known)).await;
        match (&done, broken) {
            (Err(_), _) => self.inner.fold().call_off(&spec.id),
            // The template that it was made from has been mended, and it would stay as it is.
            (Ok(()), Some(pod)) => return self.remove_pod(&spec.id, &pod).await,
            (Ok(()), None) => {}
        }
        done
    }

    /// Every Usher comes to the same turn at about the same time. Whoever wrote the want goes first, so that the others
    /// find it done instead of being in each other's way.
    async fn let_its_wanter_begin(&self, id: &WorkspaceId) {
        let known = self.inner.fold().look(id);
        let wanter = known.as_ref().and_then(|known| known.notes.wanter.as_ref());
        if wanter.is_some_and(|wanter| *wanter != self.inner.replica) {
            self.changes(id, known.as_ref(), clock::now() + AHEAD).await;
        }
    }

    async fn stop(&self, id: &WorkspaceId, generation: Option<&Generation>, why: &Stop) -> Result<(), Cause> {
        let body = self.inner.fold().look(id).and_then(|known| known.body);
        self.pursue(id, None, |known| plan::stop(known, generation, why)).await?;
        self.let_go(id, body).await;
        Ok(())
    }

    /// Has the controller try again at once, and the node: it keeps its patience by the pod.
    async fn nudge(&self, spec: &StartSpec) -> Result<(), Cause> {
        let id = &spec.id;
        let wanted = Wanted::of(spec, self.namespace())?;
        let Some(known) = self.inner.fold().look(id).filter(|known| known.is_wanted() && !known.runs())
        else {
            return Ok(());
        };
        self.inner.fold().begin(id, clock::now());
        if let Some(keeper) = known.keeper()
            && wanted.mends(&known)
        {
            return self.wake_keeper(spec, &wanted, keeper).await;
        }
        if known.generation().is_none() || wanted.mends(&known) {
            let note = unix_ms().to_string();
            self.pursue(id, None, |known| wanted.nudge(known, &note)).await?;
            self.nudge_body(&known, &note).await;
        }
        match known.generation() {
            Some(pod) => self.remove_pod(id, &pod).await,
            None => Ok(()),
        }
    }

    /// Makes plans and carries them out until one is done, or the server agrees that nothing is left to do.
    ///
    /// A call that was refused because something else stands there than was known, or whose answer was lost, is not
    /// repeated: the watch tells what stands, and the next plan is made of that.
    pub(super) async fn pursue(
        &self,
        id: &WorkspaceId,
        manager: Option<&str>,
        mut plan: impl FnMut(Option<&Known>) -> Plan + Send,
    ) -> Result<(), Cause> {
        let until = clock::now() + PATIENCE;
        let mut failed = None;
        for _ in 0..PLANS {
            let known = self.inner.fold().look(id);
            let (verb, answered) = match plan(known.as_ref()) {
                Plan::Nothing if self.is_as_known(id, known.as_ref()).await? => return Ok(()),
                Plan::Nothing => continue,
                Plan::Refuse(cause) => return Err(cause),
                Plan::Create(mut set) => {
                    if let Some(keeper) = self.may_take_files(id, &set, until).await? {
                        set.metadata
                            .annotations
                            .get_or_insert_default()
                            .insert(names::FILES.to_owned(), keeper);
                    }
                    ("create", self.make(manager, *set).await)
                }
                Plan::Patch(patch) => ("patch", self.patch(id, manager, &patch).await),
            };
            let error = match answered {
                Ok(set) => {
                    self.inner.fold().answer(set, clock::now());
                    self.told();
                    return Ok(());
                }
                Err(error) => error,
            };
            let cause = self.cause(verb, "statefulsets.apps", &names::stateful_set(id), &error);
            // Whoever was answered hears what stands there, however long the answer took.
            let until = if outdated(&error) { until.max(clock::now() + PATIENCE / 2) } else { until };
            if verb == "patch" && error.code() == Some(404) {
                self.forget(id, known.as_ref());
            } else if !outdated(&error) && !error.may_be_done() {
                return Err(cause);
            } else if !self.changes(id, known.as_ref(), until).await {
                if !is_taken(verb, &error) {
                    return Err(cause);
                }
                self.meet(id).await?;
            }
            failed = Some(cause);
        }
        Err(failed.unwrap_or_else(|| plan::conflict("it was changed again and again meanwhile")))
    }

    /// Whether what stands at the server is what is known here; if not, it is known now.
    ///
    /// The watches may be late, or blind, and whoever believed them would take for done what another has undone, or
    /// for gone what was made by a request whose answer was lost.
    async fn is_as_known(&self, id: &WorkspaceId, known: Option<&Known>) -> Result<bool, Cause> {
        match self.stands(id).await? {
            Some(set) if self.is_ours(&set) => self.inner.fold().answer(set, clock::now()),
            _ => self.forget(id, known),
        }
        self.inner.fold().tell_again(id);
        self.told();
        Ok(self.inner.fold().look(id).as_ref().map(which) == known.map(which))
    }

    /// Takes in the StatefulSet that has a workspace's name and that no watch has told of yet, as after a creation
    /// whose answer was lost.
    async fn meet(&self, id: &WorkspaceId) -> Result<(), Cause> {
        if let Some(set) = self.stands(id).await? {
            if !self.is_ours(&set) {
                return Err(self.taken(id, &set));
            }
            self.inner.fold().answer(set, clock::now());
            self.told();
        }
        Ok(())
    }

    /// Whether this installation made it.
    fn is_ours(&self, set: &StatefulSet) -> bool {
        let meta = &set.metadata;
        notes::label(meta, names::MANAGED_BY) == Some(names::USHER)
            && !notes::is_anothers(meta, &self.inner.kubernetes)
    }

    /// A StatefulSet that others made has a workspace's name.
    fn taken(&self, id: &WorkspaceId, set: &StatefulSet) -> Cause {
        let (name, namespace) = (names::stateful_set(id), self.namespace());
        let hint = if notes::is_anothers(&set.metadata, &self.inner.kubernetes) {
            format!(
                "a StatefulSet {name} of another installation of Usher is in namespace {namespace} (annotation {}): \
                 give each namespaces of its own",
                names::RECORDS
            )
        } else {
            format!(
                "a StatefulSet {name} that usher did not make is in namespace {namespace}: remove it, or give it \
                 another name"
            )
        };
        Cause { hint, ..Cause::not_the_owner(id) }
    }

    /// The StatefulSet that stands at the server. A patch of nothing changes nothing and is answered with what stands:
    /// it needs no right but that to patch.
    async fn stands(&self, id: &WorkspaceId) -> Result<Option<StatefulSet>, Cause> {
        match self.patch(id, None, &json!({})).await {
            Ok(set) => Ok(Some(set)),
            Err(error) if error.code() == Some(404) => Ok(None),
            Err(error) => Err(self.cause("patch", "statefulsets.apps", &names::stateful_set(id), &error)),
        }
    }

    async fn patch(
        &self,
        id: &WorkspaceId,
        manager: Option<&str>,
        patch: &Value,
    ) -> Result<StatefulSet, CallError> {
        self.inner.client.patch_as(manager, self.namespace(), &names::stateful_set(id), patch).await
    }

    /// Makes a StatefulSet, and has it and the claims that it will make say whose they are among installations.
    pub(super) async fn make(
        &self,
        manager: Option<&str>,
        mut set: StatefulSet,
    ) -> Result<StatefulSet, CallError> {
        if let Some(records) = &self.inner.kubernetes.records_namespace {
            let claims =
                set.spec.iter_mut().flat_map(|spec| spec.volume_claim_templates.iter_mut().flatten());
            for meta in claims.map(|claim| &mut claim.metadata).chain([&mut set.metadata]) {
                let annotations = meta.annotations.get_or_insert_default();
                annotations.insert(names::RECORDS.to_owned(), records.clone());
            }
        }
        let created = self.inner.client.create_as(manager, self.namespace(), &set).await?;
        let name = created.object.metadata.name.as_deref();
        for warning in &created.warnings {
            tracing::warn!(kubernetes.stateful_set = name, warning, "the cluster made it with a warning");
        }
        Ok(created.object)
    }

    /// What was known is not there any more.
    fn forget(&self, id: &WorkspaceId, known: Option<&Known>) {
        if let Some(known) = known {
            self.inner.fold().removed(id, known.uid());
            self.told();
        }
    }

    /// Waits until something else is known of a workspace than this; `false` = it was not in time.
    async fn changes(&self, id: &WorkspaceId, known: Option<&Known>, until: Instant) -> bool {
        let before = known.map(which);
        let mut told = self.inner.told.subscribe();
        let changed = async {
            while self.inner.fold().look(id).as_ref().map(which) == before {
                if told.changed().await.is_err() {
                    return;
                }
            }
        };
        timeout_at(until.into(), changed).await.is_ok()
    }

    /// Waits until the watch has come to what was written: others are told by it of a mark, in its order.
    async fn watched(&self, id: &WorkspaceId) -> Result<(), Cause> {
        let Some(version) = self.inner.fold().look(id).map(|known| known.version()) else { return Ok(()) };
        let mut told = self.inner.told.subscribe();
        let come = async { while self.inner.fold().known_to() < version && told.changed().await.is_ok() {} };
        let until = clock::now() + PATIENCE;
        timeout_at(until.into(), come).await.map_err(|_| {
            let code = CauseCode::ClusterUnreachable;
            let hint = "the mark was written, but the watch has not told of it".to_owned();
            Cause { code, detail: code.words().detail.to_owned(), hint }
        })
    }

    /// Has what was taken in read and told.
    pub(super) fn told(&self) {
        self.inner.fold().flush(clock::now());
        self.inner.woken.notify_one();
    }

    pub(super) fn cause(
        &self,
        verb: &'static str,
        resource: &'static str,
        name: &str,
        error: &CallError,
    ) -> Cause {
        cause(&Call { verb, resource, namespace: self.namespace(), name }, error)
    }
}

/// What an answer, or the want of one, is to whoever waits.
pub(super) fn cause(call: &Call<'_>, error: &CallError) -> Cause {
    match error {
        CallError::Refused { code, reason, message } => {
            let (reason, message) = (reason.clone(), message.clone());
            answer::answered(call, &Status { code: *code, reason, message, ..Status::default() })
        }
        CallError::Silent { after, .. } => answer::silent(call, *after, &error.to_string()),
        CallError::Crowded { .. } => {
            let code = CauseCode::ClusterBusy;
            Cause { code, detail: code.words().detail.to_owned(), hint: error.to_string() }
        }
        CallError::Unreachable { .. } | CallError::Unreadable { .. } => {
            let code = CauseCode::ClusterUnreachable;
            let hint = format!("{error}; {}", error.hint());
            Cause { code, detail: code.words().detail.to_owned(), hint }
        }
    }
}

/// Which object, as it was written last.
fn which(known: &Known) -> (String, u64) {
    (known.uid().to_owned(), known.version())
}

/// Whether something else stood there than was known. A wrong `uid` is answered as a change of it (422).
pub(super) fn outdated(error: &CallError) -> bool {
    match error {
        CallError::Refused { code: 409, .. } => true,
        CallError::Refused { code: 422, message, .. } => message.contains("metadata.uid"),
        _ => false,
    }
}

/// Whether a StatefulSet has the workspace's name already.
fn is_taken(verb: &str, error: &CallError) -> bool {
    verb == "create" && error.code() == Some(409)
}

/// By this machine's clock: it tells apart what is written within a second, and nothing more.
pub(super) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
