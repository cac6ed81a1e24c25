//! What a token may be used for.

use std::fmt;

/// One thing that a token may be used for. Its name is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TokenScope {
    /// `workspaces:read`: which workspaces there are, and how they stand.
    WorkspacesRead,
    /// `workspaces:start`: start them, and let them run longer.
    WorkspacesStart,
    /// `workspaces:stop`: stop them.
    WorkspacesStop,
    /// `workspaces:access`: send them HTTP and WebSockets. To start one that does not run takes `workspaces:start` as well.
    WorkspacesAccess,
    /// `sessions`: where its owner is logged in, and the end of it.
    Sessions,
    /// `admin`: sign others out, if its owner may when it is used.
    Admin,
}

impl TokenScope {
    /// All of them, in the order in which people are shown them.
    pub const ALL: [Self; 6] = [
        Self::WorkspacesRead,
        Self::WorkspacesStart,
        Self::WorkspacesStop,
        Self::WorkspacesAccess,
        Self::Sessions,
        Self::Admin,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WorkspacesRead => "workspaces:read",
            Self::WorkspacesStart => "workspaces:start",
            Self::WorkspacesStop => "workspaces:stop",
            Self::WorkspacesAccess => "workspaces:access",
            Self::Sessions => "sessions",
            Self::Admin => "admin",
        }
    }

    /// What it lets a token do, in words for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::WorkspacesRead => "see your workspaces and how they stand",
            Self::WorkspacesStart => "start them, and let them run longer",
            Self::WorkspacesStop => "stop them",
            Self::WorkspacesAccess => "use what runs in them",
            Self::Sessions => "see where you are logged in, and log you out there",
            Self::Admin => "sign others out, if you may",
        }
    }

    /// Parses a name. Exact.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

/// A set of [`TokenScope`]s. Its text has their names, one space between them (RFC 6749 §3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct TokenScopes(u8);

impl TokenScopes {
    /// Whether it has one.
    pub fn has(self, scope: TokenScope) -> bool {
        self.0 & bit(scope) != 0
    }
    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// Those that it has.
    pub fn iter(self) -> impl Iterator<Item = TokenScope> {
        TokenScope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }
    /// Parses names with spaces between them; none if one is unknown.
    pub fn parse(text: &str) -> Option<Self> {
        text.split_ascii_whitespace().map(TokenScope::parse).collect()
    }
}

impl FromIterator<TokenScope> for TokenScopes {
    fn from_iter<I: IntoIterator<Item = TokenScope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |set, scope| set | bit(scope)))
    }
}

impl fmt::Display for TokenScopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iter().map(TokenScope::as_str).collect::<Vec<_>>().join(" "))
    }
}

fn bit(scope: TokenScope) -> u8 {
    1 << scope as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_its_text_names_and_nothing_else() {
        let set = TokenScopes::parse("admin  workspaces:read").unwrap();
        assert_eq!(set.to_string(), "workspaces:read admin");
        let has = |scope| set.has(scope);
        assert!(has(TokenScope::Admin) && has(TokenScope::WorkspacesRead) && !has(TokenScope::Sessions));
        assert_eq!(TokenScopes::parse(""), Some(TokenScopes::default()));
        assert!(TokenScopes::default().is_empty());
        for unknown in ["workspaces", "Admin", "admin,sessions", "workspaces:delete"] {
            assert_eq!(TokenScopes::parse(unknown), None, "{unknown}");
        }
        for scope in TokenScope::ALL {
            assert_eq!(TokenScope::parse(scope.as_str()), Some(scope));
        }
    }
}
