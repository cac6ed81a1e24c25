//! The fields of a line: the same in the file and in the log.

/// The version of the schema: it changes when a field or a word gets another meaning, not when one is added.
pub(super) const SCHEMA: u8 = 1;

/// The fields that every line has, but for `reason`, in their order: name and meaning.
pub const COMMON: [(&str, &str); 6] = [
    ("time", "when, in UTC with milliseconds (RFC 3339)"),
    ("schema", "`1`: the version of these tables; what is only added does not change it"),
    ("event", "what happened, as in the table of events"),
    ("outcome", "`done`, `refused` or `failed`"),
    (
        "by",
        "what kind of somebody did it: `person`, `admin`, `operator` (the admin socket), `provider`, `schedule` (a \
         `prestart`), `usher`",
    ),
    ("reason", "why, as in the table of reasons; always there unless the outcome is `done`"),
];

/// A field that only some events have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// Why a workspace failed.
    Cause,
    /// Who did it: the provider's issuer.
    ActorIss,
    /// Who did it: the provider's id of them.
    ActorSub,
    /// Who did it: their label.
    ActorLabel,
    /// To whom or to whose it was done: the issuer.
    SubjectIss,
    /// The same: the id.
    SubjectSub,
    /// The same: the label.
    SubjectLabel,
    /// Which session.
    Session,
    /// From where.
    Address,
    /// With what browser.
    Agent,
    /// In which request.
    RequestId,
    /// About which workspace.
    Workspace,
    /// By which identity provider.
    Provider,
    /// With or about which token.
    Token,
}

impl Field {
    /// All of them, in the order in which they stand in a line.
    pub const ALL: [Self; 14] = [
        Self::Cause,
        Self::ActorIss,
        Self::ActorSub,
        Self::ActorLabel,
        Self::SubjectIss,
        Self::SubjectSub,
        Self::SubjectLabel,
        Self::Session,
        Self::Address,
        Self::Agent,
        Self::RequestId,
        Self::Workspace,
        Self::Provider,
        Self::Token,
    ];

    /// Its stable name.
    pub fn name(self) -> &'static str {
        self.words().0
    }

    /// What it says, in a line.
    pub fn meaning(self) -> &'static str {
        self.words().1
    }

    #[rustfmt::skip]
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Cause => ("cause", "why a workspace failed, as in [Refusals](#refusals)"),
            Self::ActorIss => ("actor.iss", "who did it: the issuer; `usher:development` with the development login"),
            Self::ActorSub => ("actor.sub", "the same: the provider's id of them"),
            Self::ActorLabel => ("actor.label", "the same: their label, if they have one already"),
            Self::SubjectIss => ("subject.iss", "to whom, or to whose, it was done: the issuer"),
            Self::SubjectSub => ("subject.sub", "the same: the id"),
            Self::SubjectLabel => ("subject.label", "the same: the label"),
            Self::Session => ("session", "of the session that ended, else of whoever did it: 16 hex digits of a hash of its id, the same in all its lines, on all replicas"),
            Self::Address => ("address", "from where it was asked for"),
            Self::Agent => ("agent", "with which browser: `Firefox on Linux`"),
            Self::RequestId => ("request_id", "in which request, as in the log and in refusals"),
            Self::Workspace => ("workspace", "which workspace: `alice`, `gpu--alice`"),
            Self::Provider => ("provider", "which identity provider; `development` for that login"),
            Self::Token => ("token", "which token of Usher's: the one that was made or revoked, else the one that was shown; its `id` in `/api/v1/tokens`, which lets nobody in"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_stand_in_their_order() {
        for (place, field) in Field::ALL.into_iter().enumerate() {
            assert_eq!(field as usize, place, "{}", field.name());
        }
    }
}
