//! A caller's workspaces as the dashboard and the API show them.

use super::awaiting;
use crate::access::authenticate::Caller;
use crate::access::authorise;
use crate::access::ensure::is_theirs;
use crate::access::route::Place;
use crate::edge::Edge;
use crate::own::Asked;
use config::{Config, HostName, Label, WorkspaceId};
use control::{Cause, Entry, Phase, WhyAlive};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One workspace of the caller's, started or never.
#[derive(Debug)]
pub(super) struct View {
    pub(super) id: WorkspaceId,
    /// Where it opens.
    pub(super) address: String,
    /// Whether browsers can open it there by now.
    pub(super) is_open: bool,
    /// The stable word of its phase.
    pub(super) phase: &'static str,
    /// Its phase in one sentence.
    pub(super) says: String,
    /// Its place in the queue.
    pub(super) position: Option<usize>,
    /// Why it is not running.
    pub(super) cause: Option<Cause>,
    /// How long until it is stopped, if nobody uses it.
    pub(super) stops_in: Option<Duration>,
    /// Whether that can be moved.
    pub(super) can_extend: bool,
}

impl View {
    /// Whether there is something that the caller may stop.
    pub(super) fn can_stop(&self) -> bool {
        !self.is_shared() && matches!(self.phase, "queued" | "starting" | "ready")
    }

    /// Whether many share it: none of them stops, keeps or deletes it.
    pub(super) fn is_shared(&self) -> bool {
        self.id.route().is_some()
    }

    /// What people call it.
    pub(super) fn name(&self) -> String {
        name(&self.id)
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "id": self.id.to_string(),
            "address": self.address,
            "phase": self.phase,
            "says": self.says,
            "position": self.position,
            "cause": self.cause.as_ref().map(|cause| serde_json::json!({
                "code": cause.code.as_str(),
                "detail": cause.detail,
                "hint": cause.hint,
            })),
            "stops_in_seconds": self.stops_in.map(|left| left.as_secs()),
            "can_extend": self.can_extend,
        })
    }
}

/// What people call a workspace.
pub(super) fn name(id: &WorkspaceId) -> String {
    id.route().map_or_else(|| id.to_string(), ToString::to_string)
}

/// All that the caller has: the first workspace and the declared ones, but for what is somebody else's by now.
pub(super) fn of(edge: &Edge, asked: &Asked, caller: &Caller, now: Instant) -> Vec<View> {
    let ids = ids(&asked.config, &caller.session.label).into_iter();
    let theirs = ids.filter(|id| is_theirs(caller, edge.workspaces.lookup(id).as_deref()));
    theirs.map(|id| one(edge, asked, id, now)).collect()
}

/// What the routes lead to that let the caller in. A rule that gives no answer lets nobody in, and the log tells.
pub(super) fn shared(edge: &Edge, asked: &Asked, caller: &Caller, now: Instant) -> Vec<View> {
    let ids = asked.config.routes.keys().map(|name| WorkspaceId::Route(name.clone()));
    let open = ids.filter(|id| {
        let Ok(host) = HostName::parse(&id.host(asked.config.domain.as_str())) else { return false };
        let place = Place::Workspace { id: id.clone(), port: None };
        let facts = || authorise::facts(&host, "GET", "/", &asked.connection);
        authorise::allowed(edge, &asked.config, &place, caller, facts).is_ok()
    });
    let theirs = open.filter(|id| is_theirs(caller, edge.workspaces.lookup(id).as_deref()));
    theirs.map(|id| one(edge, asked, id, now)).collect()
}

/// One of them.
pub(super) fn one(edge: &Edge, asked: &Asked, id: WorkspaceId, now: Instant) -> View {
    let (host, listener) = (id.host(asked.config.domain.as_str()), &asked.connection.listener);
    let address = format!("{}/", listener.origin(&host));
    let entry = edge.workspaces.lookup(&id);
    view(id, (address, awaiting::is_open(edge, listener, &host)), entry, now)
}

fn ids(config: &Config, label: &Label) -> Vec<WorkspaceId> {
    let named = config.named_workspaces.keys().cloned().map(Some);
    std::iter::once(None).chain(named).map(|name| WorkspaceId::Own { label: label.clone(), name }).collect()
}

fn view(
    id: WorkspaceId,
    (address, is_open): (String, bool),
    entry: Option<Arc<Entry>>,
    now: Instant,
) -> View {
    let alive = entry.as_deref().and_then(|entry| entry.why_alive(now));
    let phase = entry.as_deref().map_or(&Phase::Stopped, |entry| &entry.phase);
    View {
        id,
        address,
        is_open,
        phase: phase.as_str(),
        says: says(phase, alive.as_ref(), now),
        position: if let Phase::Queued { position } = phase { Some(*position) } else { None },
        cause: if let Phase::Failed { cause, .. } = phase { Some(cause.clone()) } else { None },
        stops_in: alive.as_ref().and_then(|alive| left(alive, now)),
        can_extend: alive.is_some_and(|alive| alive.can_extend),
    }
}

fn left(alive: &WhyAlive, now: Instant) -> Option<Duration> {
    alive.stops_at.map(|at| at.saturating_duration_since(now))
}

fn says(phase: &Phase, alive: Option<&WhyAlive>, now: Instant) -> String {
    match phase {
        Phase::Stopped => "Stopped. It starts when you open it.".to_owned(),
        Phase::Queued { position } => format!("Waits for its turn: number {position}."),
        Phase::Starting { .. } => "Starting.".to_owned(),
        Phase::Ready(_) => match alive.and_then(|alive| left(alive, now)) {
            Some(left) => format!("Runs. It stops in {} if nothing happens.", in_words(left)),
            None => "Runs.".to_owned(),
        },
        Phase::Stopping { trouble: Some(cause) } => format!("Stopping. {}", cause.detail),
        Phase::Stopping { trouble: None } => "Stopping.".to_owned(),
        Phase::Failed { cause, .. } => cause.detail.clone(),
    }
}

/// A length of time as people say it, in its two largest units.
pub(super) fn in_words(time: Duration) -> String {
    let minutes = time.as_secs() / 60;
    match (minutes / 1440, minutes / 60 % 24, minutes % 60) {
        (0, 0, 0) => "less than a minute".to_owned(),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, 0, _) => format!("{days} d"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_of_time_is_told_in_its_two_largest_units() {
        for (seconds, words) in [
            (0, "less than a minute"),
            (59, "less than a minute"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (3661, "1 h 1 min"),
            (86_400, "1 d"),
            (86_400 + 3599, "1 d"),
            (2 * 86_400 + 5 * 3600, "2 d 5 h"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), words, "{seconds} s");
        }
    }

    #[test]
    fn each_phase_has_a_sentence() {
        let now = Instant::now();
        for (phase, sentence) in [
            (Phase::Stopped, "Stopped. It starts when you open it."),
            (Phase::Queued { position: 3 }, "Waits for its turn: number 3."),
            (Phase::starting(control::Step::Asked), "Starting."),
            (Phase::stopping(), "Stopping."),
        ] {
            assert_eq!(says(&phase, None, now), sentence);
        }
    }
}
