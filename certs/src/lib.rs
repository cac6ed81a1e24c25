//! A valid certificate for a name, always.
//!
//! One loop writes ([`run`]), everybody else reads snapshots without a lock: [`Resolver`] in each handshake,
//! [`HttpChallenges`] for the authority's questions.

mod acme;
#[cfg(test)]
mod broken;
mod certificate;
mod challenges;
mod claim;
mod dns;
mod document_kind;
mod files;
mod hex;
mod inventory;
mod kept;
#[cfg(test)]
mod lab;
mod listed;
mod local_authority;
mod metrics;
mod operations;
mod resolver;
mod retry_after;
mod roots;
mod run;
mod schedule;
mod state;
mod store;
mod told;
mod units;

pub use certificate::{Certificate, Part, TEXT_MAX, Unfit};
pub use dns::{AskError, DnsError, DnsRecords, Propagation};
pub use listed::{Listed, ListedCertificate, Next};
pub use local_authority::LocalAuthorityError;
pub use metrics::Metrics;
pub use operations::{Operations, OperationsError};
pub use resolver::{ACME_TLS, HttpChallenges, Resolver};
pub use roots::{NoRoots, roots};
pub use run::{Ended, Running, SecretPair, Settings, StartError, start};
pub use store::{Change, DirectoryStore, Document, OpenError, Store, StoreError, Version};
