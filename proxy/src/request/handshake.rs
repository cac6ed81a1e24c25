//! The client's half of a WebSocket handshake (RFC 6455 §4.2.1).

use super::{bad, framing, single, tokens};
use crate::refusal::Refusal;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{Method, Version};
use pingora::http::RequestHeader;

/// Whether a head opens a WebSocket. Another protocol in `Upgrade` is an offer that the edge does not take
/// up: the request is an ordinary one, and the header goes no further.
///
/// # Errors
/// 400 for one that means to and does not keep the rules.
pub(super) fn check(head: &RequestHeader) -> Result<bool, Refusal> {
    let mut offers = tokens(&head.headers, &UPGRADE);
    if !offers.any(|offer| {
        offer.split(|byte| *byte == b'/').next().is_some_and(|name| name.eq_ignore_ascii_case(b"websocket"))
    }) {
        return Ok(false);
    }
    match mistake(head) {
        Some(mistake) => Err(bad(mistake)),
        None => Ok(true),
    }
}

fn mistake(head: &RequestHeader) -> Option<&'static str> {
    let headers = &head.headers;
    if head.method != Method::GET || head.version != Version::HTTP_11 {
        return Some("A WebSocket is opened by GET over HTTP/1.1.");
    }
    if !single(headers, &UPGRADE).is_some_and(|value| value.eq_ignore_ascii_case(b"websocket")) {
        return Some("Upgrade offers more than a WebSocket.");
    }
    if !tokens(headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade")) {
        return Some("Connection does not name Upgrade.");
    }
    if single(headers, &SEC_WEBSOCKET_VERSION) != Some(b"13") {
        return Some("Sec-WebSocket-Version is not 13.");
    }
    if !single(headers, &SEC_WEBSOCKET_KEY).is_some_and(is_key) {
        return Some("Sec-WebSocket-Key is not 16 bytes in base64.");
    }
    framing::has_body(headers).then_some("A WebSocket is opened without a body.")
}

fn is_key(value: &[u8]) -> bool {
    STANDARD.decode(value).is_ok_and(|nonce| nonce.len() == 16)
}
