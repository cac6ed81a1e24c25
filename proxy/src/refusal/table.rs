//! The table of refusals: stable codes and their words. A new code needs a row here, and nothing else.

use super::{Code, Row};
use http::StatusCode as S;
use tracing::Level;

/// All codes, in the order of the table.
pub fn all() -> &'static [Code] {
    &[
        Code::LoginNeeded,
        Code::HttpsNeeded,
        Code::BadRequest,
        Code::CookieTwice,
        Code::Unauthenticated,
        Code::InvalidToken,
        Code::InsufficientScope,
        Code::CrossOrigin,
        Code::NotAllowed,
        Code::AddressNotAllowed,
        Code::NotFound,
        Code::MethodNotAllowed,
        Code::RequestTimeout,
        Code::BodyTooLarge,
        Code::MisdirectedRequest,
        Code::WorkspaceStopped,
        Code::TooMany,
        Code::RateLimited,
        Code::OverQuota,
        Code::HeadersTooLarge,
        Code::CookiesTooLarge,
        Code::Internal,
        Code::Misconfigured,
        Code::BadUpstream,
        Code::Starting,
        Code::QueueFull,
        Code::WorkspaceFailed,
        Code::Unseen,
        Code::Unavailable,
    ]
}

impl Code {
    /// The row of this code.
    pub fn row(self) -> Row {
        match self {
            Self::LoginNeeded
            | Self::HttpsNeeded
            | Self::Unauthenticated
            | Self::InvalidToken
            | Self::InsufficientScope
            | Self::CrossOrigin
            | Self::NotAllowed
            | Self::AddressNotAllowed => self.access(),
            Self::WorkspaceStopped
            | Self::BadUpstream
            | Self::Starting
            | Self::QueueFull
            | Self::OverQuota
            | Self::Unseen
            | Self::WorkspaceFailed => self.workspace(),
            Self::TooMany | Self::RateLimited | Self::Unavailable | Self::Internal | Self::Misconfigured => {
                self.edge()
            }
            _ => self.request(),
        }
    }

    /// What is wrong with the request itself.
    fn request(self) -> Row {
        match self {
            Self::CookieTwice => row(
                (S::BAD_REQUEST, "cookie_twice", Level::INFO),
                "Your browser holds a cookie twice",
                "The browser sent one of our cookies twice, so that neither can be believed.",
                "a browser does not send a __Host- cookie twice by itself: look at proxies in between",
            ),
            Self::NotFound => row(
                (S::NOT_FOUND, "not_found", Level::INFO),
                "There is nothing here",
                "This address leads nowhere, or it is not yours.",
                "the same answer stands for unknown hosts, undeclared names, ports that are not allowed and \
                 workspaces of others",
            ),
            Self::MethodNotAllowed => row(
                (S::METHOD_NOT_ALLOWED, "method_not_allowed", Level::INFO),
                "That cannot be done here",
                "This address does not take requests of that method.",
                "TRACE and CONNECT are served nowhere",
            ),
            Self::RequestTimeout => row(
                (S::REQUEST_TIMEOUT, "request_timeout", Level::INFO),
                "The request took too long",
                "The request did not come in whole in time.",
                "a head must be complete in 10 s, a body to the portal in 30 s",
            ),
            Self::BodyTooLarge => row(
                (S::PAYLOAD_TOO_LARGE, "body_too_large", Level::INFO),
                "The request is too large",
                "The body of the request is larger than 64 KiB.",
                "only endpoints of ours have this limit; workspaces set their own",
            ),
            Self::MisdirectedRequest => row(
                (S::MISDIRECTED_REQUEST, "misdirected_request", Level::INFO),
                "The request came to the wrong server",
                "The connection was opened for another host.",
                "the certificate of the connection does not cover the host of the request",
            ),
            Self::HeadersTooLarge => row(
                (S::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", Level::INFO),
                "The request is too large",
                "The head of the request is larger than 32 KiB or has more than 100 fields.",
                "addresses and headers together are bounded; put what is large into a body",
            ),
            Self::CookiesTooLarge => row(
                (S::REQUEST_HEADER_FIELDS_TOO_LARGE, "cookies_too_large", Level::INFO),
                "Too many cookies",
                "The cookies for this site are larger than 32 KiB.",
                "some workspace sets too many cookies for the whole domain; a base on the Public Suffix List \
                 prevents that",
            ),
            _ => row(
                (S::BAD_REQUEST, "bad_request", Level::INFO),
                "The request cannot be understood",
                "The request breaks a rule of HTTP.",
                "detail names the rule; a client or a proxy in between is at fault",
            ),
        }
    }

    /// Who asks, and from where.
    fn access(self) -> Row {
        match self {
            Self::LoginNeeded => row(
                (S::FOUND, "login_needed", Level::INFO),
                "Please log in",
                "You are not logged in.",
                "a navigation without a session is sent to the portal's login",
            ),
            Self::HttpsNeeded => row(
                (S::PERMANENT_REDIRECT, "https_needed", Level::INFO),
                "This is served by https",
                "Please come by https.",
                "a listener with protocol = \"redirect\" leads everything to the same host by https",
            ),
            Self::Unauthenticated => row(
                (S::UNAUTHORIZED, "unauthenticated", Level::INFO),
                "Please log in",
                "You are not logged in, or your session has ended.",
                "only navigations are sent to the login; others get this, CORS preflights always",
            ),
            Self::InvalidToken => row(
                (S::UNAUTHORIZED, "invalid_token", Level::INFO),
                "The token is no good",
                "The token is unknown, has expired or was revoked.",
                "a request with a token of Usher's is never let in by its cookies; the log says why the token was refused",
            ),
            Self::InsufficientScope => row(
                (S::FORBIDDEN, "insufficient_scope", Level::INFO),
                "The token may not be used for this",
                "The token may not be used for this.",
                "detail names the scope that it lacks, or says that no token does this",
            ),
            Self::CrossOrigin => row(
                (S::FORBIDDEN, "cross_origin", Level::INFO),
                "Another page may not do that",
                "A page of another address sent this request in your name.",
                "workspaces are same-site with each other: requests that carry a session must come from the \
                 very origin that they go to",
            ),
            Self::AddressNotAllowed => row(
                (S::FORBIDDEN, "address_not_allowed", Level::INFO),
                "Not from here",
                "This cannot be reached from your network.",
                "allow_addresses or deny_addresses, of access, the template or the route, shut the client.ip of the log \
                 out; if that is a proxy's, see trusted_proxies",
            ),
            _ => row(
                (S::FORBIDDEN, "not_allowed", Level::INFO),
                "You may not enter",
                "The rules of this installation do not let you in.",
                "access.allow, or the allow of the route or of the token's issuer, is not true for this user, or a rule gave no answer: the log names it",
            ),
        }
    }

    /// What the workspace is in the way with.
    fn workspace(self) -> Row {
        match self {
            Self::WorkspaceStopped => row(
                (S::FAILED_DEPENDENCY, "workspace_stopped", Level::INFO),
                "The workspace is stopped",
                "The workspace is stopped. Open its page to start it.",
                "a browser's background requests start nothing",
            ),
            Self::BadUpstream => row(
                (S::BAD_GATEWAY, "bad_upstream", Level::WARN),
                "The workspace gave no usable answer",
                "The workspace did not answer, or its answer could not be used.",
                "detail tells what was wrong; see the workspace's log",
            ),
            Self::Starting => row(
                (S::SERVICE_UNAVAILABLE, "starting", Level::INFO),
                "The workspace is starting",
                "The workspace is starting.",
                "a script is held up to spawn.hold_timeout before it gets this",
            ),
            Self::QueueFull => row(
                (S::SERVICE_UNAVAILABLE, "queue_full", Level::WARN),
                "Too many workspaces are starting",
                "Too many workspaces are waiting for their start. Please try again.",
                "spawn.queue workspaces are waiting; spawn.concurrent start at a time",
            ),
            Self::OverQuota => row(
                (S::TOO_MANY_REQUESTS, "over_quota", Level::INFO),
                "No more may run for you now",
                "What you may use is used up. Stop a workspace of yours first.",
                "detail names the quota, what is used of it and by what; quotas.NAME sets it",
            ),
            Self::Unseen => row(
                (S::SERVICE_UNAVAILABLE, "unseen", Level::WARN),
                "The cluster is not seen just now",
                "The cluster is not seen just now. What runs goes on running; new connections wait until it is seen again.",
                "neither the API server nor the workspace was heard for 10 s: is the API server up, and reachable from Usher?",
            ),
            _ => row(
                (S::SERVICE_UNAVAILABLE, "workspace_failed", Level::WARN),
                "The workspace could not be started",
                "The workspace could not be started.",
                "`usher status` names the cause; the workspace's log tells more",
            ),
        }
    }

    /// What the edge itself lacks.
    fn edge(self) -> Row {
        match self {
            Self::TooMany => row(
                (S::TOO_MANY_REQUESTS, "too_many", Level::INFO),
                "Too many requests",
                "That was tried too often. Please wait a moment.",
                "detail names the limit",
            ),
            Self::RateLimited => row(
                (S::TOO_MANY_REQUESTS, "rate_limited", Level::INFO),
                "Too much at once",
                "There were too many requests. Please wait a moment.",
                "detail names the limit, a key of [limits]; behind a proxy all clients are one address without trusted_proxies",
            ),
            Self::Misconfigured => row(
                (S::INTERNAL_SERVER_ERROR, "misconfigured", Level::WARN),
                "Your workspace is not set up right",
                "The configuration gives no value for your workspace.",
                "a rule of its template failed for this user: the log has its place and the reason",
            ),
            Self::Unavailable => row(
                (S::SERVICE_UNAVAILABLE, "unavailable", Level::WARN),
                "Not available just now",
                "The service is not available just now. Please try again.",
                "usher is draining, or the store of its records, or an issuer of tokens, cannot be asked",
            ),
            _ => row(
                (S::INTERNAL_SERVER_ERROR, "internal", Level::ERROR),
                "Something went wrong",
                "Something went wrong on our side.",
                "the log has an error event with this request_id",
            ),
        }
    }
}

fn row(
    (status, code, level): (S, &'static str, Level),
    title: &'static str,
    detail: &'static str,
    hint: &'static str,
) -> Row {
    Row { code, status, title, detail, hint, level }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_code_is_stable_text_of_its_own_with_words_for_both_readers() {
        let mut seen = HashSet::new();
        for code in all() {
            let row = code.row();
            assert!(seen.insert(row.code), "{} twice", row.code);
            assert!(row.code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", row.code);
            assert!(row.detail.ends_with('.') && !row.hint.ends_with('.'), "{}", row.code);
            assert!(!row.title.ends_with('.') && !row.title.is_empty(), "{}", row.code);
        }
    }

    #[test]
    fn the_statuses_are_those_of_the_contract() {
        let statuses: Vec<(&str, u16)> =
            all().iter().map(|code| (code.row().code, code.row().status.as_u16())).collect();
        assert_eq!(
            statuses,
            [
                ("login_needed", 302),
                ("https_needed", 308),
                ("bad_request", 400),
                ("cookie_twice", 400),
                ("unauthenticated", 401),
                ("invalid_token", 401),
                ("insufficient_scope", 403),
                ("cross_origin", 403),
                ("not_allowed", 403),
                ("address_not_allowed", 403),
                ("not_found", 404),
                ("method_not_allowed", 405),
                ("request_timeout", 408),
                ("body_too_large", 413),
                ("misdirected_request", 421),
                ("workspace_stopped", 424),
                ("too_many", 429),
                ("rate_limited", 429),
                ("over_quota", 429),
                ("headers_too_large", 431),
                ("cookies_too_large", 431),
                ("internal", 500),
                ("misconfigured", 500),
                ("bad_upstream", 502),
                ("starting", 503),
                ("queue_full", 503),
                ("workspace_failed", 503),
                ("unseen", 503),
                ("unavailable", 503),
            ]
        );
    }
}
