//! The container that is the workspace.

use super::spec::volume_name;
use crate::StartSpec;
use crate::kubernetes::names;
use crate::placeholders::Placeholders;
use config::{BadValue, PodTemplate, PodVariable, PullPolicy, Resources, Text, Values};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, EnvVarSource, ResourceRequirements, SecretKeySelector, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

/// The workspace's container; `home` is where its files are.
///
/// `whose` = none: it runs before its user comes, and has nothing of theirs.
pub(super) fn workspace(
    whose: Option<&StartSpec>,
    pods: &PodTemplate,
    values: &Values,
    home: &str,
) -> Result<Container, BadValue> {
    let name = whose.and_then(|spec| spec.id.name());
    let placeholders = Placeholders {
        socket: None,
        port: Some(pods.port),
        host: whose.map_or("", |spec| &spec.host),
        home,
        label: whose.and_then(|spec| spec.id.label()).map_or("", |label| label.as_str()),
        name: name.map_or("", |name| name.as_str()),
        usher: None,
    };
    let command = pods.command.iter().map(|word| literal(&placeholders.fill(word)));
    let port = ContainerPort {
        name: Some(names::CONTAINER.to_owned()),
        container_port: pods.port.into(),
        ..ContainerPort::default()
    };
    Ok(Container {
        name: names::CONTAINER.to_owned(),
        image: Some(pods.image.given(values)?.to_owned()),
        image_pull_policy: pods.image_pull_policy.map(|policy| pull_policy(policy).to_owned()),
        command: (!pods.command.is_empty()).then(|| command.collect()),
        working_dir: pods.working_dir.clone(),
        env: Some(environment(whose, pods, values, &placeholders)?),
        ports: Some(vec![port]),
        resources: Some(resources(&pods.resources, values)?),
        volume_mounts: Some(mounts(pods, home)),
        ..Container::default()
    })
}

/// Usher's own variables first and the template's after them; no template can give one of Usher's.
fn environment(
    whose: Option<&StartSpec>,
    pods: &PodTemplate,
    values: &Values,
    placeholders: &Placeholders<'_>,
) -> Result<Vec<EnvVar>, BadValue> {
    let variable = |name: &str, value: &str| EnvVar {
        name: name.to_owned(),
        value: Some(literal(value)),
        value_from: None,
    };
    let mut environment = vec![variable("HOME", placeholders.home)];
    // A program that runs before its user comes would hold for true for ever what stood here then.
    if let Some(spec) = whose {
        environment.extend([
            variable("USHER_WORKSPACE", &spec.id.to_string()),
            variable("USHER_LABEL", placeholders.label),
            variable("USHER_NAME", placeholders.name),
            variable("USHER_HOST", placeholders.host),
        ]);
    }
    for (name, given) in &pods.environment {
        let one = match given {
            PodVariable::Text(Text::Plain(text)) => variable(name, &placeholders.fill(text)),
            // What a rule gave is data: it holds no placeholders.
            PodVariable::Text(text) => variable(name, text.given(values)?),
            PodVariable::FromSecret { name: secret, key } => {
                EnvVar { name: name.clone(), value: None, value_from: Some(from_secret(secret, key)) }
            }
        };
        // A template may say where its HOME is.
        environment.retain(|other| other.name != one.name);
        environment.push(one);
    }
    Ok(environment)
}

fn from_secret(name: &str, key: &str) -> EnvVarSource {
    let selector = SecretKeySelector { name: name.to_owned(), key: key.to_owned(), optional: None };
    EnvVarSource { secret_key_ref: Some(selector), ..EnvVarSource::default() }
}

/// Kubernetes puts variables in place of `$(NAME)`, in values and commands; `$$` is a dollar.
///
/// A template means what it says, as it does for processes; and what a claim holds must not pull in a secret.
fn literal(text: &str) -> String {
    text.replace('$', "$$")
}

fn pull_policy(policy: PullPolicy) -> &'static str {
    match policy {
        PullPolicy::Always => "Always",
        PullPolicy::IfNotPresent => "IfNotPresent",
        PullPolicy::Never => "Never",
    }
}

fn resources(resources: &Resources, values: &Values) -> Result<ResourceRequirements, BadValue> {
    let amounts = |own: &BTreeMap<String, Text>| {
        let texts = resources.both.iter().chain(own);
        let amount = |text: &Text| Ok(Quantity(text.given(values)?.to_owned()));
        texts.map(|(name, text)| Ok((name.clone(), amount(text)?))).collect::<Result<_, BadValue>>()
    };
    Ok(ResourceRequirements {
        requests: Some(amounts(&resources.requests)?),
        limits: Some(amounts(&resources.limits)?),
        claims: None,
    })
}

fn mounts(pods: &PodTemplate, home: &str) -> Vec<VolumeMount> {
    let files =
        VolumeMount { name: names::HOME.to_owned(), mount_path: home.to_owned(), ..VolumeMount::default() };
    let about = VolumeMount {
        name: names::ABOUT.to_owned(),
        mount_path: names::ABOUT_PATH.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    let others = pods.mounts.iter().enumerate().map(|(index, mount)| VolumeMount {
        name: volume_name(index),
        mount_path: mount.path.clone(),
        sub_path: mount.sub_path.clone(),
        read_only: mount.read_only.then_some(true),
        ..VolumeMount::default()
    });
    [files, about].into_iter().chain(others).collect()
}
