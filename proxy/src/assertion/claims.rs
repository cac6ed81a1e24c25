//! What an assertion says.

use super::LIFETIME;
use config::Subject;
use control::Session;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

/// The claims (RFC 7519 §4.1; OpenID Connect Core §5.1 for those about the person).
///
/// All of it has a bound, so that the whole assertion stays below 8,000 bytes: many servers take no field above 8 KiB.
///
/// `nbf` is not there: it would only say `iat` again, to clocks that may lag a little.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(super) struct Claims<'a> {
    /// The portal's origin.
    iss: &'a str,
    /// The workspace's host name.
    aud: &'a str,
    /// Who: one text for provider and subject together, so that two providers never mean the same person by it.
    sub: String,
    iat: u64,
    exp: u64,
    /// What to call them.
    name: &'a str,
    /// Their label.
    preferred_username: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email_verified: Option<bool>,
    /// Left out if it is longer than any provider may make it.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Provided<'a>>,
    /// All of them or none: by a part of them an application would decide wrongly and could not know.
    #[serde(skip_serializing_if = "Option::is_none")]
    groups: Option<&'a [String]>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    groups_omitted: bool,
}

/// Who they are to their provider.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Provided<'a> {
    iss: &'a str,
    sub: &'a str,
}

/// Longest name, in bytes: a name, not a story.
const NAME_MAX: usize = 128;
/// Longest address of an e-mail, as JSON: RFC 5321 §4.5.3.1 gives it 254 bytes.
const EMAIL_MAX: usize = 256;
/// Longest identity, as JSON: OpenID Connect Core §2 gives the subject 255 bytes.
const IDENTITY_MAX: usize = 600;
/// Most that the groups may take, as JSON: what is left.
const GROUPS_MAX: usize = 3072;

impl<'a> Claims<'a> {
    /// The claims about the owner of a session, issued now (since 1970).
    /// `facts` is what the rules see of them.
    pub(super) fn of(
        session: &'a Session,
        facts: &'a Subject,
        issuer: &'a str,
        audience: &'a str,
        now: Duration,
    ) -> Self {
        let (identity, name) = (session.identity(), session.display_name());
        let email = facts.claims.get("email").and_then(Value::as_str).filter(|email| fits(email, EMAIL_MAX));
        let verified = facts.claims.get("email_verified").and_then(Value::as_bool);
        let provided = Provided { iss: identity.issuer, sub: identity.subject };
        let groups = Some(facts.groups.as_slice()).filter(|groups| fits(groups, GROUPS_MAX));
        Self {
            iss: issuer,
            aud: audience,
            sub: identity.key(),
            iat: now.as_secs(),
            exp: (now + LIFETIME).as_secs(),
            name: &name[..name.floor_char_boundary(NAME_MAX)],
            preferred_username: session.label.as_str(),
            email,
            email_verified: verified.filter(|_| email.is_some()),
            identity: Some(provided).filter(|provided| fits(provided, IDENTITY_MAX)),
            groups,
            groups_omitted: groups.is_none(),
        }
    }
}

/// Whether something is no longer than this as JSON, in bytes.
fn fits(value: &impl Serialize, max: usize) -> bool {
    serde_json::to_string(value).is_ok_and(|json| json.len() <= max)
}
