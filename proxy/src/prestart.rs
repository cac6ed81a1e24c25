//! Starts workspaces before their users come, at the times that templates name.
//!
//! Of several Ushers the one that leads does it. One that begins to lead looks at the last few minutes as well, since
//! the one before may have ended just then. What was carried out is written down, so that nobody's workspace is started
//! again that they have stopped meanwhile; an Usher that was killed over it has the next one begin anew, which finds
//! most of them running.

use crate::access::authorise::before_they_come;
use crate::audit::{By, Entry, Event};
use crate::edge::Edge;
use config::{Config, Prestart, TemplateName};
use control::{CAUGHT_UP, Kind, LastSeen, RecordError, Records, WakeRefused, is_due};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
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

/// The record's name: there is one.
const NAME: &str = "done";

/// What is written down.
#[derive(Debug, Serialize, Deserialize)]
struct Done {
    /// All times until this one were carried out.
    until: Timestamp,
}

/// Begins to look at the time; ends with `shutdown`. Without `leads` there is no other Usher.
pub fn begin(
    edge: Arc<Edge>,
    records: Arc<dyn Records>,
    leads: Option<Receiver<bool>>,
    shutdown: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let _ended = shutdown.run_until_cancelled(keep_time(&edge, &*records, leads)).await;
    })
}

async fn keep_time(edge: &Edge, records: &dyn Records, leads: Option<Receiver<bool>>) {
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
        let since = match looked {
            Some(looked) => looked,
            None => match done(records).await {
                Ok(done) => done.map_or(now - CAUGHT_UP, |until| until.max(now - CAUGHT_UP)),
                Err(error) => {
                    tracing::debug!(%error, "it is not known which starts ahead were carried out: asked again");
                    continue;
                }
            },
        };
        looked = Some(now);
        let config = edge.config.load_full();
        let due = due(&config, since, now);
        if !due.is_empty() {
            prestart(edge, &config, &due, now).await;
            if let Err(error) = is_done(records, now).await {
                tracing::warn!(%error, "that workspaces were started ahead could not be written down");
            }
        }
    }
}

/// Until when all was carried out, if that was ever written down.
async fn done(records: &dyn Records) -> Result<Option<Timestamp>, RecordError> {
    let record = records.get(Kind::Prestart, NAME).await?;
    // What cannot be read says nothing.
    Ok(record.and_then(|record| serde_json::from_slice::<Done>(&record.value).ok()).map(|done| done.until))
}

/// Writes down that all was carried out until then. Where another writes at the same moment, that holds.
async fn is_done(records: &dyn Records, until: Timestamp) -> Result<(), RecordError> {
    let value = serde_json::to_vec(&Done { until }).expect("a time is JSON");
    let written = match records.get(Kind::Prestart, NAME).await? {
        Some(record) => records.replace(Kind::Prestart, NAME, record.version, value).await,
        None => records.create(Kind::Prestart, NAME, value).await,
    };
    match written {
        Ok(_) | Err(RecordError::Exists(_) | RecordError::Conflict(_)) => Ok(()),
        Err(error) => Err(error),
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
        let id = wake.id.clone();
        match edge.workspaces.wake(wake).await {
            Ok(first) => {
                if first {
                    let entry = Entry::done(Event::WorkspaceStart).by(By::Schedule).workspace(&id);
                    edge.audit.record(entry.subject(who.identity.as_ref()).subject_label(who.label.as_str()));
                }
                return true;
            }
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
    use control::{Identity, RedbRecords};

    #[tokio::test]
    async fn what_was_carried_out_is_known_to_whoever_leads_next() {
        let folder = tempfile::tempdir().unwrap();
        let records = RedbRecords::open(&folder.path().join("state.redb")).unwrap();
        assert_eq!(done(&records).await.unwrap(), None);
        for until in ["2026-11-20T06:50:03Z", "2026-11-21T06:50:01Z"] {
            let until: Timestamp = until.parse().unwrap();
            is_done(&records, until).await.unwrap();
            assert_eq!(done(&records).await.unwrap(), Some(until));
        }
        let record = records.get(Kind::Prestart, NAME).await.unwrap().unwrap();
        records.replace(Kind::Prestart, NAME, record.version, b"tomorrow".to_vec()).await.unwrap();
        assert_eq!(done(&records).await.unwrap(), None, "it says nothing");
        is_done(&records, Timestamp::UNIX_EPOCH).await.unwrap();
        assert_eq!(done(&records).await.unwrap(), Some(Timestamp::UNIX_EPOCH));
    }

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
