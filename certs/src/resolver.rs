//! Which certificate a handshake is shown: looked up in a snapshot, without a lock.

use arc_swap::ArcSwap;
use config::NamePattern;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// The protocol by which an authority asks for the certificate of a `tls-alpn-01` challenge (RFC 8737 §6.2).
pub const ACME_TLS: &[u8] = b"acme-tls/1";

/// The certificate of a handshake, by the name that the client asks for. Cheap to clone; all clones see what the loop
/// of this package publishes from the next handshake on.
///
/// A name for which there is none, and a client that names none, gets an alert: no certificate tells of others' names.
#[derive(Clone)]
pub struct Resolver {
    served: Arc<ArcSwap<Served>>,
    challenged: Arc<ArcSwap<HashMap<String, Arc<CertifiedKey>>>>,
}

/// What is served at one moment.
#[derive(Default)]
pub(crate) struct Served {
    hosts: HashMap<String, Arc<Entry>>,
    /// By the name below which the asterisk stands.
    wildcards: HashMap<String, Arc<Entry>>,
}

/// A certificate and all names that it is for.
pub(crate) struct Entry {
    key: Arc<CertifiedKey>,
    names: Vec<NamePattern>,
}

impl Served {
    /// Adds a certificate for these of its names; what was added before is served on where both are for a name.
    pub(crate) fn add(&mut self, key: Arc<CertifiedKey>, names: Vec<NamePattern>) {
        let entry = Arc::new(Entry { key, names });
        for name in &entry.names {
            let by_name = if name.is_wildcard() { &mut self.wildcards } else { &mut self.hosts };
            by_name.entry(name.base().to_string()).or_insert_with(|| entry.clone());
        }
    }

    /// That of the host itself goes before one with an asterisk.
    fn entry(&self, host: &str) -> Option<&Arc<Entry>> {
        self.hosts.get(host).or_else(|| self.wildcards.get(host.split_once('.')?.1))
    }
}

impl Resolver {
    /// One that has nothing yet.
    pub fn of_none() -> Self {
        Self { served: Arc::default(), challenged: Arc::default() }
    }

    /// One that serves a single certificate for these names and never another.
    pub fn of_one(key: Arc<CertifiedKey>, names: Vec<NamePattern>) -> Self {
        let resolver = Self::of_none();
        let mut served = Served::default();
        served.add(key, names);
        resolver.publish(served);
        resolver
    }

    /// From the next handshake on it is this.
    pub(crate) fn publish(&self, served: Served) {
        self.served.store(Arc::new(served));
    }

    /// From the next handshake on these answer `tls-alpn-01`, by host.
    pub(crate) fn publish_challenges(&self, challenged: HashMap<String, Arc<CertifiedKey>>) {
        self.challenged.store(Arc::new(challenged));
    }

    /// Whether a client that names this host is shown a certificate. The host is in lower case.
    pub fn serves(&self, host: &str) -> bool {
        self.served.load().entry(host).is_some()
    }

    /// Whether the certificate that is shown to who asks for `server_name` is good for `host`, too: then a browser may
    /// rightly use one connection for both (RFC 9113 §9.1.1). Both are in lower case.
    pub fn covers(&self, server_name: &str, host: &str) -> bool {
        let served = self.served.load();
        served.entry(server_name).is_some_and(|entry| entry.names.iter().any(|name| name.covers(host)))
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name()?;
        // The one offer, by which an authority is known (RFC 8737 §3).
        let is_challenge =
            hello.alpn().is_some_and(|mut offers| offers.next() == Some(ACME_TLS) && offers.next().is_none());
        // Clients write names in lower case, and rustls takes them as they come.
        let lower;
        let name = if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = name.to_ascii_lowercase();
            &lower
        } else {
            name
        };
        if is_challenge {
            return self.challenged.load().get(name).cloned();
        }
        self.served.load().entry(name).map(|entry| entry.key.clone())
    }
}

/// Shows how many there are, and of none what.
impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let served = self.served.load();
        write!(f, "Resolver({} hosts, {} wildcards)", served.hosts.len(), served.wildcards.len())
    }
}

/// What is answered under `/.well-known/acme-challenge/` (RFC 8555 §8.3). Cheap to clone, read without a lock.
#[derive(Debug, Clone, Default)]
pub struct HttpChallenges {
    answers: Arc<ArcSwap<HashMap<String, Arc<str>>>>,
}

impl HttpChallenges {
    /// The body of the answer for a token: the key authorization.
    pub fn answer(&self, token: &str) -> Option<Arc<str>> {
        self.answers.load().get(token).cloned()
    }

    /// These answers by token, for ever.
    pub fn of(answers: &[(&str, &str)]) -> Self {
        let challenges = Self::default();
        challenges
            .publish(answers.iter().map(|(token, answer)| ((*token).to_owned(), (*answer).into())).collect());
        challenges
    }

    /// From now on these are the answers, by token.
    pub(crate) fn publish(&self, answers: HashMap<String, Arc<str>>) {
        self.answers.store(Arc::new(answers));
    }
}
