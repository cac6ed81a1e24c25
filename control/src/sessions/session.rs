//! One live session, as requests see it, and what it is made of.

use super::refresh::Freshness;
use super::signal::Signal;
use super::{Limits, Over};
use crate::activity::now_ms;
use crate::{Identity, Version, activity, clock};
use config::{Label, ProviderName, Subject};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

/// When a session was last used: written by requests and tunnels, read by the sweep. It only grows.
#[derive(Debug, Default)]
pub struct LastUse(AtomicU64);

impl LastUse {
    /// Marks the session as used now.
    pub fn touch(&self) {
        self.0.fetch_max(now_ms(), Relaxed);
    }

    /// It was used then.
    pub(super) fn learn(&self, used: Instant) {
        self.0.fetch_max(activity::ms_of(used), Relaxed);
    }

    /// When that was last; `None` = not yet since this process knows the session.
    pub fn time(&self) -> Option<Instant> {
        activity::at(&self.0)
    }
}

/// What a login leads to.
#[derive(Debug, Clone)]
pub struct NewSession {
    /// Who.
    pub identity: Identity,
    /// Their label.
    pub label: Label,
    /// What to call them.
    pub display_name: String,
    /// What the rules see of them.
    pub subject: Subject,
    /// How they came.
    pub login: Login,
    /// By what their provider is asked anew; none = it gives nothing of the kind.
    pub kept: Option<Kept>,
}

/// How somebody logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// When, by the clock of the Usher that they came by.
    pub at: SystemTime,
    /// By which provider; none = by the development login.
    pub provider: Option<ProviderName>,
    /// The provider's name for its own session (OpenID Connect Front-Channel Logout 1.0 §3).
    pub sid: Option<String>,
    /// From where.
    pub device: Device,
}

impl Login {
    /// A login at this moment.
    pub fn now(provider: Option<ProviderName>, sid: Option<String>, device: Device) -> Self {
        Self { at: SystemTime::now(), provider, sid, device }
    }
}

/// From where somebody logged in, as far as it helps them to recognise it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Device {
    /// The family of the browser and of the system: `Firefox on Linux`.
    pub agent: String,
    /// The network of the address: `192.0.2.0/24`.
    pub network: String,
}

/// By what a provider is asked anew who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its token, sealed by whoever will open it.
    pub sealed: String,
    /// How long holds what it said.
    pub lasts: Duration,
    /// When it said so, by the clock of the Usher that asked.
    pub at: SystemTime,
}

/// A live session, as requests see it.
#[derive(Debug)]
pub struct Session {
    /// Who.
    pub identity: Identity,
    /// Their label.
    pub label: Label,
    /// What to call them.
    pub display_name: String,
    /// How they logged in.
    pub login: Login,
    /// Given when the session ends, by whatever cause: live sockets close with 4401.
    pub ended: Arc<Signal>,
    /// Given when the rules see something else of its user than they did: another [`Session`] stands in its place,
    /// and who may use what has to be asked anew.
    pub changed: Arc<Signal>,
    /// Of its record.
    pub(super) version: Version,
    /// What the rules see of them, as JSON: it is asked now and then, and takes a quarter of the memory so.
    seen: Box<str>,
    /// As known when it was taken up here.
    pub(super) age: SessionAge,
    /// As [`now_ms`]; 0 = not used here yet.
    last_use: Arc<LastUse>,
    /// As other Ushers know it; not told on by this one.
    pub(super) elsewhere: LastUse,
    /// How old is what the provider said; none = it cannot be asked anew.
    pub(super) freshness: Option<Freshness>,
}

/// When a session began and when it was used last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SessionAge {
    pub(crate) created: Instant,
    pub(crate) used: Instant,
}

#[derive(Serialize, Deserialize)]
struct Seen {
    claims: Map<String, Value>,
    /// None = those of the claim of that name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    groups: Option<Vec<String>>,
}

impl Session {
    pub(super) fn new(
        new: NewSession,
        version: Version,
        age: SessionAge,
        freshness: Option<Freshness>,
    ) -> Self {
        let NewSession { identity, label, display_name, subject, login, kept: _ } = new;
        Self {
            identity,
            label,
            display_name,
            login,
            version,
            seen: seen(subject),
            ended: Arc::default(),
            changed: Arc::default(),
            age,
            last_use: Arc::default(),
            elsewhere: LastUse::default(),
            freshness,
        }
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
        let mut session = Self::new(new, version, self.age, freshness);
        session.ended = self.ended.clone();
        session.last_use = self.last_use();
        if let Some(used) = self.elsewhere.time() {
            session.elsewhere.learn(used);
        }
        if session.sees_as(self) {
            session.changed = self.changed.clone();
        }
        session
    }

    /// Whether the rules see the same of the user of both.
    pub(crate) fn sees_as(&self, other: &Self) -> bool {
        self.seen == other.seen && self.display_name == other.display_name
    }

    /// What the rules see of its user.
    pub fn subject(&self) -> Subject {
        let Seen { claims, groups } =
            serde_json::from_str(&self.seen).expect("it was written from the same type");
        let groups = groups.unwrap_or_else(|| claimed(&claims).unwrap_or_default());
        let Identity { issuer, subject } = self.identity.clone();
        Subject { issuer, subject, name: self.display_name.clone(), claims, groups }
    }

    /// Marks the session as used now: an atomic store.
    pub fn touch(&self) {
        self.last_use.touch();
    }

    /// The mark alone, for a tunnel that outlives its request.
    pub fn last_use(&self) -> Arc<LastUse> {
        self.last_use.clone()
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
        SessionAge { used: self.last_use.time().unwrap_or(self.age.used), ..self.age }
    }

    /// As anybody knows it.
    fn age(&self) -> SessionAge {
        let own = self.own_age();
        SessionAge { used: self.elsewhere.time().map_or(own.used, |used| used.max(own.used)), ..own }
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

fn seen(subject: Subject) -> Box<str> {
    let Subject { claims, groups, .. } = subject;
    let groups = (claimed(&claims).as_ref() != Some(&groups)).then_some(groups);
    let seen = Seen { claims, groups };
    serde_json::to_string(&seen).expect("texts and JSON are JSON").into_boxed_str()
}

/// The claim that most providers tell groups by.
fn claimed(claims: &Map<String, Value>) -> Option<Vec<String>> {
    let groups = claims.get("groups")?.as_array()?.iter();
    groups.map(|group| group.as_str().map(str::to_owned)).collect()
}
