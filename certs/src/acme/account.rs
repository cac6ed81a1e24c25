//! Accounts with authorities: made once, kept in the store, opened once.

use super::failure::Failure;
use super::transport::Transport;
use crate::state::put;
use crate::store::Store;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::{Authority, AuthorityName};
use instant_acme::{Account, AccountBuilder, AccountCredentials, ExternalAccountKey, Key, NewAccount};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use tokio::sync::Mutex;

/// What the names of these documents begin with.
const PREFIX: &str = "account-";

/// An account that was opened.
#[derive(Clone)]
pub(super) struct Opened {
    pub(super) account: Account,
}

/// All accounts, each opened when it is needed first.
pub(crate) struct Accounts {
    store: Arc<dyn Store>,
    /// Of each authority its own lock: one that hangs holds nobody else up.
    opened: std::sync::Mutex<HashMap<AuthorityName, Arc<Mutex<Option<Opened>>>>>,
}

/// As it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The address of the directory: another one is another authority, whatever its name.
    directory: String,
    credentials: AccountCredentials,
}

impl Accounts {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, opened: std::sync::Mutex::default() }
    }

    /// The account with an authority, made there if there is none yet.
    pub(super) async fn open(&self, authority: &Authority) -> Result<Opened, Failure> {
        // Held while an account is made: two orders at once would make two.
        let place = self.place(authority);
        let mut opened = place.lock().await;
        if let Some(opened) = &*opened {
            return Ok(opened.clone());
        }
        let transport = Transport::new(authority).map_err(Failure::Account)?;
        let failed = |doing| move |error| Failure::of(doing, error, Transport::told());
        let account = match self.kept(authority).await? {
            Some(credentials) => {
                let builder = Account::builder_with_http(Box::new(transport.clone()));
                builder.from_credentials(credentials).await.map_err(failed("opening the account"))?
            }
            None => {
                let (account, credentials) = make(authority, &transport).await?;
                let kept = Kept { directory: authority.directory.clone(), credentials };
                let value = serde_json::to_vec(&kept).expect("an account has no key but texts");
                put(&*self.store, &format!("{PREFIX}{}", authority.name), &value).await?;
                tracing::info!(authority.name = %authority.name, account.url = account.id(), "an account was made");
                account
            }
        };
        let account = Opened { account };
        *opened = Some(account.clone());
        Ok(account)
    }

    fn place(&self, authority: &Authority) -> Arc<Mutex<Option<Opened>>> {
        let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
        opened.entry(authority.name.clone()).or_default().clone()
    }

    /// The account is not what it was believed to be: it is made or looked for anew.
    pub(super) async fn forget(&self, authority: &Authority) -> Result<(), Failure> {
        *self.place(authority).lock().await = None;
        self.store.delete(&format!("{PREFIX}{}", authority.name)).await?;
        Ok(())
    }

    async fn kept(&self, authority: &Authority) -> Result<Option<AccountCredentials>, Failure> {
        // What a file says may have changed.
        if authority.account_key.is_some() {
            return Ok(None);
        }
        let Some(document) = self.store.get(&format!("{PREFIX}{}", authority.name)).await? else {
            return Ok(None);
        };
        match serde_json::from_slice::<Kept>(&document.value) {
            Ok(kept) if kept.directory == authority.directory => Ok(Some(kept.credentials)),
            Ok(_) => Ok(None),
            Err(error) => {
                tracing::error!(document.name, %error, "an account cannot be read, and another one is made");
                Ok(None)
            }
        }
    }
}

async fn make(
    authority: &Authority,
    transport: &Transport,
) -> Result<(Account, AccountCredentials), Failure> {
    let failed = |error| Failure::of("making an account", error, Transport::told());
    let builder = || -> AccountBuilder { Account::builder_with_http(Box::new(transport.clone())) };
    let contact: Vec<&str> = authority.contact.iter().map(String::as_str).collect();
    let directory = authority.directory.clone();
    if let Some(file) = &authority.account_key {
        let der = account_key(file).map_err(Failure::Account)?;
        let made = persist!(async {
            let key = (Key::from_pkcs8_der(der.clone_key())?, PrivateKeyDer::Pkcs8(der.clone_key()));
            builder().create_from_key(key, directory.clone()).await
        });
        let (account, credentials) = made.map_err(failed)?;
        if !contact.is_empty() {
            persist!(account.update_contacts(&contact)).map_err(failed)?;
        }
        return Ok((account, credentials));
    }
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let external = external_account(authority).map_err(Failure::Account)?;
    persist!(builder().create(&new, directory.clone(), external.as_ref())).map_err(failed)
}

fn account_key(file: &Path) -> Result<PrivatePkcs8KeyDer<'static>, String> {
    let unusable = |reason: &dyn std::fmt::Display| {
        format!(
            "the account_key {} cannot be used: {reason}; it must be a P-256 key as PKCS #8 in PEM form",
            file.display()
        )
    };
    let der = PrivatePkcs8KeyDer::from_pem_file(file).map_err(|error| unusable(&error))?;
    Key::from_pkcs8_der(der.clone_key()).map_err(|error| unusable(&error))?;
    Ok(der)
}

fn external_account(authority: &Authority) -> Result<Option<ExternalAccountKey>, String> {
    let Some(external) = &authority.external_account else { return Ok(None) };
    let text = external.hmac_key.reveal().trim_end_matches('=');
    let key = URL_SAFE_NO_PAD.decode(text).map_err(|_| {
        format!("the external account's hmac_key of the authority {} is not base64url", authority.name)
    })?;
    Ok(Some(ExternalAccountKey::new(external.key_id.clone(), &key)))
}
