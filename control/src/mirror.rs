//! What this process knows of the records of one kind: one loop writes it down, every request reads it without a lock.

use crate::{Change, LoopError, RecordError};
use arc_swap::{ArcSwap, Guard};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long a change that this process wrote may take until its own watch tells it.
const ECHO: Duration = Duration::from_secs(5);
/// How many changes are taken in before they are published.
const BATCH: usize = 1024;

/// What a [`MirrorWriter`] has published. Cheap to clone.
pub(crate) struct Mirror<T> {
    value: Arc<ArcSwap<T>>,
    changes: watch::Receiver<()>,
}

/// The one that writes it.
pub(crate) struct MirrorWriter<T> {
    value: Arc<ArcSwap<T>>,
    changed: watch::Sender<()>,
}

impl<T> Clone for Mirror<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), changes: self.changes.clone() }
    }
}

impl<T: Default> MirrorWriter<T> {
    /// One that has published the default.
    pub(crate) fn new() -> Self {
        Self { value: Arc::default(), changed: watch::channel(()).0 }
    }

    /// What it publishes.
    pub(crate) fn mirror(&self) -> Mirror<T> {
        Mirror { value: self.value.clone(), changes: self.changed.subscribe() }
    }

    /// From now on it is this.
    pub(crate) fn publish(&self, value: T) {
        self.value.store(Arc::new(value));
        self.changed.send_replace(());
    }
}

impl<T> Mirror<T> {
    /// As it is: an atomic load.
    pub(crate) fn load(&self) -> Guard<Arc<T>> {
        self.value.load()
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
