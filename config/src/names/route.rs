//! The names of routes.

use super::{BadName, is_dns_word};
use std::fmt;
use std::sync::Arc;

/// The name of a route: the first part of its host name.
///
/// Formed like a [`Label`](super::Label), but a reserved one is allowed: those are kept from users so that an
/// operator can have them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteName(Arc<str>);

const RULE: &str =
    "1–30 characters, a letter first, then lower-case letters, digits and single hyphens between them";

impl RouteName {
    /// Parses a route's name. Exact: no folding of case, no trimming.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        if is_dns_word(text, 30) {
            Ok(Self(text.into()))
        } else {
            Err(BadName::new("name of a route", text, RULE))
        }
    }
    /// The name as it stands in a host name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// As a key of a map, by its text alone.
impl std::borrow::Borrow<str> for RouteName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RouteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
