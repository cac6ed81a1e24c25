//! The names of certificates, authorities and DNS providers, and the host names that a certificate is for.

use super::{BadName, HostName, is_dns_word};
use std::fmt;
use std::sync::Arc;

const RULE: &str =
    "1–30 characters, a letter first, then lower-case letters, digits and single hyphens between them";
const PATTERN_RULE: &str = "a host name, or `*.` before one";

/// A key of a table of the configuration, formed like a [`Label`](super::Label): it stands in file names as well.
macro_rules! table_name {
    ($(#[$meta:meta])* $name:ident, $what:literal) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses the name. Exact: no folding of case, no trimming.
            ///
            /// # Errors
            /// The rule that it breaks.
            pub fn parse(text: &str) -> Result<Self, BadName> {
                if is_dns_word(text, 30) { Ok(Self(text.into())) } else { Err(BadName::new($what, text, RULE)) }
            }
            /// The name as it stands in the configuration.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        /// As a key of a map, by its text alone.
        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

table_name! {
    /// The name of a certificate in the configuration: `[certificates.NAME]`.
    CertificateName, "name of a certificate"
}
table_name! {
    /// The name of a certificate authority in the configuration: `[acme.NAME]`.
    AuthorityName, "name of an authority"
}
table_name! {
    /// The name of a DNS provider in the configuration: `[dns_providers.NAME]`.
    DnsProviderName, "name of a DNS provider"
}

/// What a certificate is for: one host, or all hosts one label below a name (RFC 9525 §6.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NamePattern {
    /// `lab.example.org`.
    Host(HostName),
    /// `*.lab.example.org`, by the name below which it stands.
    Wildcard(HostName),
}

impl NamePattern {
    /// Parses `lab.example.org` or `*.lab.example.org`; folds case.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let parsed = match text.strip_prefix("*.") {
            Some(base) => HostName::parse(base).map(Self::Wildcard),
            None => HostName::parse(text).map(Self::Host),
        };
        parsed.map_err(|_| BadName::new("name for a certificate", text, PATTERN_RULE))
    }
    /// The name, without `*.` where it begins so.
    pub fn base(&self) -> &HostName {
        match self {
            Self::Host(name) | Self::Wildcard(name) => name,
        }
    }
    /// Whether it begins with `*.`.
    pub fn is_wildcard(&self) -> bool {
        matches!(self, Self::Wildcard(_))
    }
    /// Whether a certificate for it is good for this host: the asterisk stands for one label, never for more or none.
    pub fn covers(&self, host: &str) -> bool {
        match self {
            Self::Host(name) => name.as_str() == host,
            Self::Wildcard(base) => {
                host.split_once('.').is_some_and(|(first, rest)| !first.is_empty() && rest == base.as_str())
            }
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(name) => write!(f, "{name}"),
            Self::Wildcard(base) => write!(f, "*.{base}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_asterisk_stands_for_one_label() {
        let pattern = |text: &str| NamePattern::parse(text).unwrap();
        for (name, host, covered) in [
            ("lab.test", "lab.test", true),
            ("lab.test", "alice.lab.test", false),
            ("*.lab.test", "alice.lab.test", true),
            ("*.Lab.Test", "alice.lab.test", true),
            ("*.lab.test", "lab.test", false),
            ("*.lab.test", ".lab.test", false),
            ("*.lab.test", "a.alice.lab.test", false),
            ("*.lab.test", "alice.lab.test.org", false),
        ] {
            assert_eq!(pattern(name).covers(host), covered, "{name} {host}");
        }
        for bad in ["", "*", "*.", "a.*.test", "*lab.test", "**.lab.test", "*.*.test", "a b", "lab_.test"] {
            assert!(NamePattern::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(pattern("*.lab.test").to_string(), "*.lab.test");
    }

    #[test]
    fn names_of_tables_are_fit_for_file_names() {
        assert_eq!(CertificateName::parse("site-1").unwrap().as_str(), "site-1");
        for bad in ["", "Site", "a.b", "a/b", "..", "a_b", "-a"] {
            assert!(CertificateName::parse(bad).is_err(), "{bad}");
        }
        let told = AuthorityName::parse("A").unwrap_err().to_string();
        assert!(told.starts_with("\"A\" is not a name of an authority"), "{told}");
    }
}
