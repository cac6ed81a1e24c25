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
