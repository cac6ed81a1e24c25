//! What the request path tells the control loop of a workspace's use, without a lock.

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
    open_sockets: AtomicU32,
    open_responses: AtomicU32,
}

fn now_ms() -> u64 {
    u64::try_from(START.elapsed().as_millis()).unwrap_or(u64::MAX).max(1)
}

/// The time of a mark, if it was ever set.
fn at(mark: &AtomicU64) -> Option<Instant> {
    match mark.load(Relaxed) {
        0 => None,
        ms => Some(*START + Duration::from_millis(ms)),
    }
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
        count(&self.open_sockets, open);
    }
    /// A response body began (`true`) or ended.
    pub fn response(&self, open: bool) {
        count(&self.open_responses, open);
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
}

fn count(counter: &AtomicU32, up: bool) {
    if up {
        counter.fetch_add(1, Relaxed)
    } else {
        counter.fetch_sub(1, Relaxed)
    };
}
