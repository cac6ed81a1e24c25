//! `[routes.NAME]`: what is there already.

use super::{findings, parse};
use crate::{DeclaredRoute, ExistingObject, ObjectKind, Runs};
use std::time::Duration;

/// The smallest configuration with a route.
const ROUTE: &str = r#"domain = "lab.example.org"
driver = "kubernetes"
[[listeners]]
address = "127.0.0.1:8080"
[access]
allow = "true"
template = "'demo'"
[kubernetes]
namespace = "workspaces"
[templates.demo]
image = "demo:1"
port = 8888
volume = "none"
resources = { memory = "1Gi", cpu = 1 }
[routes.docs]
kind = "Deployment"
object = "wiki"
port = 8080
allow = "'staff' in groups"
"#;

/// The findings of [`ROUTE`] with one text in place of another.
fn with(good: &str, other: &str) -> String {
    assert!(ROUTE.contains(good), "{good}");
    findings(&ROUTE.replacen(good, other, 1))
}

fn object(route: &DeclaredRoute) -> &ExistingObject {
    let Runs::Existing(object) = &route.template.runs else { panic!("{route:?}") };
    object
}

#[test]
fn the_smallest_route_has_the_defaults_of_workspaces() {
    let config =
        parse(&format!("{ROUTE}[workspaces]\nidle_after = '1h'\n")).unwrap_or_else(|e| panic!("{e}"));
    let route = &config.routes["docs"];
    let existing = object(route);
    assert_eq!((existing.kind, existing.name.as_str()), (ObjectKind::Deployment, "wiki"));
    assert_eq!((existing.namespace.as_str(), existing.port, existing.replicas), ("workspaces", 8080, 1));
    let template = &route.template;
    assert_eq!(
        (template.name.as_str(), template.idle.idle_after),
        ("route:docs", Some(Duration::from_hours(1)))
    );
    assert!(!template.notice && !template.service_workers && template.ready.is_none());
    assert!(config.template(&template.name).is_some() && !config.templates.contains_key(&template.name));
}

#[test]
fn every_mistake_of_a_route_is_told_at_its_place() {
    for (good, bad, expected) in [
        (
            "\"Deployment\"",
            "\"DaemonSet\"",
            "f:16:8: routes.docs.kind: `\"DaemonSet\"` is not a kind that can be woken",
        ),
        ("object = \"wiki\"\n", "", "f:15:1: routes.docs.object: is missing"),
        ("\"wiki\"", "\"Wiki\"", "f:17:10: routes.docs.object: `\"Wiki\"` is not a name of Kubernetes"),
        ("port = 8080", "port = 0", "f:18:8: routes.docs.port: `0` is not a number in range"),
        ("allow = \"'staff' in groups\"\n", "", "f:15:1: routes.docs.allow: is missing"),
        (
            "in groups",
            "in group",
            "f:19:21: routes.docs.allow: unknown variable `group`; did you mean `groups`?",
        ),
        (
            "port = 8080",
            "port = 8080\nnamespace = 'A'",
            "f:19:13: routes.docs.namespace: `'A'` is not the name of a namespace",
        ),
        (
            "port = 8080",
            "port = 8080\nreplicas = 0",
            "f:19:12: routes.docs.replicas: `0` is not a number in range",
        ),
        (
            "[templates.demo]",
            "records_namespace = 'usher'\n[routes.wiki]\nkind = 'StatefulSet'\nobject = 'wiki'\nport = 1\n\
             allow = 'true'\nnamespace = 'usher'\n[templates.demo]",
            "f:16:13: routes.wiki.namespace: is where the records are",
        ),
        ("port = 8080", "port = 8080\nidle_after = '1m'", "f:19:14: routes.docs.idle_after: warn_before"),
        ("port = 8080", "port = 8080\nimage = 'a'", "f:19:1: routes.docs.image: unknown key"),
        ("[routes.docs]", "[routes.a--b]", "f:15:9: routes.a--b: \"a--b\" is not a name of a route"),
        ("[routes.docs]", "[routes.Docs]", "f:15:9: routes.Docs: \"Docs\" is not a name of a route"),
        (
            "driver = \"kubernetes\"",
            "portal = \"docs.lab.example.org\"\ndriver = \"kubernetes\"",
            "f:16:1: routes.docs: `docs.lab.example.org` is the portal",
        ),
    ] {
        let told = with(good, bad);
        assert!(told.lines().any(|line| line.starts_with(expected)), "{expected}\n{told}");
    }
    // A name that is kept from users is there for this.
    assert_eq!(with("[routes.docs]", "[routes.www]"), "");
}

#[test]
fn no_two_routes_lead_to_one_object() {
    let second = |name: &str| {
        let second =
            format!("[routes.{name}]\nkind = 'Deployment'\nobject = 'wiki'\nport = 1\nallow = 'true'\n");
        findings(&format!("{ROUTE}{second}"))
    };
    let told = second("wiki");
    assert!(told.starts_with("f:22:10: routes.wiki.object: is the object of another route"), "{told}");
    let other = "[routes.wiki]\nkind = 'StatefulSet'\nobject = 'wiki'\nport = 1\nallow = 'true'\n";
    assert_eq!(findings(&format!("{ROUTE}{other}")), "");
}

#[test]
fn routes_are_of_the_driver_kubernetes_alone() {
    let told = findings(&format!("{}[routes.docs]\nkind = 'Deployment'\n", super::GOOD));
    assert!(
        told.contains("routes: belongs to the driver `kubernetes`, which is not the one chosen"),
        "{told}"
    );
}
