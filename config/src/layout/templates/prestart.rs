//! `prestart`: times at which workspaces start before their users come.

use crate::model::Prestart;
use crate::reader::{Table, Wrong, value};
use toml::de::DeValue;

/// The days of a week, as they are written, Monday first.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Reads `[[prestart]]`, of which there may be none.
pub(super) fn prestart(table: &mut Table<'_>) -> Option<Vec<Prestart>> {
    if table.field("prestart").is_none() {
        return Some(Vec::new());
    }
    table.tables("prestart", |table| {
        let days = table.maybe("days", days);
        let minute = table.value("at", time_of_day);
        let zone = table.maybe("zone", value::string);
        let groups = table.maybe("groups", value::list(value::string));
        Some(Prestart {
            days: days?.unwrap_or([true; 7]),
            minute: minute?,
            zone: zone?.unwrap_or_else(|| "UTC".to_owned()),
            groups: groups?.unwrap_or_default(),
        })
    })
}

/// `"mon-fri"`, `"sat,sun"`, `"mon,wed-fri"`.
fn days(value: &DeValue<'_>) -> Result<[bool; 7], Wrong> {
    const ACCEPTED: &str = "days and spans of days, such as \"mon-fri\", \"sat,sun\" or \"mon,wed-fri\"";
    let text = value::string(value)?;
    let day = |name: &str| {
        let name = name.trim();
        let found = DAYS.iter().position(|known| *known == name);
        found.ok_or_else(|| Wrong::new(format!("has `{name}`, which is no day"), ACCEPTED))
    };
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        if first > last {
            return Err(Wrong::new("has a span that ends before it begins: weeks begin on Monday", ACCEPTED));
        }
        days[first..=last].fill(true);
    }
    Ok(days)
}

/// `"07:50"`, in minutes after midnight.
fn time_of_day(value: &DeValue<'_>) -> Result<u16, Wrong> {
    let text = value::string(value)?;
    let two = |part: &str, below: u16| {
        let is_two = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        part.parse::<u16>().ok().filter(|number| is_two && *number < below)
    };
    let read = || {
        let (hour, minute) = text.split_once(':')?;
        Some(two(hour, 24)? * 60 + two(minute, 60)?)
    };
    read().ok_or_else(|| Wrong::new("is not a time of day", "hours and minutes, such as \"07:50\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> DeValue<'_> {
        DeValue::String(text.into())
    }

    #[test]
    fn days_are_names_and_spans_of_them() {
        let read = |written| days(&text(written)).ok().map(|days| days.map(u8::from));
        for (written, expected) in [
            ("mon-sun", [1, 1, 1, 1, 1, 1, 1]),
            ("mon-fri", [1, 1, 1, 1, 1, 0, 0]),
            ("sun", [0, 0, 0, 0, 0, 0, 1]),
            ("mon, wed-thu,sun", [1, 0, 1, 1, 0, 0, 1]),
            ("tue,tue-tue", [0, 1, 0, 0, 0, 0, 0]),
        ] {
            assert_eq!(read(written), Some(expected), "{written}");
        }
        for bad in ["", "Mon", "monday", "fri-mon", "mon,", "mon-", "mon-tue-wed", "0"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_time_of_day_has_hours_and_minutes() {
        let read = |written| time_of_day(&text(written)).ok();
        assert_eq!(["00:00", "07:50", "23:59"].map(read), [Some(0), Some(470), Some(1439)]);
        for bad in ["", "7:50", "24:00", "07:60", "07:5", "07:50:00", "+7:50", "07.50", "0७:50"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
