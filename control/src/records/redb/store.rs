//! The file itself, as its one thread uses it.

use super::{Answer, StoreOpenError, Write};
use crate::{Change, Kind, Record, RecordError, Version, lock};
use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// Version and value, by name.
type Rows = TableDefinition<'static, &'static str, (u64, &'static [u8])>;

/// The last version that was given out: one counter for all, so that a name used again gets a higher one.
const VERSIONS: TableDefinition<'static, (), u64> = TableDefinition::new("version");

/// Pages kept in memory: the records of some ten thousand users.
const CACHE: usize = 16 << 20;

/// How many changes a watcher may be behind before it gets a new snapshot.
const BEHIND: usize = 1024;

fn rows(kind: Kind) -> Rows {
    TableDefinition::new(kind.as_str())
}

pub(super) struct Store {
    path: PathBuf,
    /// `None` after it failed: redb refuses everything after an error of the disk, so it is opened anew.
    database: Option<Database>,
    watchers: HashMap<Kind, broadcast::Sender<Change>>,
}

/// What a write within a transaction came to.
enum Written {
    /// It will stand once the transaction is committed, and this is then to be told.
    Done(Option<Version>, Option<(Kind, Change)>),
    /// It must not be; the others of the transaction go on.
    Refused(RecordError),
}

impl Store {
    /// Opens the file, or makes it; tries again for so long while somebody else has it.
    pub(super) fn open(path: &Path, patience: Duration) -> Result<Self, StoreOpenError> {
        let deadline = Instant::now() + patience;
        let database = loop {
            match try_open(path)? {
                Some(database) => break database,
                None if Instant::now() < deadline => std::thread::sleep(lock::PAUSE),
                None => return Err(in_use(path)),
            }
        };
        Ok(Self { path: path.to_owned(), database: Some(database), watchers: HashMap::new() })
    }

    pub(super) fn list(&mut self, kind: Kind) -> Result<Vec<Record>, RecordError> {
        self.using(|database| {
            let table = database.begin_read()?.open_table(rows(kind))?;
            let mut records = Vec::new();
            for row in table.iter()? {
                let (name, row) = row?;
                let (version, value) = row.value();
                records.push(record(name.value(), version, value));
            }
            Ok(records)
        })
    }

    pub(super) fn get(&mut self, kind: Kind, name: &str) -> Result<Option<Record>, RecordError> {
        self.using(|database| {
            let table = database.begin_read()?.open_table(rows(kind))?;
            let row = ReadableTable::get(&table, name)?;
            Ok(row.map(|row| {
                let (version, value) = row.value();
                record(name, version, value)
            }))
        })
    }

    pub(super) fn watch(
        &mut self,
        kind: Kind,
    ) -> Result<(Vec<Record>, broadcast::Receiver<Change>), RecordError> {
        // Nothing is written between the two: this thread is the only writer.
        let records = self.list(kind)?;
        let watchers = self.watchers.entry(kind).or_insert_with(|| broadcast::channel(BEHIND).0);
        Ok((records, watchers.subscribe()))
    }

    /// Carries writes out in one transaction, and answers each once it is durable.
    pub(super) fn write(&mut self, writes: Vec<(Write, Answer<Option<Version>>)>) {
        if writes.is_empty() {
            return;
        }
        let (writes, answers): (Vec<_>, Vec<_>) = writes.into_iter().unzip();
        match self.using(|database| transact(database, &writes)) {
            Ok(results) => {
                for (written, answer) in results.into_iter().zip(answers) {
                    let result = match written {
                        Written::Done(version, change) => {
                            self.tell(change);
                            Ok(version)
                        }
                        Written::Refused(error) => Err(error),
                    };
                    // Whoever asked may have left; it is written all the same.
                    let _ = answer.send(result);
                }
            }
            Err(error) => {
                let RecordError::Store(reason) = error else { return };
                for answer in answers {
                    let _ = answer.send(Err(RecordError::Store(reason.clone())));
                }
            }
        }
    }

    fn tell(&self, change: Option<(Kind, Change)>) {
        if let Some((kind, change)) = change
            && let Some(watchers) = self.watchers.get(&kind)
        {
            // Fails when nobody watches any more, which is fine.
            let _ = watchers.send(change);
        }
    }

    /// Does something with the database, opened anew if it failed before.
    fn using<T>(&mut self, f: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, RecordError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => try_open(&self.path)
                .and_then(|opened| opened.ok_or_else(|| in_use(&self.path)))
                .map_err(|error| RecordError::Store(error.to_string()))?,
        };
        match f(&database) {
            Ok(value) => {
                self.database = Some(database);
                Ok(value)
            }
            Err(error) => Err(RecordError::Store(format!("{}: {error}", self.path.display()))),
        }
    }
}

fn in_use(path: &Path) -> StoreOpenError {
    StoreOpenError::InUse { path: path.to_owned(), by: lock::holders(path) }
}

/// `None` while somebody else has it open.
fn try_open(path: &Path) -> Result<Option<Database>, StoreOpenError> {
    let unusable = |reason: String| StoreOpenError::Unusable { path: path.to_owned(), reason };
    let file = open_file(path).map_err(|error| unusable(error.to_string()))?;
    let mode = file.metadata().map_err(|error| unusable(error.to_string()))?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(StoreOpenError::TooOpen { path: path.to_owned(), mode });
    }
    let database = match Database::builder().set_cache_size(CACHE).create_file(file) {
        Err(DatabaseError::DatabaseAlreadyOpen) => return Ok(None),
        opened => opened.map_err(|error| unusable(error.to_string()))?,
    };
    make_tables(&database).map_err(|error| unusable(error.to_string()))?;
    Ok(Some(database))
}

fn open_file(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn make_tables(database: &Database) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for kind in Kind::ALL {
        transaction.open_table(rows(kind))?;
    }
    transaction.open_table(VERSIONS)?;
    transaction.commit()?;
    Ok(())
}

fn transact(database: &Database, writes: &[Write]) -> Result<Vec<Written>, redb::Error> {
    let transaction = database.begin_write()?;
    let mut written = Vec::with_capacity(writes.len());
    for write in writes {
        written.push(write_one(&transaction, write)?);
    }
    transaction.commit()?;
    Ok(written)
}

fn write_one(transaction: &WriteTransaction, write: &Write) -> Result<Written, redb::Error> {
    match write {
        Write::Create(kind, name, value) => {
            if standing(transaction, *kind, name)?.is_some() {
                return Ok(Written::Refused(RecordError::Exists(name.clone())));
            }
            put(transaction, *kind, name, value)
        }
        Write::Replace(kind, name, version, value) => {
            if standing(transaction, *kind, name)? != Some(*version) {
                return Ok(Written::Refused(RecordError::Conflict(name.clone())));
            }
            put(transaction, *kind, name, value)
        }
        Write::Delete(kind, name) => {
            let mut table = transaction.open_table(rows(*kind))?;
            let deleted = table.remove(name.as_str())?.map(|row| Version(row.value().0));
            Ok(Written::Done(deleted, deleted.map(|_| (*kind, Change::Deleted(name.clone())))))
        }
    }
}

/// The version of the record as it stands within the transaction.
fn standing(transaction: &WriteTransaction, kind: Kind, name: &str) -> Result<Option<Version>, redb::Error> {
    let table = transaction.open_table(rows(kind))?;
    let row = table.get(name)?;
    Ok(row.map(|row| Version(row.value().0)))
}

fn put(transaction: &WriteTransaction, kind: Kind, name: &str, value: &[u8]) -> Result<Written, redb::Error> {
    let mut versions = transaction.open_table(VERSIONS)?;
    let version = versions.get(())?.map_or(0, |last| last.value()) + 1;
    versions.insert((), version)?;
    transaction.open_table(rows(kind))?.insert(name, (version, value))?;
    let change = Change::Put(record(name, version, value));
    Ok(Written::Done(Some(Version(version)), Some((kind, change))))
}

fn record(name: &str, version: u64, value: &[u8]) -> Record {
    Record { name: name.to_owned(), version: Version(version), value: value.to_vec() }
}
