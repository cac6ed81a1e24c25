//! Where certificates, accounts and what is under way are kept: small documents with compare-and-swap and watch.
//!
//! A folder on one machine; in a cluster whatever `main` adapts to it, which all replicas share.

mod directory;

pub use directory::{DirectoryStore, OpenError};

use futures_util::stream::BoxStream;

/// How many bytes the name of a document may have: some are left for what a store adds to it.
pub(crate) const NAME_MAX: usize = 240;
/// How many bytes the value of a document may have: as many as a Secret.
pub(crate) const VALUE_MAX: usize = 1 << 20;

/// Grows with every write of a document; compare-and-swap is on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64);

/// One document.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    /// Its name: lower-case letters, digits, `-` and `.`, a letter first; a hostname fits in it.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// What it says, no longer than a Secret; mostly JSON with a private key in it.
    pub value: Vec<u8>,
}

/// Shows nothing of the value: it may be a private key.
impl std::fmt::Debug for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Document")
            .field("name", &self.name)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Why a document was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// [`Store::create`] found one of that name.
    #[error("{0} is there already")]
    Exists(String),
    /// Somebody else wrote or deleted it in between.
    #[error("{0} was changed by somebody else")]
    Conflict(String),
    /// The store itself fails; with several replicas whether it was written is unknown.
    #[error("the store of certificates cannot be used: {0}")]
    Unusable(String),
}

/// A change of a document, as a watcher sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Created or replaced.
    Put(Document),
    /// Deleted; its name.
    Deleted(String),
}

/// Where documents live. Writes are durable when they return.
#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    /// All documents.
    async fn list(&self) -> Result<Vec<Document>, StoreError>;
    /// One document.
    async fn get(&self, name: &str) -> Result<Option<Document>, StoreError>;
    /// Makes a document; of two that race, one gets [`StoreError::Exists`].
    async fn create(&self, name: &str, value: Vec<u8>) -> Result<Version, StoreError>;
    /// Replaces a document if it still has this version, else [`StoreError::Conflict`].
    async fn replace(&self, name: &str, version: Version, value: Vec<u8>) -> Result<Version, StoreError>;
    /// Deletes a document if it is there; tells whether it was.
    async fn delete(&self, name: &str) -> Result<bool, StoreError>;
    /// All documents as [`Change::Put`], then every change, in order.
    fn watch(&self) -> BoxStream<'static, Change>;
}

/// Whether a document can have this name; no path can be made of one.
pub(crate) fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    text.len() <= NAME_MAX
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(fits)
}
