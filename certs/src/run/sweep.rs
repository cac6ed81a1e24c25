//! Takes documents away that nobody needs any more.

use super::{Loop, Worker};
use crate::acme::{AcmeClient, Failure};
use crate::challenges::is_stale;
use crate::document_kind::DocumentKind;
use crate::kept::Kept;
use crate::schedule::DAY;
use crate::state::{self, Ordered, Proof, State, time};
use crate::store::Document;
use crate::told::with_causes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::task::JoinError;
use tokio::time::Instant;

/// How often it is done.
pub(super) const SWEEP: Duration = Duration::from_hours(1);

/// How many sweeps of one leader try to take away what the DNS still has of a host that is gone, before that is left there.
const TRIES: u32 = 24;

/// The documents that a sweep found to be of nobody, and how often each was tried to be deleted. That is done if the next
/// sweep finds so, too: of whom one is told late is known by then.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sweep {
    of_nobody: BTreeMap<String, u32>,
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
        self.sweeping.spawn(last.then(self.worker.clone(), there));
    }

    /// One is over. After a panic the next one begins anew.
    pub(super) fn swept(&mut self, swept: Result<Sweep, JoinError>) {
        self.swept = swept.unwrap_or_else(|error| {
            tracing::error!(%error, "taking away documents that nobody needs ended in a panic");
            Sweep::default()
        });
    }
}

impl Sweep {
    /// The sweep after this one.
    async fn then(self, worker: Arc<Worker>, there: There) -> Self {
        let (acme, until) = (worker.acme(), Instant::now() + SWEEP);
        let documents = match acme.store.list().await {
            Ok(documents) => documents,
            Err(error) => {
                tracing::warn!(%error, "documents that nobody needs are left for later");
                return self;
            }
        };
        let found = there.of_nobody(&documents, SystemTime::now());
        let mut of_nobody = BTreeMap::new();
        for document in documents.iter().filter(|document| found.contains(&document.name)) {
            let tries = match self.of_nobody.get(&document.name) {
                None => 0,
                // Its turn comes with the next sweep.
                Some(tries) if Instant::now() > until => *tries,
                Some(tries) => tries + u32::from(delete(acme, document, tries + 1).await),
            };
            of_nobody.insert(document.name.clone(), tries);
        }
        for document in documents.iter().filter(|document| !found.contains(&document.name)) {
            if let Err(failure) = clear_what_is_over(acme, document, SystemTime::now()).await {
                let error = with_causes(&failure);
                tracing::warn!(
                    document.name,
                    error,
                    "what was shown for an order that is over is left for later"
                );
            }
        }
        Self { of_nobody }
    }
}

/// Deletes a document, after what it remembers; tells whether that was tried.
async fn delete(acme: &AcmeClient, document: &Document, tries: u32) -> bool {
    let name = &document.name;
    if !is_still(acme, document).await {
        return false;
    }
    if let Err(failure) = clear(acme, document).await {
        let (error, tries_left) = (with_causes(&failure), TRIES.saturating_sub(tries));
        tracing::warn!(
            document.name = name,
            error,
            tries_left,
            "records of a host that is gone cannot be taken away"
        );
        if tries_left > 0 {
            return true;
        }
    }
    // Its host may have come back while records were taken away.
    if !is_still(acme, document).await {
        return true;
    }
    match acme.store.delete(name).await {
        Ok(_) => tracing::info!(document.name = name, "a document that nobody needs was deleted"),
        Err(error) => {
            tracing::warn!(document.name = name, %error, "a document that nobody needs is left for later");
        }
    }
    true
}

/// Whether nobody has written it meanwhile: then it would be theirs.
async fn is_still(acme: &AcmeClient, document: &Document) -> bool {
    acme.store.get(&document.name).await.ok().flatten().as_ref() == Some(document)
}

/// Takes away what was shown by an order that nobody goes on with. What is gone of it is forgotten, if not all is.
async fn clear(acme: &AcmeClient, document: &Document) -> Result<(), Failure> {
    let Some((DocumentKind::State, id)) = DocumentKind::of(&document.name) else { return Ok(()) };
    let ordered = State::read(document).order;
    let (gone, left) = acme.take_away(ordered.map(|ordered| ordered.proofs).unwrap_or_default()).await;
    if left.is_err() {
        forget(acme, id, &gone).await?;
    }
    left
}

/// Takes away what is shown still for an order that nobody goes on with of somebody who is there: another one may be made
/// months later.
async fn clear_what_is_over(acme: &AcmeClient, document: &Document, now: SystemTime) -> Result<(), Failure> {
    let Some((DocumentKind::State, id)) = DocumentKind::of(&document.name) else { return Ok(()) };
    let is_over = |ordered: &Ordered| ordered.url.is_none() || time(ordered.made) + DAY < now;
    let Some(ordered) = State::read(document).order.filter(is_over) else { return Ok(()) };
    let (gone, left) = acme.take_away(ordered.proofs).await;
    if !gone.is_empty() {
        forget(acme, id, &gone).await?;
    }
    left
}

async fn forget(acme: &AcmeClient, id: &str, gone: &[Proof]) -> Result<(), Failure> {
    let forget = |state: &mut State| {
        if let Some(ordered) = &mut state.order {
            ordered.proofs.retain(|proof| !gone.contains(proof));
        }
    };
    Ok(state::change(&*acme.store, id, forget).await?)
}

impl There {
    fn of_nobody(&self, documents: &[Document], now: SystemTime) -> BTreeSet<String> {
        let names: BTreeSet<&str> = documents.iter().map(|document| document.name.as_str()).collect();
        let is_of_nobody = |document: &&Document| match DocumentKind::of(&document.name) {
            Some((DocumentKind::Certificate, id)) => {
                let is_over = |kept: Kept| kept.certificate.not_after() < now;
                !self.units.contains(id) && Kept::read(document).is_ok_and(is_over)
            }
            Some((DocumentKind::State, id)) => {
                let has_certificate = names.contains(DocumentKind::Certificate.name(id).as_str());
                !self.units.contains(id) && !has_certificate && State::read(document).is_spent(now)
            }
            Some((DocumentKind::Seen, replica)) => !self.replicas.contains(replica),
            Some((DocumentKind::Challenge, _)) => is_stale(document, now),
            Some((DocumentKind::Account | DocumentKind::RetryAfter | DocumentKind::Budget, _)) | None => {
                false
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
    use crate::lab::{GenerousAuthority, Memory, certificates, programs};
    use crate::state::unix;
    use crate::store::{Store, Version};

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
        ] {
            let found = of_nobody(&[document("state-site--gone.test", state(value))], now());
            assert_eq!(found.is_empty(), is_kept, "{what}");
        }
    }

    #[test]
    fn a_challenge_is_left_for_a_day_and_what_a_replica_tells_while_it_is_there() {
        let host = config::HostName::parse("here.test").unwrap();
        let challenge = Challenge::new(Way::Http, &host, "token", "answer");
        let documents = [
            document(&challenge.document(), challenge.written()),
            document("seen-r1", *b"[]"),
            document("seen-r2", *b"[]"),
        ];
        let made = SystemTime::now();
        assert_eq!(of_nobody(&documents, made + Duration::from_hours(23)), ["seen-r2"]);
        assert_eq!(
            of_nobody(&documents, made + Duration::from_hours(25)),
            [&challenge.document(), "seen-r2"]
        );
    }

    #[tokio::test]
    async fn only_what_two_sweeps_find_to_be_of_nobody_is_deleted() {
        let (store, worker) = worker_with(&[]).await;
        for name in ["seen-r1", "seen-r2", "seen-r3"] {
            store.create(name, b"[]".to_vec()).await.unwrap();
        }
        let and_r2 = || There { replicas: ["r1", "r2"].map(str::to_owned).into(), ..there() };
        let first = Sweep::default().then(worker.clone(), there()).await;
        assert_eq!(store.list().await.unwrap().len(), 3);
        let second = first.then(worker.clone(), and_r2()).await;
        let left = |documents: Vec<Document>| {
            documents.into_iter().map(|document| document.name).collect::<Vec<_>>()
        };
        assert_eq!(left(store.list().await.unwrap()), ["seen-r1", "seen-r2"]);
        second.then(worker.clone(), there()).await;
        assert_eq!(left(store.list().await.unwrap()), ["seen-r1", "seen-r2"]);
    }

    /// A worker whose records these scripts write, and its store.
    async fn worker_with(scripts: &[(&str, String)]) -> (Arc<Memory>, Arc<Worker>) {
        let authority = GenerousAuthority::start().await;
        let store = Arc::default();
        let (worker, _) = crate::lab::worker(&certificates(&authority, &programs(scripts)), &store, None);
        (store, Arc::new(worker))
    }

    #[tokio::test]
    async fn what_the_dns_has_of_a_host_that_is_gone_is_taken_away_before_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("told");
        for (does_fail, sweeps) in [(false, 2), (true, 1 + TRIES)] {
            let script = format!("echo \"$@\" >> {}; ! {does_fail}", file.display());
            let (store, worker) = worker_with(&[("program", script)]).await;
            let proofs = [crate::lab::record("program", "text")];
            let left = serde_json::json!({ "order": { "authority": "le", "key": "", "proofs": proofs } });
            store.create("state-site--gone.test", state(left)).await.unwrap();
            let mut sweep = Sweep::default();
            for _ in 0..sweeps {
                assert_eq!(store.list().await.unwrap().len(), 1);
                sweep = sweep.then(worker.clone(), there()).await;
            }
            assert!(store.list().await.unwrap().is_empty(), "{does_fail}");
            let told = std::fs::read_to_string(&file).unwrap();
            let line = "clear _acme-challenge.gone.test text\n";
            assert_eq!(told, line.repeat(usize::try_from(sweeps - 1).unwrap()));
            std::fs::remove_file(&file).unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_shown_for_an_order_that_nobody_goes_on_with_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("told");
        let script = format!("echo \"$@\" >> {}", file.display());
        let (store, worker) = worker_with(&[("program", script)]).await;
        let ago = |hours: u64| unix(SystemTime::now()) - hours * 3600;
        let url = serde_json::json!("https://authority.test/1");
        for (url, made, does_stay) in
            [(&url, ago(1), true), (&url, ago(25), false), (&serde_json::Value::Null, ago(1), false)]
        {
            let text = format!("text{made}{url}");
            let proofs = [crate::lab::record("program", &text)];
            let order = serde_json::json!({ "order": { "authority": "le", "url": url, "made": made, "key": "", "proofs": proofs } });
            state::put(&*store, "state-site--here.test", &state(order)).await.unwrap();
            Sweep::default().then(worker.clone(), there()).await;
            let told = std::fs::read_to_string(&file).unwrap_or_default();
            assert_eq!(told.contains(&text), !does_stay, "{url} {made}: {told}");
            let left = state::read(&*store, "site--here.test").await.unwrap().order.unwrap().proofs;
            assert_eq!(left.len(), usize::from(does_stay), "{url} {made}");
        }
    }

    #[tokio::test]
    async fn a_host_that_comes_back_while_its_records_are_taken_away_keeps_its_state() {
        let folder = tempfile::tempdir().unwrap();
        let [asked, go] = ["asked", "go"].map(|name| folder.path().join(name));
        let script =
            format!("touch {}; until test -e {}; do sleep 0.02; done", asked.display(), go.display());
        let (store, worker) = worker_with(&[("program", script)]).await;
        let proofs = [crate::lab::record("program", "text")];
        let left = serde_json::json!({ "order": { "authority": "le", "key": "", "proofs": proofs } });
        store.create("state-site--gone.test", state(left)).await.unwrap();
        let first = Sweep::default().then(worker.clone(), there()).await;
        let comes_back = async {
            while !asked.exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            state::change(&*store, "site--gone.test", |state| state.is_counted = true).await.unwrap();
            std::fs::write(&go, "").unwrap();
        };
        let within = tokio::time::timeout(Duration::from_secs(20), comes_back);
        let (_, came) = tokio::join!(first.then(worker.clone(), there()), within);
        came.unwrap();
        assert_eq!(store.value("state-site--gone.test").unwrap()["is_counted"], true);
    }
}
