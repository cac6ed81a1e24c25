//! What authorities are answered with, by every replica: they ask whom their connection reaches.

use crate::acme::Failure;
use crate::document_kind::DocumentKind;
use crate::hex::hex;
use crate::resolver::{HttpChallenges, Resolver};
use crate::schedule::DAY;
use crate::state::unix;
use crate::store::{Document, Store};
use crate::told::with_causes;
use config::HostName;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use ring::digest::{SHA256, digest};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// How long all replicas may take: one that was killed is missed for five minutes.
const PATIENCE: Duration = Duration::from_mins(6);
/// A challenge that nobody took away for so long is of an order that nobody goes on with.
const STALE: Duration = DAY;
/// How many challenges are answered at a time: more than 20 authorities ask for, which have four places each, of
/// certificates with 100 names, or as many whose orders are gone on with later.
const MOST: usize = 8192;

/// How a challenge is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Way {
    /// RFC 8555 §8.3.
    #[serde(rename = "http-01")]
    Http,
    /// RFC 8737.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn,
}

/// One challenge, as it is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Challenge {
    pub(crate) way: Way,
    pub(crate) host: HostNameText,
    pub(crate) token: String,
    /// The key authorization (RFC 8555 §8.1).
    pub(crate) answer: String,
    made: u64,
}

/// A host name that was parsed when it was written.
type HostNameText = String;

impl Challenge {
    /// One that is made now.
    pub(crate) fn new(way: Way, host: &HostName, token: &str, answer: &str) -> Self {
        let made = unix(SystemTime::now());
        Self { way, host: host.to_string(), token: token.to_owned(), answer: answer.to_owned(), made }
    }

    /// The name of its document.
    pub(crate) fn document(&self) -> String {
        let hash = digest(&SHA256, self.answer.as_bytes());
        DocumentKind::Challenge.name(hex(&hash.as_ref()[..16]))
    }

    /// As it is kept.
    pub(crate) fn written(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a challenge is made of texts")
    }

    fn is_stale(&self, now: SystemTime) -> bool {
        unix(now).saturating_sub(self.made) > STALE.as_secs()
    }

    /// The certificate that shows the answer (RFC 8737 §3).
    fn certificate(&self) -> Result<CertifiedKey, rcgen::Error> {
        let mut params = CertificateParams::new(vec![self.host.clone()])?;
        params.distinguished_name = DistinguishedName::new();
        let hash = digest(&SHA256, self.answer.as_bytes());
        params.custom_extensions.push(CustomExtension::new_acme_identifier(hash.as_ref()));
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let key = any_supported_type(&key).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
        Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
    }
}

/// Whether a document is of a challenge of which nobody knows any more.
pub(crate) fn is_stale(document: &Document, now: SystemTime) -> bool {
    serde_json::from_slice::<Challenge>(&document.value).is_ok_and(|challenge| challenge.is_stale(now))
}

/// What can be answered, here and elsewhere: the names of documents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answered {
    /// By this process.
    pub(crate) here: BTreeSet<String>,
    /// By other replicas, as far as they have told.
    pub(crate) elsewhere: BTreeMap<String, BTreeSet<String>>,
}

/// A challenge, and with `tls-alpn-01` the certificate that shows its answer.
type Standing = (Challenge, Option<Arc<CertifiedKey>>);

/// What this process answers, kept by the loop.
pub(crate) struct Responder {
    resolver: Resolver,
    http: HttpChallenges,
    standing: BTreeMap<String, Standing>,
    answered: watch::Sender<Answered>,
}

impl Responder {
    pub(crate) fn new(resolver: Resolver, http: HttpChallenges) -> Self {
        Self { resolver, http, standing: BTreeMap::new(), answered: watch::channel(Answered::default()).0 }
    }

    /// Tells what can be answered, from now on.
    pub(crate) fn answered(&self) -> watch::Receiver<Answered> {
        self.answered.subscribe()
    }

    /// A challenge was put up.
    pub(crate) fn put(&mut self, document: &Document) {
        let Ok(challenge) = serde_json::from_slice::<Challenge>(&document.value) else {
            tracing::error!(document.name, "a challenge cannot be read, and is not answered");
            return;
        };
        if challenge.is_stale(SystemTime::now()) {
            return;
        }
        if self.standing.len() >= MOST {
            tracing::error!(
                document.name,
                challenges.most = MOST,
                "there are too many challenges: one is not answered"
            );
            return;
        }
        let certificate = match challenge.way {
            Way::Http => None,
            Way::TlsAlpn => match challenge.certificate() {
                Ok(certificate) => Some(Arc::new(certificate)),
                Err(error) => {
                    let error = with_causes(&error);
                    tracing::error!(challenge.host, error, "the certificate of a challenge cannot be made");
                    return;
                }
            },
        };
        self.standing.insert(document.name.clone(), (challenge, certificate));
        self.publish();
    }

    /// A challenge was taken away.
    pub(crate) fn remove(&mut self, document: &str) {
        if self.standing.remove(document).is_some() {
            self.publish();
        }
    }

    /// Another replica tells what it can answer.
    pub(crate) fn hear(&self, replica: &str, document: &Document) {
        let told = serde_json::from_slice(&document.value).unwrap_or_default();
        self.answered.send_modify(|answered| drop(answered.elsewhere.insert(replica.to_owned(), told)));
    }

    /// Another replica tells nothing any more.
    pub(crate) fn forget(&self, replica: &str) {
        self.answered.send_modify(|answered| drop(answered.elsewhere.remove(replica)));
    }

    /// Answers first, then says so.
    fn publish(&self) {
        let is_http = |(challenge, _): &&Standing| challenge.way == Way::Http;
        let answer =
            |(challenge, _): &Standing| (challenge.token.clone(), Arc::from(challenge.answer.as_str()));
        self.http.publish(self.standing.values().filter(is_http).map(answer).collect());
        self.resolver.publish_challenges(newest_of_each_host(self.standing.values()));
        self.answered.send_modify(|answered| answered.here = self.standing.keys().cloned().collect());
    }
}

/// What hosts show. What a crash has left is older than what is asked for.
fn newest_of_each_host<'a>(
    standing: impl Iterator<Item = &'a Standing>,
) -> HashMap<String, Arc<CertifiedKey>> {
    let mut standing: Vec<_> = standing.collect();
    standing.sort_by_key(|(challenge, _)| challenge.made);
    let shown = |(challenge, certificate): &Standing| Some((challenge.host.clone(), certificate.clone()?));
    standing.into_iter().filter_map(shown).collect()
}

/// Waits until every replica can answer these.
///
/// # Errors
/// [`Failure::Unanswered`], with whom it waited for.
pub(crate) async fn all_answer(
    documents: &[String],
    mut answered: watch::Receiver<Answered>,
    mut replicas: watch::Receiver<BTreeSet<String>>,
) -> Result<(), Failure> {
    let deadline = tokio::time::sleep(PATIENCE);
    tokio::pin!(deadline);
    loop {
        let missing = missing(documents, &answered.borrow_and_update(), &replicas.borrow_and_update());
        if missing.is_empty() {
            return Ok(());
        }
        tokio::select! {
            Ok(()) = answered.changed() => {}
            Ok(()) = replicas.changed() => {}
            () = &mut deadline => return Err(Failure::Unanswered(missing.join(", "))),
        }
    }
}

/// Who cannot answer all of them yet.
fn missing(documents: &[String], answered: &Answered, replicas: &BTreeSet<String>) -> Vec<String> {
    let lacks = |set: &BTreeSet<String>| documents.iter().any(|document| !set.contains(document));
    let here = lacks(&answered.here).then(|| "this one".to_owned());
    let elsewhere =
        replicas.iter().filter(|replica| answered.elsewhere.get(*replica).is_none_or(lacks)).cloned();
    here.into_iter().chain(elsewhere).collect()
}

/// Tells the other replicas what this one can answer, for as long as it is polled.
pub(crate) async fn announce(
    store: Arc<dyn Store>,
    replica: String,
    mut answered: watch::Receiver<Answered>,
) {
    const AGAIN: Duration = Duration::from_secs(1);
    let mut told = None;
    loop {
        let here = answered.borrow_and_update().here.clone();
        if told.as_ref() != Some(&here) {
            let value = serde_json::to_vec(&here).expect("a set of texts is JSON");
            if let Err(error) = crate::state::put(&*store, &DocumentKind::Seen.name(&replica), &value).await {
                let error = with_causes(&error);
                tracing::warn!(error, "the other ushers cannot be told which challenges this one answers");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            told = Some(here);
        }
        if answered.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_host_shows_what_was_asked_of_it_last_whatever_a_crash_has_left() {
        let host = HostName::parse("lab.test").unwrap();
        let standing = |answer: &str, made| {
            let challenge = Challenge { made, ..Challenge::new(Way::TlsAlpn, &host, "token", answer) };
            let certificate = challenge.certificate().unwrap();
            (challenge, Some(Arc::new(certificate)))
        };
        let (left, new) = (standing("left", 1), standing("new", 2));
        for both in [[&left, &new], [&new, &left]] {
            let shown = newest_of_each_host(both.into_iter());
            assert!(Arc::ptr_eq(&shown["lab.test"], new.1.as_ref().unwrap()));
        }
    }

    #[test]
    fn an_authority_is_asked_to_come_only_when_every_replica_can_answer() {
        let documents = ["a".to_owned(), "b".to_owned()];
        let answered = |here: &[&str], elsewhere: &[(&str, &[&str])]| Answered {
            here: set(here),
            elsewhere: elsewhere.iter().map(|(replica, names)| ((*replica).to_owned(), set(names))).collect(),
        };
        for (here, elsewhere, replicas, expected) in [
            (&["a", "b"][..], &[][..], &[][..], &[][..]),
            (&["a"], &[], &[], &["this one"]),
            (&["a", "b"], &[], &["r2"], &["r2"]),
            (&["a", "b"], &[("r2", &["a"][..])], &["r2"], &["r2"]),
            (&["a", "b"], &[("r2", &["a", "b", "c"])], &["r2"], &[]),
            // One that told and is gone.
            (&["a", "b"], &[("r3", &[])], &[], &[]),
            (&[], &[("r2", &["a", "b"])], &["r2", "r3"], &["this one", "r3"]),
        ] {
            let told = missing(&documents, &answered(here, elsewhere), &set(replicas));
            assert_eq!(told, expected, "{here:?} {elsewhere:?} {replicas:?}");
        }
    }
}
