//! A watch that never has a gap: everything, then every change; whoever falls behind gets everything again.

use super::ask;
use super::folder::Folder;
use crate::store::{Change, StoreError};
use futures_util::stream::{self, BoxStream, StreamExt};
use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, Weak};
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};

/// How long after a failure of the disk everything is read again.
const RETRY: Duration = Duration::from_secs(1);

struct Watcher {
    /// Weak: a watch does not keep the folder open.
    folder: Weak<Mutex<Folder>>,
    /// The documents that the reader of this watch believes to exist.
    told: BTreeSet<String>,
    waiting: VecDeque<Change>,
    changes: Option<broadcast::Receiver<Change>>,
}

pub(super) fn watch(folder: Weak<Mutex<Folder>>) -> BoxStream<'static, Change> {
    let watcher = Watcher { folder, told: BTreeSet::new(), waiting: VecDeque::new(), changes: None };
    stream::unfold(watcher, |mut watcher| async {
        let change = watcher.next().await?;
        Some((change, watcher))
    })
    .boxed()
}

impl Watcher {
    async fn next(&mut self) -> Option<Change> {
        loop {
            if let Some(change) = self.waiting.pop_front() {
                match &change {
                    Change::Put(document) => self.told.insert(document.name.clone()),
                    Change::Deleted(name) => self.told.remove(name),
                };
                return Some(change);
            }
            match &mut self.changes {
                None => self.take_all().await?,
                Some(changes) => match changes.recv().await {
                    Ok(change) => self.waiting.push_back(change),
                    Err(RecvError::Lagged(_)) => self.changes = None,
                    Err(RecvError::Closed) => return None,
                },
            }
        }
    }

    /// Takes up everything that is there; what was told and is there no more was deleted meanwhile. `None` when the
    /// store is closed.
    async fn take_all(&mut self) -> Option<()> {
        match ask(self.folder.upgrade()?, |folder| folder.watch()).await {
            Ok((documents, changes)) => {
                let is_there = |name: &str| documents.iter().any(|document| document.name == name);
                let gone = self.told.iter().filter(|name| !is_there(name)).cloned();
                self.waiting = gone.map(Change::Deleted).collect();
                self.waiting.extend(documents.into_iter().map(Change::Put));
                self.changes = Some(changes);
            }
            Err(StoreError::Exists(reason) | StoreError::Conflict(reason) | StoreError::Unusable(reason)) => {
                tracing::warn!(reason, "the store of certificates cannot be read; trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
        Some(())
    }
}
