//! A store in memory, whose users come in another order each time.

use crate::store::{Change, Document, Store, StoreError, Version};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

type Held<'a> = MutexGuard<'a, (u64, BTreeMap<String, Document>)>;

/// Documents in memory; nobody is told of changes.
#[derive(Default)]
pub(crate) struct Memory {
    documents: Mutex<(u64, BTreeMap<String, Document>)>,
    is_down: AtomicBool,
    /// What the name of a document begins with that is not written once.
    loses: Mutex<Option<String>>,
}

impl Memory {
    /// It fails from now on, or works again.
    pub(crate) fn fails(&self, fails: bool) {
        self.is_down.store(fails, Ordering::SeqCst);
    }

    /// Fails the next time that a document is written whose name begins so.
    pub(crate) fn loses_the_next(&self, prefix: &str) {
        *self.loses.lock().expect("nobody panics with it") = Some(prefix.to_owned());
    }

    /// What a document says.
    pub(crate) fn value(&self, name: &str) -> Option<serde_json::Value> {
        let (_, documents) = &*self.held();
        documents.get(name).and_then(|document| serde_json::from_slice(&document.value).ok())
    }

    fn held(&self) -> Held<'_> {
        self.documents.lock().expect("nobody panics with it")
    }

    async fn turn_to_write(&self, name: &str) -> Result<Held<'_>, StoreError> {
        let held = self.turn().await?;
        let lost =
            self.loses.lock().expect("nobody panics with it").take_if(|prefix| name.starts_with(&**prefix));
        match lost {
            Some(_) => Err(StoreError::Unusable("as the test wants".to_owned())),
            None => Ok(held),
        }
    }

    async fn turn(&self) -> Result<Held<'_>, StoreError> {
        some_turns().await;
        if self.is_down.load(Ordering::SeqCst) {
            return Err(StoreError::Unusable("as the test wants".to_owned()));
        }
        Ok(self.held())
    }
}

/// Lets others go before, more or less often.
pub(super) async fn some_turns() {
    for _ in 0..fastrand::usize(..6) {
        tokio::task::yield_now().await;
    }
}

fn write(held: &mut (u64, BTreeMap<String, Document>), name: &str, value: Vec<u8>) -> Version {
    let (last, documents) = held;
    *last += 1;
    let version = Version(*last);
    documents.insert(name.to_owned(), Document { name: name.to_owned(), version, value });
    version
}

#[async_trait::async_trait]
impl Store for Memory {
    async fn list(&self) -> Result<Vec<Document>, StoreError> {
        Ok(self.turn().await?.1.values().cloned().collect())
    }
    async fn get(&self, name: &str) -> Result<Option<Document>, StoreError> {
        Ok(self.turn().await?.1.get(name).cloned())
    }
    async fn create(&self, name: &str, value: Vec<u8>) -> Result<Version, StoreError> {
        let mut held = self.turn_to_write(name).await?;
        if held.1.contains_key(name) {
            return Err(StoreError::Exists(name.to_owned()));
        }
        Ok(write(&mut held, name, value))
    }
    async fn replace(&self, name: &str, version: Version, value: Vec<u8>) -> Result<Version, StoreError> {
        let mut held = self.turn_to_write(name).await?;
        if held.1.get(name).is_none_or(|document| document.version != version) {
            return Err(StoreError::Conflict(name.to_owned()));
        }
        Ok(write(&mut held, name, value))
    }
    async fn delete(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.turn().await?.1.remove(name).is_some())
    }
    fn watch(&self) -> BoxStream<'static, Change> {
        stream::pending().boxed()
    }
}
