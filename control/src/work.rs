//! Does what the control loop decided, beside it: at most so much at a time, and never in its way.

use crate::state::{Effect, Outcome};
use crate::{Action, Address, Driver, probe};
use config::{BusyProbe, ReadyProbe, WorkspaceId};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::Semaphore;
use tokio::task::{self, JoinError, JoinSet};

/// How many actions a driver is asked for at a time: enough for a fast machine, few enough for a slow one.
const ACTIONS: usize = 32;
/// How many of these write down that somebody wants a workspace. The others never wait for them: whose turn has come
/// would else start only after all who came at once are written down, and by then out of turn.
const WANTS: usize = 8;
/// How many applications are asked at a time whether they compute.
const QUESTIONS: usize = 32;

/// How a workspace itself is asked something.
pub(crate) struct Probes {
    /// Ends when the workspace accepts connections and is ready.
    pub(crate) reach:
        Box<dyn Fn(Address, Option<ReadyProbe>, String) -> BoxFuture<'static, ()> + Send + Sync>,
    /// Its answer to a GET, if it is JSON.
    pub(crate) ask:
        Box<dyn Fn(Address, String, String) -> BoxFuture<'static, Option<serde_json::Value>> + Send + Sync>,
}

impl Probes {
    /// Over the network.
    pub(crate) fn real() -> Self {
        Self {
            reach: Box::new(|address, ready, host| {
                async move { probe::probe(&address, ready.as_ref(), &host).await }.boxed()
            }),
            ask: Box::new(|address, path, host| {
                async move {
                    let asked = probe::ask_json(&address, &path, &host).await;
                    asked.inspect_err(|error| tracing::debug!(%error, "a busy probe got no answer")).ok()
                }
                .boxed()
            }),
        }
    }
}

/// An action that is to be done about a workspace.
#[derive(Debug)]
pub(crate) struct Act {
    pub(crate) id: WorkspaceId,
    pub(crate) attempt: u64,
    pub(crate) action: Action,
}

/// Puts the actions of each workspace in a row: what was decided later must not be done before.
#[derive(Debug, Default)]
pub(crate) struct InTurn(HashMap<WorkspaceId, VecDeque<Act>>);

impl InTurn {
    /// Gives the action back if it is to be done now; else it waits for those before it.
    pub(crate) fn begin(&mut self, act: Act) -> Option<Act> {
        match self.0.entry(act.id.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(VecDeque::new());
                Some(act)
            }
            Entry::Occupied(mut entry) => {
                entry.get_mut().push_back(act);
                None
            }
        }
    }

    /// One is done: gives the next of this workspace.
    pub(crate) fn done(&mut self, id: &WorkspaceId) -> Option<Act> {
        let next = self.0.get_mut(id)?.pop_front();
        if next.is_none() {
            self.0.remove(id);
        }
        next
    }
}

/// The work that is under way.
pub(crate) struct Work {
    driver: Arc<dyn Driver>,
    probes: Arc<Probes>,
    actions: Arc<Semaphore>,
    wants: Arc<Semaphore>,
    questions: Arc<Semaphore>,
    in_turn: InTurn,
    /// Which tasks do an action, and of which workspace.
    acting: HashMap<task::Id, WorkspaceId>,
    tasks: JoinSet<Option<Outcome>>,
}

impl Work {
    pub(crate) fn new(driver: Arc<dyn Driver>, probes: Probes) -> Self {
        Self {
            driver,
            probes: Arc::new(probes),
            actions: Arc::new(Semaphore::new(ACTIONS - WANTS)),
            wants: Arc::new(Semaphore::new(WANTS)),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            in_turn: InTurn::default(),
            acting: HashMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Begins to do something.
    pub(crate) fn begin(&mut self, effect: Effect) {
        let driver = self.driver.clone();
        let probes = self.probes.clone();
        match effect {
            Effect::Act { id, attempt, action } => {
                if let Some(act) = self.in_turn.begin(Act { id, attempt, action }) {
                    self.act(act);
                }
            }
            Effect::Probe { id, generation, address, host, probe, ended } => {
                self.tasks.spawn(async move {
                    let reached = (probes.reach)(address, probe, host);
                    ended.run_until_cancelled_owned(reached).await?;
                    Some(Outcome::Reached { id, generation })
                });
            }
            Effect::AskBusy { id, generation, address, host, template, ended } => {
                let questions = self.questions.clone();
                self.tasks.spawn(async move {
                    let asked = async {
                        let _turn = questions.acquire_owned().await.ok()?;
                        let probe = template.idle.busy.as_ref()?;
                        let json = (probes.ask)(address, probe.path.clone(), host).await?;
                        Some(says_busy(probe, &json))
                    };
                    let busy = ended.run_until_cancelled(asked).await?.unwrap_or(false);
                    Some(Outcome::Busy { id, generation, busy })
                });
            }
            Effect::Tail { id, attempt } => {
                self.tasks.spawn(async move {
                    let text = driver.log_tail(&id).await;
                    Some(Outcome::Tail { id, attempt, text })
                });
            }
        }
    }

    fn act(&mut self, Act { id, attempt, action }: Act) {
        let turns = if matches!(action, Action::Want(_)) { &self.wants } else { &self.actions };
        let (driver, turns, acted) = (self.driver.clone(), turns.clone(), id.clone());
        let task = self.tasks.spawn(async move {
            let _turn = turns.acquire_owned().await.ok()?;
            let result = driver.act(action.clone()).await;
            Some(Outcome::Acted { id, attempt, action, result })
        });
        self.acting.insert(task.id(), acted);
    }

    /// The next thing that is done; waits for ever while nothing is under way. A panic is an `Err`.
    pub(crate) async fn done(&mut self) -> Result<Option<Outcome>, JoinError> {
        let Some(done) = self.tasks.join_next_with_id().await else { return std::future::pending().await };
        let task = done.as_ref().map_or_else(JoinError::id, |(task, _)| *task);
        if let Some(id) = self.acting.remove(&task)
            && let Some(next) = self.in_turn.done(&id)
        {
            self.act(next);
        }
        done.map(|(_, outcome)| outcome)
    }
}

fn says_busy(probe: &BusyProbe, json: &serde_json::Value) -> bool {
    // The application speaks of its own wall clock, so the expression gets ours; nothing else here does.
    probe.expression.evaluate_json(json, SystemTime::now()).unwrap_or_else(|error| {
        tracing::debug!(%error, "a busy probe's expression gave no answer");
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{id, probes, secs, spec};
    use crate::{Cause, Event, StartSpec};
    use futures_util::stream::BoxStream;
    use futures_util::{StreamExt, stream};
    use std::future::pending;
    use tokio::time::timeout;

    /// One that never gets a want written down.
    struct Slow;

    #[async_trait::async_trait]
    impl Driver for Slow {
        fn observe(&self) -> BoxStream<'static, Event> {
            stream::pending().boxed()
        }

        async fn act(&self, action: Action) -> Result<(), Cause> {
            match action {
                Action::Want(_) => pending().await,
                _ => Ok(()),
            }
        }

        async fn log_tail(&self, _id: &WorkspaceId) -> String {
            String::new()
        }
    }

    #[tokio::test]
    async fn a_start_does_not_wait_for_all_who_come_to_be_written_down() {
        let mut work = Work::new(Arc::new(Slow), probes(secs(0), Arc::default()));
        let mut act = |name: &str, action: fn(StartSpec) -> Action| {
            work.begin(Effect::Act { id: id(name), attempt: 1, action: action(spec(&id(name))) });
        };
        (0..2 * ACTIONS).for_each(|nth| act(&format!("u{nth}"), Action::Want));
        act("alice", Action::Start);
        let done = timeout(secs(10), work.done()).await.expect("it is done at once").unwrap();
        assert!(matches!(&done, Some(Outcome::Acted { action: Action::Start(_), .. })), "{done:?}");
    }

    #[test]
    fn what_is_decided_later_about_a_workspace_is_done_later() {
        let act = |name: &str, attempt| {
            let action = Action::Delete { id: id(name), volume: false, owner: None };
            Act { id: id(name), attempt, action }
        };
        let mut in_turn = InTurn::default();
        let begun = |act: Option<Act>| act.map(|act| act.attempt);
        assert_eq!(begun(in_turn.begin(act("a", 1))), Some(1));
        assert_eq!(begun(in_turn.begin(act("a", 2))), None);
        assert_eq!(begun(in_turn.begin(act("b", 3))), Some(3), "others do not wait");
        assert_eq!(begun(in_turn.done(&id("a"))), Some(2));
        assert_eq!(begun(in_turn.done(&id("a"))), None);
        assert_eq!(begun(in_turn.begin(act("a", 4))), Some(4));
        assert_eq!(in_turn.0.len(), 2);
    }
}
