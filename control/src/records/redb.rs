//! Records in one file, by a thread of its own: nobody waits on the disk but those who asked for a write.

mod store;
mod watcher;

use super::{Change, Kind, Record, RecordError, Records, Version};
use crate::lock;
use futures_util::stream::BoxStream;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;
use store::Store;
use tokio::sync::{broadcast, mpsc, oneshot};

/// How many commands may wait for the thread; more wait in their callers.
const COMMANDS: usize = 1024;
/// How many commands are carried out together at most: writes among them share a transaction and its sync.
const BATCH: usize = 256;

/// Why a file of records cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreOpenError {
    /// Another process has it open.
    #[error("{} is in use by {by}: another usher runs on this state folder", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
        /// Who has it open.
        by: String,
    },
    /// Others than its owner may use it.
    #[error("others than its owner may use {} (mode {mode:o}): it holds keys and sessions, `chmod 600` it", path.display())]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is damaged or no file of records, or it cannot be read or written at all.
    #[error("{} cannot be used as the file of records: {reason}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the system or the database says.
        reason: String,
    },
}

/// [`Records`] in one redb file (0600) that one process has open at a time.
///
/// Dropping it closes the file; watches end then.
pub struct RedbRecords {
    /// `None` only while it is dropped.
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread is asked to do.
enum Command {
    List(Kind, Answer<Vec<Record>>),
    Get(Kind, String, Answer<Option<Record>>),
    Write(Write, Answer<Option<Version>>),
    /// All records of the kind now, and every change from then on.
    Watch(Kind, Answer<(Vec<Record>, broadcast::Receiver<Change>)>),
}

type Answer<T> = oneshot::Sender<Result<T, RecordError>>;

enum Write {
    Create(Kind, String, Vec<u8>),
    Replace(Kind, String, Version, Vec<u8>),
    Delete(Kind, String),
}

impl RedbRecords {
    /// Opens the file, or makes it. Blocks, for up to 5 s where another usher that is ending still has it.
    ///
    /// # Errors
    /// Why it cannot be used, with its name.
    pub fn open(path: &Path) -> Result<Self, StoreOpenError> {
        Self::open_within(path, lock::PATIENCE)
    }

    fn open_within(path: &Path, patience: Duration) -> Result<Self, StoreOpenError> {
        let store = Store::open(path, patience)?;
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let thread = std::thread::Builder::new()
            .name("records".to_owned())
            .spawn(move || serve(store, inbox))
            .map_err(|error| StoreOpenError::Unusable { path: path.to_owned(), reason: error.to_string() })?;
        Ok(Self { commands: Some(commands), thread: Some(thread) })
    }

    fn commands(&self) -> &mpsc::Sender<Command> {
        self.commands.as_ref().expect("commands are taken only by drop")
    }

    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, RecordError> {
        ask(self.commands(), command).await
    }

    async fn write(&self, write: Write) -> Result<Option<Version>, RecordError> {
        self.ask(|answer| Command::Write(write, answer)).await
    }
}

async fn ask<T>(
    commands: &mpsc::Sender<Command>,
    command: impl FnOnce(Answer<T>) -> Command,
) -> Result<T, RecordError> {
    let ended = || RecordError::Store("its thread has ended".to_owned());
    let (answer, answered) = oneshot::channel();
    commands.send(command(answer)).await.map_err(|_| ended())?;
    answered.await.map_err(|_| ended())?
}

impl Drop for RedbRecords {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // Its panic was reported when it happened; here only the file's end matters.
            let _ = thread.join();
        }
    }
}

#[async_trait::async_trait]
impl Records for RedbRecords {
    async fn list(&self, kind: Kind) -> Result<Vec<Record>, RecordError> {
        self.ask(|answer| Command::List(kind, answer)).await
    }
    async fn get(&self, kind: Kind, name: &str) -> Result<Option<Record>, RecordError> {
        self.ask(|answer| Command::Get(kind, name.to_owned(), answer)).await
    }
    async fn create(&self, kind: Kind, name: &str, value: Vec<u8>) -> Result<Version, RecordError> {
        let version = self.write(Write::Create(kind, name.to_owned(), value)).await?;
        Ok(version.expect("a record that was written has a version"))
    }
    async fn replace(
        &self,
        kind: Kind,
        name: &str,
        version: Version,
        value: Vec<u8>,
    ) -> Result<Version, RecordError> {
        let version = self.write(Write::Replace(kind, name.to_owned(), version, value)).await?;
        Ok(version.expect("a record that was written has a version"))
    }
    async fn delete(&self, kind: Kind, name: &str) -> Result<bool, RecordError> {
        self.write(Write::Delete(kind, name.to_owned())).await.map(|deleted| deleted.is_some())
    }
    fn watch(&self, kind: Kind) -> BoxStream<'static, Change> {
        watcher::watch(self.commands().downgrade(), kind)
    }
}

/// The thread: carries out what is there, and ends when nobody can ask any more.
fn serve(mut store: Store, mut inbox: mpsc::Receiver<Command>) {
    while let Some(first) = inbox.blocking_recv() {
        let mut writes = Vec::new();
        let mut next = Some(first);
        for _ in 0..BATCH {
            let Some(command) = next.take().or_else(|| inbox.try_recv().ok()) else { break };
            match command {
                Command::Write(write, answer) => writes.push((write, answer)),
                // A read sees the writes that were asked for before it.
                read => {
                    store.write(std::mem::take(&mut writes));
                    answer_read(&mut store, read);
                }
            }
        }
        store.write(writes);
    }
}

/// Answers; whoever asked may have left.
fn answer_read(store: &mut Store, command: Command) {
    match command {
        Command::List(kind, answer) => drop(answer.send(store.list(kind))),
        Command::Get(kind, name, answer) => drop(answer.send(store.get(kind, &name))),
        Command::Watch(kind, answer) => drop(answer.send(store.watch(kind))),
        Command::Write(write, answer) => store.write(vec![(write, answer)]),
    }
}

#[cfg(test)]
mod tests;
