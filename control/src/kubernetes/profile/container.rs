//! The controls on one container.

use super::Finder;
use super::context::{Context, confines};
use k8s_openapi::api::core::v1::{Capabilities, Container, LifecycleHandler, Probe, SecurityContext};

/// Checks a container of a pod with this context.
pub(super) fn check(container: &Container, pod: &Context<'_>, finder: &mut Finder<'_>) {
    let absent = SecurityContext::default();
    let given = container.security_context.as_ref().unwrap_or(&absent);
    privileges(given, finder);
    let context = Context::of_container(given);
    context.check(finder);
    finder.must(
        context.run_as_non_root.or(pod.run_as_non_root).is_some(),
        "securityContext.runAsNonRoot",
        "is said neither for it nor for the pod, so that it may run as root",
        "true",
    );
    finder.must(
        context.seccomp.or(pod.seccomp).is_some_and(confines),
        "securityContext.seccompProfile",
        "system calls are not confined",
        "RuntimeDefault or Localhost, for it or for the pod",
    );
    host(container, finder);
}

fn privileges(context: &SecurityContext, finder: &mut Finder<'_>) {
    finder.must(
        context.privileged != Some(true),
        "securityContext.privileged",
        "gives it all that the host has",
        "false",
    );
    finder.must(
        context.allow_privilege_escalation == Some(false),
        "securityContext.allowPrivilegeEscalation",
        "lets it gain more than it begins with",
        "false",
    );
    finder.must(
        context.proc_mount.as_deref().is_none_or(|mount| mount == "Default"),
        "securityContext.procMount",
        "shows more of /proc than the default",
        "Default",
    );
    let absent = Capabilities::default();
    let capabilities = context.capabilities.as_ref().unwrap_or(&absent);
    finder.must(
        capabilities.drop.iter().flatten().any(|name| name == "ALL"),
        "securityContext.capabilities.drop",
        "keeps capabilities",
        "[\"ALL\"]",
    );
    finder.must(
        capabilities.add.iter().flatten().all(|name| name == "NET_BIND_SERVICE"),
        "securityContext.capabilities.add",
        "adds capabilities",
        "NET_BIND_SERVICE at most",
    );
}

/// Ports of the host, and questions sent to another host than the pod.
fn host(container: &Container, finder: &mut Finder<'_>) {
    let mut ports = container.ports.iter().flatten();
    finder.must(
        ports.all(|port| port.host_port.is_none_or(|port| port == 0)),
        "ports",
        "takes a port of the host",
        "no hostPort",
    );
    let probes = [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ];
    for (field, probe) in probes {
        finder.must(!probe.as_ref().is_some_and(asks_elsewhere), field, ELSEWHERE, "no host: the pod itself");
    }
    let hooks = container.lifecycle.iter().flat_map(|hooks| [&hooks.post_start, &hooks.pre_stop]);
    let elsewhere = hooks.flatten().any(calls_elsewhere);
    finder.must(!elsewhere, "lifecycle", ELSEWHERE, "no host: the pod itself");
}

const ELSEWHERE: &str = "makes the node send requests to a host of its choice";

fn asks_elsewhere(probe: &Probe) -> bool {
    let http = probe.http_get.as_ref().and_then(|http| http.host.as_deref());
    let tcp = probe.tcp_socket.as_ref().and_then(|tcp| tcp.host.as_deref());
    [http, tcp].into_iter().flatten().any(|host| !host.is_empty())
}

fn calls_elsewhere(handler: &LifecycleHandler) -> bool {
    let http = handler.http_get.as_ref().and_then(|http| http.host.as_deref());
    let tcp = handler.tcp_socket.as_ref().and_then(|tcp| tcp.host.as_deref());
    [http, tcp].into_iter().flatten().any(|host| !host.is_empty())
}
