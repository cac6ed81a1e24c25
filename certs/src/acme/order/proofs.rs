//! How it is shown to an authority that names are ours, and taken away again.

use super::super::NONCES;
use super::super::failure::{Failure, words};
use super::super::transport::Transport;
use super::{Attempt, VALIDATION, is_bad_nonce, unasked};
use crate::challenges::{self, Challenge, Way};
use crate::dns::DnsRecords;
use crate::state::{self, Proof};
use config::{Challenge as Asked, HostName};
use instant_acme::{
    AuthorizationState, AuthorizationStatus, ChallengeStatus, ChallengeType, Error, Identifier, Order,
    OrderStatus,
};
use std::collections::{BTreeMap, BTreeSet};

/// How many proofs of one certificate are remembered: more than twice as many as it has names.
const PROOFS_MAX: usize = 256;

/// What one challenge is answered with.
struct Wanted {
    host: HostName,
    token: String,
    answer: String,
    dns_text: String,
}

impl Attempt<'_> {
    /// Shows what the authority asks for, and waits until it has seen it.
    pub(super) async fn prove(&self, order: &mut Order) -> Result<(), Failure> {
        let wanted = self.wanted(order).await?;
        match &self.getting.source.challenge {
            Asked::Dns01(provider) => {
                let records = &self.acme.dns[&provider.name];
                self.write_records(records, &wanted).await?;
            }
            Asked::Http01 => self.answer(Way::Http, &wanted).await?,
            Asked::TlsAlpn01 => self.answer(Way::TlsAlpn, &wanted).await?,
        }
        self.still_ours().await?;
        self.have_it_looked_at(order).await?;
        self.await_validation(order).await
    }

    /// What is to be shown for each host that is not proved yet.
    async fn wanted(&self, order: &mut Order) -> Result<Vec<Wanted>, Failure> {
        let (kind, name) = self.challenge();
        for _ in 0..NONCES {
            let mut wanted = Vec::new();
            let mut again = false;
            let mut authorizations = order.authorizations();
            while let Some(authorization) = authorizations.next().await {
                let mut authorization = match authorization {
                    Ok(authorization) => authorization,
                    // Those before it are known by now.
                    Err(error) if is_bad_nonce(&error) => {
                        again = true;
                        break;
                    }
                    Err(error) => return Err(self.failed("looking at what it wants to see", error)),
                };
                if authorization.status == AuthorizationStatus::Valid {
                    continue;
                }
                // Nothing is shown for a name that is not ours to show.
                let host = self.ordered(&authorization).ok_or_else(unasked)?;
                let not_offered = || Failure::NotOffered { challenge: name, host: host.to_string() };
                let challenge = authorization.challenge(kind.clone()).ok_or_else(not_offered)?;
                let answer = challenge.key_authorization();
                wanted.push(Wanted {
                    token: challenge.token.clone(),
                    dns_text: answer.dns_value(),
                    answer: answer.as_str().to_owned(),
                    host,
                });
            }
            if !again {
                return Ok(wanted);
            }
        }
        Err(nonces_refused("looking at what it wants to see"))
    }

    /// The host that an authorization is about, if it was ordered.
    fn ordered(&self, authorization: &AuthorizationState) -> Option<HostName> {
        let Identifier::Dns(told) = authorization.identifier().identifier else { return None };
        let ordered = self.getting.unit.names.iter().map(|name| name.base());
        ordered.into_iter().find(|host| host.as_str() == told).cloned()
    }

    fn challenge(&self) -> (ChallengeType, &'static str) {
        match &self.getting.source.challenge {
            Asked::Http01 => (ChallengeType::Http01, "http-01"),
            Asked::TlsAlpn01 => (ChallengeType::TlsAlpn01, "tls-alpn-01"),
            Asked::Dns01(_) => (ChallengeType::Dns01, "dns-01"),
        }
    }

    async fn write_records(&self, records: &DnsRecords, wanted: &[Wanted]) -> Result<(), Failure> {
        let proof = |one: &Wanted| Proof::Record {
            provider: records.provider().to_string(),
            host: one.host.to_string(),
            text: one.dns_text.clone(),
        };
        self.note_proofs(wanted.iter().map(proof).collect()).await?;
        let mut texts: BTreeMap<&HostName, Vec<String>> = BTreeMap::new();
        for one in wanted {
            records.present(&one.host, &one.dns_text).await?;
            texts.entry(&one.host).or_default().push(one.dns_text.clone());
        }
        for (host, texts) in texts {
            let _seen = records.propagated(host, &texts).await?;
        }
        Ok(())
    }

    async fn answer(&self, way: Way, wanted: &[Wanted]) -> Result<(), Failure> {
        let challenges: Vec<_> =
            wanted.iter().map(|one| Challenge::new(way, &one.host, &one.token, &one.answer)).collect();
        let documents: Vec<String> = challenges.iter().map(Challenge::document).collect();
        self.note_proofs(documents.iter().cloned().map(Proof::Answer).collect()).await?;
        for (challenge, document) in challenges.iter().zip(&documents) {
            state::put(&*self.acme.store, document, &challenge.written()).await?;
        }
        challenges::all_answer(&documents, self.acme.answered.clone(), self.acme.replicas.clone()).await
    }

    /// Tells the authority to look.
    async fn have_it_looked_at(&self, order: &mut Order) -> Result<(), Failure> {
        let (kind, _) = self.challenge();
        let mut told = BTreeSet::new();
        for _ in 0..NONCES {
            let mut again = false;
            let mut authorizations = order.authorizations();
            while let Some(authorization) = authorizations.next().await {
                let mut authorization =
                    authorization.map_err(|error| self.failed("telling it to look", error))?;
                let url = authorization.url().to_owned();
                if authorization.status == AuthorizationStatus::Valid || told.contains(&url) {
                    continue;
                }
                let host = self.host(&authorization);
                let Some(mut challenge) = authorization.challenge(kind.clone()) else { continue };
                // It was told before whoever had the claim went away.
                if challenge.status != ChallengeStatus::Pending {
                    continue;
                }
                match challenge.set_ready().await {
                    Ok(()) => drop(told.insert(url)),
                    Err(error) if is_bad_nonce(&error) => again = true,
                    // It has looked at once, and its answer is what it has seen.
                    Err(Error::Api(problem)) if Transport::told().is_done() => {
                        return Err(Failure::Validation { host, told: words(&problem) });
                    }
                    Err(error) => return Err(self.failed("telling it to look", error)),
                }
            }
            if !again {
                return Ok(());
            }
        }
        Err(nonces_refused("telling it to look"))
    }

    async fn await_validation(&self, order: &mut Order) -> Result<(), Failure> {
        let status =
            self.poll(order, VALIDATION, "looking at the proofs", |status| status != OrderStatus::Pending);
        if status.await? != OrderStatus::Invalid {
            return Ok(());
        }
        let unsaid = || Failure::Validation {
            host: "one of the names".to_owned(),
            told: "it does not say why".to_owned(),
        };
        Err(self.what_was_wrong(order).await.ok().flatten().unwrap_or_else(unsaid))
    }

    /// Which host the authority was not convinced of, in its words, if it says so.
    pub(super) async fn what_was_wrong(&self, order: &mut Order) -> Result<Option<Failure>, Failure> {
        let mut authorizations = order.authorizations();
        while let Some(authorization) = authorizations.next().await {
            let mut authorization =
                authorization.map_err(|error| self.failed("looking at what it could not see", error))?;
            if persist!(async { authorization.refresh().await.map(drop) }).is_err() {
                continue;
            }
            let problem = authorization.challenges.iter().find_map(|challenge| challenge.error.as_ref());
            if let Some(problem) = problem {
                let told = words(problem);
                return Ok(Some(Failure::Validation { host: self.host(&authorization), told }));
            }
        }
        Ok(None)
    }

    /// Whose authorization it is, for people.
    fn host(&self, authorization: &AuthorizationState) -> String {
        let host = self.ordered(authorization);
        host.map_or_else(|| "one of the names".to_owned(), |host| host.to_string())
    }

    /// Writes down what is about to be shown, so that whoever goes on can take it away.
    async fn note_proofs(&self, proofs: Vec<Proof>) -> Result<(), Failure> {
        self.change(|ordered| {
            let new = proofs.iter().filter(|proof| !ordered.proofs.contains(proof)).cloned();
            let new: Vec<Proof> = new.collect();
            ordered.proofs.extend(new);
            // What could not be taken away so often never will be.
            let too_many = ordered.proofs.len().saturating_sub(PROOFS_MAX);
            ordered.proofs.drain(..too_many);
        })
        .await
    }
}

fn nonces_refused(doing: &'static str) -> Failure {
    Failure::Refused { doing, told: "badNonce, again and again".to_owned(), wait: None, is_for_later: true }
}
