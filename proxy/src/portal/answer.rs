//! The portal's answers: pages, documents, problems.

use crate::own::Asked;
use crate::page::{Page, Reach, common_headers, escape};
use crate::refusal::{self, Refusal};
use axum::body::Body;
use axum::response::Response;
use http::StatusCode;
use http::header::{self, HeaderValue};

/// A page of the portal.
pub(super) fn page(asked: &Asked, status: StatusCode, page: Page<'_>) -> Response {
    page_with_images(asked, status, page, "")
}

/// A page of the portal with images from elsewhere: `images` is a CSP source list.
pub(super) fn page_with_images(asked: &Asked, status: StatusCode, page: Page<'_>, images: &str) -> Response {
    let listener = &asked.connection.listener;
    // The login's form leads, by redirects, to a workspace's host.
    let forms = listener.origin(&format!("*.{}", asked.config.domain));
    page.response(status, Reach { forms: &forms, images, ..Reach::default() }).map(Body::from)
}

/// A page that says one thing and leads on with a link.
pub(super) fn say(
    asked: &Asked,
    status: StatusCode,
    title: &str,
    text: &str,
    link: (&str, &str),
) -> Response {
    let (title_html, text, address, words) = (escape(title), escape(text), escape(link.0), escape(link.1));
    let body = format!(
        "<h1>{title_html}</h1><p class=\"lead\">{text}</p>\
         <p class=\"actions\"><a class=\"button second\" href=\"{address}\">{words}</a></p>"
    );
    page(asked, status, Page { title, body: &body, ..Page::default() })
}

/// The one answer for every workspace that is not the caller's, be it somebody's or nobody's.
pub(super) fn no_such_workspace(asked: &Asked) -> Response {
    let text = "Not for you, at least: everybody reaches only their own.";
    say(asked, StatusCode::NOT_FOUND, "There is no such workspace", text, ("/", "To your workspaces"))
}

/// A refusal, as a page or as a problem document, by who asks.
pub(super) fn refuse(asked: &Asked, refusal: &Refusal) -> Response {
    refusal::answer(refusal, &asked.reader()).map(Body::from)
}

/// A JSON document.
pub(super) fn json(document: &serde_json::Value) -> Response {
    with_type(StatusCode::OK, "application/json", document.to_string())
}

/// A script of ours. Not kept by browsers: it is small, and so it always fits its page.
pub(super) fn script(text: &'static str) -> Response {
    with_type(StatusCode::OK, "text/javascript; charset=utf-8", text)
}

fn with_type(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    *response.headers_mut() = common_headers();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
