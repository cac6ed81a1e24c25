//! What is given in Kubernetes' own words, laid over a pod; then what every container has unless it says otherwise.

use crate::kubernetes::overlay::merge;
use config::PodTemplate;
use k8s_openapi::api::core::v1::{Capabilities, Container, PodSpec, SecurityContext};
use serde_json::{Map, Value, json};

/// The pod with the template's tolerations, init containers, sidecars and overlay; none if they do not fit.
pub(crate) fn finished(made: &PodSpec, pods: &PodTemplate) -> Option<PodSpec> {
    let Ok(Value::Object(mut pod)) = serde_json::to_value(made) else { return None };
    append(&mut pod, "tolerations", pods.verbatim.tolerations.iter().cloned());
    append(&mut pod, "initContainers", pods.verbatim.init_containers.iter().cloned());
    append(&mut pod, "initContainers", pods.verbatim.sidecars.iter().cloned().map(sidecar));
    merge(&mut pod, &pods.verbatim.pod);
    let mut pod: PodSpec = serde_json::from_value(Value::Object(pod)).ok()?;
    pod.init_containers.iter_mut().flatten().chain(&mut pod.containers).for_each(harden);
    Some(pod)
}

fn append(pod: &mut Map<String, Value>, list: &str, items: impl Iterator<Item = Value>) {
    let mut items = items.peekable();
    if items.peek().is_some()
        && let Some(list) = pod.entry(list).or_insert_with(|| json!([])).as_array_mut()
    {
        list.extend(items);
    }
}

/// To Kubernetes a sidecar is an init container that is not waited for, and started again when it ends.
fn sidecar(mut container: Value) -> Value {
    if let Some(fields) = container.as_object_mut() {
        fields.entry("restartPolicy").or_insert_with(|| json!("Always"));
    }
    container
}

/// The least privileges and an explained end, unless the container says otherwise.
fn harden(container: &mut Container) {
    container.termination_message_policy.get_or_insert_with(|| "FallbackToLogsOnError".to_owned());
    let context = container.security_context.get_or_insert_with(SecurityContext::default);
    if context.privileged == Some(true) {
        // Kubernetes refuses a privileged container that may not gain privileges.
        return;
    }
    context.allow_privilege_escalation.get_or_insert(false);
    let capabilities = context.capabilities.get_or_insert_with(Capabilities::default);
    capabilities.drop.get_or_insert_with(|| vec!["ALL".to_owned()]);
}
