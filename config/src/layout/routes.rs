//! `[routes.NAME]`: what is there already, and who may wake it.

use super::SECOND;
use super::templates::{Defaults, serving};
use crate::expression::Scope;
use crate::model::{DeclaredRoute, ExistingObject, ObjectKind, Runs, Template};
use crate::names::{HostName, RouteName, TemplateName};
use crate::reader::{Field, Table, value};
use crate::values::Kind;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Most pods that one is woken to: more is a slip of the pen.
const REPLICAS_MAX: u32 = 1_000;

/// What routes are declared under, as far as it could be read.
#[derive(Default)]
pub(super) struct Under<'a> {
    pub(super) namespace: Option<&'a String>,
    pub(super) records: Option<&'a String>,
    pub(super) domain: Option<&'a HostName>,
    pub(super) portal: Option<&'a HostName>,
}

/// Reads all routes. None may be the portal's host, and no two may lead to one object: each would stop it for the
/// other.
pub(super) fn routes(
    root: &mut Table<'_>,
    under: &Under<'_>,
    defaults: Option<&Defaults>,
) -> Option<BTreeMap<RouteName, DeclaredRoute>> {
    let mut taken = BTreeSet::new();
    root.named("routes", RouteName::parse, |name, field| {
        is_not_the_portal(name, &field, under);
        field.table()?.read(|table| {
            let route = route(table, name, under, defaults)?;
            is_alone(table, &route, &mut taken);
            is_apart(table, &route, under);
            Some(route)
        })
    })
}

fn route(
    table: &mut Table<'_>,
    name: Option<&RouteName>,
    under: &Under<'_>,
    defaults: Option<&Defaults>,
) -> Option<DeclaredRoute> {
    let existing = existing(table, name, under);
    let allow = table.rule("allow", Scope::Person);
    let serving = serving(table, defaults);
    let (existing, serving) = (existing?, serving?);
    let template = Template {
        name: TemplateName::of_route(&existing.route),
        runs: Runs::Existing(existing),
        ready: serving.ready,
        ports: Vec::new(),
        notice: serving.notice,
        service_workers: serving.service_workers,
        headers: serving.headers,
        start_timeout: serving.start_timeout,
        // Its pods say it themselves.
        stop_grace: Duration::ZERO,
        prestart: Vec::new(),
        idle: serving.idle,
        addresses: serving.addresses,
    };
    Some(DeclaredRoute { allow: allow?.expression, template: Arc::new(template) })
}

fn existing(table: &mut Table<'_>, name: Option<&RouteName>, under: &Under<'_>) -> Option<ExistingObject> {
    let words = [("Deployment", ObjectKind::Deployment), ("StatefulSet", ObjectKind::StatefulSet)];
    let kind = table.value("kind", value::word(&words, "a kind that can be woken"));
    let object = table.value("object", |value| value::of_kind(value, Kind::Name));
    let namespace = table.maybe("namespace", |value| value::of_kind(value, Kind::Namespace));
    let port = table.value("port", value::integer(1..=u16::MAX));
    let replicas = table.value("replicas", value::integer(1..=REPLICAS_MAX));
    let schedule_timeout = table.value("schedule_timeout", value::duration(SECOND));
    let pull_timeout = table.value("pull_timeout", value::duration(SECOND));
    Some(ExistingObject {
        route: name?.clone(),
        kind: kind?,
        name: object?,
        namespace: namespace?.or_else(|| under.namespace.cloned())?,
        port: port?,
        replicas: replicas?,
        schedule_timeout: schedule_timeout?,
        pull_timeout: pull_timeout?,
    })
}

fn is_not_the_portal(name: Option<&RouteName>, field: &Field<'_>, under: &Under<'_>) {
    let (Some(name), Some(domain), Some(portal)) = (name, under.domain, under.portal) else { return };
    if portal.as_str().strip_suffix(domain.as_str()).and_then(|rest| rest.strip_suffix('.'))
        == Some(name.as_str())
    {
        field.fault(format!("`{portal}` is the portal"), "another name, or another `portal`");
    }
}

/// Whoever may patch an object can let its pods read every Secret beside it.
fn is_apart(table: &Table<'_>, route: &DeclaredRoute, under: &Under<'_>) {
    let Runs::Existing(existing) = &route.template.runs else { return };
    if under.records == Some(&existing.namespace) {
        let problem = "is where the records are, and whoever changes a pod there can read every Secret";
        table.fault("namespace", problem, "another namespace");
    }
}

fn is_alone(table: &Table<'_>, route: &DeclaredRoute, taken: &mut BTreeSet<(ObjectKind, String, String)>) {
    let Runs::Existing(existing) = &route.template.runs else { return };
    if !taken.insert((existing.kind, existing.namespace.clone(), existing.name.clone())) {
        let problem = "is the object of another route above, and each would stop it for the other";
        table.fault("object", problem, "an object of its own");
    }
}
