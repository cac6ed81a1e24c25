//! Our own endpoints under Pingora: an axum router called in-process.

use crate::access::Own;
use crate::connection::ConnectionFacts;
use std::sync::Arc;

/// What our own endpoints are told of a request, as an extension of the `http::Request`.
///
/// The request's URI is path and query as they came; its body is read in whole before, at most 64 KiB.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Which host, and who asks.
    pub own: Arc<Own>,
    /// The host asked for, lower case, no port.
    pub host: config::HostName,
    /// The connection.
    pub connection: ConnectionFacts,
    /// The configuration that this request sees.
    pub config: Arc<config::Config>,
    /// What kind of client asks.
    pub intent: crate::request::Intent,
    /// For problem documents and logs.
    pub request_id: String,
}
