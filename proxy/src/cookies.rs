//! The Cookie field, parsed as bytes: split at `;`, trim space and tab, nothing else.

use http::HeaderMap;

/// The portal's session cookie.
pub const PORTAL: &str = "__Host-usher";
/// A workspace host's session cookie.
pub const WORKSPACE: &str = "__Host-usher-ws";
/// Before a login's attempt id.
pub const LOGIN_PREFIX: &str = "__Host-usher-login-";
/// Before a hand-off's attempt id.
pub const ENTER_PREFIX: &str = "__Host-usher-enter-";

/// What a name stands for in the Cookie fields of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// It is not there.
    None,
    /// Once, with this value.
    One(&'a [u8]),
    /// More than once: counts as none.
    Many,
}

/// Looks a cookie up by its exact name, over all Cookie fields (HTTP/2 splits them: RFC 9113 §8.2.3).
pub fn find<'a>(_headers: &'a HeaderMap, _name: &str) -> Found<'a> {
    todo!()
}
/// Takes our cookies out; the rest stays byte-exact. An empty field is removed.
pub fn strip(_headers: &mut HeaderMap) {
    todo!()
}
