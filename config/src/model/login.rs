//! `[login]`: who tells who somebody is.

use crate::names::{Issuer, ProviderName};
use crate::network::AddressLists;
use crate::secret::Secret;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// `[login]`.
#[derive(Debug, Clone)]
pub struct Login {
    /// `development`: the login that believes whatever name is typed.
    pub development: bool,
    /// `development_from_anywhere_unsafe`: serve it on listeners that are not loopback, too.
    pub development_from_anywhere_unsafe: bool,
    /// `[login.providers.NAME]`.
    pub providers: BTreeMap<ProviderName, Arc<Provider>>,
}

/// `[login.providers.NAME]`: an identity provider, and Usher as its client. The defaults are those of its `preset`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// The key of the table.
    pub name: ProviderName,
    /// `title`: what its button says.
    pub title: String,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// `client_id`.
    pub client_id: String,
    /// `authentication`: how Usher proves to it that it is this client.
    pub authentication: Authentication,
    /// `scopes`: what is asked for, in this order.
    pub scopes: Vec<String>,
    /// `parameters`: what is sent along to its login page.
    pub parameters: BTreeMap<String, String>,
    /// The `prompt` by which it lets somebody be another than it knows them as (OpenID Connect Core 1.0 §3.1.2.1).
    pub prompt_another: &'static str,
    /// `logout`: whether who logs out here is led to it, to log out there.
    pub logout: ProviderLogout,
    /// `certificate_authority`: PEM file of who signs for it; none = those of the system.
    pub certificate_authority: Option<PathBuf>,
    /// `user_info`: its user info endpoint is asked for what the id token does not say.
    pub user_info: bool,
    /// `emails_verified`: its e-mail addresses are verified though it does not say so.
    pub emails_verified: bool,
    /// `hosted_domain`: Google's `hd`, which a person must have.
    pub hosted_domain: Option<String>,
    /// `allow_addresses` and `deny_addresses`: from where somebody may log in by it.
    pub addresses: AddressLists,
}

impl Provider {
    /// Whether somebody at this address may log in by it.
    pub fn permits(&self, address: IpAddr) -> bool {
        self.addresses.permits(address)
    }
}

/// How a provider is spoken to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// OpenID Connect, by discovery at this issuer.
    OpenIdConnect(Issuer),
    /// GitHub's OAuth 2, at this address; who somebody is tells its API.
    GitHub(Issuer),
}

impl Protocol {
    /// Where the provider is: `iss` of its identities.
    pub fn issuer(&self) -> &Issuer {
        match self {
            Self::OpenIdConnect(issuer) | Self::GitHub(issuer) => issuer,
        }
    }
}

/// `logout`: what becomes of a provider's own session when somebody logs out here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProviderLogout {
    /// A button leads there.
    Offer,
    /// The page goes there by itself.
    Always,
    /// It stays.
    Never,
}

/// How a client proves who it is at the token endpoint (OpenID Connect Core 1.0 §9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Authentication {
    /// `client_secret_basic`.
    Basic(Secret),
    /// `client_secret_post`.
    Post(Secret),
    /// `private_key_jwt`: a PEM key, RSA or P-256.
    PrivateKey(Secret),
}
