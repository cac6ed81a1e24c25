//! The last use of workspaces and sessions, kept over a restart and told to others: ages, at most once in a while,
//! in one record of each Usher.
//!
//! A record says how old each use was when it was written. Whoever reads it adds the monotonic time since it
//! was read and nothing else, so neither a jump of the clock nor the time that Usher was down makes anything
//! older than it is. Each Usher tells what it knows itself, and not what it was told; of one that is gone the others,
//! and whoever starts next, take over what it knew.

mod document;

pub(crate) use document::Document;

use crate::peers::{Heard, PeerNews, Told};
use crate::reconcile::idle;
use crate::sessions::{SessionAge, ShortName};
use crate::table::Elsewhere;
use crate::{
    Change, Entry, Generation, Kind, Phase, Record, RecordError, Records, Sessions, Terms, Version,
    Workspaces, clock, hash,
};
use config::WorkspaceId;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often it is written where nobody else waits for it: what a killed Usher forgets at most.
pub(crate) const EVERY: Duration = Duration::from_secs(60);
/// How soon it is tried again after it could not be written: others count the time.
const RETRY: Duration = Duration::from_secs(5);

/// The name of the record where there is only one Usher.
pub(crate) const ALONE: &str = "local";

/// What tells a generation from all others, in as little room as that takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint([u8; 8]);

impl Generation {
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        let [a, b, c, d, e, f, g, h, ..] = hash::digest(&[b"generation", self.0.as_bytes()]);
        Fingerprint([a, b, c, d, e, f, g, h])
    }
}

/// What was recorded of one workspace's instance.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kept {
    pub(crate) generation: Fingerprint,
    pub(crate) started: Instant,
    pub(crate) last: (Instant, &'static str),
    pub(crate) extended_until: Option<Instant>,
    pub(crate) kept_until: Option<Instant>,
}

impl Kept {
    /// What two know of the same instance, together.
    fn merged(self, other: Self) -> Self {
        Self {
            started: self.started.min(other.started),
            last: if other.last.0 > self.last.0 { other.last } else { self.last },
            extended_until: self.extended_until.max(other.extended_until),
            kept_until: self.kept_until.max(other.kept_until),
            generation: self.generation,
        }
    }
}

/// Of so many instances of a workspace something is remembered: which of them runs nobody knows before it is seen, and
/// the record of an Usher that is long gone may tell of one that is, too.
const INSTANCES: usize = 8;

/// What was recorded of workspaces, until each is seen again.
#[derive(Debug, Default)]
pub(crate) struct Restored(HashMap<WorkspaceId, Vec<Kept>>);

impl FromIterator<(WorkspaceId, Kept)> for Restored {
    fn from_iter<T: IntoIterator<Item = (WorkspaceId, Kept)>>(kept: T) -> Self {
        let mut restored = Self::default();
        kept.into_iter().for_each(|(id, kept)| restored.learn(id, kept));
        restored
    }
}

impl Restored {
    /// What is known of this very instance.
    pub(crate) fn get(&self, id: &WorkspaceId, generation: &Generation) -> Option<&Kept> {
        self.0.get(id)?.iter().find(|kept| kept.generation == generation.fingerprint())
    }

    /// Takes in what somebody else knows of an instance.
    pub(crate) fn learn(&mut self, id: WorkspaceId, kept: Kept) {
        let instances = self.0.entry(id).or_default();
        match instances.iter_mut().find(|known| known.generation == kept.generation) {
            Some(known) => *known = known.clone().merged(kept),
            None => instances.push(kept),
        }
        instances.sort_by_key(|kept| Reverse(kept.last.0));
        instances.truncate(INSTANCES);
    }

    pub(crate) fn forget(&mut self, id: &WorkspaceId) {
        self.0.remove(id);
    }

    /// What is known of the instance of each that was used last.
    pub(crate) fn all(&self) -> impl Iterator<Item = (WorkspaceId, Kept)> {
        self.0.iter().filter_map(|(id, kept)| Some((id.clone(), kept.first()?.clone())))
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&WorkspaceId) -> bool) {
        self.0.retain(|id, _| keep(id));
    }

    /// As [`Restored::get`], once; what is known of other instances is forgotten.
    pub(crate) fn take(&mut self, id: &WorkspaceId, generation: &Generation) -> Option<Kept> {
        self.0.remove(id)?.into_iter().find(|kept| kept.generation == generation.fingerprint())
    }
}

/// What is recorded.
pub(crate) struct Loaded {
    pub(crate) workspaces: Restored,
    pub(crate) sessions: HashMap<ShortName, SessionAge>,
    /// The version of this Usher's own record, to be replaced.
    pub(crate) version: Option<Version>,
}

/// Reads what was recorded before this start, by this Usher and by all others.
///
/// # Errors
/// The store fails. A record that cannot be understood is reported and taken for none: it makes workspaces
/// younger than they are, which costs less than not starting.
pub(crate) async fn load(records: &dyn Records, name: &str) -> Result<Loaded, RecordError> {
    let found = records.list(Kind::Use).await?;
    let now = clock::now();
    let mut loaded = Loaded { workspaces: Restored::default(), sessions: HashMap::new(), version: None };
    for record in found {
        let document = Document::read(&record);
        for (id, kept) in document.workspaces(now) {
            loaded.workspaces.learn(id, kept);
        }
        for (session, age) in document.sessions(now) {
            let known = loaded.sessions.entry(session).or_insert(age);
            known.created = known.created.min(age.created);
            known.used = known.used.max(age.used);
        }
        if record.name == name {
            loaded.version = Some(record.version);
        }
    }
    Ok(loaded)
}

/// Writes this Usher's record.
pub(crate) struct Keeper {
    pub(crate) records: Arc<dyn Records>,
    pub(crate) workspaces: Workspaces,
    pub(crate) sessions: Sessions,
    /// The record's name: this Usher's.
    pub(crate) name: String,
    /// The version to replace.
    pub(crate) version: Option<Version>,
    pub(crate) every: Duration,
    /// Where there are others.
    pub(crate) shared: Option<Shared>,
    /// What was last written.
    pub(crate) written: watch::Sender<Written>,
}

/// What this Usher last told the others.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    /// When it began to: all that was used before is told.
    pub(crate) at: Instant,
    /// Use as whoever reads it knows it.
    pub(crate) uses: Arc<HashMap<WorkspaceId, Kept>>,
}

impl Written {
    /// That there is nothing to tell.
    pub(crate) fn nothing(at: Instant) -> Self {
        Self { at, uses: Arc::default() }
    }

    /// A document that was begun now.
    pub(crate) fn of(document: &Document, at: Instant) -> Self {
        Self { at, uses: Arc::new(document.workspaces(at).collect()) }
    }
}

/// What a keeper among others knows of them.
pub(crate) struct Shared {
    /// What the control loop has taken in of what they tell.
    pub(crate) heard: watch::Receiver<Heard>,
    /// Whether this Usher clears away what those left that are gone.
    pub(crate) leads: watch::Receiver<bool>,
}

impl Keeper {
    /// Makes itself known to the others, which wait for it from then on before they stop anything; and takes over
    /// what those knew that ended. Nobody may be served before this.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) async fn register(&mut self, loaded: &Loaded) -> Result<(), RecordError> {
        let now = clock::now();
        let document = Document::of(loaded.workspaces.all(), loaded.sessions.clone(), now);
        self.write(&document).await
    }

    /// Writes the record every so often, and once more when told to shut down.
    pub(crate) async fn keep(mut self, shutdown: CancellationToken) {
        let mut written = Document::default();
        let mut pause = self.every;
        loop {
            let last = shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none();
            // Before the uses are looked at, so that what is told is at least as new as the marks, and has all that
            // those knew that are gone.
            let heard = self.shared.as_ref().map(|shared| shared.heard.borrow().clone()).unwrap_or_default();
            let mut document = self.document(last);
            (document.sequence, document.seen) = (written.sequence, heard.seen);
            // Others wait to hear of it also when it tells nothing new.
            if self.shared.is_some() || document != written {
                document.sequence += 1;
                match self.write(&document).await {
                    Ok(()) => {
                        (written, pause) = (document, self.every);
                        self.clear_away(&heard.gone).await;
                    }
                    Err(error) => {
                        tracing::warn!(%error, "last use could not be recorded");
                        pause = self.every.min(RETRY);
                    }
                }
            }
            if last {
                return;
            }
        }
    }

    /// Deletes the records of those that are gone: what they knew is told by this Usher, which leads.
    ///
    /// One that was only halted writes again, and then is heard again.
    async fn clear_away(&self, gone: &BTreeSet<String>) {
        if !self.shared.as_ref().is_some_and(|shared| *shared.leads.borrow()) {
            return;
        }
        for name in gone {
            if let Err(error) = self.records.delete(Kind::Use, name).await {
                tracing::warn!(%error, record = name, "the record of an Usher that is gone could not be deleted");
            }
        }
    }

    fn document(&self, last: bool) -> Document {
        let now = clock::now();
        let workspaces = self.workspaces.all();
        let kept = workspaces.iter().filter_map(|entry| Some((entry.id.clone(), Kept::of(entry, now)?)));
        let sessions = self.sessions.ages();
        let mut document = Document::of(kept, sessions, now);
        document.last = last;
        document
    }

    async fn write(&mut self, document: &Document) -> Result<(), RecordError> {
        let began = clock::now();
        let value = document.to_json();
        let result = match self.version {
            Some(version) => self.records.replace(Kind::Use, &self.name, version, value).await,
            None => self.records.create(Kind::Use, &self.name, value).await,
        };
        match result {
            Ok(version) => {
                self.version = Some(version);
                self.written.send_replace(Written::of(document, began));
                Ok(())
            }
            Err(error) => {
                if let Ok(found) = self.records.get(Kind::Use, &self.name).await {
                    self.version = found.map(|record| record.version);
                }
                Err(error)
            }
        }
    }
}

impl Kept {
    /// What this Usher itself knows of a ready workspace.
    pub(crate) fn of(entry: &Entry, now: Instant) -> Option<Self> {
        let route = match &entry.phase {
            Phase::Ready(route) => route,
            _ => entry.withheld.as_ref()?,
        };
        let terms = entry.terms.as_ref()?;
        let own = Terms { elsewhere: Elsewhere::default(), ..terms.clone() };
        Some(Self {
            generation: route.generation.fingerprint(),
            started: own.started,
            last: idle::last_use(&entry.activity.read(), &route.template.idle, &own, now),
            extended_until: own.extended_until,
            kept_until: own.kept_until,
        })
    }
}

/// What is written by the others, and by this Usher itself, as long as the store tells. What others know of sessions is
/// handed on at once.
pub(crate) fn others(records: &dyn Records, own: String, sessions: Sessions) -> BoxStream<'static, PeerNews> {
    let news = records.watch(Kind::Use).map(move |change| match change {
        Change::Put(record) if record.name == own => PeerNews::Echo(Document::read(&record).seen),
        Change::Put(record) => PeerNews::Told(told(&record, &sessions, clock::now())),
        Change::Deleted(name) => PeerNews::Deleted(name),
    });
    news.boxed()
}

fn told(record: &Record, sessions: &Sessions, now: Instant) -> Told {
    let document = Document::read(record);
    sessions.learn(&document.sessions(now).collect());
    Told {
        name: record.name.clone(),
        seen: document.seen.clone(),
        last: document.last,
        uses: document.workspaces(now).collect(),
    }
}

#[cfg(test)]
mod tests;
