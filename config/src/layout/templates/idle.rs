//! The keys that say when a workspace is in use, and when it stops.

use crate::expression::Scope;
use crate::layout::SECOND;
use crate::model::{BackgroundRequest, BusyProbe, Idle};
use crate::reader::{Table, Wrong, value};
use std::time::Duration;
use toml::de::DeValue;

/// The keys that `[workspaces]` and a template share.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    idle_after: Option<Duration>,
    warn_before: Duration,
    max_age: Option<Duration>,
    keep_until_max: Duration,
}

/// Reads the shared keys of `[workspaces]`.
pub(super) fn defaults(table: &mut Table<'_>) -> Option<Limits> {
    let idle_after = table.value("idle_after", value::duration_or_never(SECOND));
    let warn_before = table.value("warn_before", value::duration(Duration::ZERO));
    let max_age = table.value("max_age", value::duration_or_never(SECOND));
    let keep_until_max = table.value("keep_until_max", value::duration(Duration::ZERO));
    let limits = Limits {
        idle_after: idle_after?,
        warn_before: warn_before?,
        max_age: max_age?,
        keep_until_max: keep_until_max?,
    };
    warns_in_time(table, &limits).then_some(limits)
}

/// Reads the keys of a template.
pub(super) fn idle(table: &mut Table<'_>, defaults: Option<&Limits>) -> Option<Idle> {
    let limits = limits(table, defaults);
    let count_open_sockets = table.value("count_open_sockets", value::boolean);
    let count_workspace_frames = table.value("count_workspace_frames", value::boolean);
    let count_open_responses = table.value("count_open_responses", value::boolean);
    let background = background(table);
    let busy = table.maybe_table("busy", |busy_table| {
        let probe = busy(busy_table)?;
        is_asked_in_time(busy_table, &probe, limits.as_ref()?).then_some(probe)
    });
    let limits = limits?;
    Some(Idle {
        idle_after: limits.idle_after,
        warn_before: limits.warn_before,
        max_age: limits.max_age,
        keep_until_max: limits.keep_until_max,
        count_open_sockets: count_open_sockets?,
        count_workspace_frames: count_workspace_frames?,
        count_open_responses: count_open_responses?,
        background: background?,
        busy: busy?,
    })
}

fn limits(table: &mut Table<'_>, defaults: Option<&Limits>) -> Option<Limits> {
    let idle_after = table.maybe("idle_after", value::duration_or_never(SECOND));
    let warn_before = table.maybe("warn_before", value::duration(Duration::ZERO));
    let max_age = table.maybe("max_age", value::duration_or_never(SECOND));
    let keep_until_max = table.maybe("keep_until_max", value::duration(Duration::ZERO));
    let defaults = defaults?;
    let limits = Limits {
        idle_after: idle_after?.unwrap_or(defaults.idle_after),
        warn_before: warn_before?.unwrap_or(defaults.warn_before),
        max_age: max_age?.unwrap_or(defaults.max_age),
        keep_until_max: keep_until_max?.unwrap_or(defaults.keep_until_max),
    };
    warns_in_time(table, &limits).then_some(limits)
}

/// A warning at or before the start would be there always.
fn warns_in_time(table: &Table<'_>, limits: &Limits) -> bool {
    let stops = [("idle_after", limits.idle_after), ("max_age", limits.max_age)];
    let Some((stop, after)) = stops
        .into_iter()
        .find_map(|(stop, after)| after.filter(|after| limits.warn_before >= *after).map(|a| (stop, a)))
    else {
        return true;
    };
    let key = if table.has("warn_before") { "warn_before" } else { stop };
    let problem = format!("warn_before ({:?}) is not shorter than {stop} ({after:?})", limits.warn_before);
    table.fault(key, problem, format!("a warn_before that is shorter than {stop}"));
    false
}

/// A workspace that computes must be asked before it is stopped.
fn is_asked_in_time(table: &Table<'_>, probe: &BusyProbe, limits: &Limits) -> bool {
    let in_time = limits.idle_after.is_none_or(|idle_after| probe.every < idle_after);
    if !in_time {
        let problem = "a workspace that computes would be stopped before it is asked";
        table.fault("every", problem, "an `every` that is shorter than idle_after");
    }
    in_time
}

fn busy(table: &mut Table<'_>) -> Option<BusyProbe> {
    let path = table.value("path", value::request_path);
    let rule = table.rule("expression", Scope::Probe);
    let every = table.value("every", value::duration(SECOND));
    Some(BusyProbe { path: path?, expression: rule?.expression, every: every? })
}

fn background(table: &mut Table<'_>) -> Option<Vec<BackgroundRequest>> {
    let fields = table.items("background", false)?;
    let read_all: Vec<Option<BackgroundRequest>> =
        fields.iter().map(|field| field.parse(background_request)).collect();
    read_all.into_iter().collect()
}

/// `GET,PUT /lab/api/workspaces/*`
fn background_request(value: &DeValue<'_>) -> Result<BackgroundRequest, Wrong> {
    const REQUESTS: &str = "methods and a path without a query, such as \"GET,PUT /lab/api/workspaces/*\"; \
        `*` may stand at the end";
    let wrong = |problem: &str| Wrong::new(problem, REQUESTS);
    let text = value::string(value)?;
    let (methods, path) = text.split_once(' ').ok_or_else(|| wrong("is not a request"))?;
    let methods: Vec<String> = methods.split(',').map(str::to_owned).collect();
    if methods.iter().any(|method| method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase())) {
        return Err(wrong("has no methods in capital letters"));
    }
    let prefix = path.ends_with('*');
    let path = path.strip_suffix('*').unwrap_or(path);
    let is_path = path.starts_with('/')
        && path.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'*' | b'?' | b'#'));
    if !is_path {
        return Err(wrong("has no path that a request can have"));
    }
    Ok(BackgroundRequest { methods, path: path.to_owned(), prefix })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_background_request_is_methods_and_a_path() {
        let read = |text: &str| background_request(&DeValue::String(text.into())).ok();
        let polling = read("GET,PUT /lab/api/workspaces/*").unwrap();
        assert_eq!(
            (polling.methods.len(), polling.path.as_str(), polling.prefix),
            (2, "/lab/api/workspaces/", true)
        );
        for (method, path, expected) in [
            ("GET", "/lab/api/workspaces/a", true),
            ("PUT", "/lab/api/workspaces/", true),
            ("POST", "/lab/api/workspaces/a", false),
            ("get", "/lab/api/workspaces/a", false),
            ("GET", "/lab/api/workspace", false),
        ] {
            assert_eq!(polling.matches(method, path), expected, "{method} {path}");
        }
        assert!(read("GET /*").unwrap().matches("GET", "/anything"));
        for bad in [
            "",
            "GET",
            "/a",
            "get /a",
            "GET, PUT /a",
            " /a",
            "GET a",
            "GET /a*b",
            "GET /a?b",
            "GET  /a",
            "GET /é",
        ] {
            assert!(read(bad).is_none(), "{bad}");
        }
    }
}
