//! What an Usher stands on: where its records are, and what its workspaces run on.

use super::ServeError;
use config::{Config, ExistingObject, Kubeconfig, Kubernetes, Runs};
use control::kubernetes::{
    Client, ClientMetrics, ClientSettings, ConnectError, TlsSecret, WarmMetrics, check, replica_name,
    tls_secrets,
};
use control::{
    Driver, KubernetesDriver, KubernetesSettings, ProcessDriver, ProcessSettings, Records, RedbRecords,
    SecretRecords,
};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use prometheus::Registry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A namespace is usher's own, where the records are: whoever starts or changes a pod there can read every Secret.
///
/// Of a `records_namespace` that is named the configuration says so itself.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{key} names `{namespace}`, usher's own namespace, where the records are: whoever starts or changes a pod there can read \
     every Secret; name another, or another for the records with kubernetes.records_namespace"
)]
pub struct BesideRecords {
    key: String,
    namespace: String,
}

/// The records, and what the driver needs besides them.
#[expect(clippy::large_enum_variant, reason = "there is one of it")]
pub(super) enum Ground {
    /// This machine: the records are in a file.
    Machine(Arc<RedbRecords>),
    /// A cluster: the records are Secrets.
    Cluster {
        client: Client,
        kubernetes: Kubernetes,
        records_namespace: String,
        records: Arc<SecretRecords>,
        warm: WarmMetrics,
    },
}

impl Ground {
    /// Opens the records, before anything is bound or started.
    pub(super) async fn prepare(config: &Config, registry: &Registry) -> Result<Self, ServeError> {
        match &config.driver {
            // Whoever holds the records' file is the one usher of this state folder.
            config::Driver::Process => {
                let file = config.state_dir.join("records.redb");
                Ok(Self::Machine(Arc::new(RedbRecords::open(&file)?)))
            }
            config::Driver::Kubernetes(kubernetes) => {
                Self::cluster(config, kubernetes.clone(), registry).await
            }
        }
    }

    async fn cluster(
        config: &Config,
        kubernetes: Kubernetes,
        registry: &Registry,
    ) -> Result<Self, ServeError> {
        let Kubeconfig { file: kubeconfig, context } =
            kubernetes.cluster.clone().unwrap_or(Kubeconfig { file: None, context: None });
        let client =
            Client::new(&ClientSettings { kubeconfig, context }, ClientMetrics::new(registry)?).await?;
        let named = kubernetes.records_namespace.as_deref().or(client.own_namespace());
        // A cluster that is named has to be given with it, and from within one there is always one.
        let records_namespace =
            named.ok_or_else(|| ConnectError::NotInCluster { reason: "no namespace".to_owned() })?.to_owned();
        are_apart(config, &kubernetes, &records_namespace)?;
        // Nobody waits for a page yet: a server that is slow is no reason not to begin.
        check(&client.patient(), kubernetes.namespaces(), &records_namespace, existing(config)).await?;
        let records = Arc::new(SecretRecords::new(&client, &records_namespace));
        let warm = WarmMetrics::new(registry)?;
        Ok(Self::Cluster { client, kubernetes, records_namespace, records, warm })
    }

    /// Where users, sessions and the rest are kept.
    pub(super) fn records(&self) -> Arc<dyn Records> {
        match self {
            Self::Machine(records) => records.clone(),
            Self::Cluster { records, .. } => records.clone(),
        }
    }

    /// Tells of the Secrets of type `kubernetes.io/tls` with these names, beside the records. A machine has none.
    pub(super) fn tls_secrets(
        &self,
        names: BTreeSet<String>,
    ) -> BoxStream<'static, BTreeMap<String, TlsSecret>> {
        match self {
            Self::Cluster { client, records_namespace, .. } if !names.is_empty() => {
                tls_secrets(client, records_namespace, names)
            }
            _ => stream::pending().boxed(),
        }
    }

    /// Begins to drive. What is left to wait for at the end is the task that comes with the driver.
    pub(super) async fn drive(
        self,
        config: Receiver<Arc<Config>>,
        open_files: Option<u64>,
        shutdown: CancellationToken,
    ) -> Result<(Arc<dyn Driver>, JoinHandle<()>), ServeError> {
        match self {
            Self::Machine(records) => {
                let usher = std::env::current_exe()?;
                let state_dir = config.borrow().state_dir.clone();
                let settings = ProcessSettings { state_dir, usher, open_files };
                let driver = Arc::new(ProcessDriver::open(settings, records).await?);
                Ok((driver, tokio::spawn(std::future::ready(()))))
            }
            Self::Cluster { client, kubernetes, records_namespace, records, warm } => {
                let replica = replica_name();
                let settings =
                    KubernetesSettings { kubernetes, records_namespace, records, replica, config, warm };
                let (driver, driving) = KubernetesDriver::begin(&client, settings, shutdown);
                Ok((driver, driving))
            }
        }
    }
}

/// What the routes lead to.
fn existing(config: &Config) -> impl Iterator<Item = &ExistingObject> {
    config.routes.values().filter_map(|route| match &route.template.runs {
        Runs::Existing(object) => Some(object),
        _ => None,
    })
}

/// Whether no workspace, and nothing that a route leads to, is where the records are.
fn are_apart(config: &Config, kubernetes: &Kubernetes, records: &str) -> Result<(), BesideRecords> {
    let keys = std::iter::once("namespace").chain(std::iter::repeat("more_namespaces"));
    let workspaces = kubernetes.namespaces().zip(keys).map(|(name, key)| (name, format!("kubernetes.{key}")));
    let routes =
        existing(config).map(|object| (&*object.namespace, format!("routes.{}.namespace", object.route)));
    match workspaces.chain(routes).find(|(namespace, _)| *namespace == records) {
        Some((namespace, key)) => Err(BesideRecords { key, namespace: namespace.to_owned() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::PODS;

    #[test]
    fn nothing_that_runs_for_users_begins_beside_the_records() {
        let more = PODS.replace("\"workspaces\" }", "\"workspaces\", more_namespaces = [\"labs\"] }");
        let route = "[routes.wiki]\nkind = 'Deployment'\nobject = 'wiki'\nnamespace = 'tools'\nport = 1\nallow = 'true'\n";
        let config = Config::parse("f", &format!("{more}{route}"), &|_| None).unwrap();
        let config::Driver::Kubernetes(kubernetes) = &config.driver else { panic!("it is of Kubernetes") };
        for (own, key) in [
            ("usher", None),
            ("workspaces", Some("kubernetes.namespace")),
            ("labs", Some("kubernetes.more_namespaces")),
            ("tools", Some("routes.wiki.namespace")),
        ] {
            let told = are_apart(&config, kubernetes, own).err();
            assert_eq!(told.as_ref().map(|told| told.key.as_str()), key, "{own}");
            if let Some(told) = told.map(|told| told.to_string()) {
                assert!(told.contains(own) && told.contains("kubernetes.records_namespace"), "{told}");
            }
        }
    }
}
