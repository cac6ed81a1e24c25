//! Why a certificate was not got.

use super::transport::Transport;
use crate::certificate::Unfit;
use crate::claim::Lost;
use crate::dns::DnsError;
use crate::store::StoreError;
use crate::told::{cut, with_causes};
use config::NamePattern;
use instant_acme::{Error, Problem};
use std::time::{Duration, SystemTime};

/// What a problem document's `type` begins with (RFC 8555 §6.7).
const TYPE: &str = "urn:ietf:params:acme:error:";

/// How long an authority wants not to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) long: Duration,
    /// For anything, not for these names alone.
    pub(crate) is_for_all: bool,
}

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
        wait: Option<Wait>,
        /// Not now, but the same may be asked later.
        is_for_later: bool,
    },
    /// No answer, or one that cannot be understood.
    #[error("the authority cannot be spoken to: {told} (while {doing})")]
    Unreachable { doing: &'static str, told: String, wait: Option<Wait> },
    /// It goes on for too long.
    #[error("the authority took longer than {} s for {doing}", within.as_secs())]
    Late { doing: &'static str, within: Duration },
    /// It wants more time, and the order is gone on with then.
    #[error("the authority is not done with {doing} yet, and wants to be asked again in {} s", again.as_secs())]
    Slow { doing: &'static str, again: Duration },
    /// It offers other challenges.
    #[error("the authority offers no {challenge} for {host}: choose another challenge")]
    NotOffered { challenge: &'static str, host: String },
    /// The records cannot be written or seen.
    #[error(transparent)]
    Dns(#[from] DnsError),
    /// Who takes records away is slow.
    #[error("not all that was shown could be taken away within {} s", within.as_secs())]
    LeftOver { within: Duration },
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
    /// What an error of the client comes to, while a certificate for these names was asked for.
    pub(super) fn of(doing: &'static str, error: Error, names: &[NamePattern]) -> Self {
        let answer = Transport::told();
        let is_busy = answer.is_busy();
        let wait = |is_for_all| {
            let long = answer.retry_after?.duration_since(SystemTime::now()).ok()?;
            Some(Wait { long, is_for_all })
        };
        match error {
            Error::Api(problem) => Self::Refused {
                doing,
                told: words(&problem),
                wait: wait((is_busy || is_of_type(&problem, "rateLimited")) && !is_about(&problem, names)),
                is_for_later: is_for_later(&problem),
            },
            Error::Unsupported(what) => {
                let told = format!("it does not have {what}");
                Self::Refused { doing, told, wait: None, is_for_later: true }
            }
            other => {
                let status = answer.status.filter(|status| !status.is_success());
                let told = match status {
                    Some(status) => format!("it answered {status}"),
                    None => with_causes(&other),
                };
                Self::Unreachable { doing, told, wait: wait(is_busy) }
            }
        }
    }

    /// Whether it counts among those validations of which only a few may fail.
    pub(crate) fn is_validation(&self) -> bool {
        matches!(self, Self::Validation { .. })
    }

    /// Whether it counts among those orders of which only a few may give what cannot be served.
    pub(crate) fn is_unfit(&self) -> bool {
        matches!(self, Self::Unfit(_))
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
    pub(crate) fn wait(&self) -> Option<Wait> {
        match self {
            Self::Refused { wait, .. } | Self::Unreachable { wait, .. } => *wait,
            Self::Slow { again, .. } => Some(Wait { long: *again, is_for_all: false }),
            _ => None,
        }
    }
}

/// Whether a problem is about these names and no others: rate limits are for an account, or for a name and all below
/// it. Says so in subproblems (RFC 8555 §6.7.1), or as Let's Encrypt does in words alone.
fn is_about(problem: &Problem, names: &[NamePattern]) -> bool {
    let detail = problem.detail.as_deref().unwrap_or_default().to_ascii_lowercase();
    let is_of_host = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let mut words = detail.split(|c| !is_of_host(c)).map(|word| word.trim_matches('.'));
    let is_above = |word: &str| {
        let hosts = names.iter().map(|name| name.base().as_str());
        let mut below = hosts.filter_map(|host| host.strip_suffix(word));
        word.contains('.') && below.any(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    problem.subproblems.iter().any(|part| part.identifier.is_some())
        || detail.contains("exact set of")
        || words.any(is_above)
}

/// Whether a problem is of this type (RFC 8555 §6.7).
pub(super) fn is_of_type(problem: &Problem, name: &str) -> bool {
    problem.r#type.as_deref().and_then(|text| text.strip_prefix(TYPE)) == Some(name)
}

/// Whether something was refused for who asks: an account that is deactivated (RFC 8555 §7.3.6) or unknown.
pub(super) fn is_about_the_account(problem: &Problem) -> bool {
    ["accountDoesNotExist", "unauthorized"].into_iter().any(|name| is_of_type(problem, name))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_limit_is_of_names_or_of_all() {
        let names =
            ["alice.lab.example.org", "*.lab.example.org"].map(|name| NamePattern::parse(name).unwrap());
        let problem = |detail: &str, subproblems: &str| -> Problem {
            let kind = format!("{TYPE}rateLimited");
            serde_json::from_str(&format!(
                r#"{{ "type": "{kind}", "detail": {detail:?}, "subproblems": [{subproblems}] }}"#
            ))
            .unwrap()
        };
        let identifier = r#"{ "identifier": { "type": "dns", "value": "alice.lab.example.org" } }"#;
        // Let's Encrypt's words (boulder, ratelimits/transaction.go).
        for (detail, subproblems, expected) in [
            (
                "too many new orders (300) from this account in the last 3h0m0s, retry after 2026-01-02 03:04:05 UTC: see https://letsencrypt.org/docs/rate-limits/#new-orders-per-account",
                "",
                false,
            ),
            ("too many new registrations (10) from this IP address in the last 3h0m0s", "", false),
            ("Service busy; retry later.", "", false),
            ("", "", false),
            (
                "too many certificates (50) already issued for \"example.org\" in the last 168h0m0s, retry after …",
                "",
                true,
            ),
            ("too many failed authorizations (5) for \"alice.lab.example.org\" in the last 1h0m0s", "", true),
            (
                "too many certificates (5) already issued for this exact set of identifiers in the last 168h0m0s",
                "",
                true,
            ),
            ("too many certificates for lab.example.org.", "", true),
            // Somebody else's.
            ("too many certificates for ample.org", "", false),
            ("slow down", identifier, true),
        ] {
            assert_eq!(is_about(&problem(detail, subproblems), &names), expected, "{detail}");
        }
    }
}
