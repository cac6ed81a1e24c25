//! A watch that never has a gap: a snapshot, then every change; whoever falls behind gets a new snapshot.

use super::{Command, ask};
use crate::{Change, Kind, RecordError};
use futures_util::stream::{self, BoxStream, StreamExt};
use std::collections::{HashSet, VecDeque};
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc::WeakSender;

/// How long after a failure of the store a snapshot is asked for again.
const RETRY: Duration = Duration::from_secs(1);

struct Watcher {
    /// Weak: a watch does not keep the file open.
    commands: WeakSender<Command>,
    kind: Kind,
    /// The records that the reader of this watch believes to exist.
    told: HashSet<Box<str>>,
    waiting: VecDeque<Change>,
    changes: Option<broadcast::Receiver<Change>>,
}

pub(super) fn watch(commands: WeakSender<Command>, kind: Kind) -> BoxStream<'static, Change> {
    let watcher = Watcher { commands, kind, told: HashSet::new(), waiting: VecDeque::new(), changes: None };
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
                self.remember(&change);
                return Some(change);
            }
            self.waiting = VecDeque::new();
            match &mut self.changes {
                None => self.take_snapshot().await?,
                Some(changes) => match changes.recv().await {
                    Ok(change) => self.waiting.push_back(change),
                    Err(RecvError::Lagged(_)) => self.changes = None,
                    Err(RecvError::Closed) => return None,
                },
            }
        }
    }

    fn remember(&mut self, change: &Change) {
        match change {
            Change::Put(record) => self.told.insert(record.name.as_str().into()),
            Change::Deleted(name) => self.told.remove(name.as_str()),
        };
    }

    /// Takes up everything that is there; what was told and is there no more was deleted meanwhile. `None` when
    /// the store is closed.
    async fn take_snapshot(&mut self) -> Option<()> {
        let kind = self.kind;
        let commands = self.commands.upgrade()?;
        let asked = ask(&commands, |answer| Command::Watch(kind, answer)).await;
        drop(commands);
        let (records, changes) = match asked {
            Ok(there) => there,
            Err(RecordError::Store(reason)) => {
                tracing::warn!(?kind, reason, "records cannot be watched; trying again");
                tokio::time::sleep(RETRY).await;
                return Some(());
            }
            Err(RecordError::Exists(_) | RecordError::Conflict(_)) => return Some(()),
        };
        let there: HashSet<&str> = records.iter().map(|record| record.name.as_str()).collect();
        let gone = self.told.iter().filter(|name| !there.contains(&***name));
        // With the room that these take: it is given back once they are told.
        self.waiting = gone.map(|name| Change::Deleted(name.to_string())).collect();
        self.waiting.extend(records.into_iter().map(Change::Put));
        self.changes = Some(changes);
        Some(())
    }
}
