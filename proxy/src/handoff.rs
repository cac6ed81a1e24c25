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

mod address;
mod attempt;
mod enter;
mod pages;
mod ticket;

pub use address::Address;
pub(crate) use address::keeps_cookies;
pub use attempt::{Attempt, Kind};
pub use enter::enter_routes;
pub(crate) use pages::{cookie_dropped, unavailable};
pub use ticket::{LIFETIME, Ticket};

use crate::edge::ListenerFacts;
use config::Config;
use form_urlencoded::Serializer;
use http::header::{self, HeaderValue};
use http::{HeaderMap, StatusCode};

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

/// The portal's login, for a hand-off to the page that it leads back to.
fn login_to_hand_off(
    config: &Config,
    listener: &ListenerFacts,
    back: &str,
    attempt: Attempt,
    again: bool,
) -> String {
    let again = if again { "&again" } else { "" };
    format!("{}&attempt={}{again}", login_address(config, listener, back), attempt.to_text())
}

/// A redirect of the hand-off: by GET, not kept, without a Referer.
pub(crate) fn redirect(to: &str, cookies: impl IntoIterator<Item = HeaderValue>) -> axum::response::Response {
    let mut headers = crate::page::common_headers();
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::LOCATION, HeaderValue::try_from(to).unwrap_or(HeaderValue::from_static("/")));
    headers.extend(cookies.into_iter().map(|cookie| (header::SET_COOKIE, cookie)));
    answer(StatusCode::SEE_OTHER, headers, String::new())
}

fn answer(
    status: StatusCode,
    headers: HeaderMap,
    body: impl Into<axum::body::Body>,
) -> axum::response::Response {
    let mut response = axum::response::Response::new(body.into());
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

pub(crate) fn with_query(address: &str, pairs: &[(&str, &str)]) -> String {
    let mut query = Serializer::new(String::new());
    query.extend_pairs(pairs);
    format!("{address}?{}", query.finish())
}
