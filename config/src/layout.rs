//! The layout of the file: which keys stand where, and which must fit together.

mod access;
mod audit;
mod certificates;
mod client;
mod kubernetes;
mod listeners;
mod login;
mod machines;
mod placeholder;
mod quotas;
mod routes;
mod secret;
mod templates;

pub use placeholder::PLACEHOLDERS;

use crate::expression::Scope;
use crate::model::{Admin, AdminTls, Config, DeclaredRoute, Drain, Driver, NamedWorkspace, Sessions, Spawn};
use crate::names::{HostName, Label, RouteName, WorkspaceName};
use crate::reader::{self, Table, Wrong, value};
use crate::schema::DriverName;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use toml::de::DeValue;

/// Looks up an environment variable.
pub(crate) type Environment<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Longest domain: a workspace's host, of 47 characters and a dot at most, must still be a host name.
const DOMAIN_MAX: usize = 253 - 48;

const SECOND: Duration = Duration::from_secs(1);

/// Parses and validates a configuration.
pub(crate) fn parse(file: &str, text: &str, environment: Environment<'_>) -> Result<Config, crate::Findings> {
    reader::read(file, text, |root| config(root, environment))
}

/// Reads every section before it gives up on any.
fn config(root: &mut Table<'_>, environment: Environment<'_>) -> Option<Config> {
    let declared = root.names("templates");
    let domain = domain(root);
    let portal = portal(root, domain.as_ref());
    let state_dir = root.value("state_dir", value::path);
    let driver_name = root.value("driver", driver_name);
    // After a slip the rest is read as it was probably meant.
    let meant = if root.has("kubernetes") { DriverName::Kubernetes } else { DriverName::Process };
    let chosen = driver_name.unwrap_or(meant);
    let driver = driver(root, chosen);
    let login = root.table("login", |table| login::login(table, environment));
    let listeners = listeners::listeners(root, login.as_ref());
    let has_proxy_protocol =
        listeners.as_ref().is_none_or(|all| all.iter().any(|bound| bound.listener.proxy_protocol));
    let proxies = client::proxies(root, has_proxy_protocol);
    let tls = root.table("tls", |table| certificates::tls(table, domain.as_ref()));
    let hosts = domain.as_ref().zip(portal.as_ref());
    let certificates = certificates::certificates(root, environment, hosts, (chosen, listeners.as_deref()));
    let admin = root.table("admin", |table| admin(table, state_dir.as_deref(), listeners.as_deref()));
    let access = root.table("access", |table| access::access(table, &declared));
    let limits = root.table("limits", client::limits);
    let sessions = root.table("sessions", sessions);
    let audit = root.table("audit", audit::audit);
    let machines = root.table("machines", machines::machines);
    let (spawn, drain) = (root.table("spawn", spawn), root.table("drain", drain));
    let quotas = quotas::quotas(root, chosen);
    let named_workspaces = named_workspaces(root, &declared);
    let defaults = root.table("workspaces", |table| templates::defaults(table, chosen));
    let templates = templates::templates(root, chosen, defaults.as_ref(), environment);
    let routes = routes(root, (driver.as_ref(), chosen), hosts, defaults.as_ref());
    Some(Config {
        domain: domain?,
        portal: portal?,
        state_dir: state_dir?,
        driver: driver_name.and(driver)?,
        proxies: proxies?,
        listeners: listeners?.into_iter().map(|bound| bound.listener).collect(),
        tls: tls?,
        certificates: certificates?,
        admin: admin?,
        login: login?,
        access: access?,
        limits: limits?,
        sessions: sessions?,
        audit: audit?,
        machines: machines?,
        spawn: spawn?,
        drain: drain?,
        quotas: quotas?,
        named_workspaces: named_workspaces?,
        templates: templates?,
        routes: routes?,
        places: root.places("templates"),
    })
}

/// After a finding in the driver they are read for their own mistakes.
fn routes(
    root: &mut Table<'_>,
    (driver, chosen): (Option<&Driver>, DriverName),
    hosts: Option<(&HostName, &HostName)>,
    defaults: Option<&templates::Defaults>,
) -> Option<BTreeMap<RouteName, DeclaredRoute>> {
    match driver {
        Some(Driver::Kubernetes(kubernetes)) => {
            let under = routes::Under {
                namespace: Some(&kubernetes.namespace),
                records: kubernetes.records_namespace.as_ref(),
                domain: hosts.map(|(domain, _)| domain),
                portal: hosts.map(|(_, portal)| portal),
            };
            routes::routes(root, &under, defaults)
        }
        None if chosen == DriverName::Kubernetes => routes::routes(root, &routes::Under::default(), None),
        Some(Driver::Process) | None => Some(BTreeMap::new()),
    }
}

fn driver(root: &mut Table<'_>, chosen: DriverName) -> Option<Driver> {
    match chosen {
        DriverName::Process => Some(Driver::Process),
        DriverName::Kubernetes => root.table("kubernetes", kubernetes::kubernetes).map(Driver::Kubernetes),
    }
}

fn driver_name(value: &DeValue<'_>) -> Result<DriverName, Wrong> {
    let words = [("process", DriverName::Process), ("kubernetes", DriverName::Kubernetes)];
    value::word(&words, "a driver")(value)
}

fn domain(root: &mut Table<'_>) -> Option<HostName> {
    let domain = root.value("domain", value::host_name)?;
    if domain.as_str().len() > DOMAIN_MAX {
        root.fault("domain", "is too long for hosts under it", format!("at most {DOMAIN_MAX} characters"));
        return None;
    }
    Some(domain)
}

/// The portal must not be a host that a user could be given.
fn portal(root: &mut Table<'_>, domain: Option<&HostName>) -> Option<HostName> {
    let given = root.maybe("portal", value::host_name)?;
    let domain = domain?;
    let portal = given.unwrap_or_else(|| domain.clone());
    let under = portal.as_str().strip_suffix(domain.as_str()).and_then(|rest| rest.strip_suffix('.'));
    if let Some(label) = under
        && !Label::is_reserved(label)
    {
        let problem = format!("`{portal}` stands among the hosts of workspaces");
        let accepted =
            format!("`{domain}` itself, a reserved name under it such as `auth.{domain}`, or another domain");
        root.fault("portal", problem, accepted);
        return None;
    }
    Some(portal)
}

fn admin(
    table: &mut Table<'_>,
    state_dir: Option<&Path>,
    listeners: Option<&[listeners::Bound<'_>]>,
) -> Option<Admin> {
    let address = table.value("address", value::socket_address);
    let socket = table.maybe("socket", value::path);
    let tls = admin_tls(table);
    let address = address?;
    let mut taken = listeners.unwrap_or_default().iter().flat_map(|bound| &bound.listener.addresses);
    if let Some(other) = taken.find(|other| listeners::overlap(**other, address)) {
        table.fault("address", format!("`{address}` is taken by the listener on `{other}`"), "another port");
    }
    Some(Admin { address, socket: socket?.or_else(|| Some(state_dir?.join("admin.sock")))?, tls: tls? })
}

fn admin_tls(table: &mut Table<'_>) -> Option<Option<AdminTls>> {
    let certificate = table.maybe("certificate", value::path);
    let private_key = table.maybe("private_key", value::path);
    let client_authority = table.maybe("client_authority", value::path);
    let (certificate, private_key, client_authority) = (certificate?, private_key?, client_authority?);
    if let (Some(certificate), Some(private_key)) = (&certificate, &private_key) {
        let (certificate, private_key) = (certificate.clone(), private_key.clone());
        return Some(Some(AdminTls { certificate, private_key, client_authority }));
    }
    let given = [
        ("certificate", certificate.is_some()),
        ("private_key", private_key.is_some()),
        ("client_authority", client_authority.is_some()),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        Some((key, _)) => {
            let problem = "needs certificate and private_key, both of them";
            table.fault(key, problem, "both, or none of the three for cleartext");
            None
        }
        None => Some(None),
    }
}

fn sessions(table: &mut Table<'_>) -> Option<Sessions> {
    let idle_after = table.value("idle_after", value::duration(SECOND));
    let max_age = table.value("max_age", value::duration(SECOND));
    let per_user = table.value("per_user", value::integer(1..=1_000));
    let refresh_after = table.value("refresh_after", value::duration(SECOND));
    let outage_grace = table.value("outage_grace", value::duration(Duration::ZERO));
    let sessions = Sessions {
        idle_after: idle_after?,
        max_age: max_age?,
        per_user: per_user?,
        refresh_after: refresh_after?,
        outage_grace: outage_grace?,
    };
    if sessions.idle_after > sessions.max_age {
        let key = if table.has("idle_after") { "idle_after" } else { "max_age" };
        table.fault(key, "idle_after is longer than max_age", "an idle_after that is at most max_age");
        return None;
    }
    Some(sessions)
}

fn spawn(table: &mut Table<'_>) -> Option<Spawn> {
    let concurrent = table.value("concurrent", value::integer(1..=1_000));
    let queue = table.value("queue", value::integer(1..=1_000_000));
    let hold_timeout = table.value("hold_timeout", value::duration(Duration::ZERO));
    Some(Spawn { concurrent: concurrent?, queue: queue?, hold_timeout: hold_timeout? })
}

fn drain(table: &mut Table<'_>) -> Option<Drain> {
    let delay = table.value("delay", value::duration(Duration::ZERO));
    let after = table.value("after", value::duration(Duration::ZERO));
    let spread = table.value("spread", value::duration(Duration::ZERO));
    Some(Drain { delay: delay?, after: after?, spread: spread? })
}

fn named_workspaces(
    root: &mut Table<'_>,
    declared: &[&str],
) -> Option<BTreeMap<WorkspaceName, NamedWorkspace>> {
    root.named("named_workspaces", WorkspaceName::parse, |_, field| {
        field.table()?.read(|table| {
            let rule = table.rule("template", Scope::Person)?;
            access::templates_exist(table, &rule, declared);
            Some(NamedWorkspace { template: rule.expression })
        })
    })
}

#[cfg(test)]
mod tests;
