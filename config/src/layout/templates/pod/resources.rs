//! `resources`: amounts that a pod may use.

use super::qualified_name;
use crate::model::Resources;
use crate::reader::{Table, value};
use crate::values::{Kind, Text};
use std::collections::BTreeMap;

/// Reads `resources`, which bound what a workspace can take from its neighbours.
pub(super) fn resources(table: &mut Table<'_>) -> Option<Resources> {
    let Some(field) = table.field("resources") else {
        // It has no default: the finding says that it is missing.
        return table.value("resources", value::string).map(|_| Resources::default());
    };
    field.table()?.read(|table| {
        let requests = amounts(table, "requests");
        let limits = amounts(table, "limits");
        let both = table.others(qualified_name, |_, field| field.text(Kind::Quantity));
        let resources = Resources { both: both?, requests: requests?, limits: limits? };
        are_told_apart(table, &resources);
        are_bounded(table, &resources);
        Some(resources)
    })
}

fn amounts(table: &mut Table<'_>, key: &'static str) -> Option<BTreeMap<String, Text>> {
    table.named(key, qualified_name, |_, field| field.text(Kind::Quantity))
}

fn are_told_apart(table: &Table<'_>, resources: &Resources) {
    let Resources { both, requests, limits } = resources;
    for name in both.keys().filter(|name| requests.contains_key(*name) || limits.contains_key(*name)) {
        table.fault(name, "is given twice", "either for both, or under requests and limits");
    }
}

/// Without a limit of memory one workspace can take the node's; without a word on CPU it is scheduled anywhere.
fn are_bounded(table: &Table<'_>, resources: &Resources) {
    let Resources { both, requests, limits } = resources;
    let has =
        |name: &str, tables: &[&BTreeMap<String, Text>]| tables.iter().any(|table| table.contains_key(name));
    if !has("memory", &[both, limits]) {
        table.fault("", "memory has no limit", "memory = \"2Gi\", or limits.memory");
    }
    if !has("cpu", &[both, limits, requests]) {
        table.fault("", "cpu has neither request nor limit", "cpu = \"1\", or requests.cpu");
    }
}
