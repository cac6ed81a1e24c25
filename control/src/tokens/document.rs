//! A token's record.

use super::{NewToken, TokenSort};
use crate::{Device, Identity, Login, NewSession, Session};
use config::{Label, ProviderName, Subject, TokenScopes};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A token as it is written down. Times are in milliseconds since 1970.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Document {
    sort: SortDocument,
    pub(super) identity: Identity,
    /// Their label when it was made, which is theirs for ever. A user of the development login alone may get another one,
    /// when somebody real takes theirs ([`crate::Users`]): their tokens keep this one, and no workspace of the other's opens
    /// to them, since whose that is says its owner's identity.
    label: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    pub(super) name: String,
    scopes: String,
    made: u64,
    expires: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    used: Option<u64>,
    /// Of a login: the hash of the secret that is good now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) secret: Option<String>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SortDocument {
    Api,
    Login,
}

/// Why a record is no token.
#[derive(Debug, thiserror::Error)]
pub(super) enum DocumentError {
    #[error("it is not the JSON of a token: {0}")]
    Json(#[from] serde_json::Error),
    #[error("its label or its provider cannot be used: {0}")]
    Name(#[from] config::BadName),
}

impl Document {
    /// `secret`: of a login, the hash of its first secret.
    pub(super) fn new(owner: &Session, new: NewToken, secret: Option<String>) -> Self {
        Self {
            sort: if secret.is_some() { SortDocument::Login } else { SortDocument::Api },
            identity: owner.identity.clone(),
            label: owner.label.to_string(),
            provider: owner.login.provider.as_ref().map(ToString::to_string),
            name: new.name,
            scopes: new.scopes.to_string(),
            made: millis(new.now),
            expires: millis(new.now + new.lifetime),
            used: None,
            secret,
        }
    }

    pub(super) fn read(value: &[u8]) -> Result<Self, DocumentError> {
        Ok(serde_json::from_slice(value)?)
    }

    pub(super) fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a document of texts and numbers is JSON")
    }

    pub(super) fn sort(&self) -> TokenSort {
        match self.sort {
            SortDocument::Api => TokenSort::Api,
            SortDocument::Login => TokenSort::Login,
        }
    }

    /// What it may be used for. Scopes that this version does not know give nothing.
    pub(super) fn scopes(&self) -> TokenScopes {
        self.scopes.split(' ').filter_map(config::TokenScope::parse).collect()
    }

    pub(super) fn made(&self) -> SystemTime {
        time(self.made)
    }

    pub(super) fn expires(&self) -> SystemTime {
        time(self.expires)
    }

    pub(super) fn used(&self) -> Option<SystemTime> {
        self.used.map(time)
    }

    pub(super) fn set_used(&mut self, used: SystemTime) {
        self.used = Some(millis(used));
    }

    pub(super) fn set_expires(&mut self, expires: SystemTime) {
        self.expires = millis(expires);
    }

    /// Its owner, as the rules see them.
    pub(super) fn owner(&self, subject: Subject) -> Result<NewSession, DocumentError> {
        let provider = self.provider.as_deref().map(ProviderName::parse).transpose()?;
        Ok(NewSession {
            identity: self.identity.clone(),
            label: Label::parse(&self.label)?,
            display_name: subject.name.clone(),
            subject,
            login: Login { at: self.made(), provider, sid: None, device: Device::default() },
            kept: None,
        })
    }
}

fn millis(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}
