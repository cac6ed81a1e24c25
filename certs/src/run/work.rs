//! What is done for one certificate, in a task of its own.

use super::tasks::AFTER_A_MISHAP;
use crate::acme::{AcmeClient, Failure, Getting, Wait};
use crate::certificate::Certificate;
use crate::claim::Lost;
use crate::document_kind::DocumentKind;
use crate::inventory::Current;
use crate::kept::{Kept, Origin};
use crate::local_authority::{self, LocalAuthority, LocalAuthorityError};
use crate::metrics::RenewalResult;
use crate::retry_after::RetryAfter;
use crate::schedule::{
    ASK_WINDOW, ASK_WINDOW_LEAST, ASK_WINDOW_MOST, DAY, HOUR, may_ask_at, may_begin_at, may_fail_at,
    note_failure, of_this_week,
};
use crate::state::{self, State, Window, put, unix};
use crate::store::{Document, StoreError};
use crate::told::with_causes;
use crate::units::{Giver, Unit};
use config::{AcmeSource, Authority, CertificateSource, Certificates, NamePattern, PerHost};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// What there is to do; the unit says who gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    /// Get a certificate.
    Get,
    /// The same, for a host that never had one.
    First,
    /// Ask its authority when it wants it renewed.
    AskWindow,
    /// Put what is served back into the store, which has lost it.
    Keep,
}

impl Work {
    /// Whether another certificate comes of it.
    pub(super) fn gets(self) -> bool {
        matches!(self, Self::Get | Self::First)
    }
}

/// Who does it.
pub(crate) struct Worker {
    acme: AcmeClient,
    /// The names for which Usher's own authority signs.
    own_names: Vec<NamePattern>,
}

impl Worker {
    pub(crate) fn new(acme: AcmeClient, certificates: &Certificates) -> Self {
        let own = certificates.values().filter(|declared| declared.source == CertificateSource::SelfSigned);
        Self { own_names: own.flat_map(|declared| declared.names.clone()).collect(), acme }
    }

    /// What it works with.
    pub(crate) fn acme(&self) -> &AcmeClient {
        &self.acme
    }

    /// Does it; tells whether it was done, or written down when to try again.
    pub(crate) async fn work(&self, work: Work, unit: &Unit, held: Option<Current>) -> bool {
        let done = match (&unit.giver, work) {
            (_, Work::Keep) => self.keep_again(unit, held).await.map_err(|error| with_causes(&error)),
            (Giver::Local, _) => self.issue(unit).await.map(|()| true).map_err(|error| with_causes(&error)),
            (Giver::Acme(source), Work::AskWindow) => {
                self.ask_window(unit, source, held).await.map(|()| true).map_err(|error| with_causes(&error))
            }
            (Giver::Acme(source), Work::Get | Work::First) => {
                self.order(unit, source, work, held).await.map_err(|error| with_causes(&error))
            }
        };
        done.unwrap_or_else(|error| {
            tracing::error!(
                certificate.id = unit.id,
                error,
                "a certificate cannot be got or kept; what there is is served on"
            );
            if work.gets() {
                self.acme.metrics.renewal(RenewalResult::Failed);
            }
            false
        })
    }

    /// What the store has of a unit.
    pub(super) async fn standing(&self, unit: &Unit) -> Vec<Document> {
        let mut standing = Vec::new();
        let mut names = vec![DocumentKind::Certificate.name(&unit.id), DocumentKind::State.name(&unit.id)];
        match &unit.giver {
            Giver::Local => names.push(local_authority::DOCUMENT.to_owned()),
            Giver::Acme(source) => {
                names.push(DocumentKind::Budget.name(&unit.certificate));
                names.extend(
                    source.authorities.iter().map(|authority| DocumentKind::RetryAfter.name(&authority.name)),
                );
            }
        }
        for name in names {
            // One that cannot be read is told of by the store itself, once it can.
            standing.extend(self.acme.store.get(&name).await.ok().flatten());
        }
        standing
    }

    /// Gets it from one of its authorities, unless somebody else is at it; tells whether that was done, or all that failed
    /// was written down.
    async fn order(
        &self,
        unit: &Unit,
        source: &AcmeSource,
        work: Work,
        held: Option<Current>,
    ) -> Result<bool, StoreError> {
        let Some(claim) = self.acme.claims.take(&unit.id).await? else {
            tracing::info!(certificate.id = unit.id, "another usher is getting this certificate");
            return Ok(false);
        };
        let done = claim.during(self.ask(Getting { claim: &claim, unit, source }, work, held)).await;
        claim.give_back().await;
        done.unwrap_or_else(|Lost| {
            tracing::info!(certificate.id = unit.id, "another usher goes on with getting this certificate");
            Ok(false)
        })
    }

    /// Asks the first authority that may be asked. The next one is asked by another task, which waits for that one's
    /// places, or by this one where nobody else would know that the first has failed.
    async fn ask(&self, getting: Getting<'_>, work: Work, held: Option<Current>) -> Result<bool, StoreError> {
        let Getting { claim, unit, source } = getting;
        if self.is_there(unit, held.as_ref()).await? {
            return Ok(true);
        }
        let State { wanted: wishes, is_counted, .. } = self.state(unit).await?;
        if work == Work::First
            && !is_counted
            && let Some(bound) = &source.per_host
            && !self.count(getting, bound).await?
        {
            return Ok(true);
        }
        let (mut is_asked, mut is_noted, mut is_over) = (false, true, true);
        for authority in &source.authorities {
            let now = SystemTime::now();
            let state = self.state(unit).await?;
            let standing = state.authorities.get(authority.name.as_str());
            let said = RetryAfter::of(&*self.acme.store, &authority.name).await?;
            if may_ask_at(standing, said.as_ref(), now).max(may_fail_at(&state.failed_validations, now)) > now
            {
                continue;
            }
            if is_asked && is_noted {
                // It has failed for good only once nobody is left to be asked: alerts count that.
                return Ok(true);
            }
            is_asked = true;
            let is_of_it = |current: &&Current| current.origin == Origin::Acme(authority.name.clone());
            let replaces = held.as_ref().filter(is_of_it).map(|current| &current.certificate);
            match self.acme.obtain(getting, authority, replaces).await {
                Ok(certificate) => {
                    let origin = Origin::Acme(authority.name.clone());
                    // However late it comes, it is as good as what another usher goes on to get.
                    self.keep(unit, certificate, origin).await?;
                    self.acme.metrics.renewal(RenewalResult::Renewed);
                    let (giver, now) = (Some(authority.name.as_str()), SystemTime::now());
                    let written = claim.change(|state| fulfil(state, giver, wishes, now)).await;
                    self.acme.clear_up(getting).await;
                    return Ok(matches!(written, Ok(Ok(()))));
                }
                Err(Failure::Lost(_)) => return Ok(false),
                Err(failure) => {
                    is_noted &= self.note(getting, authority, &failure).await;
                    is_over = !matches!(failure, Failure::Slow { .. });
                    self.acme.clear_up(getting).await;
                }
            }
        }
        if is_asked && is_over {
            self.acme.metrics.renewal(RenewalResult::Failed);
        }
        Ok(is_noted)
    }

    async fn state(&self, unit: &Unit) -> Result<State, StoreError> {
        state::read(&*self.acme.store, &unit.id).await
    }

    /// Writes down that an authority failed, and says so; tells whether that could be written down.
    async fn note(&self, getting: Getting<'_>, authority: &Authority, failure: &Failure) -> bool {
        let (id, cause) = (&getting.unit.id, with_causes(failure));
        let noted = self.write_down(getting, authority, failure, &cause).await;
        let wait = noted.as_ref().map_or(AFTER_A_MISHAP, |wait| *wait);
        tracing::error!(
            certificate.id = id, authority.name = %authority.name, cause, again_in_s = wait.as_secs(),
            "a certificate could not be got; what there is is served on"
        );
        if let Err(error) = &noted {
            let error = with_causes(error);
            tracing::warn!(certificate.id = id, error, "what failed cannot be written down");
        }
        noted.is_ok()
    }

    /// For how long the authority is not asked again for this unit.
    async fn write_down(
        &self,
        getting: Getting<'_>,
        authority: &Authority,
        failure: &Failure,
        cause: &str,
    ) -> Result<Duration, Failure> {
        let now = SystemTime::now();
        let (name, chance) = (authority.name.as_str(), fastrand::f64());
        let (for_all, for_these) = match failure.wait() {
            Some(Wait { long, is_for_all: true }) => (Some(RetryAfter::new(long, cause, now)), None),
            other => (None, other.map(|wait| wait.long)),
        };
        let kept = match &for_all {
            Some(said) => said.keep(&*self.acme.store, &authority.name).await,
            None => Ok(()),
        };
        let written = getting.claim.change(|state| {
            note_failure(&mut state.authorities, name, cause, for_these, (now, chance));
            if failure.is_validation() {
                state.failed_validations.retain(|at| state::time(*at) + HOUR > now);
                state.failed_validations.push(unix(now));
            }
            if failure.is_unfit()
                && let Some(standing) = state.authorities.get_mut(name)
            {
                standing.unfit.retain(|at| state::time(*at) + DAY > now);
                standing.unfit.push(unix(now));
            }
            may_ask_at(state.authorities.get(name), for_all.as_ref(), now)
        });
        let at = written.await??;
        kept?;
        Ok(at.duration_since(now).unwrap_or_default())
    }

    /// Keeps a certificate that was got: all replicas serve it from then on.
    async fn keep(&self, unit: &Unit, certificate: Certificate, origin: Origin) -> Result<(), StoreError> {
        let kept = Kept { certificate, origin, obtained: SystemTime::now() };
        put(&*self.acme.store, &DocumentKind::Certificate.name(&unit.id), &kept.write()).await
    }

    /// Keeps what is served again, unless somebody has kept one meanwhile, of which the store will tell; tells whether it did.
    async fn keep_again(&self, unit: &Unit, held: Option<Current>) -> Result<bool, StoreError> {
        let Some(Current { certificate, origin, obtained, .. }) = held else { return Ok(false) };
        let (standing, good) = self.kept(unit).await?;
        if good.is_some() {
            return Ok(false);
        }
        let name = DocumentKind::Certificate.name(&unit.id);
        let fingerprint = certificate.fingerprint().to_owned();
        let value = Kept { certificate, origin, obtained }.write();
        match state::write(&*self.acme.store, &name, standing.map(|document| document.version), value).await {
            Err(StoreError::Conflict(_) | StoreError::Exists(_)) => Ok(false),
            Err(error) => Err(error),
            Ok(()) => {
                tracing::warn!(
                    certificate.id = unit.id,
                    certificate.fingerprint = fingerprint,
                    "a certificate was deleted or damaged where it is kept; what is served is kept there again"
                );
                Ok(true)
            }
        }
    }

    /// Has Usher's own authority sign one.
    pub(super) async fn issue(&self, unit: &Unit) -> Result<(), LocalAuthorityError> {
        let now = SystemTime::now();
        let wishes = self.state(unit).await?.wanted;
        let authority = LocalAuthority::open(&*self.acme.store, &self.own_names, now).await?;
        let certificate = authority.issue(&unit.names, now)?;
        self.keep(unit, certificate, Origin::Local).await?;
        state::change(&*self.acme.store, &unit.id, |state| fulfil(state, None, wishes, now)).await?;
        self.acme.metrics.renewal(RenewalResult::Renewed);
        Ok(())
    }

    async fn ask_window(
        &self,
        unit: &Unit,
        source: &AcmeSource,
        held: Option<Current>,
    ) -> Result<(), StoreError> {
        let Some(Current { certificate, origin, .. }) = held else { return Ok(()) };
        let Some(authority) = authority_of(source, &origin) else { return Ok(()) };
        let (suggested, again) = match self.acme.window(authority, &certificate).await {
            Ok(Some((window, again))) => (Some(window), again.clamp(ASK_WINDOW_LEAST, ASK_WINDOW_MOST)),
            Ok(None) => (None, ASK_WINDOW_MOST),
            Err(failure) => {
                let cause = with_causes(&failure);
                tracing::info!(
                    certificate.id = unit.id,
                    cause,
                    "an authority does not say when it wants a certificate renewed"
                );
                if let Some(Wait { long, is_for_all: true }) = failure.wait() {
                    let said = RetryAfter::new(long, &cause, SystemTime::now());
                    said.keep(&*self.acme.store, &authority.name).await?;
                }
                (None, ASK_WINDOW)
            }
        };
        let ask_again = unix(SystemTime::now() + again);
        let of = certificate.fingerprint().to_owned();
        state::change(&*self.acme.store, &unit.id, |state| {
            let before = state.window.take().filter(|window| window.of == of);
            // What it said before holds until it says something else.
            let suggested = suggested.or(before.and_then(|window| window.suggested));
            state.window = Some(Window { of: of.clone(), suggested, ask_again });
        })
        .await
    }

    /// A host gets its first certificate, if as many as that may within a week; tells whether it may.
    async fn count(&self, getting: Getting<'_>, bound: &PerHost) -> Result<bool, StoreError> {
        let name = DocumentKind::Budget.name(&getting.unit.certificate);
        let now = SystemTime::now();
        loop {
            let standing = self.acme.store.get(&name).await?;
            let begun = standing
                .as_ref()
                .and_then(|document| serde_json::from_slice::<Vec<u64>>(&document.value).ok());
            let mut begun = of_this_week(&begun.unwrap_or_default(), now);
            // Whoever asked before may have asked with others.
            if may_begin_at(&begun, bound.new_per_week, now) > now {
                return Ok(false);
            }
            begun.push(unix(now));
            let value = serde_json::to_vec(&begun).expect("numbers are JSON");
            match state::write(&*self.acme.store, &name, standing.map(|document| document.version), value)
                .await
            {
                Err(StoreError::Conflict(_) | StoreError::Exists(_)) => {}
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
        Ok(getting.claim.change(|state| state.is_counted = true).await?.is_ok())
    }

    /// What the store has for a unit, and what it says if that is good for all names.
    async fn kept(&self, unit: &Unit) -> Result<(Option<Document>, Option<Kept>), StoreError> {
        let standing = self.acme.store.get(&DocumentKind::Certificate.name(&unit.id)).await?;
        let is_good = |kept: &Kept| kept.certificate.check_from(&unit.names, SystemTime::now()).is_ok();
        let good = standing.as_ref().and_then(|document| Kept::read(document).ok()).filter(is_good);
        Ok((standing, good))
    }

    /// Whether somebody has got it meanwhile: who was told late would get it a second time.
    async fn is_there(&self, unit: &Unit, held: Option<&Current>) -> Result<bool, StoreError> {
        let (_, Some(Kept { certificate, origin, .. })) = self.kept(unit).await? else { return Ok(false) };
        let is_news = held.is_none_or(|held| held.certificate.fingerprint() != certificate.fingerprint());
        Ok(is_news && unit.giver.may_have_given(&origin))
    }
}

/// What a certificate that has come, from this authority if from one, leaves of what is remembered. It fulfils so many
/// wishes: those from before it was asked for.
fn fulfil(state: &mut State, giver: Option<&str>, wishes: u32, now: SystemTime) {
    // What was shown and is left over is still to be taken away.
    if let Some(ordered) = &mut state.order {
        ordered.url = None;
    }
    state.order.take_if(|ordered| ordered.proofs.is_empty());
    // What an authority has said of these names holds, whoever else has helped.
    state.authorities.retain(|name, standing| {
        Some(name.as_str()) != giver && standing.by_its_word && may_ask_at(Some(standing), None, now) > now
    });
    state.wanted = state.wanted.saturating_sub(wishes);
    state.window = None;
}

/// The authority that gave a certificate, if it is one that is asked still.
pub(super) fn authority_of<'a>(source: &'a AcmeSource, origin: &Origin) -> Option<&'a Arc<Authority>> {
    let Origin::Acme(name) = origin else { return None };
    source.authorities.iter().find(|authority| authority.name == *name)
}

#[cfg(test)]
mod tests;
