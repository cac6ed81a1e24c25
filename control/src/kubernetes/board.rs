//! What was told of each workspace, and what observers have not taken yet.

use crate::{Event, Observed, Scope};
use config::WorkspaceId;
use futures_util::stream::{self, BoxStream, StreamExt};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What was told. Written by whoever holds the [`Fold`](super::fold::Fold) that it is part of.
#[derive(Default)]
pub(super) struct Board {
    told: BTreeMap<WorkspaceId, Observed>,
    synced: bool,
    blind: BTreeSet<Scope>,
    observers: Vec<Weak<Observer>>,
}

/// What one observer has to be told: of each workspace the last only, in the order in which that came, so that a slow
/// one costs no more than there are workspaces.
#[derive(Default)]
struct Observer {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    /// Counts what was posted.
    posted: u64,
    order: BTreeMap<u64, Key>,
    events: HashMap<Key, (u64, Event)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Workspace(WorkspaceId),
    Synced,
    Sighted(Scope),
}

impl Board {
    /// Tells how a workspace is, unless that was told; `None` = nothing is left of it.
    pub(super) fn tell(&mut self, id: &WorkspaceId, observed: Option<Observed>) {
        if self.told.get(id) != observed.as_ref() {
            match observed {
                Some(observed) => drop(self.told.insert(id.clone(), observed)),
                None => drop(self.told.remove(id)),
            }
            self.tell_again(id);
        }
    }

    /// Tells how a workspace is, though that was told: somebody waits for it.
    pub(super) fn tell_again(&mut self, id: &WorkspaceId) {
        let event = match self.told.get(id) {
            Some(observed) => Event::Seen(observed.clone()),
            None => Event::Gone(id.clone()),
        };
        self.post(Key::Workspace(id.clone()), event);
    }

    /// All that there is has been told.
    pub(super) fn sync(&mut self) {
        if !std::mem::replace(&mut self.synced, true) {
            self.post(Key::Synced, Event::Synced);
        }
    }

    /// Whether what was told of this scope is known to be true.
    pub(super) fn sight(&mut self, scope: &Scope, sighted: bool) {
        let is_news = if sighted { self.blind.remove(scope) } else { self.blind.insert(scope.clone()) };
        if is_news {
            self.post(Key::Sighted(scope.clone()), Event::Sighted(scope.clone(), sighted));
        }
    }

    /// All that was told, then every change; ends when the driver is `broken`.
    pub(super) fn observe(&mut self, broken: CancellationToken) -> BoxStream<'static, Event> {
        let observer = Arc::new(Observer::default());
        let mut all: Vec<_> = self.told.values().collect();
        // As ever: whoever is told of a mark has been told of all before it.
        all.sort_by_key(|observed| observed.mark.map(|mark| mark.number));
        for observed in all {
            observer.post(Key::Workspace(observed.id.clone()), Event::Seen(observed.clone()));
        }
        for scope in &self.blind {
            observer.post(Key::Sighted(scope.clone()), Event::Sighted(scope.clone(), false));
        }
        if self.synced {
            observer.post(Key::Synced, Event::Synced);
        }
        self.observers.push(Arc::downgrade(&observer));
        stream::unfold(observer, async |observer| Some((observer.next().await, observer)))
            .take_until(broken.cancelled_owned())
            .boxed()
    }

    fn post(&mut self, key: Key, event: Event) {
        self.observers.retain(|observer| {
            observer.upgrade().inspect(|observer| observer.post(key.clone(), event.clone())).is_some()
        });
    }
}

impl Observer {
    fn post(&self, key: Key, event: Event) {
        let mut waiting = self.waiting.lock().expect("nobody panics with the lock held");
        waiting.posted += 1;
        let place = waiting.posted;
        if let Some((before, _)) = waiting.events.insert(key.clone(), (place, event)) {
            waiting.order.remove(&before);
        }
        waiting.order.insert(place, key);
        drop(waiting);
        self.news.notify_one();
    }

    async fn next(&self) -> Event {
        loop {
            if let Some(event) = self.take() {
                return event;
            }
            self.news.notified().await;
        }
    }

    fn take(&self) -> Option<Event> {
        let mut waiting = self.waiting.lock().expect("nobody panics with the lock held");
        let (_, key) = waiting.order.pop_first()?;
        waiting.events.remove(&key).map(|(_, event)| event)
    }
}
