//! `/api/v1/workspaces`: a caller's own workspaces, for the dashboard's forms and for scripts of the portal.

use super::{answer, fields, workspaces};
use crate::access::authenticate::Caller;
use crate::access::authorise::{self, Permit};
use crate::access::route::Place;
use crate::access::{ensure, limit};
use crate::audit::{Entry, Event, Reason};
use crate::edge::Edge;
use crate::handoff;
use crate::own::Asked;
use crate::refusal::{Code, Refusal};
use axum::body::Bytes;
use axum::extract::{Extension, Path, State};
use axum::response::Response;
use config::{RequestFacts, WorkspaceId};
use control::StopAsked;
use fields::Fields;
use http::{HeaderMap, Uri};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What an owner can do to a workspace of theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Start,
    Stop,
    Extend,
    Keep { time: Duration },
    Delete { files: bool },
}

/// `GET /api/v1/workspaces`: all of the caller's, and the token that changes need.
pub(super) async fn list(State(edge): State<Arc<Edge>>, Extension(asked): Extension<Asked>) -> Response {
    let Some(caller) = &asked.own.caller else { return unauthenticated(&asked) };
    let now = Instant::now();
    let mine = workspaces::of(&edge, &asked, caller, now);
    let shared = workspaces::shared(&edge, &asked, caller, now);
    answer::json(&serde_json::json!({
        "csrf": fields::token(&edge.keys, &asked, &caller.id),
        "workspaces": mine.iter().map(workspaces::View::json).collect::<Vec<_>>(),
        "shared": shared.iter().map(workspaces::View::json).collect::<Vec<_>>(),
    }))
}

/// `POST /api/v1/workspaces/{id}/{action}`.
pub(super) async fn change(
    State(edge): State<Arc<Edge>>,
    Extension(asked): Extension<Asked>,
    Path((id, action)): Path<(String, String)>,
    headers: HeaderMap,
    uri: Uri,
    body: Bytes,
) -> Response {
    let Some(caller) = &asked.own.caller else { return unauthenticated(&asked) };
    let facts = || authorise::facts(&asked.host, "POST", uri.path(), &asked.connection);
    let prepared = fields::of_change(&edge.keys, &asked, caller, &headers, &body).and_then(|fields| {
        let permit = permit(&edge, &asked, caller, &id, facts)?;
        let action = Action::parse(&action, permit.id(), &fields)?;
        if matches!(action, Action::Stop | Action::Delete { .. }) && !permit.is_owners() {
            return Err(ensure::not_ones_own());
        }
        Ok((action, permit))
    });
    let done = match prepared {
        Ok((action, permit)) => perform(&edge, &asked, action, permit, &facts()).await,
        Err(refusal) => Err(refusal),
    };
    match done {
        Ok(_) if asked.intent.wants_page() => handoff::redirect("/", []),
        Ok(id) => answer::json(&workspaces::one(&edge, &asked, id, Instant::now()).json()),
        Err(refusal) => answer::refuse(&asked, &refusal),
    }
}

/// That a caller may change the workspace of this name.
///
/// # Errors
/// 404 for what is not theirs; 403 where a rule or their address keeps them out.
pub(super) fn permit(
    edge: &Edge,
    asked: &Asked,
    caller: &Caller,
    id: &str,
    facts: impl FnOnce() -> RequestFacts,
) -> Result<Permit, Refusal> {
    let id = WorkspaceId::parse(id).map_err(|_| Refusal::new(Code::NotFound))?;
    let place = Place::Workspace { id, port: None };
    let permit = authorise::allowed(edge, &asked.config, &place, caller, facts)?;
    let entry = edge.workspaces.lookup(permit.id());
    ensure::may_reach(&asked.config, caller, entry.as_deref(), &asked.connection)?;
    Ok(permit)
}

impl Action {
    fn parse(word: &str, id: &WorkspaceId, fields: &Fields) -> Result<Self, Refusal> {
        let bad = |detail: String| Refusal::with(Code::BadRequest, detail);
        match word {
            "start" => Ok(Self::Start),
            "stop" => Ok(Self::Stop),
            "extend" => Ok(Self::Extend),
            "keep" => {
                let hours: Option<u32> = fields.one("hours").and_then(|text| text.parse().ok());
                let hours = hours.filter(|hours| *hours > 0);
                let hours = hours.ok_or_else(|| bad("`hours` must be a whole number above 0".to_owned()))?;
                Ok(Self::Keep { time: Duration::from_secs(u64::from(hours) * 3600) })
            }
            "delete" if fields.one("confirm") == Some(&id.to_string()) => {
                Ok(Self::Delete { files: fields.one("files") == Some("delete") })
            }
            "delete" => Err(bad(format!("to delete it, `confirm` must be `{id}`"))),
            _ => Err(Refusal::new(Code::NotFound)),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Extend => "extend",
            Self::Keep { .. } => "keep",
            Self::Delete { .. } => "delete",
        }
    }
}

async fn perform(
    edge: &Edge,
    asked: &Asked,
    action: Action,
    permit: Permit,
    facts: &RequestFacts,
) -> Result<WorkspaceId, Refusal> {
    let id = permit.id().clone();
    tracing::info!(workspace.name = %id, workspace.action = action.word(), "an owner changes a workspace");
    let by_them = |event| Entry::done(event).asked(asked).caller(permit.caller()).workspace(&id);
    let not_running = || Refusal::with(Code::WorkspaceStopped, "It is not running, or may not run longer.");
    match action {
        Action::Start => {
            limit::spawn(edge, &asked.config, permit.caller())?;
            let entry = edge.workspaces.lookup(permit.id());
            let wake = permit.wake(&asked.config, entry.as_deref(), facts, true)?;
            limit::template(&asked.config, &wake.template, asked.connection.client.ip())?;
            if edge.workspaces.wake(wake).await.map_err(ensure::not_woken)? {
                edge.audit.record(by_them(Event::WorkspaceStart));
            }
        }
        // Nothing to stop or to delete is what was wanted, too.
        Action::Stop => {
            if edge.workspaces.stop(&id).await == StopAsked::Now {
                edge.audit.record(by_them(Event::WorkspaceStop).because(Reason::Asked));
            }
        }
        Action::Delete { files } => {
            let owner = permit.caller().session.identity().to_identity();
            let deleted = edge.workspaces.delete(&id, files, Some(&owner)).await;
            edge.audit.deleted(&deleted, files, by_them(Event::WorkspaceDelete));
            deleted.map_err(|cause| Refusal::with(Code::WorkspaceFailed, cause.detail))?;
        }
        Action::Extend => _ = edge.workspaces.extend(&id).await.ok_or_else(not_running)?,
        Action::Keep { time } => _ = edge.workspaces.keep(&id, time).await.ok_or_else(not_running)?,
    }
    Ok(id)
}

/// 401 with the address of the login, for whoever has no session.
pub(super) fn unauthenticated(asked: &Asked) -> Response {
    let login = asked.connection.listener.origin(asked.host.as_str()) + "/login";
    answer::refuse(asked, &Refusal { location: Some(login), ..Refusal::new(Code::Unauthenticated) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http::header::CONTENT_TYPE;

    fn parse(word: &str, body: &str) -> Result<Action, Code> {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        let fields = Fields::parse(&HeaderMap::from_iter([(CONTENT_TYPE, form)]), body.as_bytes()).unwrap();
        Action::parse(word, &WorkspaceId::parse("gpu--alice").unwrap(), &fields)
            .map_err(|refusal| refusal.code)
    }

    #[test]
    fn an_action_is_what_its_word_and_fields_say() {
        let hours = |hours: u64| Ok(Action::Keep { time: Duration::from_secs(hours * 3600) });
        for (word, body, expected) in [
            ("start", "", Ok(Action::Start)),
            ("stop", "", Ok(Action::Stop)),
            ("extend", "", Ok(Action::Extend)),
            ("keep", "hours=8", hours(8)),
            ("keep", "hours=0", Err(Code::BadRequest)),
            ("keep", "hours=-1", Err(Code::BadRequest)),
            ("keep", "", Err(Code::BadRequest)),
            ("delete", "confirm=gpu--alice", Ok(Action::Delete { files: false })),
            ("delete", "confirm=gpu--alice&files=delete", Ok(Action::Delete { files: true })),
            ("delete", "confirm=alice&files=delete", Err(Code::BadRequest)),
            ("delete", "files=delete", Err(Code::BadRequest)),
            ("burn", "", Err(Code::NotFound)),
        ] {
            assert_eq!(parse(word, body), expected, "{word} {body}");
        }
    }
}
