//! One order.

mod proofs;

use super::account::{Accounts, Opened};
use super::failure::{Failure, is_for_later, is_of_type, words};
use super::transport::{Transport, talk};
use crate::certificate::{Certificate, Unfit};
use crate::challenges::Answered;
use crate::dns::DnsRecords;
use crate::metrics::{Metrics, OrderResult};
use crate::state::{self, Claim};
use crate::store::Store;
use crate::units::Unit;
use config::{AcmeSource, Authority, DnsProviderName, NamePattern};
use instant_acme::{CertificateIdentifier, Error, Identifier, NewOrder, Order, OrderStatus};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// How long an order may take in all, slow answers and slow DNS included.
const ATTEMPT: Duration = Duration::from_hours(1);
/// How long an authority may take to look at a proof, and then to sign.
const VALIDATION: Duration = Duration::from_mins(3);
const SIGNING: Duration = Duration::from_mins(3);
/// Between two looks at an order.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(5);

/// What all orders work with.
pub(crate) struct Desk {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) accounts: Accounts,
    pub(crate) dns: BTreeMap<DnsProviderName, DnsRecords>,
    pub(crate) answered: watch::Receiver<Answered>,
    pub(crate) replicas: watch::Receiver<BTreeSet<String>>,
    pub(crate) metrics: Metrics,
}

impl Desk {
    /// Gets a certificate from an authority; one that was being got by somebody who is gone is gone on with. `replaces`
    /// is the certificate before it, if this authority gave it.
    pub(crate) async fn obtain(
        &self,
        unit: &Unit,
        source: &AcmeSource,
        authority: &Authority,
        replaces: Option<&Certificate>,
    ) -> Result<Certificate, Failure> {
        let claim = self.claim(unit, authority).await?;
        let attempt = Attempt { desk: self, unit, source, authority, claim };
        let got = tokio::time::timeout(ATTEMPT, talk(attempt.run(replaces))).await;
        let got = got.unwrap_or(Err(Failure::Late { doing: "all of an order", within: ATTEMPT }));
        // Whatever came of it; what is left over is in the claim, and the next attempt takes it away.
        let cleared = attempt.take_proofs_away().await;
        let certificate = got?;
        cleared.unwrap_or_else(
            |error| tracing::warn!(certificate.id = unit.id, %error, "a proof was left over"),
        );
        Ok(certificate)
    }

    /// When the authority wants a certificate renewed (RFC 9773), and when to ask again; none = it has no wish.
    pub(crate) async fn window(
        &self,
        authority: &Authority,
        certificate: &Certificate,
    ) -> Result<Option<((u64, u64), Duration)>, Failure> {
        let Some(identifier) = identifier(certificate) else { return Ok(None) };
        talk(self.ask_window(authority, &identifier)).await
    }

    async fn ask_window(
        &self,
        authority: &Authority,
        identifier: &CertificateIdentifier<'_>,
    ) -> Result<Option<((u64, u64), Duration)>, Failure> {
        let Opened { account } = self.accounts.open(authority).await?;
        match account.renewal_info(identifier).await {
            Ok((info, again)) => {
                let unix = |at: i64| u64::try_from(at).unwrap_or_default();
                let window = info.suggested_window;
                Ok(Some(((unix(window.start.unix_timestamp()), unix(window.end.unix_timestamp())), again)))
            }
            Err(Error::Unsupported(_)) => Ok(None),
            Err(error) => Err(Failure::of("asking when to renew", error, Transport::told())),
        }
    }

    /// Takes the unit's claim, so that whoever had it stops; with the order that it was for, if this authority's.
    async fn claim(&self, unit: &Unit, authority: &Authority) -> Result<Claim, Failure> {
        let id = fresh_id();
        let names: Vec<String> = unit.names.iter().map(NamePattern::to_string).collect();
        let key = KeyPair::generate()
            .map_err(|_| Failure::Account("no key can be made".to_owned()))?
            .serialize_pem();
        let taken = state::change(&*self.store, &unit.id, |state| {
            let before = state.claim.take();
            let is_the_same = |before: &Claim| {
                before.order.is_some() && before.authority == authority.name.as_str() && before.names == names
            };
            let claim = match before {
                Some(before) if is_the_same(&before) => Claim { id: id.clone(), ..before },
                // What was shown for another's order is still to be taken away.
                other => Claim {
                    id: id.clone(),
                    authority: authority.name.to_string(),
                    order: None,
                    names: names.clone(),
                    key: key.clone(),
                    proofs: other.map(|other| other.proofs).unwrap_or_default(),
                },
            };
            state.claim = Some(claim.clone());
            claim
        });
        Ok(taken.await?)
    }
}

/// One try at one authority.
struct Attempt<'a> {
    desk: &'a Desk,
    unit: &'a Unit,
    source: &'a AcmeSource,
    authority: &'a Authority,
    /// As it was taken.
    claim: Claim,
}

impl Attempt<'_> {
    async fn run(&self, replaces: Option<&Certificate>) -> Result<Certificate, Failure> {
        // Of an order that is gone on with they stay: the authority may be looking at them at this moment.
        if self.claim.order.is_none()
            && let Err(error) = self.take_proofs_away().await
        {
            tracing::warn!(certificate.id = self.unit.id, %error, "a proof of an earlier order is left over");
        }
        let opened = self.desk.accounts.open(self.authority).await?;
        let mut order = self.order(&opened, replaces).await?;
        let got = self.go_through(&mut order).await;
        if let Err(failure) = &got
            && failure.ends_the_order()
        {
            self.change(|claim| claim.order = None).await?;
        }
        got
    }

    /// From an order to what it gives.
    async fn go_through(&self, order: &mut Order) -> Result<Certificate, Failure> {
        if order.state().authorizations.len() > self.unit.names.len() {
            return Err(unasked());
        }
        if order.state().status == OrderStatus::Pending {
            self.prove(order).await?;
        }
        self.still_ours().await?;
        let chain = self.sign(order).await?;
        Ok(self.judge(&chain)?)
    }

    /// Whether what came can be served.
    fn judge(&self, chain: &str) -> Result<Certificate, Unfit> {
        let certificate = Certificate::parse(chain.as_bytes(), self.claim.key.as_bytes())?;
        certificate.check(&self.unit.names, SystemTime::now()).map(|()| certificate)
    }

    /// The order that was under way, or a new one.
    async fn order(&self, opened: &Opened, replaces: Option<&Certificate>) -> Result<Order, Failure> {
        if let Some(url) = &self.claim.order {
            let standing = persist!(opened.account.order(url.clone()));
            // One that is over, or of which the authority knows nothing any more, is left.
            match standing.map(|mut order| (order.state().status, order)) {
                Ok((OrderStatus::Invalid, _)) => {}
                Ok((_, order)) => return Ok(order),
                Err(Error::Api(problem)) if !is_for_later(&problem) => {}
                Err(error) => return Err(Self::failed("looking at the order", error)),
            }
        }
        let order = self.new_order(opened, replaces).await;
        self.desk.metrics.order(if order.is_ok() { OrderResult::Made } else { OrderResult::Refused });
        let order = order?;
        let url = order.url().to_owned();
        self.change(|claim| claim.order = Some(url.clone())).await?;
        Ok(order)
    }

    async fn new_order(&self, opened: &Opened, replaces: Option<&Certificate>) -> Result<Order, Failure> {
        let identifiers: Vec<_> =
            self.unit.names.iter().map(|name| Identifier::Dns(name.to_string())).collect();
        let new = |replaced: Option<CertificateIdentifier<'static>>| {
            let mut new = NewOrder::new(&identifiers);
            if let Some(profile) = &self.authority.profile {
                new = new.profile(profile);
            }
            match replaced {
                Some(replaced) => new.replaces(replaced),
                None => new,
            }
        };
        let replaced = replaces.and_then(identifier);
        if let Some(replaced) = replaced {
            match persist!(opened.account.new_order(&new(Some(replaced.clone())))) {
                Ok(order) => return Ok(order),
                // It replaces nothing, then: what was replaced already, or what the authority has forgotten.
                Err(Error::Unsupported(_)) => {}
                Err(Error::Api(problem)) if is_about_replacing(&problem) => {}
                Err(error) => return Err(self.refused(error).await),
            }
        }
        match persist!(opened.account.new_order(&new(None))) {
            Ok(order) => Ok(order),
            Err(error) => Err(self.refused(error).await),
        }
    }

    /// A refused order; where the authority does not know the account, that is forgotten.
    async fn refused(&self, error: Error) -> Failure {
        if let Error::Api(problem) = &error
            && is_of_type(problem, "accountDoesNotExist")
            && let Err(failure) = self.desk.accounts.forget(self.authority).await
        {
            return failure;
        }
        Self::failed("making an order", error)
    }

    /// Has the certificate signed; its chain.
    async fn sign(&self, order: &mut Order) -> Result<String, Failure> {
        if order.state().status == OrderStatus::Ready {
            let request = self.signing_request()?;
            let sent = persist!(order.finalize_csr(&request));
            sent.map_err(|error| Self::failed("asking it to sign", error))?;
        }
        let is_over = |status| !matches!(status, OrderStatus::Processing | OrderStatus::Ready);
        let status = self.poll(order, SIGNING, "signing", is_over).await?;
        if status != OrderStatus::Valid {
            let told =
                order.state().error.as_ref().map_or_else(|| "the order has become invalid".to_owned(), words);
            return Err(Failure::Refused { doing: "signing", told, retry_after: None, is_for_later: false });
        }
        let chain = persist!(order.certificate());
        let chain = chain.map_err(|error| Self::failed("fetching the certificate", error))?;
        chain.ok_or(Failure::Late { doing: "signing", within: SIGNING })
    }

    fn signing_request(&self) -> Result<Vec<u8>, Failure> {
        let failed =
            |error: rcgen::Error| Failure::Account(format!("no request can be made with the key: {error}"));
        let names: Vec<String> = self.unit.names.iter().map(NamePattern::to_string).collect();
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        let key = KeyPair::from_pem(&self.claim.key).map_err(failed)?;
        Ok(params.serialize_request(&key).map_err(failed)?.der().to_vec())
    }

    /// Looks at the order until it is as wanted.
    async fn poll(
        &self,
        order: &mut Order,
        within: Duration,
        doing: &'static str,
        is_enough: impl Fn(OrderStatus) -> bool,
    ) -> Result<OrderStatus, Failure> {
        let until = Instant::now() + within;
        let mut pause = LOOK_AGAIN;
        loop {
            let status = persist!(async { order.refresh().await.map(|state| state.status) });
            let status = status.map_err(|error| Self::failed(doing, error))?;
            if is_enough(status) {
                return Ok(status);
            }
            let told = Transport::told().retry_after.and_then(|at| at.duration_since(SystemTime::now()).ok());
            let next = told.unwrap_or(pause).clamp(LOOK_AGAIN, LOOK_AGAIN_MAX);
            if Instant::now() + next > until {
                return Err(Failure::Late { doing, within });
            }
            sleep(next).await;
            pause = (pause * 2).min(LOOK_AGAIN_MAX);
        }
    }

    /// Nobody else has taken the claim.
    async fn still_ours(&self) -> Result<(), Failure> {
        self.change(|_| ()).await
    }

    /// Writes down how far it is, if nobody else has taken the claim.
    async fn change(&self, make: impl Fn(&mut Claim)) -> Result<(), Failure> {
        let changed = state::change(&*self.desk.store, &self.unit.id, |state| {
            let ours = state.claim.as_mut().filter(|claim| claim.id == self.claim.id);
            ours.map(&make).is_some()
        });
        if changed.await? { Ok(()) } else { Err(Failure::TakenUp) }
    }

    fn failed(doing: &'static str, error: Error) -> Failure {
        Failure::of(doing, error, Transport::told())
    }
}

/// An authority that wants more to be proved than was ordered.
fn unasked() -> Failure {
    let told = "it asks about names that were not ordered".to_owned();
    Failure::Refused {
        doing: "looking at what it wants to see",
        told,
        retry_after: None,
        is_for_later: false,
    }
}

pub(super) fn is_bad_nonce(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if is_of_type(problem, "badNonce"))
}

/// Whether an order was refused for what it says that it replaces (RFC 9773 §5).
///
/// Each authority has words of its own for that, so it may be whatever passes by trying without. What is asked too often
/// does not.
fn is_about_replacing(problem: &instant_acme::Problem) -> bool {
    !["rateLimited", "badNonce"].into_iter().any(|name| is_of_type(problem, name))
}

/// By what an authority knows a certificate again (RFC 9773 §4.1); one without its key's identifier has none.
fn identifier(certificate: &Certificate) -> Option<CertificateIdentifier<'static>> {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    Some(CertificateIdentifier {
        authority_key_identifier: URL_SAFE_NO_PAD.encode(certificate.authority_key_id()?).into(),
        serial: URL_SAFE_NO_PAD.encode(certificate.serial()).into(),
    })
}

fn fresh_id() -> String {
    use ring::rand::{SecureRandom, SystemRandom};
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).expect("the operating system gives random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
