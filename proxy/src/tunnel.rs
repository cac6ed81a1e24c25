//! A WebSocket after its handshake: bytes both ways, frames told apart.

/// An admitted WebSocket upgrade, handed from Pingora's phases to the accept loop.
pub struct Upgrade {
    /// The head for the workspace, built by [`crate::head::to_upstream`].
    pub head: pingora::http::RequestHeader,
    /// What was admitted.
    pub forward: crate::access::Forward,
}
