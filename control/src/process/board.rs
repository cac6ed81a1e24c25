//! What is seen of all workspaces now, and who wants to be told of changes.

use crate::{Event, Identity, Observed};
use config::WorkspaceId;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How many events an observer may be behind before those who tell them wait for it.
const BACKLOG: usize = 1024;

/// What is seen now. Each workspace's part is written by its keeper only.
pub(super) struct Board {
    now: Mutex<Now>,
    broken: CancellationToken,
}

#[derive(Default)]
struct Now {
    seen: BTreeMap<WorkspaceId, Observed>,
    /// Whose files are left of workspaces that were deleted.
    kept: BTreeMap<WorkspaceId, Identity>,
    observers: Vec<mpsc::Sender<Event>>,
}

impl Board {
    /// What is seen at the beginning.
    pub fn new(seen: Vec<Observed>) -> Self {
        let seen = seen.into_iter().map(|observed| (observed.id.clone(), observed)).collect();
        Self { now: Mutex::new(Now { seen, ..Now::default() }), broken: CancellationToken::new() }
    }

    /// What is seen of one workspace.
    pub fn look(&self, id: &WorkspaceId) -> Option<Observed> {
        self.now().seen.get(id).cloned()
    }

    /// Whose files are left of one that was deleted.
    pub fn kept(&self, id: &WorkspaceId) -> Option<Identity> {
        self.now().kept.get(id).cloned()
    }

    /// Whose a workspace is, or was when it was deleted and its files were kept.
    pub fn owner(&self, id: &WorkspaceId) -> Option<Identity> {
        let now = self.now();
        now.seen.get(id).map(|seen| &seen.owner).or_else(|| now.kept.get(id)).cloned()
    }

    /// Tells what a workspace is like now.
    pub async fn tell(&self, observed: Observed) {
        let observers = {
            let mut now = self.now();
            now.kept.remove(&observed.id);
            now.seen.insert(observed.id.clone(), observed.clone());
            now.live_observers()
        };
        tell_all(observers, &Event::Seen(observed)).await;
    }

    /// Tells that nothing of a workspace is left, but perhaps files of this owner's.
    pub async fn gone(&self, id: &WorkspaceId, kept: Option<Identity>) {
        let observers = {
            let mut now = self.now();
            now.seen.remove(id);
            match kept {
                Some(owner) => now.kept.insert(id.clone(), owner),
                None => now.kept.remove(id),
            };
            now.live_observers()
        };
        tell_all(observers, &Event::Gone(id.clone())).await;
    }

    /// All that is seen, [`Event::Synced`], then every change; ends when the driver is broken.
    pub fn observe(&self) -> BoxStream<'static, Event> {
        let (sender, changes) = mpsc::channel(BACKLOG);
        let mut now = self.now();
        let mut first: Vec<Event> = now.seen.values().cloned().map(Event::Seen).collect();
        first.push(Event::Synced);
        now.observers.push(sender);
        stream::iter(first)
            .chain(ReceiverStream::new(changes))
            .take_until(self.broken.clone().cancelled_owned())
            .boxed()
    }

    /// Breaks the driver when dropped: a keeper that ends without leave must not go unseen.
    pub fn guard(&self) -> DropGuard {
        self.broken.clone().drop_guard()
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().expect("nobody panics with the lock held")
    }
}

impl Now {
    fn live_observers(&mut self) -> Vec<mpsc::Sender<Event>> {
        self.observers.retain(|observer| !observer.is_closed());
        self.observers.clone()
    }
}

async fn tell_all(observers: Vec<mpsc::Sender<Event>>, event: &Event) {
    for observer in observers {
        // One that left in between wants nothing any more.
        observer.send(event.clone()).await.ok();
    }
}
