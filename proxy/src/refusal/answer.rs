//! A refusal as its client understands it: a page, a problem document, or the way to the login.

use super::{Code, Refusal, Row};
use crate::page::{self, Page, Reach, escape};
use crate::request::Intent;
use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Response};
use serde::Serialize;

/// What every refusal says for machines.
const USHER_ERROR: HeaderName = HeaderName::from_static("usher-error");
const CLEAR_SITE_DATA: HeaderName = HeaderName::from_static("clear-site-data");
/// What [`Code::MethodNotAllowed`] names as allowed (RFC 9110 §15.5.6).
const ALLOWED: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");

/// Who reads the answer to a refused request.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    /// What kind of client it is.
    pub intent: Intent,
    /// Its method.
    pub method: &'a Method,
    /// The id of its request.
    pub request_id: &'a str,
    /// The portal's origin as it sees it: where a page leads that has no other way on.
    pub portal: Option<String>,
}

impl<'a> Reader<'a> {
    /// A program, by a request that has a body in its answer: it gets a problem document.
    pub fn program(request_id: &'a str) -> Self {
        Self { intent: Intent::Script, method: &Method::GET, request_id, portal: None }
    }
}

/// The whole answer to a refused request. Its code stands among the extensions, for the request's event.
///
/// It has a `Content-Length`; to a HEAD it has no body.
pub fn answer(refusal: &Refusal, reader: &Reader<'_>) -> Response<Bytes> {
    let code = match refusal {
        // Without a place to go to, a redirect leads nowhere.
        Refusal { code: Code::LoginNeeded, location: None, .. } => Code::Unauthenticated,
        other => other.code,
    };
    let row = code.row();
    let mut response = match (&refusal.location, code) {
        (Some(location), Code::LoginNeeded | Code::HttpsNeeded) => redirect(location),
        _ if reader.intent.wants_page() => as_page(refusal, &row, reader),
        _ => as_problem(refusal, &row, reader.request_id),
    };
    *response.status_mut() = row.status;
    response.extensions_mut().insert(code);
    let headers = response.headers_mut();
    headers.insert(USHER_ERROR, HeaderValue::from_static(row.code));
    if let Some(seconds) = refusal.retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(challenge) = code.challenge() {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    if code == Code::MethodNotAllowed {
        headers.insert(header::ALLOW, ALLOWED);
    }
    let length = HeaderValue::from(response.body().len());
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    if *reader.method == Method::HEAD {
        *response.body_mut() = Bytes::new();
    }
    response
}

impl Refusal {
    /// The sentence for the client: this case's, or the row's own.
    pub fn sentence(&self) -> &str {
        if self.detail.is_empty() { self.code.row().detail } else { &self.detail }
    }
}

impl Code {
    /// Whether the cookies of the site are what is wrong, so that a page should have them cleared.
    fn is_healed_by_clearing_cookies(self) -> bool {
        matches!(self, Self::CookiesTooLarge | Self::CookieTwice)
    }

    /// What a client with a token is told in `WWW-Authenticate` (RFC 6750 §3.1).
    fn challenge(self) -> Option<&'static str> {
        match self {
            Self::InvalidToken => Some("Bearer error=\"invalid_token\""),
            Self::InsufficientScope => Some("Bearer error=\"insufficient_scope\""),
            _ => None,
        }
    }

    /// Whether the portal is where somebody can go on, or do something about it.
    fn leads_to_portal(self) -> bool {
        matches!(self, Self::NotFound | Self::MisdirectedRequest | Self::NotAllowed | Self::TooMany)
    }
}

fn redirect(location: &str) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.headers_mut() = page::common_headers();
    // A location of ours is encoded; were it not, the client stays without one rather than with half of it.
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    response.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// RFC 9457, with our extension members behind the standard ones.
#[derive(Serialize)]
struct Problem<'a> {
    /// `about:blank`: the title is the status's own (RFC 9457 §4.2.1); `code` tells them apart.
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'static str,
    hint: &'static str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    login: Option<&'a str>,
}

fn as_problem(refusal: &Refusal, row: &Row, request_id: &str) -> Response<Bytes> {
    let problem = Problem {
        r#type: "about:blank",
        title: row.status.canonical_reason().unwrap_or(row.title),
        status: row.status.as_u16(),
        detail: refusal.sentence(),
        code: row.code,
        hint: row.hint,
        request_id,
        login: refusal.location.as_deref(),
    };
    let body = serde_json::to_vec(&problem).expect("texts and a number are JSON");
    let mut response = Response::new(Bytes::from(body));
    *response.headers_mut() = page::common_headers();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}

fn as_page(refusal: &Refusal, row: &Row, reader: &Reader<'_>) -> Response<Bytes> {
    let heals = refusal.code.is_healed_by_clearing_cookies();
    let healing = if heals {
        "<p>Your browser has been asked to delete the cookies of this site, so you will have to log in again. \
         <strong>Reload the page.</strong> If this page comes back, your browser does not do that by itself: \
         delete the cookies of this site in its settings.</p>"
    } else {
        ""
    };
    let body = format!(
        "<h1>{}</h1>\n<p class=\"lead\">{}</p>\n{healing}{}\n<dl class=\"soft small\">\
         <dt>Code</dt><dd><code>{}</code></dd><dt>For the operator</dt><dd>{}</dd>\
         <dt>Request</dt><dd><code>{}</code></dd></dl>",
        escape(row.title),
        escape(refusal.sentence()),
        onward(refusal, reader),
        row.code,
        escape(row.hint),
        escape(reader.request_id),
    );
    let page = Page { title: row.title, body: &body, ..Page::default() };
    let mut response = page.response(row.status, Reach::default());
    if heals {
        response.headers_mut().insert(CLEAR_SITE_DATA, HeaderValue::from_static("\"cookies\""));
    }
    response
}

/// The link of a page to where its reader can go on. What was only read can be asked for again: an empty address is this
/// very page's (RFC 3986 §4.4).
fn onward(refusal: &Refusal, reader: &Reader<'_>) -> String {
    let link = |address: &str, words: &str| {
        format!("<div class=\"actions\"><a class=\"button\" href=\"{}\">{words}</a></div>", escape(address))
    };
    match (&refusal.location, &reader.portal) {
        (Some(login), _) => link(login, "Log in"),
        (None, Some(portal)) if refusal.code.leads_to_portal() => {
            link(&format!("{portal}/"), "To the portal")
        }
        _ if refusal.retry_after.is_some() && *reader.method == Method::GET => link("", "Try again"),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;
    use serde_json::{Value, json};

    fn header<'a>(response: &'a Response<Bytes>, name: &str) -> Option<&'a str> {
        response.headers().get(name).map(|value| value.to_str().unwrap())
    }

    fn reader<'a>(intent: Intent, method: &'a Method, request_id: &'a str) -> Reader<'a> {
        Reader { intent, method, request_id, portal: Some("http://lab.test".to_owned()) }
    }

    #[test]
    fn a_page_that_leads_nowhere_else_leads_to_the_portal() {
        let page = |refusal| answer(&refusal, &reader(Intent::Page, &Method::GET, "r"));
        let link = "<a class=\"button\" href=\"http://lab.test/\">To the portal</a>";
        for code in super::super::all() {
            let html = String::from_utf8(page(Refusal::new(*code)).body().to_vec()).unwrap();
            let expected =
                matches!(code, Code::NotFound | Code::MisdirectedRequest | Code::NotAllowed | Code::TooMany);
            assert_eq!(html.contains(link), expected, "{code:?}");
        }
        let answered = page(Refusal::new(Code::NotFound));
        assert_eq!(answered.extensions().get(), Some(&Code::NotFound), "the event is told");
    }

    #[test]
    fn a_page_that_a_retry_helps_offers_it_for_what_was_only_read() {
        let limited = || Refusal { retry_after: Some(2), ..Refusal::new(Code::RateLimited) };
        for (refusal, method, expected) in [
            (limited(), Method::GET, true),
            (limited(), Method::POST, false),
            (Refusal::new(Code::RateLimited), Method::GET, false),
            (Refusal { code: Code::TooMany, ..limited() }, Method::GET, false),
        ] {
            let page = answer(&refusal, &reader(Intent::Page, &method, "r"));
            let html = std::str::from_utf8(page.body()).unwrap();
            let offers = html.contains("<a class=\"button\" href=\"\">Try again</a>");
            assert_eq!(offers, expected, "{refusal:?} to a {method}");
        }
    }

    #[test]
    fn a_program_gets_a_problem_document() {
        let refusal = Refusal { retry_after: Some(2), ..Refusal::with(Code::QueueFull, "200 are waiting.") };
        let response = answer(&refusal, &reader(Intent::Script, &Method::GET, "r-1"));
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(header(&response, "content-type"), Some("application/problem+json"));
        assert_eq!(header(&response, "usher-error"), Some("queue_full"));
        assert_eq!(header(&response, "retry-after"), Some("2"));
        assert_eq!(header(&response, "cache-control"), Some("no-store"));
        assert_eq!(header(&response, "x-content-type-options"), Some("nosniff"));
        assert_eq!(header(&response, "cross-origin-resource-policy"), Some("same-origin"));
        assert_eq!(header(&response, "content-length"), Some(response.body().len().to_string().as_str()));
        let problem: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(
            problem,
            json!({
                "type": "about:blank", "title": "Service Unavailable", "status": 503,
                "detail": "200 are waiting.", "code": "queue_full",
                "hint": Code::QueueFull.row().hint, "request_id": "r-1",
            })
        );
    }

    #[test]
    fn a_navigation_gets_a_page_without_a_way_for_foreign_markup() {
        let refusal = Refusal::with(Code::BadRequest, "<script>alert(1)</script>");
        let response = answer(&refusal, &reader(Intent::Navigation, &Method::GET, "\"><img src=x>"));
        let html = std::str::from_utf8(response.body()).unwrap();
        assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
        assert!(!html.contains("<script>") && !html.contains("<img"));
        assert!(header(&response, "content-security-policy").unwrap().contains("default-src 'none'"));
        assert_eq!(header(&response, "usher-error"), Some("bad_request"));
    }

    #[test]
    fn a_navigation_is_led_to_the_login_without_a_referrer() {
        let refusal = Refusal {
            location: Some("http://lab.test/login?to=x".into()),
            ..Refusal::new(Code::LoginNeeded)
        };
        let response = answer(&refusal, &reader(Intent::Navigation, &Method::GET, "r"));
        assert_eq!(response.status(), StatusCode::FOUND);
        assert_eq!(header(&response, "location"), Some("http://lab.test/login?to=x"));
        assert_eq!(header(&response, "referrer-policy"), Some("no-referrer"));
        assert_eq!(header(&response, "cache-control"), Some("no-store"));
        assert!(response.body().is_empty());
    }

    #[test]
    fn a_fetch_without_a_session_is_told_where_the_login_is() {
        let refusal =
            Refusal { location: Some("http://lab.test/login".into()), ..Refusal::new(Code::Unauthenticated) };
        let response = answer(&refusal, &reader(Intent::Background, &Method::POST, "r"));
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(header(&response, "location"), None);
        let problem: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!(problem["login"], "http://lab.test/login");
    }

    #[test]
    fn only_pages_about_cookies_clear_them() {
        let clears = |code, intent| {
            answer(&Refusal::new(code), &reader(intent, &Method::GET, "r"))
                .headers()
                .contains_key(CLEAR_SITE_DATA)
        };
        for code in super::super::all() {
            let expected = matches!(code, Code::CookiesTooLarge | Code::CookieTwice);
            assert_eq!(clears(*code, Intent::Navigation), expected, "{code:?}");
            assert!(!clears(*code, Intent::Background), "{code:?}");
        }
    }

    #[test]
    fn a_head_request_gets_the_length_of_a_body_and_none() {
        let refusal = Refusal::new(Code::NotFound);
        let full = answer(&refusal, &reader(Intent::Navigation, &Method::GET, "r"));
        let bare = answer(&refusal, &reader(Intent::Navigation, &Method::HEAD, "r"));
        assert!(bare.body().is_empty());
        assert_eq!(header(&bare, "content-length"), header(&full, "content-length"));
        assert_ne!(header(&bare, "content-length"), Some("0"));
    }

    #[test]
    fn a_method_that_is_not_allowed_is_answered_with_those_that_are() {
        let response =
            answer(&Refusal::new(Code::MethodNotAllowed), &reader(Intent::Script, &Method::TRACE, "r"));
        assert!(header(&response, "allow").unwrap().contains("GET"));
    }
}
