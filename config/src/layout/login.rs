//! `[login]`: the identity providers, with the defaults of their presets.

use super::{Environment, client, secret};
use crate::model::{Authentication, Login, Protocol, Provider, ProviderLogout};
use crate::names::{Issuer, ProviderName};
use crate::reader::{Field, Table, Wrong, value};
use std::collections::BTreeMap;
use std::sync::Arc;
use toml::de::DeValue;

/// What is the same for all who use one provider's software or service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Preset {
    OpenIdConnect,
    Auth0,
    GitHub,
    GitLab,
    Google,
    Keycloak,
    Microsoft,
}

const PRESETS: [(&str, Preset); 7] = [
    ("oidc", Preset::OpenIdConnect),
    ("auth0", Preset::Auth0),
    ("github", Preset::GitHub),
    ("gitlab", Preset::GitLab),
    ("google", Preset::Google),
    ("keycloak", Preset::Keycloak),
    ("microsoft", Preset::Microsoft),
];

const LOGOUTS: [(&str, ProviderLogout); 3] =
    [("offer", ProviderLogout::Offer), ("always", ProviderLogout::Always), ("never", ProviderLogout::Never)];

/// Authorisation parameters that Usher sets itself (RFC 6749 §4.1.1, RFC 7636 §4.3, OpenID Connect Core 1.0 §3.1.2.1).
const OWN_PARAMETERS: [&str; 10] = [
    "client_id",
    "client_secret",
    "code_challenge",
    "code_challenge_method",
    "nonce",
    "redirect_uri",
    "request",
    "request_uri",
    "response_type",
    "state",
];

impl Preset {
    /// Where the service is, if there is one for all.
    fn issuer(self) -> Option<&'static str> {
        match self {
            Self::GitHub => Some("https://github.com"),
            Self::GitLab => Some("https://gitlab.com"),
            Self::Google => Some("https://accounts.google.com"),
            Self::OpenIdConnect | Self::Auth0 | Self::Keycloak | Self::Microsoft => None,
        }
    }

    /// What its button says; none = the name of the table.
    fn title(self) -> Option<&'static str> {
        match self {
            Self::GitHub => Some("GitHub"),
            Self::GitLab => Some("GitLab"),
            Self::Google => Some("Google"),
            Self::Microsoft => Some("Microsoft"),
            Self::OpenIdConnect | Self::Auth0 | Self::Keycloak => None,
        }
    }

    fn scopes(self) -> &'static [&'static str] {
        match self {
            // Without this one these two give no refresh token; where Keycloak is asked for it, its tokens never end.
            Self::Auth0 | Self::Microsoft => &["openid", "profile", "email", "offline_access"],
            Self::GitHub => &["read:user", "user:email", "read:org"],
            Self::OpenIdConnect | Self::GitLab | Self::Google | Self::Keycloak => {
                &["openid", "profile", "email"]
            }
        }
    }

    /// Whether the user info says more than the id token.
    fn user_info(self) -> bool {
        !matches!(self, Self::Google | Self::Microsoft)
    }

    fn prompt_another(self) -> &'static str {
        match self {
            // These three know no `login`.
            Self::GitHub | Self::Google | Self::Microsoft => "select_account",
            Self::OpenIdConnect | Self::Auth0 | Self::GitLab | Self::Keycloak => "login",
        }
    }

    fn parameters(self) -> &'static [(&'static str, &'static str)] {
        match self {
            // Google's own way to ask for a refresh token.
            Self::Google => &[("access_type", "offline")],
            _ => &[],
        }
    }
}

/// Reads `[login]`.
pub(super) fn login(table: &mut Table<'_>, outer: Environment<'_>) -> Option<Login> {
    let development = table.value("development", value::boolean);
    let anywhere = table.value("development_from_anywhere_unsafe", value::boolean);
    let providers = table.named("providers", ProviderName::parse, |name, field| {
        field.table()?.read(|table| provider(name, table, outer))
    });
    Some(Login {
        development: development?,
        development_from_anywhere_unsafe: anywhere?,
        providers: providers?,
    })
}

fn provider(
    name: Option<&ProviderName>,
    table: &mut Table<'_>,
    outer: Environment<'_>,
) -> Option<Arc<Provider>> {
    let preset = table.value("preset", value::word(&PRESETS, "a preset"));
    // After a slip the rest is read as it was probably meant.
    let chosen = preset.unwrap_or(Preset::OpenIdConnect);
    let issuer = issuer(table, chosen);
    let title = table.maybe("title", title);
    let client_id = table.value("client_id", not_empty);
    let authentication = authentication(table, chosen, outer);
    let scopes = scopes(table, chosen);
    let parameters = parameters(table, chosen);
    let certificate_authority = table.maybe("certificate_authority", value::path);
    let logout = table.value("logout", value::word(&LOGOUTS, "what a logout does at the provider"));
    let user_info = table.maybe("user_info", value::boolean);
    let emails_verified = table.value("emails_verified", value::boolean);
    let hosted_domain = hosted_domain(table, chosen);
    let addresses = client::address_lists(table);
    let issuer = issuer?;
    let name = name?.clone();
    let title = title?.or_else(|| chosen.title().map(str::to_owned));
    preset?;
    Some(Arc::new(Provider {
        title: title.unwrap_or_else(|| name.to_string()),
        name,
        protocol: match chosen {
            Preset::GitHub => Protocol::GitHub(issuer),
            _ => Protocol::OpenIdConnect(issuer),
        },
        client_id: client_id?,
        authentication: authentication?,
        scopes: scopes?,
        parameters: parameters?,
        prompt_another: chosen.prompt_another(),
        logout: logout?,
        certificate_authority: certificate_authority?,
        user_info: user_info?.unwrap_or(chosen.user_info()),
        emails_verified: emails_verified?,
        hosted_domain: hosted_domain?,
        addresses: addresses?,
    }))
}

fn issuer(table: &mut Table<'_>, preset: Preset) -> Option<Issuer> {
    let given = table.maybe("issuer", |value| {
        let text = value::string(value)?;
        Issuer::parse(&text).map_err(|bad| Wrong::new("is not the address of a provider", bad.rule))
    })?;
    let issuer = given.or_else(|| Issuer::parse(preset.issuer()?).ok());
    if issuer.is_none() {
        let accepted = "the address by which the provider calls itself: `issuer` in its \
            /.well-known/openid-configuration";
        table.fault("issuer", "is missing", accepted);
    }
    issuer
}

/// What `authentication` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Basic,
    Post,
    PrivateKey,
}

const WAYS: [(&str, Way); 3] = [
    ("client_secret_basic", Way::Basic),
    ("client_secret_post", Way::Post),
    ("private_key_jwt", Way::PrivateKey),
];

const SOURCES: &str = "{ from_env = \"NAME\" } or { from_file = \"PATH\" }";

fn authentication(table: &mut Table<'_>, preset: Preset, outer: Environment<'_>) -> Option<Authentication> {
    let client_secret = table.maybe_table("client_secret", |table| secret::of(table, SOURCES, outer));
    let private_key = table.maybe_table("private_key", |table| secret::of(table, SOURCES, outer));
    let way = table.maybe("authentication", value::word(&WAYS, "a way to authenticate"));
    let (client_secret, private_key, way) = (client_secret?, private_key?, way?);
    match (client_secret, private_key) {
        (Some(secret), None) => match way {
            None | Some(Way::Basic) => Some(Authentication::Basic(secret)),
            Some(Way::Post) => Some(Authentication::Post(secret)),
            Some(Way::PrivateKey) => {
                table.fault("authentication", "needs a private_key", "private_key in place of client_secret");
                None
            }
        },
        (None, Some(_)) if preset == Preset::GitHub => {
            table.fault("private_key", "is nothing that GitHub takes", "a client_secret");
            None
        }
        (None, Some(_)) if preset == Preset::Microsoft => {
            let problem = "is nothing that Microsoft takes without the thumbprint of a certificate";
            table.fault("private_key", problem, "a client_secret");
            None
        }
        (None, Some(key)) => match way {
            None | Some(Way::PrivateKey) => Some(Authentication::PrivateKey(key)),
            Some(Way::Basic | Way::Post) => {
                table.fault(
                    "authentication",
                    "needs a client_secret",
                    "client_secret in place of private_key",
                );
                None
            }
        },
        (Some(_), Some(_)) => {
            table.fault("private_key", "stands beside a client_secret", "one of the two");
            None
        }
        (None, None) => {
            table.fault("client_secret", "is missing", format!("client_secret or private_key: {SOURCES}"));
            None
        }
    }
}

fn scopes(table: &mut Table<'_>, preset: Preset) -> Option<Vec<String>> {
    let given = table.maybe("scopes", value::list(scope))?;
    let scopes = given.unwrap_or_else(|| preset.scopes().iter().map(|scope| (*scope).to_owned()).collect());
    if preset != Preset::GitHub && !scopes.iter().any(|scope| scope == "openid") {
        table.fault("scopes", "does not ask who somebody is", "a list with \"openid\" in it");
        return None;
    }
    Some(scopes)
}

fn parameters(table: &mut Table<'_>, preset: Preset) -> Option<BTreeMap<String, String>> {
    let given = table.named("parameters", parameter, |_, field: Field<'_>| field.parse(value::string))?;
    let mut parameters: BTreeMap<_, _> =
        preset.parameters().iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    parameters.extend(given);
    Some(parameters)
}

fn hosted_domain(table: &mut Table<'_>, preset: Preset) -> Option<Option<String>> {
    let given = table.maybe("hosted_domain", not_empty)?;
    if given.is_some() && preset != Preset::Google {
        table.fault("hosted_domain", "belongs to the preset `google`", "a rule in access.allow");
        return None;
    }
    Some(given)
}

fn parameter(text: &str) -> Result<String, String> {
    let is_name =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if !is_name {
        return Err("is not the name of a parameter: letters, digits, `_` and `-`".to_owned());
    }
    if text == "scope" {
        return Err("is what `scopes` is for".to_owned());
    }
    if OWN_PARAMETERS.contains(&text) {
        return Err("is set by Usher itself".to_owned());
    }
    Ok(text.to_owned())
}

/// One scope (RFC 6749 §3.3).
fn scope(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = value::string(value)?;
    let is_scope =
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'"' | b'\\'));
    if is_scope { Ok(text) } else { Err(Wrong::new("is not a scope", "a word without space, `\"` and `\\`")) }
}

/// What stands on a button.
fn title(value: &DeValue<'_>) -> Result<String, Wrong> {
    const TITLE_MAX: usize = 64;
    let text = value::string(value)?;
    let is_line = (1..=TITLE_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if is_line { Ok(text) } else { Err(Wrong::new("is not a title", "one line of 1 to 64 characters")) }
}

fn not_empty(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = value::string(value)?;
    if text.is_empty() { Err(Wrong::new("is empty", "a text")) } else { Ok(text) }
}
