//! Why a quota of the configuration lets a workspace not start, in words.

use config::{Amount, QuotaName, WorkspaceId};
use std::fmt;

/// A quota that a start would go beyond.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OverQuota {
    /// Which.
    pub quota: QuotaName,
    /// Whose use it counts.
    pub scope: QuotaScope,
    /// What it counts: `workspaces`, or the name of a resource.
    pub what: String,
    /// How much of it is used.
    pub used: Amount,
    /// How much the start needs.
    pub needed: Amount,
    /// How much there is.
    pub limit: Amount,
    /// The user's own workspaces that use it.
    pub by: Vec<WorkspaceId>,
}

/// Whose use a quota counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaScope {
    /// Each user's.
    Each,
    /// That of all its users together.
    All,
}

/// For the user: what is used up, by which of theirs, and what helps.
impl fmt::Display for OverQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { quota, scope, what, used, needed, limit, by } = self;
        let whose = match scope {
            QuotaScope::Each => "you",
            QuotaScope::All => "all who share it together",
        };
        write!(
            f,
            "The quota `{quota}` allows {whose} {limit} of {what}; {used} are used, and this needs {needed} more."
        )?;
        let by: Vec<String> = by.iter().map(WorkspaceId::to_string).collect();
        match (scope, by.is_empty()) {
            (_, false) => write!(f, " Of yours these use it: {}. Stop one first.", by.join(", ")),
            (QuotaScope::All, true) => f.write_str(" None of it by you: try again when others have stopped."),
            (QuotaScope::Each, true) => f.write_str(" It is more than you may have at all."),
        }
    }
}
