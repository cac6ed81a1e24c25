//! One-time tickets: redeeming one is the creation of a record named by its hash.

use crate::hash;
use crate::{Kind, RecordError, Records, clock};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often records of tickets that cannot be shown any more are looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// The redeemed tickets. Cheap to clone.
#[derive(Clone)]
pub struct Tickets {
    records: Arc<dyn Records>,
}

#[derive(Serialize, Deserialize)]
struct Redeemed {
    lifetime_ms: u64,
}

impl Tickets {
    /// Over these records.
    pub fn new(records: Arc<dyn Records>) -> Self {
        Self { records }
    }
    /// Redeems a ticket: `true` for exactly one caller, on all replicas together. `lifetime` is how long
    /// the ticket could still be shown: its record is kept for that long.
    ///
    /// # Errors
    /// The store fails.
    pub async fn redeem(&self, ticket: &[u8], lifetime: Duration) -> Result<bool, RecordError> {
        let name = name(ticket);
        let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let value = serde_json::to_vec(&Redeemed { lifetime_ms }).expect("a number is JSON");
        match self.records.create(Kind::Ticket, &name, value).await {
            Ok(_) => Ok(true),
            Err(RecordError::Exists(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether a ticket was redeemed, for whoever redeems it only after they have done what it is for.
    ///
    /// # Errors
    /// The store fails.
    pub async fn is_redeemed(&self, ticket: &[u8]) -> Result<bool, RecordError> {
        Ok(self.records.get(Kind::Ticket, &name(ticket)).await?.is_some())
    }

    /// Deletes the records of tickets whose lifetime has passed, for ever.
    ///
    /// A lifetime is counted from when the record was first seen here, so a record may stay a minute too long, or
    /// a lifetime after a restart, and never leaves too early because of a clock.
    pub(crate) async fn sweep(self) {
        let mut pause = tokio::time::interval(SWEEP);
        let mut seen = HashMap::new();
        loop {
            pause.tick().await;
            if let Err(error) = self.sweep_once(&mut seen, clock::now()).await {
                tracing::warn!(%error, "records of old tickets could not be deleted");
            }
        }
    }

    async fn sweep_once(&self, seen: &mut HashMap<String, Instant>, now: Instant) -> Result<(), RecordError> {
        let records = self.records.list(Kind::Ticket).await?;
        let mut still = HashMap::new();
        for record in records {
            let first = seen.get(&record.name).copied().unwrap_or(now);
            if now.saturating_duration_since(first) > lifetime(&record.value) {
                self.records.delete(Kind::Ticket, &record.name).await?;
            } else {
                still.insert(record.name, first);
            }
        }
        *seen = still;
        Ok(())
    }
}

fn name(ticket: &[u8]) -> String {
    hash::text(&hash::digest(&[b"ticket", ticket]))
}

/// The lifetime in a record; nobody could show the ticket of one that cannot be read.
fn lifetime(value: &[u8]) -> Duration {
    serde_json::from_slice::<Redeemed>(value)
        .map_or(Duration::ZERO, |redeemed| Duration::from_millis(redeemed.lifetime_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::redb::RedbRecords;

    fn tickets() -> (tempfile::TempDir, Tickets) {
        let dir = tempfile::tempdir().unwrap();
        let records = RedbRecords::open(&dir.path().join("state.redb")).unwrap();
        (dir, Tickets::new(Arc::new(records)))
    }

    #[tokio::test]
    async fn of_many_who_show_a_ticket_one_gets_in() {
        let (_dir, tickets) = tickets();
        let mut tries = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let tickets = tickets.clone();
            tries.spawn(async move { tickets.redeem(b"t1", Duration::from_secs(30)).await.unwrap() });
        }
        let accepted = tries.join_all().await.into_iter().filter(|accepted| *accepted).count();
        assert_eq!(accepted, 1);
        assert!(tickets.redeem(b"t2", Duration::from_secs(30)).await.unwrap());
        assert!(tickets.is_redeemed(b"t1").await.unwrap() && !tickets.is_redeemed(b"t3").await.unwrap());
    }

    #[tokio::test]
    async fn a_ticket_stays_redeemed_for_its_lifetime_and_is_forgotten_afterwards() {
        let (_dir, tickets) = tickets();
        let start = Instant::now();
        let mut seen = HashMap::new();
        assert!(tickets.redeem(b"t", Duration::from_secs(30)).await.unwrap());
        for (after, redeemed_anew) in [(0, false), (30, false), (31, true)] {
            tickets.sweep_once(&mut seen, start + Duration::from_secs(after)).await.unwrap();
            let again = tickets.redeem(b"t", Duration::from_secs(30)).await.unwrap();
            assert_eq!(again, redeemed_anew, "after {after} s");
        }
    }
}
