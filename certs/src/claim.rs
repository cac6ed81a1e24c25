//! Who is getting a certificate: one at a time, however many believe that they lead.
//!
//! As with the Lease of who leads nobody compares clocks. Who has a claim writes signs of life into it; who wants it measures
//! for how long it has stayed the same. It is in the document that says how far the order is, so that nobody can
//! write that down who has lost it.

use crate::hex::random_id;
use crate::state::{self, State};
use crate::store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How often its holder writes a sign of life.
const SIGN_EVERY: Duration = Duration::from_secs(3);
/// Since when no sign could be written when the holder stops: before anybody may take it.
const GIVE_UP: Duration = Duration::from_secs(10);
/// For how long it must have stayed the same until somebody else takes it.
const SILENCE: Duration = Duration::from_secs(15);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_secs(1);

/// The claim on one certificate, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    /// Another one each time that it is taken.
    id: String,
    /// Whose it is; none = there is one Usher alone.
    #[serde(default)]
    replica: Option<String>,
    /// How many signs of life there were.
    #[serde(default)]
    signs: u64,
}

/// Takes claims for one process.
pub(crate) struct Claims {
    store: Arc<dyn Store>,
    /// A name that no other process ever has; none = there is no other.
    replica: Option<String>,
}

/// A claim that was taken. One that is dropped stays until others have seen no sign of life for long enough.
pub(crate) struct Held {
    store: Arc<dyn Store>,
    unit: String,
    id: String,
    /// When it was begun to be written.
    taken: Instant,
    is_shared: bool,
}

/// Somebody else has it by now, or may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another usher is getting this certificate")]
pub(crate) struct Lost;

impl Claims {
    pub(crate) fn new(store: Arc<dyn Store>, replica: Option<String>) -> Self {
        Self { store, replica }
    }

    /// Takes the claim on a unit, by its id; `None` where somebody else is at it. Waits for [`SILENCE`] where that is not
    /// to be seen. What this process left itself is taken at once: it does nothing twice at a time.
    pub(crate) async fn take(&self, unit: &str) -> Result<Option<Held>, StoreError> {
        let new = Claim { id: random_id(), replica: self.replica.clone(), signs: 0 };
        let mut silent = None;
        loop {
            let taken = Instant::now();
            let other = state::change(&*self.store, unit, |state| match &state.claim {
                Some(other) if other.replica != new.replica && silent.as_ref() != Some(other) => {
                    Some(other.clone())
                }
                _ => {
                    state.claim = Some(new.clone());
                    None
                }
            });
            let Some(other) = other.await? else {
                let (unit, is_shared) = (unit.to_owned(), self.replica.is_some());
                return Ok(Some(Held { store: self.store.clone(), unit, id: new.id, taken, is_shared }));
            };
            if silent.is_some() || !self.is_silent(unit, &other).await? {
                return Ok(None);
            }
            silent = Some(other);
        }
    }

    /// Whether a claim stays as it is for so long that its holder must have given up.
    async fn is_silent(&self, unit: &str, claim: &Claim) -> Result<bool, StoreError> {
        let until = Instant::now() + SILENCE;
        while Instant::now() < until {
            sleep(LOOK).await;
            if state::read(&*self.store, unit).await?.claim.as_ref() != Some(claim) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Held {
    /// Does this, and writes signs of life meanwhile.
    ///
    /// # Errors
    /// The claim is lost, or no sign could be written for too long; what was being done is dropped.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> Result<T, Lost> {
        tokio::select! {
            biased;
            lost = self.signs(), if self.is_shared => Err(lost),
            done = work => Ok(done),
        }
    }

    /// Changes what is known of the unit.
    ///
    /// # Errors
    /// The store's; within it, that the claim is lost, and nothing was changed.
    pub(crate) async fn change<T>(
        &self,
        mut make: impl FnMut(&mut State) -> T,
    ) -> Result<Result<T, Lost>, StoreError> {
        state::change(&*self.store, &self.unit, |state| match &state.claim {
            Some(claim) if claim.id == self.id => Ok(make(state)),
            _ => Err(Lost),
        })
        .await
    }

    /// Leaves it to whoever comes next.
    pub(crate) async fn give_back(self) {
        // Whoever wants it waits a little longer where this fails.
        let _given = self.change(|state| state.claim = None).await;
    }

    async fn signs(&self) -> Lost {
        let mut written = self.taken;
        loop {
            sleep(SIGN_EVERY).await;
            let begun = Instant::now();
            let sign = self.change(|state| {
                if let Some(claim) = &mut state.claim {
                    claim.signs += 1;
                }
            });
            match timeout_at(written + GIVE_UP, sign).await {
                Ok(Ok(Ok(()))) => written = begun,
                Ok(Ok(Err(lost))) => return lost,
                Ok(Err(_)) if begun < written + GIVE_UP => {}
                _ => return Lost,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Memory;
    use std::future::pending;

    /// Of two Ushers over one store, by their names.
    fn claims(store: &Arc<Memory>, replicas: [Option<&str>; 2]) -> [Claims; 2] {
        replicas.map(|replica| Claims::new(store.clone(), replica.map(str::to_owned)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_is_somebody_elses_only_after_a_silence() {
        let store = Arc::default();
        let [a, b] = claims(&store, [Some("a"), Some("b")]);
        let left = a.take("site").await.unwrap().unwrap();
        let begun = Instant::now();
        let taken = b.take("site").await.unwrap().expect("nobody is at it");
        assert!((SILENCE..SILENCE + 2 * LOOK).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        assert_eq!(left.change(|state| state.wanted = 7).await.unwrap(), Err(Lost));
        assert_eq!(taken.change(|state| state.wanted).await.unwrap(), Ok(0));
        taken.give_back().await;
        let begun = Instant::now();
        assert!(a.take("site").await.unwrap().is_some());
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_claim_whose_holder_lives_is_never_somebody_elses() {
        let store = Arc::default();
        let [a, b] = claims(&store, [Some("a"), Some("b")]);
        let held = a.take("site").await.unwrap().unwrap();
        let working = held.during(pending::<()>());
        let others = async {
            for _ in 0..50 {
                assert!(b.take("site").await.unwrap().is_none());
            }
        };
        tokio::select! {
            _ = working => panic!("the claim is lost"),
            () = others => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_only_usher_left_when_it_crashed_is_taken_at_once() {
        let store = Arc::default();
        let [before, after] = claims(&store, [None, None]);
        let _left = before.take("site").await.unwrap().unwrap();
        let begun = Instant::now();
        assert!(after.take("site").await.unwrap().is_some());
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn who_can_write_no_sign_of_life_stops_before_anybody_else_begins() {
        let store = Arc::<Memory>::default();
        let [a, _] = claims(&store, [Some("a"), None]);
        let held = a.take("site").await.unwrap().unwrap();
        let begun = Instant::now();
        store.fails(true);
        assert_eq!(held.during(pending::<()>()).await, Err(Lost));
        assert!((GIVE_UP..SILENCE).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_fails_for_a_moment_costs_no_claim() {
        let store = Arc::<Memory>::default();
        let [a, _] = claims(&store, [Some("a"), None]);
        let held = a.take("site").await.unwrap().unwrap();
        let moment = async {
            store.fails(true);
            sleep(2 * SIGN_EVERY).await;
            store.fails(false);
            sleep(SILENCE).await;
        };
        assert_eq!(held.during(moment).await, Ok(()));
    }
}
