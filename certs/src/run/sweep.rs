//! Takes documents away that nobody needs any more.

use super::Loop;
use crate::challenges::{self, is_stale};
use crate::kept::{self, Kept};
use crate::state::{self, State};
use crate::store::{Document, Store};
use futures_util::FutureExt;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// How often it is done.
pub(super) const SWEEP: Duration = Duration::from_hours(1);

/// The documents that a sweep found to be of nobody. They are deleted if the next one finds so, too: of whom one is told
/// late is known by then.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sweep {
    of_nobody: BTreeSet<String>,
}

/// Who there is.
struct There {
    /// The ids of units.
    units: BTreeSet<String>,
    /// This one among them.
    replicas: BTreeSet<String>,
}

impl Loop {
    /// If it is for this replica to do, and the last one is over.
    pub(super) fn begin_to_sweep(&mut self) {
        if !*self.settings.leads.borrow() || !self.sweeping.is_empty() {
            return;
        }
        let mut replicas = self.settings.replicas.borrow().clone();
        replicas.extend(self.settings.replica.clone());
        let there = There { units: self.units.keys().cloned().collect(), replicas };
        let last = std::mem::take(&mut self.swept);
        self.sweeping.push(last.then(self.settings.store.clone(), there).boxed());
    }
}

impl Sweep {
    /// The sweep after this one.
    async fn then(self, store: Arc<dyn Store>, there: There) -> Self {
        let documents = match store.list().await {
            Ok(documents) => documents,
            Err(error) => {
                tracing::warn!(%error, "documents that nobody needs are left for later");
                return self;
            }
        };
        let of_nobody = there.of_nobody(&documents, SystemTime::now());
        for name in of_nobody.intersection(&self.of_nobody) {
            // What somebody has written meanwhile is theirs.
            let listed = documents.iter().find(|document| document.name == *name);
            if store.get(name).await.ok().flatten().as_ref() != listed {
                continue;
            }
            match store.delete(name).await {
                Ok(_) => tracing::info!(document.name = name, "a document that nobody needs was deleted"),
                Err(error) => {
                    tracing::warn!(document.name = name, %error, "a document that nobody needs is left for later");
                }
            }
        }
        Self { of_nobody }
    }
}

impl There {
    fn of_nobody(&self, documents: &[Document], now: SystemTime) -> BTreeSet<String> {
        let names: BTreeSet<&str> = documents.iter().map(|document| document.name.as_str()).collect();
        let is_of_nobody = |document: &&Document| {
            let name = document.name.as_str();
            if let Some(id) = kept::id(name) {
                let is_over = |kept: Kept| kept.certificate.not_after() < now;
                !self.units.contains(id) && Kept::read(document).is_ok_and(is_over)
            } else if let Some(id) = name.strip_prefix(state::PREFIX) {
                let has_certificate = names.contains(kept::document(id).as_str());
                !self.units.contains(id) && !has_certificate && State::read(document).is_spent(now)
            } else if let Some(replica) = name.strip_prefix(challenges::SEEN) {
                !self.replicas.contains(replica)
            } else {
                name.starts_with(challenges::PREFIX) && is_stale(document, now)
            }
        };
        documents.iter().filter(is_of_nobody).map(|document| document.name.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broken::{Pki, now};
    use crate::certificate::Certificate;
    use crate::challenges::{Challenge, Way};
    use crate::kept::Origin;
    use crate::state::unix;
    use crate::store::{DirectoryStore, Version};

    const DAY: Duration = Duration::from_hours(24);

    fn document(name: &str, value: impl Into<Vec<u8>>) -> Document {
        Document { name: name.to_owned(), version: Version(1), value: value.into() }
    }

    fn there() -> There {
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        There { units: all(&["site--here.test"]), replicas: all(&["r1"]) }
    }

    /// One that is good for 45 days from [`now`].
    fn certificate() -> Vec<u8> {
        let pki = Pki::new();
        let pair = pki.good();
        let key = pair.key.serialize_pem();
        let certificate = Certificate::parse(pki.chain(&pair).as_bytes(), key.as_bytes()).unwrap();
        Kept { certificate, origin: Origin::Local, obtained: now() }.write()
    }

    fn state(value: serde_json::Value) -> Vec<u8> {
        value.to_string().into_bytes()
    }

    fn of_nobody(documents: &[Document], now: SystemTime) -> Vec<String> {
        there().of_nobody(documents, now).into_iter().collect()
    }

    #[test]
    fn a_certificate_of_a_host_that_is_gone_is_kept_while_it_is_good_and_its_state_as_long() {
        let documents = [
            document("certificate-site--gone.test", certificate()),
            document("certificate-site--here.test", certificate()),
            document("state-site--gone.test", state(serde_json::json!({ "is_counted": true }))),
            document("state-site--here.test", state(serde_json::json!({}))),
            document("certificate-site--odd.test", *b"{}"),
            document(crate::local_authority::DOCUMENT, certificate()),
            document("account-le", *b"{}"),
        ];
        assert_eq!(of_nobody(&documents, now() + 44 * DAY), [""; 0]);
        assert_eq!(of_nobody(&documents, now() + 46 * DAY), ["certificate-site--gone.test"]);
        assert_eq!(of_nobody(&documents[1..], now() + 46 * DAY), ["state-site--gone.test"]);
    }

    #[test]
    fn what_a_state_still_has_to_say_keeps_it() {
        let later = unix(now() + DAY);
        let recently = unix(now()) - 60;
        let standing = |at: u64| serde_json::json!({ "failures": 1, "not_before": at, "cause": "busy" });
        let proof = serde_json::json!({ "Record": ["gone.test", "text"] });
        for (what, value, is_kept) in [
            ("nothing", serde_json::json!({}), false),
            (
                "an authority may be asked again",
                serde_json::json!({ "authorities": { "le": standing(1) } }),
                false,
            ),
            ("an authority may not", serde_json::json!({ "authorities": { "le": standing(later) } }), true),
            ("a claim that a crash left", serde_json::json!({ "claim": { "id": "1", "signs": 1 } }), false),
            ("an old failure", serde_json::json!({ "failed_validations": [1] }), false),
            ("a new failure", serde_json::json!({ "failed_validations": [recently] }), true),
            (
                "a record to take away",
                serde_json::json!({ "order": { "authority": "le", "key": "", "proofs": [proof] } }),
                true,
            ),
        ] {
            let found = of_nobody(&[document("state-site--gone.test", state(value))], now());
            assert_eq!(found.is_empty(), is_kept, "{what}");
        }
    }

    #[test]
    fn a_challenge_is_left_for_two_hours_and_what_a_replica_tells_while_it_is_there() {
        let host = config::HostName::parse("here.test").unwrap();
        let challenge = Challenge::new(Way::Http, &host, "token", "answer");
        let documents = [
            document(&challenge.document(), challenge.written()),
            document("seen-r1", *b"[]"),
            document("seen-r2", *b"[]"),
        ];
        let made = SystemTime::now();
        assert_eq!(of_nobody(&documents, made + Duration::from_mins(110)), ["seen-r2"]);
        assert_eq!(
            of_nobody(&documents, made + Duration::from_mins(130)),
            [&challenge.document(), "seen-r2"]
        );
    }

    #[tokio::test]
    async fn only_what_two_sweeps_find_to_be_of_nobody_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(DirectoryStore::open(&folder.path().join("certificates")).unwrap());
        for name in ["seen-r1", "seen-r2", "seen-r3"] {
            store.create(name, b"[]".to_vec()).await.unwrap();
        }
        let and_r2 = || There { replicas: ["r1", "r2"].map(str::to_owned).into(), ..there() };
        let first = Sweep::default().then(store.clone(), there()).await;
        assert_eq!(store.list().await.unwrap().len(), 3);
        let second = first.then(store.clone(), and_r2()).await;
        let left = |documents: Vec<Document>| {
            documents.into_iter().map(|document| document.name).collect::<Vec<_>>()
        };
        assert_eq!(left(store.list().await.unwrap()), ["seen-r1", "seen-r2"]);
        second.then(store.clone(), there()).await;
        assert_eq!(left(store.list().await.unwrap()), ["seen-r1", "seen-r2"]);
    }
}
