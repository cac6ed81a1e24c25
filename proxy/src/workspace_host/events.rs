//! `/.usher/events`: the status as server-sent events, whenever there is news.
//!
//! A browser has six connections to a host, over all its tabs: streams are few and end soon.

use super::status::{Now, Status, shows_log};
use bytes::Bytes;
use config::{HostName, WorkspaceId};
use control::{Entry, SessionId};
use futures_util::Stream;
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::collections::hash_map;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// How many streams one session may hold open to one host; more get 204, and the page polls.
pub(super) const STREAMS_MAX: usize = 4;
/// When a stream ends, whatever comes: a tab that forgot it gives its connection back.
const LASTS: Duration = Duration::from_secs(25);
/// How often the output is looked at for new lines.
const LOG_EVERY: Duration = Duration::from_secs(1);
/// Tells the browser when to come back after the end of a stream, in milliseconds.
const RETRY: &str = "retry: 2000\n\n";

type Holder = (SessionId, HostName);

/// The streams that are open, by session and host. As many entries as there are sessions with open streams.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams {
    open: Arc<Mutex<HashMap<Holder, usize>>>,
}

/// The right to one stream; gives it back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    streams: Streams,
    holder: Holder,
}

impl Streams {
    /// A slot, unless this session has as many streams to this host as it may.
    pub(super) fn slot(&self, session: SessionId, host: HostName) -> Option<Slot> {
        let holder = (session, host);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(holder.clone()).or_default();
        if *count >= STREAMS_MAX {
            return None;
        }
        *count += 1;
        Some(Slot { streams: self.clone(), holder })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let hash_map::Entry::Occupied(mut count) = open.entry(self.holder.clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Says something of a workspace as it is in the table, if it is there.
type Judge = dyn Fn(Option<&Entry>) -> bool + Send + Sync;

/// Where a stream looks.
pub(super) struct Source {
    pub(super) id: WorkspaceId,
    pub(super) entry: Box<dyn Fn() -> Option<Arc<Entry>> + Send + Sync>,
    /// Whether what the table says of where it is may be believed.
    pub(super) seen: Box<Judge>,
    pub(super) log: Box<dyn Fn() -> BoxFuture<'static, String> + Send + Sync>,
    /// Moves with every published table; taken before the first look.
    pub(super) changes: watch::Receiver<u64>,
    /// Either of these ends the stream: the session, the process.
    pub(super) ends: [CancellationToken; 2],
}

/// The events until the end of the stream: after a `ready` or `failed`, after [`LASTS`], with the session.
pub(super) fn stream(source: Source, slot: Slot) -> impl Stream<Item = Bytes> + Send {
    let now = Instant::now();
    let teller = Teller { source, told: None, log: None, log_due: now, ends_at: now + LASTS, _slot: slot };
    futures_util::stream::unfold(teller, async |mut teller| teller.next().await.map(|event| (event, teller)))
}

struct Teller {
    source: Source,
    told: Option<Status>,
    log: Option<String>,
    log_due: Instant,
    ends_at: Instant,
    _slot: Slot,
}

impl Teller {
    /// The next event.
    async fn next(&mut self) -> Option<Bytes> {
        if self.told.as_ref().is_some_and(Status::is_final) {
            return None;
        }
        loop {
            self.source.changes.borrow_and_update();
            let status = self.look().await;
            if self.told.as_ref().is_none_or(|told| status.is_news_after(told)) {
                let event = event(&status, self.told.is_none());
                self.told = Some(status);
                return Some(event);
            }
            let [session, process] = &self.source.ends;
            tokio::select! {
                changed = self.source.changes.changed() => changed.ok()?,
                () = sleep_until(self.log_due) => {}
                () = sleep_until(self.ends_at) => return None,
                () = session.cancelled() => return None,
                () = process.cancelled() => return None,
            }
        }
    }

    /// The status now. Looking the table up is cheap and done at every change of it; reading output is not.
    async fn look(&mut self) -> Status {
        let entry = (self.source.entry)();
        let phase_changed =
            entry.as_ref().map(|entry| entry.phase.as_str()) != self.told.as_ref().map(|told| told.phase);
        if Instant::now() >= self.log_due || phase_changed {
            self.log_due = Instant::now() + LOG_EVERY;
            self.log = match &entry {
                Some(entry) if shows_log(&self.source.id, &entry.phase) => Some((self.source.log)().await),
                _ => None,
            };
        }
        let status = Status::of(&self.source.id, entry.as_deref(), self.log.as_deref(), Now::read());
        status.seen((self.source.seen)(entry.as_deref()))
    }
}

fn event(status: &Status, first: bool) -> Bytes {
    // JSON has no line breaks outside strings, and escapes those inside: one data line.
    let data = serde_json::to_string(status).expect("a status is plain data");
    Bytes::from(format!("{}event: status\ndata: {data}\n\n", if first { RETRY } else { "" }))
}

#[cfg(test)]
mod tests {
    use super::super::status::tests::{entry, failed};
    use super::*;
    use control::Phase;
    use futures_util::StreamExt;
    use std::pin::Pin;

    /// A table of one workspace, and a stream over it.
    struct Fixture {
        id: WorkspaceId,
        table: Arc<Mutex<Option<Arc<Entry>>>>,
        log: Arc<Mutex<String>>,
        changed: watch::Sender<u64>,
        session: CancellationToken,
        streams: Streams,
    }

    fn holder() -> Holder {
        (SessionId([7; 16]), HostName::parse("alice.lab.localhost").unwrap())
    }

    impl Fixture {
        fn new() -> Self {
            Self {
                id: WorkspaceId::parse("alice").unwrap(),
                table: Arc::default(),
                log: Arc::default(),
                changed: watch::channel(0).0,
                session: CancellationToken::new(),
                streams: Streams::default(),
            }
        }

        fn stream(&self) -> Pin<Box<dyn Stream<Item = Bytes> + Send>> {
            let (table, log) = (self.table.clone(), self.log.clone());
            let source = Source {
                seen: Box::new(|_| true),
                id: self.id.clone(),
                entry: Box::new(move || table.lock().unwrap().clone()),
                log: Box::new(move || {
                    let log = log.lock().unwrap().clone();
                    Box::pin(async { log })
                }),
                changes: self.changed.subscribe(),
                ends: [self.session.clone(), CancellationToken::new()],
            };
            let (session, host) = holder();
            Box::pin(stream(source, self.streams.slot(session, host).unwrap()))
        }

        fn publish(&self, phase: Phase) {
            *self.table.lock().unwrap() = Some(Arc::new(entry(phase, std::time::Instant::now())));
            self.changed.send_modify(|version| *version += 1);
        }
    }

    fn told(event: Option<Bytes>) -> serde_json::Value {
        let event = String::from_utf8(event.expect("an event").to_vec()).unwrap();
        let data =
            event.trim_start_matches(RETRY).strip_prefix("event: status\ndata: ").expect("a status event");
        serde_json::from_str(data.strip_suffix("\n\n").expect("one data line")).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_tells_each_change_and_ends_when_ready_or_failed() {
        let fixture = Fixture::new();
        let mut stream = fixture.stream();
        let first = stream.next().await.unwrap();
        assert!(first.starts_with(RETRY.as_bytes()));
        assert_eq!(told(Some(first))["phase"], "stopped");
        fixture.publish(Phase::Queued { position: 2 });
        assert_eq!(told(stream.next().await)["position"], 2);
        fixture.publish(Phase::starting(control::Step::Asked));
        assert_eq!(told(stream.next().await)["phase"], "starting");
        *fixture.log.lock().unwrap() = "one\ntwo".into();
        assert_eq!(told(stream.next().await)["log"], "one\ntwo", "new output is news, though no table came");
        fixture.publish(failed(std::time::Instant::now()));
        assert_eq!(told(stream.next().await)["cause"]["code"], "crashed");
        assert_eq!(stream.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_tells_nothing_of_what_a_shared_application_prints() {
        let fixture =
            Fixture { id: WorkspaceId::Route(config::RouteName::parse("wiki").unwrap()), ..Fixture::new() };
        *fixture.log.lock().unwrap() = "one\ntwo".into();
        let mut stream = fixture.stream();
        fixture.publish(Phase::starting(control::Step::Asked));
        let first = told(stream.next().await);
        assert_eq!((&first["phase"], first.get("log")), (&"starting".into(), None), "{first}");
        fixture.publish(failed(std::time::Instant::now()));
        let last = told(stream.next().await);
        assert_eq!((&last["phase"], last.get("log")), (&"failed".into(), None), "{last}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_without_news_says_nothing_and_ends_in_time() {
        let fixture = Fixture::new();
        let mut stream = fixture.stream();
        stream.next().await.unwrap();
        let before = Instant::now();
        fixture.changed.send_modify(|version| *version += 1);
        assert_eq!(stream.next().await, None);
        assert_eq!(before.elapsed(), LASTS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_its_session() {
        let fixture = Fixture::new();
        let mut stream = fixture.stream();
        stream.next().await.unwrap();
        let before = Instant::now();
        fixture.session.cancel();
        assert_eq!(stream.next().await, None);
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_fifth_stream_of_a_session_to_a_host_gets_no_slot_until_one_ends() {
        let fixture = Fixture::new();
        let (session, host) = holder();
        let mut open: Vec<_> = (0..STREAMS_MAX).map(|_| fixture.stream()).collect();
        assert!(fixture.streams.slot(session, host.clone()).is_none());
        let elsewhere = HostName::parse("gpu--alice.lab.localhost").unwrap();
        assert!(fixture.streams.slot(session, elsewhere).is_some());
        assert!(fixture.streams.slot(SessionId([8; 16]), host.clone()).is_some());
        open.pop();
        assert!(fixture.streams.slot(session, host).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_remembered_of_streams_that_ended() {
        let fixture = Fixture::new();
        drop((fixture.stream(), fixture.stream()));
        assert!(fixture.streams.open.lock().unwrap().is_empty());
    }
}
