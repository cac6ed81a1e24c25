//! Workspaces on a Kubernetes cluster: each one a StatefulSet of one pod.

#[cfg_attr(not(test), expect(dead_code, unused_imports, reason = "the driver that reads by it stands apart"))]
mod reading;
