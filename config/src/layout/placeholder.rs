//! `{home}` and its like in commands and environments.

use crate::model::Connect;
use crate::near::{list, nearest};
use crate::reader::Field;

/// What is replaced, in commands and in environments.
pub const PLACEHOLDERS: &[&str] = &["socket", "port", "host", "home", "label", "name", "usher"];

/// Whether a text holds a placeholder.
pub(crate) fn has(text: &str, name: &str) -> bool {
    placeholders(text).any(|(_, found)| found == name)
}

/// Adds a finding for each placeholder of a text that nothing will replace.
pub(crate) fn check(field: &Field<'_>, text: &str, connect: Option<Connect>) {
    for (offset, name) in placeholders(text) {
        if !PLACEHOLDERS.contains(&name) {
            let hint = nearest(name, PLACEHOLDERS).map(|near| format!("; did you mean `{{{near}}}`?"));
            let problem = format!("unknown placeholder `{{{name}}}`{}", hint.unwrap_or_default());
            field.fault_inside(offset, problem, format!("{}, each in braces", list(PLACEHOLDERS)));
        }
        let missing = match connect {
            Some(Connect::Socket) if name == "port" => Some(("port", "socket")),
            Some(Connect::Port) if name == "socket" => Some(("socket", "port")),
            _ => None,
        };
        if let Some((absent, given)) = missing {
            let problem = format!("there is no `{{{absent}}}` with `connect = \"{given}\"`");
            field.fault_inside(offset, problem, format!("`{{{given}}}`, or `connect = \"{absent}\"`"));
        }
    }
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
