//! A reader of TOML that goes on after a mistake, so that one run tells all of them.
//!
//! serde's derive stops at the first. Here each [`Table`] hands out typed values by key; what is wrong with one
//! becomes a finding in the [`Report`] and a `None`, and the others are still read.

mod places;
mod raw;
mod report;
mod source;
mod table;
pub(crate) mod value;

pub(crate) use report::Report;
pub(crate) use source::Source;
pub(crate) use table::{Field, Rule, Table};
pub(crate) use value::Wrong;

use crate::finding::{Finding, Findings};
use toml::de::DeTable;

/// Longest file: a configuration is written by people.
pub(crate) const FILE_MAX: usize = 1 << 20;

/// Most syntax errors that are told: after some, the rest are echoes.
const SYNTAX_MAX: usize = 20;

/// Reads a text with `read`, which gives `None` only after a finding.
///
/// Syntax errors are told alone: what else would be found in a text that cannot be parsed is guesswork.
pub(crate) fn read<T>(
    file: &str,
    text: &str,
    read: impl FnOnce(&mut Table<'_>) -> Option<T>,
) -> Result<T, Findings> {
    if text.len() > FILE_MAX {
        let problem = format!("the file has {} bytes", text.len());
        return Err(Findings(vec![Finding::of_file(file, problem, "at most 1 MiB")]));
    }
    let source = Source::new(file, text);
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return Err(syntax(&source, &errors));
    }
    let report = Report::new(source);
    let value = Table::root(&report, document.get_ref()).read(read);
    match (value, report.into_findings()) {
        (Some(value), findings) if findings.is_empty() => Ok(value),
        (_, findings) => Err(Findings(findings)),
    }
}

/// The syntax errors, one per line: an error's echoes stand mostly beside it.
fn syntax(source: &Source<'_>, errors: &[toml::de::Error]) -> Findings {
    let mut findings: Vec<Finding> = errors
        .iter()
        .map(|error| {
            let offset = error.span().map_or(source.len(), |span| span.start);
            let (what, expected) = error.message().split_once(", expected ").unwrap_or((error.message(), ""));
            source.finding(offset, "", format!("no TOML: {what}"), expected.to_owned())
        })
        .collect();
    findings.sort_by_key(|finding| (finding.line, finding.column));
    findings.dedup_by_key(|finding| finding.line);
    findings.truncate(SYNTAX_MAX);
    Findings(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> String {
        read("f", text, |_| Some(())).map_or_else(|findings| findings.to_string(), |()| String::new())
    }

    #[test]
    fn syntax_errors_are_told_with_line_column_and_what_was_expected() {
        for (text, expected) in [
            ("a = ", "f:1:5: no TOML: string values must be quoted (accepted: literal string)"),
            (
                "é = 1\n[a\nb=1",
                "f:1:1: no TOML: invalid unquoted key (accepted: letters, numbers, `-`, `_`)\n\
              f:2:3: no TOML: unclosed table (accepted: `]`)",
            ),
            ("a = 1\r\n  a = 2", "f:2:3: no TOML: duplicate key"),
            (
                "é = [1, 2\nb=2",
                "f:1:1: no TOML: invalid unquoted key (accepted: letters, numbers, `-`, `_`)\n\
              f:2:1: no TOML: missing comma",
            ),
            ("\"é\" = 'x", "f:1:9: no TOML: invalid literal string (accepted: `'`)"),
        ] {
            assert!(findings(text).starts_with(expected), "{text}: {}", findings(text));
            assert_eq!(findings(text).lines().count(), expected.lines().count(), "{text}");
        }
    }

    #[test]
    fn nesting_and_length_are_bounded() {
        assert!(findings(&format!("a = {}", "[".repeat(100_000))).contains("max recursion depth"));
        assert!(!findings(&format!("{} = 1", vec!["a"; 20_000].join("."))).is_empty());
        assert!(findings(&"#".repeat(FILE_MAX + 1)).contains("at most 1 MiB"));
    }
}
