//! The watch that proves itself: a stream of changes that says when it does not know the truth.
//!
//! A server that is frozen, or cut off without a word, sends neither error nor byte, and a bookmark comes once a
//! minute. So every watch is asked for 8 s only: its end, on the second, is a sign of life, and taking it up again
//! costs 1 ms. Any line and every timely end confirm what was told; 10 s without either and the watch is
//! blind: it says so, begins anew with a list, and says when that is whole. What it proves is that the API server
//! lives and speaks to us; whether that server hears its store, only the store knows.
//!
//! A list, at the beginning or in between (after every restart of the API server all positions are too old), never
//! empties anything: the consumer gets what differs from what it had.

mod known;
mod lines;
#[cfg(test)]
mod tests;
mod trouble;

use super::client::{Resource, of};
use super::{CallError, Client, Object, pause};
use futures_util::stream::{self, BoxStream, StreamExt};
use known::{Known, number};
use kube::core::WatchEvent;
use kube::core::params::{ListParams, WatchParams};
use lines::Lines;
use prometheus::IntGauge;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use trouble::Trouble;

/// After how many seconds the server is to end a watch. Servers did so on the second.
const TIMEOUT: u32 = 8;
/// So long nothing is heard, and the watch is blind: what the rules grant.
const IDLE: Duration = Duration::from_secs(10);
/// What a consumer that was busy for longer than [`IDLE`] grants a watch to show that it had been alive.
const GRACE: Duration = Duration::from_secs(1);
/// So long the next line of a list may take: they come in one rush, 10,000 in 0.4 s.
const LIST_GAP: Duration = Duration::from_secs(3);
/// An answer that ends sooner is no sign of life: it would be asked for again at once, for ever.
const SHORT: Duration = Duration::from_secs(1);
/// How many objects a page of a plain list has: of 500 records, 0.5 MB.
const PAGE: u32 = 500;

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<K> {
    /// An object is new or changed, or another has its name now (then its `uid` differs).
    Put(K),
    /// As [`Seen::Put`], told by a list: it may be so for long, and what is told before it may be newer.
    Listed(K),
    /// The object of this name is gone.
    Deleted(String),
    /// A list is whole: what was told so far is the truth, at first, again after [`Seen::Blind`], and in between.
    Synced,
    /// What was told so far may be outdated; tells of changes go on.
    Blind,
}

/// Which objects of a namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// The namespace.
    pub namespace: String,
    /// A label selector.
    pub labels: Option<String>,
    /// A field selector.
    pub fields: Option<String>,
}

impl Selection {
    /// All of a namespace.
    pub fn all(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..Self::default() }
    }
}

/// Tells of every change, for ever: all objects, [`Seen::Synced`], then what changes, in order.
///
/// Nothing is lost when the stream is not polled for a while. It holds the name and version of every object.
pub fn watch<K: Object>(client: &Client, selection: Selection) -> BoxStream<'static, Seen<K>> {
    let watcher = Watcher::new(client.clone(), selection);
    stream::unfold(watcher, async |mut watcher| Some((watcher.next().await, watcher))).boxed()
}

/// Where it is.
enum Stage {
    /// Nothing is open, and nothing is to be opened before this moment.
    Closed(Instant),
    /// Lines come, since then.
    Streaming(Lines, Instant),
    /// A plain list: where its next page begins.
    Paging(Option<String>),
}

struct Watcher<K> {
    client: Client,
    selection: Selection,
    known: Known,
    stage: Stage,
    /// Whether the next list is a plain one.
    plain: bool,
    /// Whether what was told is the whole truth, as far as is known.
    whole: bool,
    /// When it was confirmed last.
    confirmed: Instant,
    /// Failures since then.
    failures: u32,
    news: VecDeque<Seen<K>>,
    blind: Blind,
}

impl<K: Object> Watcher<K> {
    fn new(client: Client, selection: Selection) -> Self {
        let now = Instant::now();
        let resource = Resource::of::<K>();
        Self {
            blind: Blind::new(client.metrics().blind(resource)),
            client,
            selection,
            known: Known::default(),
            stage: Stage::Closed(now),
            plain: false,
            whole: false,
            confirmed: now,
            failures: 0,
            news: VecDeque::new(),
        }
    }

    async fn next(&mut self) -> Seen<K> {
        let polled = Instant::now();
        loop {
            if let Some(seen) = self.news.pop_front() {
                return seen;
            }
            if !self.whole {
                self.step().await;
                continue;
            }
            let until = (self.confirmed + IDLE).max(polled + GRACE);
            let in_time = timeout_at(until, self.step()).await.is_ok();
            // What lay there while this process was halted is no sign of life of now.
            if !in_time || (self.whole && Instant::now() > until) {
                self.go_blind();
            }
        }
    }

    /// Does the next thing. It may be given up at any moment.
    async fn step(&mut self) {
        let done = match &mut self.stage {
            Stage::Closed(until) => {
                sleep_until(*until).await;
                self.open().await
            }
            Stage::Streaming(..) => self.read().await,
            Stage::Paging(next) => {
                let next = next.clone();
                self.page(next).await
            }
        };
        if let Err(trouble) = done {
            self.fail(&trouble);
        }
    }

    /// Begins where the last watch ended, or with a list.
    async fn open(&mut self) -> Result<(), Trouble> {
        let mut params = WatchParams {
            label_selector: self.selection.labels.clone(),
            field_selector: self.selection.fields.clone(),
            ..WatchParams::default().timeout(TIMEOUT)
        };
        let from = match self.known.position() {
            Some(position) => position.to_string(),
            None => {
                self.client.metrics().listed(Resource::of::<K>());
                self.known.begin_list();
                if self.plain {
                    self.stage = Stage::Paging(None);
                    return Ok(());
                }
                params = params.initial_events();
                String::new()
            }
        };
        let body = self.client.stream(of::<K>(&self.selection.namespace).watch(&params, &from)).await?;
        self.stage = Stage::Streaming(Lines::new(body), Instant::now());
        Ok(())
    }

    /// Reads a line, or the end.
    async fn read(&mut self) -> Result<(), Trouble> {
        let Stage::Streaming(lines, opened) = &mut self.stage else { return Ok(()) };
        let patience = if self.known.position().is_none() { LIST_GAP } else { IDLE };
        let line = timeout(patience, lines.next()).await.map_err(|_| Trouble::Silent(patience))??;
        let now = Instant::now();
        let Some(line) = line else {
            let lived = now - *opened;
            self.stage = Stage::Closed(now);
            return match self.known.position() {
                None => Err(Trouble::Unfinished),
                Some(_) if lived < SHORT => Err(Trouble::Short(lived)),
                Some(_) => {
                    self.confirm(now);
                    Ok(())
                }
            };
        };
        let event: WatchEvent<K> = serde_json::from_slice(line).map_err(|error| {
            // Where and not what: it may be a secret.
            Trouble::Unreadable(CallError::not_json(&error).to_string())
        })?;
        if self.known.event(event, &mut self.news)? {
            self.sync();
        }
        if self.known.position().is_some() {
            self.confirm(now);
        }
        Ok(())
    }

    /// Takes in a page of a plain list.
    async fn page(&mut self, next: Option<String>) -> Result<(), Trouble> {
        let params = ListParams {
            label_selector: self.selection.labels.clone(),
            field_selector: self.selection.fields.clone(),
            limit: Some(PAGE),
            continue_token: next,
            ..ListParams::default()
        };
        let page = self.client.page::<K>(&self.selection.namespace, &params).await?;
        let version = number(page.metadata.resource_version.as_deref())?;
        for object in page.items {
            self.known.listed(object, &mut self.news)?;
        }
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => self.stage = Stage::Paging(Some(next)),
            None => {
                self.known.complete(version, &mut self.news);
                let now = Instant::now();
                self.stage = Stage::Closed(now);
                self.confirm(now);
                self.sync();
            }
        }
        Ok(())
    }

    /// What was told is the truth now. Parts of a list are no proof of that: the rest may never come.
    fn confirm(&mut self, now: Instant) {
        self.confirmed = now;
        self.failures = 0;
    }

    /// A list is whole.
    fn sync(&mut self) {
        self.news.push_back(Seen::Synced);
        if !self.whole {
            self.whole = true;
            self.blind.set(false);
            tracing::info!(kubernetes.watch = %self.name(), "the watch knows the truth");
        }
    }

    fn go_blind(&mut self) {
        self.whole = false;
        self.blind.set(true);
        if self.known.position().is_some() {
            // Whether a watch that is taken up again has caught up nobody says; of a list it is known.
            self.known.forget_position();
            self.stage = Stage::Closed(Instant::now());
        }
        self.news.push_back(Seen::Blind);
        tracing::warn!(
            kubernetes.watch = %self.name(),
            kubernetes.server = self.client.server(),
            "the API server was not heard for 10 s: the watch is blind until it is heard again"
        );
    }

    fn fail(&mut self, trouble: &Trouble) {
        if self.known.position().is_none() && trouble.wants_other_list() {
            self.plain = !self.plain;
        }
        if trouble.outdates_position() {
            self.known.forget_position();
        }
        let name = self.name();
        if trouble.is_ordinary() || self.failures > 0 {
            tracing::debug!(kubernetes.watch = %name, error = %trouble, "the watch is taken up again");
        } else {
            let hint = if let Trouble::Call(error) = trouble { error.hint() } else { "" };
            tracing::warn!(kubernetes.watch = %name, error = %trouble, hint, "the watch failed and is tried again");
        }
        self.stage = Stage::Closed(Instant::now() + pause::after(self.failures));
        self.failures = self.failures.saturating_add(1);
    }

    /// For logs.
    fn name(&self) -> String {
        let Selection { namespace, labels, fields } = &self.selection;
        let selectors = [labels, fields].into_iter().flatten().map(|selector| format!(" {selector}"));
        format!("{}/{}{}", namespace, K::plural(&()), selectors.collect::<String>())
    }
}

/// Counts a watch among the blind for as long as it is one.
struct Blind {
    gauge: IntGauge,
    is: bool,
}

impl Blind {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self { gauge, is: true }
    }

    fn set(&mut self, blind: bool) {
        match (self.is, blind) {
            (false, true) => self.gauge.inc(),
            (true, false) => self.gauge.dec(),
            _ => {}
        }
        self.is = blind;
    }
}

impl Drop for Blind {
    fn drop(&mut self) {
        self.set(false);
    }
}
