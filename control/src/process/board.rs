//! What is seen of all workspaces now, and who wants to be told of changes.

use crate::{Event, Observed};
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
    observers: Vec<mpsc::Sender<Event>>,
}

impl Board {
    /// What is seen at the beginning.
    pub fn new(seen: Vec<Observed>) -> Self {
        let seen = seen.into_iter().map(|observed| (observed.id.clone(), observed)).collect();
        Self { now: Mutex::new(Now { seen, observers: Vec::new() }), broken: CancellationToken::new() }
    }

    /// What is seen of one workspace.
    pub fn look(&self, id: &WorkspaceId) -> Option<Observed> {
        self.now().seen.get(id).cloned()
    }

    /// Tells what a workspace is like now.
    pub async fn tell(&self, observed: Observed) {
        let observers = {
            let mut now = self.now();
            now.seen.insert(observed.id.clone(), observed.clone());
            now.live_observers()
        };
        tell_all(observers, &Event::Seen(observed)).await;
    }

    /// Tells that nothing of a workspace is left.
    pub async fn gone(&self, id: &WorkspaceId) {
        let observers = {
            let mut now = self.now();
            now.seen.remove(id);
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
