//! How large a head is and where its body ends: what two parsers could read differently is refused.

use super::{bad, single, tokens};
use crate::refusal::{Code, Refusal};
use http::HeaderMap;
use http::header::{CONTENT_LENGTH, COOKIE, TRANSFER_ENCODING};
use memchr::memchr;
use pingora::http::RequestHeader;

/// The largest head, request line included, in bytes.
pub const HEAD_MAX: usize = 32 * 1024;
/// The most header fields. All Cookie fields count as one: HTTP/2 clients send a field per cookie.
pub const FIELDS_MAX: usize = 100;

/// Refuses what Pingora's parsed head no longer shows: a bare LF, and `Content-Length` with `Transfer-Encoding`.
///
/// `raw` is an HTTP/1 head up to its empty line. HTTP/2 has neither.
///
/// # Errors
/// 400.
pub fn check_raw(raw: &[u8]) -> Result<(), Refusal> {
    let not_a_line = || bad("A line of the head does not end in CR LF.");
    let (mut length, mut encoding, mut rest) = (false, false, raw);
    while !rest.is_empty() {
        let end = memchr(b'\n', rest).ok_or_else(not_a_line)?;
        let line = rest[..end].strip_suffix(b"\r").ok_or_else(not_a_line)?;
        rest = &rest[end + 1..];
        let name = &line[..memchr(b':', line).unwrap_or(line.len())];
        length |= name.eq_ignore_ascii_case(b"content-length");
        encoding |= name.eq_ignore_ascii_case(b"transfer-encoding");
    }
    if length && encoding { Err(bad(TWO_FRAMINGS)) } else { Ok(()) }
}

const TWO_FRAMINGS: &str = "There is a Content-Length with a Transfer-Encoding.";

pub(super) fn check_size(head: &RequestHeader) -> Result<(), Refusal> {
    let line = head.method.as_str().len() + head.raw_path().len() + " HTTP/1.1\r\n".len() + 1;
    let (mut cookies, mut others, mut fields, mut has_cookie) = (0, line, 0, false);
    for (name, value) in &head.headers {
        let size = name.as_str().len() + value.len() + ": \r\n".len();
        if name == COOKIE {
            cookies += size;
            has_cookie = true;
        } else {
            others += size;
            fields += 1;
        }
    }
    if others > HEAD_MAX || fields + usize::from(has_cookie) > FIELDS_MAX {
        return Err(Refusal::new(Code::HeadersTooLarge));
    }
    if others + cookies > HEAD_MAX {
        return Err(Refusal::new(Code::CookiesTooLarge));
    }
    Ok(())
}

/// Refuses what leaves open where a body ends: of requests, and of answers as well.
///
/// # Errors
/// 400.
pub fn check_body(headers: &HeaderMap) -> Result<(), Refusal> {
    let length = headers.contains_key(CONTENT_LENGTH);
    let encoding = headers.contains_key(TRANSFER_ENCODING);
    if length && encoding {
        return Err(bad(TWO_FRAMINGS));
    }
    if length && !single(headers, &CONTENT_LENGTH).is_some_and(is_length) {
        return Err(bad("Content-Length is not one number."));
    }
    if encoding {
        let one = single(headers, &TRANSFER_ENCODING);
        if !one.is_some_and(|value| value.trim_ascii().eq_ignore_ascii_case(b"chunked")) {
            return Err(bad("Transfer-Encoding is not one `chunked`."));
        }
    }
    Ok(())
}

/// Whether a head announces a body that is not empty.
pub(super) fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING) || tokens(headers, &CONTENT_LENGTH).any(|length| length != b"0")
}

fn is_length(value: &[u8]) -> bool {
    let digits = value.trim_ascii();
    !digits.is_empty()
        && digits.iter().all(u8::is_ascii_digit)
        && std::str::from_utf8(digits).is_ok_and(|text| text.parse::<u64>().is_ok())
}
