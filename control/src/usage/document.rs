//! The record of last use as it is written: small, whatever there is to tell.
//!
//! A workspace takes some 70 bytes and a session 30, so that 5,000 and 10,000 of them fit. What would not fit is left
//! out, sessions before workspaces and the longest unused first: after a restart of all they are younger than they
//! are, and nothing else happens to them.

use super::{Fingerprint, Kept};
use crate::peers::SeenMarks;
use crate::reconcile::idle;
use crate::sessions::{SessionAge, ShortName};
use crate::{Record, clock, hash};
use config::WorkspaceId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How many bytes it may have: what a store of records takes is a tenth more.
pub(super) const ROOM: usize = 700 << 10;

/// The record.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Document {
    /// Grows with every write, so that others hear of one that tells nothing new.
    #[serde(default)]
    pub(crate) sequence: u64,
    /// The marks that its writer had seen when it looked at the uses.
    #[serde(flatten)]
    pub(crate) seen: SeenMarks,
    /// Whether it is its writer's last.
    #[serde(default)]
    pub(crate) last: bool,
    /// By id.
    workspaces: BTreeMap<String, WorkspaceAges>,
    /// By short name.
    sessions: BTreeMap<String, SessionAges>,
}

/// Of an instance of a workspace: its fingerprint, how old it is, how long ago it was used and by what, how long it
/// is still extended and kept; in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct WorkspaceAges(String, u64, u64, String, u64, u64);

/// Of a session: how old it is, how long ago it was used; in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct SessionAges(u64, u64);

impl Document {
    /// What is known at this moment.
    pub(crate) fn of(
        workspaces: impl IntoIterator<Item = (WorkspaceId, Kept)>,
        sessions: impl IntoIterator<Item = (ShortName, SessionAge)>,
        now: Instant,
    ) -> Self {
        let workspaces = workspaces.into_iter().map(|(id, kept)| (id.to_string(), kept.ages(now)));
        let sessions = sessions.into_iter().map(|(name, age)| {
            (name.to_string(), SessionAges(since(age.created, now), since(age.used, now)))
        });
        Self { workspaces: workspaces.collect(), sessions: sessions.collect(), ..Self::default() }
    }

    /// As it was written; none at all if it cannot be understood.
    pub(crate) fn read(record: &Record) -> Self {
        serde_json::from_slice(&record.value).unwrap_or_else(|error| {
            tracing::warn!(%error, record = record.name, "a record of last use cannot be read and is ignored");
            Self::default()
        })
    }

    /// As it is written: at most [`ROOM`] bytes.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        let whole = serde_json::to_vec(self).expect("a document of texts and numbers is JSON");
        if whole.len() <= ROOM {
            return whole;
        }
        let fitting = self.fitting(whole.len() - ROOM);
        let left_out =
            self.workspaces.len() + self.sessions.len() - (fitting.workspaces.len() + fitting.sessions.len());
        tracing::warn!(
            left_out,
            "there is too much to record of last use; what was unused for longest is left out"
        );
        serde_json::to_vec(&fitting).expect("a document of texts and numbers is JSON")
    }

    /// The document without so many bytes of what was unused for longest.
    fn fitting(&self, mut excess: usize) -> Self {
        let Self { sequence, last, .. } = *self;
        let seen = self.seen.clone();
        let sessions = without(&self.sessions, |ages| ages.1, &mut excess);
        let workspaces = without(&self.workspaces, |ages| ages.2, &mut excess);
        Self { sequence, seen, last, workspaces, sessions }
    }

    /// What it says of workspaces to one who reads it now.
    pub(crate) fn workspaces(&self, now: Instant) -> impl Iterator<Item = (WorkspaceId, Kept)> {
        self.workspaces.iter().filter_map(move |(id, ages)| {
            let WorkspaceAges(generation, started, used, word, extended, kept) = ages;
            let kept = Kept {
                generation: Fingerprint(hash::bytes(generation)?),
                started: before(now, *started),
                last: (before(now, *used), idle::word(word)),
                extended_until: after(now, *extended),
                kept_until: after(now, *kept),
            };
            Some((WorkspaceId::parse(id).ok()?, kept))
        })
    }

    /// What it says of sessions to one who reads it now.
    pub(crate) fn sessions(&self, now: Instant) -> impl Iterator<Item = (ShortName, SessionAge)> {
        self.sessions.iter().filter_map(move |(name, SessionAges(created, used))| {
            let age = SessionAge { created: before(now, *created), used: before(now, *used) };
            Some((ShortName::parse(name)?, age))
        })
    }
}

impl Kept {
    fn ages(&self, now: Instant) -> WorkspaceAges {
        let left = |until: Option<Instant>| {
            until.map_or(0, |until| {
                // A second that began is granted whole.
                let left = until.saturating_duration_since(now);
                left.as_secs() + u64::from(left.subsec_nanos() > 0)
            })
        };
        WorkspaceAges(
            hash::text(&self.generation.0),
            since(self.started, now),
            since(self.last.0, now),
            self.last.1.to_owned(),
            left(self.extended_until),
            left(self.kept_until),
        )
    }
}

/// Leaves out what is oldest by `age` until nothing is in excess.
fn without<T: Clone + Serialize>(
    all: &BTreeMap<String, T>,
    age: impl Fn(&T) -> u64,
    excess: &mut usize,
) -> BTreeMap<String, T> {
    let mut kept = all.clone();
    let mut oldest: Vec<_> = all.iter().collect();
    oldest.sort_by_key(|(_, ages)| std::cmp::Reverse(age(ages)));
    for (name, ages) in oldest {
        if *excess == 0 {
            break;
        }
        let value = serde_json::to_vec(ages).expect("a list of texts and numbers is JSON");
        // With two quotes, a colon and a comma.
        *excess = excess.saturating_sub(name.len() + value.len() + 4);
        kept.remove(name);
    }
    kept
}

fn since(earlier: Instant, later: Instant) -> u64 {
    later.saturating_duration_since(earlier).as_secs()
}

fn before(now: Instant, seconds: u64) -> Instant {
    clock::ago(now, Duration::from_secs(seconds))
}

fn after(now: Instant, seconds: u64) -> Option<Instant> {
    now.checked_add(Duration::from_secs(seconds)).filter(|until| *until > now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn kept(used: Instant) -> Kept {
        Kept {
            generation: generation(7).fingerprint(),
            started: used,
            last: (used, "workspace_frame"),
            extended_until: None,
            kept_until: Some(used + secs(90_000)),
        }
    }

    fn ids(count: usize, name: &str) -> impl Iterator<Item = WorkspaceId> {
        (0..count).map(move |i| id(&format!("{name}{i}")))
    }

    fn sessions(count: u64, now: Instant) -> impl Iterator<Item = (ShortName, SessionAge)> {
        (0..count).map(move |i| {
            let [a, b, c, d, e, f, g, h] = i.to_be_bytes();
            (ShortName([a, b, c, d, e, f, g, h]), SessionAge { created: now, used: now + secs(i) })
        })
    }

    #[test]
    fn all_of_a_large_site_fits() {
        let then = Instant::now();
        let now = then + secs(86_400);
        let workspaces = ids(5000, "student-no-").map(|id| (id, kept(then)));
        let document = Document::of(workspaces, sessions(10_000, then), now);
        let json = document.to_json();
        assert!(json.len() < ROOM, "{} bytes", json.len());
        let read: Document = serde_json::from_slice(&json).unwrap();
        assert_eq!((read.workspaces(now).count(), read.sessions(now).count()), (5000, 10_000));
    }

    #[test]
    fn what_does_not_fit_is_what_was_unused_for_longest_and_sessions_first() {
        let then = Instant::now();
        let now = then + secs(200_000);
        for (count, lost_workspaces) in [(5000, 0), (20_000, 1)] {
            let workspaces = ids(count, "a-rather-long-name-of-one").enumerate();
            let workspaces = workspaces.map(|(i, id)| (id, kept(then + secs(i as u64))));
            let document =
                Document { seen: 7.into(), ..Document::of(workspaces, sessions(40_000, then), now) };
            let json = document.to_json();
            assert!(json.len() <= ROOM && json.len() > ROOM - 200, "{} bytes", json.len());
            let read: Document = serde_json::from_slice(&json).unwrap();
            assert_eq!(read.seen, 7.into());
            assert_eq!(count > read.workspaces.len(), lost_workspaces > 0);
            let oldest = |document: &Document| document.workspaces.values().map(|ages| ages.2).max();
            assert_eq!(oldest(&document) > oldest(&read), lost_workspaces > 0);
            let sessions = (document.sessions(now).count(), read.sessions(now).count());
            assert!(sessions.1 < sessions.0, "{sessions:?}");
            let least = read.sessions(now).map(|(_, age)| age.used).min();
            assert!(least.is_none_or(|used| used > then + secs(10_000)), "those used last stay");
        }
    }
}
