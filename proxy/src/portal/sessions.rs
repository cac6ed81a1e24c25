//! `/sessions`: where somebody is logged in, and the way out of each; `/people`: the same for whoever may see all.

use super::api::unauthenticated;
use super::{answer, fields};
use crate::access::authenticate::Caller;
use crate::access::authorise;
use crate::audit::{By, Entry, Event, Reason};
use crate::edge::Edge;
use crate::handoff;
use crate::machines;
use crate::own::Asked;
use crate::page::{Page, escape};
use crate::refusal::{Code, Refusal};
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::response::Response;
use config::EvalError;
use control::{Device, Identity, RecordError, Session, SessionRef};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How many people one page shows; who is looked for further down is found by `usher sign-out`.
const PEOPLE: usize = 500;

/// `GET /sessions`.
pub(super) async fn show(State(edge): State<Arc<Edge>>, Extension(asked): Extension<Asked>) -> Response {
    let Some(caller) = &asked.own.caller else { return handoff::redirect("/login", []) };
    let token = fields::token(&edge.keys, &asked, &caller.id);
    let now = Instant::now();
    let rows: String =
        mine(&edge, caller).iter().map(|(id, session)| row(*id, session, caller, &token, now)).collect();
    let body = format!(
        "<h1>Where you are logged in</h1>{rows}<p class=\"actions\"><a class=\"button second\" href=\"/\">To your workspaces</a></p>"
    );
    answer::page(
        &asked,
        StatusCode::OK,
        Page { title: "Where you are logged in", body: &body, ..Page::default() },
    )
}

fn row(id: SessionRef, session: &Session, caller: &Caller, token: &str, now: Instant) -> String {
    let is_this = id == caller.id.reference();
    let device = session.device();
    let this = if is_this { " <strong>(this one)</strong>" } else { "" };
    let end =
        if is_this { String::new() } else { button(&format!("/api/v1/sessions/{id}/end"), token, "End") };
    format!(
        "<section><h2>{}{this}</h2><dl class=\"facts\"><div><dt>Network</dt><dd>{}</dd></div>\
         <div><dt>Logged in</dt><dd>{} ago</dd></div><div><dt>Last used</dt><dd>{} ago</dd></div></dl>{end}</section>",
        escape(&device.agent),
        escape(&device.network),
        words(SystemTime::now().duration_since(session.logged_in).unwrap_or_default()),
        words(now.saturating_duration_since(session.used())),
    )
}

fn button(action: &str, token: &str, words: &str) -> String {
    format!(
        "<form method=\"post\" action=\"{}\" class=\"actions\"><input type=\"hidden\" name=\"csrf\" value=\"{token}\">\
         <button class=\"second\">{}</button></form>",
        escape(action),
        escape(words)
    )
}

/// `GET /api/v1/sessions`: the caller's.
pub(super) async fn list(State(edge): State<Arc<Edge>>, Extension(asked): Extension<Asked>) -> Response {
    let Some(caller) = &asked.own.caller else { return unauthenticated(&asked) };
    let now = Instant::now();
    let sessions: Vec<Value> =
        mine(&edge, caller).iter().map(|(id, session)| document(*id, session, caller, now)).collect();
    answer::json(&json!({ "csrf": fields::token(&edge.keys, &asked, &caller.id), "sessions": sessions }))
}

fn document(id: SessionRef, session: &Session, caller: &Caller, now: Instant) -> Value {
    let Device { agent, network } = session.device();
    let at = session.logged_in.duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "id": id.to_string(),
        "this": id == caller.id.reference(),
        "provider": session.provider(),
        "agent": agent,
        "network": network,
        "logged_in_at": at.as_secs(),
        "unused_s": now.saturating_duration_since(session.used()).as_secs(),
    })
}

/// `POST /api/v1/sessions/{id}/end`: one of the caller's.
pub(super) async fn end(
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
    let theirs = |id: &SessionRef| mine(&edge, caller).iter().any(|(mine, _)| mine == id);
    let Some(id) = SessionRef::parse(&id).filter(theirs) else {
        return answer::refuse(&asked, &Refusal::new(Code::NotFound));
    };
    let ending = edge.sessions.end_one(id).await;
    let entry = Entry::done(Event::SessionEnded).because(Reason::ChosenFromList);
    edge.audit.ended(&ending, &entry.asked(&asked).caller(caller));
    ended(&asked, ending.result(), "/sessions")
}

/// `GET /people`: everybody who is logged in, for whom `access.admin` lets see it.
pub(super) async fn people(State(edge): State<Arc<Edge>>, Extension(asked): Extension<Asked>) -> Response {
    let Some(caller) = &asked.own.caller else { return handoff::redirect("/login", []) };
    if let Err(refusal) = admin(&asked, caller) {
        return answer::refuse(&asked, &refusal);
    }
    let token = fields::token(&edge.keys, &asked, &caller.id);
    let all = edge.sessions.people();
    let rows: String = all
        .iter()
        .take(PEOPLE)
        .map(|person| {
            let label = person.label.as_str();
            let out =
                button(&format!("/api/v1/people/{label}/sign-out"), &token, &format!("Sign out {label}"));
            let name = escape(&person.display_name);
            let many = if person.sessions == 1 { "" } else { "s" };
            format!(
                "<section><h2>{name} (<code>{label}</code>)</h2><p>{} session{many}</p>{out}</section>",
                person.sessions
            )
        })
        .collect();
    let rest = match all.len().saturating_sub(PEOPLE) {
        0 => String::new(),
        more => format!("<p class=\"note\">And {more} more: <code>usher sign-out LABEL</code>.</p>"),
    };
    let body = format!(
        "<h1>Who is logged in</h1>{rows}{rest}<p class=\"actions\"><a class=\"button second\" href=\"/\">To your workspaces</a></p>"
    );
    answer::page(&asked, StatusCode::OK, Page { title: "Who is logged in", body: &body, ..Page::default() })
}

/// `POST /api/v1/people/{label}/sign-out`: ends all sessions and revokes all tokens of somebody, for whom `access.admin` lets do it.
pub(super) async fn sign_out(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    Path(label): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(caller) = &asked.own.caller else { return unauthenticated(&asked) };
    let prepared =
        admin(&asked, caller).and_then(|()| fields::of_change(&edge.keys, &asked, caller, &headers, &body));
    let whom = match prepared {
        Ok(_) => match labelled(&edge, &label).await {
            Ok(whom) => whom.ok_or_else(|| Refusal::new(Code::NotFound)),
            Err(error) => return ended(&asked, Err(error), "/people"),
        },
        Err(refusal) => Err(refusal),
    };
    match whom {
        Ok(identity) => {
            let by_admin = |event| Entry::done(event).by(By::Admin).asked(&asked).caller(caller);
            tracing::info!(user.label = label, by.label = %caller.session.label, "somebody was signed out by an admin");
            let done = machines::sign_out(&edge, identity.as_ref(), &label, &by_admin).await;
            ended(&asked, done, "/people")
        }
        Err(refusal) => {
            let reason = match refusal.code {
                Code::NotFound => Reason::Unknown,
                Code::CrossOrigin | Code::BadRequest => Reason::ForeignPage,
                _ => Reason::NotAdmitted,
            };
            let entry = Entry::refused(Event::SignOut, reason).by(By::Admin).asked(&asked).caller(caller);
            edge.audit.record(entry.subject_label(&label));
            answer::refuse(&asked, &refusal)
        }
    }
}

/// Who has a label, among those who are logged in or have tokens.
///
/// # Errors
/// The store fails: it is not known who has logged in at another replica.
pub(crate) async fn labelled(edge: &Edge, label: &str) -> Result<Option<Identity>, RecordError> {
    let known = || {
        let mut people = edge.sessions.people().into_iter();
        let person = people.find(|person| person.label.as_str() == label);
        person.map(|person| person.identity).or_else(|| edge.tokens.labelled(label))
    };
    if let Some(identity) = known() {
        return Ok(Some(identity));
    }
    edge.sessions.catch_up().await?;
    Ok(known())
}

/// Whether `access.admin` says yes of somebody. No answer is a no, which only an admin's act tells of.
pub(super) fn is_admin(asked: &Asked, caller: &Caller) -> bool {
    admin_rule(asked, caller).unwrap_or(false)
}

fn admin(asked: &Asked, caller: &Caller) -> Result<(), Refusal> {
    match admin_rule(asked, caller).map_err(|error| authorise::rule_failed("access.admin", &error))? {
        true => Ok(()),
        false => Err(Refusal::new(Code::NotAllowed)),
    }
}

fn admin_rule(asked: &Asked, caller: &Caller) -> Result<bool, EvalError> {
    let facts = authorise::facts(&asked.host, "GET", "/people", &asked.connection);
    asked.config.access.admin.evaluate(&caller.session.subject(), &facts)
}

fn mine(edge: &Edge, caller: &Caller) -> Vec<(SessionRef, Arc<Session>)> {
    let mut mine = edge.sessions.list(caller.session.identity());
    mine.reverse();
    mine
}

fn ended(asked: &Asked, ended: Result<usize, RecordError>, page: &str) -> Response {
    match ended {
        Ok(_) if asked.intent.wants_page() => handoff::redirect(page, []),
        Ok(sessions) => answer::json(&json!({ "ended": sessions })),
        Err(error) => {
            tracing::error!(%error, "a session could not be ended");
            handoff::unavailable()
        }
    }
}

/// A time as people say it.
fn words(time: Duration) -> String {
    let (count, unit) = match time.as_secs() {
        seconds @ ..60 => (seconds, "second"),
        seconds @ 60..3600 => (seconds / 60, "minute"),
        seconds @ 3600..172_800 => (seconds / 3600, "hour"),
        seconds => (seconds / 86_400, "day"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_its_largest_unit() {
        for (seconds, told) in
            [(0, "0 seconds"), (1, "1 second"), (119, "1 minute"), (7200, "2 hours"), (200_000, "2 days")]
        {
            assert_eq!(words(Duration::from_secs(seconds)), told);
        }
    }
}
