//! Usher's Helm chart on paper: what it makes of values, as the objects that Kubernetes knows.

use k8s_openapi::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Where the chart is.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/chart");
const PROVISION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../.ci/provision.sh");

/// Runs helm with values on its standard input (`--values=-`).
///
/// # Errors
/// What it said.
pub fn helm(mut command: Command, values: &Value) -> Result<String, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("helm can be started");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // Every JSON is YAML. Fails only when helm has ended, and then it says why.
    let _ended = stdin.write_all(values.to_string().as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("helm is our child");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// helm, to be given arguments. It asks no cluster by itself.
pub fn helm_command() -> Command {
    let output =
        Command::new(PROVISION).args(["path", "cluster"]).output().expect("the script can be started");
    let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let helm = folder.join("helm");
    assert!(helm.exists(), "{} is missing: run `.ci/provision.sh cluster` first", helm.display());
    Command::new(helm)
}

/// What the chart makes of values.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// All objects, in the order in which helm writes them.
    pub objects: Vec<Value>,
}

impl Rendered {
    /// Renders the release `usher` in a namespace.
    ///
    /// # Errors
    /// What helm said.
    pub fn new(namespace: &str, values: &Value) -> Result<Self, String> {
        let mut command = helm_command();
        command.args(["template", "usher", CHART, "--namespace", namespace, "--values=-"]);
        let yaml = helm(command, values)?;
        let objects: Vec<Value> =
            serde_saphyr::from_multiple(&yaml).unwrap_or_else(|error| panic!("{error}:\n{yaml}"));
        Ok(Self { objects: objects.into_iter().filter(|object| !object.is_null()).collect() })
    }

    /// All objects of a kind. Panics where one has a field that the kind does not know.
    pub fn all<K: Resource + DeserializeOwned + Serialize>(&self) -> Vec<K> {
        let of_kind = |object: &&Value| object["apiVersion"] == K::API_VERSION && object["kind"] == K::KIND;
        self.objects.iter().filter(of_kind).map(typed).collect()
    }

    /// The one object of a kind.
    pub fn one<K: Resource + DeserializeOwned + Serialize>(&self) -> K {
        let mut all = self.all();
        assert_eq!(all.len(), 1, "not one {}", K::KIND);
        all.remove(0)
    }
}

/// An object as its kind, whole: what Kubernetes does not know would be lost on the way.
fn typed<K: DeserializeOwned + Serialize>(object: &Value) -> K {
    let typed: K =
        serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object:#}"));
    let again = serde_json::to_value(&typed).expect("the types of Kubernetes are JSON");
    assert_eq!(bare(again), bare(object.clone()), "a field is not of its kind");
    typed
}

/// Without what says nothing.
fn bare(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, bare(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(bare).collect(),
        other => other,
    }
}
