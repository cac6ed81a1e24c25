//! What an instance itself proves: that its address is still its own.
//!
//! While the driver is blind, the table is as old as the silence, and the address of a pod that has ended may be
//! somebody else's by now. But what arrives on a connection that was opened to the instance was sent from its own
//! network: a kernel that does not know a connection resets it and says nothing on it, and another pod at the same
//! address is another kernel's network, which knows none of these connections. So a byte (or a bare acknowledgement)
//! that came at some moment says that at that moment the address still belonged to this instance, as surely as the
//! driver says it. It is believed for as long as the driver's word is: [`BELIEVED`]. A connection that is merely
//! open says nothing: its end may be lost with the pod.
//!
//! A connection that was opened on the strength of such a proof may have gone to somebody else, in the few seconds
//! between. It bears no witness itself until an older one has spoken after it was opened: an instance that has its
//! address then had it all the time. Without that, one mistake would vouch for itself until the driver sees again.

use crate::activity::{at, ms_of, now_ms};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// For how long a proof is believed: as long as what a watch told, which is blind after so much silence.
pub const BELIEVED: Duration = Duration::from_secs(10);

/// The proofs of one instance, or of one of several that together are one: written by all who read from it, read by
/// who would dial it. No lock: times are milliseconds since the process began, 0 = never.
#[derive(Debug)]
pub struct Proof {
    /// The latest moment at which it surely had its address.
    at: AtomicU64,
    /// When it was last dialled with nothing but this to say that it may be.
    relied_on: AtomicU64,
    news: Notify,
}

/// What said, when a connection was opened, that its address is its instance's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vouched {
    /// The table, which was believed.
    Table,
    /// Only a [`Proof`], and the connection was there at this time.
    Proof(Instant),
}

impl Default for Proof {
    fn default() -> Self {
        // Times before the first reading of the clock would all be 0.
        let _ = now_ms();
        Self { at: AtomicU64::default(), relied_on: AtomicU64::default(), news: Notify::default() }
    }
}

impl Proof {
    /// Whether it may be dialled now, though the table is not believed.
    pub fn holds(&self, now: Instant) -> bool {
        at(&self.at).is_some_and(|proved| now.saturating_duration_since(proved) < BELIEVED)
    }

    /// Whether something newer than this is known.
    pub fn is_newer_than(&self, time: Instant) -> bool {
        self.at.load(Relaxed) > ms_of(time)
    }

    /// Notes a connection for which nothing else vouched. To be told before anything can be read from it.
    pub fn relied_on(&self, opened: Instant) {
        self.relied_on.fetch_max(ms_of(opened), Relaxed);
    }

    /// Something came at this time, or later, on this connection.
    pub fn heard(&self, time: Instant, vouched: Vouched) {
        if let Vouched::Proof(opened) = vouched
            && self.at.load(Relaxed) <= ms_of(opened)
        {
            return;
        }
        self.advance(time);
    }

    /// The same on a connection of which it is not known when it was opened: it counts if any would.
    pub fn heard_somewhere(&self, time: Instant) {
        let relied_on = self.relied_on.load(Relaxed);
        if relied_on == 0 || self.at.load(Relaxed) > relied_on {
            self.advance(time);
        }
    }

    /// Completes when something newer is known. To be called before looking.
    pub fn news(&self) -> Notified<'_> {
        self.news.notified()
    }

    fn advance(&self, time: Instant) {
        let time = ms_of(time);
        if self.at.fetch_max(time, Relaxed) < time {
            self.news.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A moment that every age in these tests fits before, since the process has begun.
    fn begun() -> Instant {
        clock::now() + ms(1000)
    }

    #[test]
    fn a_proof_holds_for_as_long_as_the_word_of_a_watch() {
        let (proof, now) = (Proof::default(), begun());
        assert!(!proof.holds(now), "nothing was heard yet");
        proof.heard(now, Vouched::Table);
        assert!(proof.holds(now) && proof.holds(now + BELIEVED - ms(2)));
        assert!(!proof.holds(now + BELIEVED + ms(2)));
        proof.heard(now - ms(500), Vouched::Table);
        assert!(proof.holds(now + BELIEVED - ms(2)), "what came earlier takes nothing back");
    }

    #[test]
    fn a_connection_bears_witness_only_once_an_older_one_has_spoken_after_it_was_opened() {
        let (proof, now) = (Proof::default(), begun());
        proof.heard(now, Vouched::Table);
        let opened = now + ms(3000);
        proof.relied_on(opened);
        let later = Vouched::Proof(opened);
        for after in [4000, 9000] {
            proof.heard(now + ms(after), later);
            proof.heard_somewhere(now + ms(after));
        }
        assert!(!proof.holds(now + BELIEVED + ms(2)), "it vouched for itself");
        // The older one speaks of a time before it, and then of one after it.
        proof.heard(now + ms(2000), Vouched::Table);
        proof.heard(now + ms(9000), later);
        assert!(!proof.is_newer_than(now + ms(2000)));
        proof.heard(now + ms(3002), Vouched::Table);
        proof.heard(now + ms(9000), later);
        assert!(proof.is_newer_than(now + ms(8998)));
    }

    #[test]
    fn what_comes_on_an_unknown_connection_counts_only_if_all_are_sure() {
        let (proof, now) = (Proof::default(), begun());
        proof.heard_somewhere(now);
        assert!(proof.holds(now), "all were opened while the table was believed");
        proof.relied_on(now + ms(10));
        proof.heard_somewhere(now + ms(20));
        assert!(!proof.is_newer_than(now));
        proof.heard(now + ms(30), Vouched::Table);
        proof.heard_somewhere(now + ms(40));
        assert!(proof.is_newer_than(now + ms(38)));
    }

    #[tokio::test]
    async fn who_waits_for_news_gets_them_also_if_they_come_before_the_first_look() {
        let (proof, now) = (Proof::default(), begun());
        let news = proof.news();
        proof.heard(now, Vouched::Table);
        tokio::time::timeout(ms(5000), news).await.expect("it was told");
    }
}
