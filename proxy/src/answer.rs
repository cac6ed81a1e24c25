//! Answers that we make ourselves, whole: refusals and pages.

use crate::connection::{ConnectionFacts, Link};
use crate::head;
use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT};
use http::{Method, Response, StatusCode};
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use std::time::Duration;

/// How much of a request's body is read away, so that the connection can be kept or the answer be read.
const DRAIN_MAX: usize = 64 * 1024;
/// How long that may take.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// Sends an answer. What is left of the request's body is read away up to [`DRAIN_MAX`], or the connection closes:
/// the next request is never made of the last one's body.
///
/// # Errors
/// The client is gone.
pub async fn send(session: &mut Session, response: Response<Bytes>) -> Result<()> {
    if may_be_drained(session.req_header()) {
        drain(session).await;
    }
    let (parts, body) = response.into_parts();
    let mut head = ResponseHeader::from(parts);
    speak_for_site(&mut head, session);
    if !head.headers.contains_key(CONTENT_LENGTH) && has_length(head.status) {
        head.insert_header(CONTENT_LENGTH, body.len())?;
    }
    let body = if session.req_header().method == Method::HEAD { Bytes::new() } else { body };
    session.write_response_header(Box::new(head), body.is_empty()).await?;
    session.write_response_body(Some(body), true).await?;
    if session.as_http1().is_some() {
        // Closing on unread bytes would reset the connection, and with it the answer on its way.
        drain(session).await;
    }
    Ok(())
}

/// [`head::speak_for_site`] for an answer by way of Pingora.
pub fn speak_for_site(head: &mut ResponseHeader, session: &Session) {
    if let Some(link) = Link::of(session) {
        head::speak_for_site(head, link.facts());
    }
}

/// An answer that is written past Pingora and ends its connection, as head and body.
pub fn last(response: Response<Bytes>, connection: &ConnectionFacts) -> (ResponseHeader, Bytes) {
    let (parts, body) = response.into_parts();
    let mut head = ResponseHeader::from(parts);
    head::speak_for_site(&mut head, connection);
    head.insert_header(CONNECTION, "close").expect("a known name and value are valid");
    (head, body)
}

/// A head as HTTP/1.1 writes it.
pub fn to_wire(head: &ResponseHeader) -> Vec<u8> {
    let reason = head.status.canonical_reason().unwrap_or_default();
    let mut wire = format!("HTTP/1.1 {} {reason}\r\n", head.status.as_u16()).into_bytes();
    head.header_to_h1_wire(&mut wire);
    wire.extend_from_slice(b"\r\n");
    wire
}

/// Whether the rest of the body may be small and is on its way without being asked for.
fn may_be_drained(head: &RequestHeader) -> bool {
    let length =
        head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    !head.headers.contains_key(EXPECT) && length.is_none_or(|length| length <= DRAIN_MAX)
}

/// Reads the body away, as far as it is small and comes fast.
async fn drain(session: &mut Session) {
    let mut left = DRAIN_MAX;
    let rest = async {
        while !session.is_body_done() {
            match session.read_request_body().await {
                Ok(Some(bytes)) if bytes.len() <= left => left -= bytes.len(),
                _ => break,
            }
        }
    };
    // Whatever did not come in time is cut off with the connection.
    let _ = tokio::time::timeout(DRAIN_TIME, rest).await;
}

fn has_length(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::NO_CONTENT && status != StatusCode::NOT_MODIFIED
}

#[cfg(test)]
mod tests;
