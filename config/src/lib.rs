//! What the operator asks for: TOML to a validated, immutable configuration, and the names everyone uses.

mod expression;
mod model;
mod names;
mod near;
mod secret;

pub use expression::{EvalError, Expression, RequestFacts, Subject};
pub use model::*;
pub use names::{BadName, HostName, Label, RESERVED_LABELS, TemplateName, WorkspaceId, WorkspaceName};
pub use secret::Secret;

use std::path::Path;

/// All that is wrong with a configuration, in the order of the file.
#[derive(Debug, thiserror::Error)]
#[error("{}", render(.0))]
pub struct Findings(pub Vec<Finding>);

/// One mistake: what happened, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file, as it was named.
    pub file: String,
    /// From 1; 0 when the file could not be read.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// `templates.demo.idle_after`; empty for the file as a whole.
    pub key: String,
    /// What is wrong, with the value given (redacted if secret).
    pub problem: String,
    /// What would be accepted.
    pub accepted: String,
}

fn render(_findings: &[Finding]) -> String {
    todo!()
}

impl Config {
    /// Reads, parses and validates a file; secrets come from the environment and from files it names.
    pub fn load(_file: &Path) -> Result<Self, Findings> {
        todo!()
    }
    /// Parses and validates a text. `file` is only for messages; `env` looks up environment variables.
    pub fn parse(_file: &str, _text: &str, _env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Findings> {
        todo!()
    }
}
