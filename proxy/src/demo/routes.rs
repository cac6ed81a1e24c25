//! What the demo answers.

use super::note::{MAX, Note};
use super::sockets;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Response, StatusCode};
use axum::response::{IntoResponse, Json};
use axum::routing::{any, get};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use std::convert::Infallible;

const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("demo.css");
const SCRIPT: &str = include_str!("demo.js");

/// Nothing inline, nothing foreign; WebSockets to its own origin are `'self'`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; form-action 'self'; base-uri 'none'; frame-ancestors 'self'";

/// The largest download: tests of slow readers want more than any buffer holds, not a full disk.
const BIG_MAX: u64 = 1 << 30;
const BIG_CHUNK: usize = 64 * 1024;

pub(super) fn router(note: Note) -> Router {
    Router::new()
        .route("/", get(async || page()))
        .route("/demo.css", get(async || file("text/css; charset=utf-8", STYLE)))
        .route("/demo.js", get(async || file("text/javascript; charset=utf-8", SCRIPT)))
        .route("/note", get(read_note).put(save_note).layer(DefaultBodyLimit::max(MAX)))
        .route("/headers", get(async |headers: HeaderMap| Json(received(&headers))))
        .route("/big", get(big))
        .route("/ws", any(sockets::echo))
        .route("/clock", any(sockets::clock))
        .route("/told", any(sockets::told))
        // A deep link leads to the page, too, and the page says which it was.
        .fallback(get(async || page()))
        .with_state(note)
}

fn page() -> Response<Body> {
    let mut response = file("text/html; charset=utf-8", PAGE);
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

fn file(kind: &'static str, text: &'static str) -> Response<Body> {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
    ];
    (headers, text).into_response()
}

/// The header fields as they came, in their order: `[["host", "…"], …]`. What is no UTF-8 is shown lossily.
pub(super) fn received(headers: &HeaderMap) -> Value {
    let fields =
        headers.iter().map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]));
    Value::Array(fields.collect())
}

async fn read_note(State(note): State<Note>) -> Response<Body> {
    match note.read().await {
        Ok(text) => ([(header::CACHE_CONTROL, "no-store")], text).into_response(),
        Err(error) => failed(&error),
    }
}

async fn save_note(State(note): State<Note>, text: String) -> Response<Body> {
    match note.save(text).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(error) => failed(&error),
    }
}

fn failed(error: &std::io::Error) -> Response<Body> {
    println!("demo: the note's file failed: {error}");
    (StatusCode::INTERNAL_SERVER_ERROR, "the note's file failed").into_response()
}

#[derive(Deserialize)]
struct Big {
    bytes: u64,
}

/// So many zero bytes, made as they are taken.
async fn big(Query(Big { bytes }): Query<Big>) -> Response<Body> {
    if bytes > BIG_MAX {
        return (StatusCode::BAD_REQUEST, "at most 1073741824 bytes").into_response();
    }
    let zeros = Bytes::from(vec![0; BIG_CHUNK]);
    let chunks = stream::unfold(bytes, move |left| {
        let size = usize::try_from(left).unwrap_or(BIG_CHUNK).min(BIG_CHUNK);
        let chunk = (size > 0).then(|| (Ok::<_, Infallible>(zeros.slice(..size)), left - size as u64));
        async { chunk }
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=big.bin")),
        (header::CONTENT_LENGTH, HeaderValue::from(bytes)),
    ];
    (headers, Body::from_stream(chunks)).into_response()
}
