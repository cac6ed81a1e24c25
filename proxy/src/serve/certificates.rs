//! What the loop of certificates is given: a store, who else there is, and which hosts are known.

use certs::{
    Change, Document, HttpChallenges, Metrics, Operations, Resolver, Running, SecretPair, Settings,
    StartError, Store, StoreError, Version,
};
use config::{CertificateSource, Config, Driver, HostName, WorkspaceId};
use control::kubernetes::TlsSecret;
use control::{Kind, RecordError, Records, Replicas, Shared, Workspaces};
use futures_util::future::{BoxFuture, pending, select};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use prometheus::Registry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout;

/// The folder of certificates in the state folder.
const FOLDER: &str = "certificates";
/// How long the beginning waits for Secrets, so that the first handshake finds them: a list takes milliseconds. Without
/// an API server it goes on, and they are shown when they come.
const FIRST_SECRETS: Duration = Duration::from_secs(3);

/// The store of certificates cannot be opened, or the loop cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// The folder cannot be used.
    #[error(transparent)]
    Folder(#[from] certs::OpenError),
    /// The loop cannot begin.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Which hosts are known cannot be read.
    #[error("the users' labels cannot be read, whose hosts have certificates")]
    Labels(#[from] RecordError),
    /// Two metrics of one name.
    #[error("the metrics cannot be registered")]
    Metrics(#[from] prometheus::Error),
}

/// What of this process the loop has to do with.
pub(super) struct Around<'a> {
    pub(super) config: &'a Arc<Config>,
    pub(super) records: &'a Arc<dyn Records>,
    /// Where there may be other Ushers.
    pub(super) shared: Option<Shared>,
    pub(super) workspaces: &'a Workspaces,
    /// What the Secrets of [`named_secrets`] have.
    pub(super) secrets: BoxStream<'static, BTreeMap<String, TlsSecret>>,
    pub(super) registry: &'a Registry,
}

/// Opens the store, publishes what there is, and gives the loop, which is to be polled. Without a certificate in the
/// configuration there is no store and no loop.
pub(super) async fn begin(
    around: Around<'_>,
    (resolver, challenges): (Resolver, HttpChallenges),
) -> Result<(Option<Operations>, Running), CertificatesError> {
    let Around { config, records, shared, workspaces, mut secrets, registry } = around;
    let metrics = Metrics::new(registry)?;
    if config.certificates.is_empty() {
        return Ok((None, pending().boxed()));
    }
    let store: Arc<dyn Store> = match config.driver {
        // Blocks for a moment, before anything is served.
        Driver::Process => Arc::new(certs::DirectoryStore::open(&config.state_dir.join(FOLDER))?),
        Driver::Kubernetes(_) => Arc::new(RecordStore(records.clone())),
    };
    let known = match is_asked_for_hosts(config) {
        // Before the first handshake: what is kept for them is shown to it.
        true => Some(Known::read(config.clone(), records, workspaces.clone()).await?),
        false => None,
    };
    let (hosts, told) = watch::channel(known.as_ref().map(Known::hosts).unwrap_or_default());
    let (others, replicas) = watch::channel(BTreeSet::new());
    let first = match named_secrets(config).is_empty() {
        true => None,
        false => timeout(FIRST_SECRETS, secrets.next()).await.ok().flatten(),
    };
    let (pairs, given) = watch::channel(first.map(pairs_of).unwrap_or_default());
    let (leads, following) = match &shared {
        Some(shared) => (shared.leads.clone(), follow_others(records.clone(), &shared.name, others)),
        None => (watch::channel(true).1, pending().boxed()),
    };
    let settings = Settings {
        certificates: config.certificates.clone(),
        store,
        replica: shared.map(|shared| shared.name),
        leads,
        replicas,
        hosts: told,
        secrets: given,
        metrics,
        resolver,
        challenges,
    };
    let (operations, running) = certs::start(settings).await?;
    let hosts = match known {
        Some(known) => known.follow(records.clone(), hosts),
        None => pending().boxed(),
    };
    // None of the followers ends while the store is there.
    let all = select(running, select(follow_secrets(secrets, pairs), select(hosts, following)));
    let all = all.map(|_| certs::Ended);
    Ok((Some(operations), all.boxed()))
}

/// Whether some certificate is made for each host.
fn is_asked_for_hosts(config: &Config) -> bool {
    config.certificates.values().any(
        |declared| matches!(&declared.source, CertificateSource::Acme(source) if source.per_host.is_some()),
    )
}

/// The Secrets that certificates come from.
pub(super) fn named_secrets(config: &Config) -> BTreeSet<String> {
    let name = |source: &CertificateSource| match source {
        CertificateSource::Secret(name) => Some(name.clone()),
        _ => None,
    };
    config.certificates.values().filter_map(|declared| name(&declared.source)).collect()
}

fn pairs_of(secrets: BTreeMap<String, TlsSecret>) -> BTreeMap<String, SecretPair> {
    let pair = |(name, TlsSecret { chain, key })| (name, SecretPair { chain, key });
    secrets.into_iter().map(pair).collect()
}

/// Tells what these Secrets have.
fn follow_secrets(
    mut secrets: BoxStream<'static, BTreeMap<String, TlsSecret>>,
    pairs: watch::Sender<BTreeMap<String, SecretPair>>,
) -> BoxFuture<'static, ()> {
    async move {
        while let Some(all) = secrets.next().await {
            pairs.send_replace(pairs_of(all));
        }
    }
    .boxed()
}

/// The portal's host, and those of all users, of their further workspaces that exist, and of the routes.
struct Known {
    config: Arc<Config>,
    workspaces: Workspaces,
    /// A label is never given away; its host stays known.
    labels: BTreeSet<String>,
}

impl Known {
    /// As it stands.
    async fn read(
        config: Arc<Config>,
        records: &Arc<dyn Records>,
        workspaces: Workspaces,
    ) -> Result<Self, RecordError> {
        let labels = records.list(Kind::Label).await?.into_iter().map(|record| record.name).collect();
        Ok(Self { config, workspaces, labels })
    }

    fn hosts(&self) -> BTreeSet<HostName> {
        let own = self.labels.iter().filter_map(|label| WorkspaceId::parse(label).ok());
        let existing = self.workspaces.all().into_iter().map(|entry| entry.id.clone());
        let routes = self.config.routes.keys().cloned().map(WorkspaceId::Route);
        let all = own.chain(existing).chain(routes);
        let hosts = all.filter_map(|id| HostName::parse(&id.host(self.config.domain.as_str())).ok());
        hosts.chain([self.config.portal.clone()]).collect()
    }

    /// Tells them whenever there are others.
    fn follow(
        mut self,
        records: Arc<dyn Records>,
        hosts: watch::Sender<BTreeSet<HostName>>,
    ) -> BoxFuture<'static, ()> {
        async move {
            let mut labels = records.watch(Kind::Label);
            let mut changes = self.workspaces.changes();
            loop {
                tokio::select! {
                    change = labels.next() => match change {
                        Some(control::Change::Put(record)) => drop(self.labels.insert(record.name)),
                        Some(control::Change::Deleted(_)) => {}
                        None => return,
                    },
                    Ok(()) = changes.changed() => {}
                }
                while let Some(Some(control::Change::Put(record))) = labels.next().now_or_never() {
                    self.labels.insert(record.name);
                }
                let all = self.hosts();
                hosts.send_if_modified(|before| std::mem::replace(before, all) != *before);
            }
        }
        .boxed()
    }
}

/// Tells which other Ushers there are.
fn follow_others(
    records: Arc<dyn Records>,
    own: &str,
    others: watch::Sender<BTreeSet<String>>,
) -> BoxFuture<'static, ()> {
    let mut known = Replicas::new(own);
    async move {
        let mut uses = records.watch(Kind::Use);
        while let Some(change) = uses.next().await {
            let now = known.hear(&change, Instant::now());
            others.send_if_modified(|before| std::mem::replace(before, now) != *before);
        }
    }
    .boxed()
}

/// The records of one kind, as the store of certificates.
struct RecordStore(Arc<dyn Records>);

const KIND: Kind = Kind::Certificate;

#[async_trait::async_trait]
impl Store for RecordStore {
    async fn list(&self) -> Result<Vec<Document>, StoreError> {
        Ok(self.0.list(KIND).await.map_err(store_error)?.into_iter().map(document).collect())
    }
    async fn get(&self, name: &str) -> Result<Option<Document>, StoreError> {
        Ok(self.0.get(KIND, name).await.map_err(store_error)?.map(document))
    }
    async fn create(&self, name: &str, value: Vec<u8>) -> Result<Version, StoreError> {
        Ok(Version(self.0.create(KIND, name, value).await.map_err(store_error)?.0))
    }
    async fn replace(&self, name: &str, version: Version, value: Vec<u8>) -> Result<Version, StoreError> {
        let version = control::Version(version.0);
        Ok(Version(self.0.replace(KIND, name, version, value).await.map_err(store_error)?.0))
    }
    async fn delete(&self, name: &str) -> Result<bool, StoreError> {
        self.0.delete(KIND, name).await.map_err(store_error)
    }
    fn watch(&self) -> BoxStream<'static, Change> {
        let told = |change| match change {
            control::Change::Put(record) => Change::Put(document(record)),
            control::Change::Deleted(name) => Change::Deleted(name),
        };
        self.0.watch(KIND).map(told).boxed()
    }
}

fn document(record: control::Record) -> Document {
    Document { name: record.name, version: Version(record.version.0), value: record.value }
}

fn store_error(error: RecordError) -> StoreError {
    match error {
        RecordError::Exists(name) => StoreError::Exists(name),
        RecordError::Conflict(name) => StoreError::Conflict(name),
        RecordError::Store(reason) => StoreError::Unusable(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Lab;

    /// A browser that comes just after a restart would see a failure for which there is no reason.
    #[tokio::test]
    async fn the_first_handshake_after_a_restart_finds_what_is_kept_for_a_users_host() {
        const HOST: &str = "alice.lab.localhost";
        let state = tempfile::tempdir().unwrap();
        let text = format!(
            "domain = 'lab.localhost'\nstate_dir = {:?}\n\
             listeners = [{{ address = '127.0.0.1:443', protocol = 'https' }}, {{ address = '127.0.0.1:80' }}]\n\
             access = {{ allow = 'true', template = \"'demo'\" }}\n\
             [templates.demo]\ncommand = ['demo', '{{port}}']\nconnect = 'port'\n\
             [acme.le]\ndirectory = 'https://127.0.0.1:9'\nterms_of_service_agreed = true\n\
             [certificates.people]\nsource = 'acme'\nchallenge = 'http-01'\nper_host = true\n",
            state.path()
        );
        let config = Config::parse("test", &text, &|_| None).unwrap_or_else(|findings| panic!("{findings}"));
        let (config, lab) = (Arc::new(config), Lab::new().await);
        let records: Arc<dyn Records> = lab.records.clone();
        records.create(Kind::Label, "alice", b"{}".to_vec()).await.unwrap();
        let start = async || {
            let (resolver, registry) = (Resolver::of_none(), Registry::new());
            let around = Around {
                config: &config,
                records: &records,
                shared: None,
                workspaces: &lab.edge.workspaces,
                secrets: futures_util::stream::pending().boxed(),
                registry: &registry,
            };
            let begun = begin(around, (resolver.clone(), HttpChallenges::default())).await.unwrap();
            (begun.0.unwrap(), begun.1, resolver)
        };
        let (operations, running, resolver) = start().await;
        assert!(!resolver.serves(HOST));
        let made = rcgen::generate_simple_self_signed(vec![HOST.to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        operations.import(&format!("people--{HOST}"), chain.as_bytes(), key.as_bytes()).await.unwrap();
        drop((operations, running));

        let (_operations, _not_running_yet, resolver) = start().await;
        assert!(resolver.serves(HOST));
    }
}
