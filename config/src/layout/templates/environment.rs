//! `environment`: plain values and secrets.
//!
//! A value here may be a secret that should not have been written down, so none is ever shown.

use super::without_nul;
use crate::layout::Environment;
use crate::layout::placeholder::{self, Used};
use crate::model::{Connect, PodVariable, Value};
use crate::reader::{Field, Table, value};
use crate::secret::Secret;
use crate::values::{Kind, Text};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Longest secret in a file: Linux takes no longer variable (`MAX_ARG_STRLEN`).
const SECRET_MAX: u64 = 128 << 10;

/// Reads `environment` of a template of processes.
pub(super) fn of_process(
    table: &mut Table<'_>,
    connect: Option<Connect>,
    outer: Environment<'_>,
) -> Option<BTreeMap<String, Value>> {
    table.named("environment", name, |_, field| variable(field.secret(), connect, outer))
}

/// Reads `environment` of a template of pods.
pub(super) fn of_pod(table: &mut Table<'_>) -> Option<BTreeMap<String, PodVariable>> {
    table.named("environment", name, |_, field| pod_variable(field.secret()))
}

fn name(text: &str) -> Result<String, &'static str> {
    let is_name = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && text.bytes().next().is_some_and(|first| !first.is_ascii_digit());
    if !is_name {
        return Err("is not the name of a variable: letters, digits and `_`, no digit first");
    }
    if text.starts_with("USHER_") {
        // A stop finds all processes of a workspace by USHER_WORKSPACE.
        return Err("names that begin with USHER_ are Usher's own");
    }
    Ok(text.to_owned())
}

fn variable(field: Field<'_>, connect: Option<Connect>, outer: Environment<'_>) -> Option<Value> {
    if field.is_table() {
        return field.table()?.read(|table| secret(table, outer)).map(Value::Secret);
    }
    let text = field.parse(without_nul)?;
    placeholder::check(&field, &text, Used::Process(connect));
    Some(Value::Plain(text))
}

fn pod_variable(field: Field<'_>) -> Option<PodVariable> {
    if !field.is_table() {
        let text = field.parse(without_nul)?;
        placeholder::check(&field, &text, Used::Pod);
        return Some(PodVariable::Text(Text::Plain(text)));
    }
    if field.table()?.has("expression") {
        return field.text(Kind::Environment).map(PodVariable::Text);
    }
    field.table()?.read(|table| {
        refuse_own_secrets(table)?;
        let found = table.maybe_table("from_secret", |secret| {
            let name = secret.value("name", |value| value::of_kind(value, Kind::Name));
            let key = secret.value("key", value::string);
            Some(PodVariable::FromSecret { name: name?, key: key? })
        })?;
        if found.is_none() {
            const ACCEPTED: &str =
                "a string, { expression = \"…\" } or { from_secret = { name = \"…\", key = \"…\" } }";
            table.fault("", "is neither a text nor a source of one", ACCEPTED);
        }
        found
    })
}

/// A secret of usher's own would stand in the pod's description, for all who may read that.
fn refuse_own_secrets(table: &mut Table<'_>) -> Option<()> {
    let own = ["from_env", "from_file"].into_iter().find(|key| table.field(key).is_some());
    let Some(key) = own else { return Some(()) };
    let problem =
        "a secret of usher's own would stand in the workspace's StatefulSet, readable in the cluster";
    table.fault(
        key,
        problem,
        "from_secret = { name = \"…\", key = \"…\" }, a Secret of the workspaces' namespace",
    );
    None
}

fn secret(table: &mut Table<'_>, outer: Environment<'_>) -> Option<Secret> {
    const ACCEPTED: &str = "a string, { from_env = \"NAME\" } or { from_file = \"PATH\" }";
    let from_env = table.maybe("from_env", value::string);
    let from_file = table.maybe("from_file", value::path);
    let (key, text) = match (from_env?, from_file?) {
        (Some(name), None) => ("from_env", from_variable(table, &name, outer)?),
        (None, Some(path)) => ("from_file", from_file_at(table, &path)?),
        _ => {
            table.fault("", "is neither a text nor one source of a secret", ACCEPTED);
            return None;
        }
    };
    if text.contains('\0') {
        table.fault(key, "the value (not shown) holds a NUL", "a value without NUL");
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
    fn a_variables_name_is_a_shell_word_and_not_ushers() {
        assert!(["A", "_a", "PATH", "LANG_2"].iter().all(|good| name(good).is_ok()));
        assert!(["", "2A", "A B", "A=B", "É", "USHER_WORKSPACE", "a.b"].iter().all(|bad| name(bad).is_err()));
    }

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
