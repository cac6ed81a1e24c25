//! Our own endpoints under Pingora: an axum router called in-process.

use crate::access::Own;
use crate::answer::speak_for_site;
use crate::connection::ConnectionFacts;
use crate::refusal::{Code, Reader};
use axum::Router;
use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::header::{CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{Method, StatusCode, Uri, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::{Error, ErrorType, OrErr, Result};
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

/// The largest body that an endpoint of ours takes.
pub const BODY_MAX: usize = 64 * 1024;
/// How long a body may take to come.
const BODY_TIME: Duration = Duration::from_secs(30);

/// What our own endpoints are told of a request, as an extension of the `http::Request`.
///
/// The request's URI is path and query as they came; its body is read in whole before, at most [`BODY_MAX`].
#[derive(Debug, Clone)]
pub struct Asked {
    /// Which host, and who asks.
    pub own: Arc<Own>,
    /// The host asked for, lower case, no port.
    pub host: config::HostName,
    /// The connection.
    pub connection: ConnectionFacts,
    /// The configuration that this request sees.
    pub config: Arc<config::Config>,
    /// The method asked for.
    pub method: Method,
    /// What kind of client asks.
    pub intent: crate::request::Intent,
    /// For problem documents and logs.
    pub request_id: Arc<str>,
}

impl Asked {
    /// Who reads a refusal of this request.
    pub fn reader(&self) -> Reader<'_> {
        let portal = Some(self.connection.listener.origin(self.config.portal.as_str()));
        Reader { intent: self.intent, method: &self.method, request_id: &self.request_id, portal }
    }
}

/// Reads the whole body of a request to one of our own endpoints.
///
/// The inner error is what it is to be refused with.
///
/// # Errors
/// The client left.
pub async fn read_body(session: &mut Session) -> Result<std::result::Result<Bytes, Code>> {
    let head = session.req_header();
    let told =
        head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if told.is_some_and(|length| length > BODY_MAX) {
        return Ok(Err(Code::BodyTooLarge));
    }
    if head.headers.contains_key(EXPECT) && head.version == Version::HTTP_11 {
        session.write_continue_response().await?;
    }
    let read = async {
        let mut body = BytesMut::new();
        while let Some(bytes) = session.read_request_body().await? {
            if body.len() + bytes.len() > BODY_MAX {
                return Ok(Err(Code::BodyTooLarge));
            }
            body.extend_from_slice(&bytes);
        }
        Ok(Ok(body.freeze()))
    };
    tokio::time::timeout(BODY_TIME, read).await.unwrap_or(Ok(Err(Code::RequestTimeout)))
}

/// Lets a router answer, and streams what it says. `refused` is told a refusal's code before a byte of it leaves.
///
/// # Errors
/// The client left, or the router's body failed.
pub async fn answer(
    router: &Router,
    session: &mut Session,
    asked: Asked,
    body: Bytes,
    refused: &mut Option<Code>,
) -> Result<()> {
    let request = request(session.req_header(), asked, body)?;
    let Ok(response) = router.clone().oneshot(request).await;
    let (parts, body) = response.into_parts();
    *refused = parts.extensions.get().copied();
    let has_body = session.req_header().method != Method::HEAD && !is_bodiless(parts.status);
    let mut head = ResponseHeader::from(parts);
    speak_for_site(&mut head, session);
    frame(&mut head, &body)?;
    session.write_response_header(Box::new(head), !has_body).await?;
    if has_body {
        stream(session, body).await?;
    }
    session.write_response_body(None, true).await
}

/// The request as a router sees it.
fn request(head: &RequestHeader, asked: Asked, body: Bytes) -> Result<http::Request<Body>> {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let uri: Uri = target.parse().or_err(ErrorType::InvalidHTTPHeader, "the target is no URI")?;
    let mut request = http::Request::new(Body::from(body));
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = head.version;
    *request.headers_mut() = head.headers.clone();
    request.extensions_mut().insert(asked);
    Ok(request)
}

/// Says how long the body is, or that it comes in chunks (HTTP/2 leaves that out again).
fn frame(head: &mut ResponseHeader, body: &Body) -> Result<()> {
    if is_bodiless(head.status) || head.headers.contains_key(CONTENT_LENGTH) {
        return Ok(());
    }
    match body.size_hint().exact() {
        Some(length) => head.insert_header(CONTENT_LENGTH, length),
        None => head.insert_header(TRANSFER_ENCODING, "chunked"),
    }
}

/// Copies the body until it ends or the client leaves, which ends the body, too: it is dropped.
async fn stream(session: &mut Session, body: Body) -> Result<()> {
    let mut body = body.into_data_stream();
    loop {
        tokio::select! {
            biased;
            data = body.next() => match data {
                Some(Ok(data)) => session.write_response_body(Some(data), false).await?,
                Some(Err(error)) => return Err(Error::because(ErrorType::InternalError, "a body of ours failed", error).into_in()),
                None => return Ok(()),
            },
            gone = session.downstream_session.read_body_or_idle(true) => {
                gone.map_err(Error::into_down)?;
            }
        }
    }
}

fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}

#[cfg(test)]
mod tests;
