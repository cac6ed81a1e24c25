//! What is begun, and when: one task for each certificate that is got or renewed.

use super::work::{self, Work, Worker};
use super::{Loop, REST};
use crate::inventory::Current;
use crate::kept::Origin;
use crate::schedule::{ASK_WINDOW_MOST, Held, SKEW, may_ask_at, may_begin_at, order_at, renew_at};
use crate::state::{State, time};
use crate::store::Document;
use crate::units::{Giver, Unit};
use config::{AcmeSource, AuthorityName, Challenge, PerHost};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

/// How many places there are of each kind.
const AT_ONCE: usize = 4;
/// How long one rests of which not even a failure can be written down: a full disk, a panic, another replica at it.
pub(super) const AFTER_A_MISHAP: Duration = Duration::from_mins(1);

/// What a task leaves.
struct Done {
    /// What the store has of it now. The store tells so itself, but perhaps later, and what is done would be begun again.
    documents: Vec<Document>,
    /// Nothing was written down that says when to try again.
    is_mishap: bool,
}

/// What kind of place a task takes, by whom it waits for: who is slow holds up nobody else's.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// Nobody else: Usher's own authority, or the store alone.
    Local,
    /// This authority, for a certificate.
    Order(AuthorityName),
    /// This authority, for when it wants one renewed.
    Window(AuthorityName),
}

/// What is to be done for a unit first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Due {
    pub(super) work: Work,
    /// When.
    pub(super) at: SystemTime,
    /// When a certificate is got, as far as is known now: its authority may be asked before that, and say otherwise.
    pub(super) get_at: SystemTime,
}

/// A task that is under way.
struct Busy {
    task: Id,
    place: Place,
    work: Work,
    unit: Unit,
    /// Something of its unit was deleted meanwhile: what it looks up may be of before.
    is_overtaken: bool,
}

/// The tasks that are under way.
#[derive(Default)]
pub(super) struct Tasks {
    working: JoinSet<Done>,
    /// Whose they are.
    busy: BTreeMap<String, Busy>,
    /// When a unit had its turn last.
    last: BTreeMap<String, Instant>,
    /// Until when a unit rests after a mishap.
    resting: BTreeMap<String, Instant>,
    /// Those that wait for the budget of their certificate, each told once.
    waiting: BTreeSet<String>,
}

impl Tasks {
    pub(super) fn is_under_way(&self, id: &str) -> bool {
        self.busy.contains_key(id)
    }

    /// Whether a certificate is being got.
    pub(super) fn gets(&self, id: &str) -> bool {
        self.busy.get(id).is_some_and(|busy| busy.work.gets())
    }

    /// Something of a unit was deleted.
    pub(super) fn overtake(&mut self, id: &str) {
        if let Some(busy) = self.busy.get_mut(id) {
            busy.is_overtaken = true;
        }
    }

    /// Forgets units that are gone.
    fn retain(&mut self, is_there: impl Fn(&String) -> bool) {
        self.last.retain(|id, _| is_there(id));
        self.resting.retain(|id, _| is_there(id));
        self.waiting.retain(&is_there);
    }

    /// Waits for one to end; what the store has of it. `None` when none is under way.
    pub(super) async fn next_done(&mut self) -> Option<Vec<Document>> {
        let ended = self.working.join_next_with_id().await?;
        let (task, done) = match ended {
            Ok((task, done)) => (task, Ok(done)),
            Err(error) => (error.id(), Err(error)),
        };
        let id = self.busy.iter().find(|(_, busy)| busy.task == task).map(|(id, _)| id.clone());
        let id = id.unwrap_or_default();
        let is_overtaken = self.busy.remove(&id).is_some_and(|busy| busy.is_overtaken);
        if done.as_ref().map_or(true, |done| done.is_mishap) {
            self.resting.insert(id.clone(), Instant::now() + AFTER_A_MISHAP);
        }
        match done {
            // The store tells of what there is.
            Ok(done) if !is_overtaken => Some(done.documents),
            Ok(_) => Some(Vec::new()),
            Err(error) => {
                tracing::error!(certificate.id = id, %error, "getting a certificate ended in a panic");
                Some(Vec::new())
            }
        }
    }

    fn tell_that_it_waits(&mut self, id: String) {
        if self.waiting.insert(id.clone()) {
            tracing::warn!(
                certificate.id = id,
                "a host gets no certificate yet: new_per_week hosts have got their first one within seven days"
            );
        }
    }

    fn begin(&mut self, worker: Arc<Worker>, place: Place, work: Work, unit: Unit, held: Option<Current>) {
        let (id, whose) = (unit.id.clone(), unit.clone());
        let task = self.working.spawn(async move {
            let is_mishap = !worker.work(work, &unit, held).await;
            Done { documents: worker.standing(&unit).await, is_mishap }
        });
        self.waiting.remove(&id);
        self.last.insert(id.clone(), Instant::now());
        self.busy.insert(id, Busy { task: task.id(), place, work, unit: whose, is_overtaken: false });
    }

    /// Whether a unit may have such a place now.
    fn has_place(&self, place: &Place, unit: &Unit) -> bool {
        let taken = self.busy.values().filter(|busy| busy.place == *place).count();
        let is_in_the_way =
            |busy: &Busy| matches!(busy.place, Place::Order(_)) && exclude_each_other(&busy.unit, unit);
        taken < AT_ONCE && !(matches!(place, Place::Order(_)) && self.busy.values().any(is_in_the_way))
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
        self.tasks.retain(|id| self.units.contains_key(id));
        let (mut looked, mut over_budget) = (Vec::new(), Vec::new());
        for unit in self.units.values().filter(|unit| !self.tasks.is_under_way(&unit.id)) {
            let due = self.due(unit, now);
            if due.at <= now {
                looked.push((unit.id.clone(), due.work));
                continue;
            }
            next = next.min(due.at);
            if self.is_over_budget(unit, due.work, now).is_some() {
                over_budget.push(unit.id.clone());
            }
        }
        over_budget.into_iter().for_each(|id| self.tasks.tell_that_it_waits(id));
        // Who waits for an authority that takes its time does not have its place again before all others had one.
        looked.sort_by_key(|(id, _)| self.tasks.last.get(id).copied());
        for (id, work) in looked {
            if let Some(left) = self.tasks.rests(&id) {
                next = next.min(now + left);
            } else {
                let unit = &self.units[&id];
                let place = self.place(unit, work, now);
                // Else its turn comes when another one is done.
                if self.tasks.has_place(&place, unit) {
                    let held = self.inventory.newest(&id).cloned();
                    self.is_changed = true;
                    self.tasks.begin(self.worker.clone(), place, work, unit.clone(), held);
                }
            }
        }
        next.duration_since(now).unwrap_or_default()
    }

    /// Whom a task would wait for.
    fn place(&self, unit: &Unit, work: Work, now: SystemTime) -> Place {
        let Giver::Acme(source) = &unit.giver else { return Place::Local };
        if work == Work::Keep {
            return Place::Local;
        }
        if work == Work::AskWindow
            && let Some(Origin::Acme(name)) = self.inventory.newest(&unit.id).map(|current| &current.origin)
        {
            return Place::Window(name.clone());
        }
        let standing = self.states.get(&unit.id).map(|state| &state.authorities);
        let may_be_asked = |name: &&AuthorityName| {
            let standing = standing.and_then(|all| all.get(name.as_str()));
            may_ask_at(standing, self.retry_after.get(name.as_str()), now) <= now
        };
        let names = || source.authorities.iter().map(|authority| &authority.name);
        // As far as is known here; the task looks again, and asks the first one that may be asked.
        let name = names().find(may_be_asked).or_else(|| names().next()).expect("a source has one at least");
        Place::Order(name.clone())
    }

    /// What is to be done for a unit first, and when.
    pub(super) fn due(&self, unit: &Unit, now: SystemTime) -> Due {
        let due = self.due_by_its_giver(unit, now);
        // Another that is got now is kept in its place.
        match due.get_at > now && self.inventory.is_lost(&unit.id, now) {
            true => Due { work: Work::Keep, at: now, ..due },
            false => due,
        }
    }

    fn due_by_its_giver(&self, unit: &Unit, now: SystemTime) -> Due {
        let get = |work, at| Due { work, at, get_at: at };
        let unknown = State::default();
        let state = self.states.get(&unit.id).unwrap_or(&unknown);
        let current = self.inventory.newest(&unit.id);
        // One that another gave than is asked now is served until there is one of theirs.
        let is_as_wanted =
            |current: &&Current| current.is_complete && unit.giver.may_have_given(&current.origin);
        let held = current.filter(is_as_wanted).map(|current| current.held());
        let Giver::Acme(source) = &unit.giver else {
            // One that was signed by a clock that was ahead is good for nobody yet, and one by the authority before this one
            // only for those who trusted that.
            let is_of_now = |held: &Held<'_>| held.not_before <= now + SKEW;
            let is_of_another = current.is_some_and(|current| self.is_of_another_authority(current));
            let held = held.filter(|held| is_of_now(held) && !is_of_another);
            return get(Work::Get, renew_at(held, state));
        };
        let authorities = source.authorities.iter().map(|authority| authority.name.as_str());
        let authorities = authorities.map(|name| (name, self.retry_after.get(name)));
        let order = order_at(held, state, authorities, now);
        if current.is_none()
            && !state.is_counted
            && let Some(bound) = &source.per_host
        {
            return get(Work::First, order.max(self.may_begin_at(unit, bound, now)));
        }
        let window = current
            .and_then(|current| Some((current, work::authority_of(source, &current.origin)?)))
            .map(|(current, authority)| {
                let known =
                    state.window.as_ref().filter(|window| window.of == current.certificate.fingerprint());
                let said = self.retry_after.get(authority.name.as_str());
                let said = said.map_or(SystemTime::UNIX_EPOCH, |said| said.ends(now));
                // Later than it can be was written down by a clock that was ahead.
                let again = known.map(|window| time(window.ask_again));
                again.filter(|at| *at <= now + ASK_WINDOW_MOST + SKEW).map_or(said, |at| at.max(said))
            });
        match window {
            Some(at) if at < order && order > now => Due { work: Work::AskWindow, at, get_at: order },
            _ => get(Work::Get, order),
        }
    }

    /// Whether Usher's own authority signed it, and was made anew since.
    fn is_of_another_authority(&self, current: &Current) -> bool {
        let is_another = |own| current.certificate.certified_key().cert.last() != Some(own);
        current.origin == Origin::Local && self.local_authority.as_ref().is_some_and(is_another)
    }

    /// When a host may get its first certificate by the budget of its week.
    fn may_begin_at(&self, unit: &Unit, bound: &PerHost, now: SystemTime) -> SystemTime {
        let begun = self.begun.get(unit.certificate.as_str()).map(Vec::as_slice).unwrap_or_default();
        may_begin_at(begun, bound.new_per_week, now)
    }

    /// How many hosts have got their first certificate, where this one waits since they are too many.
    pub(super) fn is_over_budget(&self, unit: &Unit, work: Work, now: SystemTime) -> Option<usize> {
        let Giver::Acme(AcmeSource { per_host: Some(bound), .. }) = &unit.giver else { return None };
        let is_over = work == Work::First && self.may_begin_at(unit, bound, now) > now;
        is_over.then_some(bound.new_per_week)
    }
}

/// Whether what proves two certificates to be ours cannot be shown at one time: with `tls-alpn-01` a host shows one
/// answer (RFC 8737 §3). Those of `http-01` have paths of their own, and those of `dns-01` stand beside each other.
fn exclude_each_other(one: &Unit, other: &Unit) -> bool {
    let is_by_tls =
        |unit: &Unit| matches!(&unit.giver, Giver::Acme(source) if source.challenge == Challenge::TlsAlpn01);
    is_by_tls(one) && is_by_tls(other) && one.names.iter().any(|name| other.names.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::units;
    use config::{Config, HostName};

    #[test]
    fn certificates_that_share_a_host_wait_for_each_other_where_it_shows_one_answer() {
        let mut tables = "domain = 'lab.test'\nlisteners = [{ address = '127.0.0.1:443', protocol = 'https' }, { address = '127.0.0.1:80' }]\n\
             access = { allow = 'true', template = \"'demo'\" }\n\
             [templates.demo]\ncommand = ['demo', '{port}']\nconnect = 'port'\n\
             [acme.le]\ndirectory = 'https://acme.test'\nterms_of_service_agreed = true\n"
            .to_owned();
        for (name, keys) in [
            ("a", "challenge = 'tls-alpn-01'\nnames = ['lab.test', 'one.lab.test']"),
            ("b", "challenge = 'tls-alpn-01'\nnames = ['*.lab.test']\nper_host = true"),
            ("c", "challenge = 'http-01'\nnames = ['two.lab.test']"),
        ] {
            tables += &format!("[certificates.{name}]\nsource = 'acme'\n{keys}\n");
        }
        let config =
            Config::parse("test", &tables, &|_| None).unwrap_or_else(|findings| panic!("{findings}"));
        let hosts = ["one.lab.test", "two.lab.test"].map(|host| HostName::parse(host).unwrap());
        let units = units(&config.certificates, &hosts.into());
        let waiting = |unit: &Unit| {
            let others = units.values().filter(|other| exclude_each_other(unit, other));
            others.map(|other| other.id.clone()).collect::<Vec<_>>()
        };
        let found: Vec<_> = units.values().map(waiting).collect();
        let (one, two) = ("b--one.lab.test", "b--two.lab.test");
        assert_eq!(found, [vec!["a", one], vec!["a", one], vec![two], vec![]]);
    }
}
