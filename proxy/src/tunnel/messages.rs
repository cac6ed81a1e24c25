//! How many messages a tunnel's client may send: as many as all WebSockets of its user together.

use crate::edge::Edge;
use crate::limits::Meter;
use control::Session;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the user's meter is taken for theirs: after a minute it may be another. It is kept for longer than that
/// when nobody uses it, so that two sockets of one user never count apart.
const BELIEVED: Duration = Duration::from_secs(60);

/// Counts what a tunnel's client sends.
pub(super) struct MessageLimit {
    edge: Arc<Edge>,
    session: Arc<Session>,
    meter: RefCell<(Arc<Meter>, Instant)>,
}

impl MessageLimit {
    /// With the meter by which the upgrade was admitted.
    pub(super) fn new(edge: Arc<Edge>, session: Arc<Session>, meter: Arc<Meter>) -> Self {
        Self { edge, session, meter: RefCell::new((meter, Instant::now())) }
    }

    /// Whether so many more may pass now.
    pub(super) fn admits(&self, messages: u32, now: Instant) -> bool {
        if messages == 0 {
            return true;
        }
        let mut meter = self.meter.borrow_mut();
        if now.saturating_duration_since(meter.1) >= BELIEVED {
            let Ok(again) = self.edge.limits.messages(&self.edge.config.load(), &self.session) else {
                return false;
            };
            *meter = (again, now);
        }
        let admits = meter.0.take(messages).is_ok();
        if !admits {
            self.edge.limits.ended_for_messages();
        }
        admits
    }
}

impl fmt::Debug for MessageLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageLimit").field("meter", &self.meter).finish_non_exhaustive()
    }
}
