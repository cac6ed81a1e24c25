//! `POST /logout`: ends the session everywhere; the cookies of all workspaces' hosts name it and die with it.

use super::{answer, fields};
use crate::edge::Edge;
use crate::handoff;
use crate::own::Asked;
use crate::session_cookie;
use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::response::Response;
use http::HeaderMap;
use std::sync::Arc;

pub(super) async fn submit(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let cleared = [session_cookie::clear(&asked.own.place)];
    let Some(caller) = &asked.own.caller else {
        // A foreign page's form comes without the cookie, and must not take it away either.
        let cleared = cleared.into_iter().filter(|_| fields::is_from_here(&asked, &headers));
        return handoff::redirect("/login", cleared);
    };
    let fields = match fields::of_change(&edge.keys, &asked, caller, &headers, &body) {
        Ok(fields) => fields,
        Err(refusal) => return answer::refuse(&asked, &refusal),
    };
    let ended = match fields.one("everywhere") {
        Some("yes") => edge.sessions.end_all(&caller.session.identity).await.map(drop),
        _ => edge.sessions.end(&caller.id).await,
    };
    match ended {
        Ok(()) => handoff::redirect("/login", cleared),
        // The cookie stays: the session does, and the person can try again.
        Err(error) => {
            tracing::error!(error = %error, "a session could not be ended");
            handoff::unavailable()
        }
    }
}
