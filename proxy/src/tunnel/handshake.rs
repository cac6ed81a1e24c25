//! The workspace's half of the handshake: nothing passes between the two sides before it is found right.

use crate::head::{check_upstream, from_upstream};
use crate::refusal::{Code, Refusal};
use crate::request::{FIELDS_MAX, HEAD_MAX, single, tokens};
use crate::tunnel::body;
use crate::tunnel::frames::reserved_bits;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use config::HostName;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SET_COOKIE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How many interim answers (1xx) a workspace may send before its answer.
const INTERIM_MAX: usize = 8;
/// What a server appends to the key (RFC 6455 §4.2.2).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// What of a good 101 goes on to the client, beside `Upgrade` and `Connection` of our own.
const PASSED_ON: [HeaderName; 4] =
    [SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_EXTENSIONS, SET_COOKIE];

/// What a workspace says to an upgrade.
#[derive(Debug)]
pub(super) enum Answer {
    /// It switches, and everything about it is right.
    Open(Box<Opened>),
    /// It answers as to any request: head and whole body, fit to be sent once.
    Other(Box<ResponseHeader>, Bytes),
}

/// A handshake that is complete.
#[derive(Debug)]
pub(super) struct Opened {
    /// The 101 for the client.
    pub(super) head: ResponseHeader,
    /// What came behind the 101: the first bytes of frames.
    pub(super) early: Vec<u8>,
    /// Which reserved bits frames may use.
    pub(super) reserved: u8,
}

/// Sends the client's handshake and reads the answer.
///
/// # Errors
/// 502: no answer, one that is too large, too many interim ones, or a 101 that is not right.
pub(super) async fn open<S>(stream: &mut S, head: &RequestHeader, base: &HostName) -> Result<Answer, Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    send_head(stream, head).await.map_err(|_| unusable("The workspace did not take the request."))?;
    let mut buffer = Vec::with_capacity(1024);
    for _ in 0..=INTERIM_MAX {
        let answer = read_head(stream, &mut buffer).await?;
        if answer.status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Answer::Open(Box::new(opened(&answer, head, base, buffer)?)));
        }
        if !answer.status.is_informational() {
            return other(stream, answer, base, buffer).await;
        }
    }
    Err(unusable("The workspace sent too many interim answers."))
}

pub(super) fn unusable(detail: &str) -> Refusal {
    Refusal::with(Code::BadUpstream, detail)
}

async fn send_head<S: AsyncWrite + Unpin>(stream: &mut S, head: &RequestHeader) -> std::io::Result<()> {
    let mut wire = Vec::with_capacity(1024);
    wire.extend_from_slice(head.method.as_str().as_bytes());
    wire.push(b' ');
    wire.extend_from_slice(head.raw_path());
    wire.extend_from_slice(b" HTTP/1.1\r\n");
    head.header_to_h1_wire(&mut wire);
    wire.extend_from_slice(b"\r\n");
    stream.write_all(&wire).await?;
    stream.flush().await
}

/// Reads one head; what came behind it stays in the buffer.
async fn read_head<S>(stream: &mut S, buffer: &mut Vec<u8>) -> Result<ResponseHeader, Refusal>
where
    S: AsyncRead + Unpin,
{
    loop {
        if let Some((head, length)) = parse_head(buffer)? {
            buffer.drain(..length);
            return Ok(head);
        }
        if buffer.len() >= HEAD_MAX {
            return Err(unusable("The head of the workspace's answer is too large."));
        }
        let space = HEAD_MAX - buffer.len();
        match (&mut *stream).take(space as u64).read_buf(buffer).await {
            Ok(0) => return Err(unusable("The workspace closed the connection without an answer.")),
            Ok(_) => {}
            Err(_) => return Err(unusable("The connection to the workspace failed.")),
        }
    }
}

/// A head, if it is complete, and its length.
fn parse_head(bytes: &[u8]) -> Result<Option<(ResponseHeader, usize)>, Refusal> {
    let no_http = || unusable("The workspace's answer is not HTTP.");
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut fields);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Partial) => return Ok(None),
        Ok(httparse::Status::Complete(length)) => length,
        Err(_) => return Err(no_http()),
    };
    let status = parsed.code.ok_or_else(no_http)?;
    let mut head = ResponseHeader::build(status, Some(parsed.headers.len())).map_err(|_| no_http())?;
    for field in parsed.headers {
        let value = HeaderValue::from_bytes(field.value).map_err(|_| no_http())?;
        head.append_header(field.name.to_owned(), value).map_err(|_| no_http())?;
    }
    Ok(Some((head, length)))
}

fn opened(
    answer: &ResponseHeader,
    asked: &RequestHeader,
    base: &HostName,
    early: Vec<u8>,
) -> Result<Opened, Refusal> {
    check_switch(&answer.headers, &asked.headers)?;
    let mut filtered = answer.clone();
    from_upstream(&mut filtered, base);
    let mut head = ResponseHeader::build(StatusCode::SWITCHING_PROTOCOLS, Some(8)).expect("101 is a status");
    let known = "a known name and a value that was one are valid";
    head.insert_header(UPGRADE, "websocket").expect(known);
    head.insert_header(CONNECTION, "Upgrade").expect(known);
    for name in PASSED_ON {
        for value in filtered.headers.get_all(&name) {
            head.append_header(name.clone(), value.clone()).expect(known);
        }
    }
    let reserved =
        reserved_bits(extensions(&answer.headers).filter_map(|name| std::str::from_utf8(name).ok()));
    Ok(Opened { head, early, reserved })
}

/// RFC 6455 §4.1: what makes a 101 the answer to this very handshake, with nothing in it that was not offered.
fn check_switch(answer: &HeaderMap, asked: &HeaderMap) -> Result<(), Refusal> {
    let key = single(asked, &SEC_WEBSOCKET_KEY).unwrap_or_default();
    let is_websocket = single(answer, &UPGRADE).is_some_and(|value| value.eq_ignore_ascii_case(b"websocket"));
    let names_upgrade = tokens(answer, &CONNECTION).any(|token| token.eq_ignore_ascii_case(b"upgrade"));
    if !is_websocket || !names_upgrade {
        return Err(unusable("The workspace switched to something else than a WebSocket."));
    }
    if single(answer, &SEC_WEBSOCKET_ACCEPT) != Some(accept(key).as_bytes()) {
        return Err(unusable("The workspace answered another handshake than this one."));
    }
    let offered: Vec<&[u8]> = extensions(asked).collect();
    let mut accepted: Vec<&[u8]> = extensions(answer).collect();
    let count = accepted.len();
    accepted.sort_unstable();
    accepted.dedup();
    if accepted.len() != count || accepted.iter().any(|name| !offered.contains(name)) {
        return Err(unusable("The workspace uses an extension that was not offered."));
    }
    let chosen: Vec<&[u8]> =
        answer.get_all(SEC_WEBSOCKET_PROTOCOL).iter().map(HeaderValue::as_bytes).collect();
    let was_offered = |name: &[u8]| tokens(asked, &SEC_WEBSOCKET_PROTOCOL).any(|offer| offer == name);
    match chosen.as_slice() {
        [] => Ok(()),
        [one] if was_offered(one.trim_ascii()) => Ok(()),
        _ => Err(unusable("The workspace uses a subprotocol that was not offered.")),
    }
}

fn accept(key: &[u8]) -> String {
    let mut digest = ring::digest::Context::new(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY);
    digest.update(key);
    digest.update(GUID);
    STANDARD.encode(digest.finish())
}

/// The names of extensions (RFC 6455 §9.1), without their parameters.
///
/// A comma in a quoted parameter makes a name that nobody offers: such an answer is refused, not misread.
fn extensions(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    tokens(headers, &SEC_WEBSOCKET_EXTENSIONS)
        .map(|extension| extension.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii())
}

/// Makes an answer that is no 101 one that can be sent once, whole.
async fn other<S>(
    stream: &mut S,
    mut head: ResponseHeader,
    base: &HostName,
    buffer: Vec<u8>,
) -> Result<Answer, Refusal>
where
    S: AsyncRead + Unpin,
{
    check_upstream(&head)?;
    let body = body::read(stream, &head, buffer).await.map_err(|error| unusable(error.sentence()))?;
    from_upstream(&mut head, base);
    head.remove_header(&TRANSFER_ENCODING);
    let known = "a known name and a number are valid";
    head.insert_header(CONTENT_LENGTH, body.len()).expect(known);
    head.insert_header(CONNECTION, "close").expect(known);
    Ok(Answer::Other(Box::new(head), body))
}

#[cfg(test)]
mod tests;
