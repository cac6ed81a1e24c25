//! Who is logged in: records at login and logout, a snapshot for every request.

pub(crate) mod document;
mod ending;
mod keeper;
mod live;
mod login;
mod marker;
mod refresh;
mod session;
mod signal;
mod texts;

pub use ending::{Ended, Ending, Over};
pub(crate) use keeper::{Keeper, Limits};
pub use login::{Device, Kept, Login, NewSession};
pub use refresh::{Claim, Due, SessionRef};
pub(crate) use session::SessionAge;
pub use session::{Session, UseMark};
pub use signal::Signal;

use crate::mirror::Mirror;
use crate::{Act, Acts, Identity, IdentityRef, Kind, RecordError, Records, Version, clock, hash};
use config::{Label, ProviderName};
use document::Document;
use live::Live;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The secret id of a session: 16 random bytes. Its record is named by its hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

/// The name of a session's record: a hash of its id, from which nobody gets the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SessionName([u8; 16]);

/// The beginning of a [`SessionName`], enough to tell the sessions that live from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ShortName(pub(crate) [u8; 8]);

/// Somebody who is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub identity: Identity,
    /// Their label.
    pub label: Label,
    /// What to call them.
    pub display_name: String,
    /// How many sessions they have.
    pub sessions: usize,
}

/// The live sessions. Cheap to clone.
#[derive(Clone)]
pub struct Sessions {
    snapshot: Mirror<Snapshot>,
    records: Arc<dyn Records>,
    acts: Acts,
}

/// The live sessions as they are published: written by the [`Keeper`] alone.
#[derive(Debug, Clone, Default)]
struct Snapshot {
    live: Live,
    limits: Limits,
    /// The version of the last record that was taken in.
    reached: Version,
}

impl Sessions {
    /// The session with this id, if it is live: one atomic load and one hash.
    pub fn lookup(&self, id: &SessionId) -> Option<Arc<Session>> {
        self.named(id.name())
    }
    /// Waits up to `patience` for a session that another replica may just have made.
    pub async fn await_known(&self, id: &SessionId, patience: Duration) -> Option<Arc<Session>> {
        let name = id.name();
        self.snapshot.await_that(patience, || self.named(name)).await
    }
    /// Records a new session; it is known here when this returns. A user with too many loses the oldest, after the new one
    /// was made: whoever is last of many at once sees them all, and so it holds however many log in side by side. Until
    /// then there are as many more as logins are under way.
    ///
    /// # Errors
    /// The store fails.
    pub async fn create(&self, new: NewSession) -> Result<(SessionId, Arc<Session>), RecordError> {
        let id = SessionId(hash::random()?);
        self.records.create(Kind::Session, &id.name().to_string(), Document::new(&new).write()).await?;
        let session = self.snapshot.await_echo(|| self.lookup(&id)).await?;
        self.end_excess(new.identity.as_ref()).await?;
        Ok((id, session))
    }
    /// Ends a session everywhere; here it is ended when this returns. Ending an unknown one is fine.
    pub async fn end(&self, id: &SessionId) -> Ending {
        self.end_named(&[id.name()]).await
    }
    /// Ends all sessions of somebody, those included that another Usher has made a moment ago.
    pub async fn end_all(&self, identity: IdentityRef<'_>) -> Ending {
        let caught_up = self.catch_up().await;
        let names: Vec<_> = self.of(identity).into_iter().map(|(_, name)| name).collect();
        self.end_named(&names).await.and(caught_up)
    }
    /// Ends all sessions known here that a provider has ended: those of its own session `sid`, or all of `subject` where it
    /// names none.
    pub async fn end_at(&self, provider: &ProviderName, subject: Option<&str>, sid: Option<&str>) -> Ending {
        let is_meant = |session: &Session| {
            session.provider() == Some(provider.as_str())
                && subject.is_none_or(|subject| session.identity().subject == subject)
                && sid.is_none_or(|sid| session.sid() == Some(sid))
        };
        if subject.is_none() && sid.is_none() {
            return Ending::default();
        }
        let snapshot = self.snapshot.load();
        let names: Vec<_> =
            snapshot.live.iter().filter(|(_, session)| is_meant(session)).map(|(name, _)| *name).collect();
        self.end_named(&names).await
    }
    /// All sessions of somebody, the oldest first.
    pub fn list(&self, identity: IdentityRef<'_>) -> Vec<(SessionRef, Arc<Session>)> {
        let names = self.of(identity).into_iter();
        names.filter_map(|(_, name)| Some((SessionRef(name), self.named(name)?))).collect()
    }
    /// Everybody who is logged in, by label.
    pub fn people(&self) -> Vec<Person> {
        let snapshot = self.snapshot.load();
        let mut people: BTreeMap<&Label, Person> = BTreeMap::new();
        for (_, session) in snapshot.live.iter() {
            let new = || Person {
                identity: session.identity().to_identity(),
                label: session.label.clone(),
                display_name: session.display_name().to_owned(),
                sessions: 0,
            };
            people.entry(&session.label).or_insert_with(new).sessions += 1;
        }
        people.into_values().collect()
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
        for (name, session) in self.snapshot.load().live.iter() {
            if let Some(age) = ages.get(&name.short()) {
                session.learn(age.used);
            }
        }
    }

    fn named(&self, name: SessionName) -> Option<Arc<Session>> {
        let snapshot = self.snapshot.load();
        let session = snapshot.live.get(&name)?;
        (!session.is_over(snapshot.limits, clock::now())).then(|| session.clone())
    }

    /// Somebody's sessions, the oldest first.
    fn of(&self, identity: IdentityRef<'_>) -> Vec<(Instant, SessionName)> {
        let snapshot = self.snapshot.load();
        let theirs = snapshot.live.iter().filter(|(_, session)| session.identity() == identity);
        let mut names: Vec<_> = theirs.map(|(name, session)| (session.age.created, *name)).collect();
        names.sort_unstable();
        names
    }

    async fn end_excess(&self, identity: IdentityRef<'_>) -> Result<(), RecordError> {
        let theirs = self.of(identity);
        let excess = theirs.len().saturating_sub(self.snapshot.load().limits.per_user);
        let oldest: Vec<_> = theirs.into_iter().take(excess).map(|(_, name)| name).collect();
        let ending = self.end_named(&oldest).await;
        for ended in &ending.ended {
            self.acts.tell(Act::SessionOver(ended.clone(), Over::TooMany));
        }
        ending.result().map(drop)
    }

    async fn end_named(&self, names: &[SessionName]) -> Ending {
        let mut ending = Ending::default();
        for name in names {
            let session = self.snapshot.load().live.get(name).cloned();
            match self.records.delete(Kind::Session, &name.to_string()).await {
                Ok(true) => {
                    let ended = |session| Ended { reference: SessionRef(*name), session };
                    ending.ended.extend(session.map(ended));
                }
                Ok(false) => {}
                Err(error) => return Ending { failed: Some(error), ..ending },
            }
        }
        let gone = || {
            let snapshot = self.snapshot.load();
            names.iter().all(|name| snapshot.live.get(name).is_none()).then_some(())
        };
        let failed = self.snapshot.await_echo(gone).await.err();
        Ending { failed, ..ending }
    }
}

impl SessionId {
    /// Its record.
    pub fn reference(self) -> SessionRef {
        SessionRef(self.name())
    }

    fn name(self) -> SessionName {
        SessionName(hash::short(&[b"session", &self.0]))
    }
}

impl SessionName {
    /// Parses what [`fmt::Display`] prints.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        hash::unhex(text).map(Self)
    }

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
        f.write_str(&hash::hex(self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(…)")
    }
}

#[cfg(test)]
mod tests;
