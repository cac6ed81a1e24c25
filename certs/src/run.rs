//! The loop: hears what the store, files and Secrets have, publishes it, and gets what is missing or due.

mod given;
mod known;
mod list;
mod sweep;
mod tasks;
mod watched;
mod work;

use crate::Operations;
use crate::acme::{Accounts, AcmeClient};
use crate::challenges::{Responder, announce};
use crate::claim::Claims;
use crate::dns::{DnsError, DnsRecords};
use crate::document_kind::DocumentKind;
use crate::inventory::Inventory;
use crate::listed::Listed;
use crate::local_authority::{self, LocalAuthority, LocalAuthorityError};
use crate::metrics::Metrics;
use crate::resolver::{HttpChallenges, Resolver};
use crate::retry_after::RetryAfter;
use crate::state::State;
use crate::store::{Change, Document, Store, StoreError};
use crate::told::with_causes;
use crate::units::{Giver, Unit, units};
use config::{CertificateName, CertificateSource, Certificates, Challenge, DnsProviderName, HostName};
use futures_util::future::BoxFuture;
use futures_util::stream::{BoxStream, FuturesUnordered};
use futures_util::{FutureExt, StreamExt};
use known::Known;
use rustls_pki_types::CertificateDer;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use sweep::{SWEEP, Sweep};
use tasks::Tasks;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use watched::{LOOK_AGAIN, Watched};
#[cfg(test)]
pub(crate) use work::Work;
pub(crate) use work::Worker;

/// How long the loop rests at most, and how often it looks at all that there is: clocks jump.
const REST: Duration = Duration::from_mins(1);

/// What a Secret of type `kubernetes.io/tls` has: chain and key, PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretPair {
    /// `tls.crt`.
    pub chain: Vec<u8>,
    /// `tls.key`.
    pub key: Vec<u8>,
}

/// What the loop is told, and of whom it hears.
pub struct Settings {
    /// What shall be there.
    pub certificates: Certificates,
    /// Where it is kept.
    pub store: Arc<dyn Store>,
    /// The name of this replica, where there may be others; no other process ever has it.
    pub replica: Option<String>,
    /// Whether this replica is the one that gets certificates. Of two that lead for a moment, one gets a certificate and
    /// the other one waits.
    pub leads: watch::Receiver<bool>,
    /// The other replicas that may be asked by an authority.
    pub replicas: watch::Receiver<BTreeSet<String>>,
    /// The hosts that are known: the portal's, users' and routes'.
    pub hosts: watch::Receiver<BTreeSet<HostName>>,
    /// The Secrets that the certificates name, by their names.
    pub secrets: watch::Receiver<BTreeMap<String, SecretPair>>,
    /// What is counted.
    pub metrics: Metrics,
    /// Where it is published: for handshakes.
    pub resolver: Resolver,
    /// Where it is published: for the authority's questions.
    pub challenges: HttpChallenges,
}

/// Why the loop cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Who writes the records of `dns-01` cannot be spoken to.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// Usher's own authority cannot be made.
    #[error(transparent)]
    LocalAuthority(#[from] LocalAuthorityError),
}

/// The store tells nothing any more, which it does for as long as it is there.
#[derive(Debug, thiserror::Error)]
#[error("the store of certificates has ended")]
pub struct Ended;

/// The loop: runs for as long as it is polled.
pub type Running = BoxFuture<'static, Ended>;

/// Loads what there is and publishes it; then the loop may run.
///
/// # Errors
/// The store or a DNS provider cannot be used.
pub async fn start(settings: Settings) -> Result<(Operations, Running), StartError> {
    let responder = Responder::new(settings.resolver.clone(), settings.challenges.clone());
    let acme = AcmeClient {
        store: settings.store.clone(),
        accounts: Accounts::new(settings.store.clone()),
        claims: Claims::new(settings.store.clone(), settings.replica.clone()),
        dns: dns_records(&settings.certificates)?,
        answered: responder.answered(),
        replicas: settings.replicas.clone(),
        metrics: settings.metrics.clone(),
    };
    let (listed, list) = watch::channel(Arc::default());
    let operations = Operations::new(settings.certificates.clone(), settings.store.clone(), list);
    let worker = Worker::new(acme, &settings.certificates);
    let mut renewals = Loop::new(settings, responder, worker, listed);
    renewals.load().await?;
    Ok((operations, renewals.run().boxed()))
}

/// Who writes records for these certificates, by their names.
pub(crate) fn dns_records(
    certificates: &Certificates,
) -> Result<BTreeMap<DnsProviderName, DnsRecords>, DnsError> {
    let mut dns = BTreeMap::new();
    for declared in certificates.values() {
        if let CertificateSource::Acme(source) = &declared.source
            && let Challenge::Dns01(provider) = &source.challenge
            && !dns.contains_key(&provider.name)
        {
            dns.insert(provider.name.clone(), DnsRecords::new(provider.clone())?);
        }
    }
    Ok(dns)
}

struct Loop {
    settings: Settings,
    responder: Responder,
    worker: Arc<Worker>,
    inventory: Inventory,
    units: BTreeMap<String, Unit>,
    states: BTreeMap<String, State>,
    /// What authorities have said for all of their certificates, by their names.
    retry_after: BTreeMap<String, RetryAfter>,
    /// When hosts got their first certificate, by the certificate's name.
    begun: BTreeMap<String, Vec<u64>>,
    /// Usher's own authority, if there is one.
    local_authority: Option<CertificateDer<'static>>,
    files: Watched,
    /// Which Secrets were taken in.
    secrets: BTreeMap<String, SecretPair>,
    /// Why what files or a Secret have now is not served, by the certificate's name.
    refused: BTreeMap<CertificateName, String>,
    /// Which versions were taken in, by the documents' names.
    known: BTreeMap<String, Known>,
    tasks: Tasks,
    sweeping: JoinSet<Sweep>,
    /// What the last sweep has left behind for the next one.
    swept: Sweep,
    /// What is published may have changed.
    is_changed: bool,
    listed: watch::Sender<Arc<Vec<Listed>>>,
}

impl Loop {
    fn new(
        settings: Settings,
        responder: Responder,
        worker: Worker,
        listed: watch::Sender<Arc<Vec<Listed>>>,
    ) -> Self {
        Self {
            files: Watched::new(&settings.certificates),
            settings,
            responder,
            worker: Arc::new(worker),
            inventory: Inventory::default(),
            units: BTreeMap::new(),
            states: BTreeMap::new(),
            retry_after: BTreeMap::new(),
            begun: BTreeMap::new(),
            local_authority: None,
            secrets: BTreeMap::new(),
            refused: BTreeMap::new(),
            known: BTreeMap::new(),
            tasks: Tasks::default(),
            sweeping: JoinSet::new(),
            swept: Sweep::default(),
            is_changed: true,
            listed,
        }
    }

    /// Takes in all that there is, so that the first handshake finds it.
    async fn load(&mut self) -> Result<(), StartError> {
        for document in self.settings.store.list().await? {
            self.told(document);
        }
        self.look_at_files().await;
        self.take_secrets();
        self.settle();
        // What costs nothing is made at once: nobody waits for an authority of one's own.
        if *self.settings.leads.borrow() {
            let lacking =
                |unit: &&Unit| unit.giver == Giver::Local && self.inventory.current(&unit.id).is_none();
            for unit in self.units.values().filter(lacking).cloned().collect::<Vec<_>>() {
                if let Err(error) = self.worker.issue(&unit).await {
                    // It is tried again, and told, when its turn comes.
                    let error = with_causes(&error);
                    tracing::warn!(certificate.id = unit.id, error, "a certificate cannot be signed at once");
                    continue;
                }
                let standing = self.worker.standing(&unit).await;
                standing.into_iter().for_each(|document| self.looked_up(document));
            }
        }
        self.settle();
        Ok(())
    }

    async fn run(mut self) -> Ended {
        let mut changes = self.settings.store.watch();
        // The others are told for as long as this loop runs.
        let mut announcing = FuturesUnordered::new();
        if let Some(replica) = self.settings.replica.clone() {
            announcing.push(announce(self.settings.store.clone(), replica, self.responder.answered()));
        }
        let mut look = tokio::time::interval(LOOK_AGAIN);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut settle = tokio::time::interval_at(Instant::now() + REST, REST);
        let mut sweep = tokio::time::interval_at(Instant::now() + SWEEP, SWEEP);
        loop {
            self.settle();
            let rest = self.begin_what_is_due();
            // With what was begun.
            self.settle();
            tokio::select! {
                change = changes.next() => match change {
                    Some(change) => self.take_all(change, &mut changes),
                    None => return Ended,
                },
                Some(documents) = self.tasks.next_done() => {
                    self.is_changed = true;
                    documents.into_iter().for_each(|document| self.looked_up(document));
                }
                // With it whatever has become valid meanwhile is settled.
                _ = look.tick() => self.files.begin(Instant::now()),
                Some(looked) = self.files.next() => self.take_files(looked),
                _ = sweep.tick() => self.begin_to_sweep(),
                Some(swept) = self.sweeping.join_next() => self.swept(swept),
                Ok(()) = self.settings.leads.changed() => {}
                Ok(()) = self.settings.hosts.changed() => self.is_changed = true,
                Ok(()) = self.settings.secrets.changed() => self.take_secrets(),
                Some(()) = announcing.next() => {}
                _ = settle.tick() => self.is_changed = true,
                () = tokio::time::sleep(rest) => {}
            }
        }
    }

    /// A change, and what came with it.
    fn take_all(&mut self, first: Change, changes: &mut BoxStream<'static, Change>) {
        let mut next = Some(first);
        while let Some(change) = next {
            match change {
                Change::Put(document) => self.told(document),
                Change::Deleted(name) => self.remove(&name),
            }
            next = changes.next().now_or_never().flatten();
        }
    }

    /// The store tells of a document.
    fn told(&mut self, document: Document) {
        if self.known.entry(document.name.clone()).or_default().told(document.version) {
            self.put(document);
        }
    }

    /// A document was looked up in the store.
    fn looked_up(&mut self, document: Document) {
        if self.known.entry(document.name.clone()).or_default().looked_up(document.version) {
            self.put(document);
        }
    }

    fn put(&mut self, document: Document) {
        let name = document.name.clone();
        if name == local_authority::DOCUMENT {
            self.local_authority = LocalAuthority::certificate_of(&document.value);
            self.is_changed = true;
        }
        let Some((kind, id)) = DocumentKind::of(&name) else { return };
        self.is_changed |= is_listed(kind);
        match kind {
            DocumentKind::Certificate => self.inventory.put(id, document),
            DocumentKind::State => drop(self.states.insert(id.to_owned(), State::read(&document))),
            DocumentKind::RetryAfter => {
                self.retry_after.extend(RetryAfter::read(&document).map(|said| (id.to_owned(), said)));
            }
            DocumentKind::Budget => {
                let begun = serde_json::from_slice(&document.value).unwrap_or_default();
                self.begun.insert(id.to_owned(), begun);
            }
            DocumentKind::Challenge => self.responder.put(&document),
            DocumentKind::Seen => self.responder.hear(id, &document),
            DocumentKind::Account => {}
        }
    }

    fn remove(&mut self, name: &str) {
        self.known.remove(name);
        let Some((kind, id)) = DocumentKind::of(name) else { return };
        self.is_changed |= is_listed(kind);
        match kind {
            DocumentKind::Certificate => {
                self.inventory.remove(id);
                self.tasks.overtake(id);
            }
            DocumentKind::State => drop(self.states.remove(id)),
            DocumentKind::RetryAfter => drop(self.retry_after.remove(id)),
            DocumentKind::Budget => drop(self.begun.remove(id)),
            DocumentKind::Challenge => self.responder.remove(name),
            DocumentKind::Seen => self.responder.forget(id),
            DocumentKind::Account => {}
        }
    }

    /// Looks what there is to have, and publishes what can be served of it.
    fn settle(&mut self) {
        let now = SystemTime::now();
        self.take_what_is_due(now);
        if !std::mem::take(&mut self.is_changed) && !self.inventory.is_due(now) {
            return;
        }
        self.units = units(&self.settings.certificates, &self.settings.hosts.borrow_and_update());
        self.inventory.settle(&self.units, now);
        self.inventory.publish(
            &self.settings.certificates,
            &self.units,
            (&self.settings.resolver, &self.settings.metrics),
            now,
        );
        let listed = self.list();
        self.listed.send_if_modified(|before| {
            let is_news = **before != listed;
            *before = Arc::new(listed);
            is_news
        });
    }
}

/// Whether what is served or listed hangs on such documents.
fn is_listed(kind: DocumentKind) -> bool {
    match kind {
        DocumentKind::Certificate | DocumentKind::State | DocumentKind::RetryAfter | DocumentKind::Budget => {
            true
        }
        DocumentKind::Challenge | DocumentKind::Seen | DocumentKind::Account => false,
    }
}

#[cfg(test)]
mod tests;
