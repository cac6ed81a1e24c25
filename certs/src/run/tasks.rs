//! What is begun, and when: one task for each certificate that is got or renewed.

use super::work::{self, Work, Worker};
use super::{Loop, REST};
use crate::schedule::{FAILED_VALIDATIONS, may_begin_at, may_fail_at, order_at, renew_at};
use crate::shelf::Current;
use crate::state::{self, State, time};
use crate::store::Document;
use crate::units::{Giver, Unit};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

/// How many certificates are got at a time.
const AT_ONCE: usize = 4;
/// How long one rests of which not even a failure can be written down: a full disk, a panic, another replica at it.
const AFTER_A_MISHAP: Duration = Duration::from_mins(1);

/// What a task leaves.
struct Done {
    /// What the store has of it now. The store tells so itself, but perhaps later, and what is done would be begun again.
    documents: Vec<Document>,
    /// Nothing was written down that says when to try again.
    is_mishap: bool,
}

/// The tasks that are under way.
#[derive(Default)]
pub(super) struct Tasks {
    working: JoinSet<Done>,
    /// Which task is whose.
    busy: BTreeMap<String, Id>,
    /// Until when a unit rests after a mishap.
    resting: BTreeMap<String, Instant>,
    /// Those that wait for the budget of their certificate, each told once.
    waiting: BTreeSet<String>,
}

impl Tasks {
    pub(super) fn is_under_way(&self, id: &str) -> bool {
        self.busy.contains_key(id)
    }

    /// Waits for one to end; what the store has of it. `None` when none is under way.
    pub(super) async fn next_done(&mut self) -> Option<Vec<Document>> {
        let ended = self.working.join_next_with_id().await?;
        let (task, done) = match ended {
            Ok((task, done)) => (task, Ok(done)),
            Err(error) => (error.id(), Err(error)),
        };
        let id = self.busy.iter().find(|(_, busy)| **busy == task).map(|(id, _)| id.clone());
        let id = id.unwrap_or_default();
        self.busy.remove(&id);
        if done.as_ref().map_or(true, |done| done.is_mishap) {
            self.resting.insert(id.clone(), Instant::now() + AFTER_A_MISHAP);
        }
        match done {
            Ok(done) => Some(done.documents),
            Err(error) => {
                tracing::error!(certificate.id = id, %error, "getting a certificate ended in a panic");
                Some(Vec::new())
            }
        }
    }

    fn begin(&mut self, worker: Arc<Worker>, work: Work, unit: Unit, held: Option<Current>) {
        let id = unit.id.clone();
        let task = self.working.spawn(async move {
            let is_mishap = !worker.work(work, &unit, held).await;
            Done { documents: worker.standing(&unit).await, is_mishap }
        });
        self.waiting.remove(&id);
        self.busy.insert(id, task.id());
    }

    /// How long a unit rests still.
    fn rests(&mut self, id: &str) -> Option<Duration> {
        let left = self.resting.get(id)?.checked_duration_since(Instant::now());
        if left.is_none() {
            self.resting.remove(id);
        }
        left
    }
}

impl Loop {
    /// Begins what is due, if it is for this replica to do; tells how long nothing else is.
    pub(super) fn begin_what_is_due(&mut self) -> Duration {
        if !*self.settings.leads.borrow_and_update() {
            return REST;
        }
        let now = SystemTime::now();
        let mut next = now + REST;
        let resting = self.units.values().filter(|unit| !self.tasks.is_under_way(&unit.id));
        let looked: Vec<_> = resting.map(|unit| (unit.id.clone(), self.due(unit, now))).collect();
        for (id, (at, work)) in looked {
            if at > now {
                next = next.min(at);
                self.tell_if_it_waits(&id, work);
            } else if let Some(left) = self.tasks.rests(&id) {
                next = next.min(now + left);
            } else if self.tasks.busy.len() < AT_ONCE {
                let unit = self.units[&id].clone();
                if work == Work::First {
                    // Counted here at once: the store tells of it later.
                    self.begun.entry(unit.certificate.to_string()).or_default().push(state::unix(now));
                }
                let held = self.shelf.current(&id).cloned();
                self.is_changed = true;
                self.tasks.begin(self.worker.clone(), work, unit, held);
            }
        }
        next.duration_since(now).unwrap_or_default()
    }

    /// What is to be done for a unit first, and when.
    pub(super) fn due(&self, unit: &Unit, now: SystemTime) -> (SystemTime, Work) {
        let unknown = State::default();
        let state = self.states.get(&unit.id).unwrap_or(&unknown);
        let current = self.shelf.current(&unit.id);
        // One that another gave than is asked now is served until there is one of theirs.
        let is_as_wanted =
            |current: &&Current| current.is_complete && unit.giver.may_have_given(&current.origin);
        let held = current.filter(is_as_wanted).map(|current| current.held());
        let Giver::Acme(source) = &unit.giver else {
            return (renew_at(held, state), Work::Issue);
        };
        let names = source.authorities.iter().map(|authority| authority.name.as_str());
        let order = order_at(held, state, names, now);
        if current.is_none()
            && !state.is_counted
            && let Some(bound) = &source.per_host
        {
            let begun = self.begun.get(unit.certificate.as_str()).map(Vec::as_slice).unwrap_or_default();
            return (order.max(may_begin_at(begun, bound.new_per_week, now)), Work::First);
        }
        let window =
            current.filter(|current| work::authority_of(source, &current.origin).is_some()).map(|current| {
                let known =
                    state.window.as_ref().filter(|window| window.of == current.certificate.fingerprint());
                known.map_or(SystemTime::UNIX_EPOCH, |window| time(window.ask_again))
            });
        match window {
            Some(at) if at <= now && order > now => (at, Work::AskWindow),
            Some(at) => (order.min(at), Work::Order),
            None => (order, Work::Order),
        }
    }

    fn tell_if_it_waits(&mut self, id: &str, work: Work) {
        if work == Work::First && self.tasks.waiting.insert(id.to_owned()) {
            tracing::warn!(
                certificate.id = id,
                "a host gets no certificate yet: new_per_week hosts have got their first one within seven days"
            );
        }
    }
}

/// Why one that is due is not begun, where no authority is to blame.
pub(super) fn why_it_waits(
    unit: &Unit,
    work: Work,
    state: Option<&State>,
    (at, now): (SystemTime, SystemTime),
) -> Option<String> {
    let Giver::Acme(source) = &unit.giver else { return None };
    if at <= now {
        return None;
    }
    if let (Work::First, Some(bound)) = (work, &source.per_host) {
        let many = bound.new_per_week;
        return Some(format!(
            "new_per_week: {many} hosts have got their first certificate within seven days"
        ));
    }
    let failed = &state?.failed_validations;
    (may_fail_at(failed, now) > now).then(|| {
        format!(
            "{FAILED_VALIDATIONS} validations have failed within an hour, and another may fail only later"
        )
    })
}
