//! Documents as files of a folder that is its owner's alone.

mod file;
mod folder;
mod watcher;

use super::{Change, Document, Store, StoreError, Version};
use folder::Folder;
use futures_util::stream::BoxStream;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Why a folder cannot be the store of certificates.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Others than its owner may use it.
    #[error(
        "others than its owner may use {} (mode {mode:o}), and it holds private keys: run `chmod {wanted:o} {}`",
        path.display(), path.display()
    )]
    TooOpen {
        /// The folder, or the file in it.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
        /// The ones that it should have.
        wanted: u32,
    },
    /// It is somebody else's.
    #[error("{} belongs to user {owner}, and Usher runs as user {runs_as}: run `chown {runs_as} {}`",
        path.display(), path.display())]
    Foreign {
        /// The folder, or the file in it.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who Usher is.
        runs_as: u32,
    },
    /// A link, a folder or the like under the name of a document.
    #[error("{} is no ordinary file: move it away", path.display())]
    NotAFile {
        /// What is there.
        path: PathBuf,
    },
    /// The folder cannot be made, read or cleaned up.
    #[error("{} cannot be used as the folder of certificates", path.display())]
    Unusable {
        /// The folder, or the file in it.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// [`Store`] in a folder (0700) that one process uses at a time: each document is a file (0600) of its name and `.json`.
///
/// A file is written beside the old one, forced to the disk, and put in its place, so that there is always one of them
/// whole. One that is damaged nevertheless is passed over, told in the log, and kept as `….json.broken` when the
/// document is made anew. Files of other names are left alone.
///
/// Dropping it ends its watches.
pub struct DirectoryStore {
    folder: Arc<Mutex<Folder>>,
}

impl DirectoryStore {
    /// Opens the folder, or makes it; removes what a write that was cut short has left. Blocks on the disk.
    ///
    /// The caller has made sure that no other process uses it.
    ///
    /// # Errors
    /// Who else may use it, or what is in the way, with the way out.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self { folder: Arc::new(Mutex::new(Folder::open(path)?)) })
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Folder) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        ask(self.folder.clone(), question).await
    }
}

/// One at a time, on a thread that may wait for the disk; it is carried out even if nobody waits for it any more.
async fn ask<T: Send + 'static>(
    folder: Arc<Mutex<Folder>>,
    question: impl FnOnce(&mut Folder) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    // What the folder keeps in memory is true at every line, so that a panic harms nobody else.
    let asked = move || question(&mut folder.lock().unwrap_or_else(PoisonError::into_inner));
    let answer = tokio::task::spawn_blocking(asked).await;
    answer.unwrap_or_else(|_| Err(StoreError::Unusable("it was interrupted".to_owned())))
}

#[async_trait::async_trait]
impl Store for DirectoryStore {
    async fn list(&self) -> Result<Vec<Document>, StoreError> {
        self.ask(|folder| folder.list()).await
    }
    async fn get(&self, name: &str) -> Result<Option<Document>, StoreError> {
        let name = name.to_owned();
        self.ask(move |folder| folder.get(&name)).await
    }
    async fn create(&self, name: &str, value: Vec<u8>) -> Result<Version, StoreError> {
        let name = name.to_owned();
        self.ask(move |folder| folder.create(&name, value)).await
    }
    async fn replace(&self, name: &str, version: Version, value: Vec<u8>) -> Result<Version, StoreError> {
        let name = name.to_owned();
        self.ask(move |folder| folder.replace(&name, version, value)).await
    }
    async fn delete(&self, name: &str) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.ask(move |folder| folder.delete(&name)).await
    }
    fn watch(&self) -> BoxStream<'static, Change> {
        watcher::watch(Arc::downgrade(&self.folder))
    }
}

#[cfg(test)]
mod crashes;
#[cfg(test)]
mod full_disk;
#[cfg(test)]
mod tests;
