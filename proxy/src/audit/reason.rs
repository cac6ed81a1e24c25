//! Why something went as it did, in stable words.

/// Why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The rules do not let them in.
    NotAdmitted,
    /// Their address may not come this way.
    AddressNotAllowed,
    /// No page of the portal sent it.
    ForeignPage,
    /// What came back is of no try that is known here.
    BadState,
    /// It came too late.
    Expired,
    /// Another browser began it, or this one has dropped the cookie.
    OtherBrowser,
    /// It was presented before.
    Replayed,
    /// The development login does not take such a name.
    BadName,
    /// The provider says no.
    ProviderRefused,
    /// The provider's answer is not to be believed.
    AnswerNotBelieved,
    /// The provider does not know this installation.
    ClientRefused,
    /// The provider gave no answer.
    ProviderUnreachable,
    /// The records could not be read or written.
    Records,
    /// The person logged out.
    Logout,
    /// The same, and was led on to the provider to log out there.
    LogoutWithProvider,
    /// The person ended all sessions of theirs.
    LogoutEverywhere,
    /// The person ended it from the list of their sessions.
    ChosenFromList,
    /// Somebody logged in as another in the same browser.
    Replaced,
    /// An admin or the operator signed the person out.
    SignOut,
    /// The provider said so to Usher.
    BackChannel,
    /// The provider said so by way of a browser.
    FrontChannel,
    /// There were too many of one user.
    TooMany,
    /// Nobody used it for too long.
    Unused,
    /// It reached its greatest age.
    TooOld,
    /// The provider answered about somebody else.
    OtherAccount,
    /// Its provider is not configured any more.
    ProviderGone,
    /// What the provider gave for it cannot be opened any more.
    TokenUnreadable,
    /// Whoever asked the provider ended over it.
    RefreshLost,
    /// The provider's token is not to be believed.
    BadToken,
    /// It does not open here.
    BadTicket,
    /// Its session has ended.
    SessionOver,
    /// Nobody of that name is there.
    Unknown,
    /// The start came to nothing; the cause says why.
    StartFailed,
    /// Somebody asked for it.
    Asked,
    /// The files are kept.
    FilesKept,
    /// The files are deleted as well.
    FilesDeleted,
    /// It could not be deleted; the cause says why.
    NotDeleted,
    /// An API token.
    ApiToken,
    /// A login of `usher login`.
    CommandLine,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 39] = [
        Self::NotAdmitted,
        Self::AddressNotAllowed,
        Self::ForeignPage,
        Self::BadState,
        Self::Expired,
        Self::OtherBrowser,
        Self::Replayed,
        Self::BadName,
        Self::ProviderRefused,
        Self::AnswerNotBelieved,
        Self::ClientRefused,
        Self::ProviderUnreachable,
        Self::Records,
        Self::Logout,
        Self::LogoutWithProvider,
        Self::LogoutEverywhere,
        Self::ChosenFromList,
        Self::Replaced,
        Self::SignOut,
        Self::BackChannel,
        Self::FrontChannel,
        Self::TooMany,
        Self::Unused,
        Self::TooOld,
        Self::OtherAccount,
        Self::ProviderGone,
        Self::TokenUnreadable,
        Self::RefreshLost,
        Self::BadToken,
        Self::BadTicket,
        Self::SessionOver,
        Self::Unknown,
        Self::StartFailed,
        Self::Asked,
        Self::FilesKept,
        Self::FilesDeleted,
        Self::NotDeleted,
        Self::ApiToken,
        Self::CommandLine,
    ];

    /// Its stable name.
    pub fn as_str(self) -> &'static str {
        self.words().0
    }

    /// What it says, in a line.
    pub fn meaning(self) -> &'static str {
        self.words().1
    }

    #[rustfmt::skip]
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::NotAdmitted => ("not_admitted", "the rules do not let them in, or give no answer"),
            Self::AddressNotAllowed => ("address_not_allowed", "the provider is not open to this address"),
            Self::ForeignPage => ("foreign_page", "no page of this portal session sent it"),
            Self::BadState => ("bad_state", "what came back is of no try that is known here"),
            Self::Expired => ("expired", "it came too late"),
            Self::OtherBrowser => ("other_browser", "another browser began it, or this one has dropped the cookie"),
            Self::Replayed => ("replayed", "it was presented before"),
            Self::BadName => ("bad_name", "the development login does not take such a name"),
            Self::ProviderRefused => ("provider_refused", "the provider says no; of a session, that it has ended"),
            Self::AnswerNotBelieved => ("answer_not_believed", "the provider's answer is not to be believed"),
            Self::ClientRefused => ("client_refused", "the provider does not know this installation"),
            Self::ProviderUnreachable => ("provider_unreachable", "the provider gave no answer; of a session, for longer than `sessions.outage_grace`"),
            Self::Records => ("records", "the records could not be read or written; it may have happened all the same"),
            Self::Logout => ("logout", "the person logged out, or `usher logout` did"),
            Self::LogoutWithProvider => ("logout_with_provider", "the same, and was led on to log out at the provider"),
            Self::LogoutEverywhere => ("logout_everywhere", "the person ended all of their sessions"),
            Self::ChosenFromList => ("chosen_from_list", "the person ended it from the list of their sessions"),
            Self::Replaced => ("replaced", "somebody logged in anew in the same browser"),
            Self::SignOut => ("sign_out", "an admin or the operator signed the person out"),
            Self::BackChannel => ("back_channel", "the provider said so to Usher"),
            Self::FrontChannel => ("front_channel", "the provider said so by way of a browser"),
            Self::TooMany => ("too_many", "more than `sessions.per_user`, or than 20 logins of `usher login`, and it was the oldest"),
            Self::Unused => ("unused", "nobody used it for `idle_after`"),
            Self::TooOld => ("too_old", "it reached its `max_age`"),
            Self::OtherAccount => ("other_account", "the provider answered about another account"),
            Self::ProviderGone => ("provider_gone", "its provider is not configured any more"),
            Self::TokenUnreadable => ("token_unreadable", "what the provider gave for it cannot be opened any more"),
            Self::RefreshLost => ("refresh_lost", "whoever asked the provider about it ended over it"),
            Self::BadToken => ("bad_token", "the token is not to be believed: a provider's logout token, or one that a program showed"),
            Self::BadTicket => ("bad_ticket", "it does not open here"),
            Self::SessionOver => ("session_over", "its session has ended"),
            Self::Unknown => ("unknown", "nobody with this label is logged in or has tokens"),
            Self::StartFailed => ("start_failed", "the field `cause` says why"),
            Self::Asked => ("asked", "somebody asked for it"),
            Self::FilesKept => ("files_kept", "its files are kept"),
            Self::FilesDeleted => ("files_deleted", "its files are deleted as well"),
            Self::NotDeleted => ("not_deleted", "the field `cause` says why"),
            Self::ApiToken => ("api_token", "an API token"),
            Self::CommandLine => ("command_line", "a login of `usher login`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_reason_has_its_own_name_and_is_used_by_an_event() {
        let names: HashSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        let used: HashSet<_> = crate::audit::ROWS.iter().flat_map(|row| row.reasons).collect();
        assert_eq!(used, Reason::ALL.iter().collect());
    }
}
