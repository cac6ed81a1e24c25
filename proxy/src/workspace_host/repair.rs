//! The two ways out of a service worker that stands between a browser and this host.

use super::{answer, refused, unasked};
use crate::own::Asked;
use crate::refusal::{Code, Refusal};
use crate::request::{is_worker_script, single};
use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE, HeaderName, HeaderValue,
    ORIGIN, VARY,
};
use axum::http::{Response, StatusCode};
use axum::middleware::Next;

/// A worker that takes the place of whatever was registered, and then itself away. It touches no open page: one
/// that registers a worker at each load would be loaded for ever.
const WORKER: &str = "self.addEventListener(\"install\", () => self.skipWaiting());\n\
                      self.addEventListener(\"activate\", (event) => event.waitUntil(self.registration.unregister()));\n";

/// The smallest image (GIF89a, one transparent pixel): what the portal's `<img>` loads.
const PIXEL: &[u8] =
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\x00\x00\x00!\xf9\x04\x01\x00\x00\x00\x00,\
                       \x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";

/// Answers every request for a worker's script with [`WORKER`]. The edge sends none here that a template allows.
///
/// Not a refusal: a browser keeps the worker that it has when the new one is a 403 or 404.
pub(super) async fn worker(request: Request, next: Next) -> Response<Body> {
    if !is_worker_script(request.headers()) {
        return next.run(request).await;
    }
    answer(StatusCode::OK, ([(CONTENT_TYPE, "text/javascript; charset=utf-8")], WORKER))
}

/// Clears what this host stored in the browser, workers included, cookies not. For the portal's pages only:
/// they ask with an image that has `crossorigin="use-credentials"`, for only such a one brings an `Origin` and is
/// heeded. Chromium passes over `Clear-Site-Data` where the request may not change cookies (seen in 156), as it
/// does with the bare `crossorigin`; that the cookies come along means nothing here.
pub(super) async fn reset(request: Request) -> Response<Body> {
    let Some(asked) = request.extensions().get::<Asked>() else { return unasked() };
    let portal = asked.connection.listener.origin(asked.config.portal.as_str());
    if single(request.headers(), &ORIGIN) != Some(portal.as_bytes()) {
        return refused(asked, &Refusal::new(Code::CrossOrigin));
    }
    let mut response = answer(StatusCode::OK, ([(CONTENT_TYPE, "image/gif")], PIXEL));
    let headers = response.headers_mut();
    headers.insert(
        HeaderName::from_static("clear-site-data"),
        HeaderValue::from_static("\"cache\", \"storage\""),
    );
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    if let Ok(portal) = HeaderValue::try_from(portal) {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, portal);
        headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    }
    response
}
