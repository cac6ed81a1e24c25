//! Phase 1: which place a request is for, by its host alone.

use crate::refusal::Refusal;
use crate::request::Request;
use config::{Config, WorkspaceId};

/// What a host name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Login, dashboard, API.
    Portal,
    /// A workspace's host; whether it exists is not known yet.
    Workspace {
        /// Which.
        id: WorkspaceId,
        /// `8888` of `8888--alice`.
        port: Option<u16>,
    },
}

impl Place {
    /// Whether one of our own endpoints answers: everything on the portal, and what stands under `/.usher/`
    /// (raw and decoded) on a workspace host, `Service-Worker: script` and acme-challenges included.
    pub fn is_own(&self, _request: &Request<'_>) -> bool {
        todo!()
    }
}

/// Which place a request is for.
///
/// # Errors
/// 421 where the host is not covered by the certificate chosen for the connection, else 404 for every host
/// that is none of ours; neither says whether a user exists.
pub fn place(_config: &Config, _request: &Request<'_>) -> Result<Place, Refusal> {
    todo!()
}
