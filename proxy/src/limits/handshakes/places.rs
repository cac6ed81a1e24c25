//! The places of handshakes that are under way: so many, and when all are taken, who has most gives one up.

use arc_swap::{ArcSwapOption, Guard};
use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use tokio::sync::Notify;

/// How many places are looked at for one handshake. With more of them than that, those are looked at that stand evenly
/// apart: who has many stands at many, so what is found there weighs as good as most. It takes some microseconds.
const LOOKED_AT: usize = 256;
/// How often a place that somebody else took meanwhile is given up for another one.
const TRIES: usize = 4;

/// All places; each is taken and given up by one change of a pointer, without a lock.
///
/// Where all are taken, the oldest handshake ends of the source that has most under way, if that are more than those of
/// the newcomer's. So whoever fills all places with silent connections gives them up one by one to those who have none,
/// and somebody who has one is never ended for somebody who has more. A source is an address, or a /48 of IPv6; within
/// one the same holds of its /64.
pub(super) struct Places {
    places: Box<[ArcSwapOption<Seat>]>,
    /// How many have come: where the next one begins to look, and who is older.
    came: AtomicU64,
}

/// Where a handshake comes from, by how many of there are under way.
pub(super) struct Weighed {
    /// Of its address, or its /64.
    own: Arc<AtomicUsize>,
    /// Of its /48.
    network: Option<Arc<AtomicUsize>>,
}

/// Why there is no place for it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// Its source has all that one may have.
    OfShare,
    /// All are taken, and no source has more than its own.
    AtAll,
}

/// Who is at a place.
struct Seat {
    /// None: it is for many, and never ended.
    weighed: Option<Weighed>,
    came: u64,
    ended: Notify,
}

/// Who is to go first: how many there are of the source, how many of the /64, and who is the oldest of them.
type Weight = (usize, usize, Reverse<u64>);

/// A handshake that is under way as long as this lives.
pub struct UnderWay {
    places: Arc<Places>,
    at: usize,
    seat: Arc<Seat>,
}

impl Places {
    /// So many, all free.
    pub(super) fn new(many: usize) -> Self {
        Self { places: (0..many).map(|_| ArcSwapOption::empty()).collect(), came: AtomicU64::new(0) }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Takes one, if need be that of another. One source has no more than `share`.
    pub(super) fn take(
        self: &Arc<Self>,
        weighed: Option<Weighed>,
        share: usize,
    ) -> Result<UnderWay, NoPlace> {
        let came = self.came.fetch_add(1, Relaxed);
        // Counted first and looked at then: two that come at once may both be turned away, and never both have one too many.
        let had = weighed.as_ref().map_or((0, 0), Weighed::add);
        let seat = Arc::new(Seat { weighed, came, ended: Notify::new() });
        for _ in 0..TRIES {
            let (at, before) = match self.look(&seat, had, had.0 < share) {
                Some(found) => found,
                None => break,
            };
            let found = self.places[at].compare_and_swap(&before, Some(seat.clone()));
            if found.as_ref().map(Arc::as_ptr) == before.as_ref().map(Arc::as_ptr) {
                before.iter().for_each(|before| before.end());
                return Ok(UnderWay { places: self.clone(), at, seat });
            }
        }
        seat.leave();
        Err(if had.0 < share { NoPlace::AtAll } else { NoPlace::OfShare })
    }

    /// The place to take: a free one, unless it has to be of its own network; else that of whoever is to go.
    fn look(
        &self,
        seat: &Seat,
        had: (usize, usize),
        may_be_free: bool,
    ) -> Option<(usize, Option<Arc<Seat>>)> {
        let looked_at = self.len().min(LOOKED_AT);
        let apart = self.len().checked_div(looked_at)?;
        let first = usize::try_from(seat.came % self.len() as u64).ok()?;
        let (mut most, mut found) = (None::<Weight>, None);
        for step in 0..looked_at {
            let at = (first + step * apart) % self.len();
            let other = self.places[at].load();
            match other.as_deref() {
                None if may_be_free => return Some((at, None)),
                None => {}
                Some(theirs) => {
                    let Some(weight) = seat.outweighed_by(theirs, had, may_be_free) else { continue };
                    if most.is_none_or(|most| weight > most) {
                        (most, found) = (Some(weight), Some((at, other)));
                    }
                }
            }
        }
        found.map(|(at, other)| (at, Guard::into_inner(other)))
    }
}

impl Weighed {
    pub(super) fn new(own: Arc<AtomicUsize>, network: Option<Arc<AtomicUsize>>) -> Self {
        Self { own, network }
    }

    /// Counts one more; how many of its source, and of its /64, there were.
    fn add(&self) -> (usize, usize) {
        let own = self.own.fetch_add(1, Relaxed);
        (self.network.as_ref().map_or(own, |network| network.fetch_add(1, Relaxed)), own)
    }

    fn remove(&self) {
        self.own.fetch_sub(1, Relaxed);
        if let Some(network) = &self.network {
            network.fetch_sub(1, Relaxed);
        }
    }

    fn weight(&self) -> (usize, usize) {
        let own = self.own.load(Relaxed);
        (self.network.as_ref().map_or(own, |network| network.load(Relaxed)), own)
    }

    fn is_beside(&self, other: &Self) -> bool {
        matches!((&self.network, &other.network), (Some(one), Some(other)) if Arc::ptr_eq(one, other))
    }
}

impl Seat {
    /// The weight of another, if that is to go for this one, of whose there were so many.
    fn outweighed_by(&self, other: &Self, had: (usize, usize), may_be_any: bool) -> Option<Weight> {
        let theirs = other.weighed.as_ref()?;
        let (group, own) = theirs.weight();
        let goes = match &self.weighed {
            Some(ours) if Arc::ptr_eq(&ours.own, &theirs.own) => false,
            Some(ours) if ours.is_beside(theirs) => own > had.1,
            _ => may_be_any && group > had.0,
        };
        goes.then_some((group, own, Reverse(other.came)))
    }

    /// Its place is another's now.
    fn end(&self) {
        self.leave();
        self.ended.notify_one();
    }

    fn leave(&self) {
        self.weighed.iter().for_each(Weighed::remove);
    }
}

impl UnderWay {
    /// Completes when its place was given to another: it is to end then.
    pub async fn ended(&self) {
        self.seat.ended.notified().await;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let found = self.places.places[self.at].compare_and_swap(&self.seat, None);
        if found.as_ref().is_some_and(|found| Arc::ptr_eq(found, &self.seat)) {
            self.seat.leave();
        }
    }
}

#[cfg(test)]
mod tests;
