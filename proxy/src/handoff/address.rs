//! Return addresses: only such as lead to a host that these listeners serve.

use crate::access::route::{self, Place};
use crate::edge::ListenerFacts;
use config::{Config, HostName};
use url::{Position, Url};

/// A page on the portal or on a workspace's host, behind the listener that the browser already uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The host.
    pub host: HostName,
    /// What it stands for.
    pub place: Place,
    /// Path and query, as the URL standard writes them.
    pub page: String,
}

impl Address {
    /// Parses an absolute address; `None` for every one that leads elsewhere.
    ///
    /// Scheme and port are those of the listener, and over plain http only `localhost` and what is below it are
    /// served: browsers keep our cookies nowhere else.
    pub fn parse(config: &Config, listener: &ListenerFacts, text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let scheme = if listener.tls { "https" } else { "http" };
        let ours = url.scheme() == scheme
            && url.port_or_known_default() == Some(listener.public_port)
            && url.username().is_empty()
            && url.password().is_none();
        let host = HostName::parse(url.host_str()?).ok()?;
        if !ours || !keeps_cookies(listener, &host) {
            return None;
        }
        let place = route::place_of(config, &host)?;
        Some(Self { host, place, page: url[Position::BeforePath..Position::AfterQuery].to_owned() })
    }

    /// A page on a host that is known to be ours; `None` if it is no path.
    pub fn on(config: &Config, listener: &ListenerFacts, host: &HostName, page: &str) -> Option<Self> {
        let address = Self::parse(config, listener, &format!("{}{page}", listener.origin(host.as_str())))?;
        (page.starts_with('/') && address.host == *host).then_some(address)
    }

    /// The address as a browser goes to it. Always with its host: a page may begin with `//`.
    pub fn url(&self, listener: &ListenerFacts) -> String {
        format!("{}{}", listener.origin(self.host.as_str()), self.page)
    }
}

/// Whether browsers keep a `Secure` cookie of this host: over plain http only on localhost names.
pub(crate) fn keeps_cookies(listener: &ListenerFacts, host: &HostName) -> bool {
    listener.tls || host.is_localhost()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    const CONFIG: &str = "domain = 'lab.localhost'\nstate_dir = '/nowhere'\nlisteners = [{ address = '127.0.0.1:8080' }]\n\
        access = { allow = 'true', template = \"'demo'\" }\n[named_workspaces.gpu]\ntemplate = \"'demo'\"\n\
        [templates.demo]\ncommand = ['demo', '{socket}']\nconnect = 'socket'\n";

    /// Addresses put together of what has led browsers and servers astray.
    fn address() -> impl Strategy<Value = String> {
        const PIECES: [&str; 44] = [
            "http://",
            "https://",
            "HTTP:",
            "http:/",
            "http:\\\\",
            "//",
            "///",
            "/",
            "\\",
            "/\\",
            "javascript:",
            "data:",
            "ftp://",
            "lab.localhost",
            "alice.lab.localhost",
            "gpu--alice.lab.localhost",
            "evil.example",
            "lab.localhost.evil.example",
            "evillab.localhost",
            "localhost",
            "127.0.0.1",
            "[::1]",
            "\u{ff4c}ab.localhost",
            "lab\u{3002}localhost",
            "%6cab.localhost",
            ":8080",
            ":8080",
            ":80",
            ":",
            "@",
            "user:pass@",
            "#",
            "?",
            "?return=http://evil.example",
            "%00",
            "%2f",
            "%5c",
            "\t",
            "\n",
            " ",
            "..",
            ".",
            "/x",
            "\u{202e}",
        ];
        let random = prop::collection::vec(any::<char>(), 0..4).prop_map(String::from_iter);
        let piece = prop_oneof![12 => prop::sample::select(&PIECES[..]).prop_map(str::to_owned), 1 => random];
        let any = prop::collection::vec(piece, 0..9).prop_map(|pieces| pieces.concat());
        let ours = any.clone().prop_map(|rest| format!("http://alice.lab.localhost:8080{rest}"));
        prop_oneof![any, ours]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn no_address_leads_away_from_the_hosts_that_are_served(text in address()) {
            static PARSED: LazyLock<Config> =
                LazyLock::new(|| Config::parse("test", CONFIG, &|_| None).unwrap_or_else(|e| panic!("{e}")));
            let listener = ListenerFacts { tls: false, public_port: 8080, loopback: true, redirects: false };
            let Some(address) = Address::parse(&PARSED, &listener, &text) else { return Ok(()) };
            // As a browser reads what stands in `Location`.
            let url = Url::parse(&address.url(&listener)).unwrap();
            let host = url.host_str().unwrap();
            prop_assert!(host == "lab.localhost" || host.ends_with(".lab.localhost"), "{}", url);
            prop_assert_eq!((url.scheme(), url.port(), url.username(), url.password()), ("http", Some(8080), "", None));
            prop_assert!(http::HeaderValue::try_from(address.url(&listener)).is_ok());
        }
    }
}
