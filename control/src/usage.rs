//! The last use of workspaces and sessions, kept over a restart and told to others: ages, at most once in a while,
//! in one record of each Usher.
//!
//! A record says how old each use was when it was written. Whoever reads it adds the monotonic time since it
//! was read and nothing else, so neither a jump of the clock nor the time that Usher was down makes anything
//! older than it is.

use crate::peers::{PeerNews, Told};
use crate::reconcile::idle;
use crate::sessions::{SessionAge, SessionName};
use crate::table::Elsewhere;
use crate::{
    Change, Entry, Generation, Kind, Phase, Record, RecordError, Records, Sessions, Terms, Version,
    Workspaces, clock,
};
use config::WorkspaceId;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often it is written where nobody else waits for it: what a killed Usher forgets at most.
pub(crate) const EVERY: Duration = Duration::from_secs(60);

/// The name of the record where there is only one Usher.
pub(crate) const ALONE: &str = "local";

/// What was recorded of one workspace's instance.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kept {
    pub(crate) generation: Generation,
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

/// What was recorded of workspaces, until each is seen again.
#[derive(Debug, Default)]
pub(crate) struct Restored(HashMap<WorkspaceId, Kept>);

impl FromIterator<(WorkspaceId, Kept)> for Restored {
    fn from_iter<T: IntoIterator<Item = (WorkspaceId, Kept)>>(kept: T) -> Self {
        Self(kept.into_iter().collect())
    }
}

impl Restored {
    /// What is known of this very instance.
    pub(crate) fn get(&self, id: &WorkspaceId, generation: &Generation) -> Option<&Kept> {
        self.0.get(id).filter(|kept| kept.generation == *generation)
    }
    /// Takes in what somebody else knows of an instance; of another instance than the one known it is newer.
    pub(crate) fn learn(&mut self, id: WorkspaceId, kept: Kept) {
        let merged = match self.0.remove(&id) {
            Some(known) if known.generation == kept.generation => known.merged(kept),
            _ => kept,
        };
        self.0.insert(id, merged);
    }

    pub(crate) fn forget(&mut self, id: &WorkspaceId) {
        self.0.remove(id);
    }

    pub(crate) fn retain(&mut self, keep: impl Fn(&WorkspaceId) -> bool) {
        self.0.retain(|id, _| keep(id));
    }

    /// As [`Restored::get`], once; what is known of another instance is forgotten.
    pub(crate) fn take(&mut self, id: &WorkspaceId, generation: &Generation) -> Option<Kept> {
        self.0.remove(id).filter(|kept| kept.generation == *generation)
    }
}

/// The record.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Document {
    /// Grows with every write, so that others hear of one that tells nothing new.
    #[serde(default)]
    sequence: u64,
    /// The number of the newest mark that its writer had seen when it looked at the uses.
    #[serde(default)]
    seen: u64,
    /// Whether it is its writer's last.
    #[serde(default)]
    last: bool,
    workspaces: BTreeMap<String, WorkspaceAges>,
    sessions: BTreeMap<String, SessionAges>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct WorkspaceAges {
    generation: String,
    started_ms: u64,
    used_ms: u64,
    used_by: String,
    /// How long it is still extended, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extended_ms: Option<u64>,
    /// How long it is still kept, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept_ms: Option<u64>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct SessionAges {
    created_ms: u64,
    used_ms: u64,
}

/// What the record says, and the version to replace.
pub(crate) struct Loaded {
    pub(crate) workspaces: Restored,
    pub(crate) sessions: HashMap<SessionName, SessionAge>,
    pub(crate) version: Option<Version>,
}

/// Reads what was recorded before this start.
///
/// # Errors
/// The store fails. A record that cannot be understood is reported and taken for none: it makes workspaces
/// younger than they are, which costs less than not starting.
pub(crate) async fn load(records: &dyn Records, name: &str) -> Result<Loaded, RecordError> {
    let record = records.get(Kind::Use, name).await?;
    let now = clock::now();
    let document = record.as_ref().map(read).unwrap_or_default();
    Ok(Loaded {
        workspaces: workspaces_of(&document, now),
        sessions: sessions_of(&document, now),
        version: record.map(|record| record.version),
    })
}

fn read(record: &Record) -> Document {
    serde_json::from_slice(&record.value).unwrap_or_else(|error| {
        tracing::warn!(%error, record = record.name, "a record of last use cannot be read and is ignored");
        Document::default()
    })
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
    /// Where there are others: the number of the newest mark that the control loop has seen.
    pub(crate) seen: Option<Arc<AtomicU64>>,
    /// When it was last written.
    pub(crate) written: watch::Sender<Instant>,
}

impl Keeper {
    /// Writes the record every so often, and once more when told to shut down.
    pub(crate) async fn keep(mut self, shutdown: CancellationToken) {
        let mut pause = tokio::time::interval(self.every);
        let mut written = Document::default();
        loop {
            let last = tokio::select! {
                _ = pause.tick() => false,
                () = shutdown.cancelled() => true,
            };
            let document = self.document(written.sequence, last);
            // Others wait to hear of it also when it tells nothing new.
            if self.seen.is_some() || document != written {
                let document = Document { sequence: written.sequence + 1, ..document };
                if self.write(&document).await {
                    written = document;
                }
            }
            if last {
                return;
            }
        }
    }

    fn document(&self, sequence: u64, last: bool) -> Document {
        // Before the uses are looked at, so that what is told is at least as new as the mark.
        let seen = self.seen.as_ref().map_or(0, |seen| seen.load(Acquire));
        let now = clock::now();
        Document { sequence, seen, last, ..document(&self.workspaces.all(), &self.sessions.ages(), now) }
    }

    async fn write(&mut self, document: &Document) -> bool {
        let began = clock::now();
        let value = serde_json::to_vec(document).expect("a document of texts and numbers is JSON");
        let result = match self.version {
            Some(version) => self.records.replace(Kind::Use, &self.name, version, value).await,
            None => self.records.create(Kind::Use, &self.name, value).await,
        };
        match result {
            Ok(version) => {
                self.version = Some(version);
                self.written.send_replace(began);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "last use could not be recorded");
                self.version = current(&*self.records, &self.name).await.or(self.version);
                false
            }
        }
    }
}

/// What is written by the others, and by this Usher itself, as long as the store tells. That a record was deleted is
/// no news: whoever wrote it may live.
pub(crate) fn others(records: &dyn Records, own: String) -> BoxStream<'static, PeerNews> {
    let news = records.watch(Kind::Use).filter_map(move |change| {
        let news = match change {
            Change::Put(record) if record.name == own => Some(PeerNews::Echo(read(&record).seen)),
            Change::Put(record) => Some(PeerNews::Told(told(&record, clock::now()))),
            Change::Deleted(_) => None,
        };
        std::future::ready(news)
    });
    news.boxed()
}

fn told(record: &Record, now: Instant) -> Told {
    let document = read(record);
    Told {
        name: record.name.clone(),
        seen: document.seen,
        last: document.last,
        uses: workspaces_of(&document, now).0.into_iter().collect(),
    }
}

/// The version that stands now, after a conflict.
async fn current(records: &dyn Records, name: &str) -> Option<Version> {
    Some(records.get(Kind::Use, name).await.ok()??.version)
}

fn document(entries: &[Arc<Entry>], sessions: &[(SessionName, SessionAge)], now: Instant) -> Document {
    let workspaces = entries.iter().filter_map(|entry| Some((entry.id.to_string(), ages(entry, now)?)));
    let sessions = sessions.iter().map(|(name, age)| {
        let ages = SessionAges { created_ms: since(age.created, now), used_ms: since(age.used, now) };
        (name.to_string(), ages)
    });
    Document { workspaces: workspaces.collect(), sessions: sessions.collect(), ..Document::default() }
}

fn ages(entry: &Entry, now: Instant) -> Option<WorkspaceAges> {
    let (Phase::Ready(route), Some(terms)) = (&entry.phase, &entry.terms) else { return None };
    let own = Terms { elsewhere: Elsewhere::default(), ..terms.clone() };
    let (used, word) = idle::last_use(&entry.activity.read(), &route.template.idle, &own, now);
    let left = |until: Option<Instant>| until.filter(|until| *until > now).map(|until| since(now, until));
    Some(WorkspaceAges {
        generation: route.generation.to_string(),
        started_ms: since(terms.started, now),
        used_ms: since(used, now),
        used_by: word.to_owned(),
        extended_ms: left(terms.extended_until),
        kept_ms: left(terms.kept_until),
    })
}

fn since(earlier: Instant, later: Instant) -> u64 {
    u64::try_from(later.saturating_duration_since(earlier).as_millis()).unwrap_or(u64::MAX)
}

fn workspaces_of(document: &Document, now: Instant) -> Restored {
    let kept = document.workspaces.iter().filter_map(|(id, ages)| {
        let kept = Kept {
            generation: Generation(ages.generation.as_str().into()),
            started: before(now, ages.started_ms),
            last: (before(now, ages.used_ms), idle::word(&ages.used_by)),
            extended_until: after(now, ages.extended_ms),
            kept_until: after(now, ages.kept_ms),
        };
        Some((WorkspaceId::parse(id).ok()?, kept))
    });
    kept.collect()
}

fn sessions_of(document: &Document, now: Instant) -> HashMap<SessionName, SessionAge> {
    let ages = document.sessions.iter().filter_map(|(name, ages)| {
        let age = SessionAge { created: before(now, ages.created_ms), used: before(now, ages.used_ms) };
        Some((SessionName::parse(name)?, age))
    });
    ages.collect()
}

fn before(now: Instant, ms: u64) -> Instant {
    clock::ago(now, Duration::from_millis(ms))
}

fn after(now: Instant, ms: Option<u64>) -> Option<Instant> {
    now.checked_add(Duration::from_millis(ms?))
}

#[cfg(test)]
mod tests;
