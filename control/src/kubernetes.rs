//! The Kubernetes side of control: how Usher talks to a cluster, and what it knows of it.

mod client;
mod lease;
pub(crate) mod pause;
#[cfg(test)]
pub(crate) mod testing;
mod watch;

pub use client::{CallError, Client, ClientMetrics, ClientSettings, ConnectError, Created, Object};
pub use lease::{Lease, LeaseSettings};
pub use watch::{Seen, Selection, watch};
