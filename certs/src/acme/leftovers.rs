//! Takes away what authorities were shown.

use super::failure::Failure;
use super::order::Desk;
use crate::state::Proof;
use config::HostName;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long the proofs of one certificate may take in all: each is a change of the DNS, of which providers make many a
/// minute.
const CLEARING: Duration = Duration::from_mins(10);

impl Desk {
    /// Takes these away; which are gone, and why others are not. One that is not there is gone.
    pub(crate) async fn take_away(&self, proofs: Vec<Proof>) -> (Vec<Proof>, Result<(), Failure>) {
        let until = Instant::now() + CLEARING;
        let (mut gone, mut left) = (Vec::new(), Ok(()));
        for proof in proofs {
            match timeout_at(until, self.clear(&proof)).await {
                Ok(Ok(())) => gone.push(proof),
                Ok(Err(failure)) => left = Err(failure),
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
                "a record stays in the DNS: the provider that wrote it is used for no certificate any more"
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
        let (gone, left) = usher.desk().take_away(proofs.clone()).await;
        left.unwrap();
        assert_eq!(gone, proofs);
        for (name, text) in [("one", "t1"), ("other", "t2")] {
            let said = std::fs::read_to_string(told(name)).unwrap();
            assert_eq!(said, format!("clear _acme-challenge.gone.test {text}\n"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_provider_that_takes_its_time_is_not_waited_for_for_ever() {
        let authority = GenerousAuthority::start().await;
        let scripts = [("slow", "exec sleep 1000".to_owned())];
        let (usher, _) =
            worker(&certificates(&authority, &programs(&scripts)), &Arc::<Memory>::default(), None);
        let begun = Instant::now();
        let proofs = (0..256).map(|number| record("slow", &number.to_string())).collect();
        let (gone, left) = usher.desk().take_away(proofs).await;
        assert!(gone.is_empty() && matches!(left, Err(Failure::LeftOver { .. })), "{left:?}");
        assert!(begun.elapsed() < CLEARING + Duration::from_secs(1), "{:?}", begun.elapsed());
    }
}
