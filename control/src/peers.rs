//! What other Ushers with the same workspaces have told.
//!
//! Each Usher writes down, at most once in a while, the last use of all workspaces as it knows it and the newest
//! mark that it has seen. A marked workspace is stopped only when all have written since they saw the mark: whoever
//! knows of a newer use takes the mark back before.

use crate::usage::Kept;
use config::WorkspaceId;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// An Usher that was not heard for so long is gone, and nobody waits for it any more.
pub(crate) const GONE: Duration = Duration::from_secs(300);
/// An Usher that could not write for so long serves nobody until it can: the others are about to take it for gone,
/// and will stop what is used through it alone.
pub(crate) const CUT_OFF: Duration = Duration::from_secs(240);

/// What is known of the others.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    /// Whether this Usher is the one that stops what is idle.
    pub(crate) leads: bool,
    /// The number of the newest mark that was seen here.
    pub(crate) seen: u64,
    /// Whether this Usher could not tell the others for [`CUT_OFF`], and serves nobody.
    pub(crate) cut_off: bool,
    /// The number of the newest mark that this Usher told, and heard itself tell.
    echo: u64,
    others: BTreeMap<String, Peer>,
}

#[derive(Debug)]
struct Peer {
    heard: Instant,
    seen: u64,
}

/// What is heard of the others.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PeerNews {
    /// One wrote.
    Told(Told),
    /// What this Usher wrote itself, with the number of the newest mark that it had seen.
    Echo(u64),
}

/// What one of the others wrote down.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    /// Its name.
    pub(crate) name: String,
    /// The number of the newest mark that it had seen.
    pub(crate) seen: u64,
    /// Whether it told this when it ended: nobody waits for it any more.
    pub(crate) last: bool,
    /// Use as it knew it then.
    pub(crate) uses: Vec<(WorkspaceId, Kept)>,
}

impl Peers {
    /// Whether this Usher may stop what is unused: one that is cut off does not know what the others do.
    pub(crate) fn leads(&self) -> bool {
        self.leads && !self.cut_off
    }

    /// One of the others wrote.
    pub(crate) fn heard(&mut self, name: &str, seen: u64, now: Instant) {
        self.others.insert(name.to_owned(), Peer { heard: now, seen });
    }

    /// One of the others ended.
    pub(crate) fn left(&mut self, name: &str) {
        self.others.remove(name);
    }

    /// This Usher heard what it wrote itself, and so everything that any other wrote before.
    pub(crate) fn echo(&mut self, seen: u64) {
        self.echo = self.echo.max(seen);
    }

    /// Forgets those that were not heard for [`GONE`]; tells whether there were any.
    pub(crate) fn forget_silent(&mut self, now: Instant) -> bool {
        let before = self.others.len();
        self.others.retain(|_, peer| now.saturating_duration_since(peer.heard) < GONE);
        self.others.len() < before
    }

    /// Whether all have told what they know since they saw this mark: the others that are not gone, and this Usher
    /// itself, or one that began to serve a moment ago might not have been heard of yet.
    pub(crate) fn have_seen(&self, mark: u64, now: Instant) -> bool {
        let lives = |peer: &&Peer| now.saturating_duration_since(peer.heard) < GONE;
        self.echo >= mark && self.others.values().filter(lives).all(|peer| peer.seen >= mark)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_seen_when_all_that_live_have_told_so() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut peers = Peers::default();
        assert!(!peers.have_seen(7, at(0)), "who is there is not known before it hears itself");
        peers.echo(7);
        peers.echo(6);
        assert!(peers.have_seen(7, at(0)), "nobody else is there");
        peers.heard("b", 7, at(0));
        peers.heard("c", 6, at(10));
        assert!(!peers.have_seen(7, at(20)), "c has not");
        peers.heard("c", 7, at(30));
        assert!(peers.have_seen(7, at(40)));
        assert!(!peers.have_seen(8, at(40)));
        peers.echo(8);
        peers.heard("b", 8, at(60));
        assert!(!peers.have_seen(8, at(329)), "c may only be slow");
        assert!(peers.have_seen(8, at(330)), "c is gone");
        peers.heard("c", 0, at(400));
        assert!(!peers.have_seen(8, at(400)), "c is back");
        peers.left("c");
        assert!(peers.have_seen(8, at(400)));
        assert!(peers.forget_silent(at(400)) && !peers.forget_silent(at(400)), "b is gone");
    }
}
