//! Answers to logins and tokens that were no good: held, so that guessing is slow.

use super::{ADDRESSES_MAX, Source, cache, count};
use moka::sync::Cache;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long the first is held: hardly noticed by a person. Each further one of an address twice as long, up to
/// [`LONGEST`].
const FIRST: Duration = Duration::from_millis(250);
/// As long as somebody waits who has mistyped often.
const LONGEST: Duration = Duration::from_secs(4);
/// When the failures of an address are forgotten.
const FORGOTTEN: Duration = Duration::from_mins(10);
/// The most answers that are held at once: each is a connection and some KiB.
pub(super) const HELD_MAX: u32 = 1000;

/// How often addresses have failed, and the answers that are held.
pub(super) struct Delays {
    failures: Cache<Source, Arc<AtomicU32>>,
    held: Semaphore,
    first: Duration,
}

impl Default for Delays {
    fn default() -> Self {
        Self::beginning_with(FIRST)
    }
}

impl Delays {
    /// With another time than [`FIRST`].
    pub(super) fn beginning_with(first: Duration) -> Self {
        let failures = cache(ADDRESSES_MAX, FORGOTTEN);
        Self { failures, held: Semaphore::new(HELD_MAX as usize), first }
    }

    /// Notes a failure, and waits as long as its answer is held.
    ///
    /// # Errors
    /// At once, if too many are held: when to try again.
    pub(super) async fn hold(&self, source: Source) -> Result<(), Duration> {
        let failures = self.failures.get_with(source, Arc::default).fetch_add(1, Relaxed);
        let _held = self.held.try_acquire().map_err(|_| LONGEST)?;
        tokio::time::sleep(delay(self.first, failures)).await;
        Ok(())
    }

    /// How many addresses it knows.
    pub(super) fn entries(&self) -> u64 {
        count(&self.failures)
    }
}

/// How long the answer is held of one who has failed so often before.
fn delay(first: Duration, failures: u32) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, timeout};

    fn from(address: &str) -> Source {
        Source::of(address.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn each_failure_of_an_address_is_answered_later_than_the_last() {
        let delays = Delays::default();
        for millis in [250, 500, 1000, 2000, 4000, 4000] {
            let before = Instant::now();
            delays.hold(from("192.0.2.1")).await.unwrap();
            assert_eq!(before.elapsed(), Duration::from_millis(millis));
        }
        let before = Instant::now();
        delays.hold(from("192.0.2.2")).await.unwrap();
        assert_eq!(before.elapsed(), FIRST, "another address has not failed yet");
        assert_eq!(delay(FIRST, u32::MAX), LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_answers_are_held_than_are_allowed() {
        let delays = Delays::default();
        let all = (0..HELD_MAX).map(|n| delays.hold(Source::of(std::net::Ipv4Addr::from_bits(n).into())));
        let mut all = Box::pin(futures_util::future::join_all(all));
        assert!(timeout(Duration::from_millis(1), &mut all).await.is_err(), "they are held");
        let before = Instant::now();
        assert_eq!(delays.hold(from("192.0.2.1")).await, Err(LONGEST));
        assert_eq!(before.elapsed(), Duration::ZERO);
        assert!(all.await.iter().all(Result::is_ok));
        assert!(delays.hold(from("192.0.2.3")).await.is_ok(), "they are free again");
    }
}
