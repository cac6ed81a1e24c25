//! `[quotas.NAME]`: how much may run at a time, of each user and of all together.

use super::templates::qualified_name;
use crate::amount::Amount;
use crate::expression::Scope;
use crate::model::{Quota, QuotaLimits};
use crate::names::QuotaName;
use crate::reader::{Table, value};
use crate::schema::DriverName;
use crate::values::Kind;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reads all quotas.
pub(super) fn quotas(root: &mut Table<'_>, driver: DriverName) -> Option<BTreeMap<QuotaName, Arc<Quota>>> {
    root.named("quotas", QuotaName::parse, |_, field| {
        field.table()?.read(|table| quota(table, driver)).map(Arc::new)
    })
}

fn quota(table: &mut Table<'_>, driver: DriverName) -> Option<Quota> {
    let applies_to = table.rule("applies_to", Scope::Person);
    let each = table.maybe_table("each", |table| limits(table, driver));
    let all = table.maybe_table("all", |table| limits(table, driver));
    let (each, all) = (each?, all?);
    if each.is_none() && all.is_none() {
        table.fault("", "limits nothing", "each, all, or both: each = { workspaces = 2 }");
        return None;
    }
    Some(Quota {
        applies_to: applies_to?.expression,
        each: each.unwrap_or_default(),
        all: all.unwrap_or_default(),
    })
}

fn limits(table: &mut Table<'_>, driver: DriverName) -> Option<QuotaLimits> {
    let workspaces = table.maybe("workspaces", value::integer(0..=1_000_000_u64));
    // A process asks for nothing that could be counted.
    let resources = match driver {
        DriverName::Process => Some(BTreeMap::new()),
        DriverName::Kubernetes => table.others(qualified_name, |_, field| {
            let text = field.parse(|value| value::of_kind(value, Kind::Quantity))?;
            Some(Amount::parse(&text).expect("what is a quantity has an amount"))
        }),
    };
    let limits = QuotaLimits { workspaces: workspaces?, resources: resources? };
    if limits == QuotaLimits::default() {
        table.fault("", "limits nothing", "workspaces = 2, or the name of a resource");
        return None;
    }
    Some(limits)
}
