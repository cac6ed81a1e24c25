//! The operator's side: health and metrics over TCP, everything over a Unix socket.
//!
//! Over TCP nothing can be changed and no user is named, and a web page cannot reach it: a request with an
//! `Origin`, or with a `Host` that is neither an address nor `localhost`, is refused (a page that rebinds its
//! name to loopback sends its own name). The Unix socket (0600) serves `/status` and the changes as well.

pub mod certificates;
pub mod tls;

use crate::audit::{By, Entry, Event, Reason};
use crate::edge::Edge;
use crate::machines;
use crate::portal::sessions::labelled;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use config::WorkspaceId;
use control::{Cause, RecordError, StopAsked};
use prometheus::{Encoder, TextEncoder};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// One workspace as `/status` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkspaceStatus {
    /// `alice` or `gpu--alice`.
    pub workspace: String,
    /// The owner's `sub`.
    pub owner: String,
    /// The owner's `iss`.
    pub issuer: String,
    /// The template's name.
    pub template: String,
    /// `stopped`, `queued`, `starting`, `ready`, `stopping`, `failed`.
    pub phase: String,
    /// How long it has been in this phase, in seconds.
    pub since_s: u64,
    /// Why a ready one is alive; why a failed one failed.
    pub why: Option<String>,
    /// For how long `why` has been so, in seconds.
    pub why_since_s: Option<u64>,
    /// When a ready one stops if nothing more happens, in seconds from now.
    pub stops_in_s: Option<u64>,
    /// How many WebSockets are open.
    pub open_sockets: u32,
}

/// What `/status` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the running binary.
    pub version: String,
    /// Whether it takes new work.
    pub ready: bool,
    /// How many sessions are live.
    pub sessions: usize,
    /// All workspaces that it knows, in the order of their names.
    pub workspaces: Vec<WorkspaceStatus>,
}

/// `/livez`, `/readyz` and `/metrics`: what the TCP listener serves.
///
/// `over_tls`: its certificate says for which names it stands, so `Host` may be any: a browser does not come by another.
pub fn tcp_router(edge: Arc<Edge>, over_tls: bool) -> Router {
    let health = health(edge);
    if over_tls {
        health.layer(middleware::from_fn(refuse_origins))
    } else {
        health.layer(middleware::from_fn(refuse_web_pages))
    }
}

/// Everything: what the Unix socket serves.
pub fn socket_router(edge: Arc<Edge>) -> Router {
    let changes = Router::new()
        .route("/status", get(status))
        .route("/workspaces/{id}/stop", post(stop))
        .route("/workspaces/{id}/delete", post(delete))
        .route("/people/{label}/sign-out", post(sign_out))
        .with_state(edge.clone());
    health(edge.clone()).merge(changes).merge(certificates::router(edge))
}

fn health(edge: Arc<Edge>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(edge)
}

async fn refuse_web_pages(request: Request, next: Next) -> Response {
    if may_ask(request.headers()) {
        next.run(request).await
    } else {
        refused("by IP address or localhost and without Origin")
    }
}

async fn refuse_origins(request: Request, next: Next) -> Response {
    if request.headers().contains_key(header::ORIGIN) {
        refused("without Origin")
    } else {
        next.run(request).await
    }
}

fn refused(how: &str) -> Response {
    let words = format!("refused: this address serves operators' tools, {how}\n");
    (StatusCode::FORBIDDEN, words).into_response()
}

/// Whether a request over cleartext can come from something else than a web page.
fn may_ask(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    !headers.contains_key(header::ORIGIN) && host.is_some_and(names_this_machine)
}

fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

async fn readyz(State(edge): State<Arc<Edge>>) -> (StatusCode, &'static str) {
    match unready(&edge) {
        None => (StatusCode::OK, "ok\n"),
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    }
}

fn unready(edge: &Edge) -> Option<&'static str> {
    if edge.draining.is_cancelled() {
        Some("draining\n")
    } else if !edge.workspaces.synced() {
        Some("the driver has not told yet what is running\n")
    } else if edge.workspaces.cut_off() {
        Some("the records cannot be written: other replicas serve better\n")
    } else {
        None
    }
}

async fn metrics(State(edge): State<Arc<Edge>>) -> Response {
    edge.limits.tell_entries();
    let encoder = TextEncoder::new();
    let mut text = Vec::new();
    match encoder.encode(&edge.metrics.registry.gather(), &mut text) {
        Ok(()) => ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn status(State(edge): State<Arc<Edge>>) -> Json<Status> {
    let now = Instant::now();
    let mut workspaces: Vec<_> = edge.workspaces.all().iter().map(|entry| describe(entry, now)).collect();
    workspaces.sort_by(|a, b| a.workspace.cmp(&b.workspace));
    Json(Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ready: unready(&edge).is_none(),
        sessions: edge.sessions.count(),
        workspaces,
    })
}

fn describe(entry: &control::Entry, now: Instant) -> WorkspaceStatus {
    let alive = entry.why_alive(now);
    let alive = alive.as_ref();
    let why = match &entry.phase {
        control::Phase::Failed { cause, .. } => Some(format!("{}: {}", cause.code.as_str(), cause.detail)),
        _ => alive.as_ref().map(|why| why.reason.to_owned()),
    };
    WorkspaceStatus {
        workspace: entry.id.to_string(),
        owner: entry.owner.subject.clone(),
        issuer: entry.owner.issuer.clone(),
        template: entry.template.to_string(),
        phase: entry.phase.as_str().to_owned(),
        since_s: now.saturating_duration_since(entry.since).as_secs(),
        why,
        why_since_s: alive.as_ref().map(|why| now.saturating_duration_since(why.since).as_secs()),
        stops_in_s: alive
            .as_ref()
            .and_then(|why| why.stops_at)
            .map(|at| at.saturating_duration_since(now).as_secs()),
        open_sockets: entry.activity.open_sockets(),
    }
}

type Answer = Result<String, (StatusCode, String)>;

fn known(id: &str) -> Result<WorkspaceId, (StatusCode, String)> {
    WorkspaceId::parse(id).map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))
}

async fn stop(State(edge): State<Arc<Edge>>, Path(id): Path<String>) -> Answer {
    let known = known(&id)?;
    let stopped = edge.workspaces.stop(&known).await;
    if stopped == StopAsked::Now {
        let entry = Entry::done(Event::WorkspaceStop).because(Reason::Asked).by(By::Operator);
        edge.audit.record(entry.workspace(&known));
    }
    match stopped {
        StopAsked::Now | StopAsked::Already => Ok(format!("{id} is being stopped\n")),
        StopAsked::Nothing => {
            Err((StatusCode::NOT_FOUND, format!("{id} is not running: `usher status` tells what is\n")))
        }
    }
}

async fn sign_out(State(edge): State<Arc<Edge>>, Path(label): Path<String>) -> Answer {
    let unavailable = |error: RecordError| (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"));
    let Some(identity) = labelled(&edge, &label).await.map_err(unavailable)? else {
        let entry = Entry::refused(Event::SignOut, Reason::Unknown).by(By::Operator);
        edge.audit.record(entry.subject_label(&label));
        return Err((
            StatusCode::NOT_FOUND,
            format!("nobody with the label {label} is logged in, or has tokens\n"),
        ));
    };
    match machines::sign_out(&edge, identity.as_ref(), &label, &|event| Entry::done(event).by(By::Operator))
        .await
    {
        Ok(count) => {
            tracing::info!(user.label = label, ended = count, "somebody was signed out by the operator");
            Ok(format!("{label} is signed out: {count} ended\n"))
        }
        Err(error) => Err(unavailable(error)),
    }
}

/// The query of a delete.
#[derive(Debug, Deserialize)]
struct Delete {
    #[serde(default)]
    volume: bool,
}

async fn delete(
    State(edge): State<Arc<Edge>>,
    Path(id): Path<String>,
    Query(delete): Query<Delete>,
) -> Answer {
    let known = known(&id)?;
    if known.route().is_some() {
        let others = format!(
            "{id} leads to what others made: delete it in the cluster, and [routes] in the configuration\n"
        );
        return Err((StatusCode::BAD_REQUEST, others));
    }
    let deleted = edge.workspaces.delete(&known, delete.volume, None).await;
    edge.audit.deleted(
        &deleted,
        delete.volume,
        Entry::done(Event::WorkspaceDelete).by(By::Operator).workspace(&known),
    );
    if deleted.map_err(not_deleted)? {
        let files = if delete.volume { "with its files" } else { "its files are kept" };
        Ok(format!("{id} is being deleted, {files}\n"))
    } else {
        Err((StatusCode::NOT_FOUND, format!("there is no workspace {id}: `usher status` lists them\n")))
    }
}

fn not_deleted(cause: Cause) -> (StatusCode, String) {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{} {}\n", cause.detail, cause.hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(host: Option<&str>, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [(header::HOST, host), (header::ORIGIN, origin)] {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_str(value).unwrap());
            }
        }
        headers
    }

    #[test]
    fn a_web_page_cannot_ask_the_admin_listener() {
        for host in ["127.0.0.1:9090", "[::1]:9090", "[::1]", "10.0.0.7", "localhost:9090", "LOCALHOST"] {
            assert!(may_ask(&headers(Some(host), None)), "{host}");
            assert!(!may_ask(&headers(Some(host), Some("http://evil.example"))), "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:9090",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "",
            ":9090",
        ] {
            assert!(!may_ask(&headers(Some(host), None)), "{host}");
        }
        assert!(!may_ask(&headers(None, None)));
    }
}
