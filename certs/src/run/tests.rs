//! The loop over a store that tells late.

use super::*;
use crate::certificate::Certificate;
use crate::kept::{Kept, Origin};
use crate::lab::{GenerousAuthority, Memory, certificates, settings, unit, worker};
use crate::listed::Next;
use crate::schedule::DAY;
use crate::state;
use crate::store::{DirectoryStore, Version};
use config::Config;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const TABLES: &str = "domain = 'lab.test'\nlisteners = [{ address = '127.0.0.1:443', protocol = 'https' }]\n\
    access = { allow = 'true', template = \"'demo'\" }\n[certificates.site]\nsource = 'self-signed'\n\
    [templates.demo]\ncommand = ['demo', '{port}']\nconnect = 'port'\n";

fn config(tables: &str) -> Arc<Config> {
    Config::parse("test", tables, &|_| None).unwrap_or_else(|findings| panic!("{findings}")).into()
}

/// A folder that tells of one change of a state, the wish, and never of another.
struct Late {
    folder: DirectoryStore,
    has_told: Arc<AtomicBool>,
    certificates: AtomicUsize,
}

impl Late {
    fn count(&self, name: &str) {
        if matches!(DocumentKind::of(name), Some((DocumentKind::Certificate, _))) {
            self.certificates.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[async_trait::async_trait]
impl Store for Late {
    async fn list(&self) -> Result<Vec<Document>, StoreError> {
        self.folder.list().await
    }
    async fn get(&self, name: &str) -> Result<Option<Document>, StoreError> {
        self.folder.get(name).await
    }
    async fn create(&self, name: &str, value: Vec<u8>) -> Result<Version, StoreError> {
        self.count(name);
        self.folder.create(name, value).await
    }
    async fn replace(&self, name: &str, version: Version, value: Vec<u8>) -> Result<Version, StoreError> {
        self.count(name);
        self.folder.replace(name, version, value).await
    }
    async fn delete(&self, name: &str) -> Result<bool, StoreError> {
        self.folder.delete(name).await
    }
    fn watch(&self) -> BoxStream<'static, Change> {
        let has_told = self.has_told.clone();
        let is_told = move |change: &Change| match change {
            Change::Put(document)
                if matches!(DocumentKind::of(&document.name), Some((DocumentKind::State, _))) =>
            {
                State::read(document).wanted > 0 && !has_told.swap(true, Ordering::SeqCst)
            }
            _ => true,
        };
        self.folder.watch().filter(move |change| std::future::ready(is_told(change))).boxed()
    }
}

#[tokio::test]
async fn what_is_done_is_not_begun_again_although_the_store_tells_of_it_late() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(Late {
        folder: DirectoryStore::open(&folder.path().join("certificates")).unwrap(),
        has_told: Arc::default(),
        certificates: AtomicUsize::new(0),
    });
    let config = config(TABLES);
    let settings = settings(&config.certificates, &store, &[]);
    let (operations, running) = start(settings).await.unwrap();
    let running = tokio::spawn(running);
    let first = operations.list()[0].served.clone();
    operations.renew("site").await.unwrap();
    let is_settled = |listed: &Arc<Vec<Listed>>| {
        listed[0].served != first
            && matches!(listed[0].next, Some(Next::At(at)) if at > state::unix(SystemTime::now()))
    };
    let mut list = operations.listed.clone();
    tokio::time::timeout(Duration::from_secs(20), list.wait_for(is_settled)).await.unwrap().unwrap();
    running.abort();
    assert_eq!(store.certificates.load(Ordering::SeqCst), 2, "the first, and the one that was wanted");
}

#[tokio::test]
async fn whatever_the_authority_of_its_own_signed_is_signed_anew_by_the_one_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(DirectoryStore::open(&folder.path().join("certificates")).unwrap());
    let signer = async |id: &str| {
        let document = store.get(&DocumentKind::Certificate.name(id)).await.unwrap()?;
        Kept::read(&document).unwrap().certificate.certified_key().cert.last().cloned()
    };
    let first = config(TABLES);
    drop(start(settings(&first.certificates, &store, &[])).await.unwrap());
    let before = signer("site").await.unwrap();
    // The old authority may not sign for this name.
    let other = "[certificates.other]\nsource = 'self-signed'\nnames = ['other.test']\n[templates";
    let second = config(&TABLES.replace("[templates", other));
    let (operations, running) = start(settings(&second.certificates, &store, &[])).await.unwrap();
    let running = tokio::spawn(running);
    let is_anew = async {
        while signer("site").await == Some(before.clone()) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), is_anew).await.expect("it is signed anew");
    assert_eq!(signer("site").await, signer("other").await);
    running.abort();
    drop(operations);
}

#[tokio::test]
async fn what_is_deleted_or_damaged_while_it_is_served_is_kept_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(DirectoryStore::open(&folder.path().join("certificates")).unwrap());
    let config = config(TABLES);
    let (operations, running) = start(settings(&config.certificates, &store, &[])).await.unwrap();
    let running = tokio::spawn(running);
    let name = DocumentKind::Certificate.name("site");
    let before = store.get(&name).await.unwrap().unwrap();
    // In this order: the loop surely hears of what is there when it begins, and not of what was there before.
    for damage in [Some("{}"), None] {
        match damage {
            None => assert!(store.delete(&name).await.unwrap()),
            Some(value) => state::put(&*store, &name, value.as_bytes()).await.unwrap(),
        }
        let is_back = async {
            while store.get(&name).await.unwrap().is_none_or(|document| document.value != before.value) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), is_back).await.expect("it is kept again");
    }
    assert!(operations.list()[0].served.is_some());
    running.abort();
}

/// A certificate for these names that is valid from a moment on, by nobody in particular.
fn valid_from(begin: SystemTime, names: &[&str]) -> (Certificate, [String; 2]) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = rcgen::CertificateParams::new(names).expect("they are names");
    params.not_before = begin.into();
    params.not_after = (begin + 30 * DAY).into();
    let key = rcgen::KeyPair::generate().expect("random numbers");
    let pem = [params.self_signed(&key).expect("it can be signed").pem(), key.serialize_pem()];
    (Certificate::parse(pem[0].as_bytes(), pem[1].as_bytes()).expect("it is one"), pem)
}

#[tokio::test]
async fn what_becomes_valid_is_served_then_wherever_it_came_from() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let store = Arc::new(DirectoryStore::open(&folder.path().join("certificates")).unwrap());
    let declared = format!(
        "[certificates.own]\nsource = 'files'\ncertificate = '{}'\nprivate_key = '{}'\nnames = ['own.test']\n",
        file("chain"),
        file("key")
    );
    let config = config(&TABLES.replace("[templates", &(declared + "[templates")));
    let begin = SystemTime::now() + Duration::from_secs(10);
    let (own, [chain, key]) = valid_from(begin, &["own.test"]);
    std::fs::write(file("chain"), chain).unwrap();
    std::fs::write(file("key"), key).unwrap();

    let (operations, running) = start(settings(&config.certificates, &store, &[])).await.unwrap();
    let running = tokio::spawn(running);
    let [first, early] = [1, 0].map(|at| operations.list()[at].clone());
    assert!(early.served.is_none() && early.failures[0].contains("is not valid before"), "{early:?}");
    assert!(first.served.is_some(), "{first:?}");
    let (imported, _) = valid_from(begin + Duration::from_secs(1), &["lab.test", "*.lab.test"]);
    let kept = Kept { certificate: imported.clone(), origin: Origin::Imported, obtained: SystemTime::now() };
    state::put(&*store, &DocumentKind::Certificate.name("site"), &kept.write()).await.unwrap();

    let is_served = |listed: &Listed, certificate: &Certificate| {
        listed.served.as_ref().is_some_and(|served| served.fingerprint == certificate.fingerprint())
    };
    let are_served =
        |listed: &Arc<Vec<Listed>>| is_served(&listed[0], &own) && is_served(&listed[1], &imported);
    let mut list = operations.listed.clone();
    let listed = tokio::time::timeout(Duration::from_mins(1), list.wait_for(are_served)).await;
    let listed = listed.unwrap().unwrap()[0].clone();
    running.abort();
    assert!(listed.failures.is_empty(), "{listed:?}");
}

#[tokio::test]
async fn a_document_that_cannot_be_served_is_replaced() {
    let (expired, _) = valid_from(SystemTime::now() - 40 * DAY, &["lab.test", "*.lab.test"]);
    let kept = |certificate| Kept { certificate, origin: Origin::Local, obtained: SystemTime::now() }.write();
    let (elsewhere, _) = valid_from(SystemTime::now() - DAY, &["elsewhere.test"]);
    let (mixed, _) = valid_from(SystemTime::now() - DAY, &["lab.test", "*.lab.test"]);
    let mut mixed: serde_json::Value = serde_json::from_slice(&kept(mixed)).unwrap();
    mixed["key"] = valid_from(SystemTime::now(), &["lab.test"]).1[1].clone().into();
    for broken in [kept(expired), kept(elsewhere), mixed.to_string().into_bytes(), b"{".to_vec()] {
        let (config, store) = (config(TABLES), Arc::<Memory>::default());
        let name = DocumentKind::Certificate.name("site");
        state::put(&*store, &name, &broken).await.unwrap();
        until_served(&config.certificates, &store, &[], "site").await;
        let replaced = Kept::read(&store.get(&name).await.unwrap().unwrap()).unwrap();
        assert!(replaced.certificate.not_after() > SystemTime::now());
    }
}

#[tokio::test]
async fn what_ushers_own_authority_signed_while_a_clock_was_ahead_is_signed_anew() {
    let (config, store) = (config(TABLES), Arc::<Memory>::default());
    let (ahead, _) = valid_from(SystemTime::now() + 20 * DAY, &["lab.test", "*.lab.test"]);
    let kept = Kept { certificate: ahead.clone(), origin: Origin::Local, obtained: SystemTime::now() };
    state::put(&*store, &DocumentKind::Certificate.name("site"), &kept.write()).await.unwrap();
    let (operations, running) = start(settings(&config.certificates, &store, &[])).await.unwrap();
    let running = tokio::spawn(running);
    let is_another = |listed: &Arc<Vec<Listed>>| {
        listed[0].served.as_ref().is_some_and(|served| served.fingerprint != ahead.fingerprint())
    };
    let mut list = operations.listed.clone();
    tokio::time::timeout(Duration::from_secs(20), list.wait_for(is_another)).await.unwrap().unwrap();
    running.abort();
}

/// Runs an Usher that knows these hosts until the certificate of this id is served.
async fn until_served(certificates: &Certificates, store: &Arc<Memory>, hosts: &[&str], id: &str) {
    let (operations, running) = start(settings(certificates, store, hosts)).await.unwrap();
    let running = tokio::spawn(running);
    let is_served = |listed: &Arc<Vec<Listed>>| listed.iter().any(|one| one.id == id && one.served.is_some());
    let mut list = operations.listed.clone();
    let served = tokio::time::timeout(Duration::from_secs(20), list.wait_for(is_served)).await;
    assert!(served.is_ok(), "{id} is not served: {:?}", operations.list());
    running.abort();
}

const HOSTS: [&str; 6] = ["a.lab.test", "b.lab.test", "c.lab.test", "d.lab.test", "e.lab.test", "f.lab.test"];

#[tokio::test]
async fn an_authority_that_hangs_keeps_nobody_waiting_for_another_one() {
    let (slow, other) = tokio::join!(GenerousAuthority::start(), GenerousAuthority::start());
    let more = format!(
        "authorities = 'generous'\n[acme.other]\ndirectory = '{}'\nterms_of_service_agreed = true\n\
         [certificates.zone]\nsource = 'acme'\nauthorities = 'other'\nchallenge = 'http-01'\nnames = ['zone.test']\n",
        other.directory()
    );
    slow.hangs("order");
    until_served(&certificates(&slow, &more), &Arc::default(), &HOSTS, "zone").await;
}

#[tokio::test]
async fn an_authority_that_does_not_say_when_to_renew_keeps_no_order_waiting() {
    let authority = GenerousAuthority::start().await;
    let certificates = certificates(&authority, "");
    let store = Arc::default();
    let (usher, _) = worker(&certificates, &store, None);
    let [held @ .., _] = HOSTS;
    for host in held {
        assert!(usher.work(Work::Get, &unit(&certificates, host), None).await);
    }
    authority.hangs("window");
    until_served(&certificates, &store, &HOSTS, "site--f.lab.test").await;
}

#[tokio::test]
async fn of_two_certificates_that_a_host_can_prove_one_at_a_time_the_second_waits_its_turn() {
    let authority = GenerousAuthority::start().await;
    let tables = format!(
        "[acme.le]\ndirectory = '{}'\nterms_of_service_agreed = true\n\
         [certificates.more]\nsource = 'acme'\nchallenge = 'tls-alpn-01'\nnames = ['lab.test', 'a.lab.test']\n\
         [certificates.site]\nsource = 'acme'\nchallenge = 'tls-alpn-01'\nper_host = true\nnames = ['*.lab.test']\n",
        authority.directory()
    );
    let config = config(&TABLES.replace("[certificates.site]\nsource = 'self-signed'\n", &tables));
    until_served(&config.certificates, &Arc::default(), &HOSTS[..1], "site--a.lab.test").await;
    assert_eq!((authority.asked("order"), authority.most_at_a_time()), (2, 1));
}
