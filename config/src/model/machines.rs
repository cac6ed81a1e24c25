//! `[machines]`: who comes without a browser.

use crate::expression::Expression;
use crate::names::{Issuer, ProviderName};
use crate::token_scope::TokenScopes;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// `[machines]`.
#[derive(Debug, Clone)]
pub struct Machines {
    /// `token_lifetime`: how long an API token is good at most.
    pub token_lifetime: Duration,
    /// `tokens_per_user`: how many API tokens one user may have.
    pub tokens_per_user: usize,
    /// `login_lifetime`: unused so long, a login of `usher login` ends.
    pub login_lifetime: Duration,
    /// `[machines.issuers.NAME]`.
    pub issuers: BTreeMap<ProviderName, Arc<TrustedIssuer>>,
}

/// `[machines.issuers.NAME]`: whose tokens are believed.
#[derive(Debug)]
pub struct TrustedIssuer {
    /// The key of the table.
    pub name: ProviderName,
    /// `issuer`: `iss` of its tokens.
    pub issuer: Issuer,
    /// `audience`: what must stand in `aud`.
    pub audience: String,
    /// `allow`: whether whoever a token is about may enter by it, beside what `access.allow` says.
    pub allow: Expression<bool>,
    /// `jwks_url`: where its keys are; none = where its discovery document says.
    pub keys_at: Option<Issuer>,
    /// `algorithms`: by which its tokens may be signed.
    pub algorithms: Vec<TokenAlgorithm>,
    /// `scopes`: what its tokens may be used for.
    pub scopes: TokenScopes,
    /// `lifetime_max`: tokens that are good for longer are not believed.
    pub lifetime_max: Duration,
    /// `certificate_authority`: PEM file of who signs for it; none = those of the system.
    pub certificate_authority: Option<PathBuf>,
}

/// An algorithm by which a token may be signed: one whose secret nobody but the issuer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenAlgorithm {
    /// `RS256`.
    Rs256,
    /// `RS384`.
    Rs384,
    /// `RS512`.
    Rs512,
    /// `PS256`.
    Ps256,
    /// `PS384`.
    Ps384,
    /// `PS512`.
    Ps512,
    /// `ES256`.
    Es256,
    /// `ES384`.
    Es384,
    /// `EdDSA`.
    EdDsa,
}
