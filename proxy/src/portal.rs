//! The portal: login, dashboard, hand-off.
//!
//! Pages, forms and a small API on one host that never leads to a workspace's code. Whatever changes something
//! is a POST from a page of this origin with a token of this session (`fields`); the login has a state of its own.

mod answer;
mod api;
mod awaiting;
mod command_line;
mod dashboard;
mod fields;
mod jwks;
mod login;
mod logout;
mod onward;
mod repair;
pub(crate) mod sessions;
mod tokens;
mod workspaces;

#[cfg(test)]
mod tests;

use crate::edge::Edge;
use crate::own::Asked;
use crate::refusal::{Code, Refusal};
use axum::Router;
use axum::extract::Extension;
use axum::response::Response;
use axum::routing::{get, post};
use std::sync::Arc;

/// All endpoints of the portal. Requests carry [`crate::own::Asked`] as an extension.
pub fn router(edge: Arc<Edge>) -> Router {
    Router::new()
        .route("/", get(dashboard::show))
        .route("/login", get(login::show).post(login::submit))
        .route("/auth/{provider}/login", get(login::depart))
        .route("/auth/{provider}/backchannel-logout", post(logout::by_provider))
        .route("/auth/{provider}/frontchannel-logout", get(logout::by_frame))
        .route("/logged-out", get(logout::show))
        .route("/assets/leave.js", get(|| async { answer::script(include_str!("portal/assets/leave.js")) }))
        .route("/auth/{provider}/callback", get(login::arrive).post(login::arrive_by_form))
        .route("/assets/depart.js", get(|| async { answer::script(include_str!("portal/assets/depart.js")) }))
        .route("/assets/await.js", get(|| async { answer::script(include_str!("portal/assets/await.js")) }))
        .route("/assets/arrive.js", get(|| async { answer::script(include_str!("portal/assets/arrive.js")) }))
        .route("/logout", get(dashboard::ask_out).post(logout::submit))
        .route("/assets/login.js", get(|| async { answer::script(include_str!("portal/assets/login.js")) }))
        .route(
            "/assets/dashboard.js",
            get(|| async { answer::script(include_str!("portal/assets/dashboard.js")) }),
        )
        .route("/api/v1/workspaces", get(api::list))
        .route("/api/v1/workspaces/{id}/{action}", post(api::change))
        .route("/workspaces/{id}/repair", get(repair::show).post(repair::begin))
        .route("/assets/repair.js", get(|| async { answer::script(include_str!("portal/assets/repair.js")) }))
        .route("/sessions", get(sessions::show))
        .route("/people", get(sessions::people))
        .route("/api/v1/sessions", get(sessions::list))
        .route("/api/v1/sessions/{id}/end", post(sessions::end))
        .route("/api/v1/people/{label}/sign-out", post(sessions::sign_out))
        .route("/tokens", get(tokens::show))
        .route("/api/v1/tokens", get(tokens::list).post(tokens::make))
        .route("/api/v1/tokens/{id}/revoke", post(tokens::revoke))
        .route("/cli", get(command_line::ask).post(command_line::consent))
        .route("/api/v1/cli/token", post(command_line::token))
        .route("/api/v1/cli/logout", post(command_line::end))
        .route("/.well-known/jwks.json", get(jwks::show))
        .fallback(|Extension(asked): Extension<Asked>| refuse(asked, Code::NotFound))
        .method_not_allowed_fallback(|Extension(asked): Extension<Asked>| {
            refuse(asked, Code::MethodNotAllowed)
        })
        .with_state(edge)
}

async fn refuse(asked: Asked, code: Code) -> Response {
    answer::refuse(&asked, &Refusal::new(code))
}
