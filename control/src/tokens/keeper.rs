//! The loop that keeps the snapshot of tokens: its only writer.

use super::document::{Document, DocumentError};
use super::{Snapshot, Token, TokenRef, Tokens};
use crate::mirror::{MirrorWriter, take_batch};
use crate::users::Facts;
use crate::{Change, Kind, LoopError, Record, RecordError, Records, Session, Version};
use futures_util::StreamExt;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often it is looked for tokens that have expired, and for uses to write down.
const SWEEP: Duration = Duration::from_secs(1);
/// How many records are written at a time.
const WRITES: usize = 32;
/// How long a token that has expired is still listed. Long enough that no clock that is wrong for days deletes one.
const LISTED: Duration = Duration::from_hours(30 * 24);

/// Follows the records of tokens, and of the users who have some.
pub(crate) struct Keeper {
    tokens: HashMap<TokenRef, Held>,
    /// What the rules see of those who have tokens, by the names of their records.
    owners: HashMap<String, Facts>,
    writer: MirrorWriter<Snapshot>,
    records: Arc<dyn Records>,
    writes: JoinSet<(TokenRef, Result<(), RecordError>)>,
    busy: HashSet<TokenRef>,
    /// Owners that have something else in their place, which is not published yet.
    replaced: Vec<(Arc<Session>, Arc<Session>)>,
}

/// A token that is recorded.
struct Held {
    document: Document,
    /// The name of its owner's record.
    owner: String,
    token: Arc<Token>,
}

impl Keeper {
    /// Takes up the tokens that are recorded.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) async fn new(records: Arc<dyn Records>) -> Result<(Tokens, Self), RecordError> {
        let recorded = records.list(Kind::Token).await?;
        let writer = MirrorWriter::new();
        let tokens = Tokens { snapshot: writer.mirror(), records: records.clone() };
        let mut keeper = Self {
            tokens: HashMap::new(),
            owners: HashMap::new(),
            writer,
            records,
            writes: JoinSet::new(),
            busy: HashSet::new(),
            replaced: Vec::new(),
        };
        for record in recorded {
            keeper.take(Change::Put(record));
        }
        let owners: HashSet<String> = keeper.tokens.values().map(|held| held.owner.clone()).collect();
        if !owners.is_empty() {
            // One by one would be a call to a cluster for each.
            let users = keeper.records.list(Kind::User).await?;
            for record in users.iter().filter(|record| owners.contains(&record.name)) {
                keeper.learn(&record.name, Facts::of(Some(record)));
            }
        }
        keeper.meet_owners().await;
        keeper.publish();
        Ok((tokens, keeper))
    }

    /// Runs until told to shut down.
    ///
    /// # Errors
    /// The watch of the records ended.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) -> Result<(), LoopError> {
        let mut changes = self.records.watch(Kind::Token);
        let mut users = self.records.watch(Kind::User);
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let news = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                change = changes.next() => {
                    let news = take_batch(change, &mut changes, |change| self.take(change))?;
                    self.meet_owners().await;
                    news
                }
                change = users.next() => self.hear(change.ok_or(LoopError::RecordsEnded)?),
                Some(written) = self.writes.join_next() => {
                    self.settle(written);
                    false
                }
                _ = sweep.tick() => {
                    self.sweep(SystemTime::now());
                    self.meet_owners().await
                }
            };
            if news {
                self.publish();
            }
        }
    }

    /// Takes in a change of a token; tells whether it was news.
    fn take(&mut self, change: Change) -> bool {
        match change {
            Change::Put(record) => {
                let Some(name) = TokenRef::parse(&record.name) else { return false };
                let known = self.tokens.get(&name);
                if known.is_some_and(|known| record.version <= known.token.version) {
                    return false;
                }
                self.put(name, &record).unwrap_or_else(|error| {
                    tracing::warn!(%error, "the record of a token cannot be read and is ignored");
                    false
                })
            }
            Change::Deleted(name) => {
                let held = TokenRef::parse(&name).and_then(|name| self.tokens.remove(&name));
                if let Some(held) = &held {
                    held.token.session.ended().give();
                }
                held.is_some()
            }
        }
    }

    fn put(&mut self, name: TokenRef, record: &Record) -> Result<bool, DocumentError> {
        let document = Document::read(&record.value)?;
        let owner = document.identity.key();
        let mut token = self.token(name, &owner, &document)?;
        token.version = record.version;
        self.insert(name, owner, document, token);
        Ok(true)
    }

    fn insert(&mut self, name: TokenRef, owner: String, document: Document, token: Token) {
        let session = token.session.clone();
        if let Some(before) = self.tokens.insert(name, Held { document, owner, token: Arc::new(token) }) {
            self.replaced.push((before.token.session.clone(), session));
        }
    }

    /// A token as its record and its owner's say.
    fn token(&self, name: TokenRef, owner: &str, document: &Document) -> Result<Token, DocumentError> {
        let facts = self.owners.get(owner);
        let subject = facts.and_then(|facts| facts.subject.clone());
        let is_known = subject.is_some();
        let owner = document.owner(subject.unwrap_or_default())?;
        let before = self.tokens.get(&name).map(|held| &held.token);
        let session = match before {
            Some(before) => before.session.of_machine_renewed(owner),
            None => Session::of_machine(owner),
        };
        Ok(Token {
            reference: name,
            sort: document.sort(),
            name: document.name.clone(),
            scopes: document.scopes(),
            made: document.made(),
            expires: document.expires(),
            used: document.used(),
            session: Arc::new(session),
            version: before.map_or(Version(0), |before| before.version),
            is_known,
            seen: before.map_or_else(Arc::default, |before| before.seen.clone()),
        })
    }

    /// Takes in a change of a user, if they have tokens.
    fn hear(&mut self, change: Change) -> bool {
        match change {
            Change::Put(record) => {
                let Some(known) = self.owners.get(&record.name) else { return false };
                let is_old = known.version.is_some_and(|version| record.version <= version);
                if is_old {
                    return false;
                }
                self.learn(&record.name.clone(), Facts::of(Some(&record)))
            }
            Change::Deleted(name) => self.owners.contains_key(&name) && self.learn(&name, Facts::of(None)),
        }
    }

    /// Looks up the owners who are not known yet; tells whether there were any.
    async fn meet_owners(&mut self) -> bool {
        let owners = self.tokens.values().map(|held| &held.owner);
        let new: HashSet<String> =
            owners.filter(|owner| !self.owners.contains_key(*owner)).cloned().collect();
        let mut met = false;
        for key in new {
            match self.records.get(Kind::User, &key).await {
                Ok(record) => met |= self.learn(&key, Facts::of(record.as_ref())),
                Err(error) => {
                    tracing::warn!(%error, "who owns a token could not be looked up yet");
                    break;
                }
            }
        }
        met
    }

    /// Takes in what the rules see of an owner, in all of their tokens.
    fn learn(&mut self, key: &str, facts: Facts) -> bool {
        self.owners.insert(key.to_owned(), facts);
        let theirs = self.tokens.iter().filter(|(_, held)| held.owner == key);
        let theirs: Vec<_> = theirs.map(|(name, held)| (*name, held.document.clone())).collect();
        for (name, document) in &theirs {
            // What was read once reads again.
            if let Ok(token) = self.token(*name, key, document) {
                self.insert(*name, key.to_owned(), document.clone(), token);
            }
        }
        !theirs.is_empty()
    }

    /// Ends what has expired, and has uses written down and old records deleted.
    fn sweep(&mut self, now: SystemTime) {
        for (name, Held { token, .. }) in &self.tokens {
            if now >= token.expires {
                token.session.ended().give();
            }
            if self.writes.len() >= WRITES || self.busy.contains(name) {
                continue;
            }
            let (records, name) = (self.records.clone(), *name);
            if now >= token.expires + LISTED {
                self.writes.spawn(async move {
                    (name, records.delete(Kind::Token, &name.to_string()).await.map(drop))
                });
            } else if let Some(used) = token.untold(now) {
                self.writes.spawn(async move { (name, tell(&*records, name, used).await) });
            } else {
                continue;
            }
            self.busy.insert(name);
        }
        let owners: HashSet<&String> = self.tokens.values().map(|held| &held.owner).collect();
        self.owners.retain(|owner, _| owners.contains(owner));
    }

    fn settle(&mut self, written: Result<(TokenRef, Result<(), RecordError>), tokio::task::JoinError>) {
        // A panic would leave its token marked as busy: its use is told by a later start.
        let Ok((name, written)) = written else { return };
        self.busy.remove(&name);
        if let Err(error) = written {
            tracing::warn!(%error, "the use of a token could not be written down yet");
        }
    }

    fn publish(&mut self) {
        let snapshot = self.tokens.iter().map(|(name, held)| (*name, held.token.clone())).collect();
        self.writer.publish(snapshot);
        // After it can be looked up: whoever asks anew finds what is new.
        for (before, after) in self.replaced.drain(..) {
            if !before.sees_as(&after) {
                before.changed().give();
            }
        }
    }
}

/// Writes down when a token was used. Who else writes at the same time knows of a use as well.
async fn tell(records: &dyn Records, name: TokenRef, used: SystemTime) -> Result<(), RecordError> {
    let name = name.to_string();
    let Some(record) = records.get(Kind::Token, &name).await? else { return Ok(()) };
    let Ok(mut document) = Document::read(&record.value) else { return Ok(()) };
    document.set_used(used);
    match records.replace(Kind::Token, &name, record.version, document.write()).await {
        Ok(_) | Err(RecordError::Conflict(_)) => Ok(()),
        Err(error) => Err(error),
    }
}
