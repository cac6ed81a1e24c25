//! What the edge itself answers on a workspace's host: `/.usher/…`.

use crate::edge::Edge;
use std::sync::Arc;

/// All endpoints under `/.usher/`. Requests carry [`crate::own::Asked`] as an extension.
pub fn router(_edge: Arc<Edge>) -> axum::Router {
    todo!()
}

/// The page that a navigation to a workspace gets that is not ready.
pub fn waiting_page(
    _edge: &Edge,
    _config: &config::Config,
    _request: &crate::request::Request<'_>,
    _waiting: &crate::access::ensure::Waiting,
) -> http::Response<bytes::Bytes> {
    todo!()
}
