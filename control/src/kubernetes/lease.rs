//! A Lease: of several replicas one leads, so that work is not done twice.
//!
//! It saves work and is no lock: a holder that was stopped for a minute may act once more when it goes on, before it
//! has looked at its clock. What must not happen twice is guarded by preconditions.
//!
//! Nobody compares clocks. Who waits measures how long the object has not changed; who holds counts from when its
//! last renewal that succeeded was begun, and stops leading 5 s before anybody may take over.

mod candidate;
#[cfg(test)]
mod tests;

use super::{CallError, Client, pause};
use crate::clock;
use candidate::{Act, Candidate, EVERY};
use k8s_openapi::api::coordination::v1::Lease as Object;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

/// Which lease, and who wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseSettings {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The replica's name, for people: a random number is added.
    pub replica: String,
}

/// One replica's hand on a lease.
pub struct Lease {
    client: Client,
    settings: LeaseSettings,
    candidate: Candidate,
    leads: watch::Sender<bool>,
    /// Whether the last round failed, so that it was told.
    failing: bool,
}

impl Lease {
    /// Wants it, once it [runs](Self::run). The receiver says whether this replica leads.
    pub fn new(client: &Client, settings: LeaseSettings) -> (Self, watch::Receiver<bool>) {
        let (leads, receiver) = watch::channel(false);
        let mut random = [0; 4];
        SystemRandom::new().fill(&mut random).expect("the system gives random bytes");
        let me = format!("{}_{:08x}", settings.replica, u32::from_be_bytes(random));
        let candidate = Candidate::new(me);
        (Self { client: client.patient(), settings, candidate, leads, failing: false }, receiver)
    }

    /// Takes it when it can be had and renews it, until told to shut down; then gives it back.
    pub async fn run(mut self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let begun = clock::now();
            let round = match self.candidate.leads_until(begun) {
                // Who leads on borrowed time must not wait for an answer beyond it.
                Some(until) => timeout_at(until.into(), self.round()).await.unwrap_or(Ok(())),
                None => self.round().await,
            };
            self.report(round);
            self.publish();
            let next = begun + pause::spread(EVERY, pause::chance());
            self.rest(next.into(), &shutdown).await;
        }
        self.release().await;
    }

    /// Looks, unless what it saw last is its own, and writes if it may.
    async fn round(&mut self) -> Result<(), CallError> {
        let namespace = &self.settings.namespace;
        if self.candidate.must_look(clock::now()) {
            let seen = self.client.get::<Object>(namespace, &self.settings.name).await?;
            self.candidate.see(seen, clock::now());
        }
        let begun = clock::now();
        let written = match self.candidate.next(begun, stamp()) {
            Act::Wait => return Ok(()),
            Act::Update(lease) => self.client.update(namespace, &lease).await,
            Act::Create(mut lease) => {
                lease.metadata.name = Some(self.settings.name.clone());
                self.client.create(namespace, &lease).await.map(|created| created.object)
            }
        };
        match written {
            Ok(lease) => {
                self.candidate.wrote(lease, begun);
                Ok(())
            }
            // Somebody was faster, or an answer was lost: what stands now is to be looked at.
            Err(error) if matches!(error.code(), Some(404 | 409)) => {
                let seen = self.client.get::<Object>(namespace, &self.settings.name).await?;
                self.candidate.see(seen, clock::now());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for the next round; stops leading when its time is over meanwhile.
    async fn rest(&self, next: Instant, shutdown: &CancellationToken) {
        let over = self.candidate.leads_until(clock::now()).map_or(next, |until| next.min(until.into()));
        for until in [over, next] {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep_until(until) => self.publish(),
            }
        }
    }

    fn publish(&self) {
        let leads = self.candidate.leads_until(clock::now()).is_some();
        let changed = self.leads.send_if_modified(|led| std::mem::replace(led, leads) != leads);
        if changed {
            self.client.metrics().lead(leads);
            let (lease, replica) = (&self.settings.name, &self.settings.replica);
            tracing::info!(kubernetes.lease = lease, replica, leads, "the lease changed hands");
        }
    }

    fn report(&mut self, round: Result<(), CallError>) {
        let failing = round.is_err();
        if let Err(error) = round
            && !self.failing
        {
            let hint = error.hint();
            tracing::warn!(kubernetes.lease = self.settings.name, %error, hint, "the lease cannot be had or renewed");
        }
        self.failing = failing;
    }

    /// Gives it back; nobody who can still act on having it may be left by then.
    async fn release(&mut self) {
        let held = self.candidate.release(stamp());
        self.publish();
        if let Some(lease) = held
            && let Err(error) = self.client.update(&self.settings.namespace, &lease).await
        {
            tracing::warn!(%error, "the lease could not be given back; another takes it when its time is over");
        }
    }
}

/// For people who look at the object.
fn stamp() -> MicroTime {
    MicroTime(Timestamp::now())
}
