//! Why a record is not in the DNS, as an operator can act on it.

use config::{DnsProviderName, HostName};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// Why a record was not written, not taken away, or is not seen. None of them shows a secret.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// What is configured cannot be used.
    #[error("dns_providers.{provider}.{key} cannot be used: {reason}")]
    Unusable {
        /// Of which provider.
        provider: DnsProviderName,
        /// Which key of its table.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// With `_acme-challenge.` in front the host is longer than a name may be (RFC 1035 §2.3.4).
    #[error("_acme-challenge.{0} is longer than a name in the DNS may be")]
    TooLong(HostName),
    /// Nobody is known who could be asked anything.
    #[error(
        "/etc/resolv.conf names no DNS server that can be asked: {reason}; set dns_providers.{provider}.resolvers"
    )]
    NoResolver {
        /// For which provider.
        provider: DnsProviderName,
        /// What is wrong with it.
        reason: String,
    },
    /// No resolver told who is authoritative.
    #[error("no resolver of dns_providers.{provider} tells about {name}: {}", tried.join("; "))]
    Resolving {
        /// For which provider.
        provider: DnsProviderName,
        /// About which name.
        name: String,
        /// Each resolver, and what came of asking it.
        tried: Vec<String>,
    },
    /// The resolvers know of no zone that the name is in.
    #[error("{name} is in no zone that the resolvers of dns_providers.{provider} know")]
    NoZone {
        /// For which provider.
        provider: DnsProviderName,
        /// The name of the record.
        name: String,
    },
    /// None of the authoritative servers answers.
    #[error("no authoritative server of {zone} tells about {name} (dns_providers.{provider}): {}", tried.join("; "))]
    NoServer {
        /// For which provider.
        provider: DnsProviderName,
        /// The name of the record.
        name: String,
        /// The zone that it is in.
        zone: String,
        /// Each server, and what came of asking it.
        tried: Vec<String>,
    },
    /// Looking for the place of a record took too long.
    #[error("where {name} is kept was not found out within {waited:?} (dns_providers.{provider})")]
    Slow {
        /// For which provider.
        provider: DnsProviderName,
        /// The name of the record.
        name: String,
        /// How long it was tried.
        waited: Duration,
    },
    /// CNAMEs lead in a circle, or too far.
    #[error(
        "the CNAME records that begin at {name} do not end within {steps} steps (dns_providers.{provider})"
    )]
    Chain {
        /// For which provider.
        provider: DnsProviderName,
        /// Where they begin.
        name: String,
        /// How many are followed.
        steps: usize,
    },
    /// The server that takes updates does not answer.
    #[error("the server {server} of dns_providers.{provider} cannot be asked to change {name}")]
    Unreachable {
        /// Of which provider.
        provider: DnsProviderName,
        /// The server.
        server: SocketAddr,
        /// The name of the record.
        name: String,
        /// What came of it.
        source: AskError,
    },
    /// The record is in another zone than the configured one.
    #[error(
        "{name} is not in {zone}, the zone of dns_providers.{provider}; set its zone right, or leave it out"
    )]
    OutsideZone {
        /// Of which provider.
        provider: DnsProviderName,
        /// The name of the record.
        name: String,
        /// The configured zone.
        zone: String,
    },
    /// The server does not make the change.
    #[error(
        "the server {server} of dns_providers.{provider} does not change {name} in zone {zone}: {reason}"
    )]
    Refused {
        /// Of which provider.
        provider: DnsProviderName,
        /// The server.
        server: SocketAddr,
        /// The name of the record.
        name: String,
        /// The zone that was asked for.
        zone: String,
        /// The code of its answer, as the standards call it, and what to do.
        reason: String,
    },
    /// The answer of the server does not prove that it knows the key.
    #[error(
        "the answer of the server {server} of dns_providers.{provider} about {name} is not rightly signed: {reason}"
    )]
    Unproven {
        /// Of which provider.
        provider: DnsProviderName,
        /// The server.
        server: SocketAddr,
        /// The name of the record.
        name: String,
        /// What is wrong with the signature.
        reason: String,
    },
    /// The name does not lead to the acme-dns server.
    #[error("{name} {found}; dns_providers.{provider} needs the record `{name}. CNAME {wanted}`")]
    NotDelegated {
        /// Of which provider.
        provider: DnsProviderName,
        /// The name of the record.
        name: String,
        /// What it is now.
        found: String,
        /// What it must lead to.
        wanted: String,
    },
    /// The API of the provider does not answer, or not with what it is known to say.
    #[error("the API of dns_providers.{provider} at {at} fails for {name}: {reason}")]
    Api {
        /// Of which provider.
        provider: DnsProviderName,
        /// Scheme, host and port.
        at: String,
        /// The name of the record.
        name: String,
        /// What it says, or what came of asking.
        reason: String,
    },
    /// The program did not start.
    #[error("the program {program} of dns_providers.{provider} does not start for {name}")]
    NotStarted {
        /// Of which provider.
        provider: DnsProviderName,
        /// Which.
        program: String,
        /// The name of the record.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// The program says that it failed.
    #[error("the program {program} of dns_providers.{provider} failed for {name} ({status}): {output}")]
    Failed {
        /// Of which provider.
        provider: DnsProviderName,
        /// Which.
        program: String,
        /// The name of the record.
        name: String,
        /// Its exit code, or the signal that ended it.
        status: std::process::ExitStatus,
        /// The end of what it said.
        output: String,
    },
    /// The program took too long, and was killed with all that it had started.
    #[error(
        "the program {program} of dns_providers.{provider} was killed for {name} after {waited:?}: {output}"
    )]
    Killed {
        /// Of which provider.
        provider: DnsProviderName,
        /// Which.
        program: String,
        /// The name of the record.
        name: String,
        /// Its `timeout`.
        waited: Duration,
        /// The end of what it said.
        output: String,
    },
    /// Authoritative servers answer without the record, or none answers.
    #[error(
        "{name} is not at all authoritative servers of {zone} after {waited:?} (dns_providers.{provider}): {}",
        tell(lacking, silent)
    )]
    NotShown {
        /// Of which provider.
        provider: DnsProviderName,
        /// The name of the record.
        name: String,
        /// The zone that it is in.
        zone: String,
        /// The `propagation_timeout`.
        waited: Duration,
        /// The servers that answer without it.
        lacking: Box<[String]>,
        /// The servers that do not answer, and what came of asking them.
        silent: Box<[String]>,
    },
}

fn tell(lacking: &[String], silent: &[String]) -> String {
    let of = |what: &str, servers: &[String]| match servers {
        [] => None,
        some => Some(format!("{what} {}", some.join(", "))),
    };
    let told = [of("missing at", lacking), of("no answer from", silent)];
    told.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// What came of asking one DNS server.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nothing came.
    #[error("no answer within {0:?}")]
    Silent(Duration),
    /// It cannot be reached.
    #[error("{0}")]
    Unreachable(#[from] io::Error),
    /// What came is no answer to the question.
    #[error("its answer cannot be read: {0}")]
    Unreadable(String),
    /// It answers with an error.
    #[error("it answers {0}")]
    Refused(String),
    /// It is not authoritative, though the zone names it.
    #[error("it does not serve the zone")]
    Lame,
}
