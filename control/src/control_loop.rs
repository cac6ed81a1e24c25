//! The control loop: takes in what happens, decides, publishes, and has it done. The only writer of the table.

use crate::metrics::Metrics;
use crate::peers::{Heard, PeerNews, Peers};
use crate::state::{Effect, Note, Outcome, Settings, State};
use crate::table::{Publisher, Request, STALE, Standing, Table};
use crate::usage::Written;
use crate::work::{Probes, Work};
use crate::{Act, Acts, BELIEVED, Driver, Event, StopAsked, WakeRefused, clock};
use config::WorkspaceId;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinError;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often the loop looks at the time: what passes by itself (idleness, timeouts) is seen so late at most.
const TICK: Duration = Duration::from_secs(1);
/// How many events are taken in before the table is published: bounds how old it can get under a flood.
const BATCH: usize = 1024;

/// Why the control loop ended although nobody told it to.
#[derive(Debug, thiserror::Error)]
pub enum LoopError {
    /// Nothing is seen of workspaces any more.
    #[error("the driver stopped telling what it sees")]
    DriverEnded,
    /// Nothing is seen of records any more.
    #[error("the store of records stopped telling what changes")]
    RecordsEnded,
}

/// How long after it was halted the watches have noticed it, too.
const NOTICED: Duration = Duration::from_secs(2);
/// For how long after a halt the table may not be [current](crate::Workspaces::is_current): a turn of the loop later at most
/// that is noticed, and another one later that it is over.
pub const DOUBTED: Duration = Duration::from_secs(NOTICED.as_secs() + 2 * TICK.as_secs());

/// All that the control loop holds while it runs.
pub(crate) struct ControlLoop {
    state: State,
    table: Table,
    publisher: Publisher,
    work: Work,
    metrics: Arc<Metrics>,
    acts: Acts,
    /// What to tell whom, once the table shows it.
    answers: Vec<Box<dyn FnOnce() + Send>>,
    effects: Vec<Effect>,
    /// When it last made a turn, and since when it has made them as often as it should.
    turned: Instant,
    awake_since: Instant,
    /// Until when nothing is believed that was told before this process was halted.
    doubts_until: Instant,
}

/// Where news come from.
pub(crate) struct Sources {
    pub(crate) events: BoxStream<'static, Event>,
    pub(crate) requests: mpsc::Receiver<Request>,
    /// Where there are other Ushers with the same workspaces.
    pub(crate) others: Option<Others>,
    pub(crate) settings: BoxStream<'static, Settings>,
    pub(crate) shutdown: CancellationToken,
}

/// What is heard of other Ushers, and what they are told.
pub(crate) struct Others {
    pub(crate) news: BoxStream<'static, PeerNews>,
    /// Whether this Usher stops what is idle.
    pub(crate) leads: watch::Receiver<bool>,
    /// When this Usher last told the others what it knows.
    pub(crate) written: watch::Receiver<Written>,
    /// What is taken in of what they tell.
    pub(crate) heard: watch::Sender<Heard>,
}

impl Others {
    /// The next thing that is heard.
    async fn next(others: &mut Option<Self>) -> Result<PeerNews, LoopError> {
        match others {
            Some(others) => others.news.next().await.ok_or(LoopError::RecordsEnded),
            None => std::future::pending().await,
        }
    }
}

impl ControlLoop {
    pub(crate) fn new(
        state: State,
        publisher: Publisher,
        driver: Arc<dyn Driver>,
        probes: Probes,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            state,
            table: Table::new(),
            publisher,
            work: Work::new(driver, probes),
            metrics,
            acts: Acts::untold(),
            answers: Vec::new(),
            effects: Vec::new(),
            turned: clock::now(),
            awake_since: clock::now(),
            doubts_until: clock::now(),
        }
    }

    /// As it is, and tells what it does.
    pub(crate) fn telling(self, acts: Acts) -> Self {
        Self { acts, ..self }
    }

    /// Runs until told to shut down; workspaces run on then.
    ///
    /// # Errors
    /// The driver's events ended.
    pub(crate) async fn run(mut self, mut sources: Sources) -> Result<(), LoopError> {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = sources.shutdown.cancelled() => return Ok(()),
                event = sources.events.next() => self.see(event.ok_or(LoopError::DriverEnded)?),
                news = Others::next(&mut sources.others) => self.state.hear(news?, clock::now()),
                done = self.work.done() => self.conclude(done),
                Some(request) = sources.requests.recv() => self.take(request),
                Some(settings) = sources.settings.next() => self.state.settings = settings,
                _ = tick.tick() => {}
            }
            self.take_what_is_there(&mut sources)?;
            let now = clock::now();
            if let Some(others) = &sources.others {
                self.state.among_others(*others.leads.borrow(), &others.written.borrow(), now);
            }
            self.turn(now);
            if let Some(others) = &sources.others {
                others.heard.send_if_modified(|heard| self.state.tell_heard(heard));
            }
        }
    }

    /// Takes in all that came at the same time, so that the table is published once for it.
    fn take_what_is_there(&mut self, sources: &mut Sources) -> Result<(), LoopError> {
        for _ in 0..BATCH {
            if let Some(event) = sources.events.next().now_or_never() {
                self.see(event.ok_or(LoopError::DriverEnded)?);
            } else if let Some(done) = self.work.done().now_or_never() {
                self.conclude(done);
            } else if let Ok(request) = sources.requests.try_recv() {
                self.take(request);
            } else {
                break;
            }
        }
        Ok(())
    }

    fn see(&mut self, event: Event) {
        self.state.fold(event, clock::now());
    }

    fn conclude(&mut self, done: Result<Option<Outcome>, JoinError>) {
        match done {
            Ok(Some(outcome)) => self.state.conclude(outcome, clock::now()),
            Ok(None) => {}
            // Whatever waited for it goes on by its own timeout.
            Err(error) => {
                self.metrics.panics.inc();
                tracing::error!(%error, "a task of the control loop panicked");
            }
        }
    }

    fn take(&mut self, request: Request) {
        let now = clock::now();
        match request {
            Request::Wake(wake, answer) => {
                let was_wanted = self.state.is_wanted(&wake.id);
                let result = self.state.wake(&wake, now);
                if let Err(WakeRefused::BackingOff(cause)) = &result {
                    tracing::debug!(workspace.name = %wake.id, cause = cause.code.as_str(), "a wake was refused");
                }
                let result = result.map(|effect| self.effects.extend(effect));
                self.answer(answer, result.map(|()| !was_wanted));
            }
            Request::Stop(id, answer) => {
                let was_wanted = self.state.is_wanted(&id);
                let stopped = match (self.state.stop(&id, now), was_wanted) {
                    (false, _) => StopAsked::Nothing,
                    (true, false) => StopAsked::Already,
                    (true, true) => StopAsked::Now,
                };
                self.answer(answer, stopped);
            }
            Request::Extend(id, answer) => {
                let until = self.state.extend(&id, now);
                self.answer(answer, until);
            }
            Request::Keep(id, time, answer) => {
                let until = self.state.keep(&id, time, now);
                self.answer(answer, until);
            }
            Request::Delete { id, volume, owner, answer } => {
                let deleted = self.state.delete(&id, volume, owner.as_ref(), now);
                self.answer(answer, deleted);
            }
        }
    }

    /// Remembers an answer; whoever asked may have left by then.
    fn answer<T: Send + 'static>(&mut self, to: oneshot::Sender<T>, value: T) {
        self.answers.push(Box::new(move || drop(to.send(value))));
    }

    /// Decides until nothing is left to decide, publishes, and only then tells, cuts and acts: whoever is told
    /// or cut looks at a table that shows why, and no workspace is ended before its route is.
    fn turn(&mut self, now: Instant) {
        self.was_awake(now);
        let (effects, rests) = self.state.settle(now);
        self.effects.extend(effects);
        if !rests {
            self.metrics.unsettled.inc();
            tracing::error!("the control loop comes to no decision; it goes on, and this is a mistake in it");
        }
        let news = std::mem::take(&mut self.state.news);
        self.publish(&news.changed, now);
        self.look_back(now);
        for ended in news.ended {
            ended.cancel();
        }
        for note in &news.notes {
            self.metrics.note(note);
            log(note);
            self.tell(note);
        }
        for answer in self.answers.drain(..) {
            answer();
        }
        for effect in self.effects.drain(..) {
            self.work.begin(effect);
        }
    }

    fn tell(&self, note: &Note) {
        let (Note::Ready(id, _) | Note::Failed { id, .. } | Note::Reaped(id, _)) = note;
        let Some(owner) = self.state.workspaces.get(id).map(|workspace| workspace.owner.clone()) else {
            return;
        };
        let (id, leads) = (id.clone(), self.state.peers.as_ref().is_none_or(Peers::leads));
        match note {
            Note::Failed { cause, spawning: true, .. } if leads => {
                self.acts.tell(Act::NotStarted { id, owner, cause: cause.code });
            }
            Note::Reaped(_, reason) => self.acts.tell(Act::Reaped { id, owner, reason: *reason }),
            Note::Ready(..) | Note::Failed { .. } => {}
        }
    }

    /// Notices that this process was halted. What it knows is as old as that, and the watches need a moment to notice.
    fn was_awake(&mut self, now: Instant) {
        let halted = now.saturating_duration_since(self.turned);
        if halted > TICK * 2 {
            self.awake_since = now;
        }
        if halted > STALE {
            self.doubts_until = now + NOTICED;
        }
        self.turned = now;
    }

    /// Silence is noticed when it has lasted for [`BELIEVED`]: so what is believed now was true so long ago, unless this
    /// process was not awake to notice.
    fn look_back(&mut self, now: Instant) {
        self.publisher.turned(now);
        let then = now.checked_sub(BELIEVED + TICK).filter(|then| *then >= self.awake_since);
        if let Some(then) = then.filter(|_| self.state.synced) {
            self.state.sights.reach(then);
        }
    }

    fn publish(&mut self, changed: &BTreeSet<WorkspaceId>, now: Instant) {
        let standing = Standing { halted: now < self.doubts_until, ..self.state.standing() };
        if changed.is_empty() && self.publisher.shows(standing) {
            return;
        }
        for (id, entry) in self.state.entries(changed) {
            match entry {
                Some(entry) => self.table.insert(id, Arc::new(entry)),
                None => self.table.remove(&id),
            };
        }
        self.publisher.publish(self.table.clone(), standing);
        self.metrics.count(&self.state);
    }
}

fn log(note: &Note) {
    match note {
        Note::Ready(id, took) => {
            let elapsed_ms = took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
            tracing::info!(workspace.name = %id, elapsed_ms, "a workspace is ready");
        }
        Note::Failed { id, cause, .. } => {
            let code = cause.code.as_str();
            tracing::warn!(workspace.name = %id, cause = code, hint = cause.hint, "a workspace failed");
        }
        Note::Reaped(id, reason) => {
            tracing::info!(workspace.name = %id, ?reason, "a workspace is stopped because it is unused or too old");
        }
    }
}

#[cfg(test)]
mod tests;
