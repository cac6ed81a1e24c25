//! `[acme.NAME]`: certificate authorities.

use super::{address, filled};
use crate::layout::{Environment, secret};
use crate::model::{Authority, ExternalAccount};
use crate::names::AuthorityName;
use crate::reader::{Table, Wrong, value};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use std::collections::BTreeMap;
use std::sync::Arc;
use toml::de::DeValue;

const KEY_SOURCES: &str = "{ from_env = \"NAME\" } or { from_file = \"PATH\" }";

/// Reads `[acme]`.
pub(super) fn authorities(
    root: &mut Table<'_>,
    outer: Environment<'_>,
) -> Option<BTreeMap<AuthorityName, Arc<Authority>>> {
    root.named("acme", AuthorityName::parse, |name, field| {
        field.table()?.read(|table| authority(name, table, outer))
    })
}

fn authority(
    name: Option<&AuthorityName>,
    table: &mut Table<'_>,
    outer: Environment<'_>,
) -> Option<Arc<Authority>> {
    let directory = table.value("directory", address);
    let agreed = table.value("terms_of_service_agreed", value::boolean);
    let contact = table.value("contact", value::list(contact));
    let profile = table.maybe("profile", filled);
    let external_account = table.maybe_table("external_account", |table| {
        let key_id = table.value("key_id", filled);
        let hmac_key = table.table("hmac_key", |table| {
            secret::bytes_of(table, KEY_SOURCES, outer, is_base64url, "base64url")
        });
        Some(ExternalAccount { key_id: key_id?, hmac_key: hmac_key? })
    });
    let account_key = table.maybe("account_key", value::path);
    let certificate_authority = table.maybe("certificate_authority", value::path);
    if !agreed? {
        let accepted = "true, once you have read them: the authority's directory says where they are";
        table.fault("terms_of_service_agreed", "the authority gives certificates to nobody else", accepted);
        return None;
    }
    let (external_account, account_key) = (external_account?, account_key?);
    if external_account.is_some() && account_key.is_some() {
        let problem = "stands beside an external_account, which is bound to a key that Usher makes";
        table.fault("account_key", problem, "one of the two");
        return None;
    }
    Some(Arc::new(Authority {
        name: name?.clone(),
        directory: directory?,
        contact: contact?,
        profile: profile?,
        external_account,
        account_key,
        certificate_authority: certificate_authority?,
    }))
}

/// RFC 8555 §7.3.4: without padding, which some authorities give all the same.
fn is_base64url(text: &str) -> bool {
    let text = text.trim_end_matches('=');
    !text.is_empty() && URL_SAFE_NO_PAD.decode(text).is_ok()
}

/// RFC 8555 §7.3: most authorities take `mailto` alone.
fn contact(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = value::string(value)?;
    let is_mail = text.strip_prefix("mailto:").is_some_and(|rest| rest.split_once('@').is_some());
    let is_contact =
        is_mail && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b','));
    if is_contact {
        Ok(text)
    } else {
        Err(Wrong::new("is no contact", "an address such as \"mailto:ops@example.org\""))
    }
}
