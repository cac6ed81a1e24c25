//! What the documents of the store are about, by their names.

use std::fmt::Display;

/// What a document is about, and whose id its name ends with. Usher's own authority has a document without one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DocumentKind {
    /// The certificate of a unit.
    Certificate,
    /// What is known of the renewal of a unit's certificate.
    State,
    /// The account with an authority.
    Account,
    /// What an authority has said for all of its certificates.
    RetryAfter,
    /// When hosts got their first certificate, of a certificate of the configuration.
    Budget,
    /// What an authority is answered with; the id is a hash of it.
    Challenge,
    /// What a replica can answer.
    Seen,
}

impl DocumentKind {
    const ALL: [Self; 7] = [
        Self::Certificate,
        Self::State,
        Self::Account,
        Self::RetryAfter,
        Self::Budget,
        Self::Challenge,
        Self::Seen,
    ];

    /// The kind and the id of a document of this name.
    pub(crate) fn of(name: &str) -> Option<(Self, &str)> {
        Self::ALL.into_iter().find_map(|kind| Some((kind, name.strip_prefix(kind.prefix())?)))
    }

    /// The name of the document with this id.
    pub(crate) fn name(self, id: impl Display) -> String {
        format!("{}{id}", self.prefix())
    }

    /// None begins with another.
    fn prefix(self) -> &'static str {
        match self {
            Self::Certificate => "certificate-",
            Self::State => "state-",
            Self::Account => "account-",
            Self::RetryAfter => "retry-after-",
            Self::Budget => "budget-",
            Self::Challenge => "challenge-",
            Self::Seen => "seen-",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_known_by_the_name_that_it_gives() {
        for kind in DocumentKind::ALL {
            for id in ["site", "site--a.lab.test", "state-1"] {
                assert_eq!(DocumentKind::of(&kind.name(id)), Some((kind, id)));
            }
        }
        for name in [crate::local_authority::DOCUMENT, "certificates", "retry-", ""] {
            assert_eq!(DocumentKind::of(name), None, "{name}");
        }
    }
}
