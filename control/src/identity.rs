//! Who somebody is.

use crate::hash;
use config::RouteName;
use serde::{Deserialize, Serialize};

/// Who somebody is: the provider and its name for them. Never an e-mail address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Identity {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
}

/// An [`Identity`] that somebody else keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdentityRef<'a> {
    /// `iss`.
    pub issuer: &'a str,
    /// `sub`.
    pub subject: &'a str,
}

impl IdentityRef<'_> {
    /// The name of this identity's records: a hash that cannot be confused between issuer and subject.
    pub fn key(self) -> String {
        hash::text(&self.digest())
    }

    /// One to keep.
    pub fn to_identity(self) -> Identity {
        Identity { issuer: self.issuer.to_owned(), subject: self.subject.to_owned() }
    }

    /// Whether the development login made it.
    pub fn is_development(self) -> bool {
        self.issuer == Identity::DEVELOPMENT
    }

    pub(crate) fn digest(self) -> [u8; 32] {
        hash::digest(&[self.issuer.as_bytes(), self.subject.as_bytes()])
    }
}

impl Identity {
    /// The issuer of identities of the development login.
    pub const DEVELOPMENT: &'static str = "usher:development";
    /// The issuer of what owns the things that routes lead to. No login gives it: a provider's is an address, and
    /// [`Users::enter`](crate::Users::enter) lets nobody in with it.
    pub(crate) const ROUTE: &'static str = "usher:route";

    /// Whose what a route leads to is: nobody's who could log in.
    pub fn of_route(route: &RouteName) -> Self {
        Self { issuer: Self::ROUTE.to_owned(), subject: route.to_string() }
    }

    /// Whether it is what [`Identity::of_route`] makes of this route.
    pub fn is_of_route(&self, route: &RouteName) -> bool {
        self.issuer == Self::ROUTE && self.subject == route.as_str()
    }

    /// This one, to look at.
    pub fn as_ref(&self) -> IdentityRef<'_> {
        IdentityRef { issuer: &self.issuer, subject: &self.subject }
    }

    /// [`IdentityRef::key`].
    pub fn key(&self) -> String {
        self.as_ref().key()
    }
}
