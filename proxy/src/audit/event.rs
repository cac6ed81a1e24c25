//! What stands in the trail: one table for names, meanings and fields, from which the README and the schema are.

use super::{Field, Reason};

/// Something that is told. The names in [`ROWS`] are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// Somebody logged in, or tried to.
    Login,
    /// A provider was asked anew about somebody, in vain.
    SessionRefresh,
    /// A session ended.
    SessionEnded,
    /// A provider said that it has ended somebody's session.
    ProviderLogout,
    /// A ticket to a workspace's host was not taken.
    Ticket,
    /// A session came to a workspace's host.
    WorkspaceEntered,
    /// Somebody was signed out by somebody else.
    SignOut,
    /// A workspace was asked for, or its start came to nothing.
    WorkspaceStart,
    /// A workspace was stopped.
    WorkspaceStop,
    /// A workspace was deleted.
    WorkspaceDelete,
    /// A token was made.
    TokenMade,
    /// A token was used for the first time, or one was not believed.
    TokenUsed,
    /// A token was revoked.
    TokenRevoked,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was done.
    Done,
    /// Somebody may not, or what they brought is not to be believed.
    Refused,
    /// It could not be done.
    Failed,
}

impl Outcome {
    /// Its stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// What kind of somebody did it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// Somebody in a browser.
    Person,
    /// Somebody of whom `access.admin` says yes, as such.
    Admin,
    /// Whoever may use the admin socket.
    Operator,
    /// An identity provider.
    Provider,
    /// A time that a template names.
    Schedule,
    /// Usher by itself.
    Usher,
}

impl By {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Person, Self::Admin, Self::Operator, Self::Provider, Self::Schedule, Self::Usher];

    /// Its stable name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Admin => "admin",
            Self::Operator => "operator",
            Self::Provider => "provider",
            Self::Schedule => "schedule",
            Self::Usher => "usher",
        }
    }
}

/// What is told of one event.
#[derive(Debug)]
pub struct Row {
    /// Which.
    pub event: Event,
    /// Its stable name.
    pub name: &'static str,
    /// What it tells.
    pub meaning: &'static str,
    /// How it can go.
    pub outcomes: &'static [Outcome],
    /// Why; one that is not `done` always says.
    pub reasons: &'static [Reason],
    /// Beside those of every event, the fields that it has whenever it is `done`.
    pub always: &'static [Field],
    /// Those that it may have besides.
    pub sometimes: &'static [Field],
}

impl Event {
    /// What is told of it.
    pub fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }
}

use Field::{
    ActorIss, ActorLabel, ActorSub, Address, Agent, Cause, Provider, RequestId, Session, SubjectIss,
    SubjectLabel, SubjectSub, Token, Workspace,
};
use Outcome::{Done, Failed, Refused};

/// Every event, in the order of [`Event`]. What is new stands at the end.
pub static ROWS: &[Row] = &[
    Row {
        event: Event::Login,
        name: "login",
        meaning: "somebody logged in; or tried to, and why not. What `logins_per_address` refuses leaves no line",
        outcomes: &[Done, Refused, Failed],
        reasons: &[
            Reason::NotAdmitted,
            Reason::AddressNotAllowed,
            Reason::ForeignPage,
            Reason::BadState,
            Reason::Expired,
            Reason::OtherBrowser,
            Reason::Replayed,
            Reason::BadName,
            Reason::ProviderRefused,
            Reason::AnswerNotBelieved,
            Reason::ClientRefused,
            Reason::ProviderUnreachable,
            Reason::Records,
        ],
        always: &[ActorIss, ActorSub, ActorLabel, Session, Address, Agent, RequestId, Provider],
        sometimes: &[],
    },
    Row {
        event: Event::SessionRefresh,
        name: "session_refresh",
        meaning: "a provider was asked anew about somebody, in vain; the session lives on",
        outcomes: &[Refused, Failed],
        reasons: &[
            Reason::ProviderUnreachable,
            Reason::AnswerNotBelieved,
            Reason::ClientRefused,
            Reason::Records,
        ],
        always: &[],
        sometimes: &[SubjectIss, SubjectSub, SubjectLabel, Session, Provider],
    },
    Row {
        event: Event::SessionEnded,
        name: "session_ended",
        meaning: "a session ended, with its cookies and open sockets, and why",
        outcomes: &[Done, Failed],
        reasons: &[
            Reason::Logout,
            Reason::LogoutWithProvider,
            Reason::LogoutEverywhere,
            Reason::ChosenFromList,
            Reason::Replaced,
            Reason::SignOut,
            Reason::BackChannel,
            Reason::FrontChannel,
            Reason::TooMany,
            Reason::Unused,
            Reason::TooOld,
            Reason::NotAdmitted,
            Reason::ProviderRefused,
            Reason::OtherAccount,
            Reason::ProviderGone,
            Reason::TokenUnreadable,
            Reason::ProviderUnreachable,
            Reason::RefreshLost,
            Reason::Records,
        ],
        always: &[SubjectIss, SubjectSub, SubjectLabel, Session, Provider],
        sometimes: &[ActorIss, ActorSub, ActorLabel, Address, RequestId, Token],
    },
    Row {
        event: Event::ProviderLogout,
        name: "provider_logout",
        meaning: "a provider's word that somebody has logged out there was not taken; where it was, each session is told",
        outcomes: &[Refused, Failed],
        reasons: &[Reason::BadToken, Reason::Replayed, Reason::ProviderUnreachable, Reason::Records],
        always: &[],
        sometimes: &[Address, RequestId, Provider],
    },
    Row {
        event: Event::Ticket,
        name: "ticket",
        meaning: "a ticket to a workspace's host was not taken",
        outcomes: &[Refused, Failed],
        reasons: &[
            Reason::BadTicket,
            Reason::Expired,
            Reason::Replayed,
            Reason::OtherBrowser,
            Reason::SessionOver,
            Reason::NotAdmitted,
            Reason::Records,
        ],
        always: &[],
        sometimes: &[ActorIss, ActorSub, ActorLabel, Session, Address, RequestId, Workspace],
    },
    Row {
        event: Event::WorkspaceEntered,
        name: "workspace_entered",
        meaning: "a session got its cookie on a workspace's host",
        outcomes: &[Done],
        reasons: &[],
        always: &[ActorIss, ActorSub, ActorLabel, Session, Address, RequestId, Workspace],
        sometimes: &[],
    },
    Row {
        event: Event::SignOut,
        name: "sign_out",
        meaning: "an admin or the operator signed somebody out; or tried to, and why not",
        outcomes: &[Done, Refused, Failed],
        reasons: &[Reason::NotAdmitted, Reason::ForeignPage, Reason::Unknown, Reason::Records],
        always: &[SubjectLabel],
        sometimes: &[
            SubjectIss, SubjectSub, ActorIss, ActorSub, ActorLabel, Session, Address, RequestId, Token,
        ],
    },
    Row {
        event: Event::WorkspaceStart,
        name: "workspace_start",
        meaning: "the start of a workspace was asked for, and nobody had before; or it came to nothing",
        outcomes: &[Done, Failed],
        reasons: &[Reason::StartFailed],
        always: &[Workspace],
        sometimes: &[
            SubjectIss,
            SubjectSub,
            SubjectLabel,
            ActorIss,
            ActorSub,
            ActorLabel,
            Session,
            Address,
            RequestId,
            Cause,
            Token,
        ],
    },
    Row {
        event: Event::WorkspaceStop,
        name: "workspace_stop",
        meaning: "a workspace that ran, or was to, is stopped",
        outcomes: &[Done],
        reasons: &[Reason::Asked, Reason::Unused, Reason::TooOld],
        always: &[Workspace],
        sometimes: &[
            SubjectIss, SubjectSub, ActorIss, ActorSub, ActorLabel, Session, Address, RequestId, Token,
        ],
    },
    Row {
        event: Event::WorkspaceDelete,
        name: "workspace_delete",
        meaning: "a workspace was deleted; or its files could not be",
        outcomes: &[Done, Failed],
        reasons: &[Reason::FilesKept, Reason::FilesDeleted, Reason::NotDeleted],
        always: &[Workspace],
        sometimes: &[ActorIss, ActorSub, ActorLabel, Session, Address, RequestId, Cause],
    },
    Row {
        event: Event::TokenMade,
        name: "token_made",
        meaning: "somebody made a token, of the kind that the reason says",
        outcomes: &[Done],
        reasons: &[Reason::ApiToken, Reason::CommandLine],
        always: &[ActorIss, ActorSub, ActorLabel, Session, Address, RequestId, Token],
        sometimes: &[],
    },
    Row {
        event: Event::TokenUsed,
        name: "token_used",
        meaning: "a token was used for the first time; or one was shown that is not good. What `bad_tokens_per_address` refuses leaves no line",
        outcomes: &[Done, Refused],
        reasons: &[Reason::BadToken],
        always: &[ActorIss, ActorSub, ActorLabel, Address, RequestId, Token],
        sometimes: &[],
    },
    Row {
        event: Event::TokenRevoked,
        name: "token_revoked",
        meaning: "a token was revoked, with its open sockets, and why",
        outcomes: &[Done, Failed],
        reasons: &[
            Reason::Asked,
            Reason::Logout,
            Reason::LogoutEverywhere,
            Reason::SignOut,
            Reason::BackChannel,
            Reason::Replayed,
            Reason::TooMany,
            Reason::Records,
        ],
        always: &[SubjectIss, SubjectSub, SubjectLabel, Token],
        sometimes: &[ActorIss, ActorSub, ActorLabel, Session, Address, RequestId, Provider],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_event_has_its_own_row_and_name() {
        for (place, row) in ROWS.iter().enumerate() {
            assert_eq!(row.event as usize, place, "{}", row.name);
            assert_eq!(row.event.row().name, row.name);
        }
        let names: HashSet<_> = ROWS.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ROWS.len());
    }

    #[test]
    fn whatever_can_go_wrong_has_a_reason_and_no_field_stands_twice() {
        for row in ROWS {
            assert!(row.outcomes == [Done] || !row.reasons.is_empty(), "{}", row.name);
            let fields: Vec<_> = row.always.iter().chain(row.sometimes).collect();
            assert_eq!(fields.iter().collect::<HashSet<_>>().len(), fields.len(), "{}", row.name);
        }
    }
}
