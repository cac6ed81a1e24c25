//! The keys of a template that the driver `process` reads.

use super::{LOG_SIZES, command, environment};
use crate::layout::Environment;
use crate::layout::placeholder::{self, Used};
use crate::model::{Connect, ProcessTemplate, Value};
use crate::reader::{Table, Wrong, value};
use std::collections::BTreeMap;
use toml::de::DeValue;

/// Reads them.
pub(super) fn process(
    table: &mut Table<'_>,
    default_log_size: Option<u64>,
    outer: Environment<'_>,
) -> Option<ProcessTemplate> {
    let connect = table.value("connect", connect);
    let command = command(table, Used::Process(connect));
    let environment = environment::of_process(table, connect, outer);
    if let (Some(connect), Some(command), Some(environment)) = (connect, &command, &environment) {
        is_told_where_to_listen(table, connect, command, environment);
    }
    let log_size = table.maybe("log_size", value::size(LOG_SIZES));
    Some(ProcessTemplate {
        command: command?,
        environment: environment?,
        connect: connect?,
        log_size: log_size?.or(default_log_size)?,
    })
}

fn connect(value: &DeValue<'_>) -> Result<Connect, Wrong> {
    match value::string(value)?.as_str() {
        "socket" => Ok(Connect::Socket),
        "port" => Ok(Connect::Port),
        _ => Err(Wrong::new("is not a way to connect", "\"socket\" or \"port\"")),
    }
}

/// A workspace that does not know where to listen would never be reached.
fn is_told_where_to_listen(
    table: &Table<'_>,
    connect: Connect,
    command: &[String],
    environment: &BTreeMap<String, Value>,
) {
    let word = match connect {
        Connect::Socket => "socket",
        Connect::Port => "port",
    };
    let plain = environment
        .values()
        .filter_map(|value| if let Value::Plain(text) = value { Some(text) } else { None });
    if !command.iter().chain(plain).any(|text| placeholder::has(text, word)) {
        let problem = format!("the workspace is not told where to listen: `{{{word}}}` is used nowhere");
        table.fault("connect", problem, format!("`{{{word}}}` in command or environment"));
    }
}
