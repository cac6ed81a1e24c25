//! The second seam: documents with compare-and-swap and watch. redb rows here, Secrets in a cluster.

pub(crate) mod redb;
pub(crate) mod secrets;

use futures_util::stream::BoxStream;

/// What a record is of. On Kubernetes the Secret's `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A user, named by the hash of `iss` + `sub`.
    User,
    /// A label, named by itself: its creation is its claim.
    Label,
    /// A session, named by the hash of its id.
    Session,
    /// A token, named by a hash of its secret.
    Token,
    /// A redeemed ticket, named by its hash: its creation is its redemption.
    Ticket,
    /// A workspace that exists, named by its id.
    Workspace,
    /// The last use of workspaces and sessions, one per replica.
    Use,
    /// The key ring.
    Key,
    /// In which namespace a workspace is, named by its id: its creation is the choice. Only where there are several.
    Place,
    /// Certificates, the accounts with who gives them, and what is under way.
    Certificate,
    /// Until when the times of scheduled starts were carried out: one for all.
    Prestart,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 11] = [
        Self::User,
        Self::Label,
        Self::Session,
        Self::Token,
        Self::Ticket,
        Self::Workspace,
        Self::Use,
        Self::Key,
        Self::Place,
        Self::Certificate,
        Self::Prestart,
    ];

    /// Its name where records are kept; stays as it is for ever.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Label => "label",
            Self::Session => "session",
            Self::Token => "token",
            Self::Ticket => "ticket",
            Self::Workspace => "workspace",
            Self::Use => "use",
            Self::Key => "key",
            Self::Place => "place",
            Self::Certificate => "certificate",
            Self::Prestart => "prestart",
        }
    }
}

/// Grows with every write of a record; compare-and-swap is on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u64);

/// One document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its name in its kind.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// JSON.
    pub value: Vec<u8>,
}

/// Why a record was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// [`Records::create`] found one of that name.
    #[error("a record named {0} exists")]
    Exists(String),
    /// Somebody else wrote or deleted it in between.
    #[error("the record {0} was changed by somebody else")]
    Conflict(String),
    /// The store itself fails. In a file nothing was written; in a cluster the answer may have been lost, and
    /// whether it was written is unknown.
    #[error("the store of records cannot be used: {0}")]
    Store(String),
}

/// A change of a record, as a watcher sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Created or replaced.
    Put(Record),
    /// Deleted; its name.
    Deleted(String),
}

/// Where records live. Writes are durable when they return.
#[async_trait::async_trait]
pub trait Records: Send + Sync + 'static {
    /// All records of a kind.
    async fn list(&self, kind: Kind) -> Result<Vec<Record>, RecordError>;
    /// One record.
    async fn get(&self, kind: Kind, name: &str) -> Result<Option<Record>, RecordError>;
    /// Makes a record; of two that race, one gets [`RecordError::Exists`].
    async fn create(&self, kind: Kind, name: &str, value: Vec<u8>) -> Result<Version, RecordError>;
    /// Replaces a record if it still has this version, else [`RecordError::Conflict`].
    async fn replace(
        &self,
        kind: Kind,
        name: &str,
        version: Version,
        value: Vec<u8>,
    ) -> Result<Version, RecordError>;
    /// Deletes a record if it is there; tells whether it was. Of many that delete it at once one is told so, or two where
    /// the answer to one was lost on its way.
    async fn delete(&self, kind: Kind, name: &str) -> Result<bool, RecordError>;
    /// All records of the kind as [`Change::Put`], then every change, in order.
    fn watch(&self, kind: Kind) -> BoxStream<'static, Change>;
}
