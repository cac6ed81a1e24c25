//! Who may use whom: the table of the packages, held against the resolved dependency graph.
//!
//! `.deny.toml` holds the direct uses; this looks through other crates, too.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What a package must not reach in any number of steps through crates that are not ours, which have a row each;
/// dev-dependencies apart. A final `*` matches any rest.
const FORBIDDEN: [(&str, &[&str]); 4] = [
    ("usher-config", &["tokio", "pingora*", "kube*", "hyper", "usher-certs", "usher-control", "usher-proxy"]),
    ("usher-certs", &["pingora*", "kube*", "usher-control", "usher-proxy"]),
    ("usher-control", &["pingora*", "openidconnect", "usher-certs", "usher-proxy"]),
    ("usher-proxy", &["kube*", "instant-acme", "usher-tests"]),
];

/// For each package the names that it reaches.
struct Graph(BTreeMap<String, BTreeSet<String>>);

impl Graph {
    fn of_workspace() -> Self {
        let mut cargo = Command::new(env!("CARGO"));
        // Of one platform: the crates of others were never fetched, and offline they cannot be.
        let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        cargo.args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--offline",
            "--filter-platform",
            &platform,
        ]);
        cargo.arg("--manifest-path");
        let output = cargo
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
            .output()
            .expect("the program can be started");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo writes JSON");
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let names: BTreeMap<String, String> =
            list(&metadata["packages"]).iter().map(|p| (text(&p["id"]), text(&p["name"]))).collect();
        let mut direct: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in list(&metadata["resolve"]["nodes"]) {
            let used = list(&node["deps"]).into_iter().filter(|dep| {
                // `kind` is null for an ordinary dependency; a build script or a test is no use at run time.
                list(&dep["dep_kinds"]).iter().any(|kind| kind["kind"].is_null())
            });
            let used = used.map(|dep| names[dep["pkg"].as_str().unwrap_or_default()].clone());
            direct.entry(names[&text(&node["id"])].clone()).or_default().extend(used);
        }
        Self(direct)
    }

    /// Everything that a package reaches without the help of another of ours.
    fn reached_by(&self, package: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut next = vec![package];
        while let Some(name) = next.pop() {
            for used in self.0.get(name).into_iter().flatten() {
                if reached.insert(used.as_str()) && !used.starts_with("usher-") {
                    next.push(used);
                }
            }
        }
        reached
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == pattern,
    }
}

#[test]
fn no_package_reaches_what_the_table_forbids() {
    let graph = Graph::of_workspace();
    assert!(graph.reached_by("usher-proxy").contains("pingora-core"), "the graph is not read rightly");
    assert!(graph.reached_by("usher-control").contains("kube-core"), "the graph is not read rightly");
    for (package, forbidden) in FORBIDDEN {
        let reached = graph.reached_by(package);
        let bad: Vec<_> = reached.iter().filter(|name| forbidden.iter().any(|f| matches(f, name))).collect();
        assert!(bad.is_empty(), "{package} must not use {bad:?}");
    }
}

#[test]
fn nobody_knows_the_edge_but_the_tests() {
    let graph = Graph::of_workspace();
    let users =
        graph.0.iter().filter(|(_, used)| used.contains("usher-proxy")).map(|(user, _)| user.as_str());
    let users: Vec<_> = users.filter(|user| *user != "usher-tests").collect();
    assert_eq!(users, Vec::<&str>::new());
}

#[test]
fn no_code_of_ours_is_unsafe_and_every_package_takes_the_lints() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let workspace = std::fs::read_to_string(format!("{root}/Cargo.toml")).unwrap();
    assert!(workspace.contains("unsafe_code = \"forbid\""), "the lint is gone");
    for package in ["config", "certs", "control", "proxy", "tests"] {
        let manifest = std::fs::read_to_string(format!("{root}/{package}/Cargo.toml")).unwrap();
        assert!(
            manifest.contains("[lints]\nworkspace = true"),
            "{package} does not take the workspace's lints"
        );
    }
}
