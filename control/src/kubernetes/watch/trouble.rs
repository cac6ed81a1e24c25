//! What can go wrong with a watch, and what follows from it. Pure.

use crate::kubernetes::CallError;
use std::time::Duration;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// It could not be begun, or a page of a list not be had.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The server has forgotten what came after the position: ordinary after each of its restarts.
    #[error("the server does not know any more what changed since")]
    Expired,
    #[error("the server says: {0}")]
    Told(String),
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("the answer ended within a line")]
    Truncated,
    #[error("a line is longer than {} bytes", super::lines::LINE)]
    TooLong,
    #[error("a line cannot be read: {0}")]
    Unreadable(String),
    #[error("there are more than {0} objects")]
    TooMany(usize),
    #[error("no word came for {0:?}")]
    Silent(Duration),
    /// The server ended it long before it was to.
    #[error("the answer ended {0:?} after it began")]
    Short(Duration),
    /// The list was not whole when the answer ended.
    #[error("the answer ended before the list was whole")]
    Unfinished,
}

impl Trouble {
    /// Whether the position cannot be taken up again.
    ///
    /// A server answers a version that it has not reached yet (its store was restored) with nothing at all, and
    /// one that it cannot read with 500.
    pub(super) fn outdates_position(&self) -> bool {
        match self {
            Self::Expired | Self::Told(_) | Self::TooMany(_) => true,
            Self::Call(CallError::Silent { .. }) => true,
            Self::Call(CallError::Refused { code, .. }) => matches!(code, 400 | 410 | 422 | 500 | 504),
            _ => false,
        }
    }

    /// Whether a list that failed like this is to be tried in the other way: a streaming one needs Kubernetes 1.34
    /// (before, 422) and only the right to watch, a plain one also the right to list, and is not cut after 8 s.
    pub(super) fn wants_other_list(&self) -> bool {
        match self {
            Self::Unfinished => true,
            Self::Call(CallError::Refused { code, .. }) => matches!(code, 400 | 403 | 405 | 422),
            _ => false,
        }
    }

    /// Whether it belongs to ordinary life.
    pub(super) fn is_ordinary(&self) -> bool {
        matches!(
            self,
            Self::Expired | Self::Unfinished | Self::Call(CallError::Refused { code: 410 | 422, .. })
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_a_refusal() {
        let refused =
            |code| Trouble::Call(CallError::Refused { code, reason: String::new(), message: String::new() });
        for (code, list_anew, other_list) in [
            (400, true, true),
            (401, false, false),
            (403, false, true),
            (410, true, false),
            (422, true, true),
        ] {
            let trouble = refused(code);
            assert_eq!(
                (trouble.outdates_position(), trouble.wants_other_list()),
                (list_anew, other_list),
                "{code}"
            );
        }
        for (code, list_anew) in [(429, false), (500, true), (503, false)] {
            assert_eq!(refused(code).outdates_position(), list_anew, "{code}");
        }
    }
}
