//! How much one address and one user may ask for: cells that are counted in before anything dear is done.
//!
//! A cell lets as much through at once as in a minute, and refills evenly: whoever was silent for a minute has all of
//! it again. So a cell of which nobody asked for two minutes is as good as a new one, and is dropped. Nothing here
//! waits, but for [`Limits::hold_failure`]; each Usher counts for itself.
//!
//! The caches are bounded, so that no number of addresses takes more memory than [`BUDGET`]. A full one prefers who
//! asks often: an address that was seen once goes before one that is being held back.

mod delay;
mod handshakes;
mod meter;
mod source;
mod user;

pub use handshakes::UnderWay;
pub use meter::Meter;
pub use user::PerUser;

use crate::metrics::{Limit, LimitMetrics, Metrics};
use crate::refusal::{Code, Refusal, seconds};
use config::{Config, Label};
use control::Session;
use delay::Delays;
use handshakes::Handshakes;
use moka::sync::Cache;
use source::Source;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use user::Allowance;

/// The most addresses whose requests are counted; as many whose handshakes, logins and bad tokens are, and whose failures.
///
/// More than ask one Usher within two minutes, unless somebody asks from all the addresses that they can get.
pub const ADDRESSES_MAX: u64 = 50_000;
/// The most users who are counted.
pub const USERS_MAX: u64 = 20_000;
/// What all caches take together when they are full, in bytes.
///
/// Measured in November 2026, they took 125 MiB: 435 bytes an address that is counted and 390 one that failed, 900 bytes
/// a user, and what an allocator adds to it.
pub const BUDGET: usize = 144 << 20;

/// What rates are of; also how often the rules about a user are asked at most.
const MINUTE: Duration = Duration::from_secs(60);
/// How long a cell is kept of which nothing is asked: long enough to be full again.
const IDLE: Duration = Duration::from_secs(120);

/// All cells of an Usher.
pub struct Limits {
    handshakes: Handshakes,
    requests: Cache<Source, Arc<Meter>>,
    logins: Cache<Source, Arc<Meter>>,
    bad_tokens: Cache<Source, Arc<Meter>>,
    users: Cache<Label, Arc<Allowance>>,
    delays: Delays,
    metrics: LimitMetrics,
}

impl Limits {
    /// Without any cell yet.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            handshakes: Handshakes::default(),
            requests: cache(ADDRESSES_MAX, IDLE),
            logins: cache(ADDRESSES_MAX, IDLE),
            bad_tokens: cache(ADDRESSES_MAX, IDLE),
            users: cache(USERS_MAX, IDLE),
            delays: Delays::default(),
            metrics: metrics.limits.clone(),
        }
    }

    /// The same, but no answer is held: tests fail on purpose.
    #[cfg(test)]
    pub(crate) fn at_once(metrics: &Metrics) -> Self {
        Self { delays: Delays::beginning_with(Duration::ZERO), ..Self::new(metrics) }
    }

    /// Counts a TLS handshake, before anything is reckoned for it; while the answer lives it is one of those under way.
    /// None, and counted: it must not begin. What trusted proxies begin is for many, and not counted by their address.
    /// One that is under way may have to end for another: [`UnderWay::ended`].
    pub fn handshake(&self, config: &Config, client: IpAddr) -> Option<UnderWay> {
        let counted = (!config.proxies.trusts(client)).then_some(client);
        let begun = self.handshakes.begin(&config.limits, counted);
        begun.map_err(|limit| self.metrics.limited(limit)).ok()
    }

    /// Counts a handshake that ends for another.
    pub fn ended_for_another(&self) {
        self.metrics.limited(Limit::Handshakes);
    }

    /// Counts a request of an address.
    ///
    /// # Errors
    /// 429: it has asked for all that it may.
    pub fn request(&self, config: &Config, client: IpAddr) -> Result<(), Refusal> {
        let rate = config.limits.requests_per_address;
        self.of_address(&self.requests, (Limit::RequestsPerAddress, rate), client)
    }

    /// Counts an attempt to log in, by whatever way, before it is looked at.
    ///
    /// # Errors
    /// 429: there were too many from this address.
    pub fn login(&self, config: &Config, client: IpAddr) -> Result<(), Refusal> {
        let rate = config.limits.logins_per_address;
        self.of_address(&self.logins, (Limit::LoginsPerAddress, rate), client)
    }

    /// Counts a token that was no good, apart from logins: a program that goes on with an old one must not keep the people
    /// out who log in from its address.
    ///
    /// # Errors
    /// 429: there were too many from this address.
    pub fn bad_token(&self, config: &Config, client: IpAddr) -> Result<(), Refusal> {
        let rate = config.limits.bad_tokens_per_address;
        self.of_address(&self.bad_tokens, (Limit::BadTokensPerAddress, rate), client)
    }

    /// Holds the answer to a login, or to a token, that was no good: longer with each of an address.
    ///
    /// # Errors
    /// 429 at once, where too many answers are held already.
    pub async fn hold_failure(&self, client: IpAddr) -> Result<(), Refusal> {
        let held = self.delays.hold(Source::of(client)).await;
        held.map_err(|wait| self.refuse(Limit::HeldAnswers, delay::HELD_MAX, wait))
    }

    /// Counts one of what a user may only ask for so often.
    ///
    /// # Errors
    /// 429: they have asked for all that they may. 403: the rule gives no answer for them.
    pub fn user(&self, what: PerUser, config: &Config, session: &Session) -> Result<(), Refusal> {
        let meter = self.meter(what, config, session)?;
        meter.take(1).map_err(|wait| self.refuse(what.limit(), meter.rate(), wait))
    }

    /// What the messages of a user are counted in. It is another one when their rule says another number: whoever goes
    /// on counting asks again at times.
    ///
    /// # Errors
    /// 403: the rule gives no answer for them.
    pub fn messages(&self, config: &Config, session: &Session) -> Result<Arc<Meter>, Refusal> {
        self.meter(PerUser::Messages, config, session)
    }

    /// Counts a WebSocket that ends for its messages.
    pub fn ended_for_messages(&self) {
        self.metrics.limited(Limit::MessagesPerUser);
    }

    /// Tells the metrics how many cells there are, once those are gone that nobody uses.
    pub fn tell_entries(&self) {
        self.metrics.entries([
            self.handshakes.entries(),
            count(&self.requests),
            count(&self.logins),
            count(&self.bad_tokens),
            count(&self.users),
            self.delays.entries(),
        ]);
    }

    fn of_address(
        &self,
        cells: &Cache<Source, Arc<Meter>>,
        (limit, rate): (Limit, u32),
        client: IpAddr,
    ) -> Result<(), Refusal> {
        let source = Source::of(client);
        let mut meter = cells.get_with(source, || Arc::new(Meter::per_minute(rate)));
        if meter.rate() != rate {
            // The configuration is another one by now.
            meter = Arc::new(Meter::per_minute(rate));
            cells.insert(source, meter.clone());
        }
        meter.take(1).map_err(|wait| self.refuse(limit, rate, wait))
    }

    fn meter(&self, what: PerUser, config: &Config, session: &Session) -> Result<Arc<Meter>, Refusal> {
        let (label, now) = (&session.label, Instant::now());
        let judge =
            |before: Option<&Allowance>| Arc::new(Allowance::judge(config, &session.subject(), before, now));
        let mut allowance = self.users.get_with_by_ref(label, || judge(None));
        if allowance.is_due(now) {
            allowance = judge(Some(&allowance));
            self.users.insert(label.clone(), allowance.clone());
        }
        allowance.meter(what)
    }

    fn refuse(&self, limit: Limit, rate: u32, wait: Duration) -> Refusal {
        self.metrics.limited(limit);
        let per_minute =
            |what, key| format!("There were too many {what}: at most {rate} a minute (limits.{key}).");
        let why = match limit {
            // Whose handshake does not begin cannot be told.
            Limit::HandshakesPerAddress | Limit::Handshakes => {
                "There were too many TLS handshakes.".to_owned()
            }
            Limit::RequestsPerAddress => per_minute("requests from your address", "requests_per_address"),
            Limit::LoginsPerAddress => per_minute("logins from your address", "logins_per_address"),
            Limit::BadTokensPerAddress => {
                per_minute("tokens from your address that are no good", "bad_tokens_per_address")
            }
            Limit::RequestsPerUser => per_minute("requests of yours", "requests_per_user"),
            Limit::SpawnsPerUser => per_minute("starts of yours", "spawns_per_user"),
            Limit::MessagesPerUser => per_minute("messages of yours", "messages_per_user"),
            Limit::HeldAnswers => {
                format!(
                    "Too many logins and tokens fail just now: at most {rate} are answered late at a time."
                )
            }
        };
        let wait = seconds(wait);
        let detail = format!("{why} Please try again in {wait} s.");
        Refusal { retry_after: Some(wait), ..Refusal::with(Code::RateLimited, detail) }
    }
}

/// A cache that never holds more than `most`, and nothing that nobody used for `idle`.
fn cache<K, V>(most: u64, idle: Duration) -> Cache<K, Arc<V>>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    Cache::builder().max_capacity(most).time_to_idle(idle).build()
}

fn count<K, V>(cache: &Cache<K, Arc<V>>) -> u64
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    cache.run_pending_tasks();
    cache.entry_count()
}

#[cfg(test)]
mod tests;
