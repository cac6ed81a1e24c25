//! Who somebody is, and which label is theirs for ever.

use crate::{RecordError, Records};
use config::Label;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Who somebody is: the provider and its name for them. Never an e-mail address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
}

impl Identity {
    /// The issuer of identities of the development login.
    pub const DEVELOPMENT: &'static str = "usher:development";
    /// The name of this identity's records: a hash that cannot be confused between issuer and subject.
    pub fn key(&self) -> String {
        todo!()
    }
}

/// A user: an identity and its label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Who.
    pub identity: Identity,
    /// The label, for ever.
    pub label: String,
}

/// The users. Cheap to clone.
#[derive(Clone)]
pub struct Users {
    records: Arc<dyn Records>,
}

impl Users {
    /// Over these records.
    pub fn new(records: Arc<dyn Records>) -> Self {
        Self { records }
    }

    /// The user with this identity; if new, one that claims `wanted` as label.
    ///
    /// Looks the owner's record up before it claims. A label that is taken, reserved or unrepresentable
    /// gets a suffix from the identity's hash. Of two replicas that race, both get the same answer.
    ///
    /// # Errors
    /// The store fails.
    pub async fn enter(&self, _identity: &Identity, _wanted: &str) -> Result<(User, Label), RecordError> {
        let _ = &self.records;
        todo!()
    }
}
