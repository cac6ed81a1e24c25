//! The Kubernetes side of control: workspaces as StatefulSets of one pod, records as Secrets.

mod client;
mod fit;
mod judge;
mod lease;
mod names;
mod overlay;
pub(crate) mod pause;
mod pods;
mod profile;
#[cfg_attr(not(test), expect(dead_code, unused_imports, reason = "the driver that reads by it stands apart"))]
mod reading;
#[cfg(test)]
pub(crate) mod testing;
mod watch;

pub use client::{CallError, Client, ClientMetrics, ClientSettings, ConnectError, Created, Object};
pub use judge::judge;
pub use lease::{Lease, LeaseSettings};
pub use watch::{Seen, Selection, watch};
