//! What the request path tells the control loop of a workspace's use, without a lock.

use crate::clock;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The use of one workspace: written by every request and tunnel, read by the control loop.
///
/// Times are milliseconds since the process began; they only grow.
#[derive(Debug, Default)]
pub struct Activity {
    request: AtomicU64,
    client_frame: AtomicU64,
    workspace_frame: AtomicU64,
    bytes_taken: AtomicU64,
    socket: AtomicU64,
    response: AtomicU64,
    open_sockets: AtomicU32,
    open_responses: AtomicU32,
}

/// The [`Activity`] as it was at one moment, for the pure functions that judge it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Use {
    pub(crate) request: Option<Instant>,
    pub(crate) client_frame: Option<Instant>,
    pub(crate) workspace_frame: Option<Instant>,
    pub(crate) bytes_taken: Option<Instant>,
    /// When a tunnel last opened or closed.
    pub(crate) socket: Option<Instant>,
    /// When a response body last began or ended.
    pub(crate) response: Option<Instant>,
    pub(crate) open_sockets: u32,
    pub(crate) open_responses: u32,
}

/// Milliseconds since [`START`]; never 0, which means "not yet".
pub(crate) fn now_ms() -> u64 {
    let since = clock::now().saturating_duration_since(*START);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// The time of a mark, if it was ever set.
pub(crate) fn at(mark: &AtomicU64) -> Option<Instant> {
    match mark.load(Relaxed) {
        0 => None,
        ms => Some(time_of(ms)),
    }
}

/// The [`now_ms`] of some time; 0 where it lies before the process began.
pub(crate) fn ms_of(at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(*START).as_millis()).unwrap_or(u64::MAX)
}

/// The time of some [`now_ms`].
fn time_of(ms: u64) -> Instant {
    *START + Duration::from_millis(ms)
}

impl Activity {
    /// A request that is use began, or bytes of its body came.
    pub fn request(&self) {
        self.request.fetch_max(now_ms(), Relaxed);
    }
    /// A data frame came from the client.
    pub fn client_frame(&self) {
        self.client_frame.fetch_max(now_ms(), Relaxed);
    }
    /// A data frame came from the workspace.
    pub fn workspace_frame(&self) {
        self.workspace_frame.fetch_max(now_ms(), Relaxed);
    }
    /// The client took bytes of a response body: delays a stop for a minute, is no use.
    pub fn bytes_taken(&self) {
        self.bytes_taken.fetch_max(now_ms(), Relaxed);
    }
    /// A tunnel opened (`true`) or closed.
    pub fn socket(&self, open: bool) {
        self.socket.fetch_max(now_ms(), Relaxed);
        count(&self.open_sockets, open);
    }
    /// A response body began (`true`) or ended.
    pub fn response(&self, open: bool) {
        self.response.fetch_max(now_ms(), Relaxed);
        count(&self.open_responses, open);
    }

    /// As [`Activity::request`], at another time than now.
    #[cfg(test)]
    pub(crate) fn used_at(&self, at: Instant) {
        self.request.fetch_max(ms_of(at), Relaxed);
    }

    /// The last request or request body byte.
    pub fn last_request(&self) -> Option<Instant> {
        at(&self.request)
    }
    /// The last data frame from the client.
    pub fn last_client_frame(&self) -> Option<Instant> {
        at(&self.client_frame)
    }
    /// The last data frame from the workspace.
    pub fn last_workspace_frame(&self) -> Option<Instant> {
        at(&self.workspace_frame)
    }
    /// When the client last took bytes of a response body.
    pub fn last_bytes_taken(&self) -> Option<Instant> {
        at(&self.bytes_taken)
    }
    /// How many tunnels are open.
    pub fn open_sockets(&self) -> u32 {
        self.open_sockets.load(Relaxed)
    }
    /// How many response bodies are open.
    pub fn open_responses(&self) -> u32 {
        self.open_responses.load(Relaxed)
    }

    /// All of it, now.
    pub(crate) fn read(&self) -> Use {
        Use {
            request: self.last_request(),
            client_frame: self.last_client_frame(),
            workspace_frame: self.last_workspace_frame(),
            bytes_taken: self.last_bytes_taken(),
            socket: at(&self.socket),
            response: at(&self.response),
            open_sockets: self.open_sockets(),
            open_responses: self.open_responses(),
        }
    }
}

fn count(counter: &AtomicU32, up: bool) {
    if up {
        counter.fetch_add(1, Relaxed);
    } else {
        let down = |open: u32| Some(open.saturating_sub(1));
        // The closure never gives `None`, so this cannot fail.
        let _ = counter.fetch_update(Relaxed, Relaxed, down);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn marks_only_grow_and_an_unused_workspace_has_none() {
        let activity = Activity::default();
        assert_eq!(activity.read(), Use::default());
        activity.request();
        let first = activity.last_request().unwrap();
        tokio::time::advance(Duration::from_secs(5)).await;
        activity.request();
        let second = activity.last_request().unwrap();
        assert!(second >= first + Duration::from_secs(4), "{:?}", second - first);
    }

    #[test]
    fn a_close_without_an_open_does_not_wrap_around() {
        let activity = Activity::default();
        activity.socket(false);
        activity.response(false);
        assert_eq!((activity.open_sockets(), activity.open_responses()), (0, 0));
    }
}
