//! `/tokens`: somebody's API tokens and logins at command lines, the making of one and the end of each.
//!
//! All of it takes a person with a session: no token makes another.

use super::api::unauthenticated;
use super::{answer, fields};
use crate::access::authenticate::Caller;
use crate::audit::{Entry, Event, Reason};
use crate::edge::Edge;
use crate::handoff;
use crate::machines::form;
use crate::own::Asked;
use crate::page::{Page, escape};
use crate::refusal::{Code, Refusal};
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::response::Response;
use config::{TokenScope, TokenScopes};
use control::{MakeError, NewToken, Token, TokenRef, TokenSort};
use fields::Fields;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: Duration = Duration::from_hours(24);
/// For how many days a token may be made by the page; as far as `machines.token_lifetime` goes.
const DAYS: [u64; 4] = [7, 30, 90, 365];
/// The longest name, in characters.
const NAME: usize = 64;

/// `GET /tokens`.
pub(super) async fn show(State(edge): State<Arc<Edge>>, Extension(asked): Extension<Asked>) -> Response {
    let Some(caller) = &asked.own.caller else { return handoff::redirect("/login", []) };
    let csrf = fields::token(&edge.keys, &asked, &caller.id);
    let now = SystemTime::now();
    let rows: String = theirs(&edge, caller).iter().map(|token| row(token, &csrf, now)).collect();
    let none = if rows.is_empty() { "<p>You have none.</p>" } else { "" };
    let body = format!(
        "<h1>Your tokens</h1><p class=\"lead\">By these, programs do in your name what their scopes say. They stay when you \
         log out.</p>{none}{rows}<hr><h2>A new API token</h2>{}\
         <p class=\"actions\"><a class=\"button second\" href=\"/\">To your workspaces</a></p>",
        new_form(&asked, &csrf)
    );
    answer::page(&asked, StatusCode::OK, Page { title: "Your tokens", body: &body, ..Page::default() })
}

fn row(token: &Token, csrf: &str, now: SystemTime) -> String {
    let title = match token.sort {
        TokenSort::Api => escape(&token.name).into_owned(),
        TokenSort::Login => format!("usher login on {}", escape(&token.name)),
    };
    let ends = match token.expires.duration_since(now) {
        Ok(left) => format!("in {}", super::workspaces::in_words(left)),
        Err(_) => "<strong>it has expired</strong>".to_owned(),
    };
    let used = token.last_used(now).map_or("never".to_owned(), |used| ago(used, now));
    format!(
        "<section><h2>{title}</h2><dl class=\"facts\"><div><dt>Scopes</dt><dd>{}</dd></div>\
         <div><dt>Made</dt><dd>{}</dd></div><div><dt>Last used</dt><dd>{used}</dd></div>\
         <div><dt>Ends</dt><dd>{ends}</dd></div></dl>\
         <form method=\"post\" action=\"/api/v1/tokens/{}/revoke\" class=\"actions\">\
         <input type=\"hidden\" name=\"csrf\" value=\"{csrf}\"><button class=\"second\">Revoke</button></form></section>",
        token.scopes,
        ago(token.made, now),
        token.reference,
    )
}

fn ago(then: SystemTime, now: SystemTime) -> String {
    format!("{} ago", super::workspaces::in_words(now.duration_since(then).unwrap_or_default()))
}

fn new_form(asked: &Asked, csrf: &str) -> String {
    let longest = asked.config.machines.token_lifetime;
    let mut days: Vec<u64> = DAYS.into_iter().filter(|days| DAY * (*days as u32) <= longest).collect();
    if days.is_empty() {
        days.push(0);
    }
    let options: String = days
        .into_iter()
        .map(|days| match days {
            0 => format!("<option value=\"0\">{}</option>", super::workspaces::in_words(longest)),
            days => format!("<option value=\"{days}\">{days} days</option>"),
        })
        .collect();
    let boxes: String = TokenScope::ALL
        .into_iter()
        .map(|scope| {
            let (name, meaning) = (scope.as_str(), scope.meaning());
            format!(
                "<p><label><input type=\"checkbox\" name=\"{name}\" value=\"true\"> <code>{name}</code>: {meaning}</label></p>"
            )
        })
        .collect();
    format!(
        "<form id=\"new-token\" method=\"post\" action=\"/api/v1/tokens\">\
         <input type=\"hidden\" name=\"csrf\" value=\"{csrf}\"><label for=\"name\">What it is for</label>\
         <input id=\"name\" name=\"name\" required maxlength=\"{NAME}\" autocomplete=\"off\">\
         <fieldset><legend>What it may do</legend>{boxes}</fieldset>\
         <label for=\"days\">It ends after</label><select id=\"days\" name=\"days\">{options}</select>\
         <p class=\"actions\"><button>Make it</button></p></form>"
    )
}

/// `GET /api/v1/tokens`: the caller's.
pub(super) async fn list(State(edge): State<Arc<Edge>>, Extension(asked): Extension<Asked>) -> Response {
    let Some(caller) = &asked.own.caller else { return unauthenticated(&asked) };
    let now = SystemTime::now();
    let tokens: Vec<Value> = theirs(&edge, caller).iter().map(|token| document(token, now)).collect();
    answer::json(&json!({ "csrf": fields::token(&edge.keys, &asked, &caller.id), "tokens": tokens }))
}

fn document(token: &Token, now: SystemTime) -> Value {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    json!({
        "id": token.reference.to_string(),
        "kind": match token.sort { TokenSort::Api => "api", TokenSort::Login => "login" },
        "name": token.name,
        "scopes": token.scopes.to_string(),
        "made_at": seconds(token.made),
        "expires_at": seconds(token.expires),
        "used_at": token.last_used(now).map(seconds),
    })
}

/// `POST /api/v1/tokens`: makes one; the answer is the only one that shows it.
pub(super) async fn make(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(caller) = &asked.own.caller else { return unauthenticated(&asked) };
    let now = SystemTime::now();
    let new = fields::of_change(&edge.keys, &asked, caller, &headers, &body)
        .and_then(|fields| wanted(&fields, asked.config.machines.token_lifetime, now));
    let new = match new {
        Ok(new) => new,
        Err(refusal) => return answer::refuse(&asked, &refusal),
    };
    let owner = &caller.session;
    let most = asked.config.machines.tokens_per_user;
    match edge.tokens.make(owner, caller.id.reference(), new, most).await {
        Ok((secret, token)) => {
            let entry = Entry::done(Event::TokenMade).because(Reason::ApiToken).asked(&asked);
            edge.audit.record(entry.caller(caller).token(&token));
            made(&asked, &form::api_token(&secret), &token, now)
        }
        Err(MakeError::TooMany(count)) => {
            let detail = format!("You have {count} API tokens, and may have {most}: revoke one first.");
            answer::refuse(&asked, &Refusal::with(Code::TooMany, detail))
        }
        Err(MakeError::SessionOver) => unauthenticated(&asked),
        Err(MakeError::Records(error)) => {
            tracing::error!(%error, "a token could not be written down");
            handoff::unavailable()
        }
    }
}

/// What a form or a script asks for.
fn wanted(fields: &Fields, longest: Duration, now: SystemTime) -> Result<NewToken, Refusal> {
    let bad = |detail: String| Refusal::with(Code::BadRequest, detail);
    let name = fields.one("name").map(str::trim).unwrap_or_default();
    if name.is_empty() || name.chars().count() > NAME || name.chars().any(char::is_control) {
        return Err(bad(format!("`name` must be one line of 1 to {NAME} characters")));
    }
    let checked = TokenScope::ALL.into_iter().filter(|scope| fields.one(scope.as_str()) == Some("true"));
    let scopes = match fields.one("scopes") {
        Some(scopes) => TokenScopes::parse(scopes),
        None => Some(checked.collect()),
    };
    let scopes = scopes.filter(|scopes| !scopes.is_empty()).ok_or_else(|| {
        bad(format!("`scopes` must name some of: {}", TokenScopes::from_iter(TokenScope::ALL)))
    })?;
    let days: Option<u32> = fields.one("days").and_then(|days| days.parse().ok());
    let lifetime = match days {
        // The longest there is, where that is less than any number of days.
        Some(0) if longest < DAY => longest,
        Some(days @ 1..) if DAY.checked_mul(days).is_some_and(|lifetime| lifetime <= longest) => DAY * days,
        _ => return Err(bad(format!("`days` must be a whole number, for at most {} s", longest.as_secs()))),
    };
    Ok(NewToken { name: name.to_owned(), scopes, lifetime, now })
}

fn made(asked: &Asked, secret: &str, token: &Token, now: SystemTime) -> Response {
    if !asked.intent.wants_page() {
        let mut document = document(token, now);
        document["token"] = secret.into();
        return answer::json(&document);
    }
    let body = format!(
        "<h1>Your new token</h1><p class=\"lead\">Copy it now: it is not shown again.</p>\
         <p><code id=\"token\">{secret}</code></p><p>Whoever has it may do in your name: <code>{}</code>.</p>\
         <p class=\"actions\"><a class=\"button second\" href=\"/tokens\">To your tokens</a></p>",
        token.scopes
    );
    answer::page(asked, StatusCode::OK, Page { title: "Your new token", body: &body, ..Page::default() })
}

/// `POST /api/v1/tokens/{id}/revoke`: one of the caller's.
pub(super) async fn revoke(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(caller) = &asked.own.caller else { return unauthenticated(&asked) };
    if let Err(refusal) = fields::of_change(&edge.keys, &asked, caller, &headers, &body) {
        return answer::refuse(&asked, &refusal);
    }
    let is_theirs = |id: &TokenRef| theirs(&edge, caller).iter().any(|token| token.reference == *id);
    let Some(id) = TokenRef::parse(&id).filter(is_theirs) else {
        return answer::refuse(&asked, &Refusal::new(Code::NotFound));
    };
    let revoking = edge.tokens.revoke(id).await;
    let entry = Entry::done(Event::TokenRevoked).because(Reason::Asked).asked(&asked).caller(caller);
    edge.audit.revoked(&revoking, &entry);
    match revoking.result() {
        Ok(_) if asked.intent.wants_page() => handoff::redirect("/tokens", []),
        Ok(_) => answer::json(&json!({ "revoked": 1 })),
        Err(error) => {
            tracing::error!(%error, "a token could not be revoked");
            handoff::unavailable()
        }
    }
}

fn theirs(edge: &Edge, caller: &Caller) -> Vec<Arc<Token>> {
    edge.tokens.list(caller.session.identity())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http::header::CONTENT_TYPE;

    #[test]
    fn a_new_token_has_a_name_scopes_and_an_end() {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, form)]);
        let now = SystemTime::now();
        for (body, longest, expected) in [
            ("name=ci&scopes=sessions+admin&days=30", DAY * 90, Some(("sessions admin", DAY * 30))),
            ("name=ci&workspaces:read=true&days=90", DAY * 90, Some(("workspaces:read", DAY * 90))),
            ("name=ci&sessions=true&days=0", DAY / 2, Some(("sessions", DAY / 2))),
            ("name=ci&sessions=true&days=91", DAY * 90, None),
            ("name=ci&sessions=true&days=0", DAY * 90, None),
            ("name=ci&sessions=true", DAY * 90, None),
            ("name=ci&sessions=true&days=4294967295", DAY * 90, None),
            ("name=ci&days=30", DAY * 90, None),
            ("name=ci&scopes=all&days=30", DAY * 90, None),
            ("name=+&sessions=true&days=30", DAY * 90, None),
            ("sessions=true&days=30", DAY * 90, None),
        ] {
            let fields = Fields::parse(&headers, body.as_bytes()).unwrap();
            let new = wanted(&fields, longest, now).ok().map(|new| (new.scopes.to_string(), new.lifetime));
            let expected = expected.map(|(scopes, lifetime)| (scopes.to_owned(), lifetime));
            assert_eq!(new, expected, "{body}");
        }
    }
}
