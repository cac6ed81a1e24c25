//! The names that everyone uses: labels, workspace names, host names.

use std::fmt;

/// The label of a user's workspaces: the first part of their host name.
///
/// 1–30 characters, a letter first; lower-case letters, digits and single inner hyphens; never `xn-…`;
/// never a reserved name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(String);

/// The name of a further workspace of a user: `gpu` in `gpu--alice`.
///
/// 1–15 characters, a letter first; lower-case letters, digits and single inner hyphens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkspaceName(String);

/// Which workspace: a user's label, and the name for all but their first.
///
/// Displays as its host label: `alice` or `gpu--alice`. It is the key of the table and of all records.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkspaceId {
    /// Whose workspace.
    pub label: Label,
    /// Which of theirs; `None` is the first one.
    pub name: Option<WorkspaceName>,
}

/// The name of a template in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TemplateName(String);

/// A DNS name in lower case, LDH, without a trailing dot and without a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(String);

/// Why a text is not the name that it was taken for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is not a {what}: {rule}")]
pub struct BadName {
    /// What was wanted: `label`, `workspace name`, …
    pub what: &'static str,
    /// What was given, cut to 64 characters.
    pub given: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

impl Label {
    /// Parses a label. Exact: no folding of case, no trimming.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        todo!("{text}")
    }
    /// The label as it stands in a host name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl WorkspaceName {
    /// Parses a workspace name. Exact: no folding of case, no trimming.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        todo!("{text}")
    }
    /// The name as it stands in a host name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl WorkspaceId {
    /// Parses what [`fmt::Display`] prints: `alice` or `gpu--alice`.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        todo!("{text}")
    }
}
impl TemplateName {
    /// Parses a template name: 1–30 characters, a letter first, then letters, digits, `-` and `_`.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        todo!("{text}")
    }
    /// The name as it stands in the configuration.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl HostName {
    /// Parses a host name: folds case, takes one trailing dot off, refuses everything that is not LDH.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        todo!("{text}")
    }
    /// The name in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Whether browsers treat plain http on this name as a secure context: `localhost` or `*.localhost`.
    pub fn is_localhost(&self) -> bool {
        self.0 == "localhost" || self.0.ends_with(".localhost")
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for WorkspaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for TemplateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Display for WorkspaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name}--{}", self.label),
            None => write!(f, "{}", self.label),
        }
    }
}
