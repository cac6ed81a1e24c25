//! When what a provider said is asked anew, and that only one Usher does so at a time.
//!
//! Who asks writes so into the session's record first, by compare-and-swap: providers with rotating refresh tokens take a
//! token that comes twice for stolen. Who dies between the provider's answer and the next write leaves that mark, and
//! with it a token that may be worth nothing: such a session ends, and no other.

use super::document::Document;
use super::{Ending, Kept, NewSession, Session, SessionId, SessionName, Sessions, ShortName};
use crate::{Kind, RecordError, Version, clock, hash};
use config::Subject;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How long a refresh may be under way: longer than a provider is waited for and its answer is tried to be written.
const UNDER_WAY: Duration = Duration::from_secs(45);
/// How long what a provider said holds at least: one that says less would be asked all the time.
const LASTS_MIN: Duration = Duration::from_secs(2);

/// How old is what a provider said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Freshness {
    /// When it was said, as far as this Usher can tell.
    said: Instant,
    /// From when on it is asked anew, if the session is used.
    due: Instant,
    /// From when on it does not hold any more.
    pub(super) stale: Instant,
    /// The refresh that is under way, and since when this Usher knows of it.
    refreshing: Option<Box<(String, Instant)>>,
}

impl Freshness {
    /// Of what is kept. `after` = how old it may be at most until it is asked anew. The clocks of who wrote and who reads
    /// differ: a wrong one makes it due early, never late.
    pub(super) fn of(kept: &Kept, after: Duration, wall: SystemTime, now: Instant) -> Self {
        let lasts = kept.lasts.max(LASTS_MIN);
        let age = wall.duration_since(kept.at).unwrap_or_default().min(lasts);
        let due = (lasts / 2).min(after).saturating_sub(age);
        Self {
            said: now.checked_sub(age).unwrap_or(now),
            due: now + due,
            stale: now + lasts.saturating_sub(age),
            refreshing: None,
        }
    }

    /// With what the record says of a refresh that is under way; `before` = what was known of it.
    pub(super) fn refreshing(mut self, name: Option<&String>, before: Option<&Self>, now: Instant) -> Self {
        let known = before.and_then(|before| before.refreshing.clone());
        self.refreshing =
            name.map(|name| known.filter(|known| known.0 == *name).unwrap_or((name.clone(), now).into()));
        self
    }
}

/// What is to be done for a session.
#[derive(Debug, Clone)]
pub enum Due {
    /// Its provider is to be asked.
    Ask(Arc<Session>, SessionRef),
    /// Whoever asked its provider died over it: it ends.
    Lost(Arc<Session>, SessionRef),
}

fn due(
    name: SessionName,
    session: &Arc<Session>,
    now: Instant,
    asks: impl FnOnce(&Session, Instant) -> bool,
) -> Option<Due> {
    let (freshness, reference) = (session.freshness.as_ref()?, SessionRef(name));
    match freshness.refreshing.as_deref() {
        Some((_, since)) if now.saturating_duration_since(*since) >= UNDER_WAY => {
            Some(Due::Lost(session.clone(), reference))
        }
        Some(_) => None,
        None => (now >= freshness.due && asks(session, freshness.said))
            .then(|| Due::Ask(session.clone(), reference)),
    }
}

impl Due {
    /// For which session.
    pub fn session(&self) -> SessionRef {
        let (Self::Ask(_, session) | Self::Lost(_, session)) = self;
        *session
    }
}

/// A session's record, for those who may not know its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionRef(pub(super) SessionName);

impl SessionRef {
    /// Parses what [`fmt::Display`] prints.
    pub fn parse(text: &str) -> Option<Self> {
        SessionName::parse(text).map(Self)
    }

    /// Its beginning, as 16 hex digits: enough to tell the sessions that live from each other, and the same on all replicas.
    pub fn short(self) -> String {
        let ShortName(bytes) = self.0.short();
        format!("{:016x}", u64::from_be_bytes(bytes))
    }
}

impl fmt::Display for SessionRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The right to ask a session's provider.
#[derive(Debug)]
pub struct Claim {
    name: SessionName,
    version: Version,
    document: Document,
    /// The session as its record says.
    pub session: NewSession,
}

impl Sessions {
    /// The sessions whose provider is to be asked anew, since they were used after it was last asked.
    pub fn due(&self, now: Instant) -> Vec<Due> {
        let snapshot = self.snapshot.load();
        let was_used = |session: &Session, said| session.used() > said;
        let due = |(name, session): (&SessionName, &Arc<Session>)| due(*name, session, now, was_used);
        snapshot.live.iter().filter_map(due).collect()
    }

    /// What is to be done for one session, used or not.
    pub fn due_if(&self, session: SessionRef, now: Instant) -> Option<Due> {
        due(session.0, &self.named(session.0)?, now, |_, _| true)
    }

    /// The session with this id, once what its provider said holds again; as it is after so much patience. None = it
    /// ended.
    pub async fn await_fresh(&self, id: &SessionId, patience: Duration) -> Option<Arc<Session>> {
        let name = id.name();
        let fresh = self.snapshot.await_that(patience, || match self.named(name) {
            Some(session) if session.is_stale(clock::now()) => None,
            settled => Some(settled),
        });
        fresh.await.unwrap_or_else(|| self.named(name))
    }

    /// Claims the right to ask a session's provider; none = somebody else asks, has asked, or it has ended.
    ///
    /// # Errors
    /// The store fails.
    pub async fn claim(&self, session: SessionRef) -> Result<Option<Claim>, RecordError> {
        let name = session.0.to_string();
        let Some(record) = self.records.get(Kind::Session, &name).await? else { return Ok(None) };
        let unreadable =
            |error| RecordError::Store(format!("the record of a session cannot be read: {error}"));
        let mut document = Document::read(&record.value).map_err(unreadable)?;
        let told = document.clone().session().map_err(unreadable)?;
        // What is known here may be behind: another Usher has asked already.
        let is_behind = self.named(session.0).is_none_or(|known| known.version != record.version);
        if document.refreshing.is_some() || is_behind {
            return Ok(None);
        }
        document.refreshing = Some(hash::text(&hash::random::<9>()?));
        match self.records.replace(Kind::Session, &name, record.version, document.write()).await {
            Ok(version) => Ok(Some(Claim { name: session.0, version, document, session: told })),
            Err(RecordError::Conflict(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes down what a provider said. A session that was ended meanwhile stays so.
    ///
    /// # Errors
    /// The store fails: the claim still stands, and this can be tried again.
    pub async fn renew(
        &self,
        claim: &Claim,
        subject: Subject,
        sid: Option<String>,
        kept: Option<Kept>,
    ) -> Result<(), RecordError> {
        let mut session = claim.session.clone();
        session.display_name.clone_from(&subject.name);
        session.login.sid = sid.or(session.login.sid);
        let document = Document::new(&NewSession { subject, kept, ..session });
        self.settle(claim, &document).await
    }

    /// Gives the right back: the provider did not answer, or not to the point. `next` = what it is to be asked by from now on,
    /// sealed, if it has said so much.
    ///
    /// # Errors
    /// The store fails.
    pub async fn give_back(&self, claim: &Claim, next: Option<String>) -> Result<(), RecordError> {
        let mut document = claim.document.clone();
        document.refreshing = None;
        document.ask_by(next);
        self.settle(claim, &document).await
    }

    /// Ends a session.
    pub async fn end_one(&self, session: SessionRef) -> Ending {
        self.end_named(&[session.0]).await
    }

    /// Replaces the record as it was claimed; one that is not that any more has ended, or was written by an earlier try of
    /// this.
    async fn settle(&self, claim: &Claim, document: &Document) -> Result<(), RecordError> {
        let name = claim.name.to_string();
        match self.records.replace(Kind::Session, &name, claim.version, document.write()).await {
            Ok(_) | Err(RecordError::Conflict(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
