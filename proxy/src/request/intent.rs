//! What kind of client asks for what.

use super::single;
use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_LANGUAGE, HeaderName, ORIGIN, REFERER, USER_AGENT};

/// What kind of client asks for what, as told by `Sec-Fetch-*`, `Origin`, `Accept`, `Sec-Purpose`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intent {
    /// A person goes to a page in a tab: `navigate` + `document`, no prefetch. May spawn.
    Navigation,
    /// A browser asks for a page but cannot say whether in a tab (no `Sec-Fetch-*`, `Accept: text/html`), or
    /// prefetches, or it is an iframe: pages are shown, nothing is spawned by it.
    Page,
    /// A browser's fetch, WebSocket, image, …
    Background,
    /// No browser, by any sign of one: no `Sec-Fetch-*`, no `Origin`, no `Sec-Purpose`, no `Accept: text/html`, and
    /// nothing of what browsers too old for the first of these send with every request. May spawn, is held.
    Script,
}

pub(crate) const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");
const SEC_PURPOSE: HeaderName = HeaderName::from_static("sec-purpose");
const SERVICE_WORKER: HeaderName = HeaderName::from_static("service-worker");
const PURPOSE: HeaderName = HeaderName::from_static("purpose");

impl Intent {
    /// The intent of a head, parsed or not: a refused one is answered in its client's terms, too.
    pub fn of(headers: &HeaderMap) -> Self {
        if has_fetch_metadata(headers) {
            return match (navigates(headers), is_document(headers)) {
                (true, true) if !is_speculative(headers) => Self::Navigation,
                (true, _) => Self::Page,
                (false, _) => Self::Background,
            };
        }
        if accepts_html(headers) {
            Self::Page
        } else if headers.contains_key(ORIGIN) || is_speculative(headers) || looks_like_browser(headers) {
            Self::Background
        } else {
            Self::Script
        }
    }

    /// Whether an answer of ours should be a page, not a problem document.
    pub fn wants_page(self) -> bool {
        matches!(self, Self::Navigation | Self::Page)
    }
}

/// Whether the browser says that a tab itself goes there: mode `navigate`, dest `document`. A prefetch also does.
pub(crate) fn is_document_navigation(headers: &HeaderMap) -> bool {
    navigates(headers) && is_document(headers)
}

/// Whether the browser only fetches ahead of the person.
pub(crate) fn is_speculative(headers: &HeaderMap) -> bool {
    headers.contains_key(SEC_PURPOSE) || headers.contains_key(PURPOSE)
}

/// Whether a browser asks for the script of a service worker (Service Workers §4.4, *Update*).
pub(crate) fn is_worker_script(headers: &HeaderMap) -> bool {
    headers.contains_key(SERVICE_WORKER)
        || headers.get_all(SEC_FETCH_DEST).iter().any(|value| value == "serviceworker")
}

/// Whether the browser tells anything of where a request comes from.
pub(crate) fn has_fetch_metadata(headers: &HeaderMap) -> bool {
    [SEC_FETCH_SITE, SEC_FETCH_MODE, SEC_FETCH_DEST].iter().any(|name| headers.contains_key(name))
}

fn navigates(headers: &HeaderMap) -> bool {
    single(headers, &SEC_FETCH_MODE) == Some(b"navigate")
}

fn is_document(headers: &HeaderMap) -> bool {
    single(headers, &SEC_FETCH_DEST) == Some(b"document")
}

/// Whether this is a browser that tells nothing of its request. A sibling's page could make it load an image from
/// here, cookie and all, and what is no script starts nothing. A page cannot take these fields away from a request
/// that the browser sends without asking (a CORS preflight) first.
fn looks_like_browser(headers: &HeaderMap) -> bool {
    let agent = headers.get(USER_AGENT).map(|agent| agent.as_bytes());
    agent.is_some_and(|agent| agent.trim_ascii_start().starts_with(b"Mozilla/"))
        || headers.contains_key(ACCEPT_LANGUAGE)
        || headers.contains_key(REFERER)
}

fn accepts_html(headers: &HeaderMap) -> bool {
    let wanted = b"text/html";
    headers
        .get_all(ACCEPT)
        .iter()
        .any(|value| value.as_bytes().windows(wanted.len()).any(|window| window.eq_ignore_ascii_case(wanted)))
}
