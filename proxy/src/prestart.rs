//! Starts workspaces before their users come, at the times that templates name.
//!
//! Of several Ushers the one that leads does it. One that begins to lead looks at the last few minutes as well, since
//! the one before may have ended just then: to start what runs already changes nothing.

use crate::access::authorise::before_they_come;
use crate::edge::Edge;
use config::{Config, Prestart, TemplateName};
use control::{CAUGHT_UP, LastSeen, WakeRefused, is_due};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch::Receiver;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

/// How often the time is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// How long a full queue is left alone before the next start is asked for: people come first.
const FULL: Duration = Duration::from_secs(5);

/// Begins to look at the time; ends with `shutdown`. Without `leads` there is no other Usher.
pub fn begin(edge: Arc<Edge>, leads: Option<Receiver<bool>>, shutdown: CancellationToken) -> JoinHandle<()> {
    tokio::spawn(async move {
        let _ended = shutdown.run_until_cancelled(keep_time(&edge, leads)).await;
    })
}

async fn keep_time(edge: &Edge, leads: Option<Receiver<bool>>) {
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looked = None;
    loop {
        tick.tick().await;
        let now = Timestamp::now();
        if leads.as_ref().is_some_and(|leads| !*leads.borrow()) || !edge.workspaces.synced() {
            looked = None;
            continue;
        }
        let since = looked.replace(now).unwrap_or_else(|| now - CAUGHT_UP);
        let config = edge.config.load_full();
        let due = due(&config, since, now);
        if !due.is_empty() {
            prestart(edge, &config, &due, now).await;
        }
    }
}

/// The rules that are due, each with its template.
fn due(config: &Config, since: Timestamp, now: Timestamp) -> Vec<(&TemplateName, &Prestart)> {
    let templates = config.templates.values();
    let rules =
        templates.flat_map(|template| template.prestart.iter().map(move |rule| (&template.name, rule)));
    rules.filter(|(_, rule)| is_due(rule, since, now)).collect()
}

/// Has the workspaces of all whom these rules are for started, by the queue that everybody waits in.
async fn prestart(edge: &Edge, config: &Config, rules: &[(&TemplateName, &Prestart)], now: Timestamp) {
    let people = match edge.users.last_seen().await {
        Ok(people) => people,
        Err(error) => {
            tracing::warn!(%error, "nobody's workspace is started ahead: users cannot be read");
            return;
        }
    };
    let mut started = 0;
    for who in &people {
        for (template, _) in rules.iter().filter(|(_, rule)| concerns(rule, who)) {
            started += usize::from(start(edge, config, who, template, now).await);
        }
    }
    tracing::info!(started, "workspaces were asked for before their users come");
}

/// Whether a rule is for somebody, by their groups.
fn concerns(rule: &Prestart, who: &LastSeen) -> bool {
    rule.groups.is_empty() || rule.groups.iter().any(|group| who.subject.groups.contains(group))
}

/// Asks for one workspace; whether that was taken up.
async fn start(
    edge: &Edge,
    config: &Config,
    who: &LastSeen,
    template: &TemplateName,
    now: Timestamp,
) -> bool {
    loop {
        let entry =
            edge.workspaces.lookup(&config::WorkspaceId::Own { label: who.label.clone(), name: None });
        let Some(wake) = before_they_come(config, who, template, entry.as_deref()) else { return false };
        match edge.workspaces.wake(wake).await {
            Ok(()) => return true,
            // As long as it would still be caught up.
            Err(WakeRefused::QueueFull { .. }) if Timestamp::now() < now + CAUGHT_UP => sleep(FULL).await,
            Err(error) => {
                tracing::debug!(user.label = %who.label, %error, "a workspace was not started ahead");
                return false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::{Label, Subject};
    use control::Identity;

    #[test]
    fn a_rule_is_for_those_who_were_in_one_of_its_groups() {
        let rule = |groups: &[&str]| Prestart {
            days: [true; 7],
            minute: 0,
            zone: "UTC".to_owned(),
            groups: groups.iter().map(ToString::to_string).collect(),
        };
        let who = |groups: &[&str]| LastSeen {
            identity: Identity { issuer: "i".to_owned(), subject: "s".to_owned() },
            label: Label::parse("alice").unwrap(),
            subject: Subject {
                groups: groups.iter().map(ToString::to_string).collect(),
                ..Subject::default()
            },
        };
        for (groups, theirs, is) in [
            (&[][..], &[][..], true),
            (&["a"], &[], false),
            (&["a"], &["b"], false),
            (&["a", "b"], &["c", "b"], true),
        ] {
            assert_eq!(concerns(&rule(groups), &who(theirs)), is, "{groups:?} {theirs:?}");
        }
    }
}
