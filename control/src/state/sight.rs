//! What is seen and what is not: each scope for itself.

use super::{Stage, State};
use crate::{Scope, Sight};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// How well each scope is seen.
#[derive(Debug, Default)]
pub(crate) struct Sights {
    scopes: BTreeMap<Scope, Sight>,
    blind: BTreeSet<Scope>,
}

impl Sights {
    /// Whether what was told of a scope is still known to be true.
    pub(crate) fn sees(&self, scope: &Scope) -> bool {
        !self.blind.contains(scope)
    }

    /// Whether that is so of all workspaces. What routes lead to is each for itself.
    pub(super) fn sees_all(&self) -> bool {
        self.blind.iter().all(|scope| matches!(scope, Scope::Route(_)))
    }

    /// Until when what is told of a scope was surely true.
    pub(super) fn of(&mut self, scope: &Scope) -> Sight {
        self.scopes.entry(scope.clone()).or_default().clone()
    }

    /// All that is believed now was true at this moment.
    pub(crate) fn reach(&self, time: Instant) {
        let seen = self.scopes.iter().filter(|(scope, _)| self.sees(scope));
        seen.for_each(|(_, sight)| sight.reaches(time));
    }
}

impl State {
    /// What is told of a scope is true, or may be outdated. Nobody is dialled who may be somebody else by now, and the
    /// time in which nothing could be seen is not counted against a start.
    pub(super) fn sight(&mut self, scope: &Scope, sighted: bool, now: Instant) {
        let (saw, saw_all) = (self.sights.sees(scope), self.sights.sees_all());
        if saw == sighted {
            return;
        }
        if sighted {
            self.sights.blind.remove(scope);
        } else {
            self.sights.blind.insert(scope.clone());
        }
        if let Some(peers) = self.peers.as_mut().filter(|_| !saw_all && self.sights.sees_all()) {
            peers.sighted(now);
        }
        for (id, workspace) in self.workspaces.iter_mut().filter(|(_, it)| it.scope == *scope) {
            self.news.changed.insert(id.clone());
            match &mut workspace.stage {
                // What traffic its members have they keep.
                Stage::Starting(starting) if !sighted => self.news.ended.extend(starting.prober.take()),
                Stage::Starting(starting) => starting.progress = now,
                _ => {}
            }
        }
    }
}
