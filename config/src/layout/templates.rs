//! `[workspaces]` and `[templates.NAME]`: how workspaces run and when they stop.

mod environment;
mod headers;
mod idle;
mod pod;
mod prestart;
mod process;

pub(super) use pod::qualified_name;

use super::placeholder::{self, Used};
use super::{Environment, SECOND, client};
use crate::model::{Idle, ReadyProbe, Runs, Template, UserFact};
use crate::names::TemplateName;
use crate::network::AddressLists;
use crate::reader::{Field, Table, Wrong, value};
use crate::schema::DriverName;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use toml::de::DeValue;

/// Sizes that a log may have: a few lines at least, and nothing that fills a disk by itself.
const LOG_SIZES: std::ops::RangeInclusive<u64> = 4_096..=1 << 30;

/// `[workspaces]`: what every template has unless it says otherwise.
pub(crate) struct Defaults {
    limits: idle::Limits,
    start_timeout: Duration,
    stop_grace: Duration,
    /// Of processes only: none for pods, or after a finding.
    log_size: Option<u64>,
}

/// Reads `[workspaces]`.
pub(crate) fn defaults(table: &mut Table<'_>, driver: DriverName) -> Option<Defaults> {
    let limits = idle::defaults(table);
    let start_timeout = table.value("start_timeout", value::duration(SECOND));
    let stop_grace = table.value("stop_grace", value::duration(Duration::ZERO));
    let log_size = match driver {
        DriverName::Process => table.value("log_size", value::size(LOG_SIZES)),
        DriverName::Kubernetes => None,
    };
    Some(Defaults { limits: limits?, start_timeout: start_timeout?, stop_grace: stop_grace?, log_size })
}

/// Reads all templates; there must be one.
pub(crate) fn templates(
    root: &mut Table<'_>,
    driver: DriverName,
    defaults: Option<&Defaults>,
    environment: Environment<'_>,
) -> Option<BTreeMap<TemplateName, Arc<Template>>> {
    let templates = root.named("templates", TemplateName::parse, |name, field| {
        field.table()?.read(|table| template(table, name, driver, defaults, environment)).map(Arc::new)
    })?;
    if templates.is_empty() {
        root.fault("templates", "there is no template", "one table or more, such as `[templates.demo]`");
        return None;
    }
    Some(templates)
}

fn template(
    table: &mut Table<'_>,
    name: Option<&TemplateName>,
    driver: DriverName,
    defaults: Option<&Defaults>,
    environment: Environment<'_>,
) -> Option<Template> {
    let runs = match driver {
        DriverName::Process => {
            process::process(table, defaults.and_then(|defaults| defaults.log_size), environment)
                .map(Runs::Process)
        }
        DriverName::Kubernetes => pod::pod(table, name).map(Box::new).map(Runs::Kubernetes),
    };
    let ports = ports(table);
    let stop_grace = table.maybe("stop_grace", value::duration(Duration::ZERO));
    let prestart = prestart::prestart(table);
    let serving = serving(table, defaults);
    let (defaults, serving) = (defaults?, serving?);
    Some(Template {
        name: name?.clone(),
        runs: runs?,
        ready: serving.ready,
        ports: ports?,
        notice: serving.notice,
        service_workers: serving.service_workers,
        headers: serving.headers,
        start_timeout: serving.start_timeout,
        stop_grace: stop_grace?.unwrap_or(defaults.stop_grace),
        prestart: prestart?,
        idle: serving.idle,
        addresses: serving.addresses,
    })
}

/// What templates and routes say alike: how something is served, whatever runs it.
pub(super) struct Serving {
    pub(super) ready: Option<ReadyProbe>,
    pub(super) notice: bool,
    pub(super) service_workers: bool,
    pub(super) headers: BTreeMap<String, UserFact>,
    pub(super) start_timeout: Duration,
    pub(super) idle: Idle,
    pub(super) addresses: AddressLists,
}

/// Reads what templates and routes say alike.
pub(super) fn serving(table: &mut Table<'_>, defaults: Option<&Defaults>) -> Option<Serving> {
    let ready = table.maybe_table("ready", ready);
    let notice = table.value("notice", value::boolean);
    let service_workers = table.value("service_workers", value::boolean);
    let headers = headers::headers(table);
    let start_timeout = table.maybe("start_timeout", value::duration(SECOND));
    let idle = idle::idle(table, defaults.map(|defaults| &defaults.limits));
    let addresses = client::address_lists(table);
    Some(Serving {
        ready: ready?,
        notice: notice?,
        service_workers: service_workers?,
        headers: headers?,
        start_timeout: start_timeout?.unwrap_or(defaults?.start_timeout),
        idle: idle?,
        addresses: addresses?,
    })
}

/// A string that can be handed to a process.
fn without_nul(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = value::string(value)?;
    if text.contains('\0') { Err(Wrong::new("holds a NUL", "a string without NUL")) } else { Ok(text) }
}

/// `command`, whose first item is the program.
fn command(table: &mut Table<'_>, used: Used) -> Option<Vec<String>> {
    let fields = table.items("command", false)?;
    let read_all: Vec<Option<String>> = fields.iter().map(|field| argument(field, used)).collect();
    let command: Vec<String> = read_all.into_iter().collect::<Option<_>>()?;
    if command.first().is_none_or(String::is_empty) {
        table.fault("command", "names no program", "a list of the program and its arguments");
        return None;
    }
    Some(command)
}

fn argument(field: &Field<'_>, used: Used) -> Option<String> {
    let text = field.parse(without_nul)?;
    placeholder::check(field, &text, used);
    Some(text)
}

fn ready(table: &mut Table<'_>) -> Option<ReadyProbe> {
    let path = table.value("path", value::request_path);
    let status = table.maybe("status", value::integer(200..=599_u16));
    let contains = table.maybe("contains", value::string);
    Some(ReadyProbe { path: path?, status: status?, contains: contains? })
}

fn ports(table: &mut Table<'_>) -> Option<Vec<u16>> {
    let fields = table.items("ports", false)?;
    let read_all: Vec<Option<u16>> =
        fields.iter().map(|field| field.parse(value::integer(1..=u16::MAX))).collect();
    let mut ports: Vec<u16> = read_all.into_iter().collect::<Option<_>>()?;
    ports.sort_unstable();
    ports.dedup();
    Some(ports)
}
