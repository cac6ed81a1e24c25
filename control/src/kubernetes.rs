//! The Kubernetes side of control: workspaces as StatefulSets of one pod, records as Secrets.
//!
//! The cluster is the only truth. [`KubernetesDriver`] keeps nothing that it could not read again: what Usher decided
//! stands in annotations of the StatefulSet, so that any Usher can go on where another ended. Four watches tell one
//! task of all objects of the namespace; what they say is folded by workspace, read into a phase and a cause, and told.
//!
//! The number of a mark is the `resourceVersion` of its StatefulSet while the mark stands. Such numbers are of one
//! store that counts all writes, and a watch tells them in order: who has seen one has seen every mark before it, and
//! a write that carries it is refused as soon as anything else was written, the mark taken back above all. Should the
//! object be written while it is marked, the mark counts as a newer one, for all who see it alike.
//!
//! Workspaces may be in several namespaces: each is heard of and acted in as if it were the only one (`spaces`), and the
//! marks of all together have no order.

mod board;
mod client;
pub(crate) mod demand;
mod driver;
mod existing;
mod fit;
mod fold;
mod happenings;
mod judge;
mod lease;
mod listen;
mod names;
mod notes;
mod outline;
mod overlay;
pub(crate) mod pause;
mod plan;
mod pods;
mod profile;
mod reading;
mod rights;
mod spaces;
#[cfg(test)]
pub(crate) mod testing;
mod tls_secrets;
mod token;
mod warm;
mod watch;

pub use client::{CallError, Client, ClientMetrics, ClientSettings, ConnectError, Created, Object};
pub use judge::judge;
pub use lease::{Lease, LeaseSettings};
pub use rights::{RightsError, check};
pub use tls_secrets::{TlsSecret, tls_secrets};
pub use warm::WarmMetrics;
pub use watch::{Seen, Selection, watch};

use crate::Records;
use config::{Config, Kubernetes};
use existing::Existing;
use fold::Fold;
use futures_util::future::join_all;
use listen::Watches;
use ring::rand::{SecureRandom, SystemRandom};
use spaces::Places;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::sync::watch::{Receiver, Sender};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The name of the lease of the Usher that stops what is idle.
const REAPER: &str = "usher-reaper";
/// What the driver is told.
#[derive(Clone)]
pub struct KubernetesSettings {
    /// `[kubernetes]`.
    pub kubernetes: Kubernetes,
    /// The namespace of Usher's records, where its lease is.
    pub records_namespace: String,
    /// Where it is written down in which namespace a workspace is.
    pub records: Arc<dyn Records>,
    /// The name of this Usher: see [`replica_name`].
    pub replica: String,
    /// Its templates say which warm workspaces are kept; its routes, as they are now, which objects of others are woken.
    pub config: Receiver<Arc<Config>>,
    /// What is counted of these.
    pub warm: WarmMetrics,
}

/// Runs workspaces as pods of a cluster. Dropping it leaves them running.
pub struct KubernetesDriver {
    /// By namespace; the first is that of workspaces whose template names no other.
    spaces: Vec<Space>,
    places: Places,
}

/// One namespace of workspaces.
#[derive(Clone)]
struct Space {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    kubernetes: Kubernetes,
    replica: String,
    fold: Mutex<Fold>,
    existing: Existing,
    /// Wakes the task that hears: a write was answered.
    woken: Notify,
    /// Counts what was told.
    told: Sender<u64>,
    leads: Receiver<bool>,
    warm: WarmMetrics,
    /// Cancelled when nothing is heard any more, for whatever reason.
    broken: CancellationToken,
}

impl Inner {
    fn fold(&self) -> MutexGuard<'_, Fold> {
        self.fold.lock().expect("nobody panics with the lock held")
    }
}

impl KubernetesDriver {
    /// Begins to listen, and to want the reaper's lease.
    ///
    /// The task ends when it is shut down, after it has given the lease back. Should it end before, the streams of
    /// [`Driver::observe`](crate::Driver::observe) end.
    pub fn begin(
        client: &Client,
        settings: KubernetesSettings,
        shutdown: CancellationToken,
    ) -> (Arc<Self>, JoinHandle<()>) {
        let KubernetesSettings { kubernetes, records_namespace, records, replica, config, warm } = settings;
        let lease = LeaseSettings {
            namespace: records_namespace.clone(),
            name: REAPER.to_owned(),
            replica: replica.clone(),
        };
        let (lease, leads) = Lease::new(client, lease);
        let broken = CancellationToken::new();
        let first = Existing::new(&config.borrow());
        let others = std::iter::repeat_with(Existing::default);
        let spaces = kubernetes.namespaces().zip(std::iter::once(first).chain(others));
        let spaces = spaces.map(|(namespace, existing)| {
            let kubernetes = Kubernetes {
                namespace: namespace.to_owned(),
                records_namespace: Some(records_namespace.clone()),
                ..kubernetes.clone()
            };
            let inner = Inner {
                client: client.clone(),
                fold: Mutex::new(Fold::new(kubernetes.clone())),
                existing,
                kubernetes,
                replica: replica.clone(),
                woken: Notify::new(),
                told: Sender::new(0),
                leads: leads.clone(),
                warm: warm.clone(),
                broken: broken.clone(),
            };
            Space { inner: Arc::new(inner) }
        });
        let spaces: Vec<Space> = spaces.collect();
        let (heard, breaks) = (spaces.clone(), broken.drop_guard());
        let running = tokio::spawn(async move {
            let _breaks = breaks;
            // Usher does not begin without the first; another may be gone by somebody else's hand.
            let of_all = heard.into_iter().zip(std::iter::once(false).chain(std::iter::repeat(true)));
            let of_all =
                join_all(of_all.map(|(space, may_lack)| space.run(config.clone(), may_lack, &shutdown)));
            tokio::join!(lease.run(shutdown.clone()), of_all);
        });
        (Arc::new(Self { spaces, places: Places::new(records) }), running)
    }
}

impl Space {
    /// Hears of all that is in it and keeps its warm workspaces, until the shutdown.
    async fn run(self, config: Receiver<Arc<Config>>, may_lack: bool, shutdown: &CancellationToken) {
        let inner = self.inner.clone();
        let watches = Watches::new(&inner.client, &inner.kubernetes.namespace);
        let listen = shutdown.run_until_cancelled(listen::listen(inner.clone(), watches, may_lack));
        let listen_aside = shutdown.run_until_cancelled(existing::listen(&inner));
        let keep = shutdown.run_until_cancelled(warm::keep(self, config));
        tokio::join!(listen, listen_aside, keep);
    }
}

/// A name for this process among all Ushers of a cluster, never used again: the machine's, which in a cluster is the
/// pod's, and a random number, since a container that is started again has the same one.
pub fn replica_name() -> String {
    let mut random = [0; 4];
    SystemRandom::new().fill(&mut random).expect("the system gives random bytes");
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{machine}-{:08x}", u32::from_be_bytes(random))
}
