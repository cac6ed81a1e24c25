//! Workspaces on a Kubernetes cluster: each one a StatefulSet of one pod.

mod fit;
mod judge;
mod names;
mod overlay;
mod pods;
mod profile;

pub use judge::judge;
