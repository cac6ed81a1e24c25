//! The keys of a template that the driver `kubernetes` reads.

mod mounts;
mod resources;
mod volume;
mod warm;

use super::{command, environment};
use crate::layout::SECOND;
use crate::layout::placeholder::Used;
use crate::model::{PodTemplate, PullPolicy, RunAs, Verbatim};
use crate::names::TemplateName;
use crate::reader::{Table, value};
use crate::values::{Kind, Text};
use serde_json::Value;
use std::collections::BTreeMap;

/// Reads them.
pub(super) fn pod(table: &mut Table<'_>, name: Option<&TemplateName>) -> Option<PodTemplate> {
    let namespace = match table.field("namespace") {
        Some(field) => field.text(Kind::Namespace).map(Some),
        None => Some(None),
    };
    let image = required_text(table, "image", Kind::Image);
    let image_pull_policy = table.maybe("image_pull_policy", value::word(PULL_POLICIES, "a pull policy"));
    let command = if table.has("command") { command(table, Used::Pod) } else { absent_command(table) };
    let working_dir = table.maybe("working_dir", value::absolute_path);
    let environment = environment::of_pod(table);
    let port = table.value("port", value::integer(1..=u16::MAX));
    let resources = resources::resources(table);
    let run_as = table.table("run_as", run_as);
    let volume = volume::volume(table);
    let mounts = mounts::mounts(table);
    let node_selector = node_selector(table);
    let service_account = match table.field("service_account") {
        Some(field) => field.text(Kind::Name).map(Some),
        None => Some(None),
    };
    let schedule_timeout = table.value("schedule_timeout", value::duration(SECOND));
    let pull_timeout = table.value("pull_timeout", value::duration(SECOND));
    let warm = warm::warm(table);
    let allow_privileged = table.value("allow_privileged", value::boolean);
    let verbatim = verbatim(table);
    can_be_a_label(table, name?)?;
    let pods = PodTemplate {
        namespace: namespace?,
        image: image?,
        image_pull_policy: image_pull_policy?,
        command: command?,
        working_dir: working_dir?,
        environment: environment?,
        port: port?,
        resources: resources?,
        run_as: run_as?,
        volume: volume?,
        mounts: mounts?,
        node_selector: node_selector?,
        service_account: service_account?,
        schedule_timeout: schedule_timeout?,
        pull_timeout: pull_timeout?,
        warm: warm?,
        allow_privileged: allow_privileged?,
        verbatim: verbatim?,
    };
    warm::is_nobodys(table, &pods).then_some(pods)
}

const PULL_POLICIES: &[(&str, PullPolicy)] = &[
    ("Always", PullPolicy::Always),
    ("IfNotPresent", PullPolicy::IfNotPresent),
    ("Never", PullPolicy::Never),
];

/// A text that must be given.
fn required_text(table: &mut Table<'_>, key: &'static str, kind: Kind) -> Option<Text> {
    match table.field(key) {
        Some(field) => field.text(kind),
        // It has no default: the finding says that it is missing.
        None => table.value(key, value::string).map(Text::Plain),
    }
}

/// Without a command the image has its own.
fn absent_command(table: &mut Table<'_>) -> Option<Vec<String>> {
    table.field("command").is_none().then(Vec::new)
}

fn run_as(table: &mut Table<'_>) -> Option<RunAs> {
    // Kubernetes takes ids up to 2³¹ - 1; root is no id for a workspace.
    let id = || value::integer(1..=i32::MAX.unsigned_abs());
    let uid = table.value("uid", id());
    let gid = table.value("gid", id());
    let fs_group = table.value("fs_group", id());
    Some(RunAs { uid: uid?, gid: gid?, fs_group: fs_group? })
}

fn node_selector(table: &mut Table<'_>) -> Option<BTreeMap<String, Text>> {
    table.named("node_selector", qualified_name, |_, field| field.text(Kind::LabelValue))
}

/// The key of a label, or the name of a resource.
pub(in crate::layout) fn qualified_name(text: &str) -> Result<String, String> {
    Kind::QualifiedName.judge(text).map(|()| text.to_owned()).map_err(|wrong| wrong.problem)
}

/// What is in Kubernetes' own words is taken as it is.
fn verbatim(table: &mut Table<'_>) -> Option<Verbatim> {
    let tolerations = list(table, "tolerations");
    let init_containers = list(table, "init_containers");
    let sidecars = list(table, "sidecars");
    let pod = match table.field("pod") {
        None => Some(serde_json::Map::new()),
        Some(field) => match field.json()? {
            Value::Object(pod) => Some(pod),
            _ => {
                field.fault("is not a table", "a PodSpec of Kubernetes");
                None
            }
        },
    };
    Some(Verbatim {
        tolerations: tolerations?,
        init_containers: init_containers?,
        sidecars: sidecars?,
        pod: pod?,
    })
}

fn list(table: &mut Table<'_>, key: &'static str) -> Option<Vec<Value>> {
    let Some(field) = table.field(key) else { return Some(Vec::new()) };
    field.items()?.iter().map(|item| item.json()).collect()
}

/// The template's name is a label of its workspaces.
fn can_be_a_label(table: &Table<'_>, name: &TemplateName) -> Option<()> {
    let judged = Kind::LabelValue.judge(name.as_str());
    let told = |_| {
        let problem =
            "the template's name is the value of a label in the cluster, and cannot end in `-` or `_`";
        table.fault("", problem, "a name that ends in a letter or digit");
    };
    judged.map_err(told).ok()
}
