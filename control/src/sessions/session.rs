//! One live session, as requests see it, and what it is made of.

use super::refresh::Freshness;
use super::signal::Signal;
use super::texts::Texts;
use super::{Limits, Over};
use crate::activity::now_ms;
use crate::{Identity, IdentityRef, Version, activity, clock};
use config::{Label, ProviderName, Subject};
use serde::{Deserialize, Serialize};
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

/// A live session, as requests see it. There may be a hundred thousand: what is seldom asked for takes little memory.
#[derive(Debug)]
pub struct Session {
    /// Their label.
    pub label: Label,
    /// When they logged in.
    pub logged_in: SystemTime,
    /// What else is told of them, each at its [`Place`].
    texts: Texts<PLACES>,
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
enum Place {
    Issuer,
    Subject,
    Name,
    Provider,
    Sid,
    Agent,
    Network,
    /// What the rules see of them, as the JSON of [`Seen`].
    Seen,
}

const PLACES: usize = Place::Seen as usize + 1;

/// What stays the same however often the record of a session changes.
#[derive(Debug, Default)]
pub(super) struct Life {
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
        let Login { at, provider, sid, device: Device { agent, network } } = login;
        let texts = Texts::new([
            &identity.issuer,
            &identity.subject,
            &display_name,
            provider.as_ref().map_or("", ProviderName::as_str),
            sid.as_deref().unwrap_or_default(),
            &agent,
            &network,
            &seen(subject),
        ]);
        let (life, changed) = (Arc::default(), Arc::default());
        Self { label, logged_in: at, texts, version, age, freshness, life, changed }
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
        self.text(Place::Seen) == other.text(Place::Seen) && self.display_name() == other.display_name()
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
        let Seen { claims, groups } =
            serde_json::from_str(self.text(Place::Seen)).expect("it was written from the same type");
        let groups = groups.unwrap_or_else(|| claimed(&claims).unwrap_or_default());
        let Identity { issuer, subject } = self.identity().to_identity();
        Subject { issuer, subject, name: self.display_name().to_owned(), claims, groups }
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
    pub fn used_here(&self) -> Option<Instant> {
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

fn seen(subject: Subject) -> String {
    let Subject { claims, groups, .. } = subject;
    let groups = (claimed(&claims).as_ref() != Some(&groups)).then_some(groups);
    let seen = Seen { claims, groups };
    serde_json::to_string(&seen).expect("texts and JSON are JSON")
}

/// The claim that most providers tell groups by.
fn claimed(claims: &Map<String, Value>) -> Option<Vec<String>> {
    let groups = claims.get("groups")?.as_array()?.iter();
    groups.map(|group| group.as_str().map(str::to_owned)).collect()
}
