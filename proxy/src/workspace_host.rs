//! What the edge itself answers on a workspace's host: `/.usher/…`.

use crate::edge::Edge;
use std::sync::Arc;

/// All endpoints under `/.usher/`. Requests carry [`crate::own::Asked`] as an extension.
pub fn router(_edge: Arc<Edge>) -> axum::Router {
    todo!()
}
