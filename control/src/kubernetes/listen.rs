//! The one task that hears what the cluster tells, and wakes when a reading is due.

use super::driver::force;
use super::fold::News;
use super::{Client, Inner, Selection, names, watch};
use crate::{BELIEVED, clock};
use futures_util::FutureExt;
use futures_util::stream::{self, BoxStream, FuturesUnordered, StreamExt};
use std::sync::Arc;
use std::time::Instant;
use tokio::time::sleep_until;

/// How much is taken in before it is read and told: bounds how old the table can get under a flood.
const BATCH: usize = 1024;

/// What the workspaces of a namespace are made of, and what tells of them.
pub(super) struct Watches {
    /// StatefulSets and pods.
    objects: BoxStream<'static, News>,
    /// Claims and events, which only tell causes: begun when there are workspaces for them to be of.
    aside: BoxStream<'static, News>,
}

impl Watches {
    /// Begins nothing yet.
    pub(super) fn new(client: &Client, namespace: &str) -> Self {
        let all = Selection::all(namespace);
        let ours =
            Selection { labels: Some(format!("{}={}", names::MANAGED_BY, names::USHER)), ..all.clone() };
        let sets = watch(client, ours.clone()).map(News::Set);
        let pods = watch(client, ours.clone()).map(News::Pod);
        let claims = watch(client, ours).map(News::Claim);
        let events = watch(client, all).map(News::Event);
        Self { objects: stream::select(sets, pods).boxed(), aside: stream::select(claims, events).boxed() }
    }

    async fn next(&mut self, with_aside: bool) -> News {
        let heard = tokio::select! {
            biased;
            heard = self.objects.next() => heard,
            heard = self.aside.next(), if with_aside => heard,
        };
        heard.expect("a watch never ends")
    }
}

/// Hears and tells, for ever. Nothing starts anywhere before each namespace has told what there is; one that `may_lack`
/// is waited for as long as one that falls silent.
pub(super) async fn listen(inner: Arc<Inner>, mut watches: Watches, may_lack: bool) {
    let until = may_lack.then(|| clock::now() + BELIEVED);
    let mut synced = false;
    let mut due = None;
    let mut removals = FuturesUnordered::new();
    loop {
        tokio::select! {
            biased;
            news = watches.next(synced) => {
                let now = clock::now();
                let mut fold = inner.fold();
                fold.take(news, now);
                for _ in 1..BATCH {
                    let Some(news) = watches.next(synced).now_or_never() else { break };
                    fold.take(news, now);
                }
            }
            Some(()) = removals.next(), if !removals.is_empty() => {}
            () = at(due) => {}
            () = at(until), if !synced => inner.fold().wait_no_longer(),
            // A write was answered, which may have set another time.
            () = inner.woken.notified() => {}
        }
        let mut fold = inner.fold();
        due = fold.flush(clock::now());
        synced = fold.is_synced();
        let stranded = fold.take_stranded();
        drop(fold);
        removals.extend(stranded.into_iter().map(|(id, pod)| {
            let inner = inner.clone();
            async move { force(&inner, &id, &pod).await }
        }));
        inner.told.send_modify(|count| *count = count.wrapping_add(1));
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
