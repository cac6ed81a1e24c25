//! From a TOML value to a typed one: pure functions, one per kind of value.

use crate::names::HostName;
use crate::network::Network;
use crate::values::Kind;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

/// Why a value is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// `is not a duration`: what stands behind the value in the finding.
    pub(crate) problem: String,
    /// What would be accepted.
    pub(crate) accepted: String,
}

impl Wrong {
    /// Of a problem and what would be accepted instead.
    pub(crate) fn new(problem: impl Into<String>, accepted: impl Into<String>) -> Self {
        Self { problem: problem.into(), accepted: accepted.into() }
    }
}

/// Longest duration: beyond it, sums with a clock could overflow.
const DURATION_MAX: Duration = Duration::from_hours(3_650 * 24);

const DURATIONS: &str = "a number with a unit of ms, s, m, h or d, such as \"500ms\", \"90s\" or \"30m\"";

/// A string, as it is.
pub(crate) fn string(value: &DeValue<'_>) -> Result<String, Wrong> {
    text(value, "a string in quotes").map(str::to_owned)
}

/// A text of a kind that Kubernetes takes; a whole number will do for a quantity.
pub(crate) fn of_kind(value: &DeValue<'_>, kind: Kind) -> Result<String, Wrong> {
    let text = match value {
        DeValue::Integer(_) if kind == Kind::Quantity => integer(0..=i64::MAX)(value)?.to_string(),
        _ => string(value)?,
    };
    kind.judge(&text).map(|()| text)
}

/// A list of such values.
pub(crate) fn list<T>(
    parse: impl Fn(&DeValue<'_>) -> Result<T, Wrong>,
) -> impl Fn(&DeValue<'_>) -> Result<Vec<T>, Wrong> {
    move |value| match value {
        DeValue::Array(items) => items.iter().map(|item| parse(item.get_ref())).collect(),
        _ => Err(not("a list", "a list in brackets")),
    }
}

/// One of a few words.
pub(crate) fn word<T: Copy>(
    words: &[(&str, T)],
    what: &'static str,
) -> impl Fn(&DeValue<'_>) -> Result<T, Wrong> {
    move |value| {
        let accepted = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ");
        let given = text(value, &accepted)?;
        words
            .iter()
            .find(|(word, _)| *word == given)
            .map(|(_, meant)| *meant)
            .ok_or_else(|| not(what, accepted))
    }
}

/// A path within a container.
pub(crate) fn absolute_path(value: &DeValue<'_>) -> Result<String, Wrong> {
    const PATHS: &str = "an absolute path without `..` and `:`, such as \"/home/user\"";
    let text = text(value, PATHS)?;
    let is_path = text.len() > 1
        && text.starts_with('/')
        && !text.contains(['\0', ':'])
        && text.split('/').all(|part| part != "..");
    if is_path { Ok(text.trim_end_matches('/').to_owned()) } else { Err(not("an absolute path", PATHS)) }
}

/// `"10.0.0.0/8"`.
pub(crate) fn network(value: &DeValue<'_>) -> Result<Network, Wrong> {
    const NETWORKS: &str =
        "a network such as \"10.244.0.0/16\" or \"fd00::/8\", without bits behind the prefix";
    Network::parse(text(value, NETWORKS)?).ok_or_else(|| not("a network", NETWORKS))
}

/// `true` or `false`.
pub(crate) fn boolean(value: &DeValue<'_>) -> Result<bool, Wrong> {
    if let DeValue::Boolean(truth) = value { Ok(*truth) } else { Err(not("a bool", "true or false")) }
}

/// A whole number within a range.
pub(crate) fn integer<T>(range: RangeInclusive<T>) -> impl Fn(&DeValue<'_>) -> Result<T, Wrong>
where
    T: TryFrom<i64> + PartialOrd + std::fmt::Display,
{
    move |value| {
        let wrong = || not("a number in range", format!("{} to {}", range.start(), range.end()));
        let DeValue::Integer(written) = value else { return Err(wrong()) };
        let number = i64::from_str_radix(written.as_str(), written.radix()).map_err(|_| wrong())?;
        T::try_from(number).ok().filter(|number| range.contains(number)).ok_or_else(wrong)
    }
}

/// `"90s"`, of at least `least`.
pub(crate) fn duration(least: Duration) -> impl Fn(&DeValue<'_>) -> Result<Duration, Wrong> {
    move |value| parse_duration(text(value, DURATIONS)?, least)
}

/// `"90s"` or `"never"`, which is none.
pub(crate) fn duration_or_never(least: Duration) -> impl Fn(&DeValue<'_>) -> Result<Option<Duration>, Wrong> {
    move |value| {
        let accepted = format!("{DURATIONS}; or \"never\"");
        match text(value, &accepted)? {
            "never" => Ok(None),
            text => parse_duration(text, least).map(Some).map_err(|wrong| Wrong { accepted, ..wrong }),
        }
    }
}

/// `"1MiB"`, in bytes.
pub(crate) fn size(range: RangeInclusive<u64>) -> impl Fn(&DeValue<'_>) -> Result<u64, Wrong> {
    const SIZES: &str = "a number with a unit of B, KiB, MiB or GiB, such as \"64KiB\"";
    move |value| {
        let text = text(value, SIZES)?;
        let bytes = number_and_unit(text).and_then(|(number, unit)| {
            let factor = match unit {
                "B" => 1,
                "KiB" => 1 << 10,
                "MiB" => 1 << 20,
                "GiB" => 1 << 30,
                _ => return None,
            };
            number.checked_mul(factor)
        });
        let bytes = bytes.ok_or_else(|| not("a size", SIZES))?;
        if range.contains(&bytes) {
            return Ok(bytes);
        }
        Err(not("a size in range", format!("{} to {} bytes", range.start(), range.end())))
    }
}

/// A path of a file or folder.
pub(crate) fn path(value: &DeValue<'_>) -> Result<PathBuf, Wrong> {
    const PATHS: &str = "a path in quotes";
    let text = text(value, PATHS)?;
    if text.is_empty() || text.contains('\0') { Err(not("a path", PATHS)) } else { Ok(text.into()) }
}

/// `"127.0.0.1:8080"` or `"[::1]:8080"`.
pub(crate) fn socket_address(value: &DeValue<'_>) -> Result<SocketAddr, Wrong> {
    const ADDRESSES: &str = "an IP address and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"";
    text(value, ADDRESSES)?.parse().map_err(|_| not("an address", ADDRESSES))
}

/// A DNS name; not an address, under which no further names can stand.
pub(crate) fn host_name(value: &DeValue<'_>) -> Result<HostName, Wrong> {
    const HOSTS: &str = "a DNS name without a port, such as \"lab.example.org\"";
    let text = text(value, HOSTS)?;
    let name = HostName::parse(text)
        .map_err(|bad| Wrong::new(format!("is not a host name: {}", bad.rule), HOSTS))?;
    let is_address =
        name.as_str().rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    if is_address { Err(not("a host name but an address", HOSTS)) } else { Ok(name) }
}

/// The path of a request, with a query if need be.
pub(crate) fn request_path(value: &DeValue<'_>) -> Result<String, Wrong> {
    const PATHS: &str = "a path that begins with \"/\", in ASCII without spaces and without \"#\"";
    let text = text(value, PATHS)?;
    let is_path = text.starts_with('/') && text.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    if is_path { Ok(text.to_owned()) } else { Err(not("the path of a request", PATHS)) }
}

fn text<'v>(value: &'v DeValue<'_>, accepted: &str) -> Result<&'v str, Wrong> {
    if let DeValue::String(text) = value { Ok(text) } else { Err(not("a string", accepted)) }
}

fn not(what: &str, accepted: impl Into<String>) -> Wrong {
    Wrong::new(format!("is not {what}"), accepted)
}

fn parse_duration(text: &str, least: Duration) -> Result<Duration, Wrong> {
    let duration = number_and_unit(text).and_then(|(number, unit)| {
        let unit_millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        number.checked_mul(unit_millis).map(Duration::from_millis)
    });
    let duration = duration.ok_or_else(|| not("a duration", DURATIONS))?;
    if duration > DURATION_MAX {
        return Err(not("a duration in range", "at most \"3650d\""));
    }
    if duration < least {
        return Err(not("a duration in range", format!("at least \"{}ms\"", least.as_millis())));
    }
    Ok(duration)
}

/// `90s` is 90 and `s`.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toml(text: &str) -> DeValue<'_> {
        DeValue::parse(text).expect("the test's own TOML").into_inner()
    }

    #[test]
    fn durations_carry_a_unit() {
        let read = |text: &str| duration(Duration::from_secs(1))(&toml(text)).ok();
        for (text, millis) in [
            ("'1000ms'", 1_000),
            ("'90s'", 90_000),
            ("'30m'", 1_800_000),
            ("'24h'", 86_400_000),
            ("'7d'", 604_800_000),
        ] {
            assert_eq!(read(text), Some(Duration::from_millis(millis)), "{text}");
        }
        for bad in [
            "90",
            "1.5",
            "''",
            "'90'",
            "'s'",
            "'1.5s'",
            "'-1s'",
            "'1 s'",
            "'1S'",
            "'90 sec'",
            "'999ms'",
            "'3651d'",
            "'never'",
            "'99999999999999999999s'",
            "'18446744073709551615d'",
            "'é1s'",
            "['1s']",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        let never = duration_or_never(Duration::ZERO);
        assert_eq!(never(&toml("'never'")), Ok(None));
        assert_eq!(never(&toml("'0s'")), Ok(Some(Duration::ZERO)));
        assert!(never(&toml("'ever'")).is_err_and(|wrong| wrong.accepted.contains("never")));
    }

    #[test]
    fn sizes_carry_a_unit() {
        let read = |text: &str| size(1..=1 << 40)(&toml(text)).ok();
        for (text, bytes) in [("'5B'", 5), ("'64KiB'", 65_536), ("'1MiB'", 1 << 20), ("'2GiB'", 2 << 30)] {
            assert_eq!(read(text), Some(bytes), "{text}");
        }
        for bad in ["1", "'1'", "'1MB'", "'0B'", "'2000GiB'", "'18446744073709551615GiB'", "'1 MiB'"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn numbers_have_a_range() {
        let read = |text: &str| integer(1..=65_535_u16)(&toml(text)).ok();
        assert_eq!((read("1"), read("65535"), read("0x1F90")), (Some(1), Some(65_535), Some(8_080)));
        for bad in ["0", "65536", "-1", "1.0", "'1'", "9223372036854775807", "99999999999999999999"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn hosts_addresses_and_paths_are_parsed() {
        assert_eq!(
            host_name(&toml("'Lab.Localhost'")).map(|h| h.to_string()),
            Ok("lab.localhost".to_owned())
        );
        for bad in ["'127.0.0.1'", "'a b'", "''", "5", "'lab.localhost:80'"] {
            assert!(host_name(&toml(bad)).is_err(), "{bad}");
        }
        assert!(socket_address(&toml("'[::1]:0'")).is_ok());
        for bad in ["'localhost:80'", "'127.0.0.1'", "'::1:80'", "80"] {
            assert!(socket_address(&toml(bad)).is_err(), "{bad}");
        }
        assert!(request_path(&toml("'/a?b=c'")).is_ok());
        for bad in ["'a'", "''", "'/a b'", "'/é'", "'/a#b'", "'http://x/'"] {
            assert!(request_path(&toml(bad)).is_err(), "{bad}");
        }
        assert!(
            path(&toml("'a/b'")).is_ok() && path(&toml("''")).is_err() && path(&toml(r#""\u0000""#)).is_err()
        );
        assert_eq!((boolean(&toml("true")), boolean(&toml("'true'")).is_err()), (Ok(true), true));
    }
}
