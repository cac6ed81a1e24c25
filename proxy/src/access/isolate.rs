//! Phase 2: whether a browser's page may send this at all. Siblings are same-site, so cookies prove nothing.

use crate::access::route::Place;
use crate::refusal::Refusal;
use crate::request::Request;

/// Lets pass: no cookie of ours; `Sec-Fetch-Site` `same-origin` or `none`; GET or HEAD with mode `navigate` and
/// dest `document`. Without `Sec-Fetch-Site`, unsafe methods and WebSockets need `Origin` equal to this host's.
///
/// # Errors
/// 403 otherwise.
pub fn check(_place: &Place, _request: &Request<'_>) -> Result<(), Refusal> {
    todo!()
}
