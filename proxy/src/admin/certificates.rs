//! Certificates, for operators: what there is, and what is to be done with it.

use super::Answer;
use crate::edge::Edge;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use certs::{Listed, Operations, OperationsError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What `import` is sent.
#[derive(Serialize, Deserialize)]
pub struct Import {
    /// The chain, PEM.
    pub chain: String,
    /// The key, PEM.
    pub private_key: String,
}

/// How long an import may be, in bytes: twice what a chain and a key may have, since JSON escapes line breaks.
const IMPORT_MAX: usize = 4 * certs::TEXT_MAX;

pub(super) fn router(edge: Arc<Edge>) -> Router {
    Router::new()
        .route("/certificates", get(list))
        .route("/certificates/{name}/renew", post(renew))
        .route("/certificates/{name}/import", post(import).layer(DefaultBodyLimit::max(IMPORT_MAX)))
        .route("/certificate-authority", get(authority))
        .with_state(edge)
}

async fn list(State(edge): State<Arc<Edge>>) -> Json<Vec<Listed>> {
    Json(edge.certificates.as_ref().map(|operations| operations.list().to_vec()).unwrap_or_default())
}

async fn renew(State(edge): State<Arc<Edge>>, Path(name): Path<String>) -> Answer {
    let many = operations(&edge)?.renew(&name).await.map_err(refused)?;
    let what = if many == 1 { name } else { format!("{name}: {many} certificates") };
    Ok(format!(
        "{what} will be renewed as soon as its authority and new_per_week let us: see `usher certs list`\n"
    ))
}

async fn import(
    State(edge): State<Arc<Edge>>,
    Path(name): Path<String>,
    Json(import): Json<Import>,
) -> Answer {
    let (chain, key) = (import.chain.as_bytes(), import.private_key.as_bytes());
    operations(&edge)?.import(&name, chain, key).await.map_err(refused)?;
    Ok(format!("{name} was taken in, and is served from now on\n"))
}

async fn authority(State(edge): State<Arc<Edge>>) -> Answer {
    operations(&edge)?.authority().await.map_err(refused)
}

fn operations(edge: &Edge) -> Result<&Operations, (StatusCode, String)> {
    let none = "no certificate is configured: [certificates.NAME] in the configuration names one\n";
    edge.certificates.as_ref().ok_or_else(|| (StatusCode::NOT_FOUND, none.to_owned()))
}

fn refused(error: OperationsError) -> (StatusCode, String) {
    let status = match error {
        OperationsError::Unknown(_) | OperationsError::NoAuthority => StatusCode::NOT_FOUND,
        OperationsError::NotOurs { .. } | OperationsError::Unfit(_) => StatusCode::BAD_REQUEST,
        OperationsError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, format!("{error}\n"))
}
