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
//! A connection may itself have gone to somebody else: what the table tells is believed for some seconds after the
//! cluster fell silent, and while it is silent a proof is. So a connection bears no witness until it is known that the
//! instance had its address after it was opened: by the table, once that was surely true at a later moment
//! ([`Sight`]), or by an older connection that has spoken since. Without that, one mistake would vouch for itself until the
//! driver sees again.

use crate::activity::{at, ms_of, now_ms};
use std::sync::Arc;
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
    news: Notify,
}

/// Until when all that the table tells of one scope was surely true. Cheap to clone; written by the control loop, read by all.
#[derive(Debug, Clone, Default)]
pub struct Sight(Arc<AtomicU64>);

impl Sight {
    /// It was true at this moment.
    pub fn reaches(&self, time: Instant) {
        self.0.fetch_max(ms_of(time), Relaxed);
    }

    /// Whether it was true at this moment, or later.
    fn covers(&self, time: Instant) -> bool {
        self.0.load(Relaxed) > ms_of(time)
    }
}

impl Default for Proof {
    fn default() -> Self {
        // Times before the first reading of the clock would all be 0.
        let _ = now_ms();
        Self { at: AtomicU64::default(), news: Notify::default() }
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

    /// Something came at this time, or later, on a connection that was opened then, by the table that is seen so.
    pub fn heard(&self, time: Instant, opened: Instant, sight: &Sight) {
        if sight.covers(opened) || self.is_newer_than(opened) {
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

    /// A table that was true at this moment.
    fn seen_at(time: Instant) -> Sight {
        let sight = Sight::default();
        sight.reaches(time);
        sight
    }

    #[test]
    fn a_proof_holds_for_as_long_as_the_word_of_a_watch() {
        let (proof, now) = (Proof::default(), begun());
        let (opened, sight) = (now - ms(500), seen_at(now - ms(400)));
        assert!(!proof.holds(now), "nothing was heard yet");
        proof.heard(now, opened, &sight);
        assert!(proof.holds(now) && proof.holds(now + BELIEVED - ms(2)));
        assert!(!proof.holds(now + BELIEVED + ms(2)));
        proof.heard(now - ms(300), opened, &sight);
        assert!(proof.holds(now + BELIEVED - ms(2)), "what came earlier takes nothing back");
    }

    #[test]
    fn what_was_opened_after_the_table_was_last_true_bears_no_witness_until_an_older_one_has_spoken_since() {
        let (proof, now) = (Proof::default(), begun());
        let (older, sight, younger) = (now, seen_at(now + ms(100)), now + ms(3000));
        for after in [4000, 9000] {
            proof.heard(now + ms(after), younger, &sight);
            assert!(!proof.is_newer_than(now), "it vouched for itself");
        }
        // The older one speaks of a time before it, and then of one after it.
        proof.heard(now + ms(2000), older, &sight);
        proof.heard(now + ms(9000), younger, &sight);
        assert!(!proof.is_newer_than(now + ms(2000)));
        proof.heard(now + ms(3002), older, &sight);
        proof.heard(now + ms(9000), younger, &sight);
        assert!(proof.is_newer_than(now + ms(8998)));
    }

    #[tokio::test]
    async fn who_waits_for_news_gets_them_also_if_they_come_before_the_first_look() {
        let (proof, now) = (Proof::default(), begun());
        let news = proof.news();
        proof.heard(now, now - ms(20), &seen_at(now - ms(10)));
        tokio::time::timeout(ms(5000), news).await.expect("it was told");
    }
}
