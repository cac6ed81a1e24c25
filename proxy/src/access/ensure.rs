//! Phase 5: a ready workspace, or what to tell the client until there is one.

use crate::access::Verdict;
use crate::access::authorise::Permit;
use crate::edge::Edge;
use crate::refusal::Refusal;
use crate::request::Request;
use config::Config;

/// A workspace that is not ready, and how this client is told.
#[derive(Debug)]
pub struct Waiting {
    /// Who may use it.
    pub permit: Permit,
    /// How the client waits.
    pub how: How,
}

/// How a client waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It gets the waiting page at once.
    Page,
    /// It is held up to `spawn.hold_timeout`, then 503.
    Hold,
}

/// Forwards to a ready workspace; else wakes it if this request may, and tells how to wait.
///
/// # Errors
/// 424 for a browser's background request to a stopped workspace, 503 while it starts; 503 for a full queue; …
pub async fn upstream(
    _edge: &Edge,
    _config: &Config,
    _permit: Permit,
    _request: &Request<'_>,
) -> Result<Verdict, Refusal> {
    todo!()
}
