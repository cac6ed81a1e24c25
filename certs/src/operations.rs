//! What an operator may want of certificates.

use crate::certificate::{Certificate, Unfit};
use crate::document_kind::DocumentKind;
use crate::kept::{Kept, Origin};
use crate::listed::Listed;
use crate::local_authority;
use crate::state::{self, State};
use crate::store::{Store, StoreError};
use config::{CertificateSource, Certificates};
use futures_util::{StreamExt, TryStreamExt, stream};
use std::fmt;
use std::future::ready;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::watch;

/// How many hosts are written down at a time that shall have theirs renewed: whoever asked for thousands waits.
const AT_ONCE: usize = 32;

/// Lists certificates, has them renewed, takes in what the operator brings. Cheap to clone.
#[derive(Clone)]
pub struct Operations {
    certificates: Certificates,
    store: Arc<dyn Store>,
    pub(crate) listed: watch::Receiver<Arc<Vec<Listed>>>,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum OperationsError {
    /// There is none of that name.
    #[error("there is no certificate {0}; `usher certs list` names them")]
    Unknown(String),
    /// Somebody else sees to it.
    #[error("the certificate {name} comes from {source_name}, where whoever keeps it there renews it")]
    NotOurs {
        /// Its name.
        name: String,
        /// Its `source`.
        source_name: &'static str,
    },
    /// What was brought cannot be served.
    #[error("it cannot be served: {0}")]
    Unfit(#[from] Unfit),
    /// There is no authority of Usher's own.
    #[error(
        "usher has no authority of its own: no certificate has `source = \"self-signed\"`, or none was made yet"
    )]
    NoAuthority,
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Operations {
    pub(crate) fn new(
        certificates: Certificates,
        store: Arc<dyn Store>,
        listed: watch::Receiver<Arc<Vec<Listed>>>,
    ) -> Self {
        Self { certificates, store, listed }
    }

    /// All certificates, as they are now.
    pub fn list(&self) -> Arc<Vec<Listed>> {
        self.listed.borrow().clone()
    }

    /// Has a certificate renewed as soon as its authority lets us: by its name in the configuration, or by the id of one
    /// host's. The replica that leads does it, whichever is asked. Tells how many will be.
    ///
    /// # Errors
    /// There is none, or it is not Usher's to renew.
    pub async fn renew(&self, name: &str) -> Result<usize, OperationsError> {
        let listed = self.list();
        let is_meant = |listed: &&Listed| listed.id == name || listed.id.split("--").next() == Some(name);
        let meant: Vec<String> = listed.iter().filter(is_meant).map(|one| one.id.clone()).collect();
        if meant.is_empty() {
            return Err(OperationsError::Unknown(name.to_owned()));
        }
        meant.iter().try_for_each(|id| self.is_ours(id))?;
        let many = meant.len();
        let noted = stream::iter(meant).map(|id| self.wish(id)).buffer_unordered(AT_ONCE);
        noted.try_for_each(|()| ready(Ok(()))).await?;
        Ok(many)
    }

    async fn wish(&self, id: String) -> Result<(), StoreError> {
        let note = |state: &mut State| {
            state.wanted = state.wanted.saturating_add(1);
            // Our own patience is over; an authority's word still holds.
            for standing in state.authorities.values_mut() {
                standing.unfit.clear();
                if !standing.by_its_word {
                    standing.not_before = 0;
                }
            }
        };
        state::change(&*self.store, &id, note).await
    }

    /// Takes a certificate in that the operator has got elsewhere; it is renewed like one of Usher's own.
    ///
    /// # Errors
    /// There is none of that name, or what is brought cannot be served in its place.
    pub async fn import(&self, name: &str, chain: &[u8], key: &[u8]) -> Result<(), OperationsError> {
        let listed = self.list();
        let meant = listed.iter().find(|listed| listed.id == name);
        let meant = meant.ok_or_else(|| OperationsError::Unknown(name.to_owned()))?;
        self.is_ours(name)?;
        let certificate = Certificate::parse(chain, key)?;
        let names: Vec<_> =
            meant.names.iter().filter_map(|name| config::NamePattern::parse(name).ok()).collect();
        let now = SystemTime::now();
        certificate.check(&names, now)?;
        let kept = Kept { certificate, origin: Origin::Imported, obtained: now };
        Ok(state::put(&*self.store, &DocumentKind::Certificate.name(name), &kept.write()).await?)
    }

    /// The certificate of Usher's own authority, PEM, for whoever is to trust it.
    ///
    /// # Errors
    /// There is none.
    pub async fn authority(&self) -> Result<String, OperationsError> {
        local_authority::standing(&*self.store).await?.ok_or(OperationsError::NoAuthority)
    }

    fn is_ours(&self, id: &str) -> Result<(), OperationsError> {
        let name = id.split("--").next().unwrap_or(id);
        let source_name = match self.certificates.get(name).map(|declared| &declared.source) {
            Some(CertificateSource::Files { .. }) => "files",
            Some(CertificateSource::Secret(_)) => "a Secret",
            _ => return Ok(()),
        };
        Err(OperationsError::NotOurs { name: name.to_owned(), source_name })
    }
}

/// Shows how many there are.
impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Operations({} certificates)", self.certificates.len())
    }
}
