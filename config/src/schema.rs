//! Every key of the configuration: its kind, its default, its meaning.
//!
//! The reader takes the defaults from here, so that what is documented is what is used.

mod keys;

use keys::KEYS;
use std::fmt;

/// What the documentation says of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyDoc {
    /// `templates.NAME.idle_after`; `NAME` stands for a name of the operator's choice, and a key of
    /// `[[listeners]]` is `listeners.address`.
    pub path: &'static str,
    /// What kind of value it has: `duration`, `bool`, …
    pub kind: &'static str,
    /// What it is without the key.
    pub default: KeyDefault,
    /// What it does, in a line.
    pub meaning: &'static str,
    /// Which driver it belongs to; none = to every one.
    pub driver: Option<DriverName>,
}

/// `driver`: what runs the workspaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DriverName {
    /// Processes of this machine.
    Process,
    /// Pods of a cluster.
    Kubernetes,
}

impl fmt::Display for DriverName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::Kubernetes => "kubernetes",
        })
    }
}

/// What a key is when it is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyDefault {
    /// It must be given.
    Required,
    /// A value, written in TOML.
    Value(&'static str),
    /// Something that depends on other keys, or nothing: in words.
    Otherwise(&'static str),
}

/// Where the schema tells of `{ expression = "…" }`, which many keys take in place of a text.
pub(crate) const RULE: &str = "templates.NAME.environment.NAME";

/// Every key that the configuration knows, in the order of the example files.
///
/// A key that two drivers read differently stands here once for each.
pub fn reference() -> &'static [KeyDoc] {
    KEYS
}

/// Whether a path is a key or a table of the schema.
pub(crate) fn knows(path: &str) -> bool {
    KEYS.iter()
        .any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// The driver to which a key or table belongs, if it does not belong to all.
pub(crate) fn owner(path: &str) -> Option<DriverName> {
    let below = |key: &&KeyDoc| {
        key.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    KEYS.iter().find(below).and_then(|key| key.driver)
}

/// The entries of a path: one, or one for each driver.
pub(crate) fn keys(path: &str) -> impl Iterator<Item = &'static KeyDoc> {
    KEYS.iter().filter(move |key| key.path == path)
}
