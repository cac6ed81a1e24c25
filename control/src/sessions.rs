//! Who is logged in: records at login and logout, a snapshot for every request.

mod document;
mod keeper;

pub(crate) use keeper::{Keeper, Limits};

use crate::activity::now_ms;
use crate::{Identity, Kind, RecordError, Records, activity, clock, hash};
use arc_swap::ArcSwap;
use config::Label;
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How many sessions one user may have: more than browsers that a person has, fewer than a script makes. The
/// oldest leaves, after the new one was made: whoever is last of many at once sees them all, and so it holds however
/// many log in side by side. Until then there are as many more as logins are under way.
const PER_USER: usize = 100;

/// How long a change that this process wrote may take until its own watch tells it.
const ECHO: Duration = Duration::from_secs(5);

/// The secret id of a session: 16 random bytes. Its record is named by its hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

/// The name of a session's record: the hash of its id, from which nobody gets the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SessionName([u8; 32]);

/// The beginning of a [`SessionName`], enough to tell the sessions that live from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ShortName(pub(crate) [u8; 8]);

/// When a session was last used: written by requests and tunnels, read by the sweep. It only grows.
#[derive(Debug, Default)]
pub struct LastUse(AtomicU64);

impl LastUse {
    /// Marks the session as used now.
    pub fn touch(&self) {
        self.0.fetch_max(now_ms(), Relaxed);
    }

    /// It was used then.
    fn learn(&self, used: Instant) {
        self.0.fetch_max(activity::ms_of(used), Relaxed);
    }

    /// When that was last; `None` = not yet since this process knows the session.
    pub fn time(&self) -> Option<Instant> {
        activity::at(&self.0)
    }
}

/// A live session, as requests see it.
#[derive(Debug)]
pub struct Session {
    /// Who.
    pub identity: Identity,
    /// Their label.
    pub label: Label,
    /// What to call them.
    pub display_name: String,
    /// What the rules see of them.
    pub subject: config::Subject,
    /// Cancelled when the session ends, by whatever cause: live sockets close with 4401.
    pub ended: CancellationToken,
    /// As known when it was taken up here.
    age: SessionAge,
    /// As [`now_ms`]; 0 = not used here yet.
    last_use: Arc<LastUse>,
    /// As other Ushers know it; not told on by this one.
    elsewhere: LastUse,
}

/// When a session began and when it was used last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionAge {
    pub(crate) created: Instant,
    pub(crate) used: Instant,
}

impl Session {
    /// Marks the session as used now: an atomic store.
    pub fn touch(&self) {
        self.last_use.touch();
    }

    /// The mark alone, for a tunnel that outlives its request.
    pub fn last_use(&self) -> Arc<LastUse> {
        self.last_use.clone()
    }

    /// As this Usher knows it.
    fn own_age(&self) -> SessionAge {
        SessionAge { used: self.last_use.time().unwrap_or(self.age.used), ..self.age }
    }

    /// As anybody knows it.
    fn age(&self) -> SessionAge {
        let own = self.own_age();
        SessionAge { used: self.elsewhere.time().map_or(own.used, |used| used.max(own.used)), ..own }
    }

    /// Whether it has not been used for too long, or is too old.
    fn is_over(&self, limits: Limits, now: Instant) -> bool {
        let age = self.age();
        now.saturating_duration_since(age.used) >= limits.idle_after
            || now.saturating_duration_since(age.created) >= limits.max_age
    }
}

/// What a login leads to.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Who.
    pub identity: Identity,
    /// Their label.
    pub label: Label,
    /// What to call them.
    pub display_name: String,
    /// What the rules see of them.
    pub subject: config::Subject,
}

/// The live sessions. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    snapshot: Arc<ArcSwap<Snapshot>>,
    changes: watch::Receiver<u64>,
    records: Arc<dyn Records>,
}

/// The live sessions as they are published: written by the [`Keeper`] alone.
#[derive(Debug, Clone, Default)]
struct Snapshot {
    live: HashMap<SessionName, Arc<Session>>,
    limits: Limits,
}

impl Sessions {
    /// The session with this id, if it is live: one atomic load and one hash.
    pub fn lookup(&self, id: &SessionId) -> Option<Arc<Session>> {
        self.named(id.name())
    }
    /// Waits up to `patience` for a session that another replica may just have made.
    pub async fn await_known(&self, id: &SessionId, patience: Duration) -> Option<Arc<Session>> {
        let name = id.name();
        self.await_that(patience, || self.named(name)).await
    }
    /// Records a new session; it is known here when this returns. A user with very many loses the oldest.
    ///
    /// # Errors
    /// The store fails.
    pub async fn create(&self, new: NewSession) -> Result<(SessionId, Arc<Session>), RecordError> {
        let id = SessionId::random()?;
        self.records.create(Kind::Session, &id.name().to_string(), document::write(&new)).await?;
        let session = self.await_known(&id, ECHO).await.ok_or_else(no_echo)?;
        self.end_excess(&new.identity).await?;
        Ok((id, session))
    }
    /// Ends a session everywhere; here it is ended when this returns. Ending an unknown one is fine.
    ///
    /// # Errors
    /// The store fails.
    pub async fn end(&self, id: &SessionId) -> Result<(), RecordError> {
        self.end_named(&[id.name()]).await
    }
    /// Ends all sessions of somebody; tells how many.
    ///
    /// # Errors
    /// The store fails; some may have ended.
    pub async fn end_all(&self, identity: &Identity) -> Result<usize, RecordError> {
        let names: Vec<_> = self.of(identity).into_iter().map(|(_, name)| name).collect();
        self.end_named(&names).await?;
        Ok(names.len())
    }
    /// How many are live.
    pub fn count(&self) -> usize {
        self.snapshot.load().live.len()
    }

    /// The ages of all, to be recorded.
    pub(crate) fn ages(&self) -> Vec<(ShortName, SessionAge)> {
        let snapshot = self.snapshot.load();
        snapshot.live.iter().map(|(name, session)| (name.short(), session.own_age())).collect()
    }

    /// Takes in what another Usher knows of their use.
    pub(crate) fn learn(&self, ages: &HashMap<ShortName, SessionAge>) {
        for (name, session) in &self.snapshot.load().live {
            if let Some(age) = ages.get(&name.short()) {
                session.elsewhere.learn(age.used);
            }
        }
    }

    fn named(&self, name: SessionName) -> Option<Arc<Session>> {
        let snapshot = self.snapshot.load();
        let session = snapshot.live.get(&name)?;
        (!session.is_over(snapshot.limits, clock::now())).then(|| session.clone())
    }

    /// Somebody's sessions, the oldest first.
    fn of(&self, identity: &Identity) -> Vec<(Instant, SessionName)> {
        let snapshot = self.snapshot.load();
        let theirs = snapshot.live.iter().filter(|(_, session)| session.identity == *identity);
        let mut names: Vec<_> = theirs.map(|(name, session)| (session.age.created, *name)).collect();
        names.sort_unstable();
        names
    }

    async fn end_excess(&self, identity: &Identity) -> Result<(), RecordError> {
        let theirs = self.of(identity);
        let excess = theirs.len().saturating_sub(PER_USER);
        let oldest: Vec<_> = theirs.into_iter().take(excess).map(|(_, name)| name).collect();
        self.end_named(&oldest).await
    }

    async fn end_named(&self, names: &[SessionName]) -> Result<(), RecordError> {
        for name in names {
            self.records.delete(Kind::Session, &name.to_string()).await?;
        }
        let gone = || {
            let snapshot = self.snapshot.load();
            names.iter().all(|name| !snapshot.live.contains_key(name)).then_some(())
        };
        self.await_that(ECHO, gone).await.ok_or_else(no_echo)
    }

    /// Waits until the snapshot shows something.
    async fn await_that<T>(&self, patience: Duration, shows: impl Fn() -> Option<T>) -> Option<T> {
        let mut changes = self.changes.clone();
        let waited = async {
            loop {
                changes.borrow_and_update();
                if let Some(shown) = shows() {
                    return Some(shown);
                }
                changes.changed().await.ok()?;
            }
        };
        tokio::time::timeout(patience, waited).await.ok().flatten()
    }
}

fn no_echo() -> RecordError {
    RecordError::Store("what was written to it is not told by its watch".to_owned())
}

impl SessionId {
    fn random() -> Result<Self, RecordError> {
        let mut bytes = [0; 16];
        let random = SystemRandom::new().fill(&mut bytes);
        random.map_err(|_| RecordError::Store("the system gives no random numbers".to_owned()))?;
        Ok(Self(bytes))
    }

    fn name(self) -> SessionName {
        SessionName(hash::digest(&[b"session", &self.0]))
    }
}

impl SessionName {
    /// Parses what [`fmt::Display`] prints.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        hash::bytes(text).map(Self)
    }
}

impl SessionName {
    fn short(&self) -> ShortName {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        ShortName([a, b, c, d, e, f, g, h])
    }
}

impl ShortName {
    /// Parses what [`fmt::Display`] prints.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        hash::bytes(text).map(Self)
    }
}

impl fmt::Display for ShortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hash::text(&self.0))
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hash::text(&self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(…)")
    }
}

#[cfg(test)]
mod tests;
