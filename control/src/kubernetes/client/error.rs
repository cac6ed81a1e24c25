//! Why a call of the API came to nothing.

use super::asked::Asked;
use kube::client::AuthError;
use kube::core::Status;
use std::error::Error;
use std::time::Duration;

/// The longest text of the server's that is repeated in an error.
const WORDS: usize = 1024;

/// Why a call of the Kubernetes API came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The server answered that it would not or could not.
    #[error("the Kubernetes API says {code} {reason}: {message}")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// The reason in Kubernetes' own word; empty when it has none.
        reason: String,
        /// The server's sentence.
        message: String,
    },
    /// No answer, or no whole one, before the deadline; whether it was done is unknown.
    #[error("the Kubernetes API at {server} did not answer `{asked}` within {after:?}")]
    Silent {
        /// Verb and resource.
        asked: String,
        /// The server's address.
        server: String,
        /// The deadline.
        after: Duration,
    },
    /// So many calls waited for their answers that this one was never sent.
    #[error(
        "`{asked}` was not sent to the Kubernetes API at {server}: {in_flight} calls wait there for their answers"
    )]
    Crowded {
        /// Verb and resource.
        asked: String,
        /// The server's address.
        server: String,
        /// How many wait.
        in_flight: usize,
    },
    /// No connection, or it broke; whether it was done is unknown.
    #[error("the Kubernetes API at {server} cannot be reached for `{asked}`: {reason}")]
    Unreachable {
        /// Verb and resource.
        asked: String,
        /// The server's address.
        server: String,
        /// What the system says.
        reason: String,
    },
    /// An answer that is not one of the API's.
    #[error("the answer of the Kubernetes API cannot be read: {reason}")]
    Unreadable {
        /// What is wrong with it.
        reason: String,
    },
}

impl CallError {
    /// The error that a refusal's body tells.
    pub(crate) fn refused(status: Status) -> Self {
        let Status { code, reason, message, .. } = status;
        Self::Refused { code, reason: shortened(&reason), message: shortened(&message) }
    }

    pub(crate) fn unreachable(asked: Asked, server: &str, error: &(dyn Error + 'static)) -> Self {
        Self::Unreachable { asked: asked.to_string(), server: server.to_owned(), reason: chain(error) }
    }

    /// A request that cannot be made: an empty name.
    pub(super) fn unsendable(error: &kube::core::request::Error) -> Self {
        Self::Refused { code: 400, reason: "BadRequest".to_owned(), message: chain(error) }
    }

    /// An answer that is not what was asked for. Says where and not what: it may be a secret.
    pub(crate) fn not_json(error: &serde_json::Error) -> Self {
        let (what, line, column) = (error.classify(), error.line(), error.column());
        Self::Unreadable { reason: format!("{what:?} error in line {line}, column {column}") }
    }

    /// A text of the server's, cut to what an error or a log repeats.
    pub(crate) fn words(text: &str) -> String {
        shortened(text)
    }

    pub(crate) fn unreadable(reason: impl std::fmt::Display) -> Self {
        Self::Unreadable { reason: shortened(&reason.to_string()) }
    }

    /// The HTTP status of a refusal.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the server may have done what it was asked all the same.
    pub fn may_be_done(&self) -> bool {
        match self {
            Self::Refused { code, .. } => *code >= 500,
            Self::Silent { .. } | Self::Unreachable { .. } | Self::Unreadable { .. } => true,
            Self::Crowded { .. } => false,
        }
    }

    /// Whether the same call may be answered better a moment later.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Refused { code, .. } => *code >= 500 || *code == 429,
            Self::Silent { .. } | Self::Unreachable { .. } | Self::Crowded { .. } => true,
            Self::Unreadable { .. } => false,
        }
    }

    /// What an operator can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Refused { code: 401, .. } => {
                "the API server does not accept Usher's credentials: look at the service account's token, or at the user of the kubeconfig"
            }
            Self::Refused { code: 403, .. } => {
                "Usher's Role lacks this right, or a quota or an admission policy says no: the server's sentence tells which"
            }
            Self::Refused { code: 429 | 500.., .. } => {
                "the API server is overloaded, restarts or has lost its store: its own log and metrics tell more"
            }
            Self::Refused { .. } => "the server's sentence tells what it did not like",
            Self::Silent { .. } | Self::Crowded { .. } => {
                "the API server is frozen or overloaded, or something between drops packets"
            }
            Self::Unreachable { .. } => {
                "is the API server up, and may Usher reach it (address, certificate authority, NetworkPolicy)?"
            }
            Self::Unreadable { .. } => {
                "is something between Usher and the API server that answers in its place?"
            }
        }
    }
}

impl From<kube::Error> for CallError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::refused(*status),
            kube::Error::Service(error) => match error.downcast::<Self>() {
                Ok(error) => *error,
                Err(error) => match error.downcast::<kube::Error>() {
                    Ok(error) => Self::from(*error),
                    Err(error) => Self::unreadable(chain(&*error)),
                },
            },
            error => Self::unreadable(chain(&error)),
        }
    }
}

/// An error and what it came from, in one line; hyper's say hardly anything by themselves.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        next = error.source();
        if let Some(AuthError::AuthExecRun { cmd, out }) = error.downcast_ref::<AuthError>() {
            // The errors around it repeat what the program wrote, which may hold a token.
            return format!("`{cmd}` failed with {}", out.status);
        }
        let words = error.to_string();
        if !text.contains(&words) {
            let joint = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{joint}{words}");
        }
    }
    shortened(&text)
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(WORDS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_have_been_done_is_told_from_what_was_not() {
        let refused = |code| CallError::Refused { code, reason: String::new(), message: String::new() };
        let crowded = CallError::Crowded { asked: String::new(), server: String::new(), in_flight: 32 };
        let silent =
            CallError::Silent { asked: String::new(), server: String::new(), after: Duration::from_secs(1) };
        for (error, may_be_done, may_pass) in [
            (refused(403), false, false),
            (refused(409), false, false),
            (refused(429), false, true),
            (refused(500), true, true),
            (refused(504), true, true),
            (crowded, false, true),
            (silent, true, true),
        ] {
            assert_eq!((error.may_be_done(), error.may_pass()), (may_be_done, may_pass), "{error}");
            assert!(!error.hint().is_empty());
        }
    }

    #[test]
    fn a_long_sentence_of_the_servers_is_cut() {
        let status = Status { message: "ä".repeat(WORDS + 1), ..Status::default() };
        let CallError::Refused { message, .. } = CallError::refused(status) else { panic!("another error") };
        assert_eq!(message.chars().count(), WORDS + 1);
    }
}
