//! The records of `dns-01` challenges (RFC 8555 §8.4): written by a provider, and seen at the authoritative servers.

mod acme_dns;
mod ask;
mod cloudflare;
mod error;
mod exec;
mod http;
mod lookup;
mod propagation;
mod resolv_conf;
mod rfc2136;

pub use error::{AskError, DnsError};
pub use propagation::Propagation;

use acme_dns::AcmeDns;
use cloudflare::Cloudflare;
use config::{DnsProvider, DnsProviderKind, DnsProviderName, HostName};
use exec::Program;
use hickory_proto::rr::Name;
use lookup::{Lookup, told};
use rfc2136::Updates;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long a record may be remembered, in seconds: it is there for minutes, and the next one must be seen. The least
/// that every provider takes.
const TTL: u32 = 60;
/// Where the world's authoritative servers listen (RFC 1035 §4.2).
const PORT: u16 = 53;
/// How long it may take to find out where a record is to be written: a few zones with some dead servers each.
const FIND_TIMEOUT: Duration = Duration::from_secs(30);

/// Who writes the records of one `[dns_providers.NAME]`, and where they must be seen.
pub struct DnsRecords {
    provider: Arc<DnsProvider>,
    lookup: Lookup,
    writer: Writer,
}

enum Writer {
    Rfc2136(Updates),
    AcmeDns(AcmeDns),
    Exec(Program),
    Cloudflare(Cloudflare),
}

/// What is to become of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Present,
    Clear,
}

impl Change {
    /// As a program is told.
    fn word(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Clear => "clear",
        }
    }
}

impl DnsRecords {
    /// Nothing is asked yet.
    ///
    /// # Errors
    /// [`DnsError::Unusable`]: of an address, a key or a secret.
    pub fn new(provider: Arc<DnsProvider>) -> Result<Self, DnsError> {
        Self::with_port(provider, PORT)
    }

    /// The same, with authoritative servers at another port: for proofs on one machine, where 53 is not to be had.
    ///
    /// # Errors
    /// As those of [`DnsRecords::new`].
    pub fn with_port(provider: Arc<DnsProvider>, port: u16) -> Result<Self, DnsError> {
        let name = provider.name.clone();
        let lookup = Lookup::new(name.clone(), provider.resolvers.clone(), port);
        let writer = match &provider.kind {
            DnsProviderKind::Rfc2136 { server, zone, tsig } => {
                Writer::Rfc2136(Updates::new(name, *server, zone.as_ref(), tsig.as_ref())?)
            }
            DnsProviderKind::AcmeDns { url, username, password, subdomain } => {
                Writer::AcmeDns(AcmeDns::new(name, url, username, password, subdomain)?)
            }
            DnsProviderKind::Exec { command, timeout } => {
                Writer::Exec(Program::new(name, command, *timeout)?)
            }
            DnsProviderKind::Cloudflare { api, token } => {
                Writer::Cloudflare(Cloudflare::new(name, api, token)?)
            }
        };
        Ok(Self { provider, lookup, writer })
    }

    /// Whose they are: `[dns_providers.NAME]`.
    pub(crate) fn provider(&self) -> &DnsProviderName {
        &self.provider.name
    }

    /// Adds a TXT record with this text at `_acme-challenge.<host>`, beside those that are there: a name and its
    /// wildcard are validated by two texts of one name. Adding one that is there is fine.
    ///
    /// Where that name is a CNAME, RFC 2136 and Cloudflare write where it leads; acme-dns wants it to be one that leads to
    /// its server (seen to if `check_propagation` is on); a program is told the name as it is.
    ///
    /// When this is dropped, whether the record is there is unknown: [`DnsRecords::clear`] it.
    ///
    /// # Errors
    /// The record is not there, or nobody says that it is.
    pub async fn present(&self, host: &HostName, text: &str) -> Result<(), DnsError> {
        self.change(host, text, Change::Present).await
    }

    /// Takes the record with this text away, and leaves others of that name. One that is not there is fine. acme-dns
    /// keeps the last two texts by itself, so nothing is done there.
    ///
    /// # Errors
    /// The record is still there, or nobody says that it is not.
    pub async fn clear(&self, host: &HostName, text: &str) -> Result<(), DnsError> {
        self.change(host, text, Change::Clear).await
    }

    /// Waits until every authoritative server of the name shows all these texts, at most `propagation_timeout`; at once
    /// where `check_propagation` is off. CNAMEs are followed. Servers that do not answer until then are passed over,
    /// logged and told, if all others show the texts: why stands in the module `propagation`.
    ///
    /// # Errors
    /// A server answers without the texts, or none answers, until the timeout.
    pub async fn propagated(&self, host: &HostName, texts: &[String]) -> Result<Propagation, DnsError> {
        if !self.provider.check_propagation {
            return Ok(Propagation::default());
        }
        let within = self.provider.propagation_timeout;
        propagation::wait(&self.provider.name, &self.lookup, &record(host)?, texts, within).await
    }

    async fn change(&self, host: &HostName, text: &str, change: Change) -> Result<(), DnsError> {
        let name = record(host)?;
        match (&self.writer, change) {
            (Writer::Rfc2136(updates), _) => updates.change(&self.lookup, &name, text, change).await,
            (Writer::Cloudflare(cloudflare), _) => cloudflare.change(&self.lookup, &name, text, change).await,
            (Writer::Exec(program), _) => program.run(change, &told(&name), text).await,
            (Writer::AcmeDns(server), Change::Present) => {
                let lookup = self.provider.check_propagation.then_some(&self.lookup);
                server.present(lookup, &name, text).await
            }
            (Writer::AcmeDns(_), Change::Clear) => Ok(()),
        }
    }
}

/// Shows whose it is, and nothing that is secret.
impl fmt::Debug for DnsRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DnsRecords({})", self.provider.name)
    }
}

/// The name of the record for a host.
fn record(host: &HostName) -> Result<Name, DnsError> {
    Name::from_ascii(format!("_acme-challenge.{host}.")).map_err(|_| DnsError::TooLong(host.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_whose_record_has_no_name_is_told() {
        let host = |text: &str| HostName::parse(text).unwrap();
        assert_eq!(told(&record(&host("lab.test")).unwrap()), "_acme-challenge.lab.test");
        let label = "a".repeat(60);
        let error = record(&host(&[&*label, &label, &label, &label].join("."))).unwrap_err();
        assert!(error.to_string().ends_with("is longer than a name in the DNS may be"), "{error}");
    }
}
