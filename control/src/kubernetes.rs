//! Workspaces on a Kubernetes cluster: each one a StatefulSet of one pod.

#[cfg_attr(not(test), expect(dead_code, reason = "the driver that reads by it stands apart"))]
mod reading;
