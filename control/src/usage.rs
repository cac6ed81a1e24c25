//! The last use of workspaces and sessions, kept over a restart: ages, at most once a minute, in one record.
//!
//! A record says how old each use was when it was written. Whoever reads it adds the monotonic time since it
//! was read and nothing else, so neither a jump of the clock nor the time that Usher was down makes anything
//! older than it is.

use crate::reconcile::idle;
use crate::sessions::{SessionAge, SessionName};
use crate::{Entry, Generation, Kind, Phase, RecordError, Records, Sessions, Version, Workspaces, clock};
use config::WorkspaceId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// How often it is written: what a killed Usher forgets at most.
const EVERY: Duration = Duration::from_secs(60);

/// The name of the only record: here is one replica.
const NAME: &str = "local";

/// What was recorded of one workspace's instance.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kept {
    pub(crate) generation: Generation,
    pub(crate) started: Instant,
    pub(crate) last: (Instant, &'static str),
    pub(crate) extended_until: Option<Instant>,
    pub(crate) kept_until: Option<Instant>,
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
    /// As [`Restored::get`], once; what is known of another instance is forgotten.
    pub(crate) fn take(&mut self, id: &WorkspaceId, generation: &Generation) -> Option<Kept> {
        self.0.remove(id).filter(|kept| kept.generation == *generation)
    }
}

/// The record.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Document {
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
pub(crate) async fn load(records: &dyn Records) -> Result<Loaded, RecordError> {
    let record = records.get(Kind::Use, NAME).await?;
    let now = clock::now();
    let document = record.as_ref().map_or_else(Document::default, |record| {
        serde_json::from_slice(&record.value).unwrap_or_else(|error| {
            tracing::warn!(%error, "the record of last use cannot be read and is ignored");
            Document::default()
        })
    });
    Ok(Loaded {
        workspaces: workspaces_of(&document, now),
        sessions: sessions_of(&document, now),
        version: record.map(|record| record.version),
    })
}

/// Writes the record each minute, and once more when told to shut down.
pub(crate) async fn keep(
    records: Arc<dyn Records>,
    workspaces: Workspaces,
    sessions: Sessions,
    mut version: Option<Version>,
    shutdown: CancellationToken,
) {
    let mut pause = tokio::time::interval(EVERY);
    pause.tick().await;
    let mut written = None;
    loop {
        let last = tokio::select! {
            _ = pause.tick() => false,
            () = shutdown.cancelled() => true,
        };
        let document = document(&workspaces.all(), &sessions.ages(), clock::now());
        if written.as_ref() != Some(&document) {
            match write(&*records, version, &document).await {
                Ok(new) => (version, written) = (Some(new), Some(document)),
                Err(error) => {
                    tracing::warn!(%error, "last use could not be recorded");
                    version = current(&*records).await.or(version);
                }
            }
        }
        if last {
            return;
        }
    }
}

async fn write(
    records: &dyn Records,
    version: Option<Version>,
    document: &Document,
) -> Result<Version, RecordError> {
    let value = serde_json::to_vec(document).expect("a document of texts and numbers is JSON");
    match version {
        Some(version) => records.replace(Kind::Use, NAME, version, value).await,
        None => records.create(Kind::Use, NAME, value).await,
    }
}

/// The version that stands now, after a conflict.
async fn current(records: &dyn Records) -> Option<Version> {
    Some(records.get(Kind::Use, NAME).await.ok()??.version)
}

fn document(entries: &[Arc<Entry>], sessions: &[(SessionName, SessionAge)], now: Instant) -> Document {
    let workspaces = entries.iter().filter_map(|entry| Some((entry.id.to_string(), ages(entry, now)?)));
    let sessions = sessions.iter().map(|(name, age)| {
        let ages = SessionAges { created_ms: since(age.created, now), used_ms: since(age.used, now) };
        (name.to_string(), ages)
    });
    Document { workspaces: workspaces.collect(), sessions: sessions.collect() }
}

fn ages(entry: &Entry, now: Instant) -> Option<WorkspaceAges> {
    let (Phase::Ready(route), Some(terms)) = (&entry.phase, &entry.terms) else { return None };
    let (used, word) = idle::last_use(&entry.activity.read(), &route.template.idle, terms, now);
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
