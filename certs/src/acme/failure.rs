//! Why a certificate was not got.

use crate::certificate::Unfit;
use crate::claim::Lost;
use crate::dns::DnsError;
use crate::store::StoreError;
use crate::told::with_causes;
use instant_acme::{Error, Problem};
use std::time::{Duration, SystemTime};

/// How much of what an authority says is kept.
const TOLD_MAX: usize = 512;
/// What a problem document's `type` begins with (RFC 8555 §6.7).
const TYPE: &str = "urn:ietf:params:acme:error:";

/// Why a certificate was not got, by who can do something about it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The authority asked, and was not convinced.
    #[error("the authority could not see that {host} is ours: {told}")]
    Validation { host: String, told: String },
    /// The authority does not want to.
    #[error("{told} (while {doing})")]
    Refused {
        doing: &'static str,
        told: String,
        /// When it may be asked again, if it said so.
        retry_after: Option<Duration>,
        /// Not now, but the same may be asked later.
        is_for_later: bool,
    },
    /// No answer, or one that cannot be understood.
    #[error("the authority cannot be spoken to: {told} (while {doing})")]
    Unreachable { doing: &'static str, told: String, retry_after: Option<Duration> },
    /// It goes on for too long.
    #[error("the authority took longer than {} s for {doing}", within.as_secs())]
    Late { doing: &'static str, within: Duration },
    /// It offers other challenges.
    #[error("the authority offers no {challenge} for {host}: choose another challenge")]
    NotOffered { challenge: &'static str, host: String },
    /// The records cannot be written or seen.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// Some replica cannot answer, and the authority might ask that one.
    #[error("not every usher was able to answer the challenge in time; missing: {0}")]
    Unanswered(String),
    /// What came is no certificate to serve.
    #[error("the authority gave a certificate that cannot be served: {0}")]
    Unfit(#[from] Unfit),
    /// The account's key, or whom to trust.
    #[error("{0}")]
    Account(String),
    /// What must be remembered cannot be.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another replica is at it.
    #[error(transparent)]
    Lost(#[from] Lost),
}

impl Failure {
    /// What an error of the client comes to.
    pub(super) fn of(doing: &'static str, error: Error, told: super::transport::Told) -> Self {
        let retry_after = told.retry_after.and_then(|at| at.duration_since(SystemTime::now()).ok());
        match error {
            Error::Api(problem) => Self::Refused {
                doing,
                told: words(&problem),
                retry_after,
                is_for_later: is_for_later(&problem),
            },
            Error::Unsupported(what) => {
                let told = format!("it does not have {what}");
                Self::Refused { doing, told, retry_after, is_for_later: true }
            }
            other => {
                let status = told.status.filter(|status| !status.is_success());
                let told = match status {
                    Some(status) => format!("it answered {status}"),
                    None => cut(&with_causes(&other)),
                };
                Self::Unreachable { doing, told, retry_after }
            }
        }
    }

    /// Whether it counts among those validations of which only a few may fail.
    pub(crate) fn is_validation(&self) -> bool {
        matches!(self, Self::Validation { .. })
    }

    /// Whether nothing can become of the order any more, so that the next attempt makes another.
    pub(super) fn ends_the_order(&self) -> bool {
        match self {
            Self::Validation { .. } | Self::Unfit(_) | Self::NotOffered { .. } => true,
            Self::Refused { is_for_later, .. } => !is_for_later,
            _ => false,
        }
    }

    /// How long the authority wants not to be asked.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } | Self::Unreachable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// Whether a problem is of this type (RFC 8555 §6.7).
pub(super) fn is_of_type(problem: &Problem, name: &str) -> bool {
    problem.r#type.as_deref().and_then(|text| text.strip_prefix(TYPE)) == Some(name)
}

/// Whether a problem passes by itself.
pub(super) fn is_for_later(problem: &Problem) -> bool {
    ["rateLimited", "serverInternal", "badNonce"].into_iter().any(|name| is_of_type(problem, name))
}

/// A problem in its own words.
pub(super) fn words(problem: &Problem) -> String {
    let name = problem
        .r#type
        .as_deref()
        .map_or("a problem without a type", |text| text.strip_prefix(TYPE).unwrap_or(text));
    let detail = problem.detail.as_deref().unwrap_or("no detail");
    let parts = problem.subproblems.iter().filter_map(|part| part.detail.as_deref());
    let all: Vec<&str> = std::iter::once(detail).chain(parts).collect();
    cut(&format!("{name}: {}", all.join("; ")))
}

/// Others' words, on one line and bounded.
fn cut(text: &str) -> String {
    text.chars().take(TOLD_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
