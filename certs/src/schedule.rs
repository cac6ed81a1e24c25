//! When what is to be done: decisions, with the time as an argument.

use crate::retry_after::RetryAfter;
use crate::state::{Standing, State, time, unix};
use crate::told::cut;
use ring::digest::{SHA256, digest};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// How many validations of one certificate may fail within [`HOUR`]: what Let's Encrypt bears, of each name.
pub(crate) const FAILED_VALIDATIONS: usize = 5;
pub(crate) const HOUR: Duration = Duration::from_hours(1);
/// How many orders may give what cannot be served within [`DAY`], of each authority and certificate: who gives a wrong one
/// mostly gives another.
const UNFIT: usize = 3;
pub(crate) const DAY: Duration = Duration::from_hours(24);
const WEEK: Duration = Duration::from_hours(7 * 24);
/// The first wait after a failure; each further one doubles it, up to [`WAIT_MAX`].
const WAIT: Duration = Duration::from_mins(1);
const WAIT_MAX: Duration = Duration::from_hours(1);
/// How long an authority may make us wait: a longer `Retry-After` is a slip of its or of a clock.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_hours(7 * 24);
/// How far clocks of replicas may be apart.
pub(crate) const SKEW: Duration = Duration::from_mins(10);
/// How often an authority that does not say is asked for its window, and how seldom (RFC 9773 §4.3).
pub(crate) const ASK_WINDOW: Duration = Duration::from_hours(6);
pub(crate) const ASK_WINDOW_LEAST: Duration = Duration::from_mins(1);
pub(crate) const ASK_WINDOW_MOST: Duration = Duration::from_hours(24);

/// What there is of a certificate that can be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held<'a> {
    pub(crate) fingerprint: &'a str,
    /// When it came.
    pub(crate) since: SystemTime,
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
}

/// When a certificate is to be got or renewed, whoever gives it: at a third of its life left, or when its authority wants
/// it, spread so that many do not come at once. What there is none of is due since ever.
pub(crate) fn renew_at(held: Option<Held<'_>>, state: &State) -> SystemTime {
    let Some(held) = held else { return SystemTime::UNIX_EPOCH };
    if state.wanted > 0 {
        return SystemTime::UNIX_EPOCH;
    }
    let life = held.not_after.duration_since(held.not_before).unwrap_or_default();
    let fraction = spread(held.fingerprint);
    let latest = held.not_after - life / 10;
    let window = state.window.as_ref().filter(|window| window.of == held.fingerprint);
    let wanted = match window.and_then(|window| window.suggested) {
        // RFC 9773 §4.2: a random moment of the window.
        Some((start, end)) => {
            let width = time(end).duration_since(time(start)).unwrap_or_default();
            time(start) + width.mul_f64(fraction)
        }
        None => held.not_after - life / 3 - (life / 30).mul_f64(fraction),
    };
    let wanted = wanted.min(latest);
    // However soon an authority wants its own certificates renewed, and by whatever clock, it is not asked in a circle. Only
    // a clock that was ahead when it came, and is right now, keeps nothing from being renewed.
    match held.since < held.not_after {
        true => wanted.max(held.since + (life / 30).min(HOUR)),
        false => wanted,
    }
}

/// Of each certificate another fraction of one, and always the same: replicas and restarts agree.
fn spread(fingerprint: &str) -> f64 {
    let hash = digest(&SHA256, fingerprint.as_bytes());
    let first = hash.as_ref().first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
    f64::from(first) / f64::from(u32::MAX)
}

/// When an authority may be asked again, by what it said for all certificates and by how it stands with this one.
pub(crate) fn may_ask_at(
    standing: Option<&Standing>,
    said: Option<&RetryAfter>,
    now: SystemTime,
) -> SystemTime {
    let said = said.map_or(SystemTime::UNIX_EPOCH, |said| said.ends(now));
    let Some(standing) = standing else { return said };
    // A time that is further away than it can be was told by a clock that was wrong.
    let most = if standing.by_its_word { RETRY_AFTER_MAX } else { WAIT_MAX * 2 };
    let own = Some(time(standing.not_before)).filter(|at| *at <= now + most + SKEW);
    own.unwrap_or(said).max(said).max(next_of(&standing.unfit, UNFIT, DAY, now))
}

/// When the next of so many may be within a time.
fn next_of(times: &[u64], most: usize, within: Duration, now: SystemTime) -> SystemTime {
    // What is to come, by more than clocks are apart, was written down by one that was ahead, and counts for nothing.
    let counts = |at: &u64| time(*at) + within > now && time(*at) <= now + SKEW;
    let mut recent: Vec<u64> = times.iter().copied().filter(counts).collect();
    recent.sort_unstable();
    recent.len().checked_sub(most).map_or(SystemTime::UNIX_EPOCH, |first| time(recent[first]) + within)
}

/// When another validation may fail.
pub(crate) fn may_fail_at(failed: &[u64], now: SystemTime) -> SystemTime {
    next_of(failed, FAILED_VALIDATIONS, HOUR, now)
}

/// When an order by ACME is due: [`renew_at`], but not before an authority may be asked and a validation may fail.
pub(crate) fn order_at<'a>(
    held: Option<Held<'_>>,
    state: &State,
    authorities: impl Iterator<Item = (&'a str, Option<&'a RetryAfter>)>,
    now: SystemTime,
) -> SystemTime {
    let first = authorities.map(|(name, said)| may_ask_at(state.authorities.get(name), said, now)).min();
    let permitted = first.unwrap_or(SystemTime::UNIX_EPOCH).max(may_fail_at(&state.failed_validations, now));
    renew_at(held, state).max(permitted)
}

/// How long to wait after so many failures; `chance` is from 0 to 1.
pub(crate) fn wait_after(failures: u32, chance: f64) -> Duration {
    let doubled = WAIT.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(WAIT_MAX);
    doubled.mul_f64(0.8 + 0.4 * chance)
}

/// Notes that an authority failed, and what it said of when to come again for these names.
pub(crate) fn note_failure(
    authorities: &mut BTreeMap<String, Standing>,
    name: &str,
    cause: &str,
    retry_after: Option<Duration>,
    (now, chance): (SystemTime, f64),
) {
    let standing = authorities.entry(name.to_owned()).or_default();
    standing.failures = standing.failures.saturating_add(1);
    let wait = wait_after(standing.failures, chance);
    standing.not_before =
        unix(now + retry_after.map_or(wait, |told| told.clamp(wait.min(WAIT), RETRY_AFTER_MAX)));
    standing.by_its_word = retry_after.is_some();
    standing.cause = cut(cause);
}

/// When another host may get its first certificate, of so many a week.
pub(crate) fn may_begin_at(begun: &[u64], per_week: usize, now: SystemTime) -> SystemTime {
    next_of(begun, per_week, WEEK, now)
}

/// Those that still count.
pub(crate) fn of_this_week(begun: &[u64], now: SystemTime) -> Vec<u64> {
    begun.iter().copied().filter(|at| time(*at) + WEEK > now).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Window;

    fn at(days: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + DAY * u32::try_from(1000 + days).unwrap()
    }

    fn ninety_days() -> Held<'static> {
        Held { fingerprint: "f1", since: at(0), not_before: at(0), not_after: at(90) }
    }

    #[test]
    fn what_there_is_none_of_is_due_at_once() {
        assert_eq!(renew_at(None, &State::default()), SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn a_certificate_is_renewed_with_a_third_of_its_life_left_and_never_all_at_once() {
        let moments: Vec<SystemTime> = ["a", "b", "c", "d"]
            .into_iter()
            .map(|fingerprint| renew_at(Some(Held { fingerprint, ..ninety_days() }), &State::default()))
            .collect();
        for moment in &moments {
            assert!((at(57)..=at(60)).contains(moment), "{moment:?}");
        }
        assert!(moments.windows(2).all(|pair| pair[0] != pair[1]), "{moments:?}");
        let six_days = Held { not_after: at(6), ..ninety_days() };
        let moment = renew_at(Some(six_days), &State::default());
        assert!((at(4) - DAY / 5..=at(4)).contains(&moment), "{moment:?}");
    }

    #[test]
    fn its_authority_may_want_it_renewed_earlier_or_later_but_never_at_the_very_end() {
        let window = |of: &str, start: u64, end: u64| State {
            window: Some(Window {
                of: of.to_owned(),
                suggested: Some((unix(at(start)), unix(at(end)))),
                ask_again: 0,
            }),
            ..State::default()
        };
        for (state, from, to) in [
            (window("f1", 10, 12), at(10), at(12)),
            (window("f1", 70, 72), at(70), at(72)),
            (window("f1", 89, 90), at(81), at(81)),
            // Of the certificate before.
            (window("f0", 10, 12), at(57), at(60)),
            // The wrong way round.
            (window("f1", 12, 10), at(12), at(12)),
        ] {
            let moment = renew_at(Some(ninety_days()), &state);
            assert!((from..=to).contains(&moment), "{state:?} {moment:?}");
        }
    }

    #[test]
    fn an_authority_that_wants_each_certificate_renewed_at_once_is_asked_once_an_hour() {
        let past = Window { of: "f1".to_owned(), suggested: Some((0, 1)), ask_again: 0 };
        let state = State { window: Some(past), ..State::default() };
        assert_eq!(renew_at(Some(Held { since: at(3), ..ninety_days() }), &state), at(3) + HOUR);
        // Nor is one whose life is nearly over, by a clock that is ahead or not, as soon as it comes.
        for days in [82, 89] {
            let late = Held { since: at(days), ..ninety_days() };
            assert_eq!(renew_at(Some(late), &State::default()), at(days) + HOUR);
        }
        // A clock that was ahead when it came keeps nothing from being renewed.
        let ahead = renew_at(Some(Held { since: at(500), ..ninety_days() }), &State::default());
        assert!(ahead <= at(60), "{ahead:?}");
    }

    #[test]
    fn an_operators_wish_is_due_at_once_but_waits_for_an_authority_that_said_so() {
        let mut state = State { wanted: 1, ..State::default() };
        let ask = |state: &State| order_at(Some(ninety_days()), state, [("le", None)].into_iter(), at(1));
        assert_eq!(ask(&state), SystemTime::UNIX_EPOCH);
        note_failure(&mut state.authorities, "le", "busy", Some(DAY), (at(1), 0.5));
        assert_eq!(ask(&state), at(2));
        // Another authority may be asked all the same.
        assert_eq!(
            order_at(Some(ninety_days()), &state, [("le", None), ("zero", None)].into_iter(), at(1)),
            SystemTime::UNIX_EPOCH
        );
        // Unless that one said so for all.
        let said = RetryAfter::new(DAY / 2, "busy", at(1));
        let both = [("le", None), ("zero", Some(&said))].into_iter();
        assert_eq!(order_at(Some(ninety_days()), &state, both, at(1)), at(1) + DAY / 2);
    }

    #[test]
    fn five_validations_may_fail_within_an_hour() {
        let minute = |number: u64| unix(at(1)) + number * 60;
        let now = time(minute(30));
        assert_eq!(may_fail_at(&[minute(1), minute(2), minute(3), minute(4)], now), SystemTime::UNIX_EPOCH);
        let five = [minute(5), minute(1), minute(2), minute(3), minute(4)];
        assert_eq!(may_fail_at(&five, now), time(minute(61)));
        assert_eq!(may_fail_at(&five, time(minute(61))), SystemTime::UNIX_EPOCH);
        // What another replica writes down counts, whose clock is ahead a little; one that was far ahead counts for nothing.
        assert_eq!(may_fail_at(&[minute(35); 5], now), time(minute(95)));
        assert_eq!(may_fail_at(&[minute(99); 5], now), SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn an_authority_may_give_what_cannot_be_served_three_times_a_day() {
        let hour = |number: u64| unix(at(1)) + number * 3600;
        let standing = |unfit: &[u64]| Standing { unfit: unfit.to_vec(), ..Standing::default() };
        let ask = |unfit: &[u64]| may_ask_at(Some(&standing(unfit)), None, time(hour(9)));
        assert_eq!(ask(&[hour(1), hour(2)]), SystemTime::UNIX_EPOCH);
        assert_eq!(ask(&[hour(1), hour(2), hour(3)]), time(hour(25)));
        assert_eq!(ask(&[hour(10); 3]), SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn waits_grow_to_an_hour_and_an_authoritys_own_word_goes_before() {
        let waits: Vec<u64> =
            [1, 2, 3, 7, 8, u32::MAX].into_iter().map(|n| wait_after(n, 0.5).as_secs()).collect();
        assert_eq!(waits, [60, 120, 240, 3600, 3600, 3600]);
        assert!(wait_after(1, 0.0) < wait_after(1, 1.0));
        for (told, expected) in [
            (Duration::from_secs(7200), Duration::from_secs(7200)),
            // Told to come at once, it is still not asked in a circle.
            (Duration::ZERO, Duration::from_secs(60)),
            (DAY * 365, RETRY_AFTER_MAX),
        ] {
            let mut authorities = BTreeMap::new();
            note_failure(&mut authorities, "le", "", Some(told), (at(1), 0.5));
            assert_eq!(time(authorities["le"].not_before), at(1) + expected);
        }
    }

    #[test]
    fn a_clock_that_was_years_ahead_does_not_stop_renewals_for_years() {
        let standing = Standing { failures: 1, not_before: unix(at(5000)), ..Standing::default() };
        let said = RetryAfter::new(DAY, "busy", at(5000));
        for by_its_word in [false, true] {
            let standing = Standing { by_its_word, ..standing.clone() };
            assert_eq!(may_ask_at(Some(&standing), Some(&said), at(1)), SystemTime::UNIX_EPOCH);
        }
        // Nor one that was a day ahead for longer than we are patient ourselves.
        let own = Standing { not_before: unix(at(2)), ..Standing::default() };
        assert_eq!(may_ask_at(Some(&own), None, at(1)), SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn others_words_are_kept_on_one_line_and_bounded() {
        let mut authorities = BTreeMap::new();
        note_failure(&mut authorities, "le", &"a\nb".repeat(10_000), None, (at(1), 0.5));
        let cause = &authorities["le"].cause;
        assert!(cause.starts_with("a ba b") && cause.len() < 2000, "{}", cause.len());
    }

    #[test]
    fn so_many_hosts_a_week_get_their_first_certificate() {
        let begun = [unix(at(1)), unix(at(2)), unix(at(3))];
        assert_eq!(may_begin_at(&begun, 4, at(4)), SystemTime::UNIX_EPOCH);
        assert_eq!(may_begin_at(&begun, 3, at(4)), at(8));
        assert_eq!(may_begin_at(&begun, 2, at(4)), at(9));
        assert_eq!(may_begin_at(&begun, 3, at(8)), SystemTime::UNIX_EPOCH);
        assert_eq!(of_this_week(&begun, at(9)), [unix(at(3))]);
    }
}
