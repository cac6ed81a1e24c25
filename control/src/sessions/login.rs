//! What a session is made of when somebody logs in.

use crate::Identity;
use config::{Label, ProviderName, Subject};
use std::time::{Duration, SystemTime};

/// What a login leads to.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Who.
    pub identity: Identity,
    /// Their label.
    pub label: Label,
    /// What to call them.
    pub display_name: String,
    /// What the rules see of them.
    pub subject: Subject,
    /// How they came.
    pub login: Login,
    /// By what their provider is asked anew; none = it gives nothing of the kind.
    pub kept: Option<Kept>,
}

/// How somebody logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// When, by the clock of the Usher that they came by.
    pub at: SystemTime,
    /// By which provider; none = by the development login.
    pub provider: Option<ProviderName>,
    /// The provider's name for its own session (OpenID Connect Front-Channel Logout 1.0 §3).
    pub sid: Option<String>,
    /// From where.
    pub device: Device,
}

impl Login {
    /// A login at this moment.
    pub fn now(provider: Option<ProviderName>, sid: Option<String>, device: Device) -> Self {
        Self { at: SystemTime::now(), provider, sid, device }
    }
}

/// From where somebody logged in, as far as it helps them to recognise it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// The family of the browser and of the system: `Firefox on Linux`.
    pub agent: String,
    /// The network of the address: `192.0.2.0/24`.
    pub network: String,
}

/// By what a provider is asked anew who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its token, sealed by whoever will open it.
    pub sealed: String,
    /// How long holds what it said.
    pub lasts: Duration,
    /// When it said so, by the clock of the Usher that asked.
    pub at: SystemTime,
}
