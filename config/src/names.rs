//! The names that everyone uses: labels, workspace names, host names.

mod certificates;
mod provider;
mod reserved;
mod route;

pub use certificates::{AuthorityName, CertificateName, DnsProviderName, NamePattern};
pub use provider::{Issuer, ProviderName};
pub use reserved::RESERVED_LABELS;
pub use route::RouteName;

use std::fmt;
use std::sync::Arc;

/// The label of a user's workspaces: the first part of their host name.
///
/// 1–30 characters, a letter first; lower-case letters, digits and single inner hyphens; never `xn-…`;
/// never a reserved name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(Arc<str>);

/// The name of a further workspace of a user: `gpu` in `gpu--alice`.
///
/// 1–15 characters, a letter first; lower-case letters, digits and single inner hyphens.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkspaceName(Arc<str>);

/// Which workspace: one of a user's, or what a route leads to, which is like a workspace that many share.
///
/// It is the key of the table and of all records. A route's is never a user's, whatever labels users have: it
/// displays as `route:docs`, a user's as its host label, `alice` or `gpu--alice`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum WorkspaceId {
    /// A user's.
    Own {
        /// Whose workspace.
        label: Label,
        /// Which of theirs; `None` is the first one.
        name: Option<WorkspaceName>,
    },
    /// What this route leads to.
    Route(RouteName),
}

/// What the id of a route begins with: a colon stands in no label.
const ROUTE: &str = "route:";

/// The name of a template in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TemplateName(String);

/// The name of a quota in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QuotaName(Arc<str>);

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

/// How much of a refused text a [`BadName`] keeps.
const GIVEN_MAX: usize = 64;

const LABEL_RULE: &str =
    "1–30 characters, a letter first, then lower-case letters, digits and single hyphens between them";
const WORKSPACE_NAME_RULE: &str =
    "1–15 characters, a letter first, then lower-case letters, digits and single hyphens between them";
const WORD_RULE: &str = "1–30 characters, a letter first, then letters, digits, `-` and `_`";
const HOST_NAME_RULE: &str =
    "1–253 characters; parts of 1–63 letters, digits and inner hyphens, separated by single dots";

impl Label {
    /// Parses a label. Exact: no folding of case, no trimming.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let refuse = |rule| Err(BadName::new("label", text, rule));
        if !is_dns_word(text, 30) {
            return refuse(LABEL_RULE);
        }
        if Self::is_reserved(text) {
            return refuse("it is reserved");
        }
        Ok(Self(text.into()))
    }
    /// The label as it stands in a host name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// Whether a text is one of [`RESERVED_LABELS`].
    pub fn is_reserved(text: &str) -> bool {
        RESERVED_LABELS.binary_search(&text).is_ok()
    }
}
impl WorkspaceName {
    /// Parses a workspace name. Exact: no folding of case, no trimming.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let refuse = |rule| Err(BadName::new("workspace name", text, rule));
        if !is_dns_word(text, 15) {
            return refuse(WORKSPACE_NAME_RULE);
        }
        if text == "xn" {
            // `xn--alice` would be read as an internationalised name.
            return refuse("`xn--` begins an internationalised name");
        }
        Ok(Self(text.into()))
    }
    /// The name as it stands in a host name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl WorkspaceId {
    /// Parses what [`fmt::Display`] prints: `alice`, `gpu--alice` or `route:docs`.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        if let Some(route) = text.strip_prefix(ROUTE) {
            return Ok(Self::Route(RouteName::parse(route)?));
        }
        match text.split_once("--") {
            Some((name, label)) => {
                Ok(Self::Own { label: Label::parse(label)?, name: Some(WorkspaceName::parse(name)?) })
            }
            None => Ok(Self::Own { label: Label::parse(text)?, name: None }),
        }
    }
    /// The label of the user whose it is; a route's is nobody's.
    pub fn label(&self) -> Option<&Label> {
        match self {
            Self::Own { label, .. } => Some(label),
            Self::Route(_) => None,
        }
    }
    /// Which of its user's; `None` is the first one, or a route's.
    pub fn name(&self) -> Option<&WorkspaceName> {
        match self {
            Self::Own { name, .. } => name.as_ref(),
            Self::Route(_) => None,
        }
    }
    /// The route that leads to it, if one does.
    pub fn route(&self) -> Option<&RouteName> {
        match self {
            Self::Own { .. } => None,
            Self::Route(route) => Some(route),
        }
    }
    /// The host under which it is seen: `gpu--alice.lab.example.org`, `docs.lab.example.org`.
    pub fn host(&self, domain: &str) -> String {
        match self {
            Self::Own { .. } => format!("{self}.{domain}"),
            Self::Route(route) => format!("{route}.{domain}"),
        }
    }
}
impl TemplateName {
    /// Parses a template name: 1–30 characters, a letter first, then letters, digits, `-` and `_`.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        is_word(text)
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| BadName::new("template name", text, WORD_RULE))
    }
    /// The name of what a route leads to: no template of the configuration has a colon in its name.
    pub(crate) fn of_route(route: &RouteName) -> Self {
        Self(format!("{ROUTE}{route}"))
    }
    /// The table of the configuration that says it: `templates.demo`, `routes.docs`.
    pub fn table(&self) -> String {
        match self.0.strip_prefix(ROUTE) {
            Some(route) => format!("routes.{route}"),
            None => format!("templates.{}", self.0),
        }
    }
    /// The name as it stands in the configuration.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl QuotaName {
    /// Parses the name of a quota: as that of a template.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        is_word(text)
            .then(|| Self(text.into()))
            .ok_or_else(|| BadName::new("name of a quota", text, WORD_RULE))
    }
    /// The name as it stands in the configuration.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl HostName {
    /// Parses a host name: folds case, takes one trailing dot off, refuses everything that is not LDH.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        let bare = text.strip_suffix('.').unwrap_or(text);
        if !(1..=253).contains(&bare.len()) || !bare.split('.').all(is_ldh) {
            return Err(BadName::new("host name", text, HOST_NAME_RULE));
        }
        Ok(Self(bare.to_ascii_lowercase()))
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

impl BadName {
    fn new(what: &'static str, given: &str, rule: &'static str) -> Self {
        Self { what, given: given.chars().take(GIVEN_MAX).collect(), rule }
    }
}

/// A letter, then letters, digits, `-` and `_`.
fn is_word(text: &str) -> bool {
    (1..=30).contains(&text.len())
        && text.as_bytes()[0].is_ascii_alphabetic()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// A lower-case letter, then letters, digits and single inner hyphens. So `xn--…` is none.
fn is_dns_word(text: &str, longest: usize) -> bool {
    (1..=longest).contains(&text.len())
        && text.as_bytes()[0].is_ascii_lowercase()
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.ends_with('-')
        && !text.contains("--")
}

/// One part of a host name (RFC 1123 §2.1): letters, digits, inner hyphens.
fn is_ldh(part: &str) -> bool {
    (1..=63).contains(&part.len())
        && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && !part.starts_with('-')
        && !part.ends_with('-')
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
impl fmt::Display for QuotaName {
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
        match self {
            Self::Own { label, name: Some(name) } => write!(f, "{name}--{label}"),
            Self::Own { label, name: None } => write!(f, "{label}"),
            Self::Route(route) => write!(f, "{ROUTE}{route}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_reserved_labels_are_in_order() {
        assert!(RESERVED_LABELS.is_sorted());
    }

    #[test]
    fn a_label_keeps_the_rules_of_host_names() {
        for good in ["a", "alice", "a1", "a-b-c", "a23456789-123456789-123456789x"] {
            assert_eq!(Label::parse(good).map(|l| l.to_string()), Ok(good.to_owned()));
        }
        let too_long = "a".repeat(31);
        for bad in [
            "",
            "1a",
            "-a",
            "a-",
            "a--b",
            "xn--a",
            "xn--80ak6aa92e",
            "Alice",
            "a.b",
            "a_b",
            "a b",
            "é",
            "a\n",
            "a\0",
            " a",
            &too_long,
        ] {
            assert!(Label::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_reserved_name_is_nobodys_label() {
        for name in ["www", "api", "admin", "auth", "_acme-challenge", "wpad", "autodiscover", "localhost"] {
            assert!(Label::is_reserved(name), "{name}");
            assert!(Label::parse(name).is_err(), "{name}");
        }
        assert_eq!(Label::parse("www").unwrap_err().to_string(), "\"www\" is not a label: it is reserved");
    }

    #[test]
    fn a_workspace_name_has_at_most_fifteen_characters_and_never_makes_an_international_name() {
        for good in ["g", "gpu", "my-gpu-2", "a23456789-12345"] {
            assert_eq!(WorkspaceName::parse(good).map(|n| n.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "xn", "8888", "a23456789-123456", "GPU", "a--b", "a-"] {
            assert!(WorkspaceName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_workspace_id_is_a_label_with_or_without_a_name() {
        let parsed = |text: &str| {
            WorkspaceId::parse(text)
                .map(|id| (id.name().map(|n| n.to_string()), id.label().map(|l| l.to_string())))
        };
        assert_eq!(parsed("alice"), Ok((None, Some("alice".into()))));
        assert_eq!(parsed("my-gpu--al-ice"), Ok((Some("my-gpu".into()), Some("al-ice".into()))));
        for bad in [
            "",
            "--alice",
            "gpu--",
            "a--b--c",
            "a---b",
            "xn--alice",
            "8888--alice",
            "gpu--www",
            "a-b--",
            "route:",
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_routes_id_is_never_a_users_whatever_its_name() {
        let (route, user) =
            (WorkspaceId::parse("route:docs-2").unwrap(), WorkspaceId::parse("docs-2").unwrap());
        assert_ne!(route, user);
        assert_eq!((route.label(), route.name()), (None, None));
        assert_eq!(route.route().map(RouteName::as_str), Some("docs-2"));
        assert_eq!(route.to_string(), "route:docs-2");
        assert_eq!(route.host("lab.test"), user.host("lab.test"));
        // An operator may take what no user is given.
        assert!(WorkspaceId::parse("route:www").is_ok());
        for bad in
            ["route:", "route:a--b", "route:gpu--alice", "route:1a", "route:A", "route:route:a", "Route:a"]
        {
            assert!(WorkspaceId::parse(bad).is_err(), "{bad}");
        }
        let template = TemplateName::of_route(route.route().unwrap());
        assert!(TemplateName::parse(template.as_str()).is_err(), "{template}");
        assert_eq!(template.table(), "routes.docs-2");
    }

    #[test]
    fn a_template_name_may_have_underscores_and_capitals() {
        for good in ["a", "demo", "Jupyter_Lab-4"] {
            assert_eq!(TemplateName::parse(good).map(|n| n.to_string()), Ok(good.to_owned()));
        }
        let too_long = "a".repeat(31);
        for bad in ["", "1a", "_a", "a b", "a.b", "é", &too_long] {
            assert!(TemplateName::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_host_name_is_folded_and_loses_one_dot() {
        let parsed = |text: &str| HostName::parse(text).map(|h| h.0);
        assert_eq!(parsed("Lab.Example.ORG."), Ok("lab.example.org".into()));
        assert_eq!(parsed("localhost"), Ok("localhost".into()));
        let (part, long) = ("a".repeat(64), "a.".repeat(128));
        for bad in [
            "", ".", "..", "a..b", "a.b..", "-a.b", "a-.b", "a_b", "a:80", "a/b", "é.org", "[::1]", &part,
            &long,
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_refused_text_is_cut() {
        assert_eq!(Label::parse(&"é".repeat(1000)).unwrap_err().given.chars().count(), GIVEN_MAX);
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in any::<String>()) {
            let _ = (Label::parse(&text), WorkspaceName::parse(&text), WorkspaceId::parse(&text));
            let _ = (TemplateName::parse(&text), HostName::parse(&text));
        }

        #[test]
        fn what_parses_displays_as_it_was_written(text in "[a-z0-9-]{0,50}") {
            if let Ok(id) = WorkspaceId::parse(&text) {
                prop_assert_eq!(id.to_string(), text.clone());
                prop_assert!(HostName::parse(&text).is_ok());
            }
            if let Ok(label) = Label::parse(&text) {
                prop_assert_eq!(label.to_string(), text.clone());
            }
            if let Ok(name) = WorkspaceName::parse(&text) {
                prop_assert_eq!(name.to_string(), text);
            }
        }

        #[test]
        fn a_name_and_a_label_make_an_id_that_parses_back(
            name in "[a-z][a-z0-9]{0,6}(-[a-z0-9]{1,7})?", label in "[a-z][a-z0-9]{0,9}(-[a-z0-9]{1,9}){0,2}",
        ) {
            if let (Ok(name), Ok(label)) = (WorkspaceName::parse(&name), Label::parse(&label)) {
                let id = WorkspaceId::Own { label, name: Some(name) };
                prop_assert_eq!(WorkspaceId::parse(&id.to_string()), Ok(id));
            }
        }
    }
}
