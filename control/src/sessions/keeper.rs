//! The loop that keeps the snapshot of sessions: its only writer.

use super::document::{Document, DocumentError};
use super::marker;
use super::refresh::Freshness;
use super::{Ended, Over, Session, SessionAge, SessionName, SessionRef, Sessions, ShortName, Snapshot};
use crate::metrics::Metrics;
use crate::mirror::{MirrorWriter, take_batch};
use crate::{Act, Acts, Change, Kind, LoopError, Record, RecordError, Records, clock};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often sessions that are over are looked for: so late at most their sockets are closed.
const SWEEP: Duration = Duration::from_secs(1);
/// How many records of sessions that are over are deleted at a time.
const DELETIONS: usize = 32;

/// What the configuration says of sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) idle_after: Duration,
    pub(crate) max_age: Duration,
    pub(crate) per_user: usize,
    pub(crate) refresh_after: Duration,
}

impl Limits {
    /// `late` = how long others may take to tell of a use: so much later than configured a session is unused.
    pub(crate) fn of(config: &config::Config, late: Duration) -> Self {
        let config::Sessions { idle_after, max_age, per_user, refresh_after, .. } = config.sessions;
        Self { idle_after: idle_after + late, max_age, per_user, refresh_after }
    }
}

/// Follows the records, and ends what is over.
pub(crate) struct Keeper {
    snapshot: Snapshot,
    writer: MirrorWriter<Snapshot>,
    records: Arc<dyn Records>,
    /// The ages from before a restart, until their sessions are seen.
    ages: HashMap<ShortName, SessionAge>,
    /// Those that are over and whose records are still there.
    over: HashMap<SessionName, (Arc<Session>, Over)>,
    deletions: JoinSet<Result<Option<Act>, RecordError>>,
    acts: Acts,
    metrics: Arc<Metrics>,
    /// Those that have another in their place, which is not published yet.
    replaced: Vec<(Arc<Session>, Arc<Session>)>,
}

impl Keeper {
    /// Takes up the sessions that are recorded.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) async fn new(
        records: Arc<dyn Records>,
        limits: Limits,
        ages: HashMap<ShortName, SessionAge>,
        metrics: Arc<Metrics>,
        acts: Acts,
    ) -> Result<(Sessions, Self), RecordError> {
        let recorded = records.list(Kind::Session).await?;
        let writer = MirrorWriter::new();
        let sessions = Sessions { snapshot: writer.mirror(), records: records.clone(), acts: acts.clone() };
        let mut keeper = Self {
            snapshot: Snapshot { limits, ..Snapshot::default() },
            writer,
            records,
            ages,
            over: HashMap::new(),
            deletions: JoinSet::new(),
            acts,
            metrics,
            replaced: Vec::new(),
        };
        let names = recorded.iter().map(|record| record.name.as_str());
        marker::clear_away(&*keeper.records, names).await;
        for record in recorded {
            keeper.take(Change::Put(record));
        }
        keeper.publish();
        Ok((sessions, keeper))
    }

    /// Runs until told to shut down.
    ///
    /// # Errors
    /// The watch of the records ended.
    pub(crate) async fn run(
        mut self,
        mut limits: BoxStream<'static, Limits>,
        shutdown: CancellationToken,
    ) -> Result<(), LoopError> {
        let mut changes = self.records.watch(Kind::Session);
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let news = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                change = changes.next() => take_batch(change, &mut changes, |change| self.take(change))?,
                Some(deleted) = self.deletions.join_next() => {
                    match deleted {
                        Ok(Ok(act)) => act.into_iter().for_each(|act| self.acts.tell(act)),
                        Ok(Err(error)) => {
                            tracing::warn!(%error, "the record of a session that is over could not be deleted");
                        }
                        Err(_) => {}
                    }
                    false
                }
                Some(limits) = limits.next() => {
                    self.snapshot.limits = limits;
                    true
                }
                _ = sweep.tick() => self.sweep(clock::now()),
            };
            if news {
                self.publish();
            }
        }
    }

    /// Takes in a change; tells whether it was news.
    fn take(&mut self, change: Change) -> bool {
        match change {
            Change::Put(record) => {
                self.snapshot.reached = self.snapshot.reached.max(record.version);
                // A marker: somebody waits to see how far this has come.
                let Some(name) = SessionName::parse(&record.name) else { return true };
                let known = self.snapshot.live.get(&name);
                if self.over.contains_key(&name) || known.is_some_and(|known| record.version <= known.version)
                {
                    return false;
                }
                self.put(name, &record, clock::now()).unwrap_or_else(|error| {
                    tracing::warn!(%error, "the record of a session cannot be read and is ignored");
                    false
                })
            }
            Change::Deleted(name) => {
                let Some(name) = SessionName::parse(&name) else { return false };
                self.over.remove(&name);
                self.end(name)
            }
        }
    }

    /// Takes up a session, or what is new of one.
    fn put(&mut self, name: SessionName, record: &Record, now: Instant) -> Result<bool, DocumentError> {
        let document = Document::read(&record.value)?;
        let refreshing = document.refreshing.clone();
        let new = document.session()?;
        let known = self.snapshot.live.get(&name);
        let freshness = new.kept.as_ref().map(|kept| {
            let before = known.and_then(|known| known.freshness.as_ref());
            let fresh = Freshness::of(kept, self.snapshot.limits.refresh_after, SystemTime::now(), now);
            fresh.refreshing(refreshing.as_ref(), before, now)
        });
        let session = match known {
            Some(known) => known.renewed(new, record.version, freshness),
            None => {
                let age = self.ages.remove(&name.short()).unwrap_or(SessionAge { created: now, used: now });
                Session::new(new, record.version, age, freshness)
            }
        };
        let session = Arc::new(session);
        let before = self.snapshot.live.insert(name, session.clone());
        if let Some(before) = before {
            self.replaced.push((before, session));
        }
        Ok(true)
    }

    fn end(&mut self, name: SessionName) -> bool {
        let session = self.snapshot.live.remove(name);
        if let Some(session) = &session {
            session.ended().give();
        }
        session.is_some()
    }

    /// Ends what is over, and deletes its records.
    fn sweep(&mut self, now: Instant) -> bool {
        let limits = self.snapshot.limits;
        let over = self
            .snapshot
            .live
            .iter()
            .filter_map(|(name, session)| Some((*name, (session.clone(), session.over(limits, now)?))));
        let over: Vec<_> = over.collect();
        for (name, _) in &over {
            self.end(*name);
        }
        let news = !over.is_empty();
        self.over.extend(over);
        // One round at a time: what fails is tried again at a later sweep.
        if self.deletions.is_empty() {
            for (name, (session, why)) in self.over.iter().take(DELETIONS) {
                let (records, why) = (self.records.clone(), *why);
                let ended = Ended { reference: SessionRef(*name), session: session.clone() };
                self.deletions.spawn(async move {
                    let name = ended.reference.to_string();
                    let by_us = records.delete(Kind::Session, &name).await?;
                    Ok(by_us.then_some(Act::SessionOver(ended, why)))
                });
            }
        }
        news
    }

    fn publish(&mut self) {
        self.writer.publish(self.snapshot.clone());
        // After it can be looked up: whoever asks anew finds what is new.
        for (before, after) in self.replaced.drain(..) {
            if !before.sees_as(&after) {
                before.changed().give();
            }
        }
        self.metrics.sessions.set(i64::try_from(self.snapshot.live.len()).unwrap_or(i64::MAX));
    }
}
