//! `POST /.usher/start`, `stop` and `extend`: by a script, answered with the status, or by a plain form, which
//! leads back to where it stood.

use super::owner::{Owner, SameOrigin};
use super::{Host, answer, read_status};
use crate::access::ensure::{not_ones_own, not_woken};
use crate::access::limit;
use crate::audit::{Entry, Event, Reason};
use crate::refusal::Refusal;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{HeaderValue, LOCATION};
use axum::http::{Response, StatusCode};
use control::StopAsked;

/// What a form says. Fields that are missing or make no sense count as not given.
#[derive(Debug, Default, PartialEq, Eq)]
struct Form {
    /// A person asked again: the back-off of a failure is skipped.
    retry: bool,
    /// Path and query to go back to.
    back: Option<String>,
}

impl Form {
    fn parse(body: &[u8]) -> Self {
        let mut form = Self::default();
        for (name, value) in form_urlencoded::parse(body) {
            match &*name {
                "retry" => form.retry = value == "true",
                "return" if value.starts_with('/') => form.back = Some(value.into_owned()),
                _ => {}
            }
        }
        form
    }
}

/// Asks for a start; the page that a form leads back to shows what comes of it.
pub(super) async fn start(
    State(host): State<Host>,
    SameOrigin(owner): SameOrigin,
    body: Bytes,
) -> Response<Body> {
    let form = Form::parse(&body);
    match wake(&host, &owner, form.retry).await {
        Ok(()) => done(&host, &owner, form).await,
        Err(refusal) => owner.refused(&refusal),
    }
}

async fn wake(host: &Host, owner: &Owner, retry: bool) -> Result<(), Refusal> {
    let Owner { permit, asked, .. } = owner;
    limit::spawn(&host.edge, &asked.config, permit.caller())?;
    let entry = host.edge.workspaces.lookup(permit.id());
    let wake = permit.wake(&asked.config, entry.as_deref(), &owner.facts(), retry)?;
    limit::template(&asked.config, &wake.template, asked.connection.client.ip())?;
    if host.edge.workspaces.wake(wake).await.map_err(not_woken)? {
        host.edge.audit.record(by_them(owner, Event::WorkspaceStart));
    }
    Ok(())
}

fn by_them(Owner { permit, asked, .. }: &Owner, event: Event) -> Entry {
    Entry::done(event).asked(asked).caller(permit.caller()).workspace(permit.id())
}

/// Asks for a stop. Nothing to stop is fine: it is as wanted. What many share none of them stops.
pub(super) async fn stop(
    State(host): State<Host>,
    SameOrigin(owner): SameOrigin,
    body: Bytes,
) -> Response<Body> {
    if !owner.permit.is_owners() {
        return owner.refused(&not_ones_own());
    }
    if host.edge.workspaces.stop(owner.permit.id()).await == StopAsked::Now {
        host.edge.audit.record(by_them(&owner, Event::WorkspaceStop).because(Reason::Asked));
    }
    done(&host, &owner, Form::parse(&body)).await
}

/// Moves the stop by idleness ahead, never beyond `max_age`: that is held by the control loop.
pub(super) async fn extend(
    State(host): State<Host>,
    SameOrigin(owner): SameOrigin,
    body: Bytes,
) -> Response<Body> {
    host.edge.workspaces.extend(owner.permit.id()).await;
    done(&host, &owner, Form::parse(&body)).await
}

/// 202 and the status for a script; 303 for a form, to this host whatever the form says.
async fn done(host: &Host, owner: &Owner, form: Form) -> Response<Body> {
    if owner.asked.intent.wants_page() {
        let back = form.back.as_deref().unwrap_or("/");
        // Absolute, so that a path like `//elsewhere/` names no other host.
        let location = HeaderValue::try_from(format!("{}{back}", owner.origin()))
            .or_else(|_| HeaderValue::try_from(format!("{}/", owner.origin())));
        if let Ok(location) = location {
            return answer(StatusCode::SEE_OTHER, [(LOCATION, location)]);
        }
    }
    let status = read_status(&host.edge.workspaces, owner.permit.id()).await;
    answer(StatusCode::ACCEPTED, axum::Json(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_says_where_to_go_back_to_and_whether_it_is_a_second_try() {
        let form = |retry, back: Option<&str>| Form { retry, back: back.map(str::to_owned) };
        for (body, wanted) in [
            ("", form(false, None)),
            ("retry=true&return=%2Flab%3Fx%3D1%26y%3D2", form(true, Some("/lab?x=1&y=2"))),
            ("retry=false", form(false, None)),
            ("retry=yes", form(false, None)),
            ("return=https%3A%2F%2Fevil.example%2F", form(false, None)),
            ("return=//evil.example/", form(false, Some("//evil.example/"))),
            ("{\"retry\":true}", form(false, None)),
        ] {
            assert_eq!(Form::parse(body.as_bytes()), wanted, "{body}");
        }
        assert_eq!(Form::parse(&[0xff, b'=', 0xff]), Form::default());
    }
}
