//! What the edge itself answers on a workspace's host: `/.usher/…`, and the waiting page.
//!
//! Whatever stands here can be asked for by the workspace's own code: it tells and changes nothing that this
//! code may not know or do. All but the hand-off, the repair and the worker that unregisters itself needs the
//! owner's session. Nothing here is use of the workspace.

mod change;
mod events;
mod owner;
mod repair;
mod status;
mod waiting;

use crate::access::ensure::ASK_AGAIN;
use crate::edge::Edge;
use crate::handoff;
use crate::notice;
use crate::page::{self, Reach};
use crate::refusal::{self, Code, Refusal};
use crate::request::Request;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Response, StatusCode};
use axum::response::{IntoResponse, Json};
use axum::routing::{get, post};
use base64::Engine as _;
use bytes::Bytes;
use config::WorkspaceId;
use control::{Entry, Phase, Workspaces};
use events::{Slot, Source, Streams};
use futures_util::StreamExt as _;
use owner::Owner;
use ring::digest::{SHA256, digest};
use status::{Now, Status, shows_log};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;
use waiting::Shown;

/// What the endpoints share.
#[derive(Clone)]
struct Host {
    edge: Arc<Edge>,
    streams: Streams,
}

/// All endpoints under `/.usher/`. Requests carry [`crate::own::Asked`] as an extension.
pub fn router(edge: Arc<Edge>) -> Router {
    let host = Host { edge: edge.clone(), streams: Streams::default() };
    Router::new()
        .route("/.usher/status", get(status))
        .route("/.usher/events", get(events))
        .route("/.usher/start", post(change::start))
        .route("/.usher/stop", post(change::stop))
        .route("/.usher/extend", post(change::extend))
        .route(
            waiting::SCRIPT_PATH,
            get(async |_: Owner, headers: HeaderMap| script(waiting::SCRIPT, &headers)),
        )
        .route(notice::PATH, get(async |_: Owner, headers: HeaderMap| script(notice::SCRIPT, &headers)))
        .route("/.usher/reset", get(repair::reset))
        .fallback(owner::unknown)
        .method_not_allowed_fallback(owner::wrong_method)
        .with_state(host)
        .nest(handoff::PATH, handoff::enter_routes(edge))
        .layer(axum::middleware::from_fn(repair::worker))
}

/// The page that a navigation to a workspace gets that is not ready: 503, at once, and live from then on.
/// `woken`: this very request has asked for its start.
pub async fn waiting_page(
    edge: &Edge,
    request: &Request<'_>,
    id: &WorkspaceId,
    woken: bool,
) -> Response<Bytes> {
    let status = read_status(&edge.workspaces, id).await;
    let (origin, page) = (request.origin(), request.page());
    let host = request.host.as_str();
    let shared = id.route().is_some();
    let html = Shown { status: &status, woken, host, origin: &origin, page: &page, shared }.html();
    let mut response = Response::new(Bytes::from(html));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    *response.headers_mut() = page::headers(Reach::default());
    let after = HeaderValue::from(ASK_AGAIN.as_secs());
    response.headers_mut().insert(header::RETRY_AFTER, after);
    response
}

/// Where a workspace stands now, with its output if that helps.
async fn read_status(workspaces: &Workspaces, id: &WorkspaceId) -> Status {
    let entry = workspaces.lookup(id);
    let log = match &entry {
        Some(entry) if shows_log(id, &entry.phase) => Some(workspaces.log_tail(id).await),
        _ => None,
    };
    let is_seen = entry.as_deref().is_none_or(is_seen);
    Status::of(id, entry.as_deref(), log.as_deref(), Now::read()).seen(is_seen)
}

/// Whether it is known that what is at the workspace's address is the workspace.
fn is_seen(entry: &Entry) -> bool {
    entry.seen || matches!(&entry.phase, Phase::Ready(route) if route.is_proved(Instant::now()))
}

/// An answer with the headers of all our answers.
fn answer(status: StatusCode, body: impl IntoResponse) -> Response<Body> {
    let mut response = (status, body).into_response();
    response.headers_mut().extend(page::common_headers());
    response
}

async fn status(State(host): State<Host>, owner: Owner) -> Response<Body> {
    answer(StatusCode::OK, Json(read_status(&host.edge.workspaces, owner.permit.id()).await))
}

/// 204 tells an `EventSource` not to come back: its page polls then.
async fn events(State(host): State<Host>, owner: Owner) -> Response<Body> {
    let caller = owner.permit.caller();
    let Some(slot) = host.streams.slot(caller.id, owner.asked.host.clone()) else {
        return answer(StatusCode::NO_CONTENT, ());
    };
    let body = Body::from_stream(follow(&host.edge, &owner, slot).map(Ok::<_, Infallible>));
    answer(StatusCode::OK, ([(header::CONTENT_TYPE, "text/event-stream")], body))
}

fn follow(edge: &Edge, owner: &Owner, slot: Slot) -> impl futures_util::Stream<Item = Bytes> + Send + use<> {
    let id = owner.permit.id().clone();
    let workspaces = edge.workspaces.clone();
    let entry = {
        // With the permit its session stays, whose end is waited for below.
        let (workspaces, permit) = (workspaces.clone(), owner.permit.clone());
        Box::new(move || workspaces.lookup(permit.id()))
    };
    let changes = workspaces.changes();
    let seen = Box::new(|entry: Option<&Entry>| entry.is_none_or(is_seen));
    let log = {
        let id = id.clone();
        Box::new(move || -> futures_util::future::BoxFuture<'static, String> {
            let (workspaces, id) = (workspaces.clone(), id.clone());
            Box::pin(async move { workspaces.log_tail(&id).await })
        })
    };
    let ends = [owner.permit.caller().session.ended().token(), edge.draining.clone()];
    events::stream(Source { id, entry, seen, log, changes, ends }, slot)
}

/// A script of ours: kept by browsers, but asked about each time, since a new Usher brings a new one.
fn script(text: &'static str, headers: &HeaderMap) -> Response<Body> {
    let tag = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(digest(&SHA256, text.as_bytes()));
    let tag = format!("\"{tag}\"");
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut response = if known {
        answer(StatusCode::NOT_MODIFIED, ())
    } else {
        answer(StatusCode::OK, ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], text))
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(header::ETAG, HeaderValue::try_from(tag).expect("base64 is a field value"));
    response
}

/// A refusal, as this client understands it.
fn refused(asked: &crate::own::Asked, refusal: &Refusal) -> Response<Body> {
    refusal::answer(refusal, &asked.reader()).map(Body::from)
}

/// Without what every request carries there is nobody to answer to: the edge did not send it.
fn unasked() -> Response<Body> {
    answer(Code::Internal.row().status, ())
}

#[cfg(test)]
mod tests;
