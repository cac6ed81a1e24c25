//! `/workspaces/{id}/repair`: has a browser forget what a workspace's pages keep in it, service workers included.
//!
//! Nothing of the workspace changes. Its hosts are asked by images of a page of ours: a service worker of theirs sees
//! every navigation to them, and no request of another host's page.

use super::{answer, api, fields, workspaces};
use crate::access::authorise::{self, Permit};
use crate::edge::Edge;
use crate::handoff;
use crate::own::Asked;
use crate::page::{Page, escape};
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::response::Response;
use config::{RequestFacts, WorkspaceId};
use http::{HeaderMap, StatusCode, Uri};
use std::sync::Arc;

/// `GET`, of whoever comes back to the address of that page: a link repairs nothing, a button does.
pub(super) async fn show() -> Response {
    handoff::redirect("/", [])
}

/// `POST`: the page that does it.
pub(super) async fn begin(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    Path(id): Path<String>,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    let Some(caller) = &asked.own.caller else { return api::unauthenticated(&asked) };
    let facts = || authorise::facts(&asked.host, "POST", uri.path(), &asked.connection);
    let permit = fields::of_change(&edge.keys, &asked, caller, &headers, &body)
        .and_then(|_| api::permit(&edge, &asked, caller, &id, facts));
    match permit {
        Ok(permit) => page(&asked, &permit, &origins(&edge, &asked, &permit, facts)),
        Err(refusal) => answer::refuse(&asked, &refusal),
    }
}

/// What the dashboard offers.
pub(super) fn form(id: &str, csrf: &str) -> String {
    format!(
        "<details><summary>Repair</summary><form method=\"post\" action=\"/workspaces/{id}/repair\">\
         <input type=\"hidden\" name=\"csrf\" value=\"{csrf}\">\
         <p>For a page that stays broken, or is not the one it should be, however often you reload it. This browser \
         forgets what the workspace's pages keep in it: settings, drafts, service workers. Files and cookies stay, \
         and nothing is stopped.</p><p>First close all tabs of the workspace: one that is open can bring back what \
         broke it.</p><p class=\"actions\"><button class=\"second\">Repair</button></p></form></details>"
    )
}

/// The origins of a workspace: its own host's, and those of its other ports.
fn origins(edge: &Edge, asked: &Asked, permit: &Permit, facts: impl FnOnce() -> RequestFacts) -> Vec<String> {
    let host = permit.host(&asked.config);
    let template = || {
        let entry = edge.workspaces.lookup(permit.id());
        permit.template(&asked.config, entry.as_deref(), facts)
    };
    let has_ports = matches!(permit.id(), WorkspaceId::Own { name: None, .. });
    let template = has_ports.then(template).flatten();
    let ports = template.iter().flat_map(|template| template.ports.iter());
    let others = ports.map(|port| format!("{port}--{host}"));
    let hosts = std::iter::once(host.clone()).chain(others);
    hosts.map(|host| asked.connection.listener.origin(&host)).collect()
}

fn page(asked: &Asked, permit: &Permit, origins: &[String]) -> Response {
    let name = workspaces::name(permit.id());
    let resets: Vec<String> = origins.iter().map(|origin| format!("{origin}/.usher/reset")).collect();
    let image = |reset: &String| {
        let reset = escape(reset);
        format!("<img hidden data-repair crossorigin=\"use-credentials\" alt=\"\" src=\"{reset}\">")
    };
    let images: String = resets.iter().map(image).collect();
    let site = |origin: &String| format!("<li><code>{}</code></li>", escape(origin));
    let sites: String = origins.iter().map(site).collect();
    let body = format!(
        "<h1>Repair of {name}</h1>{OUTCOMES}{images}\
         <details><summary>How to do it by hand</summary><p>Close all tabs of the workspace. Then delete, in your \
         browser's settings, the data of:</p><ul>{sites}</ul></details>\
         <div class=\"actions\"><a class=\"button\" href=\"{}/\">Open<span class=\"hidden-text\"> {name}</span></a>\
         <a class=\"button second\" href=\"/\">To your workspaces</a></div>",
        escape(&origins[0]),
        name = escape(&name),
    );
    let page = Page { title: "Repair", body: &body, scripts: &["/assets/repair.js"], ..Page::default() };
    answer::page_with_images(asked, StatusCode::OK, page, &resets.join(" "))
}

/// What the page says, by what `repair.js` finds.
const OUTCOMES: &str = "<div role=\"status\">\
    <p class=\"lead\" data-outcome=\"running\">This browser is being told to forget what the workspace's pages keep in it. \
    <noscript><strong>Whether that works is not seen without JavaScript.</strong></noscript></p>\
    <div data-outcome=\"done\" hidden><p class=\"lead\">Done: this browser was told to forget what the workspace's pages \
    kept in it.</p><p>Close or reload the tabs of the workspace that are still open. If it breaks again, one of them \
    brought it back, or something in the workspace itself does.</p></div>\
    <div data-outcome=\"failed\" hidden><p class=\"alarm\">That did not work: this browser got no answer from the \
    workspace's host.</p><p>Close all tabs of the workspace and try again. If that does not help, do it by hand.</p>\
    </div></div>";
