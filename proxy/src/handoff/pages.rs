//! What a person reads when a login or a hand-off cannot go on: never a redirect, so never a loop.

use crate::own::Asked;
use crate::page::{Page, Reach, escape};
use axum::response::Response;
use http::StatusCode;

/// Our cookie did not come back. `again` is the address of a new try on the same host.
pub(crate) fn cookie_dropped(asked: &Asked, again: &str) -> Response {
    let plain = !asked.connection.listener.tls;
    let here = if plain && !asked.host.is_localhost() {
        "<p class=\"alarm\" role=\"alert\">This address is plain http and not <code>localhost</code>. Browsers keep \
         no login for such an address. Use the https address, or a name that ends in <code>.localhost</code>.</p>"
    } else if plain {
        "<p class=\"alarm\" role=\"alert\">Safari keeps no secure cookie over plain http, not even on \
         <code>localhost</code>. Use Firefox, Chrome or Edge here, or ask for an https address.</p>"
    } else {
        ""
    };
    let body = format!(
        "<h1>Your browser dropped our cookie</h1>\
         <p class=\"lead\">You cannot be logged in without it.</p>{here}\
         <p>If cookies are blocked for this site, allow them. If the login page stood open for more than ten \
         minutes, or many were open at once, start again.</p>\
         <p class=\"actions\"><a class=\"button\" href=\"{}\">Try again</a></p>",
        escape(again)
    );
    show(StatusCode::BAD_REQUEST, "Your browser dropped our cookie", &body)
}

/// The portal's word for this browser was not accepted, twice. `page` is what was asked for.
pub(super) fn not_handed_over(asked: &Asked, page: &str) -> Response {
    let portal = asked.connection.listener.origin(asked.config.portal.as_str());
    let body = format!(
        "<h1>You could not be let in</h1>\
         <p class=\"lead\">The link that should have logged you in here was too old, was used before, or was \
         made for another browser or host.</p>\
         <p class=\"actions\"><a class=\"button\" href=\"{}\">Try again</a>\
         <a class=\"button second\" href=\"{}/\">To the portal</a></p>",
        escape(&super::start(page)),
        escape(&portal),
    );
    show(StatusCode::BAD_REQUEST, "You could not be let in", &body)
}

/// The store of records fails.
pub(crate) fn unavailable() -> Response {
    let body = "<h1>Not now</h1><p class=\"lead\">Usher cannot write down your login at the moment. Nothing is \
                lost; try again in a minute.</p>";
    show(StatusCode::SERVICE_UNAVAILABLE, "Not now", body)
}

fn show(status: StatusCode, title: &str, body: &str) -> Response {
    Page { title, body, ..Page::default() }.response(status, Reach::default()).map(axum::body::Body::from)
}
