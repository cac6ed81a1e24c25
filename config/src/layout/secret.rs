//! Secrets: from the environment or from files, never written down in the configuration.

use super::Environment;
use crate::reader::{Table, value};
use crate::secret::Secret;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Longest secret in a file: Linux takes no longer variable (`MAX_ARG_STRLEN`).
const SECRET_MAX: u64 = 128 << 10;

/// Reads `{ from_env = "…" }` or `{ from_file = "…" }`.
pub(super) fn of(table: &mut Table<'_>, accepted: &str, outer: Environment<'_>) -> Option<Secret> {
    bytes_of(table, accepted, outer, |_| true, "")
}

/// The same of a secret that stands for bytes, in the encoding of this name. Where it does not, that is told without what
/// it is.
pub(super) fn bytes_of(
    table: &mut Table<'_>,
    accepted: &str,
    outer: Environment<'_>,
    is_encoded: impl FnOnce(&str) -> bool,
    encoding: &str,
) -> Option<Secret> {
    let from_env = table.maybe("from_env", value::string);
    let from_file = table.maybe("from_file", value::path);
    let (key, text) = match (from_env?, from_file?) {
        (Some(name), None) => ("from_env", from_variable(table, &name, outer)?),
        (None, Some(path)) => ("from_file", from_file_at(table, &path)?),
        _ => {
            table.fault("", "is not one source of a secret", accepted);
            return None;
        }
    };
    if text.contains('\0') {
        table.fault(key, "the value (not shown) holds a NUL", "a value without NUL");
        return None;
    }
    if !is_encoded(&text) {
        let problem = format!("the value (not shown) is not {encoding}");
        table.fault(key, problem, format!("a key as it was given to you, {encoding}"));
        return None;
    }
    Some(Secret::new(text))
}

fn from_variable(table: &Table<'_>, name: &str, outer: Environment<'_>) -> Option<String> {
    let found = outer(name);
    if found.is_none() {
        let problem = format!("the environment variable {} is not set, or not UTF-8", shown(name));
        table.fault("from_env", problem, "a variable that is set where usher runs");
    }
    found
}

fn from_file_at(table: &Table<'_>, path: &Path) -> Option<String> {
    let read = read_secret(path).map_err(|error| {
        let problem = format!("the file cannot be read: {error}");
        table.fault("from_file", problem, "a file of text that usher may read, at most 128 KiB");
    });
    read.ok()
}

/// The name of a variable; not what may be a secret that was written in its place.
fn shown(name: &str) -> String {
    let is_usual = name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    if is_usual { format!("`{name}`") } else { "(name not shown)".to_owned() }
}

fn read_secret(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(SECRET_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > SECRET_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is too large"));
    }
    let line =
        text.strip_suffix('\n').map_or(text.len(), |line| line.strip_suffix('\r').unwrap_or(line).len());
    text.truncate(line);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_file_loses_one_line_break() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        for (written, expected) in
            [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("", ""), ("a\r", "a\r")]
        {
            std::fs::write(&path, written).unwrap();
            assert_eq!(read_secret(&path).unwrap(), expected);
        }
        std::fs::write(&path, "x".repeat(128 * 1024 + 1)).unwrap();
        assert_eq!(read_secret(&path).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert!(read_secret(&folder.path().join("absent")).is_err());
    }
}
