//! The notice in an application's own pages: a script tag, put in where that is safe, else nothing changes.

mod scan;

use bytes::{Bytes, BytesMut};
use config::Template;
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderMap, TRANSFER_ENCODING,
};
use http::{Method, StatusCode, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use scan::{Scan, Step};

/// Where the script is served, on every workspace host.
pub const PATH: &str = "/.usher/notice.js";
/// The script: one element in a closed shadow root, no inline style, no markup from text.
pub const SCRIPT: &str = include_str!("notice/notice.js");

/// How far into a document its `<head>` is looked for; further in, the document is left as it is.
const LOOK_AT_MOST: usize = 64 * 1024;

/// Fields that describe the exact bytes of a body, and so are wrong once a tag was put in.
const OF_EXACT_BYTES: [&str; 4] = ["content-md5", "digest", "content-digest", "repr-digest"];

/// Whether the notice belongs into the answer to this request, if that answer allows it.
///
/// The head that goes upstream then asks for `Accept-Encoding: identity`: what is compressed is never changed.
pub fn wanted(request: &RequestHeader, template: &Template) -> bool {
    template.notice
        && request.method == Method::GET
        && request.version != Version::HTTP_10
        && request.headers.get("sec-fetch-dest").is_some_and(|dest| dest.as_bytes() == b"document")
}

/// Puts the script's tag straight after `<head …>` of one response, chunk by chunk.
///
/// Without the tag the body is byte for byte what came; nothing is held back.
#[derive(Debug)]
pub struct Injector {
    scan: Scan,
    looked: usize,
    done: bool,
    tag: Bytes,
}

impl Injector {
    /// An injector for this response, and its head made ready for one; `None` leaves the head as it is.
    ///
    /// Only a complete, uncompressed HTML document that is shown in a tab and may be transformed gets one
    /// (RFC 9110 §7.7). The length leaves the head, and a validator becomes weak (RFC 9110 §8.8.1).
    pub fn for_response(
        request: &RequestHeader,
        template: &Template,
        response: &mut ResponseHeader,
    ) -> Option<Self> {
        if !wanted(request, template) || !allows(response.status, &response.headers) {
            return None;
        }
        let nonce = nonce(&response.headers)?;
        announce(response).ok()?;
        Some(Self { scan: Scan::default(), looked: 0, done: false, tag: tag(nonce.as_deref()) })
    }

    /// The next bytes of the body, with the tag put in if its place is among them.
    pub fn chunk(&mut self, body: &mut Option<Bytes>) {
        let Some(bytes) = body.as_ref().filter(|_| !self.done) else { return };
        match self.place(bytes) {
            Some(at) => {
                let mut changed = BytesMut::with_capacity(bytes.len() + self.tag.len());
                changed.extend_from_slice(&bytes[..at]);
                changed.extend_from_slice(&self.tag);
                changed.extend_from_slice(&bytes[at..]);
                *body = Some(changed.freeze());
            }
            None => self.looked += bytes.len(),
        }
    }

    /// Where in these bytes the tag goes. Ends the search when it is found, or can no longer be.
    fn place(&mut self, bytes: &[u8]) -> Option<usize> {
        for (index, byte) in bytes.iter().enumerate() {
            let step = if self.looked + index < LOOK_AT_MOST { self.scan.next(*byte) } else { Step::Odd };
            match step {
                Step::On => {}
                Step::Here => {
                    self.done = true;
                    return Some(index + 1);
                }
                Step::Odd => {
                    self.done = true;
                    return None;
                }
            }
        }
        None
    }
}

/// Whether a response is a whole HTML document that may be changed.
fn allows(status: StatusCode, headers: &HeaderMap) -> bool {
    status == StatusCode::OK
        && is_html(headers)
        && !says(headers, CONTENT_ENCODING.as_str(), |coding| !coding.eq_ignore_ascii_case("identity"))
        && !says(headers, CONTENT_DISPOSITION.as_str(), |disposition| !first_is(disposition, "inline"))
        && !says(headers, CACHE_CONTROL.as_str(), |rule| rule.eq_ignore_ascii_case("no-transform"))
}

fn is_html(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    match (types.next().map(|value| value.to_str()), types.next()) {
        (Some(Ok(kind)), None) => first_is(kind, "text/html"),
        _ => false,
    }
}

/// Whether what stands before the first `;` is this token.
fn first_is(value: &str, token: &str) -> bool {
    value.split(';').next().is_some_and(|first| first.trim_ascii().eq_ignore_ascii_case(token))
}

/// Whether any list member of a field is as asked; a value that is no text counts as one that is.
fn says(headers: &HeaderMap, name: &str, is: impl Fn(&str) -> bool) -> bool {
    headers.get_all(name).iter().any(|value| match value.to_str() {
        Ok(text) => text.split(',').map(str::trim_ascii).any(&is),
        Err(_) => true,
    })
}

/// The nonce that the tag must carry: `Some(None)` where none is asked for, `None` where policies name several
/// and so no single tag would do.
fn nonce(headers: &HeaderMap) -> Option<Option<String>> {
    let mut found: Option<&str> = None;
    for value in headers.get_all(CONTENT_SECURITY_POLICY) {
        for policy in value.to_str().ok()?.split(',') {
            match (nonce_for_scripts(policy), found) {
                (Some(new), Some(known)) if new != known => return None,
                (Some(new), _) => found = Some(new),
                (None, _) => {}
            }
        }
    }
    Some(found.map(str::to_owned))
}

/// The nonce of the directive that rules external scripts in one policy (CSP Level 3 §6.8.3).
fn nonce_for_scripts(policy: &str) -> Option<&str> {
    let sources = ["script-src-elem", "script-src", "default-src"].iter().find_map(|wanted| {
        policy.split(';').find_map(|directive| {
            let (name, sources) = directive.trim_ascii().split_once(|c: char| c.is_ascii_whitespace())?;
            name.eq_ignore_ascii_case(wanted).then_some(sources)
        })
    })?;
    sources.split_ascii_whitespace().find_map(|source| {
        let nonce = strip_nonce_prefix(source)?.strip_suffix('\'')?;
        let well_formed = |byte: u8| byte.is_ascii_alphanumeric() || b"+/-_=".contains(&byte);
        (!nonce.is_empty() && nonce.bytes().all(well_formed)).then_some(nonce)
    })
}

fn strip_nonce_prefix(source: &str) -> Option<&str> {
    let (prefix, rest) = source.split_at_checked("'nonce-".len())?;
    prefix.eq_ignore_ascii_case("'nonce-").then_some(rest)
}

fn tag(nonce: Option<&str>) -> Bytes {
    Bytes::from(match nonce {
        Some(nonce) => format!("<script src=\"{PATH}\" defer nonce=\"{nonce}\"></script>"),
        None => format!("<script src=\"{PATH}\" defer></script>"),
    })
}

/// Takes out of a head what is true only of the unchanged body.
fn announce(response: &mut ResponseHeader) -> pingora::Result<()> {
    response.remove_header(&CONTENT_LENGTH);
    response.remove_header(&ACCEPT_RANGES);
    for name in OF_EXACT_BYTES {
        response.remove_header(name);
    }
    if let Some(strong) = response.headers.get(ETAG).filter(|tag| tag.as_bytes().starts_with(b"\"")) {
        let weak = [b"W/", strong.as_bytes()].concat();
        response.insert_header(ETAG, weak)?;
    }
    // Pingora has chosen the framing before its response filter; towards HTTP/2 it drops this again.
    response.set_version(Version::HTTP_11);
    response.insert_header(TRANSFER_ENCODING, "chunked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BARE: &str = "<script src=\"/.usher/notice.js\" defer></script>";

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
            .collect()
    }

    fn injector() -> Injector {
        Injector { scan: Scan::default(), looked: 0, done: false, tag: tag(None) }
    }

    /// What comes out when a body comes in these chunks.
    fn rewrite<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut injector = injector();
        let mut out = Vec::new();
        for chunk in chunks {
            let mut body = Some(Bytes::copy_from_slice(chunk));
            injector.chunk(&mut body);
            out.extend_from_slice(&body.unwrap());
        }
        out
    }

    const HTML: (&str, &str) = ("content-type", "text/html; charset=utf-8");

    #[test]
    fn only_a_whole_plain_html_document_is_changed() {
        type Fields = &'static [(&'static str, &'static str)];
        let table: [(&str, Fields, bool); 14] = [
            ("html", &[HTML], true),
            ("any case", &[("content-type", "Text/HTML")], true),
            ("identity", &[HTML, ("content-encoding", "identity")], true),
            ("inline", &[HTML, ("content-disposition", "inline; filename=a.html")], true),
            ("cacheable", &[HTML, ("cache-control", "max-age=60, private")], true),
            ("no type", &[], false),
            ("another type", &[("content-type", "text/html-sandboxed")], false),
            ("two types", &[HTML, ("content-type", "text/plain")], false),
            ("compressed", &[HTML, ("content-encoding", "gzip")], false),
            ("twice coded", &[HTML, ("content-encoding", "identity, br")], false),
            ("a download", &[HTML, ("content-disposition", "attachment")], false),
            ("a named download", &[HTML, ("content-disposition", "Attachment; filename=a")], false),
            ("untransformable", &[HTML, ("cache-control", "private, No-Transform")], false),
            ("in a second field", &[HTML, ("cache-control", "a"), ("cache-control", "no-transform")], false),
        ];
        for (what, fields, wanted) in table {
            let mut map = HeaderMap::new();
            for (name, value) in fields {
                map.append(*name, http::HeaderValue::from_static(value));
            }
            assert_eq!(allows(StatusCode::OK, &map), wanted, "{what}");
            assert!(!allows(StatusCode::PARTIAL_CONTENT, &map), "{what}, in part");
            assert!(!allows(StatusCode::NOT_FOUND, &map), "{what}, not found");
        }
    }

    #[test]
    fn the_tag_carries_the_nonce_that_rules_scripts() {
        let none = Some(None);
        let some = |nonce: &str| Some(Some(nonce.to_owned()));
        for (policy, wanted) in [
            ("default-src 'self'", none.clone()),
            ("script-src 'nonce-abc' 'strict-dynamic'", some("abc")),
            ("default-src 'none'; SCRIPT-SRC 'Nonce-a+/=_-9'", some("a+/=_-9")),
            ("default-src 'nonce-def'; script-src 'self'", none.clone()),
            ("script-src 'nonce-a'; script-src-elem 'nonce-b'", some("b")),
            ("style-src 'nonce-abc'", none.clone()),
            ("script-src 'nonce-'", none.clone()),
            ("script-src 'nonce-a\"><script>'", none.clone()),
            ("script-src 'nonce-a', script-src 'nonce-a'", some("a")),
            ("script-src 'nonce-a', frame-ancestors 'self'", some("a")),
            ("script-src 'nonce-a', script-src 'nonce-b'", None),
        ] {
            assert_eq!(nonce(&headers(&[("content-security-policy", policy)])), wanted, "{policy}");
        }
        assert_eq!(tag(Some("abc")), "<script src=\"/.usher/notice.js\" defer nonce=\"abc\"></script>");
    }

    #[test]
    fn a_changed_head_promises_nothing_about_exact_bytes() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("Content-Length", "12"),
            ("Accept-Ranges", "bytes"),
            ("Content-MD5", "x"),
            ("Repr-Digest", "sha-256=:x:"),
            ("ETag", "\"abc\""),
            ("Last-Modified", "Sat, 21 Nov 2026 10:00:00 GMT"),
        ] {
            response.insert_header(name, value).unwrap();
        }
        announce(&mut response).unwrap();
        let left = headers(&[
            ("etag", "W/\"abc\""),
            ("last-modified", "Sat, 21 Nov 2026 10:00:00 GMT"),
            ("transfer-encoding", "chunked"),
        ]);
        assert_eq!(response.headers, left);
        announce(&mut response).unwrap();
        assert_eq!(response.headers, left, "a weak validator stays as it is");
    }

    #[test]
    fn the_tag_stands_straight_after_the_head_tag_however_it_is_split() {
        let document: &[u8] = b"<!doctype html><html><head><title>x</title></head><header></header></html>";
        let wanted =
            format!("<!doctype html><html><head>{BARE}<title>x</title></head><header></header></html>");
        for at in 0..=document.len() {
            let (left, right) = document.split_at(at);
            assert_eq!(rewrite([left, right]), wanted.as_bytes(), "split at {at}");
        }
    }

    #[test]
    fn a_head_beyond_the_bound_is_not_looked_for() {
        let near = [b" ".repeat(LOOK_AT_MOST - 6), b"<head>".to_vec()].concat();
        let far = [b" ".repeat(LOOK_AT_MOST - 5), b"<head>".to_vec()].concat();
        assert_eq!(rewrite(near.chunks(1000)), [near.as_slice(), BARE.as_bytes()].concat());
        assert_eq!(rewrite(far.chunks(1000)), far);
    }

    #[test]
    fn the_end_of_a_body_passes() {
        let mut body = None;
        injector().chunk(&mut body);
        assert_eq!(body, None);
    }

    /// Markup-like documents: the pieces that move the scanner from state to state, in any order.
    fn documents() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop::sample::select(vec![
            "<",
            ">",
            "<head",
            "<html",
            "<header",
            " ",
            "=",
            "\"",
            "'",
            "<!--",
            "-->",
            "-",
            "<!doctype html>",
            "/",
            "a",
            "\u{feff}",
            "<head>",
            "<html lang=en>",
            "</head>",
            "x=\"<head>\"",
        ]);
        prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn without_the_tag_the_output_is_the_input(
            document in prop_oneof![documents(), prop::collection::vec(any::<u8>(), 0..200)],
            sizes in prop::collection::vec(1_usize..9, 1..40),
        ) {
            let mut rest = document.as_slice();
            let mut chunks = Vec::new();
            for size in sizes {
                let (chunk, tail) = rest.split_at(size.min(rest.len()));
                chunks.push(chunk);
                rest = tail;
            }
            chunks.push(rest);
            let split = rewrite(chunks);
            prop_assert_eq!(&split, &rewrite([document.as_slice()]), "the split does not matter");
            match find(&split, BARE.as_bytes()) {
                Some(at) => {
                    prop_assert_eq!([&split[..at], &split[at + BARE.len()..]].concat(), document);
                    prop_assert_eq!(split[at - 1], b'>');
                }
                None => prop_assert_eq!(split, document),
            }
        }
    }

    fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
        haystack.windows(needle.len()).position(|window| window == needle)
    }
}
