//! How long to wait before something is tried again.

use ring::rand::{SecureRandom, SystemRandom};
use std::time::Duration;

/// The pause after the first failure; it doubles up to the last.
const FIRST: Duration = Duration::from_millis(100);
/// So long at most: the truth is owed within 5 s of the API's return, and a list takes its time, too.
const LAST: Duration = Duration::from_secs(2);

/// The pause after the `nth` failure in a row (from 0).
pub(crate) fn after(nth: u32) -> Duration {
    spread(FIRST.saturating_mul(2_u32.saturating_pow(nth)).min(LAST), chance())
}

/// From half of it to the whole, so that those who failed together do not come back together.
pub(crate) fn spread(whole: Duration, chance: u8) -> Duration {
    whole / 2 + whole / 2 * u32::from(chance) / u32::from(u8::MAX)
}

pub(crate) fn chance() -> u8 {
    let mut byte = [0];
    // Without it they come back together, which is bearable.
    let _ = SystemRandom::new().fill(&mut byte);
    byte[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_two_seconds_and_never_beyond() {
        for (nth, most) in [(0, 100), (1, 200), (3, 800), (5, 2000), (u32::MAX, 2000)] {
            let pause = after(nth);
            let most = Duration::from_millis(most);
            assert!(pause >= most / 2 && pause <= most, "{nth}: {pause:?}");
        }
    }

    #[test]
    fn a_pause_is_spread_over_half_of_it() {
        let whole = Duration::from_secs(1);
        assert_eq!((spread(whole, 0), spread(whole, u8::MAX)), (whole / 2, whole));
    }
}
