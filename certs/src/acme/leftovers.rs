//! Takes away what authorities were shown.

use super::failure::Failure;
use super::order::{AcmeClient, Getting};
use crate::state::{Ordered, Proof};
use crate::told::with_causes;
use config::HostName;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long the proofs of one certificate may take in all: each is a change of the DNS, of which providers make many a
/// minute.
const CLEARING: Duration = Duration::from_mins(10);

impl AcmeClient {
    /// Takes away what was shown for a unit, here and by whoever had the claim before, unless the order is gone on with: the
    /// authority may be looking at it at this moment. What is left over stays written down: the next attempt tries again.
    pub(super) async fn take_proofs_away(&self, getting: Getting<'_>) -> Result<(), Failure> {
        // Not as the attempt began: it has shown more since.
        let proofs = getting.claim.change(|state| {
            let over = state.order.as_ref().filter(|ordered| ordered.url.is_none());
            over.map(|ordered| ordered.proofs.clone())
        });
        let (gone, left) = self.take_away(proofs.await??.unwrap_or_default()).await;
        let change = getting.claim.change(|state| {
            if let Some(ordered) = &mut state.order {
                ordered.proofs.retain(|proof| !gone.contains(proof));
            }
        });
        change.await??;
        left
    }

    /// The same after all is done: nothing is left of the order but what could not be taken away.
    pub(crate) async fn clear_up(&self, getting: Getting<'_>) {
        let cleared = self.take_proofs_away(getting).await;
        let is_over = |ordered: &mut Ordered| ordered.url.is_none() && ordered.proofs.is_empty();
        let forgotten = getting.claim.change(|state| drop(state.order.take_if(is_over))).await;
        let failed = cleared.err().or(forgotten.map_err(Failure::from).err());
        if let Some(failure) = failed {
            let error = with_causes(&failure);
            tracing::warn!(certificate.id = getting.unit.id, error, "a proof was left over");
        }
    }

    /// Takes these away; which are gone, and why others are not. One that is not there is gone.
    ///
    /// The newest go first, and who has failed once is asked no more: one provider that hangs keeps no other's waiting.
    pub(crate) async fn take_away(&self, proofs: Vec<Proof>) -> (Vec<Proof>, Result<(), Failure>) {
        let until = Instant::now() + CLEARING;
        let (mut gone, mut left, mut failed) = (Vec::new(), Ok(()), BTreeSet::new());
        for proof in proofs.into_iter().rev() {
            if proof.provider().is_some_and(|provider| failed.contains(provider)) {
                continue;
            }
            match timeout_at(until, self.clear(&proof)).await {
                Ok(Ok(())) => gone.push(proof),
                Ok(Err(failure)) => {
                    left = Err(failure);
                    failed.extend(proof.provider().map(str::to_owned));
                }
                Err(_) => return (gone, Err(Failure::LeftOver { within: CLEARING })),
            }
        }
        (gone, left)
    }

    async fn clear(&self, proof: &Proof) -> Result<(), Failure> {
        let (provider, host, text) = match proof {
            Proof::Answer(document) => return Ok(self.store.delete(document).await.map(drop)?),
            Proof::Record { provider, host, text } => (provider, host, text),
        };
        let records = self.dns.values().find(|records| records.provider().as_str() == provider);
        let (Some(records), Ok(parsed)) = (records, HostName::parse(host)) else {
            tracing::warn!(
                dns.provider = provider,
                dns.name = format!("_acme-challenge.{host}"),
                "a record stays in the DNS: the provider that wrote it is used for no certificate any more, or its name \
                 is none"
            );
            return Ok(());
        };
        Ok(records.clear(&parsed, text).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{GenerousAuthority, Memory, certificates, programs, record, worker};
    use std::sync::Arc;

    #[tokio::test]
    async fn a_record_is_taken_away_by_who_wrote_it_whoever_writes_those_of_today() {
        let authority = GenerousAuthority::start().await;
        let folder = tempfile::tempdir().unwrap();
        let told = |name: &str| folder.path().join(name);
        let scripts = ["one", "other"].map(|name| (name, format!("echo \"$@\" >> {}", told(name).display())));
        let (usher, _) =
            worker(&certificates(&authority, &programs(&scripts)), &Arc::<Memory>::default(), None);
        let proofs = vec![record("one", "t1"), record("other", "t2"), record("gone", "t3")];
        let (gone, left) = usher.acme().take_away(proofs.clone()).await;
        left.unwrap();
        assert_eq!(gone, proofs.into_iter().rev().collect::<Vec<_>>());
        for (name, text) in [("one", "t1"), ("other", "t2")] {
            let said = std::fs::read_to_string(told(name)).unwrap();
            assert_eq!(said, format!("clear _acme-challenge.gone.test {text}\n"));
        }
    }

    #[tokio::test]
    async fn a_provider_that_fails_is_asked_once_and_keeps_no_other_waiting() {
        let authority = GenerousAuthority::start().await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("told");
        let scripts = [
            ("broken", format!("echo \"$@\" >> {}; exit 1", file.display())),
            ("whole", "exit 0".to_owned()),
        ];
        let (usher, _) =
            worker(&certificates(&authority, &programs(&scripts)), &Arc::<Memory>::default(), None);
        let of = |name: &str| ["1", "2", "3"].map(|text| record(name, text));
        let (gone, left) = usher.acme().take_away([of("whole"), of("broken")].concat()).await;
        assert!(gone.len() == 3 && gone.iter().all(|proof| proof.provider() == Some("whole")), "{gone:?}");
        assert!(left.is_err());
        assert_eq!(
            std::fs::read_to_string(file).unwrap(),
            "clear _acme-challenge.gone.test 3\n",
            "not the newest"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn providers_that_hang_are_not_waited_for_for_ever() {
        let authority = GenerousAuthority::start().await;
        let names: Vec<String> = (0..11).map(|number| format!("slow{number}")).collect();
        let scripts: Vec<_> =
            names.iter().map(|name| (name.as_str(), "exec sleep 1000".to_owned())).collect();
        let (usher, _) =
            worker(&certificates(&authority, &programs(&scripts)), &Arc::<Memory>::default(), None);
        let begun = Instant::now();
        let (gone, left) =
            usher.acme().take_away(names.iter().map(|name| record(name, "text")).collect()).await;
        assert!(gone.is_empty() && matches!(left, Err(Failure::LeftOver { .. })), "{left:?}");
        assert!(begun.elapsed() < CLEARING + Duration::from_secs(1), "{:?}", begun.elapsed());
    }
}
