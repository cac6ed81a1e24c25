//! Workspaces that start before their users come, at times that the configuration names.
//!
//! When a rule is due is a pure function of the rule and of two times. Days and times of day are those of the rule's
//! zone. A time that its clocks skip is as much later as they skip; of one that they show twice it is the first. So
//! each rule has one time on each of its days.

use config::{Config, KeyFinding, KeyPath, Prestart};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use std::time::Duration;

/// How long after its time a rule is still carried out: whoever was to do it may have ended just then, and much later
/// its users have come by themselves.
pub const CAUGHT_UP: Duration = Duration::from_mins(10);

/// Whether a rule's time came after `since` and not after `now`, and is no longer ago than [`CAUGHT_UP`].
///
/// A rule whose zone is not known is never due: [`judge`] tells of it when the configuration is read.
pub fn is_due(rule: &Prestart, since: Timestamp, now: Timestamp) -> bool {
    let Ok(zone) = TimeZone::get(&rule.zone) else { return false };
    let caught_up = SignedDuration::try_from(CAUGHT_UP).unwrap_or(SignedDuration::MAX);
    let since = now.checked_sub(caught_up).map_or(since, |earliest| since.max(earliest));
    let today = now.to_zoned(zone.clone()).date();
    // The last time may have been yesterday, just before midnight.
    let days = [today.yesterday().ok(), Some(today)];
    let mut times = days.into_iter().flatten().filter_map(|day| time_on(rule, day, &zone));
    times.any(|at| since < at && at <= now)
}

/// When the rule's time is on a day, if it is a day of the rule's.
fn time_on(rule: &Prestart, day: Date, zone: &TimeZone) -> Option<Timestamp> {
    let weekday = usize::try_from(day.weekday().to_monday_zero_offset()).ok()?;
    let at = day.at(0, 0, 0, 0).checked_add(i64::from(rule.minute).minutes()).ok()?;
    rule.days.get(weekday).filter(|is_its_day| **is_its_day)?;
    zone.to_ambiguous_timestamp(at).compatible().ok()
}

/// The zones that are not known, by the keys that name them.
pub fn judge(config: &Config) -> Vec<KeyFinding> {
    let mut found = Vec::new();
    for template in config.templates.values() {
        for (index, rule) in template.prestart.iter().enumerate() {
            if TimeZone::get(&rule.zone).is_err() {
                let root = KeyPath::default().key("templates").key(template.name.as_str());
                found.push(KeyFinding {
                    key: root.key("prestart").index(index).key("zone"),
                    problem: "is not a time zone".to_owned(),
                    accepted: "a name of the IANA time zone database, such as \"Europe/Berlin\"".to_owned(),
                    of_name: false,
                });
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(days: [u8; 7], minute: u16, zone: &str) -> Prestart {
        Prestart { days: days.map(|day| day > 0), minute, zone: zone.to_owned(), groups: Vec::new() }
    }

    const WEEKDAYS: [u8; 7] = [1, 1, 1, 1, 1, 0, 0];
    const ALWAYS: [u8; 7] = [1; 7];

    /// When a rule is due within a span, to the minute, by one who looks every 20 s.
    fn due(rule: &Prestart, from: &str, hours: i64) -> Vec<String> {
        let from: Timestamp = from.parse().unwrap();
        let look = SignedDuration::from_secs(20);
        let mut found = Vec::new();
        let mut now = from;
        while now < from + SignedDuration::from_hours(hours) {
            let next = now + look;
            if is_due(rule, now, next) {
                found.push(next.to_string());
            }
            now = next;
        }
        found
    }

    #[test]
    fn a_rule_is_due_once_on_each_of_its_days_by_the_clocks_of_its_zone() {
        // 2026-11-20 is a Friday.
        let berlin = rule(WEEKDAYS, 7 * 60 + 50, "Europe/Berlin");
        assert_eq!(
            due(&berlin, "2026-11-20T00:00:00Z", 5 * 24),
            ["2026-11-20T06:50:00Z", "2026-11-23T06:50:00Z", "2026-11-24T06:50:00Z"]
        );
        // In Auckland it is tomorrow.
        let auckland = rule([0, 0, 0, 0, 0, 1, 0], 30, "Pacific/Auckland");
        assert_eq!(due(&auckland, "2026-11-20T00:00:00Z", 48), ["2026-11-20T11:30:00Z"]);
        assert_eq!(due(&rule(ALWAYS, 0, "UTC"), "2026-11-20T12:00:00Z", 24), ["2026-11-21T00:00:00Z"]);
        assert_eq!(due(&rule(ALWAYS, 0, "Mars/Olympus"), "2026-11-20T00:00:00Z", 48), Vec::<String>::new());
    }

    #[test]
    fn when_clocks_change_a_rule_keeps_its_time_and_is_due_once() {
        for (zone, minute, from, expected) in [
            // They go from 2:00 to 3:00 on 2026-03-29.
            (
                "Europe/Berlin",
                7 * 60,
                "2026-03-27T12:00:00Z",
                ["2026-03-28T06:00:00Z", "2026-03-29T05:00:00Z"],
            ),
            // 2:30 is skipped: it is due at what would have been 2:30, which they show as 3:30.
            ("Europe/Berlin", 150, "2026-03-27T12:00:00Z", ["2026-03-28T01:30:00Z", "2026-03-29T01:30:00Z"]),
            // They go from 3:00 to 2:00 on 2026-10-25, and 2:30 comes twice.
            ("Europe/Berlin", 150, "2026-10-23T12:00:00Z", ["2026-10-24T00:30:00Z", "2026-10-25T00:30:00Z"]),
            (
                "America/New_York",
                90,
                "2026-10-30T12:00:00Z",
                ["2026-10-31T05:30:00Z", "2026-11-01T05:30:00Z"],
            ),
            // By half an hour.
            (
                "Australia/Lord_Howe",
                480,
                "2026-10-02T12:00:00Z",
                ["2026-10-02T21:30:00Z", "2026-10-03T21:00:00Z"],
            ),
        ] {
            assert_eq!(due(&rule(ALWAYS, minute, zone), from, 48), expected, "{zone} {minute}");
        }
    }

    #[test]
    fn a_time_that_was_missed_is_caught_up_for_ten_minutes() {
        let rule = rule(ALWAYS, 7 * 60, "UTC");
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let long_ago = at("2026-11-01T00:00:00Z");
        for (now, is) in [
            ("2026-11-20T06:59:59Z", false),
            ("2026-11-20T07:00:00Z", true),
            ("2026-11-20T07:09:59Z", true),
            ("2026-11-20T07:10:00Z", false),
        ] {
            assert_eq!(is_due(&rule, long_ago, at(now)), is, "{now}");
        }
        // Who has looked at it does not look again.
        assert!(!is_due(&rule, at("2026-11-20T07:00:00Z"), at("2026-11-20T07:00:20Z")));
        // A clock that was set back.
        assert!(!is_due(&rule, at("2026-11-20T07:30:00Z"), at("2026-11-20T07:05:00Z")));
        // Just before midnight.
        let late = Prestart { minute: 1439, ..rule };
        assert!(is_due(&late, at("2026-11-19T23:58:00Z"), at("2026-11-20T00:05:00Z")));
    }
}
