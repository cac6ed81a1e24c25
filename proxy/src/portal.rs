//! The portal: login, dashboard, hand-off.

use crate::edge::Edge;
use std::sync::Arc;

/// All endpoints of the portal. Requests carry [`crate::own::Asked`] as an extension.
pub fn router(_edge: Arc<Edge>) -> axum::Router {
    todo!()
}
