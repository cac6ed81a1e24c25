//! What a request is refused with: one table for status, code, words, metric label and log level.

mod answer;
mod table;

pub use answer::{Reader, answer};
pub use table::all;

use http::StatusCode;
use std::time::Duration;

/// Why a request is not carried out, with what the client may know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which: the row of the table.
    pub code: Code,
    /// The values of this case, for the client; empty = the row's own sentence.
    pub detail: String,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
    /// `Location`, for a redirect or as the login address of a 401.
    pub location: Option<String>,
}

/// The rows of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// 400.
    BadRequest,
    /// 302 to the login.
    LoginNeeded,
    /// 308 to the same by https.
    HttpsNeeded,
    /// 401.
    Unauthenticated,
    /// 401: the token of the request is no good.
    InvalidToken,
    /// 403: the token may not be used for this.
    InsufficientScope,
    /// 403: not from this page.
    CrossOrigin,
    /// 403: the rule `access.allow` says no.
    NotAllowed,
    /// 403: not from this address.
    AddressNotAllowed,
    /// 404.
    NotFound,
    /// 405.
    MethodNotAllowed,
    /// 408: its head or body did not come in time.
    RequestTimeout,
    /// 413: larger than an endpoint of ours takes.
    BodyTooLarge,
    /// 421.
    MisdirectedRequest,
    /// 424: the workspace is stopped and this request does not start it.
    WorkspaceStopped,
    /// 431.
    HeadersTooLarge,
    /// 431: the Cookie fields alone are what is too large. A page heals it with `Clear-Site-Data`.
    CookiesTooLarge,
    /// 400: two cookies of one of our names; neither can be believed. Healed likewise.
    CookieTwice,
    /// 429.
    TooMany,
    /// 429: a limit of an address or a user.
    RateLimited,
    /// 502: the workspace's answer could not be used.
    BadUpstream,
    /// 503: it is starting.
    Starting,
    /// 503: the queue is full.
    QueueFull,
    /// 503: it failed.
    WorkspaceFailed,
    /// 503: usher is draining or its store fails.
    Unavailable,
    /// 503: whether it is still where it was is not known just now.
    Unseen,
    /// 429: a quota is used up.
    OverQuota,
    /// 500.
    Internal,
    /// 500: a rule of the workspace's template gives no value for this user.
    Misconfigured,
}

impl Refusal {
    /// A refusal with the row's own sentence.
    pub fn new(code: Code) -> Self {
        Self { code, detail: String::new(), retry_after: None, location: None }
    }
    /// With the values of this case.
    pub fn with(code: Code, detail: impl Into<String>) -> Self {
        Self { detail: detail.into(), ..Self::new(code) }
    }
}

/// Whole seconds for `Retry-After`, rounded up, at least one.
pub fn seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}

/// One row: everything that is the same for all refusals of a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The stable code: `Usher-Error`, `code`, metric label, log field.
    pub code: &'static str,
    /// The status.
    pub status: StatusCode,
    /// The heading of its page.
    pub title: &'static str,
    /// One sentence for the user.
    pub detail: &'static str,
    /// One hint for the operator.
    pub hint: &'static str,
    /// The level of the event of a request that is refused so.
    pub level: tracing::Level,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_whole_seconds_and_never_zero() {
        for (millis, wanted) in [(0, 1), (1, 1), (1000, 1), (1001, 2)] {
            assert_eq!(seconds(Duration::from_millis(millis)), wanted);
        }
    }
}
