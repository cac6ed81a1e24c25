//! One live session, as requests see it.

use super::login::{Device, Login, NewSession};
use super::refresh::Freshness;
use super::signal::Signal;
use super::texts::Texts;
use super::{Limits, Over};
use crate::activity::now_ms;
use crate::{Identity, IdentityRef, Version, activity, clock};
use config::{Label, ProviderName, Subject};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

/// When a session was last used: written by requests and tunnels, read by the sweep. It only grows.
#[derive(Debug, Default)]
struct LastUse(AtomicU64);

impl LastUse {
    fn touch(&self) {
        self.0.fetch_max(now_ms(), Relaxed);
    }

    /// It was used then.
    fn learn(&self, used: Instant) {
        self.0.fetch_max(activity::ms_of(used), Relaxed);
    }

    /// When that was last; `None` = not yet since this process knows the session.
    fn time(&self) -> Option<Instant> {
        activity::at(&self.0)
    }
}

/// A live session, as requests see it. There may be a hundred thousand: what is seldom asked for takes little memory.
#[derive(Debug)]
pub struct Session {
    /// Their label.
    pub label: Label,
    /// When they logged in.
    pub logged_in: SystemTime,
    /// What else is told of them, each at its [`Place`].
    texts: Texts<PLACES>,
    spared: Spared,
    /// Of its record.
    pub(super) version: Version,
    /// As known when it was taken up here.
    pub(super) age: SessionAge,
    /// How old is what the provider said; none = it cannot be asked anew.
    pub(super) freshness: Option<Freshness>,
    life: Arc<Life>,
    changed: Arc<Signal>,
}

/// What stands where in the texts of a session; one that is empty was not told.
#[derive(Clone, Copy)]
enum Place {
    Issuer,
    Subject,
    Name,
    Provider,
    Sid,
    Agent,
    Network,
    /// As JSON, but for those that are [`Spared`].
    Claims,
    /// As JSON; empty = those of the claim of that name.
    Groups,
}

const PLACES: usize = Place::Groups as usize + 1;

/// Which claims say what a text beside them says, and are not kept a second time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spared {
    sub: bool,
    name: bool,
}

/// What stays the same however often the record of a session changes.
#[derive(Debug, Default)]
struct Life {
    ended: Signal,
    /// As this Usher knows it.
    used: LastUse,
    /// As other Ushers know it; not told on by this one.
    elsewhere: LastUse,
}

/// The mark of a session's last use alone, for what outlives its request.
#[derive(Debug, Clone, Default)]
pub struct UseMark(Arc<Life>);

impl UseMark {
    /// Marks the session as used now: an atomic store.
    pub fn touch(&self) {
        self.0.used.touch();
    }

    /// When it was used last by way of this process; none = not yet since it knows the session.
    pub fn time(&self) -> Option<Instant> {
        self.0.used.time()
    }
}

/// When a session began and when it was used last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionAge {
    pub(crate) created: Instant,
    pub(crate) used: Instant,
}

impl Session {
    pub(super) fn new(
        new: NewSession,
        version: Version,
        age: SessionAge,
        freshness: Option<Freshness>,
    ) -> Self {
        let NewSession { identity, label, display_name, subject, login, kept: _ } = new;
        let Login { at, provider, sid, device: Device { agent, network } } = login;
        let Subject { mut claims, groups, .. } = subject;
        let groups = if claimed(&claims).as_ref() == Some(&groups) { String::new() } else { json(&groups) };
        let mut spare = |claim: &str, text: &str| {
            let is_same = claims.get(claim).and_then(Value::as_str) == Some(text);
            is_same.then(|| claims.remove(claim)).is_some()
        };
        let spared = Spared { sub: spare("sub", &identity.subject), name: spare("name", &display_name) };
        let texts = Texts::new([
            &identity.issuer,
            &identity.subject,
            &display_name,
            provider.as_ref().map_or("", ProviderName::as_str),
            sid.as_deref().unwrap_or_default(),
            &agent,
            &network,
            &json(&claims),
            &groups,
        ]);
        let (life, changed) = (Arc::default(), Arc::default());
        Self { label, logged_in: at, texts, spared, version, age, freshness, life, changed }
    }

    /// What stands for a session where somebody comes without a browser: no record of a session is behind it.
    pub fn of_machine(owner: NewSession) -> Self {
        let now = clock::now();
        Self::new(owner, Version(0), SessionAge { created: now, used: now }, None)
    }

    /// The same after its owner has become another to the rules.
    pub(crate) fn of_machine_renewed(&self, owner: NewSession) -> Self {
        self.renewed(owner, self.version, None)
    }

    /// The same session after its record has changed.
    pub(super) fn renewed(&self, new: NewSession, version: Version, freshness: Option<Freshness>) -> Self {
        let mut session = Self { life: self.life.clone(), ..Self::new(new, version, self.age, freshness) };
        if session.sees_as(self) {
            session.changed = self.changed.clone();
        }
        session
    }

    /// Whether the rules see the same of the user of both.
    pub(crate) fn sees_as(&self, other: &Self) -> bool {
        let is_same = |place: &Place| self.text(*place) == other.text(*place);
        self.spared == other.spared && [Place::Name, Place::Claims, Place::Groups].iter().all(is_same)
    }

    /// Who.
    pub fn identity(&self) -> IdentityRef<'_> {
        IdentityRef { issuer: self.text(Place::Issuer), subject: self.text(Place::Subject) }
    }

    /// What to call them.
    pub fn display_name(&self) -> &str {
        self.text(Place::Name)
    }

    /// The name of the provider by which they logged in; none = by the development login.
    pub fn provider(&self) -> Option<&str> {
        self.told(Place::Provider)
    }

    /// The provider's name for its own session.
    pub fn sid(&self) -> Option<&str> {
        self.told(Place::Sid)
    }

    /// From where they logged in.
    pub fn device(&self) -> Device {
        Device { agent: self.text(Place::Agent).to_owned(), network: self.text(Place::Network).to_owned() }
    }

    /// What the rules see of its user.
    pub fn subject(&self) -> Subject {
        let Identity { issuer, subject } = self.identity().to_identity();
        let name = self.display_name().to_owned();
        let mut claims: Map<String, Value> = read(self.text(Place::Claims));
        if self.spared.sub {
            claims.insert("sub".to_owned(), subject.clone().into());
        }
        if self.spared.name {
            claims.insert("name".to_owned(), name.clone().into());
        }
        let groups = match self.told(Place::Groups) {
            Some(groups) => read(groups),
            None => claimed(&claims).unwrap_or_default(),
        };
        Subject { issuer, subject, name, claims, groups }
    }

    fn text(&self, place: Place) -> &str {
        self.texts.get(place as usize)
    }

    fn told(&self, place: Place) -> Option<&str> {
        Some(self.text(place)).filter(|text| !text.is_empty())
    }

    /// Given when the session ends, by whatever cause: live sockets close with 4401.
    pub fn ended(&self) -> &Signal {
        &self.life.ended
    }

    /// Given when the rules see something else of its user than they did: another [`Session`] stands in its place,
    /// and who may use what has to be asked anew.
    pub fn changed(&self) -> &Signal {
        &self.changed
    }

    /// Marks the session as used now: an atomic store.
    pub fn touch(&self) {
        self.life.used.touch();
    }

    /// The mark alone, for a tunnel that outlives its request.
    pub fn use_mark(&self) -> UseMark {
        UseMark(self.life.clone())
    }

    /// When it was used last by way of this process; none = not yet since it knows the session.
    pub(crate) fn used_here(&self) -> Option<Instant> {
        self.life.used.time()
    }

    /// Others tell that it was used then.
    pub(super) fn learn(&self, used: Instant) {
        self.life.elsewhere.learn(used);
    }

    /// When it was used last, as anybody knows it.
    pub fn used(&self) -> Instant {
        self.age().used
    }

    /// Whether what the provider said of its user is older than it holds.
    pub fn is_stale(&self, now: Instant) -> bool {
        self.is_stale_for(Duration::ZERO, now)
    }

    /// Whether it is so for as long.
    pub fn is_stale_for(&self, time: Duration, now: Instant) -> bool {
        self.freshness.as_ref().is_some_and(|freshness| {
            now.saturating_duration_since(freshness.stale) >= time && now >= freshness.stale
        })
    }

    /// As this Usher knows it.
    pub(super) fn own_age(&self) -> SessionAge {
        SessionAge { used: self.used_here().unwrap_or(self.age.used), ..self.age }
    }

    /// As anybody knows it.
    fn age(&self) -> SessionAge {
        let own = self.own_age();
        SessionAge { used: self.life.elsewhere.time().map_or(own.used, |used| used.max(own.used)), ..own }
    }

    /// Whether it has not been used for too long, or is too old.
    pub(super) fn is_over(&self, limits: Limits, now: Instant) -> bool {
        self.over(limits, now).is_some()
    }

    /// Why it is over, if it is.
    pub(super) fn over(&self, limits: Limits, now: Instant) -> Option<Over> {
        let age = self.age();
        if now.saturating_duration_since(age.created) >= limits.max_age {
            Some(Over::TooOld)
        } else if now.saturating_duration_since(age.used) >= limits.idle_after {
            Some(Over::Unused)
        } else {
            None
        }
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts and JSON are JSON")
}

fn read<T: DeserializeOwned>(json: &str) -> T {
    serde_json::from_str(json).expect("it was written from the same type")
}

/// The claim that most providers tell groups by.
fn claimed(claims: &Map<String, Value>) -> Option<Vec<String>> {
    let groups = claims.get("groups")?.as_array()?.iter();
    groups.map(|group| group.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn session(subject: Subject) -> Session {
        Session::of_machine(NewSession {
            identity: Identity { issuer: subject.issuer.clone(), subject: subject.subject.clone() },
            label: Label::parse("alice").unwrap(),
            display_name: subject.name.clone(),
            subject,
            login: Login::now(None, None, Device::default()),
            kept: None,
        })
    }

    #[test]
    fn the_rules_see_what_was_told_though_it_is_kept_once() {
        let told = [
            json!({}),
            json!({ "sub": "alice", "name": "ALICE", "groups": ["staff"] }),
            json!({ "sub": "alice", "name": "another", "groups": [] }),
            json!({ "sub": "another", "name": null, "groups": "staff" }),
            json!({ "sub": ["alice"], "name": { "en": "ALICE" }, "groups": [1] }),
        ];
        let mut sessions = Vec::new();
        for claims in told {
            for groups in [vec![], vec!["staff".to_owned()]] {
                let [issuer, subject, name] = ["test", "alice", "ALICE"].map(str::to_owned);
                let claims = claims.as_object().unwrap().clone();
                let subject = Subject { issuer, subject, name, claims, groups };
                sessions.push(session(subject.clone()));
                assert_eq!(sessions[sessions.len() - 1].subject(), subject);
            }
        }
        for (i, one) in sessions.iter().enumerate() {
            for (j, other) in sessions.iter().enumerate() {
                assert_eq!(one.sees_as(other), i == j, "{i} {j}");
            }
        }
    }
}
