//! Accounts with authorities: made once, kept in the store, opened once.

use super::failure::{Failure, is_about_the_account};
use super::transport::Transport;
use crate::document_kind::DocumentKind;
use crate::state::{time, unix, write};
use crate::store::{Document, Store, StoreError};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use config::{Authority, AuthorityName};
use instant_acme::{Account, AccountBuilder, AccountCredentials, Error, ExternalAccountKey, Key, NewAccount};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::Mutex;

/// How old an account must be to be replaced: an authority that takes none is not asked for one after the other.
const REPLACE_AFTER: Duration = Duration::from_hours(1);

/// All accounts, each opened when it is needed first.
pub(crate) struct Accounts {
    store: Arc<dyn Store>,
    /// Of each authority its own lock: one that hangs holds nobody else up.
    places: std::sync::Mutex<HashMap<AuthorityName, Arc<Mutex<Place>>>>,
}

/// What there is of the account with one authority.
#[derive(Default)]
struct Place {
    opened: Option<Account>,
    /// Made, and not written down yet: for a key of an external account there may be no second one.
    made: Option<(Account, Kept)>,
}

/// As it is kept.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// The address of the directory: another one is another authority, whatever its name.
    directory: String,
    /// When it was made, in UNIX seconds.
    #[serde(default)]
    made: u64,
    credentials: AccountCredentials,
}

impl Accounts {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, places: std::sync::Mutex::default() }
    }

    /// The account with an authority, made there if there is none yet.
    pub(super) async fn open(&self, authority: &Authority) -> Result<Account, Failure> {
        // Held while an account is made: two orders at once would make two.
        let place = self.place(authority);
        let mut place = place.lock().await;
        if let Some(account) = &place.opened {
            return Ok(account.clone());
        }
        let account = match &authority.account_key {
            Some(file) => by_key(authority, file).await?,
            None => self.kept_or_made(authority, &mut place.made, None).await?.expect("none is refused"),
        };
        place.opened = Some(account.clone());
        Ok(account)
    }

    /// Another account in the place of this one, which the authority takes no more; `None` where that must not be: an
    /// operator's own, or one that was made lately.
    pub(super) async fn replace(
        &self,
        authority: &Authority,
        refused: &str,
    ) -> Result<Option<Account>, Failure> {
        let place = self.place(authority);
        let mut place = place.lock().await;
        if let Some(other) = place.opened.as_ref().filter(|account| account.id() != refused) {
            return Ok(Some(other.clone()));
        }
        // Whatever comes of it: it is opened anew before it is used again.
        place.opened = None;
        if authority.account_key.is_some() {
            return Ok(None);
        }
        place.opened = self.kept_or_made(authority, &mut place.made, Some(refused)).await?;
        Ok(place.opened.clone())
    }

    fn place(&self, authority: &Authority) -> Arc<Mutex<Place>> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.entry(authority.name.clone()).or_default().clone()
    }

    /// The account that is kept, unless it is the refused one, or a new one. Of several replicas that make one at a time
    /// all take the first that is kept.
    async fn kept_or_made(
        &self,
        authority: &Authority,
        made: &mut Option<(Account, Kept)>,
        refused: Option<&str>,
    ) -> Result<Option<Account>, Failure> {
        let (name, transport) = (DocumentKind::Account.name(&authority.name), transport(authority)?);
        loop {
            let standing = self.store.get(&name).await?;
            if let Some(kept) = standing.as_ref().and_then(|document| Kept::read(document, authority)) {
                let since = SystemTime::now().duration_since(time(kept.made));
                let account = opened(&transport, kept.credentials).await?;
                if refused != Some(account.id()) {
                    *made = None;
                    return Ok(Some(account));
                }
                if since.is_ok_and(|since| since < REPLACE_AFTER) || !is_gone(&account, authority).await {
                    return Ok(None);
                }
                tracing::warn!(
                    authority.name = %authority.name, account.url = account.id(),
                    "an authority takes its account no more, and another one is made"
                );
            }
            let (account, kept) = match made.take() {
                Some(made) => made,
                None => {
                    let (account, credentials) = make(authority, &transport).await?;
                    let made = unix(SystemTime::now());
                    (account, Kept { directory: authority.directory.clone(), made, credentials })
                }
            };
            let value = serde_json::to_vec(&kept).expect("an account has no key but texts");
            match write(&*self.store, &name, standing.map(|document| document.version), value).await {
                Ok(()) => {
                    tracing::info!(authority.name = %authority.name, account.url = account.id(), "an account was made");
                    return Ok(Some(account));
                }
                Err(error) => {
                    *made = Some((account, kept));
                    match error {
                        // Somebody else was first, and theirs is what all have.
                        StoreError::Conflict(_) | StoreError::Exists(_) => {}
                        error => return Err(error.into()),
                    }
                }
            }
        }
    }
}

impl Kept {
    /// The account of this authority that a document has, if it can be used.
    fn read(document: &Document, authority: &Authority) -> Option<Self> {
        let kept = match serde_json::from_slice::<Self>(&document.value) {
            Ok(kept) => kept,
            Err(error) => {
                // Its words may have something of the key.
                let (line, column) = (error.line(), error.column());
                tracing::error!(
                    document.name,
                    line,
                    column,
                    "an account cannot be read, and another one is made"
                );
                return None;
            }
        };
        (kept.directory == authority.directory).then_some(kept)
    }
}

fn transport(authority: &Authority) -> Result<Transport, Failure> {
    Transport::new(authority).map_err(Failure::Account)
}

fn builder(transport: &Transport) -> AccountBuilder {
    Account::builder_with_http(Box::new(transport.clone()))
}

async fn opened(transport: &Transport, credentials: AccountCredentials) -> Result<Account, Failure> {
    let account = builder(transport).from_credentials(credentials).await;
    account.map_err(|error| Failure::of("opening the account", error, &[]))
}

/// The account of an operator's own key. The authority knows which one that is; nothing of it is kept.
async fn by_key(authority: &Authority, file: &Path) -> Result<Account, Failure> {
    let failed = |error| Failure::of("opening the account of the account_key", error, &[]);
    let transport = transport(authority)?;
    let der = account_key(file).map_err(Failure::Account)?;
    let account = persist!(async {
        let key = (Key::from_pkcs8_der(der.clone_key())?, PrivateKeyDer::Pkcs8(der.clone_key()));
        builder(&transport).create_from_key(key, authority.directory.clone()).await
    });
    let (account, _) = account.map_err(failed)?;
    let contact: Vec<&str> = authority.contact.iter().map(String::as_str).collect();
    if !contact.is_empty() {
        persist!(account.update_contacts(&contact)).map_err(failed)?;
    }
    tracing::info!(authority.name = %authority.name, account.url = account.id(), "the account of the account_key is used");
    Ok(account)
}

/// Whether an authority takes an account no more. What it refuses to one may be refused for another reason.
async fn is_gone(account: &Account, authority: &Authority) -> bool {
    let contact: Vec<&str> = authority.contact.iter().map(String::as_str).collect();
    let asked = persist!(account.update_contacts(&contact));
    matches!(asked, Err(Error::Api(problem)) if is_about_the_account(&problem))
}

async fn make(
    authority: &Authority,
    transport: &Transport,
) -> Result<(Account, AccountCredentials), Failure> {
    let contact: Vec<&str> = authority.contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let external = external_account(authority).map_err(Failure::Account)?;
    let directory = &authority.directory;
    let made = persist!(builder(transport).create(&new, directory.clone(), external.as_ref()));
    made.map_err(|error| Failure::of("making an account", error, &[]))
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

#[cfg(test)]
mod tests;
