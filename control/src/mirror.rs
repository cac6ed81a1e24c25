//! What this process knows of the records of one kind: one loop writes it down, every request reads it without a lock.

use crate::{Change, Kind, LoopError, RecordError, Records, Version, hash};
use arc_swap::{ArcSwap, Guard};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;

/// How long a change that this process wrote may take until its own watch tells it.
const ECHO: Duration = Duration::from_secs(5);
/// How many changes are taken in before they are published.
const BATCH: usize = 1024;
/// What the names of markers begin with, which nothing else of these kinds is named like: see [`Mirror::catch_up`].
const MARKER: &str = "marker-";

/// What a [`MirrorWriter`] has published. Cheap to clone.
pub(crate) struct Mirror<T> {
    shared: Arc<Shared<T>>,
    changes: watch::Receiver<()>,
}

/// The one that writes it.
pub(crate) struct MirrorWriter<T> {
    shared: Arc<Shared<T>>,
    changed: watch::Sender<()>,
}

struct Shared<T> {
    value: ArcSwap<T>,
    /// The version up to which the value has everything.
    reached: AtomicU64,
}

impl<T> Clone for Mirror<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), changes: self.changes.clone() }
    }
}

impl<T: Default> MirrorWriter<T> {
    /// One that has published the default.
    pub(crate) fn new() -> Self {
        let shared = Shared { value: ArcSwap::default(), reached: AtomicU64::default() };
        Self { shared: Arc::new(shared), changed: watch::channel(()).0 }
    }

    /// What it publishes.
    pub(crate) fn mirror(&self) -> Mirror<T> {
        Mirror { shared: self.shared.clone(), changes: self.changed.subscribe() }
    }

    /// From now on it is this.
    pub(crate) fn publish(&self, value: T) {
        self.shared.value.store(Arc::new(value));
        self.changed.send_replace(());
    }

    /// What is published has everything up to this version.
    pub(crate) fn reach(&self, version: Version) {
        if self.shared.reached.fetch_max(version.0, Ordering::Release) < version.0 {
            self.changed.send_replace(());
        }
    }
}

impl<T> Mirror<T> {
    /// As it is: an atomic load.
    pub(crate) fn load(&self) -> Guard<Arc<T>> {
        self.shared.value.load()
    }

    /// Waits until it shows something, looked at after each change; none = it did not in that time.
    pub(crate) async fn await_that<S>(&self, patience: Duration, shows: impl Fn() -> Option<S>) -> Option<S> {
        let mut changes = self.changes.clone();
        let waited = async {
            loop {
                changes.borrow_and_update();
                if let Some(shown) = shows() {
                    return Some(shown);
                }
                changes.changed().await.ok()?;
            }
        };
        tokio::time::timeout(patience, waited).await.ok().flatten()
    }

    /// Waits until it shows what this process has written to the store.
    ///
    /// # Errors
    /// The store's watch does not tell it.
    pub(crate) async fn await_echo<S>(&self, shows: impl Fn() -> Option<S>) -> Result<S, RecordError> {
        let untold = || RecordError::Store("what was written to it is not told by its watch".to_owned());
        self.await_that(ECHO, shows).await.ok_or_else(untold)
    }

    /// Waits until it has all that anybody has written so far: writes a marker, and waits for the watch to tell it.
    ///
    /// # Errors
    /// The store fails, or its watch does not tell.
    pub(crate) async fn catch_up(&self, records: &dyn Records, kind: Kind) -> Result<(), RecordError> {
        let marker = format!("{MARKER}{}", hash::hex(hash::random()?));
        let written = records.create(kind, &marker, b"{}".to_vec()).await?;
        let has_all = || (self.shared.reached.load(Ordering::Acquire) >= written.0).then_some(());
        let caught_up = self.await_echo(has_all).await;
        records.delete(kind, &marker).await?;
        caught_up
    }
}

/// Has what a watch told taken in, and what came with it; tells whether any of it was news.
///
/// # Errors
/// The watch has ended.
pub(crate) fn take_batch(
    first: Option<Change>,
    changes: &mut BoxStream<'static, Change>,
    mut take: impl FnMut(Change) -> bool,
) -> Result<bool, LoopError> {
    let mut news = take(first.ok_or(LoopError::RecordsEnded)?);
    for _ in 0..BATCH {
        let Some(change) = changes.next().now_or_never() else { break };
        news |= take(change.ok_or(LoopError::RecordsEnded)?);
    }
    Ok(news)
}

/// Deletes, at a start, what nobody can read the name of: markers of who died, and records from before names were as they
/// are. They would stay for ever.
pub(crate) async fn clear_away(records: &dyn Records, kind: Kind, strangers: &[String]) {
    for name in strangers {
        match records.delete(kind, name).await {
            Ok(false) => {}
            Ok(true) if name.starts_with(MARKER) => {}
            Ok(true) => {
                let kind = kind.as_str();
                tracing::warn!(
                    record.kind = kind,
                    record.name = name,
                    "a record was deleted: its name is none of its kind"
                );
            }
            Err(error) => {
                tracing::warn!(%error, "a record whose name is none of its kind could not be deleted")
            }
        }
    }
}
