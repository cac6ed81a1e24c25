//! One ring of keys; everything sealed names its key and has a derived key per purpose and host.

/// What something is sealed for: a value sealed for one purpose opens for no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The portal's session cookie.
    PortalSession,
    /// A workspace host's session cookie.
    WorkspaceSession,
    /// The state of a login attempt.
    Login,
    /// A hand-off ticket.
    Ticket,
    /// A CSRF token of the portal.
    Csrf,
}

/// The ring. Cheap to clone.
#[derive(Clone)]
pub struct Keys {}

/// A sealed value that does not open: forged, for another host or purpose, or sealed with a key that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the sealed value does not open")]
pub struct NotOurs;

impl Keys {
    /// Seals (AEAD) a value for a purpose and a host, as URL-safe base64 without padding.
    pub fn seal(&self, _purpose: Purpose, _host: &str, _value: &[u8]) -> String {
        todo!()
    }
    /// Opens what [`Keys::seal`] made for the same purpose and host.
    pub fn open(&self, _purpose: Purpose, _host: &str, _sealed: &[u8]) -> Result<Vec<u8>, NotOurs> {
        todo!()
    }
}
