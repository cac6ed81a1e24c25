//! `environment`: plain values and secrets.
//!
//! A value here may be a secret that should not have been written down, so none is ever shown.

use super::without_nul;
use crate::layout::Environment;
use crate::layout::placeholder::{self, Used};
use crate::layout::secret;
use crate::model::{Connect, PodVariable, Value};
use crate::reader::{Field, Table, value};
use crate::values::{Kind, Text};
use std::collections::BTreeMap;

const ACCEPTED: &str = "a string, { from_env = \"NAME\" } or { from_file = \"PATH\" }";

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
        return field.table()?.read(|table| secret::of(table, ACCEPTED, outer)).map(Value::Secret);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variables_name_is_a_shell_word_and_not_ushers() {
        assert!(["A", "_a", "PATH", "LANG_2"].iter().all(|good| name(good).is_ok()));
        assert!(["", "2A", "A B", "A=B", "É", "USHER_WORKSPACE", "a.b"].iter().all(|bad| name(bad).is_err()));
    }
}
