//! The hand-off: a session of the portal becomes one on a workspace's host, by a one-time ticket.
//!
//! ```text
//! workspace host, any page, no session       302 /.usher/enter?return=PAGE
//! /.usher/enter?return=PAGE                  sets the attempt's cookie; 302 to the portal with its proof
//! portal /login?return=URL&attempt=PROOF     logs in, or is; 302 with a ticket sealed for that host
//! /.usher/enter?ticket=…                     cookie fits proof, not used before; sets the session's cookie
//! /.usher/enter?done=PAGE                    the cookie came back: 302 PAGE; if not, a page says so
//! ```
//! Each step is a redirect, so the fragment of the first address reaches the last; and each has an end, so a
//! browser that drops our cookies gets a page instead of a loop. A ticket is worth nothing on another host
//! (it is sealed for one), in another browser (the attempt's cookie is missing), or a second time.

use crate::edge::ListenerFacts;
use config::Config;
use form_urlencoded::Serializer;

/// Where a workspace's host begins and ends a hand-off.
pub const PATH: &str = "/.usher/enter";

/// The longest page that a hand-off leads back to, in bytes; from a longer one it leads to `/`.
///
/// Encoded twice on its way (percent and base64) it still fits a header block of 32 KiB.
const PAGE_MAX: usize = 8 * 1024;

/// Where a browser without a session on this workspace's host goes: a path on the same host. `page` is path
/// and query of what it wanted.
pub fn start(page: &str) -> String {
    let page = if page.len() > PAGE_MAX { "/" } else { page };
    with_query(PATH, &[("return", page)])
}

/// The portal's login, with an address to come back to.
pub fn login_address(config: &Config, listener: &ListenerFacts, back: &str) -> String {
    let login = format!("{}/login", listener.origin(config.portal.as_str()));
    with_query(&login, &[("return", back)])
}

fn with_query(address: &str, pairs: &[(&str, &str)]) -> String {
    let mut query = Serializer::new(String::new());
    query.extend_pairs(pairs);
    format!("{address}?{}", query.finish())
}
