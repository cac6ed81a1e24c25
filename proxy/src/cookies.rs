//! The Cookie field, parsed as bytes: split at `;`, trim space and tab, nothing else.
//!
//! Browsers send names such as `U+00A0__Host-usher`, set by a sibling for the whole domain; a parser that trims
//! more, decodes percents, knows quotes or splits at commas would take them for ours.

use bytes::BytesMut;
use http::header::{COOKIE, HeaderMap, HeaderValue};
use memchr::memchr;
use pingora::http::RequestHeader;
use std::fmt::Write as _;
use std::iter;
use std::time::Duration;

/// The portal's session cookie.
pub const PORTAL: &str = "__Host-usher";
/// A workspace host's session cookie.
pub const WORKSPACE: &str = "__Host-usher-ws";
/// Before a login's attempt id.
pub const LOGIN_PREFIX: &str = "__Host-usher-login-";
/// Before a hand-off's attempt id.
pub const ENTER_PREFIX: &str = "__Host-usher-enter-";
/// Before the attempt id of a login whose page has kept a fragment.
pub const FRAGMENT_PREFIX: &str = "__Host-usher-fragment-";

/// Between two fields that become one (RFC 9113 §8.2.3).
const SEPARATOR: &[u8] = b"; ";

/// What a name stands for in the Cookie fields of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found<'a> {
    /// It is not there.
    None,
    /// Once, with this value.
    One(&'a [u8]),
    /// More than once: counts as none.
    Many,
}

/// Looks a cookie up by its exact name, over all Cookie fields (HTTP/2 splits them: RFC 9113 §8.2.3).
pub fn find<'a>(headers: &'a HeaderMap, name: &str) -> Found<'a> {
    let mut values = pairs(headers).filter(|(n, _)| *n == name.as_bytes()).map(|(_, value)| value);
    match (values.next(), values.next()) {
        (None, _) => Found::None,
        (Some(value), None) => Found::One(value),
        (Some(_), Some(_)) => Found::Many,
    }
}

/// All cookies whose name begins with a prefix, as rest of the name and value, in their order.
pub fn find_all<'a>(
    headers: &'a HeaderMap,
    prefix: &str,
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
    let prefix = prefix.as_bytes().to_vec();
    pairs(headers).filter_map(move |(name, value)| Some((name.strip_prefix(prefix.as_slice())?, value)))
}

/// Whether any cookie of ours is there.
pub fn any_of_ours(headers: &HeaderMap) -> bool {
    pairs(headers).any(|(name, _)| is_ours(name))
}

/// Takes our cookies out; the rest stays byte-exact. An empty field is removed.
///
/// The fields of HTTP/2 are joined to the one that HTTP/1 has (RFC 9113 §8.2.3).
pub fn strip(head: &mut RequestHeader) {
    let fields = head.headers.get_all(COOKIE);
    let several = fields.iter().nth(1).is_some();
    if !several && !any_of_ours(&head.headers) {
        return;
    }
    let mut left = BytesMut::with_capacity(fields.iter().map(|field| field.len() + SEPARATOR.len()).sum());
    fields.iter().for_each(|field| add_without_ours(&mut left, field.as_bytes()));
    if left.is_empty() {
        head.remove_header(&COOKIE);
        return;
    }
    let left = HeaderValue::from_maybe_shared(left.freeze()).expect("parts of a header value are one");
    head.insert_header(COOKIE, left).expect("a known name is a valid one");
}

/// The `Set-Cookie` value of one of our cookies; without `max_age` it lasts until the browser ends.
///
/// # Panics
/// Name or value hold other than visible ASCII: both are ours, in base64url.
pub fn set(name: &str, value: &str, max_age: Option<Duration>) -> HeaderValue {
    let mut text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax");
    if let Some(age) = max_age {
        // Writing to a String does not fail.
        let _ = write!(text, "; Max-Age={}", age.as_secs());
    }
    HeaderValue::try_from(text).expect("our cookies are visible ASCII")
}

/// The `Set-Cookie` value that removes one of our cookies.
pub fn clear(name: &str) -> HeaderValue {
    set(name, "", Some(Duration::ZERO))
}

fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    headers.get_all(COOKIE).iter().flat_map(|field| parts(field.as_bytes())).filter_map(pair)
}

/// What stands before, between and behind the `;` of a field.
fn parts(field: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(field);
    iter::from_fn(move || {
        let field = rest?;
        let end = memchr(b';', field);
        rest = end.map(|end| &field[end + 1..]);
        Some(&field[..end.unwrap_or(field.len())])
    })
}

/// Name and value of one part between two `;`; a part without `=` has no name.
fn pair(part: &[u8]) -> Option<(&[u8], &[u8])> {
    let part = trim(part);
    let equals = memchr(b'=', part)?;
    Some((&part[..equals], &part[equals + 1..]))
}

fn trim(part: &[u8]) -> &[u8] {
    trim_end(trim_start(part))
}

fn trim_start(mut part: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = part {
        part = rest;
    }
    part
}

fn trim_end(mut part: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = part {
        part = rest;
    }
    part
}

fn is_ours(name: &[u8]) -> bool {
    name == PORTAL.as_bytes()
        || name == WORKSPACE.as_bytes()
        || name.starts_with(LOGIN_PREFIX.as_bytes())
        || name.starts_with(ENTER_PREFIX.as_bytes())
        || name.starts_with(FRAGMENT_PREFIX.as_bytes())
}

/// Adds what is left of a field without our cookies, if anything is.
fn add_without_ours(left: &mut BytesMut, field: &[u8]) {
    let before = left.len();
    if before > 0 {
        left.extend_from_slice(SEPARATOR);
    }
    let begin = left.len();
    let theirs = |part: &&[u8]| !pair(part).is_some_and(|(name, _)| is_ours(name));
    for (index, part) in parts(field).filter(theirs).enumerate() {
        if index > 0 {
            left.extend_from_slice(b";");
        }
        left.extend_from_slice(if index == 0 { trim_start(part) } else { part });
    }
    left.truncate(begin + trim_end(&left[begin..]).len());
    if left.len() == begin {
        left.truncate(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(values: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(COOKIE, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    fn stripped(values: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        for value in values {
            head.append_header(COOKIE, HeaderValue::from_bytes(value).unwrap()).unwrap();
        }
        strip(&mut head);
        head.headers.get_all(COOKIE).iter().map(|value| value.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_cookie_is_found_by_its_exact_name_only() {
        let nbsp = "\u{a0}__Host-usher=evil".as_bytes();
        let en_quad = "\u{2000}__Host-usher=evil".as_bytes();
        for (field, expected) in [
            (&b"__Host-usher=v"[..], Found::One(b"v")),
            (b" \t__Host-usher=v\t ; a=b", Found::One(b"v")),
            (b"a=b;__Host-usher=x=y=", Found::One(b"x=y=")),
            (b"__Host-usher=", Found::One(b"")),
            (b"__Host-usher=\"v\"", Found::One(b"\"v\"")),
            (b"a=\"x; __Host-usher=v; y\"", Found::One(b"v")),
            (b"a=b, __Host-usher=evil", Found::None),
            (b"__Host%2dusher=evil", Found::None),
            (b"__host-usher=evil", Found::None),
            (b"__Host-usher =evil", Found::None),
            (b"__Host-usher", Found::None),
            (b"=__Host-usher=evil", Found::None),
            (b"__Host-usher-ws=other", Found::None),
            (nbsp, Found::None),
            (en_quad, Found::None),
            (b"; ;; __Host-usher=v;;", Found::One(b"v")),
            (b"__Host-usher=a; __Host-usher=a", Found::Many),
            (b"", Found::None),
        ] {
            assert_eq!(find(&fields(&[field]), PORTAL), expected, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn all_cookie_fields_are_read_as_one() {
        assert_eq!(find(&fields(&[b"a=b", b"__Host-usher=v"]), PORTAL), Found::One(b"v"));
        assert_eq!(find(&fields(&[b"__Host-usher=v", b"__Host-usher=w"]), PORTAL), Found::Many);
    }

    #[test]
    fn bytes_that_are_no_text_lock_nobody_out() {
        assert_eq!(find(&fields(&[b"x=\xff\xfe; __Host-usher=v"]), PORTAL), Found::One(b"v"));
    }

    #[test]
    fn attempts_are_found_by_their_prefix() {
        let headers =
            fields(&[b"__Host-usher-login-a1=x; __Host-usher-loginb=z", b"__Host-usher-login-b2=y"]);
        let found: Vec<_> = find_all(&headers, LOGIN_PREFIX).collect();
        assert_eq!(found, [(&b"a1"[..], &b"x"[..]), (b"b2", b"y")]);
    }

    #[test]
    fn our_cookies_leave_and_the_rest_stays_byte_for_byte() {
        for (field, left) in [
            (&b"a=1; __Host-usher=x; b=2"[..], Some(&b"a=1; b=2"[..])),
            (b"__Host-usher-ws=x; b=\"q; \xff\";c", Some(b"b=\"q; \xff\";c")),
            (b"a=1;  b=2;__Host-usher-enter-q=x", Some(b"a=1;  b=2")),
            (b"__Host-usher-login-abc=x", None),
            (b"__Host-usher=x; __Host-usher=y", None),
            (b"__Host-usherx=x; a==;", Some(b"__Host-usherx=x; a==;")),
            (b";;a=1", Some(b";;a=1")),
        ] {
            let expected: Vec<Vec<u8>> = left.iter().map(|l| l.to_vec()).collect();
            assert_eq!(stripped(&[field]), expected, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn split_fields_are_joined_for_the_workspace() {
        assert_eq!(stripped(&[b"a=1", b"__Host-usher-ws=x", b"b=2"]), [b"a=1; b=2".to_vec()]);
    }

    #[test]
    fn a_cookie_of_ours_keeps_the_rules_of_its_prefix() {
        assert_eq!(
            set(PORTAL, "abc", Some(Duration::from_secs(600))),
            "__Host-usher=abc; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600"
        );
        assert_eq!(set(WORKSPACE, "v", None), "__Host-usher-ws=v; Path=/; Secure; HttpOnly; SameSite=Lax");
        assert_eq!(clear(PORTAL), "__Host-usher=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0");
    }

    /// Pieces that a Cookie field is made of, of ours and of others', whole and torn.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        const PIECES: [&[u8]; 28] = [
            b"__Host-usher",
            b"__Host-usher-ws",
            b"__Host-usher-login-abc",
            b"__Host-usher-enter-abc",
            b"__Host-usher-fragment-abc",
            b"__host-usher",
            b"__Host-usher2",
            b"\xc2\xa0__Host-usher",
            b"\"__Host-usher\"",
            b"%5F_Host-usher",
            b"_xsrf",
            b"session",
            b"=",
            b"=",
            b"=",
            b"=secret-of-ours",
            b";",
            b";",
            b"; ",
            b" ;\t",
            b",",
            b" ",
            b"\t",
            b"\xff",
            b"\"a;b\"",
            b"",
            b"$Version=1",
            b"x=y",
        ];
        prop_oneof![
            8 => prop::sample::select(&PIECES[..]).prop_map(<[u8]>::to_vec),
            1 => prop::collection::vec(prop_oneof![32u8..127, 128u8..=255], 0..6),
        ]
    }

    fn cookie_field() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(piece(), 0..24).prop_map(|pieces| pieces.concat())
    }

    /// All parts of fields with the space around each taken away, those that are nothing left out.
    fn all_parts(fields: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let parts = fields.iter().flat_map(|field| field.split(|byte| *byte == b';'));
        parts.map(|part| trim(part).to_vec()).filter(|part| !part.is_empty()).collect()
    }

    /// By the letter of the rule, apart from how it is done: what stands before the first `=`.
    fn names_ours(part: &[u8]) -> bool {
        let Some(at) = part.iter().position(|byte| *byte == b'=') else { return false };
        let name = &part[..at];
        let prefixes = [&b"__Host-usher-login-"[..], b"__Host-usher-enter-", b"__Host-usher-fragment-"];
        name == b"__Host-usher"
            || name == b"__Host-usher-ws"
            || prefixes.iter().any(|prefix| name.starts_with(prefix))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn of_no_field_do_ours_pass_and_of_all_fields_the_rest_does(fields in prop::collection::vec(cookie_field(), 1..4)) {
            let given: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
            let left = all_parts(&stripped(&given));
            let theirs: Vec<Vec<u8>> = all_parts(&fields).into_iter().filter(|part| !names_ours(part)).collect();
            prop_assert_eq!(left, theirs);
        }

        #[test]
        fn a_field_without_ours_passes_byte_for_byte(field in cookie_field()) {
            let is_theirs = !all_parts(std::slice::from_ref(&field)).iter().any(|part| names_ours(part));
            prop_assert!(!is_theirs || stripped(&[&field]) == [field]);
        }
    }
}
