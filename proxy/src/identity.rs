//! Who somebody is: the identity providers, and what they say.
//!
//! One provider each is followed (`provider`), asked in bounded time (`web`) by the code flow (`exchange`, `github`); what it says of
//! a person becomes what the rules see (`claims`), again and again while they are logged in (`refresh`), until it or they end
//! that (`logout`).

pub(crate) mod claims;
mod client_key;
pub(crate) mod device;
mod exchange;
mod github;
pub(crate) mod logout;
mod provider;
pub mod refresh;
mod signed;
mod web;

pub(crate) use exchange::{Failure, Handed, Secrets, short};
pub(crate) use provider::Provider;

use crate::access::authorise;
use crate::refusal::{Code, Refusal};
use config::{Config, Protocol, ProviderName, RequestFacts, Subject};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tokio::task::JoinSet;
pub(crate) use web::{Web, WebError};

/// Why the providers cannot be followed.
#[derive(Debug, thiserror::Error)]
#[error("[login.providers.{name}] cannot be used: {reason}")]
pub struct ProviderError {
    /// Which.
    name: ProviderName,
    /// What is wrong, and what to do.
    #[source]
    reason: certs::NoRoots,
}

/// All providers of the configuration.
#[derive(Clone, Default)]
pub struct Providers {
    by_name: BTreeMap<ProviderName, Provider>,
}

impl Providers {
    /// Begins to follow those of a configuration, in tasks that end when they are dropped. None of them has to answer.
    ///
    /// # Errors
    /// The certificate authorities of one cannot be read.
    pub fn follow(config: &config::Login) -> Result<(Self, JoinSet<()>), ProviderError> {
        let mut following = JoinSet::new();
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
            let (provider, changes) = Provider::new(told.clone(), web);
            if let Protocol::OpenIdConnect(_) = told.protocol {
                following.spawn(provider.clone().ask_again_and_again(changes));
            }
            by_name.insert(name.clone(), provider);
        }
        Ok((Self { by_name }, following))
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

/// Tells the groups of somebody, and whether they may enter.
///
/// # Errors
/// They may not, or the rules give no answer.
pub(crate) fn judge(config: &Config, subject: &mut Subject, facts: &RequestFacts) -> Result<(), Refusal> {
    let rules = &config.access;
    let failed = |rule| move |error| authorise::rule_failed(rule, &error);
    subject.groups = rules.groups.evaluate(subject, facts).map_err(failed("access.groups"))?;
    match rules.allow.evaluate(subject, facts).map_err(failed("access.allow"))? {
        true => Ok(()),
        false => Err(Refusal::new(Code::NotAllowed)),
    }
}

/// Whether who logged in by this provider, or by the development login where there is none, could do so again.
pub(crate) fn is_served(config: &Config, provider: Option<&str>) -> bool {
    match provider {
        Some(name) => config.login.providers.contains_key(name),
        None => config.login.development,
    }
}
