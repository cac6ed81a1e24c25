//! What is wrong with a configuration, told like a compiler does.

use std::fmt;

/// All that is wrong with a configuration, in the order of the file.
///
/// Displays one finding per line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", render(.0))]
pub struct Findings(pub Vec<Finding>);

/// One mistake: what happened, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file, as it was named.
    pub file: String,
    /// From 1; 0 when the file could not be read.
    pub line: usize,
    /// In characters, from 1; 0 when the file could not be read.
    pub column: usize,
    /// `templates.demo.idle_after`; empty for the file as a whole.
    pub key: String,
    /// What is wrong, with the value given (redacted if secret).
    pub problem: String,
    /// What would be accepted.
    pub accepted: String,
}

impl Finding {
    /// A finding about the file as a whole.
    pub(crate) fn of_file(file: &str, problem: String, accepted: &str) -> Self {
        let (file, accepted) = (file.to_owned(), accepted.to_owned());
        Self { file, line: 0, column: 0, key: String::new(), problem, accepted }
    }
}

/// `usher.toml:12:3: templates.demo.idle_afer: unknown key; did you mean idle_after? (accepted: …)`
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.problem)?;
        if !self.accepted.is_empty() {
            write!(f, " (accepted: {})", self.accepted)?;
        }
        Ok(())
    }
}

fn render(findings: &[Finding]) -> String {
    findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_like_a_compilers() {
        let in_file = Finding {
            file: "usher.toml".to_owned(),
            line: 12,
            column: 3,
            key: "templates.demo.idle_afer".to_owned(),
            problem: "unknown key; did you mean `idle_after`?".to_owned(),
            accepted: "`command`".to_owned(),
        };
        let whole = Finding::of_file("x.toml", "cannot be read".to_owned(), "");
        assert_eq!(
            Findings(vec![in_file, whole]).to_string(),
            "usher.toml:12:3: templates.demo.idle_afer: unknown key; did you mean `idle_after`? \
             (accepted: `command`)\nx.toml: cannot be read"
        );
    }
}
