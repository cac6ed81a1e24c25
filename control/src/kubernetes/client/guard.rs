//! What stands before every call: a deadline, a place among those in flight, a bound on the answer, a count.

use super::asked::{Asked, Verb};
use super::metrics::Ending;
use super::{CallError, ClientMetrics};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::uri::PathAndQuery;
use http::{Request, Response, Uri};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Bytes;
use kube::client::Body;
use prometheus::IntGauge;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tower::{BoxError, Service};

/// How many calls may wait for their answers at once, watches apart. A quarter of what the rules grant: a server gets
/// no more done for being asked for more at once, each call takes as much longer, and each needs a connection.
pub(super) const IN_FLIGHT: usize = 8;

/// How long a call may wait for its place at most, while the server gets others done.
const QUEUE: Duration = Duration::from_secs(10);

/// The largest answer that is read, in bytes. A page of a list has 500 objects of some kilobytes; an object alone
/// has at most 1.5 MiB in etcd.
const ANSWER: usize = 64 << 20;

/// How long a call may take, from being made to the last byte of its answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    /// A call about one object, while the server answers no other call either.
    pub(super) call: Duration,
    /// A call about one object, in any case: a server with much to do is waited for while it gets things done.
    pub(super) at_most: Duration,
    /// A page of a list.
    pub(super) list: Duration,
    /// The beginning of a watch: its answer's head.
    pub(super) open: Duration,
}

impl Deadlines {
    /// For who waits for a page: a spawn says within 1 s that the API is frozen, and decides meanwhile. Writes
    /// took 5 to 24 ms at the 99th percentile. A list of 10,000 took 0.26 s, its answer may be awaited longer;
    /// a watch was opened in 1 ms, and to be true again within 5 s of the API's return it must be tried often.
    pub(super) const PROMPT: Self = Self {
        call: Duration::from_millis(800),
        at_most: Duration::from_millis(2500),
        list: Duration::from_secs(10),
        open: Duration::from_millis(2500),
    };

    /// For who would rather wait than fail: records and the lease.
    pub(super) const PATIENT: Self = Self { call: Duration::from_millis(2500), ..Self::PROMPT };

    /// Until when a call is waited for that the server leaves waiting as all others, and until when at most.
    fn of(&self, verb: Verb) -> (Duration, Duration) {
        match verb {
            Verb::List => (self.list, self.list),
            Verb::Watch => (self.open, self.open),
            _ => (self.call, self.at_most),
        }
    }
}

/// What all guards of one client share.
pub(super) struct Shared {
    pub(super) server: String,
    pub(super) permits: Arc<Semaphore>,
    pub(super) metrics: ClientMetrics,
    /// When the server last answered a call, or told a watch of something: when it last got anything done.
    pub(super) answered: Mutex<Option<Instant>>,
}

impl Shared {
    pub(super) fn new(server: &str, metrics: ClientMetrics) -> Self {
        let permits = Arc::new(Semaphore::new(IN_FLIGHT));
        Self { server: server.to_owned(), permits, metrics, answered: Mutex::default() }
    }

    fn answered(&self) -> MutexGuard<'_, Option<Instant>> {
        self.answered.lock().expect("nobody panics with the lock held")
    }
}

/// The service that stands before the connections. Requests come with paths from the server's root.
#[derive(Clone)]
pub(super) struct Guard<S> {
    inner: S,
    shared: Arc<Shared>,
    deadlines: Deadlines,
}

impl<S> Guard<S> {
    pub(super) fn new(inner: S, shared: Arc<Shared>, deadlines: Deadlines) -> Self {
        Self { inner, shared, deadlines }
    }
}

impl<S, B> Service<Request<Body>> for Guard<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Answer<B>>;
    type Error = CallError;
    type Future = BoxFuture<'static, Result<Self::Response, CallError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        // Never waits: connections are made within the call, and so within its deadline.
        self.inner.poll_ready(cx).map_err(CallError::unreadable)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The clone that was polled ready is the one to call.
        let ready = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, ready);
        guarded(inner, self.shared.clone(), self.deadlines, request).boxed()
    }
}

async fn guarded<S, B>(
    mut inner: S,
    shared: Arc<Shared>,
    deadlines: Deadlines,
    request: Request<Body>,
) -> Result<Response<Answer<B>>, CallError>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    B: HttpBody<Data = Bytes>,
{
    let (mut parts, body) = request.into_parts();
    let asked = Asked::of(&parts);
    if asked.verb.writes() {
        parts.uri = strict(parts.uri);
    }
    let mut limits = Limits::begin(asked, &shared, deadlines.of(asked.verb));
    if asked.verb != Verb::Watch {
        limits.enter().await?;
    }
    match limits.wait_for(inner.call(Request::from_parts(parts, body)), limits.at_most).await {
        None => Err(limits.count(limits.silent())),
        Some(Err(error)) => Err(limits.count(CallError::unreachable(asked, &shared.server, &*error))),
        Some(Ok(response)) => {
            limits.ending = Ending::of_status(response.status());
            if asked.verb == Verb::Watch && response.status().is_success() {
                limits.end();
                return Ok(response.map(|inner| Answer { inner, held: Held::Open(shared) }));
            }
            *shared.answered() = Some(Instant::now());
            let held = Held::To(limits.timer(), limits);
            Ok(response.map(|inner| Answer { inner, held }))
        }
    }
}

/// Has the server refuse a body with fields that it does not know, instead of dropping them.
fn strict(uri: Uri) -> Uri {
    let path = uri.path();
    let query = uri.query().unwrap_or_default().trim_matches('&');
    let joint = if query.is_empty() { "" } else { "&" };
    let asked = format!("{path}?{query}{joint}fieldValidation=Strict");
    let mut parts = uri.into_parts();
    parts.path_and_query =
        Some(PathAndQuery::try_from(asked).expect("a query with one more word is still a query"));
    Uri::from_parts(parts).expect("another query leaves an address as valid as it was")
}

/// What a call is held to; counts it once, at its end.
struct Limits {
    asked: Asked,
    shared: Arc<Shared>,
    begun: Instant,
    within: Duration,
    until: Instant,
    at_most: Duration,
    place: Option<Place>,
    left: usize,
    /// How it will be counted.
    ending: Ending,
    counted: bool,
}

/// A place among the calls in flight.
struct Place {
    gauge: IntGauge,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

impl Limits {
    fn begin(asked: Asked, shared: &Arc<Shared>, (within, at_most): (Duration, Duration)) -> Self {
        let begun = Instant::now();
        let shared = shared.clone();
        let ending = Ending::Abandoned;
        Self {
            asked,
            shared,
            begun,
            within,
            until: begun + within,
            at_most,
            place: None,
            left: ANSWER,
            ending,
            counted: false,
        }
    }

    /// Waits while the server answers at least others, but not for ever; `None` = in vain.
    async fn wait_for<T>(&mut self, what: impl Future<Output = T>, at_most: Duration) -> Option<T> {
        let mut what = pin!(what);
        let end = Instant::now() + at_most;
        loop {
            if let Ok(done) = timeout_at(self.until, &mut what).await {
                return Some(done);
            }
            let answered = *self.shared.answered();
            let until = answered.map_or(self.until, |at| (at + self.within).min(end));
            if until <= self.until {
                return None;
            }
            self.until = until;
        }
    }

    /// Waits for a place; from then on the call has its time.
    async fn enter(&mut self) -> Result<(), CallError> {
        let permits = self.shared.permits.clone();
        let permit = self.wait_for(permits.acquire_owned(), QUEUE).await;
        // A place that is given at the very deadline is given too late.
        let permit = permit.and_then(Result::ok).filter(|_| Instant::now() < self.until);
        let Some(permit) = permit else {
            let (asked, server) = (self.asked.to_string(), self.shared.server.clone());
            return Err(self.count(CallError::Crowded { asked, server, in_flight: IN_FLIGHT }));
        };
        let gauge = self.shared.metrics.in_flight().clone();
        gauge.inc();
        self.place = Some(Place { gauge, _permit: permit });
        if self.shared.answered().is_some_and(|at| at > self.begun) {
            // It waited for others, which were answered; where nobody is, no more time is to be had.
            self.until = self.until.max(Instant::now() + self.within);
        }
        Ok(())
    }

    fn timer(&self) -> Pin<Box<Sleep>> {
        Box::pin(sleep_until(self.until))
    }

    fn silent(&self) -> CallError {
        let (asked, server) = (self.asked.to_string(), self.shared.server.clone());
        CallError::Silent { asked, server, after: self.until - self.begun }
    }

    fn count(&mut self, error: CallError) -> CallError {
        self.ending = Ending::of_error(&error);
        self.end();
        error
    }

    fn end(&mut self) {
        if !self.counted {
            self.counted = true;
            self.place = None;
            self.shared.metrics.ended(self.asked, self.ending, self.begun.elapsed());
        }
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        if !self.counted {
            self.ending = Ending::Abandoned;
            self.end();
        }
    }
}

/// The body of an answer.
pub(super) struct Answer<B> {
    inner: B,
    held: Held,
}

/// What the body of an answer is held to.
enum Held {
    /// That of a watch: to nothing.
    Open(Arc<Shared>),
    To(Pin<Box<Sleep>>, Limits),
}

impl<B> HttpBody for Answer<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.inner).poll_frame(cx);
        let (timer, limits) = match &mut this.held {
            Held::To(timer, limits) => (timer, limits),
            Held::Open(shared) => {
                if matches!(polled, Poll::Ready(Some(Ok(_)))) {
                    *shared.answered() = Some(Instant::now());
                }
                return polled.map_err(Into::into);
            }
        };
        match polled {
            Poll::Pending => match timer.as_mut().poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => {
                    let silent = limits.silent();
                    Poll::Ready(Some(Err(limits.count(silent).into())))
                }
            },
            Poll::Ready(None) => {
                limits.end();
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => {
                let error: BoxError = error.into();
                let error = CallError::unreachable(limits.asked, &limits.shared.server, &*error);
                Poll::Ready(Some(Err(limits.count(error).into())))
            }
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                match limits.left.checked_sub(length) {
                    Some(left) => {
                        limits.left = left;
                        Poll::Ready(Some(Ok(frame)))
                    }
                    None => {
                        let error = CallError::unreadable(format!("it is longer than {ANSWER} bytes"));
                        Poll::Ready(Some(Err(limits.count(error).into())))
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        // Until it was polled to its end it is not counted.
        false
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_write_is_checked_for_fields_that_the_server_does_not_know() {
        for (asked, expected) in [
            ("/api/v1/x", "/api/v1/x?fieldValidation=Strict"),
            ("/api/v1/x?", "/api/v1/x?fieldValidation=Strict"),
            ("/api/v1/x?&fieldManager=u", "/api/v1/x?fieldManager=u&fieldValidation=Strict"),
            ("https://h:1/api/v1/x?a=b", "https://h:1/api/v1/x?a=b&fieldValidation=Strict"),
        ] {
            assert_eq!(strict(asked.parse().unwrap()).to_string(), expected);
        }
    }
}
