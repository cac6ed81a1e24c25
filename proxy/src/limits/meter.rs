//! One cell: so much a minute.

use super::MINUTE;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use std::num::NonZeroU32;
use std::time::Duration;

/// Lets so much through a minute, and as much at once. Shared by all cores: an atomic number.
#[derive(Debug)]
pub struct Meter {
    rate: u32,
    /// None lets nothing through.
    cell: Option<DefaultDirectRateLimiter>,
}

impl Meter {
    /// A full one.
    pub(super) fn per_minute(rate: u32) -> Self {
        let cell = NonZeroU32::new(rate).map(|rate| RateLimiter::direct(Quota::per_minute(rate)));
        Self { rate, cell }
    }

    /// How much it lets through in a minute.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Takes all of it, or nothing.
    ///
    /// # Errors
    /// There is not so much: how long until there is.
    pub fn take(&self, many: u32) -> Result<(), Duration> {
        let (Some(cell), Some(many)) = (&self.cell, NonZeroU32::new(many)) else {
            return if many == 0 { Ok(()) } else { Err(MINUTE) };
        };
        match cell.check_n(many) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_yet)) => Err(not_yet.wait_time_from(DefaultClock::default().now())),
            // More than it ever holds.
            Err(_) => Err(MINUTE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minutes_worth_passes_at_once_and_then_as_it_refills() {
        let meter = Meter::per_minute(60);
        assert!((0..60).all(|_| meter.take(1).is_ok()));
        let wait = meter.take(1).unwrap_err();
        assert!(wait > Duration::from_millis(500) && wait <= Duration::from_secs(1), "{wait:?}");
        std::thread::sleep(wait);
        assert_eq!(meter.take(1), Ok(()));
        assert!(meter.take(1).is_err());
    }

    #[test]
    fn what_is_more_than_there_is_takes_nothing() {
        let meter = Meter::per_minute(10);
        assert_eq!(meter.take(11), Err(MINUTE));
        assert_eq!((meter.take(7), meter.take(4).is_err(), meter.take(3)), (Ok(()), true, Ok(())));
        let none = Meter::per_minute(0);
        assert_eq!((none.take(1), none.take(0)), (Err(MINUTE), Ok(())));
        assert_eq!(Meter::per_minute(u32::MAX).take(u32::MAX), Ok(()));
    }
}
