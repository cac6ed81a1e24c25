//! A valid certificate for a name, always.
//!
//! One loop writes ([`run`]), everybody else reads snapshots without a lock: [`Resolver`] in each handshake,
//! [`HttpChallenges`] for the authority's questions.

mod at_start;
mod resolver;
mod store;

pub use at_start::{FileError, resolver_of_files};
pub use resolver::{ACME_TLS, HttpChallenges, Resolver};
pub use store::{Change, Document, Store, StoreError, Version};
