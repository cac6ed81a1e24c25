//! What a request that changes something must bring: its fields, this very origin, and a token of the session.

use crate::access::authenticate::Caller;
use crate::keys::{Keys, Purpose};
use crate::own::Asked;
use crate::refusal::{Code, Refusal};
use crate::request::single;
use control::SessionId;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, ORIGIN};
use serde_json::Value;

/// The fields of a body: a browser's form, or a JSON object of texts, numbers and booleans.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields(Vec<(String, String)>);

/// The header in which scripts send the token that forms send as the field `csrf`.
const TOKEN_HEADER: &str = "usher-csrf";

impl Fields {
    /// Reads a body; `None` if it is neither, or not what its type says.
    pub(super) fn parse(headers: &HeaderMap, body: &[u8]) -> Option<Self> {
        let content_type = headers.get(CONTENT_TYPE).map(|value| value.as_bytes()).unwrap_or_default();
        let essence = content_type.split(|byte| *byte == b';').next()?.trim_ascii();
        if essence.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") {
            return Some(Self(form_urlencoded::parse(body).into_owned().collect()));
        }
        if essence.eq_ignore_ascii_case(b"application/json") {
            let object: serde_json::Map<String, Value> = serde_json::from_slice(body).ok()?;
            let text = |value| match value {
                Value::String(text) => text,
                other => other.to_string(),
            };
            return Some(Self(object.into_iter().map(|(key, value)| (key, text(value))).collect()));
        }
        (body.is_empty() && essence.is_empty()).then(Self::default)
    }

    /// A field that is there exactly once.
    pub(super) fn one(&self, key: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str());
        let first = values.next()?;
        values.next().is_none().then_some(first)
    }
}

/// Whether a page of the portal itself sent this, by its one `Origin`. None and `null` are no such page.
pub(super) fn is_from_here(asked: &Asked, headers: &HeaderMap) -> bool {
    let here = asked.connection.listener.origin(asked.host.as_str());
    single(headers, &ORIGIN) == Some(here.as_bytes())
}

/// A token for the forms of a session's pages. It ends with the session.
pub(super) fn token(keys: &Keys, asked: &Asked, session: &SessionId) -> String {
    keys.seal(Purpose::Csrf, asked.host.as_str(), &session.0)
}

/// The fields of a request by which somebody changes something.
///
/// # Errors
/// 403 unless it comes from a page of the portal, with a token of this session; 400 for another body.
pub(super) fn of_change(
    keys: &Keys,
    asked: &Asked,
    caller: &Caller,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Fields, Refusal> {
    let foreign = || Refusal::with(Code::CrossOrigin, "No page of your portal session sent this.");
    let bad = || Refusal::with(Code::BadRequest, "The body is neither a form nor a JSON object.");
    if caller.bearer.is_some() {
        // No browser sends a token by itself, so that nobody can be made to.
        return Fields::parse(headers, body).ok_or_else(bad);
    }
    if !is_from_here(asked, headers) {
        return Err(foreign());
    }
    let fields = Fields::parse(headers, body).ok_or_else(bad)?;
    let in_header = headers.get(TOKEN_HEADER).map(|value| value.as_bytes());
    let token = in_header.or(fields.one("csrf").map(str::as_bytes)).ok_or_else(foreign)?;
    match keys.open(Purpose::Csrf, asked.host.as_str(), token) {
        Ok(session) if session == caller.id.0 => Ok(fields),
        _ => Err(foreign()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn fields(content_type: &'static str, body: &str) -> Option<Vec<(String, String)>> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
        Fields::parse(&headers, body.as_bytes()).map(|fields| fields.0)
    }

    #[test]
    fn a_body_is_read_as_what_its_type_says() {
        let read = |pairs: &[(&str, &str)]| {
            Some(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        };
        for (content_type, body, expected) in [
            ("application/x-www-form-urlencoded", "a=1&b=x+y%26", read(&[("a", "1"), ("b", "x y&")])),
            ("Application/X-WWW-Form-Urlencoded; charset=utf-8", "a=1", read(&[("a", "1")])),
            (
                "application/json",
                r#"{"a":"1","b":8,"c":true}"#,
                read(&[("a", "1"), ("b", "8"), ("c", "true")]),
            ),
            ("application/json", "[1]", None),
            ("application/json", "", None),
            ("text/plain", "a=1", None),
            ("multipart/form-data; boundary=x", "--x", None),
        ] {
            assert_eq!(fields(content_type, body), expected, "{content_type} {body}");
        }
        assert_eq!(Fields::parse(&HeaderMap::new(), b""), Some(Fields::default()));
        assert_eq!(Fields::parse(&HeaderMap::new(), b"a=1"), None);
    }

    #[test]
    fn a_field_that_is_there_twice_is_not_there() {
        let fields =
            Fields(vec![("a".into(), "1".into()), ("a".into(), "1".into()), ("b".into(), "2".into())]);
        assert_eq!((fields.one("a"), fields.one("b"), fields.one("c")), (None, Some("2"), None));
    }
}
