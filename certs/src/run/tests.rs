//! The loop over a store that tells late.

use super::*;
use crate::listed::Next;
use crate::store::{DirectoryStore, Version};
use config::Config;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const TABLES: &str = "domain = 'lab.test'\nlisteners = [{ address = '127.0.0.1:443', protocol = 'https' }]\n\
    access = { allow = 'true', template = \"'demo'\" }\n[certificates.site]\nsource = 'self-signed'\n\
    [templates.demo]\ncommand = ['demo', '{port}']\nconnect = 'port'\n";

/// A folder that tells of one change of a state, the wish, and never of another.
struct Late {
    folder: DirectoryStore,
    has_told: Arc<AtomicBool>,
    certificates: AtomicUsize,
}

impl Late {
    fn count(&self, name: &str) {
        if kept::id(name).is_some() {
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
            Change::Put(document) if document.name.starts_with(state::PREFIX) => {
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
    let config = Config::parse("test", TABLES, &|_| None).unwrap_or_else(|findings| panic!("{findings}"));
    let settings = Settings {
        certificates: config.certificates.clone(),
        store: store.clone(),
        replica: None,
        leads: watch::channel(true).1,
        replicas: watch::channel(BTreeSet::new()).1,
        hosts: watch::channel(BTreeSet::new()).1,
        secrets: watch::channel(BTreeMap::new()).1,
        metrics: Metrics::new(&prometheus::Registry::new()).unwrap(),
        resolver: Resolver::of_none(),
        challenges: HttpChallenges::default(),
    };
    let (office, running) = start(settings).await.unwrap();
    let running = tokio::spawn(running);
    let first = office.list()[0].served.clone();
    office.renew("site").await.unwrap();
    let is_settled = |listed: &Arc<Vec<Listed>>| {
        listed[0].served != first
            && matches!(listed[0].next, Some(Next::At(at)) if at > state::unix(SystemTime::now()))
    };
    let mut list = office.listed.clone();
    tokio::time::timeout(Duration::from_secs(20), list.wait_for(is_settled)).await.unwrap().unwrap();
    running.abort();
    assert_eq!(store.certificates.load(Ordering::SeqCst), 2, "the first, and the one that was wanted");
}
