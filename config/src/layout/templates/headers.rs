//! `headers` of a template: under which names an application expects to be told who its user is.

use crate::model::UserFact;
use crate::reader::{Field, Table, value};
use std::collections::BTreeMap;

const FACTS: [(&str, UserFact); 5] = [
    ("name", UserFact::Name),
    ("label", UserFact::Label),
    ("email", UserFact::Email),
    ("groups", UserFact::Groups),
    ("subject", UserFact::Subject),
];

/// Fields that say something else than who somebody is, or that Usher sets itself.
const TAKEN: [&str; 17] = [
    "accept",
    "authorization",
    "connection",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "origin",
    "range",
    "referer",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
];
/// Beginnings of further ones.
const TAKEN_PREFIXES: [&str; 6] = ["accept-", "content-", "if-", "proxy-", "sec-", "x-usher-"];

/// Reads them; names in lower case.
pub(super) fn headers(table: &mut Table<'_>) -> Option<BTreeMap<String, UserFact>> {
    table.named("headers", name, |_, field: Field<'_>| {
        field.parse(value::word(&FACTS, "a fact about the user"))
    })
}

/// The name of a field (RFC 9110 §5.1); `_` is left out, since many servers read it as `-`.
fn name(text: &str) -> Result<String, String> {
    let name = text.to_ascii_lowercase();
    let is_name = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !is_name {
        return Err("is not the name of a header: letters, digits and hyphens".to_owned());
    }
    if TAKEN.contains(&name.as_str()) || TAKEN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return Err("says something else, or is set by Usher itself".to_owned());
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_about_the_user_is_one_that_says_nothing_else() {
        for good in ["X-Forwarded-User", "Remote-User", "X-WEBAUTH-USER", "X-Auth-Request-Email"] {
            assert_eq!(name(good), Ok(good.to_ascii_lowercase()));
        }
        for bad in [
            "",
            "X_User",
            "Host",
            "Cookie",
            "Authorization",
            "X-Forwarded-For",
            "Content-Type",
            "Sec-X",
            "X-Usher-X",
            "a b",
            "\u{e9}",
        ] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
