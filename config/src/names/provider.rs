//! The names of identity providers, and their issuers.

use super::{BadName, HostName, is_dns_word};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

/// The name of an identity provider in the configuration; it stands in the path `/auth/<provider>/callback`.
///
/// Formed like a [`WorkspaceName`](super::WorkspaceName).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProviderName(Arc<str>);

/// The address by which an OpenID provider calls itself: `iss` of its tokens, compared byte by byte
/// (OpenID Connect Discovery 1.0 §4.3).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Issuer(Arc<str>);

const NAME_RULE: &str =
    "1–15 characters, a letter first, then lower-case letters, digits and single hyphens between them";
const ISSUER_RULE: &str = "an https address without query and fragment, such as \"https://id.example.org/realms/lab\"; \
    http for `localhost`, names under it and loopback addresses alone";

impl ProviderName {
    /// Parses a provider's name. Exact: no folding of case, no trimming.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        if is_dns_word(text, 15) {
            Ok(Self(text.into()))
        } else {
            Err(BadName::new("name of a provider", text, NAME_RULE))
        }
    }
    /// The name as it stands in a path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Issuer {
    /// Parses an issuer. Exact: a slash at its end is part of it.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, BadName> {
        if is_issuer(text) { Ok(Self(text.into())) } else { Err(BadName::new("issuer", text, ISSUER_RULE)) }
    }
    /// The address as it stands in tokens.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_issuer(text: &str) -> bool {
    let (is_http, rest) = match text.split_once("://") {
        Some(("https", rest)) => (false, rest),
        Some(("http", rest)) => (true, rest),
        _ => return false,
    };
    let is_plain =
        |b: u8| b.is_ascii_graphic() && !matches!(b, b'?' | b'#' | b'@' | b'"' | b'<' | b'>' | b'\\');
    let authority = rest.split('/').next().unwrap_or_default();
    text.bytes().all(is_plain) && is_authority(authority, is_http)
}

/// `host`, `host:port`, `[address]:port`; with `here`, one of this machine alone.
fn is_authority(authority: &str, here: bool) -> bool {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, port)) => match port.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None => return false,
        },
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number > 0));
    let is_host = match host.parse::<IpAddr>() {
        Ok(address) => !here || address.is_loopback(),
        Err(_) => HostName::parse(host).is_ok_and(|name| !here || name.is_localhost()),
    };
    is_port && is_host
}

/// As a key of a map, by its text alone.
impl std::borrow::Borrow<str> for ProviderName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProviderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_an_https_address_and_on_this_machine_perhaps_http() {
        for good in [
            "https://id.example.org",
            "https://id.example.org/",
            "https://id.example.org:8443/realms/lab",
            "https://10.0.0.1/x",
            "https://[fd00::1]:8443",
            "http://localhost:4444",
            "http://idp.localhost:4444/realms/lab",
            "http://127.0.0.1:4444",
            "http://[::1]",
        ] {
            assert_eq!(Issuer::parse(good).map(|issuer| issuer.to_string()), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "id.example.org",
            "https://",
            "https:///x",
            "ftp://id.example.org",
            "HTTPS://id.example.org",
            "http://id.example.org",
            "http://10.0.0.1",
            "http://localhost.example.org",
            "https://id.example.org?x",
            "https://id.example.org/#x",
            "https://alice@id.example.org",
            "https://id.example.org:0",
            "https://id.example.org:99999",
            "https://id.example.org:",
            "https://[fd00::1]8443",
            "https://id example.org",
            "https://id.example.org/\u{e9}",
        ] {
            assert!(Issuer::parse(bad).is_err(), "{bad:?}");
        }
    }
}
