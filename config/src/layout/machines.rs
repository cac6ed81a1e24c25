//! `[machines]`: who comes without a browser.

use crate::expression::Scope;
use crate::model::{Machines, TokenAlgorithm, TrustedIssuer};
use crate::names::{Issuer, ProviderName};
use crate::reader::{Table, Wrong, value};
use crate::token_scope::TokenScope;
use std::sync::Arc;
use std::time::Duration;
use toml::de::DeValue;

const MINUTE: Duration = Duration::from_secs(60);

const ALGORITHMS: [(&str, TokenAlgorithm); 9] = [
    ("RS256", TokenAlgorithm::Rs256),
    ("RS384", TokenAlgorithm::Rs384),
    ("RS512", TokenAlgorithm::Rs512),
    ("PS256", TokenAlgorithm::Ps256),
    ("PS384", TokenAlgorithm::Ps384),
    ("PS512", TokenAlgorithm::Ps512),
    ("ES256", TokenAlgorithm::Es256),
    ("ES384", TokenAlgorithm::Es384),
    ("EdDSA", TokenAlgorithm::EdDsa),
];

/// Reads `[machines]`.
pub(super) fn machines(table: &mut Table<'_>) -> Option<Machines> {
    let token_lifetime = table.value("token_lifetime", value::duration(MINUTE));
    let tokens_per_user = table.value("tokens_per_user", value::integer(1..=1_000));
    let login_lifetime = table.value("login_lifetime", value::duration(MINUTE));
    let issuers = table.named("issuers", ProviderName::parse, |name, field| {
        field.table()?.read(|table| issuer(name, table))
    });
    Some(Machines {
        token_lifetime: token_lifetime?,
        tokens_per_user: tokens_per_user?,
        login_lifetime: login_lifetime?,
        issuers: issuers?,
    })
}

fn issuer(name: Option<&ProviderName>, table: &mut Table<'_>) -> Option<Arc<TrustedIssuer>> {
    let issuer = table.value("issuer", address);
    let audience = table.value("audience", audience);
    let allow = table.rule("allow", Scope::Person);
    let keys_at = table.maybe("jwks_url", address);
    let algorithms = table.value("algorithms", value::list(value::word(&ALGORITHMS, "an algorithm")));
    let scopes = table.value("scopes", value::list(scope));
    let lifetime_max = table.value("lifetime_max", value::duration(MINUTE));
    let certificate_authority = table.maybe("certificate_authority", value::path);
    let algorithms = algorithms?;
    if algorithms.is_empty() {
        table.fault("algorithms", "lets no token in", "at least one algorithm, such as [\"RS256\"]");
        return None;
    }
    Some(Arc::new(TrustedIssuer {
        name: name?.clone(),
        issuer: issuer?,
        audience: audience?,
        allow: allow?.expression,
        keys_at: keys_at?,
        algorithms,
        scopes: scopes?.into_iter().collect(),
        lifetime_max: lifetime_max?,
        certificate_authority: certificate_authority?,
    }))
}

fn address(value: &DeValue<'_>) -> Result<Issuer, Wrong> {
    let text = value::string(value)?;
    Issuer::parse(&text).map_err(|bad| Wrong::new("is not the address of an issuer", bad.rule))
}

fn audience(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = value::string(value)?;
    if text.is_empty() {
        Err(Wrong::new("is empty", "the name by which the issuer knows this installation"))
    } else {
        Ok(text)
    }
}

fn scope(value: &DeValue<'_>) -> Result<TokenScope, Wrong> {
    let names = TokenScope::ALL.map(TokenScope::as_str).join("\", \"");
    TokenScope::parse(&value::string(value)?)
        .ok_or_else(|| Wrong::new("is not a scope", format!("\"{names}\"")))
}
