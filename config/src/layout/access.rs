//! `[access]`: the rules about persons.

use super::client;
use crate::expression::Scope;
use crate::model::Access;
use crate::near::{list, nearest};
use crate::reader::{Rule, Table};

/// Reads `[access]`. `declared` are the names under `[templates]`.
pub(crate) fn access(table: &mut Table<'_>, declared: &[&str]) -> Option<Access> {
    let allow = table.rule("allow", Scope::Person);
    let groups = table.rule("groups", Scope::Claims);
    let label = table.rule("label", Scope::Person);
    let admin = table.rule("admin", Scope::Person);
    let template = table.rule("template", Scope::Person);
    let running_max = table.rule("running_max", Scope::Person);
    let tier = table.rule("tier", Scope::Tier);
    let addresses = client::address_lists(table);
    if let Some(rule) = &template {
        templates_exist(table, rule, declared);
    }
    Some(Access {
        allow: allow?.expression,
        groups: groups?.expression,
        label: label?.expression,
        admin: admin?.expression,
        template: template?.expression,
        running_max: running_max?.expression,
        tier: tier?.expression,
        addresses: addresses?,
    })
}

/// Adds a finding for each template that a rule names outright and that is not declared.
pub(crate) fn templates_exist(table: &Table<'_>, rule: &Rule<String>, declared: &[&str]) {
    for (name, at) in &rule.literals {
        if !declared.contains(&name.as_str()) {
            let hint = nearest(name, declared).map(|near| format!("; did you mean `{near}`?"));
            let problem = format!("there is no template `{name}`{}", hint.unwrap_or_default());
            let accepted = match declared {
                [] => "a template, declared as `[templates.NAME]`".to_owned(),
                _ => list(declared),
            };
            table.fault_at(*at, "template", problem, accepted);
        }
    }
}
