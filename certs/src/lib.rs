//! A valid certificate for a name, always.
//!
//! One loop writes ([`run`]), everybody else reads snapshots without a lock: [`Resolver`] in each handshake,
//! [`HttpChallenges`] for the authority's questions.

mod acme;
mod at_start;
#[cfg(test)]
mod broken;
mod certificate;
mod challenges;
mod dns;
mod metrics;
mod resolver;
mod schedule;
mod state;
mod store;

pub use at_start::{FileError, resolver_of_files};
pub use certificate::{CHAIN_MAX, Certificate, Part, TEXT_MAX, Unfit};
pub use dns::{AskError, DnsError, DnsRecords, Propagation};
pub use metrics::Metrics;
pub use resolver::{HttpChallenges, Resolver};
pub use store::{
    Change, DirectoryStore, Document, NAME_MAX, OpenError, Store, StoreError, VALUE_MAX, Version, is_name,
};
