//! `/`: who I am, my workspaces, and the way out.

use super::sessions::is_admin;
use super::workspaces::View;
use super::{answer, fields, repair, workspaces};
use crate::access::authenticate::Caller;
use crate::edge::Edge;
use crate::handoff;
use crate::own::Asked;
use crate::page::{Page, escape};
use axum::extract::{Extension, State};
use axum::response::Response;
use http::StatusCode;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

/// What "keep" offers, in hours; the template's `keep_until_max` cuts it.
const KEEP_HOURS: [u32; 4] = [1, 4, 12, 24];

/// `GET /`.
pub(super) async fn show(State(edge): State<Arc<Edge>>, Extension(asked): Extension<Asked>) -> Response {
    let Some(caller) = &asked.own.caller else { return handoff::redirect("/login", []) };
    let token = fields::token(&edge.keys, &asked, &caller.id);
    let now = Instant::now();
    let mine = workspaces::of(&edge, &asked, caller, now);
    let sections: String = mine.iter().map(|view| section(view, &token)).collect();
    let shared = applications(&workspaces::shared(&edge, &asked, caller, now), &token);
    let body = format!(
        "<h1>Your workspaces</h1>{}{sections}{shared}<hr>{}",
        who(caller),
        sign_out(&token, is_admin(&asked, caller))
    );
    let page =
        Page { title: "Your workspaces", body: &body, scripts: &["/assets/dashboard.js"], ..Page::default() };
    answer::page(&asked, StatusCode::OK, page)
}

/// `GET /logout`: asks, since a link must not log anybody out.
pub(super) async fn ask_out(State(edge): State<Arc<Edge>>, Extension(asked): Extension<Asked>) -> Response {
    let Some(caller) = &asked.own.caller else { return handoff::redirect("/login", []) };
    let token = fields::token(&edge.keys, &asked, &caller.id);
    let body = format!("<h1>Log out?</h1>{}{}", who(caller), sign_out(&token, is_admin(&asked, caller)));
    answer::page(&asked, StatusCode::OK, Page { title: "Log out", body: &body, ..Page::default() })
}

fn who(caller: &Caller) -> String {
    let session = &caller.session;
    let (name, label) = (escape(session.display_name()), escape(session.label.as_str()));
    let also = if name == label { String::new() } else { format!(" (<code>{label}</code>)") };
    let unsafe_login = if session.identity().is_development() {
        "<p class=\"note\">Logged in by the development login, which is not safe: it believes every name.</p>"
    } else {
        ""
    };
    format!("<p class=\"lead\">You are <strong>{name}</strong>{also}.</p>{unsafe_login}")
}

fn sign_out(token: &str, is_admin: bool) -> String {
    let people = if is_admin { " · <a href=\"/people\">Who is logged in</a>" } else { "" };
    format!(
        "<p><a href=\"/sessions\">Where you are logged in</a> · <a href=\"/tokens\">Your tokens</a>{people}</p><div class=\"actions\">\
         <form method=\"post\" action=\"/logout\"><input type=\"hidden\" name=\"csrf\" value=\"{token}\">\
         <button class=\"second\">Log out</button></form>\
         <form method=\"post\" action=\"/logout\"><input type=\"hidden\" name=\"csrf\" value=\"{token}\">\
         <input type=\"hidden\" name=\"everywhere\" value=\"yes\">\
         <button class=\"second\">Log out on all devices</button></form></div>"
    )
}

/// What others made and many share; nothing where the caller may enter none of it.
fn applications(views: &[View], token: &str) -> String {
    if views.is_empty() {
        return String::new();
    }
    let sections: String = views.iter().map(|view| section(view, token)).collect();
    format!("<hr><h1>Applications</h1><p class=\"lead\">You share these with others.</p>{sections}")
}

fn section(view: &View, token: &str) -> String {
    let (id, name) = (view.id.to_string(), view.name());
    let to = match view.is_open {
        true => Cow::Borrowed(&*view.address),
        // By the portal, which waits until it is.
        false => handoff::with_query("/login", &[("return", &view.address)]).into(),
    };
    let mut actions = format!(
        "<a class=\"button\" href=\"{}\">Open<span class=\"hidden-text\"> {name}</span></a>",
        escape(&to)
    );
    if view.phase == "failed" {
        actions.push_str(&form(&id, "start", token, "<button class=\"second\">Try again</button>"));
    }
    if view.can_extend {
        actions.push_str(&form(&id, "extend", token, "<button class=\"second\">Give it more time</button>"));
    }
    if view.can_stop() {
        actions.push_str(&form(&id, "stop", token, "<button class=\"second\">Stop</button>"));
    }
    let mut more = String::new();
    if !view.is_shared() && view.phase == "ready" {
        more.push_str(&keep(&id, token));
    }
    more.push_str(&repair::form(&id, token));
    if !view.is_shared() {
        more.push_str(&delete(&id, token));
    }
    format!(
        "<section data-workspace=\"{id}\" aria-labelledby=\"name-{id}\"><h2 id=\"name-{id}\">{name}</h2>\
         <p class=\"small soft where\">{}</p>\
         <p><span class=\"phase\" data-phase=\"{phase}\" role=\"status\">{says}</span></p>\
         <div class=\"actions\">{actions}</div>{more}</section>",
        host_of(&view.address),
        phase = view.phase,
        says = escape(&view.says),
    )
}

/// An address as people read it out: `lab--alice.lab.example.org`.
fn host_of(address: &str) -> &str {
    let host = address.split_once("://").map_or(address, |(_, rest)| rest);
    host.trim_end_matches('/')
}

fn keep(id: &str, token: &str) -> String {
    let options: String =
        KEEP_HOURS.iter().map(|hours| format!("<option value=\"{hours}\">{hours} h</option>")).collect();
    let inner = format!(
        "<label for=\"keep-{id}\">Do not stop it for</label>\
         <select id=\"keep-{id}\" name=\"hours\">{options}</select>\
         <p class=\"actions\"><button class=\"second\">Keep it running</button></p>"
    );
    format!("<details><summary>Keep it running</summary>{}</details>", form(id, "keep", token, &inner))
}

fn delete(id: &str, token: &str) -> String {
    let inner = format!(
        "<label for=\"confirm-{id}\">Type <code>{id}</code> to confirm</label>\
         <input id=\"confirm-{id}\" name=\"confirm\" required pattern=\"{id}\" autocomplete=\"off\" \
         autocapitalize=\"none\" spellcheck=\"false\">\
         <label for=\"files-{id}\">Its files</label>\
         <select id=\"files-{id}\" name=\"files\"><option value=\"keep\">are kept</option>\
         <option value=\"delete\">are deleted, for ever</option></select>\
         <p class=\"actions\"><button class=\"danger\">Delete</button></p>"
    );
    format!("<details><summary>Delete</summary>{}</details>", form(id, "delete", token, &inner))
}

fn form(id: &str, action: &str, token: &str, inner: &str) -> String {
    format!(
        "<form method=\"post\" action=\"/api/v1/workspaces/{id}/{action}\">\
         <input type=\"hidden\" name=\"csrf\" value=\"{token}\">{inner}</form>"
    )
}
