//! The one function that builds the head that goes upstream, and the one that filters what comes back.

use crate::access::Forward;
use crate::request::Request;
use pingora::http::{RequestHeader, ResponseHeader};

/// Makes a client's head the one that goes upstream: client identity headers, our cookies and hop-by-hop
/// headers leave (upgrade headers stay for a WebSocket), `X-Forwarded-*` and `X-Usher-*` of ours come.
/// `Host` passes unmodified.
pub fn to_upstream(_head: &mut RequestHeader, _request: &Request<'_>, _forward: &Forward) {
    todo!()
}

/// Takes out of a workspace's answer what it must not say: our cookies, `Set-Cookie` with a `Domain` at or above
/// the base, `Clear-Site-Data`, `Alt-Svc`, our header names, hop-by-hop headers, `Server`.
pub fn from_upstream(_head: &mut ResponseHeader, _base: &config::HostName) {
    todo!()
}
