//! A valid certificate for a name, always.
//!
//! One loop writes ([`run`]), everybody else reads snapshots without a lock: [`Resolver`] in each handshake,
//! [`HttpChallenges`] for the authority's questions.

#[cfg(test)]
mod broken;
mod certificate;
mod files;
mod kept;
mod local_authority;
mod resolver;
mod store;

pub use certificate::{CHAIN_MAX, Certificate, Part, TEXT_MAX, Unfit};
pub use files::{FileError, FilePair, Look};
pub use kept::{Kept, KeptAs, Origin, Unreadable};
pub use local_authority::{LocalAuthority, LocalAuthorityError};
pub use resolver::{HttpChallenges, Resolver};
pub use store::{
    Change, DirectoryStore, Document, NAME_MAX, OpenError, Store, StoreError, VALUE_MAX, Version, is_name,
};
