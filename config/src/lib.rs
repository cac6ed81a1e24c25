//! What the operator asks for: TOML to a validated, immutable configuration, and the names everyone uses.

mod amount;
mod expression;
mod finding;
mod layout;
mod model;
mod names;
mod near;
mod network;
mod places;
mod reader;
mod schema;
mod secret;
mod token_scope;
mod values;

pub use amount::Amount;
pub use expression::{Answer, EvalError, Expression, RequestFacts, Subject};
pub use finding::{Finding, Findings};
pub use layout::PLACEHOLDERS;
pub use model::*;
pub use names::{
    AuthorityName, BadName, CertificateName, DnsProviderName, HostName, Issuer, Label, NamePattern,
    ProviderName, QuotaName, RESERVED_LABELS, RouteName, TemplateName, WorkspaceId, WorkspaceName,
};
pub use network::{AddressLists, Network};
pub use places::{KeyFinding, KeyPath};
pub use schema::{DriverName, KeyDefault, KeyDoc, reference};
pub use secret::Secret;
pub use token_scope::{TokenScope, TokenScopes};
pub use values::{BadValue, Rule, Text, Values};

use std::fs::File;
use std::io::Read;
use std::path::Path;

impl Config {
    /// Reads, parses and validates a file; secrets come from the environment and from files it names.
    ///
    /// # Errors
    /// All mistakes of the file; or the one that it cannot be read.
    pub fn load(file: &Path) -> Result<Self, Findings> {
        let name = file.display().to_string();
        let text = read(file).map_err(|error| {
            let problem = format!("the configuration cannot be read: {error}");
            let accepted = "a TOML file that usher may read; name it with --config FILE, and begin with a copy of \
                usher.example.toml";
            Findings(vec![Finding::of_file(&name, problem, accepted)])
        })?;
        Self::parse(&name, &text, &|variable| std::env::var(variable).ok())
    }
    /// Parses and validates a text. `file` is only for messages; `env` looks up environment variables.
    ///
    /// # Errors
    /// All mistakes of the text.
    pub fn parse(file: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, Findings> {
        layout::parse(file, text, env)
    }
    /// What another package found wrong with this configuration, told like everything that is wrong with it.
    ///
    /// # Errors
    /// The findings, if there are any.
    pub fn judge(&self, found: Vec<KeyFinding>) -> Result<(), Findings> {
        let mut findings: Vec<Finding> =
            found.into_iter().map(|finding| self.places.locate(finding)).collect();
        findings.sort_by(|a, b| (a.line, a.column, &a.key).cmp(&(b.line, b.column, &b.key)));
        if findings.is_empty() { Ok(()) } else { Err(Findings(findings)) }
    }

    /// Where a key's value stands, as `file:line:column`: for what is found wrong with it at run time.
    pub fn place(&self, key: &str) -> String {
        self.places.of(key)
    }
}

/// Reads a little more than a configuration may have: enough to see that it is too long.
fn read(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(file)?.take(reader::FILE_MAX as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}
