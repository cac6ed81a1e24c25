//! `[tls]`, `[certificates.NAME]`, `[acme.NAME]` and `[dns_providers.NAME]`: what is shown in a TLS handshake, and where
//! it comes from.

use crate::names::{AuthorityName, CertificateName, DnsProviderName, HostName, NamePattern};
use crate::secret::Secret;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// `[tls]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// `min_version`: the oldest version of the protocol that is spoken.
    pub min_version: TlsVersion,
    /// `handshake_timeout`: within which a handshake must be over.
    pub handshake_timeout: Duration,
    /// `hsts_max_age`: how long browsers shall remember that every host is reached by https alone (RFC 6797 §6.1.1);
    /// zero = they are told nothing.
    pub hsts_max_age: Duration,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}

/// `[certificates.NAME]`, by name. No two are for the same name.
pub type Certificates = BTreeMap<CertificateName, Arc<DeclaredCertificate>>;

/// `[certificates.NAME]`: a certificate that shall be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredCertificate {
    /// The key of the table.
    pub name: CertificateName,
    /// `names`: what it is for; empty = whatever its file or Secret says, which are the only ones without.
    pub names: Vec<NamePattern>,
    /// `source`, with the keys that belong to it.
    pub source: CertificateSource,
}

/// `source`: where a certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// `"acme"`: an authority that speaks ACME (RFC 8555).
    Acme(AcmeSource),
    /// `"files"`: PEM files that somebody else keeps; they are watched.
    Files {
        /// `certificate`: the chain, leaf first.
        certificate: PathBuf,
        /// `private_key`: PKCS #8, PKCS #1 or SEC1.
        private_key: PathBuf,
    },
    /// `"self-signed"`: an authority of Usher's own, which nobody trusts until told to.
    SelfSigned,
    /// `"secret"`: a Secret of type `kubernetes.io/tls` in the namespace of the records; it is watched.
    Secret(String),
}

/// What a certificate by ACME takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeSource {
    /// `authorities`: who is asked, one after the other until one gives it; at least one.
    pub authorities: Vec<Arc<Authority>>,
    /// `challenge`: how Usher proves that the names are its own.
    pub challenge: Challenge,
    /// `per_host`: a certificate for each host that `names` cover and that is known, in place of one for all.
    pub per_host: Option<PerHost>,
}

/// What bounds certificates that are made for each host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PerHost {
    /// `new_per_week`: how many hosts may get their first certificate within seven days.
    pub new_per_week: usize,
}

/// `challenge` (RFC 8555 §8, RFC 8737).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Challenge {
    /// `"http-01"`: an answer on port 80.
    Http01,
    /// `"tls-alpn-01"`: a certificate on port 443.
    TlsAlpn01,
    /// `"dns-01"`: a record in the DNS; the only one by which a name with an asterisk can be had.
    Dns01(Arc<DnsProvider>),
}

/// `[acme.NAME]`: a certificate authority, and Usher's account with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// The key of the table.
    pub name: AuthorityName,
    /// `directory`: the https address of its directory (RFC 8555 §7.1.1).
    pub directory: String,
    /// `contact`: addresses such as `mailto:…` that it may write to.
    pub contact: Vec<String>,
    /// `profile`: which of its kinds of certificate; none = its default.
    pub profile: Option<String>,
    /// `external_account`: what binds Usher's account to one that the operator has with it (RFC 8555 §7.3.4).
    pub external_account: Option<ExternalAccount>,
    /// `account_key`: PEM file (PKCS #8, P-256) of the account's key; none = Usher makes and keeps one.
    pub account_key: Option<PathBuf>,
    /// `certificate_authority`: PEM file of who signs for the directory's own https; none = those of the system.
    pub certificate_authority: Option<PathBuf>,
}

/// `external_account`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalAccount {
    /// `key_id`: the account's name at the authority.
    pub key_id: String,
    /// `hmac_key`: the key that proves it, base64url.
    pub hmac_key: Secret,
}

/// `[dns_providers.NAME]`: who writes the records of `dns-01` challenges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsProvider {
    /// The key of the table.
    pub name: DnsProviderName,
    /// `kind`, with the keys that belong to it.
    pub kind: DnsProviderKind,
    /// `check_propagation`: see the record at the authoritative servers before the authority is asked to.
    pub check_propagation: bool,
    /// `propagation_timeout`: how long a record may take to get there.
    pub propagation_timeout: Duration,
    /// `resolvers`: whom to ask which servers are authoritative; empty = those of the system.
    pub resolvers: Vec<SocketAddr>,
}

/// `kind` of a DNS provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DnsProviderKind {
    /// `"rfc2136"`: dynamic updates, signed with TSIG (RFC 8945).
    Rfc2136 {
        /// `server`: the primary server.
        server: SocketAddr,
        /// `zone`: the zone that is updated; none = found by the SOA record.
        zone: Option<HostName>,
        /// `tsig`: none = unsigned.
        tsig: Option<Tsig>,
    },
    /// `"acme-dns"`: an acme-dns server, to which `_acme-challenge` of the names is a CNAME.
    AcmeDns {
        /// `url`: where its API is.
        url: String,
        /// `username` of its registration.
        username: String,
        /// `password` of its registration.
        password: Secret,
        /// `subdomain` of its registration.
        subdomain: String,
    },
    /// `"exec"`: a program of the operator.
    Exec {
        /// `command`: program and arguments; `present` or `clear`, the record's name and its text are added.
        command: Vec<String>,
        /// `timeout`: after which it is killed.
        timeout: Duration,
    },
    /// `"cloudflare"`.
    Cloudflare {
        /// `api`: where its API is.
        api: String,
        /// `token`: an API token that may read the zone and edit its DNS.
        token: Secret,
    },
}

/// `tsig`: a shared key of an RFC 2136 server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tsig {
    /// `key_name`: by which the server knows it.
    pub key_name: HostName,
    /// `secret`: base64.
    pub secret: Secret,
    /// `algorithm`.
    pub algorithm: TsigAlgorithm,
}

/// `algorithm` of a TSIG key (RFC 8945 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TsigAlgorithm {
    /// `"hmac-sha256"`.
    HmacSha256,
    /// `"hmac-sha384"`.
    HmacSha384,
    /// `"hmac-sha512"`.
    HmacSha512,
}
