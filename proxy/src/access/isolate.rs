//! Phase 3: whether a browser's page may send this at all. Siblings are same-site, so cookies prove nothing.

use crate::access::route::Place;
use crate::cookies;
use crate::refusal::{Code, Refusal};
use crate::request::{self, Intent, Request};
use config::Config;
use http::Method;
use http::header::ORIGIN;

/// Lets pass: no cookie of ours; `Sec-Fetch-Site` `same-origin` or `none`; GET or HEAD with mode `navigate` and
/// dest `document`. Without `Sec-Fetch-Site`, unsafe methods and WebSockets need `Origin` equal to this host's;
/// a WebSocket with a cookie of ours needs it always, since Chromium tells nothing else on `ws:`.
///
/// Four endpoints are called from elsewhere and have rules of their own: `/.usher/reset` by a page of the
/// portal only; `/.usher/enter` and the portal's `/auth/<provider>/callback` by navigations from anywhere, never
/// ahead of the person; its `/auth/<provider>/frontchannel-logout` by anybody, since it looks at no cookie.
///
/// `has_token`: the request shows a token of ours. No browser sends one by itself, and no cookie counts beside it.
///
/// # Errors
/// 403 otherwise.
pub fn check(config: &Config, place: &Place, request: &Request<'_>, has_token: bool) -> Result<(), Refusal> {
    let passes = match door(place, request.path) {
        Door::Reset => request.is_from(&request.connection.listener.origin(config.portal.as_str())),
        Door::Enter => is_real_navigation(request),
        Door::Callback => is_real_navigation(request) || is_isolated(request),
        Door::Logout => true,
        Door::Common => has_token || is_isolated(request),
    };
    if passes { Ok(()) } else { Err(Refusal::new(Code::CrossOrigin)) }
}

/// The endpoints with rules of their own.
#[derive(Debug, PartialEq, Eq)]
enum Door {
    Reset,
    Enter,
    Callback,
    Logout,
    Common,
}

fn door(place: &Place, path: &str) -> Door {
    match place {
        Place::Workspace { .. } if path == "/.usher/reset" => Door::Reset,
        Place::Workspace { .. } if path == "/.usher/enter" => Door::Enter,
        Place::Portal if is_of_provider(path, "callback") => Door::Callback,
        Place::Portal if is_of_provider(path, "frontchannel-logout") => Door::Logout,
        _ => Door::Common,
    }
}

/// `/auth/<provider>/<what>`. A provider that answers by `form_post` sends a cross-site POST to `callback`, and shows
/// `frontchannel-logout`, which looks at no cookie, in a frame.
fn is_of_provider(path: &str, what: &str) -> bool {
    let rest = path.strip_prefix("/auth/").and_then(|rest| rest.split_once('/'));
    rest.is_some_and(|(provider, rest)| !provider.is_empty() && rest == what)
}

/// A tab that goes there; a browser that does not tell is believed, since what it brings is proof enough.
fn is_real_navigation(request: &Request<'_>) -> bool {
    let headers = &request.head.headers;
    !request::is_speculative(headers)
        && (!request::has_fetch_metadata(headers) || request.intent == Intent::Navigation)
}

fn is_isolated(request: &Request<'_>) -> bool {
    let head = request.head;
    if !cookies::any_of_ours(&head.headers) {
        return true;
    }
    let from_here = || request.is_from(&request.origin());
    if request.websocket {
        return from_here();
    }
    let is_read = matches!(head.method, Method::GET | Method::HEAD);
    if !head.headers.contains_key(&request::SEC_FETCH_SITE) {
        let tells_origin = head.headers.contains_key(ORIGIN);
        let is_safe = is_read || head.method == Method::OPTIONS;
        return if is_safe && !tells_origin { true } else { from_here() };
    }
    match request::single(&head.headers, &request::SEC_FETCH_SITE) {
        Some(b"same-origin" | b"none") => true,
        _ => is_read && request::is_document_navigation(&head.headers),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::{Client, head};

    const OURS: (&str, &str) = ("cookie", "__Host-usher-ws=x");

    /// Whether a request with these headers passes at a path of alice's workspace.
    fn passes(method: &str, headers: &[(&str, &str)]) -> bool {
        let head = head(method, "alice.lab.test:8080", "/x", headers);
        let client = Client::plain();
        is_isolated(&Request::parse(&head, &client.0).unwrap())
    }

    #[test]
    fn only_this_origin_and_navigations_pass_with_a_cookie_of_ours() {
        let site = |value| ("sec-fetch-site", value);
        let navigate = ("sec-fetch-mode", "navigate");
        let document = ("sec-fetch-dest", "document");
        for (method, headers, expected) in [
            ("GET", vec![site("same-origin")], true),
            ("POST", vec![site("same-origin")], true),
            ("POST", vec![site("none")], true),
            ("GET", vec![site("same-site")], false),
            ("GET", vec![site("cross-site")], false),
            ("GET", vec![site("same-site"), navigate, document], true),
            ("HEAD", vec![site("cross-site"), navigate, document], true),
            ("POST", vec![site("same-site"), navigate, document], false),
            ("GET", vec![site("same-site"), navigate, ("sec-fetch-dest", "iframe")], false),
            ("GET", vec![site("same-site"), ("sec-fetch-mode", "no-cors"), document], false),
            ("OPTIONS", vec![site("same-site")], false),
            ("GET", vec![site("same-site"), site("same-origin")], false),
            ("GET", vec![site("SAME-ORIGIN")], false),
        ] {
            let mut all = headers.clone();
            all.push(OURS);
            assert_eq!(passes(method, &all), expected, "{method} {headers:?}");
            assert!(passes(method, &headers), "without a cookie of ours: {method} {headers:?}");
        }
    }

    #[test]
    fn where_a_browser_tells_no_site_its_origin_must_be_ours() {
        let origin = |value| ("origin", value);
        let here = origin("http://alice.lab.test:8080");
        for (method, headers, expected) in [
            ("GET", vec![OURS], true),
            ("OPTIONS", vec![OURS], true),
            ("POST", vec![OURS], false),
            ("DELETE", vec![OURS], false),
            ("POST", vec![OURS, here], true),
            ("POST", vec![OURS, origin("null")], false),
            ("POST", vec![OURS, origin("http://bob.lab.test:8080")], false),
            ("POST", vec![OURS, origin("https://alice.lab.test:8080")], false),
            ("POST", vec![OURS, origin("http://alice.lab.test")], false),
            ("POST", vec![OURS, here, origin("http://bob.lab.test:8080")], false),
            ("GET", vec![OURS, origin("http://bob.lab.test:8080")], false),
        ] {
            assert_eq!(passes(method, &headers), expected, "{method} {headers:?}");
        }
    }

    #[test]
    fn a_websocket_with_our_cookie_needs_our_origin_whatever_else_it_says() {
        let handshake = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let with = |more: &[(&'static str, &'static str)]| [&handshake, more].concat();
        let here = ("origin", "http://alice.lab.test:8080");
        let bob = ("origin", "http://bob.lab.test:8080");
        assert!(passes("GET", &with(&[OURS, here])));
        assert!(!passes("GET", &with(&[OURS])));
        assert!(!passes("GET", &with(&[OURS, bob])));
        assert!(!passes("GET", &with(&[OURS, bob, ("sec-fetch-site", "same-origin")])));
        assert!(!passes("GET", &with(&[OURS, ("sec-fetch-site", "none")])));
        assert!(passes("GET", &with(&[bob])), "without a cookie it is for the next phases");
    }

    #[test]
    fn a_ticket_is_shown_by_a_tab_and_never_ahead_of_the_person() {
        let client = Client::plain();
        for (headers, expected) in [
            (vec![("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "document")], true),
            (
                vec![
                    ("sec-fetch-site", "cross-site"),
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "document"),
                ],
                true,
            ),
            (
                vec![
                    ("sec-fetch-mode", "navigate"),
                    ("sec-fetch-dest", "document"),
                    ("sec-purpose", "prefetch"),
                ],
                false,
            ),
            (vec![("sec-fetch-mode", "navigate"), ("sec-fetch-dest", "iframe")], false),
            (vec![("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")], false),
            (vec![("purpose", "prefetch")], false),
            (vec![], true),
        ] {
            let head = head("GET", "alice.lab.test:8080", "/.usher/enter", &headers);
            let request = Request::parse(&head, &client.0).unwrap();
            assert_eq!(is_real_navigation(&request), expected, "{headers:?}");
        }
    }

    #[test]
    fn only_three_doors_have_rules_of_their_own() {
        let workspace = Place::Workspace { id: config::WorkspaceId::parse("alice").unwrap(), port: None };
        for (place, path, expected) in [
            (&workspace, "/.usher/reset", Door::Reset),
            (&workspace, "/.usher/enter", Door::Enter),
            (&workspace, "/.usher/enter/", Door::Common),
            (&workspace, "/.usher/%65nter", Door::Common),
            (&workspace, "/auth/a/callback", Door::Common),
            (&Place::Portal, "/.usher/reset", Door::Common),
            (&Place::Portal, "/auth/google/callback", Door::Callback),
            (&Place::Portal, "/auth//callback", Door::Common),
            (&Place::Portal, "/auth/a/b/callback", Door::Common),
            (&Place::Portal, "/auth/google/backchannel-logout", Door::Common),
        ] {
            assert_eq!(door(place, path), expected, "{path}");
        }
    }
}
