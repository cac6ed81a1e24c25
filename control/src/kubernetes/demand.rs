//! What a workspace's pod requests of the cluster. Pure.

use super::judge::sample;
use super::pods;
use config::{Amount, Runs, Template, Values};
use k8s_openapi::api::core::v1::{Container, PodSpec};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Amounts by the names of resources.
pub(crate) type Demand = BTreeMap<String, Amount>;

/// What the workspaces of a template request with these values, overlay and sidecars included: as the scheduler and
/// the quotas of a cluster count it. A process requests nothing; nor does what makes no pod, and will not start.
pub(crate) fn demand(template: &Arc<Template>, values: &Values) -> Demand {
    let Runs::Kubernetes(pod) = &template.runs else { return Demand::new() };
    let made = pods::of_template(Some(&sample(template)), template, pod, values).ok();
    made.and_then(|made| pods::finished(&made, pod)).map(|pod| of_pod(&pod)).unwrap_or_default()
}

/// The containers that run together, or the most that is needed while those run that prepare them.
fn of_pod(pod: &PodSpec) -> Demand {
    let mut running = Demand::new();
    let mut preparing = Demand::new();
    for container in pod.init_containers.iter().flatten() {
        if container.restart_policy.as_deref() == Some("Always") {
            // A sidecar runs on beside all that come after it.
            add(&mut running, of_container(container));
        } else {
            let mut together = running.clone();
            add(&mut together, of_container(container));
            most(&mut preparing, together);
        }
    }
    pod.containers.iter().for_each(|container| add(&mut running, of_container(container)));
    most(&mut running, preparing);
    let overhead = pod.overhead.iter().flatten();
    add(
        &mut running,
        overhead.filter_map(|(name, amount)| Some((name.clone(), Amount::parse(&amount.0)?))).collect(),
    );
    running
}

/// What it requests; Kubernetes takes a limit for a request where there is none.
fn of_container(container: &Container) -> Demand {
    let resources = container.resources.iter();
    let given = resources.flat_map(|resources| [&resources.limits, &resources.requests]).flatten().flatten();
    given.filter_map(|(name, amount)| Some((name.clone(), Amount::parse(&amount.0)?))).collect()
}

fn add(sum: &mut Demand, more: Demand) {
    for (name, amount) in more {
        let sum = sum.entry(name).or_default();
        *sum = sum.plus(amount);
    }
}

fn most(most: &mut Demand, other: Demand) {
    for (name, amount) in other {
        let most = most.entry(name).or_default();
        *most = amount.max(*most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pods as settings;

    #[test]
    fn what_all_containers_request_together_is_counted_as_the_cluster_does() {
        let own = "[templates.demo]\nimage = 'i'\nport = 80\nvolume = 'none'\n\
                   resources = { cpu = '500m', memory = { expression = \"user.name\" } }\n";
        let container = |name: &str, request: &str| {
            let limits = "{ cpu = '2', memory = '1Gi' }";
            format!(
                "[{{ name = '{name}', image = 'i', resources = {{ requests = {request}, limits = {limits} }} }}]\n"
            )
        };
        let sidecar = format!("sidecars = {}", container("proxy", "{ cpu = '100m', memory = '64Mi' }"));
        let init = format!("init_containers = {}", container("load", "{ memory = '4Gi' }"));
        let overlay = "pod.containers = [{ name = 'workspace', resources.limits.'nvidia.com/gpu' = '1' }]\n";
        for (keys, expected) in [
            (String::new(), [("cpu", "500m"), ("memory", "2Gi")].as_slice()),
            (sidecar.clone(), &[("cpu", "600m"), ("memory", "2112Mi")]),
            // While it prepares, before the sidecar: its limit of CPU is what it requests.
            (format!("{init}{sidecar}"), &[("cpu", "2"), ("memory", "4Gi")]),
            (overlay.to_owned(), &[("cpu", "500m"), ("memory", "2Gi"), ("nvidia.com/gpu", "1")]),
        ] {
            let template = settings(&format!("{own}{keys}")).templates.into_values().next().unwrap();
            let values = Values([("resources.memory".to_owned(), "2Gi".to_owned())].into());
            let demand = demand(&template, &values);
            let told: Vec<_> = demand.iter().map(|(name, amount)| (&**name, amount.to_string())).collect();
            let expected: Vec<_> =
                expected.iter().map(|(name, amount)| (*name, (*amount).to_owned())).collect();
            assert_eq!(told, expected, "{keys}");
        }
    }
}
