//! `/cli`: a person lets a command line act for them, and `/api/v1/cli/…`: what `usher login` asks for with that.
//!
//! It is the code flow of RFC 8252 with PKCE (RFC 7636): the person's browser leads the consent to a port of their own machine,
//! and whoever shows it must know what only the program knows that asked. The code is good once and for a minute.

mod consent;
mod token;

pub(super) use consent::{ask, consent};
pub(super) use token::{end, token};

use crate::keys::{Keys, Purpose};
use config::HostName;
use serde::{Deserialize, Serialize};

/// What a code says, for ourselves alone.
#[derive(Serialize, Deserialize)]
struct Consent {
    session: [u8; 16],
    challenge: String,
    name: String,
    scopes: String,
    /// In milliseconds since 1970.
    ends: u64,
}

impl Consent {
    /// As a code for this portal.
    fn seal(&self, keys: &Keys, portal: &HostName) -> String {
        let consent = serde_json::to_vec(self).expect("texts and numbers are JSON");
        keys.seal(Purpose::Consent, portal.as_str(), &consent)
    }

    /// What a code says, if it is one of ours.
    fn open(keys: &Keys, portal: &HostName, code: &str) -> Option<Self> {
        let consent = keys.open(Purpose::Consent, portal.as_str(), code.as_bytes()).ok()?;
        serde_json::from_slice(&consent).ok()
    }
}
