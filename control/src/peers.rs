//! What other Ushers with the same workspaces have told.
//!
//! Each Usher writes down, at most once in a while, the last use of all workspaces as it knows it and the newest
//! mark that it has seen. A marked workspace is stopped only when all have written since they saw the mark: whoever
//! knows of a newer use takes the mark back before.
//!
//! Where the marks of users' workspaces are told in one order, one number says which of them were seen. Where they are
//! told in several, and of what routes lead to, which is watched object by object, each mark is told for itself, as long
//! as it stands.

use crate::usage::Kept;
use config::WorkspaceId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// An Usher that was not heard for so long is gone, and nobody waits for it any more.
pub(crate) const GONE: Duration = Duration::from_secs(300);
/// An Usher that could not write for so long starts and stops nothing, and asks for its traffic to go elsewhere: the
/// others are about to take it for gone. It serves on whatever they know to be in use, until [`AHEAD`] of when they
/// might stop that: if nobody can write, nothing is stopped either.
pub(crate) const CUT_OFF: Duration = Duration::from_secs(240);
/// How long before others may stop it without knowing of its use a workspace is not served any more.
pub(crate) const AHEAD: Duration = Duration::from_secs(60);
/// Who could not write for so long may not hear either: the silence of others tells nothing meanwhile.
pub(crate) const DEAF: Duration = Duration::from_secs(90);

/// Which marks an Usher has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeenMarks {
    /// The number of the newest one of a user's workspace: all before it were seen, where they have one order.
    #[serde(default, rename = "seen")]
    newest: u64,
    /// The number of the newest one of each workspace whose marks are told for themselves, by its id.
    #[serde(default, rename = "seen_of_routes", skip_serializing_if = "BTreeMap::is_empty")]
    by_id: BTreeMap<String, u64>,
}

impl SeenMarks {
    /// One was seen; `in_order` = so were all before it.
    fn note(&mut self, id: &WorkspaceId, mark: u64, in_order: bool) {
        let newest = if in_order { &mut self.newest } else { self.by_id.entry(id.to_string()).or_default() };
        *newest = (*newest).max(mark);
    }

    fn has(&self, id: &WorkspaceId, mark: u64, in_order: bool) -> bool {
        let newest = if in_order { Some(&self.newest) } else { self.by_id.get(&id.to_string()) };
        newest.is_some_and(|newest| *newest >= mark)
    }

    fn merge(&mut self, other: Self) {
        self.newest = self.newest.max(other.newest);
        for (id, mark) in other.by_id {
            let newest = self.by_id.entry(id).or_default();
            *newest = (*newest).max(mark);
        }
    }
}

/// Of users' workspaces alone.
impl From<u64> for SeenMarks {
    fn from(newest: u64) -> Self {
        Self { newest, ..Self::default() }
    }
}

/// What was taken in of what the others tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The marks that were seen here.
    pub(crate) seen: SeenMarks,
    /// The names of those that have been gone for [`GONE`], while all that runs was seen: what they told is told here
    /// by now, and their records are of no use any more.
    pub(crate) gone: BTreeSet<String>,
}

/// What is known of the others.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// Whether the marks of users' workspaces have no order, and each is told for itself.
    pub(crate) apart: bool,
    /// Whether this Usher is the one that stops what is idle.
    pub(crate) leads: bool,
    /// What was taken in.
    pub(crate) heard: Heard,
    /// Whether this Usher could not tell the others for [`CUT_OFF`].
    pub(crate) cut_off: bool,
    /// Whether others could, as was heard since.
    pub(crate) others_can: bool,
    /// The marks that this Usher told to have seen, and heard itself tell.
    echo: SeenMarks,
    others: BTreeMap<String, Peer>,
    /// Those that ended or fell silent, and since when, as far as all that runs was seen.
    gone: BTreeMap<String, Instant>,
    /// Workspaces that somebody told of and that are not known here, and since when.
    strangers: BTreeMap<WorkspaceId, Instant>,
}

#[derive(Debug)]
struct Peer {
    /// When it was heard last, or could have been.
    heard: Instant,
    /// When it was heard last.
    told: Instant,
    seen: SeenMarks,
}

/// What is heard of the others.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PeerNews {
    /// One wrote.
    Told(Told),
    /// What this Usher wrote itself, with the marks that it had seen.
    Echo(SeenMarks),
    /// The record of one was deleted.
    Deleted(String),
}

/// What one of the others wrote down.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    /// Its name.
    pub(crate) name: String,
    /// The marks that it had seen.
    pub(crate) seen: SeenMarks,
    /// Whether it told this when it ended: nobody waits for it any more.
    pub(crate) last: bool,
    /// Use as it knew it then.
    pub(crate) uses: Vec<(WorkspaceId, Kept)>,
}

impl Peers {
    /// Whether this one's marks are told in order with all others.
    fn in_order(&self, id: &WorkspaceId) -> bool {
        !self.apart && id.route().is_none()
    }

    /// How a workspace is marked, as it was told now. What is told for itself is forgotten with its mark: whoever still
    /// sees that waits until they see its end.
    pub(crate) fn note(&mut self, id: &WorkspaceId, mark: Option<u64>) {
        let in_order = self.in_order(id);
        match mark {
            Some(mark) => self.heard.seen.note(id, mark, in_order),
            None if !in_order && !self.heard.seen.by_id.is_empty() => {
                self.heard.seen.by_id.remove(&id.to_string());
            }
            None => {}
        }
    }

    /// Whether this Usher may stop what is unused: one that is cut off does not know what the others do.
    pub(crate) fn leads(&self) -> bool {
        self.leads && !self.cut_off
    }

    /// One of the others wrote.
    pub(crate) fn heard(&mut self, name: &str, seen: impl Into<SeenMarks>, now: Instant) {
        self.deleted(name);
        self.others.insert(name.to_owned(), Peer { heard: now, told: now, seen: seen.into() });
    }

    /// One of the others ended.
    pub(crate) fn left(&mut self, name: &str, now: Instant) {
        self.others.remove(name);
        self.gone.entry(name.to_owned()).or_insert(now);
    }

    /// The record of one was deleted. Whether it ended that does not say: whoever wrote it may live.
    pub(crate) fn deleted(&mut self, name: &str) {
        self.gone.remove(name);
        self.heard.gone.remove(name);
    }

    /// What runs is seen again: what those told that are gone is taken over from now on.
    pub(crate) fn sighted(&mut self, now: Instant) {
        self.gone.values_mut().for_each(|since| *since = now);
        self.heard.gone.clear();
    }

    /// Looks at the time: takes note of whose records are of no use any more, if all that runs is `seen`.
    pub(crate) fn look_at_gone(&mut self, seen: bool, now: Instant) {
        let Self { gone, heard, .. } = self;
        if seen {
            let long = gone.iter().filter(|(_, since)| now.saturating_duration_since(**since) >= GONE);
            heard.gone.extend(long.map(|(name, _)| name.clone()));
        }
    }

    /// Somebody told of a workspace that is not known here, or not yet.
    pub(crate) fn met(&mut self, stranger: WorkspaceId, now: Instant) {
        self.strangers.entry(stranger).or_insert(now);
    }

    /// Those of the strangers that nobody will get to know any more.
    pub(crate) fn forget_strangers(&mut self, now: Instant) -> Vec<WorkspaceId> {
        let old = |since: &Instant| now.saturating_duration_since(*since) >= GONE;
        let forgotten: Vec<_> =
            self.strangers.iter().filter(|(_, since)| old(since)).map(|(id, _)| id.clone()).collect();
        self.strangers.retain(|_, since| !old(since));
        forgotten
    }

    /// This Usher heard what it wrote itself, and so everything that any other wrote before.
    pub(crate) fn echo(&mut self, seen: impl Into<SeenMarks>) {
        self.echo.merge(seen.into());
    }

    /// Takes in when this Usher last wrote. While it cannot, nobody's silence counts.
    pub(crate) fn wrote(&mut self, at: Instant, now: Instant) {
        let since = now.saturating_duration_since(at);
        self.cut_off = since >= CUT_OFF;
        // What was written at about the same time was heard before the trouble began.
        self.others_can = self.others.values().any(|peer| peer.told >= at + DEAF);
        if since >= DEAF {
            self.others.values_mut().for_each(|peer| peer.heard = now);
        }
    }

    /// Forgets those that were not heard for [`GONE`]; tells whether there were any.
    pub(crate) fn forget_silent(&mut self, now: Instant) -> bool {
        let silent = |peer: &Peer| now.saturating_duration_since(peer.heard) >= GONE;
        let before = self.others.len();
        let fell_silent = self.others.iter().filter(|(_, peer)| silent(peer));
        self.gone.extend(fell_silent.map(|(name, _)| (name.clone(), now)));
        self.others.retain(|_, peer| !silent(peer));
        self.others.len() < before
    }

    /// Whether all have told what they know since they saw this mark: the others that are not gone, and this Usher
    /// itself, or one that began to serve a moment ago might not have been heard of yet.
    pub(crate) fn have_seen(&self, id: &WorkspaceId, mark: u64, now: Instant) -> bool {
        let lives = |peer: &&Peer| now.saturating_duration_since(peer.heard) < GONE;
        let in_order = self.in_order(id);
        self.echo.has(id, mark, in_order)
            && self.others.values().filter(lives).all(|peer| peer.seen.has(id, mark, in_order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_seen_when_all_that_live_have_told_so() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let alice = WorkspaceId::parse("alice").unwrap();
        let mut peers = Peers::default();
        assert!(!peers.have_seen(&alice, 7, at(0)), "who is there is not known before it hears itself");
        peers.echo(7);
        peers.echo(6);
        assert!(peers.have_seen(&alice, 7, at(0)), "nobody else is there");
        peers.heard("b", 7, at(0));
        peers.heard("c", 6, at(10));
        assert!(!peers.have_seen(&alice, 7, at(20)), "c has not");
        peers.heard("c", 7, at(30));
        assert!(peers.have_seen(&alice, 7, at(40)));
        assert!(!peers.have_seen(&alice, 8, at(40)));
        peers.echo(8);
        peers.heard("b", 8, at(60));
        assert!(!peers.have_seen(&alice, 8, at(329)), "c may only be slow");
        assert!(peers.have_seen(&alice, 8, at(330)), "c is gone");
        peers.heard("c", 0, at(400));
        assert!(!peers.have_seen(&alice, 8, at(400)), "c is back");
        peers.left("c", at(400));
        assert!(peers.have_seen(&alice, 8, at(400)));
        assert!(peers.forget_silent(at(400)) && !peers.forget_silent(at(400)), "b is gone");
    }
    #[test]
    fn a_mark_of_a_route_is_seen_by_who_has_seen_that_one_and_no_newer_mark_of_others_tells_it() {
        let now = Instant::now();
        let id = |text| WorkspaceId::parse(text).unwrap();
        let (alice, docs, wiki) = (id("alice"), id("route:docs"), id("route:wiki"));
        let mut own = SeenMarks::from(100);
        own.note(&docs, 50, false);
        let mut peers = Peers::default();
        peers.echo(own.clone());
        peers.heard("b", 100, now);
        assert!(peers.have_seen(&alice, 100, now));
        assert!(!peers.have_seen(&docs, 50, now), "b has not");
        let json = serde_json::to_value(&own).unwrap();
        assert_eq!(json, serde_json::json!({ "seen": 100, "seen_of_routes": { "route:docs": 50 } }));
        peers.heard("b", serde_json::from_value::<SeenMarks>(json).unwrap(), now);
        assert!(peers.have_seen(&docs, 50, now) && !peers.have_seen(&docs, 51, now));
        assert!(!peers.have_seen(&wiki, 1, now) && !peers.have_seen(&alice, 101, now));
    }

    #[test]
    fn where_marks_have_several_orders_no_newer_one_tells_of_an_older_and_none_is_kept_that_is_gone() {
        let now = Instant::now();
        let id = |text| WorkspaceId::parse(text).unwrap();
        let (alice, bob) = (id("alice"), id("bob"));
        let mut peers = Peers { apart: true, ..Peers::default() };
        peers.note(&alice, Some(100));
        peers.echo(peers.heard.seen.clone());
        peers.heard("b", SeenMarks::from(1000), now);
        assert!(!peers.have_seen(&alice, 100, now), "b tells of an order that there is not");
        peers.heard("b", peers.heard.seen.clone(), now);
        assert!(peers.have_seen(&alice, 100, now) && !peers.have_seen(&bob, 50, now));
        peers.note(&bob, Some(50));
        peers.note(&alice, None);
        let json = serde_json::to_value(&peers.heard.seen).unwrap();
        assert_eq!(json, serde_json::json!({ "seen": 0, "seen_of_routes": { "bob": 50 } }));
    }
}
