//! One order.

mod proofs;

use super::account::Accounts;
use super::failure::{Failure, is_about_the_account, is_for_later, is_of_type, words};
use super::transport::{Transport, talk};
use crate::certificate::{Certificate, Unfit};
use crate::challenges::Answered;
use crate::claim::{Claims, Held};
use crate::dns::DnsRecords;
use crate::metrics::{Metrics, OrderResult};
use crate::schedule::{DAY, HOUR, SKEW};
use crate::state::{Ordered, time, unix};
use crate::store::Store;
use crate::told::with_causes;
use crate::units::Unit;
use config::{AcmeSource, Authority, DnsProviderName, NamePattern};
use instant_acme::{
    Account, CertificateIdentifier, Error, Identifier, NewOrder, Order, OrderStatus, Problem,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// How long an order may take in all, slow answers and slow DNS included.
const ATTEMPT: Duration = Duration::from_hours(1);
/// How long an authority may take to look at a proof, and then to sign, if it does not say how long.
const VALIDATION: Duration = Duration::from_mins(3);
const SIGNING: Duration = Duration::from_mins(3);
/// How long it is waited for there if it does say; what takes longer is gone on with later, so that others have their turn.
const PATIENCE: Duration = Duration::from_mins(15);
/// Between two looks at an order.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(5);

/// What all orders work with.
pub(crate) struct AcmeClient {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) accounts: Accounts,
    pub(crate) claims: Claims,
    pub(crate) dns: BTreeMap<DnsProviderName, DnsRecords>,
    pub(crate) answered: watch::Receiver<Answered>,
    pub(crate) replicas: watch::Receiver<BTreeSet<String>>,
    pub(crate) metrics: Metrics,
}

/// A certificate that is being got.
#[derive(Clone, Copy)]
pub(crate) struct Getting<'a> {
    /// Nobody else is getting it.
    pub(crate) claim: &'a Held,
    pub(crate) unit: &'a Unit,
    /// Of the unit.
    pub(crate) source: &'a AcmeSource,
}

impl AcmeClient {
    /// Gets a certificate from an authority; an order that was left is gone on with. `replaces` is the certificate
    /// before it, if this authority gave it. What was shown for it stays, for whoever asked to [clear up](Self::clear_up).
    pub(crate) async fn obtain(
        &self,
        getting: Getting<'_>,
        authority: &Authority,
        replaces: Option<&Certificate>,
    ) -> Result<Certificate, Failure> {
        let ordered = begin(getting, authority).await?;
        let attempt = Attempt { acme: self, getting, authority, ordered };
        let got = tokio::time::timeout(ATTEMPT, talk(attempt.run(replaces))).await;
        got.unwrap_or(Err(Failure::Late { doing: "all of an order", within: ATTEMPT }))
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
        let account = self.accounts.open(authority).await?;
        match account.renewal_info(identifier).await {
            Ok((info, again)) => {
                let unix = |at: i64| u64::try_from(at).unwrap_or_default();
                let window = info.suggested_window;
                Ok(Some(((unix(window.start.unix_timestamp()), unix(window.end.unix_timestamp())), again)))
            }
            Err(Error::Unsupported(_)) => Ok(None),
            Err(error) => Err(Failure::of("asking when to renew", error, &[])),
        }
    }
}

/// What was ordered from this authority before and is not had yet, for a day, or for an hour where an operator wants it
/// renewed; or what is to be ordered now.
async fn begin(Getting { claim, unit, .. }: Getting<'_>, authority: &Authority) -> Result<Ordered, Failure> {
    let names: Vec<String> = unit.names.iter().map(NamePattern::to_string).collect();
    let key =
        KeyPair::generate().map_err(|_| Failure::Account("no key can be made".to_owned()))?.serialize_pem();
    let now = SystemTime::now();
    let begun = claim.change(|state| {
        // Of one that comes to no end nobody says that it will not.
        let patience = if state.wanted > 0 { HOUR } else { DAY };
        let is_young = |made: SystemTime| made <= now + SKEW && now < made + patience;
        let is_the_same = |before: &Ordered| {
            before.url.is_some()
                && before.authority == authority.name.as_str()
                && before.names == names
                && is_young(time(before.made))
        };
        let ordered = match state.order.take() {
            Some(before) if is_the_same(&before) => before,
            // What was shown for another's order is still to be taken away.
            other => Ordered {
                authority: authority.name.to_string(),
                url: None,
                made: 0,
                names: names.clone(),
                key: key.clone(),
                proofs: other.map(|other| other.proofs).unwrap_or_default(),
            },
        };
        state.order = Some(ordered.clone());
        ordered
    });
    Ok(begun.await??)
}

/// One try at one authority.
struct Attempt<'a> {
    acme: &'a AcmeClient,
    getting: Getting<'a>,
    authority: &'a Authority,
    /// As it was when this attempt began.
    ordered: Ordered,
}

impl Attempt<'_> {
    async fn run(&self, replaces: Option<&Certificate>) -> Result<Certificate, Failure> {
        if let Err(failure) = self.acme.take_proofs_away(self.getting).await {
            let error = with_causes(&failure);
            tracing::warn!(
                certificate.id = self.getting.unit.id,
                error,
                "a proof of an earlier order is left over"
            );
        }
        let account = self.acme.accounts.open(self.authority).await?;
        let got = async {
            let mut order = self.order(&account, replaces).await?;
            self.go_through(&mut order, replaces).await
        };
        let got = got.await;
        if let Err(failure) = &got
            && failure.ends_the_order()
        {
            self.change(|ordered| ordered.url = None).await?;
        }
        got
    }

    /// From an order to what it gives.
    async fn go_through(
        &self,
        order: &mut Order,
        replaces: Option<&Certificate>,
    ) -> Result<Certificate, Failure> {
        if order.state().authorizations.len() > self.getting.unit.names.len() {
            return Err(unasked());
        }
        if order.state().status == OrderStatus::Pending {
            self.prove(order).await?;
        }
        self.still_ours().await?;
        let chain = self.sign(order).await?;
        Ok(self.judge(&chain, replaces)?)
    }

    /// Whether what came can be served.
    fn judge(&self, chain: &str, replaces: Option<&Certificate>) -> Result<Certificate, Unfit> {
        let certificate = Certificate::parse(chain.as_bytes(), self.ordered.key.as_bytes())?;
        // Clocks may be a day apart; what is good only later than that is no renewal of what there is.
        let now = SystemTime::now();
        let from = if certificate.not_before() < now + DAY { now.max(certificate.not_before()) } else { now };
        certificate.check(&self.getting.unit.names, from)?;
        // A root may sign leaves itself; of an authority that sent its issuer before, and does not any more, it is missing.
        let came_whole = |before: &Certificate| !before.is_alone() && before.not_after() > now;
        match certificate.is_alone() && replaces.is_some_and(came_whole) {
            true => Err(Unfit::Alone),
            false => Ok(certificate),
        }
    }

    /// The order that was under way, or a new one.
    async fn order(&self, account: &Account, replaces: Option<&Certificate>) -> Result<Order, Failure> {
        if let Some(url) = &self.ordered.url {
            let standing = persist!(account.order(url.clone()));
            // One that is over, or of which the authority knows nothing any more, is left.
            match standing.map(|mut order| (order.state().status, order)) {
                // What it found while nobody looked counts as well.
                Ok((OrderStatus::Invalid, mut order)) => {
                    if let Some(failure) = self.what_was_wrong(&mut order).await? {
                        return Err(failure);
                    }
                }
                Ok((_, order)) => return Ok(order),
                Err(Error::Api(problem)) if !is_for_later(&problem) => {}
                Err(error) => return Err(self.failed("looking at the order", error)),
            }
        }
        let refused = |error| self.failed("making an order", error);
        let order = match self.new_order(account, replaces).await {
            Err(Error::Api(problem)) if is_about_the_account(&problem) => {
                let failure = refused(Error::Api(problem));
                match self.acme.accounts.replace(self.authority, account.id()).await? {
                    Some(other) => self.new_order(&other, replaces).await.map_err(refused),
                    None => Err(failure),
                }
            }
            done => done.map_err(refused),
        };
        self.acme.metrics.order(if order.is_ok() { OrderResult::Made } else { OrderResult::Refused });
        let order = order?;
        let url = order.url().to_owned();
        let made = unix(SystemTime::now());
        self.change(|ordered| (ordered.url, ordered.made) = (Some(url.clone()), made)).await?;
        Ok(order)
    }

    async fn new_order(&self, account: &Account, replaces: Option<&Certificate>) -> Result<Order, Error> {
        let identifiers: Vec<_> =
            self.getting.unit.names.iter().map(|name| Identifier::Dns(name.to_string())).collect();
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
            match persist!(account.new_order(&new(Some(replaced.clone())))) {
                // It replaces nothing, then: what was replaced already, or what the authority has forgotten.
                Err(Error::Unsupported(_)) => {}
                Err(Error::Api(problem)) if is_about_replacing(&problem) => {}
                // It made one, and says nothing of what that replaces.
                Err(Error::Other(_)) if Transport::told().is_done() => {}
                done => return done,
            }
        }
        persist!(account.new_order(&new(None)))
    }

    /// Has the certificate signed; its chain.
    async fn sign(&self, order: &mut Order) -> Result<String, Failure> {
        if order.state().status == OrderStatus::Ready {
            let request = self.signing_request()?;
            let sent = persist!(order.finalize_csr(&request));
            sent.map_err(|error| self.failed("asking it to sign", error))?;
        }
        let is_over = |status| !matches!(status, OrderStatus::Processing | OrderStatus::Ready);
        let status = self.poll(order, SIGNING, "signing", is_over).await?;
        if status != OrderStatus::Valid {
            let told =
                order.state().error.as_ref().map_or_else(|| "the order has become invalid".to_owned(), words);
            return Err(Failure::Refused { doing: "signing", told, wait: None, is_for_later: false });
        }
        let chain = persist!(order.certificate());
        let chain = chain.map_err(|error| self.failed("fetching the certificate", error))?;
        chain.ok_or(Failure::Late { doing: "signing", within: SIGNING })
    }

    fn signing_request(&self) -> Result<Vec<u8>, Failure> {
        let failed =
            |error: rcgen::Error| Failure::Account(format!("no request can be made with the key: {error}"));
        let names: Vec<String> = self.getting.unit.names.iter().map(NamePattern::to_string).collect();
        let mut params = CertificateParams::new(names).map_err(failed)?;
        params.distinguished_name = DistinguishedName::new();
        let key = KeyPair::from_pem(&self.ordered.key).map_err(failed)?;
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
        let begun = Instant::now();
        let mut pause = LOOK_AGAIN;
        loop {
            let status = persist!(async { order.refresh().await.map(|state| state.status) });
            let status = status.map_err(|error| self.failed(doing, error))?;
            if is_enough(status) {
                return Ok(status);
            }
            let told = Transport::told().retry_after.and_then(|at| at.duration_since(SystemTime::now()).ok());
            let next = told.map_or(pause, |again| again.max(LOOK_AGAIN));
            match told {
                Some(again) if begun.elapsed() + next > PATIENCE => {
                    return Err(Failure::Slow { doing, again });
                }
                None if begun.elapsed() + next > within => return Err(Failure::Late { doing, within }),
                _ => {}
            }
            sleep(next).await;
            pause = (pause * 2).min(LOOK_AGAIN_MAX);
        }
    }

    /// Nobody else has taken the claim.
    async fn still_ours(&self) -> Result<(), Failure> {
        self.change(|_| ()).await
    }

    /// Writes down how far it is.
    async fn change(&self, make: impl Fn(&mut Ordered)) -> Result<(), Failure> {
        let changed = self.getting.claim.change(|state| state.order.as_mut().map(&make));
        changed.await??;
        Ok(())
    }

    fn failed(&self, doing: &'static str, error: Error) -> Failure {
        Failure::of(doing, error, &self.getting.unit.names)
    }
}

/// An authority that wants more to be proved than was ordered.
fn unasked() -> Failure {
    let told = "it asks about names that were not ordered".to_owned();
    Failure::Refused { doing: "looking at what it wants to see", told, wait: None, is_for_later: false }
}

pub(super) fn is_bad_nonce(error: &Error) -> bool {
    matches!(error, Error::Api(problem) if is_of_type(problem, "badNonce"))
}

/// Whether an order may have been refused for what it says that it replaces (RFC 9773 §5). What authorities say then is
/// theirs: Boulder `unauthorized` of another account's certificate, Pebble `serverInternal` of one that it cannot find.
fn is_about_replacing(problem: &Problem) -> bool {
    let says_so = problem.detail.as_deref().unwrap_or_default().to_ascii_lowercase().contains("replace");
    let is_of = |name| is_of_type(problem, name);
    let is_other = is_about_the_account(problem) || ["badNonce", "rateLimited"].into_iter().any(is_of);
    says_so || !is_other && !Transport::told().is_busy()
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
