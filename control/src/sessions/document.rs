//! A session's record.

use super::{Device, Kept, Login, NewSession};
use crate::Identity;
use config::{Label, ProviderName, Subject};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A session as it is written down.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Document {
    identity: Identity,
    label: String,
    display_name: String,
    subject: SubjectDocument,
    #[serde(default)]
    login: LoginDocument,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kept: Option<KeptDocument>,
    /// Which refresh is under way: who asks the provider has written a name of its own here before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) refreshing: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct LoginDocument {
    /// In milliseconds since 1970.
    at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    agent: String,
    network: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct KeptDocument {
    sealed: String,
    lasts_secs: u64,
    /// When the provider gave it, in milliseconds since 1970; only believed to shorten a wait.
    at: u64,
}

/// What the rules see of somebody, as it is written down.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SubjectDocument {
    issuer: String,
    subject: String,
    name: String,
    claims: Map<String, Value>,
    groups: Vec<String>,
}

/// Why a record is no session.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    #[error("it is not the JSON of a session: {0}")]
    Json(#[from] serde_json::Error),
    #[error("its label or its provider cannot be used: {0}")]
    Name(#[from] config::BadName),
}

impl From<Subject> for SubjectDocument {
    fn from(Subject { issuer, subject, name, claims, groups }: Subject) -> Self {
        Self { issuer, subject, name, claims, groups }
    }
}

impl From<SubjectDocument> for Subject {
    fn from(SubjectDocument { issuer, subject, name, claims, groups }: SubjectDocument) -> Self {
        Self { issuer, subject, name, claims, groups }
    }
}

impl From<&Kept> for KeptDocument {
    fn from(kept: &Kept) -> Self {
        Self { sealed: kept.sealed.clone(), lasts_secs: kept.lasts.as_secs(), at: millis(kept.at) }
    }
}

impl From<KeptDocument> for Kept {
    fn from(KeptDocument { sealed, lasts_secs, at }: KeptDocument) -> Self {
        Self { sealed, lasts: Duration::from_secs(lasts_secs), at: time(at) }
    }
}

impl Document {
    pub(super) fn new(new: &NewSession) -> Self {
        let Login { at, provider, sid, device } = &new.login;
        Self {
            identity: new.identity.clone(),
            label: new.label.to_string(),
            display_name: new.display_name.clone(),
            subject: new.subject.clone().into(),
            login: LoginDocument {
                at: millis(*at),
                provider: provider.as_ref().map(ToString::to_string),
                sid: sid.clone(),
                agent: device.agent.clone(),
                network: device.network.clone(),
            },
            kept: new.kept.as_ref().map(KeptDocument::from),
            refreshing: None,
        }
    }

    /// Keeps another token of the provider's; what it said last holds for as long as before.
    pub(super) fn ask_by(&mut self, next: Option<String>) {
        if let (Some(kept), Some(next)) = (&mut self.kept, next) {
            kept.sealed = next;
        }
    }

    pub(super) fn read(value: &[u8]) -> Result<Self, DocumentError> {
        Ok(serde_json::from_slice(value)?)
    }

    pub(super) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a document of texts and JSON is JSON")
    }

    /// What it says of the session.
    pub(super) fn session(self) -> Result<NewSession, DocumentError> {
        let LoginDocument { at, provider, sid, agent, network } = self.login;
        let provider = provider.map(|name| ProviderName::parse(&name)).transpose()?;
        Ok(NewSession {
            identity: self.identity,
            label: Label::parse(&self.label)?,
            display_name: self.display_name,
            subject: self.subject.into(),
            login: Login { at: time(at), provider, sid, device: Device { agent, network } },
            kept: self.kept.map(Kept::from),
        })
    }
}

fn millis(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(0)
}

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}
