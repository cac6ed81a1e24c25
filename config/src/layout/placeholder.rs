//! `{home}` and its like in commands and environments.

use crate::model::Connect;
use crate::near::{list, nearest};
use crate::reader::Field;

/// What is replaced, in commands and in environments.
pub const PLACEHOLDERS: &[&str] = &["socket", "port", "host", "home", "label", "name", "usher"];

/// What of it a pod has: it is reached by its port, and usher's own binary is not in it.
const IN_PODS: &[&str] = &["port", "host", "home", "label", "name"];

/// Where a text is used, which decides what can be replaced in it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Used {
    /// For a process that is reached like this, if it is known how.
    Process(Option<Connect>),
    /// For a pod.
    Pod,
}

/// Whether a text holds a placeholder.
pub(crate) fn has(text: &str, name: &str) -> bool {
    placeholders(text).any(|(_, found)| found == name)
}

/// Adds a finding for each placeholder of a text that nothing will replace.
pub(crate) fn check(field: &Field<'_>, text: &str, used: Used) {
    let known = if matches!(used, Used::Pod) { IN_PODS } else { PLACEHOLDERS };
    for (offset, name) in placeholders(text) {
        if known.contains(&name) {
            check_address(field, offset, name, used);
            continue;
        }
        let accepted = format!("{}, each in braces", list(known));
        if PLACEHOLDERS.contains(&name) {
            field.fault_inside(offset, format!("there is no `{{{name}}}` in a pod"), accepted);
            continue;
        }
        let hint = nearest(name, known).map(|near| format!("; did you mean `{{{near}}}`?"));
        let problem = format!("unknown placeholder `{{{name}}}`{}", hint.unwrap_or_default());
        field.fault_inside(offset, problem, accepted);
    }
}

/// A process has a socket or a port.
fn check_address(field: &Field<'_>, offset: usize, name: &str, used: Used) {
    let (absent, given) = match used {
        Used::Process(Some(Connect::Socket)) if name == "port" => ("port", "socket"),
        Used::Process(Some(Connect::Port)) if name == "socket" => ("socket", "port"),
        _ => return,
    };
    let problem = format!("there is no `{{{absent}}}` with `connect = \"{given}\"`");
    field.fault_inside(offset, problem, format!("`{{{given}}}`, or `connect = \"{absent}\"`"));
}

/// Each `{word}` of small letters with its place. Other braces, as in JSON or `${HOME}`, stand for themselves.
fn placeholders(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.match_indices('{').filter_map(|(open, _)| {
        let word = text[open + 1..].split_once('}')?.0;
        let is_word = !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        is_word.then_some((open, word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_is_a_word_in_braces() {
        let found = |text| placeholders(text).collect::<Vec<_>>();
        assert_eq!(found("--sock={socket} {home}"), [(7, "socket"), (16, "home")]);
        assert_eq!(found("{{host}}"), [(1, "host")]);
        assert_eq!(found(r#"{"a": {}} {a b} {A} {1} ${HOME} {"#), []);
        assert!(has("a{port}", "port") && !has("port", "port"));
    }
}
