//! A valid certificate for a name, always.
//!
//! One loop writes ([`run`]), everybody else reads snapshots without a lock: [`Resolver`] in each handshake,
//! [`HttpChallenges`] for the authority's questions.

mod dns;
mod resolver;
mod store;

pub use dns::{AskError, DnsError, DnsRecords, Propagation};
pub use resolver::{HttpChallenges, Resolver};
pub use store::{Change, Document, Store, StoreError, Version};
