//! What a token must be good for, by what is asked: a closed table. What does not stand in it is for people with a session.

use crate::access::route::Place;
use crate::refusal::{Code, Refusal};
use crate::request::Request;
use config::TokenScope;
use http::Method;

/// The scope that a request by a token takes.
///
/// # Errors
/// 403: no token does this.
pub(super) fn needed(place: &Place, request: &Request<'_>) -> Result<TokenScope, Refusal> {
    let (method, path) = (&request.head.method, request.path);
    let scope = match place {
        Place::Portal => on_portal(method, path),
        Place::Workspace { .. } if place.is_own(request) => under_usher(method, path),
        Place::Workspace { .. } => Some(TokenScope::WorkspacesAccess),
    };
    scope.ok_or_else(|| {
        Refusal::with(Code::InsufficientScope, "No token does this: it takes a person who is logged in.")
    })
}

fn on_portal(method: &Method, path: &str) -> Option<TokenScope> {
    let parts: Vec<&str> = path.strip_prefix("/api/v1/")?.split('/').collect();
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let changes = *method == Method::POST;
    match &parts[..] {
        ["workspaces"] if reads => Some(TokenScope::WorkspacesRead),
        ["workspaces", _, "start" | "extend" | "keep"] if changes => Some(TokenScope::WorkspacesStart),
        ["workspaces", _, "stop"] if changes => Some(TokenScope::WorkspacesStop),
        ["sessions"] if reads => Some(TokenScope::Sessions),
        ["sessions", _, "end"] if changes => Some(TokenScope::Sessions),
        ["people", _, "sign-out"] if changes => Some(TokenScope::Admin),
        _ => None,
    }
}

fn under_usher(method: &Method, path: &str) -> Option<TokenScope> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let changes = *method == Method::POST;
    match path.strip_prefix("/.usher/")? {
        "status" | "events" if reads => Some(TokenScope::WorkspacesRead),
        "start" | "extend" if changes => Some(TokenScope::WorkspacesStart),
        "stop" if changes => Some(TokenScope::WorkspacesStop),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::tests::{Client, head};
    use config::WorkspaceId;

    #[test]
    fn a_token_does_what_the_table_names_and_nothing_else() {
        let workspace = Place::Workspace { id: WorkspaceId::parse("alice").unwrap(), port: None };
        let portal = Place::Portal;
        for (place, method, path, expected) in [
            (&portal, "GET", "/api/v1/workspaces", Some("workspaces:read")),
            (&portal, "HEAD", "/api/v1/workspaces", Some("workspaces:read")),
            (&portal, "POST", "/api/v1/workspaces/alice/start", Some("workspaces:start")),
            (&portal, "POST", "/api/v1/workspaces/alice/keep", Some("workspaces:start")),
            (&portal, "POST", "/api/v1/workspaces/alice/stop", Some("workspaces:stop")),
            (&portal, "POST", "/api/v1/workspaces/alice/delete", None),
            (&portal, "GET", "/api/v1/sessions", Some("sessions")),
            (&portal, "POST", "/api/v1/sessions/x/end", Some("sessions")),
            (&portal, "POST", "/api/v1/people/bob/sign-out", Some("admin")),
            (&portal, "GET", "/api/v1/tokens", None),
            (&portal, "POST", "/api/v1/tokens", None),
            (&portal, "POST", "/api/v1/tokens/x/revoke", None),
            (&portal, "POST", "/workspaces/alice/repair", None),
            (&portal, "GET", "/", None),
            (&portal, "GET", "/people", None),
            (&portal, "GET", "/login", None),
            (&portal, "POST", "/cli", None),
            (&portal, "GET", "/api/v1/workspaces/", None),
            (&portal, "GET", "//api/v1/workspaces", None),
            (&workspace, "GET", "/", Some("workspaces:access")),
            (&workspace, "DELETE", "/api/v1/workspaces", Some("workspaces:access")),
            (&workspace, "GET", "/.usher/status", Some("workspaces:read")),
            (&workspace, "POST", "/.usher/status", None),
            (&workspace, "POST", "/.usher/start", Some("workspaces:start")),
            (&workspace, "POST", "/.usher/stop", Some("workspaces:stop")),
            (&workspace, "GET", "/.usher/enter", None),
            (&workspace, "POST", "/.usher/reset", None),
            (&workspace, "GET", "/%2eusher/status", None),
            (&workspace, "GET", "//.usher/status", None),
        ] {
            let head = head(method, "alice.lab.localhost", path, &[]);
            let client = Client::plain();
            let request = Request::parse(&head, &client.0).unwrap();
            let scope = needed(place, &request).ok().map(TokenScope::as_str);
            assert_eq!(scope, expected, "{place:?} {method} {path}");
        }
    }
}
