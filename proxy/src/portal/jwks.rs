//! `/.well-known/jwks.json`: the public keys of assertions, for applications that check them.
//!
//! Open to everyone, since public keys are public; it looks at no cookie and tells nothing of anybody.

use super::answer;
use crate::edge::Edge;
use axum::extract::State;
use axum::response::Response;
use http::header::{self, HeaderValue};
use std::sync::Arc;
use std::time::SystemTime;

/// Applications may keep the keys for five minutes. One that comes upon a key that it does not know asks anew, as
/// the usual libraries do.
const KEPT_FOR: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// `GET /.well-known/jwks.json`.
pub(super) async fn show(State(edge): State<Arc<Edge>>) -> Response {
    let mut response = answer::json(&edge.assertions.jwks(SystemTime::now()));
    response.headers_mut().insert(header::CACHE_CONTROL, KEPT_FOR);
    response
}
