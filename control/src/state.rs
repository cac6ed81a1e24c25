//! What the control loop knows: each workspace's stage, and the queue of those that wait for their turn.
//!
//! Everything beneath is pure: events, requests and outcomes come in with the time at which they came, and what
//! is to be done about the result is for [`crate::reconcile`] to say.

mod apply;
mod demands;
mod fold;
mod instance;
mod others;
mod outcomes;
mod requests;
mod seen;
mod sight;
mod stage;
mod unknown;

pub(crate) use apply::Effect;
pub(crate) use demands::Demands;
pub(crate) use instance::Instance;
pub(crate) use outcomes::Outcome;
pub(crate) use sight::Sights;
pub(crate) use stage::{Busy, How, Marked, Place, Ready, Stage, Starting, Stopping, Then, Unasked, Want};

use crate::peers::{CUT_OFF, GONE, Peers};
use crate::reconcile::backoff;
use crate::usage::{Fingerprint, Restored};
use crate::{
    Activity, Cause, CauseCode, Entry, Generation, Grant, Identity, ObservedPhase, OverQuota, Phase, Scope,
    Sight, Step, StopReason,
};
use config::{Amount, Quota, QuotaName, Template, TemplateName, WorkspaceId};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// What the control loop reads of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The base of host names.
    pub(crate) domain: String,
    pub(crate) templates: BTreeMap<TemplateName, Arc<Template>>,
    pub(crate) concurrent: usize,
    pub(crate) queue: usize,
    pub(crate) quotas: BTreeMap<QuotaName, Arc<Quota>>,
    pub(crate) demands: Demands,
}

impl Settings {
    pub(crate) fn of(config: &config::Config) -> Self {
        let of_routes =
            config.routes.values().map(|route| (route.template.name.clone(), route.template.clone()));
        let templates = config.templates.clone().into_iter().chain(of_routes).collect();
        Self {
            domain: config.domain.to_string(),
            templates,
            concurrent: config.spawn.concurrent,
            queue: config.spawn.queue,
            quotas: config.quotas.clone(),
            demands: Demands::default(),
        }
    }

    /// How much of a resource a workspace of this template requests, admitted with this.
    pub(crate) fn amount(&self, template: &TemplateName, grant: &Grant, resource: &str) -> Amount {
        let template = self.templates.get(template);
        let demand = template.map(|template| self.demands.of(template, &grant.values));
        demand.and_then(|demand| demand.get(resource).copied()).unwrap_or_default()
    }
}

/// All that the control loop knows.
pub(crate) struct State {
    pub(crate) settings: Settings,
    /// Whether the driver has told all that there is: before, nothing is started.
    pub(crate) synced: bool,
    /// Whether what the driver told is still known to be true.
    pub(crate) sights: Sights,
    /// What is known of other Ushers with the same workspaces; `None` = there can be none.
    pub(crate) peers: Option<Peers>,
    pub(crate) workspaces: BTreeMap<WorkspaceId, Workspace>,
    /// Who waits for a turn, in order; exactly those at [`Stage::Queued`].
    pub(crate) queue: BTreeSet<(Place, WorkspaceId)>,
    /// The last place that was given out here.
    last_place: u64,
    /// What was recorded of workspaces before Usher restarted, until they are seen again.
    pub(crate) restored: Restored,
    /// What has to be published, told and counted since it was last taken.
    pub(crate) news: News,
}

/// What one turn of the loop brought about.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// Whose entries differ from what is published.
    pub(crate) changed: BTreeSet<WorkspaceId>,
    /// The instances that take no more traffic: cancelled once that is published.
    pub(crate) ended: Vec<CancellationToken>,
    /// For logs and metrics.
    pub(crate) notes: Vec<Note>,
}

/// Something that an operator may want to count or read of.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Note {
    /// A start ended well, so long after it was asked for; `None` = it ran before Usher did.
    Ready(WorkspaceId, Option<Duration>),
    /// A workspace failed; `spawning` = before it was ready.
    Failed { id: WorkspaceId, cause: Cause, spawning: bool },
    /// A workspace is stopped because of idleness or age.
    Reaped(WorkspaceId, StopReason),
}

/// One workspace.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) owner: Identity,
    pub(crate) template: TemplateName,
    /// What its last start was admitted with.
    pub(crate) grant: Grant,
    /// What it is seen together with, and until when all of that was surely true.
    pub(crate) scope: Scope,
    pub(crate) sight: Sight,
    /// Whether the driver has told of it: from then on its template is its own.
    pub(crate) recorded: bool,
    pub(crate) stage: Stage,
    /// What the driver told of it last.
    pub(crate) told: Option<ObservedPhase>,
    /// The first half of a stop. Where there are others it is theirs, too, and stands whatever the stage is here.
    pub(crate) marked: Option<Marked>,
    pub(crate) since: Instant,
    pub(crate) activity: Arc<Activity>,
    /// Failures since it last ran well.
    pub(crate) failures: u32,
    /// What was asked for here and is not known to be written down: what is told meanwhile may be older.
    pub(crate) wish: Option<Want>,
    /// Which instance of it another Usher last told of, since it serves that, and when.
    pub(crate) elsewhere: Option<(Fingerprint, Instant)>,
    /// Why it was last stopped; until it is wanted again.
    pub(crate) stopped: Option<StopReason>,
    /// Counts starts, so that what comes late of an earlier one is known as such.
    pub(crate) attempt: u64,
}

impl Workspace {
    /// What it runs with, or will when its turn comes.
    pub(crate) fn admitted(&self) -> &Grant {
        match &self.stage {
            Stage::Queued(want) | Stage::Stopping(Stopping { then: Then::Start(want), .. }) => &want.grant,
            _ => &self.grant,
        }
    }

    /// Whether another Usher serves this instance, as far as is known: then it runs, whatever is seen of it from here.
    pub(crate) fn is_served_elsewhere(&self, generation: &Generation, now: Instant) -> bool {
        let told = self.elsewhere.filter(|(instance, _)| *instance == generation.fingerprint());
        told.is_some_and(|(_, at)| now.saturating_duration_since(at) < GONE)
    }

    /// One of which nothing is known but this.
    fn new(owner: Identity, template: TemplateName, grant: Grant, now: Instant) -> Self {
        Self {
            owner,
            template,
            grant,
            scope: Scope::default(),
            sight: Sight::default(),
            recorded: false,
            stage: Stage::Stopped,
            told: None,
            marked: None,
            since: now,
            activity: Arc::default(),
            failures: 0,
            wish: None,
            elsewhere: None,
            stopped: None,
            attempt: 0,
        }
    }

    /// The stage to enter instead of this one, so that nothing that was asked for is lost over what may be older.
    fn with_wish(&mut self, next: Stage) -> Stage {
        if let Stage::Queued(want) = &self.stage
            && matches!(want.place, Place::Asked(_))
            && !want.taken
        {
            self.wish = Some(want.clone());
        }
        match next {
            Stage::Stopped => self.wish.take().map_or(next, Stage::Queued),
            Stage::Ready(_) | Stage::Failed { .. } => {
                self.wish = None;
                next
            }
            next => next,
        }
    }

    /// How long it waits after a failure.
    fn wait_after(&self, cause: &Cause) -> Duration {
        // What is not its own fault says nothing of how its next start will go.
        backoff(if cause.code.is_passing() { 0 } else { self.failures })
    }

    /// As it is published; `position` matters only in the queue.
    fn phase(&self, position: usize) -> Phase {
        match &self.stage {
            Stage::Stopped => Phase::Stopped,
            Stage::Queued(_) => Phase::Queued { position },
            Stage::Starting(starting) => Phase::Starting {
                step: starting.step,
                trouble: starting.trouble.as_ref().map(|trouble| trouble.cause.clone()),
            },
            Stage::Ready(ready) if ready.cut_off => {
                Phase::Starting { step: Step::Started, trouble: Some(Cause::cut_off()) }
            }
            Stage::Ready(ready) => Phase::Ready(ready.route(&self.sight)),
            Stage::Stopping(stopping) => match &stopping.then {
                // The failure is what people have to know; that its remains are being cleared is not.
                Then::Fail(cause) => {
                    Phase::Failed { cause: cause.clone(), retry_at: self.since + self.wait_after(cause) }
                }
                Then::Rest | Then::Start(_) => Phase::Stopping { trouble: stopping.trouble.clone() },
            },
            Stage::Failed { cause, retry_at } => Phase::Failed { cause: cause.clone(), retry_at: *retry_at },
        }
    }
}

impl State {
    /// `peers` = whether other Ushers may have the same workspaces.
    pub(crate) fn new(settings: Settings, restored: Restored, peers: bool) -> Self {
        Self {
            settings,
            synced: false,
            sights: Sights::default(),
            peers: peers.then(Peers::default),
            workspaces: BTreeMap::new(),
            queue: BTreeSet::new(),
            last_place: 0,
            restored,
            news: News::default(),
        }
    }

    /// Whether what was told of it is still known to be true.
    pub(crate) fn sees(&self, workspace: &Workspace) -> bool {
        self.sights.sees(&workspace.scope)
    }

    /// How many are on their way now.
    pub(crate) fn starting(&self) -> usize {
        self.workspaces.values().filter(|w| matches!(w.stage, Stage::Starting(_))).count()
    }

    /// The entry to publish; `None` = there is none.
    #[cfg(test)]
    pub(crate) fn entry(&self, id: &WorkspaceId) -> Option<Entry> {
        self.entries(&BTreeSet::from([id.clone()])).remove(0).1
    }

    /// The entries to publish of these; `None` = there is none.
    pub(crate) fn entries(&self, ids: &BTreeSet<WorkspaceId>) -> Vec<(WorkspaceId, Option<Entry>)> {
        let places: HashMap<_, _> = self.queue.iter().map(|(_, id)| id).zip(1..).collect();
        // Nobody's turn comes then.
        let cut_off = self.peers.as_ref().is_some_and(|peers| peers.cut_off);
        let entry = |id: &WorkspaceId| {
            let workspace = self.workspaces.get(id)?;
            let phase = match &workspace.stage {
                Stage::Queued(_) if cut_off => {
                    Phase::Starting { step: Step::Asked, trouble: Some(Cause::cut_off()) }
                }
                _ => workspace.phase(places.get(id).copied().unwrap_or(1)),
            };
            let (terms, withheld) = match &workspace.stage {
                Stage::Ready(ready) => {
                    (Some(ready.terms.clone()), ready.cut_off.then(|| ready.route(&workspace.sight)))
                }
                _ => (None, None),
            };
            Some(Entry {
                id: id.clone(),
                owner: workspace.owner.clone(),
                template: workspace.template.clone(),
                phase,
                seen: self.sees(workspace),
                since: workspace.since,
                activity: workspace.activity.clone(),
                terms,
                withheld,
                stopped: workspace.stopped,
            })
        };
        ids.iter().map(|id| (id.clone(), entry(id))).collect()
    }

    /// Puts a workspace at another stage: the only way there, so that queue, table and routes stay true.
    fn enter(&mut self, id: &WorkspaceId, stage: Stage, now: Instant) {
        let Some(workspace) = self.workspaces.get_mut(id) else { return };
        let stage = workspace.with_wish(stage);
        let left = std::mem::replace(&mut workspace.stage, stage);
        workspace.since = now;
        if !matches!(workspace.stage, Stage::Stopping(_) | Stage::Stopped) {
            workspace.stopped = None;
        }
        if let Some(instance) = left.instance()
            && workspace.stage.instance().is_none_or(|new| new.generation != instance.generation)
        {
            self.news.ended.push(instance.ended.clone());
        }
        if let Stage::Ready(ready) = &left
            && now.saturating_duration_since(ready.since) >= crate::reconcile::RAN_WELL
        {
            workspace.failures = 0;
        }
        if self.peers.is_none() && !matches!(workspace.stage, Stage::Ready(_)) {
            workspace.marked = None;
        }
        let forgotten = matches!(workspace.stage, Stage::Stopped) && !workspace.recorded;
        let place = workspace.stage.place();
        if left.place() != place {
            if let Some(left) = left.place() {
                let left = (left, id.clone());
                self.queue.remove(&left);
                // Everybody behind it has a new position.
                self.news.changed.extend(self.queue.range(left..).map(|(_, id)| id.clone()));
            }
            if let Some(place) = place {
                let place = (place, id.clone());
                self.news.changed.extend(self.queue.range(&place..).map(|(_, id)| id.clone()));
                self.queue.insert(place);
            }
        }
        if forgotten {
            self.workspaces.remove(id);
        }
        self.news.changed.insert(id.clone());
    }

    /// A workspace failed: it waits out a back-off that doubles with every failure.
    fn fail(&mut self, id: &WorkspaceId, cause: Cause, now: Instant) {
        let Some(workspace) = self.workspaces.get(id) else { return };
        let spawning = match &workspace.stage {
            Stage::Queued(_) | Stage::Starting(_) => true,
            Stage::Stopping(stopping) => stopping.unasked == Some(Unasked { spawning: true }),
            Stage::Ready(_) | Stage::Stopped | Stage::Failed { .. } => false,
        };
        self.news.notes.push(Note::Failed { id: id.clone(), cause: cause.clone(), spawning });
        self.enter(id, Stage::Failed { cause, retry_at: now }, now);
        self.back_off(id, now);
    }

    /// Sets the end of the back-off of one that just failed, and counts the failure.
    fn back_off(&mut self, id: &WorkspaceId, now: Instant) {
        let Some(workspace) = self.workspaces.get_mut(id) else { return };
        let Stage::Failed { cause, .. } = &workspace.stage else { return };
        let (wait, counts) = (workspace.wait_after(cause), !cause.code.is_passing());
        if let Stage::Failed { retry_at, .. } = &mut workspace.stage {
            *retry_at = now + wait;
            workspace.failures = workspace.failures.saturating_add(u32::from(counts));
        }
    }

    /// Begins to end an instance, and says what is to become of the workspace then.
    fn end(&mut self, id: &WorkspaceId, how: How, generation: Option<Generation>, then: Then, now: Instant) {
        if let Then::Fail(cause) = &then {
            self.news.notes.push(Note::Failed { id: id.clone(), cause: cause.clone(), spawning: true });
        }
        let stopping =
            Stopping { how, generation, then, again_at: None, taken: false, trouble: None, unasked: None };
        self.enter(id, Stage::Stopping(stopping), now);
    }
}

impl Cause {
    /// A template that is not in the configuration any more.
    pub(crate) fn template_gone(template: &TemplateName) -> Self {
        Self {
            code: CauseCode::TemplateGone,
            detail: "This workspace's template is not offered any more; its files are kept.".to_owned(),
            hint: format!("put [{}] back, or delete the workspace", template.table()),
        }
    }

    /// Others were admitted at the same moment by other Ushers, and came first.
    pub(crate) fn over_quota(over: &OverQuota) -> Self {
        let hint = format!("[quotas.{}] was reached while it waited for its turn", over.quota);
        Self { code: CauseCode::QuotaExceeded, detail: over.to_string(), hint }
    }

    /// Others may stop it without knowing of its use by way of this Usher.
    fn cut_off() -> Self {
        let (code, detail) =
            (CauseCode::ClusterUnreachable, CauseCode::ClusterUnreachable.words().detail.to_owned());
        let hint = format!(
            "this Usher could not write its record of use for {} minutes, so that others may stop what is used here, and it \
             starts nothing: `usher_kubernetes_requests_total` tells how its calls end",
            CUT_OFF.as_secs() / 60
        );
        Self { code, detail, hint }
    }

    /// A name that is somebody else's.
    pub(crate) fn not_the_owner(id: &WorkspaceId) -> Self {
        Self {
            code: CauseCode::NotTheOwner,
            detail: "A workspace of this name belongs to somebody else.".to_owned(),
            hint: format!(
                "see who owns it in `usher status`; `usher delete {id} --with-volume` makes the name free: files that are \
                 kept keep it taken"
            ),
        }
    }
}
