//! Why there is no ring of keys.

use control::RecordError;
use std::io;
use std::path::PathBuf;

/// Why there is no ring of keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// Others than the owner may read or write it.
    #[error(
        "{file} has mode {mode:04o}: others may read the keys that all sessions are sealed with; set it to 0600"
    )]
    TooOpen {
        /// The file.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is there, but is no ring.
    #[error(
        "{file} is no ring of keys: {reason}; move it away to start with a fresh one (everybody logs in anew)"
    )]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong; never a part of the content.
        reason: &'static str,
    },
    /// The record that all replicas share is there, but is no ring.
    #[error(
        "the record {name} of kind key (in a cluster the Secret key-{name} of usher's own namespace) is no ring of keys: \
         {reason}; put it back, or delete it and restart every usher to start with a fresh one (everybody logs in anew)"
    )]
    MalformedRecord {
        /// Its name.
        name: &'static str,
        /// What is wrong; never a part of the content.
        reason: &'static str,
    },
    /// The record cannot be read or made.
    #[error("the ring of keys cannot be read or made")]
    Records(#[from] RecordError),
    /// Later keys would not be seen any more.
    #[error("the store of records stopped telling of the ring of keys")]
    Unwatched,
    /// It cannot be read or made.
    #[error("{file} cannot be {action}")]
    Io {
        /// The file.
        file: PathBuf,
        /// `read` or `made`.
        action: &'static str,
        /// Why.
        source: io::Error,
    },
}
