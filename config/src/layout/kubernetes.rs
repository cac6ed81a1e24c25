//! `[kubernetes]`: which cluster, and where in it.

use super::SECOND;
use crate::model::{Kubeconfig, Kubernetes};
use crate::network::Network;
use crate::reader::{Table, value};
use crate::values::Kind;
use std::collections::BTreeSet;

/// Where a pod never is: the machine itself and its links, with the cloud's metadata.
const NEVER: [&str; 4] = ["127.0.0.0/8", "169.254.0.0/16", "::1/128", "fe80::/10"];

/// Reads `[kubernetes]`.
pub(super) fn kubernetes(table: &mut Table<'_>) -> Option<Kubernetes> {
    let namespace = table.value("namespace", |value| value::of_kind(value, Kind::Namespace));
    let more_namespaces =
        table.value("more_namespaces", value::list(|value| value::of_kind(value, Kind::Namespace)));
    let records_namespace = table.maybe("records_namespace", |value| value::of_kind(value, Kind::Namespace));
    let file = table.maybe("kubeconfig", value::path);
    let context = table.maybe("context", value::string);
    let pod_networks = pod_networks(table);
    let use_every = table.value("use_every", value::duration(SECOND));
    let (file, context) = (file?, context?);
    let is_outside = file.is_some() || context.is_some();
    let kubernetes = Kubernetes {
        namespace: namespace?,
        more_namespaces: more_namespaces?,
        records_namespace: records_namespace?,
        cluster: is_outside.then_some(Kubeconfig { file, context }),
        pod_networks: pod_networks?,
        use_every: use_every?,
    };
    let apart = records_are_apart(table, &kubernetes);
    let once = are_named_once(table, &kubernetes);
    (apart && once).then_some(kubernetes)
}

fn are_named_once(table: &Table<'_>, kubernetes: &Kubernetes) -> bool {
    let mut seen = BTreeSet::new();
    let twice = kubernetes.namespaces().find(|namespace| !seen.insert(*namespace));
    if let Some(twice) = twice {
        table.fault("more_namespaces", format!("`{twice}` is named twice"), "each namespace once");
    }
    twice.is_none()
}

/// Whoever may start a pod in a namespace can read every Secret of it.
fn records_are_apart(table: &Table<'_>, kubernetes: &Kubernetes) -> bool {
    match &kubernetes.records_namespace {
        Some(records) if kubernetes.namespaces().any(|namespace| namespace == records) => {
            let problem = "is the workspaces' namespace, in which whoever starts a pod can read every Secret";
            table.fault("records_namespace", problem, "another namespace");
            false
        }
        None if kubernetes.cluster.is_some() => {
            let problem = "is missing: outside of the cluster usher has no namespace of its own";
            table.fault("records_namespace", problem, "the namespace of users, sessions and keys");
            false
        }
        _ => true,
    }
}

fn pod_networks(table: &mut Table<'_>) -> Option<Vec<Network>> {
    let Some(field) = table.field("pod_networks") else {
        return table.value("pod_networks", value::list(value::network));
    };
    let never: Vec<Network> = NEVER.iter().filter_map(|network| Network::parse(network)).collect();
    let read_all: Vec<Option<Network>> = field
        .items()?
        .iter()
        .map(|item| {
            let network = item.parse(value::network)?;
            if never.iter().any(|never| never.covers(&network)) {
                let problem = format!("`{network}` is the machine's own: no pod is there");
                item.fault(problem, "the networks of pods");
                return None;
            }
            Some(network)
        })
        .collect();
    let networks: Vec<Network> = read_all.into_iter().collect::<Option<_>>()?;
    if networks.is_empty() {
        field.fault("is empty: no workspace could be reached", "the networks of pods");
        return None;
    }
    Some(networks)
}
