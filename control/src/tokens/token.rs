//! One token, as requests see it.

use super::TokenRef;
use crate::{Session, Version, clock};
use config::TokenScopes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

/// How old a use gets until a later one is written down.
const TOLD: Duration = Duration::from_hours(1);

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TokenSort {
    /// A secret that its owner shows each time.
    Api,
    /// A login of `usher login`.
    Login,
}

/// A token that is to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What its owner calls it; for a login the name of the machine.
    pub name: String,
    /// What it may be used for.
    pub scopes: TokenScopes,
    /// How long it is good; a login from its last use on.
    pub lifetime: Duration,
    /// When it is made.
    pub now: SystemTime,
}

/// A token, as requests see it.
#[derive(Debug)]
pub struct Token {
    /// Its record.
    pub reference: TokenRef,
    /// What it is.
    pub sort: TokenSort,
    /// What its owner calls it.
    pub name: String,
    /// What it may be used for.
    pub scopes: TokenScopes,
    /// When it was made, by the clock of the Usher that made it.
    pub made: SystemTime,
    /// Until when it is good.
    pub expires: SystemTime,
    /// When it was last used, as far as that is written down; none = never.
    pub used: Option<SystemTime>,
    /// Its owner, as the rules saw them at their last login. It ends with the token, and not with any session of theirs.
    pub session: Arc<Session>,
    pub(super) version: Version,
    /// Whether it is known how the rules saw its owner; else it is good for nothing.
    pub(super) is_known: bool,
    /// Whether this process has seen it used.
    pub(super) seen: Arc<AtomicBool>,
}

impl Token {
    /// Whether it may be used now.
    pub fn is_good(&self, now: SystemTime) -> bool {
        self.is_known && now < self.expires && !self.session.ended().is_given()
    }

    /// Whether it is used for the first time, as far as is known: true once, and on each replica that has not heard of it yet.
    pub fn is_first_use(&self) -> bool {
        self.used.is_none() && !self.seen.load(Relaxed) && !self.seen.swap(true, Relaxed)
    }

    /// When it was last used, as far as this Usher knows.
    pub fn last_used(&self, now: SystemTime) -> Option<SystemTime> {
        self.here(now).max(self.used)
    }

    /// The use that is to be written down: the first, and then one in a while.
    pub(super) fn untold(&self, now: SystemTime) -> Option<SystemTime> {
        let here = self.here(now)?;
        self.used.is_none_or(|told| here > told + TOLD).then_some(here)
    }

    fn here(&self, now: SystemTime) -> Option<SystemTime> {
        let ago = clock::now().saturating_duration_since(self.session.used_here()?);
        now.checked_sub(ago)
    }
}
