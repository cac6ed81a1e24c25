//! Who somebody is: the identity providers, and what they say.
//!
//! One provider each is followed (`provider`), asked in bounded time (`web`) by the code flow (`exchange`); what it says of
//! a person becomes what the rules see (`claims`).

mod claims;
mod client_key;
mod exchange;
mod provider;
mod web;

pub(crate) use exchange::{Failure, Handed, Secrets};
pub(crate) use provider::{Known, Provider};

use config::ProviderName;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokio_util::sync::CancellationToken;
use web::{NoWeb, Web};

/// Why the providers cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error("[login.providers.{name}] cannot be used: {reason}")]
pub struct ProviderError {
    /// Which.
    name: ProviderName,
    /// What is wrong, and what to do.
    #[source]
    reason: NoWeb,
}

/// All providers of the configuration.
#[derive(Clone, Default)]
pub struct Providers {
    by_name: BTreeMap<ProviderName, Provider>,
}

impl Providers {
    /// Begins to follow those of a configuration, until `ended`. None of them has to answer.
    ///
    /// # Errors
    /// The certificate authorities of one cannot be read.
    pub fn follow(config: &config::Login, ended: &CancellationToken) -> Result<Self, ProviderError> {
        let mut webs: BTreeMap<Option<PathBuf>, Web> = BTreeMap::new();
        let mut by_name = BTreeMap::new();
        for (name, told) in &config.providers {
            let authority = &told.certificate_authority;
            let web = match webs.get(authority) {
                Some(web) => web.clone(),
                None => {
                    let failed = |reason| ProviderError { name: name.clone(), reason };
                    let web = Web::new(authority.as_deref()).map_err(failed)?;
                    webs.insert(authority.clone(), web.clone());
                    web
                }
            };
            by_name.insert(name.clone(), Provider::follow(told.clone(), web, ended.clone()));
        }
        Ok(Self { by_name })
    }

    /// One of them.
    pub(crate) fn get(&self, name: &str) -> Option<&Provider> {
        self.by_name.get(&ProviderName::parse(name).ok()?)
    }

    /// All, by name.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Provider> {
        self.by_name.values()
    }
}
