//! Phase 3: who asks.

use crate::access::route::Place;
use crate::edge::Edge;
use crate::refusal::Refusal;
use crate::request::Request;
use control::{Session, SessionId};
use std::sync::Arc;

/// Somebody whose session is live.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Their session.
    pub session: Arc<Session>,
    /// Its id, to end it.
    pub id: SessionId,
}

/// The caller by the sealed, host-bound cookie of this place; `None` without a (single, valid, live) one.
///
/// # Errors
/// 431 for a Cookie field that is beyond the limit.
pub async fn caller(_edge: &Edge, _place: &Place, _request: &Request<'_>) -> Result<Option<Caller>, Refusal> {
    todo!()
}
