//! A WebSocket after its handshake: bytes both ways, frames told apart.

/// An admitted WebSocket upgrade, handed from Pingora's phases to the accept loop.
pub struct Upgrade {
    /// The head for the workspace, built by [`crate::head::to_upstream`].
    pub head: pingora::http::RequestHeader,
    /// What was admitted.
    pub forward: crate::access::Forward,
}

/// Carries an admitted upgrade to its end: dials, checks the 101, then bytes both ways.
pub async fn run(
    _conn: crate::connection::Conn,
    _upgrade: Upgrade,
    _edge: std::sync::Arc<crate::edge::Edge>,
) {
    todo!()
}
