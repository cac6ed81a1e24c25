//! Assertions of one thread that are still good for a while.

use super::{Told, USED_FOR};
use crate::edge::ListenerFacts;
use config::WorkspaceId;
use control::{Session, SessionId};
use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How many a thread keeps: people who ask through one core in half a minute. With more, signing is what it costs.
const MOST: usize = 1024;

/// What makes two requests get the same assertion.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Whose {
    pub(super) session: SessionId,
    pub(super) workspace: WorkspaceId,
    /// It decides the issuer.
    pub(super) listener: ListenerFacts,
}

/// What was signed lately.
#[derive(Default)]
pub(super) struct Kept(HashMap<Whose, Signed>);

struct Signed {
    /// As it was then: when a session is renewed, its claims may be others.
    session: Weak<Session>,
    /// Since 1970.
    issued: Duration,
    told: Told,
}

impl Kept {
    /// One that may be used again now (since 1970). A clock that went back makes it useless: it would not be valid yet.
    pub(super) fn find(&self, whose: &Whose, session: &Arc<Session>, now: Duration) -> Option<Told> {
        let signed = self.0.get(whose)?;
        let is_of = std::ptr::eq(signed.session.as_ptr(), Arc::as_ptr(session));
        (is_of && signed.is_fresh(now)).then(|| signed.told.clone())
    }

    /// Keeps one that was issued now.
    pub(super) fn keep(&mut self, whose: Whose, session: &Arc<Session>, now: Duration, told: Told) {
        self.make_room(now);
        self.0.insert(whose, Signed { session: Arc::downgrade(session), issued: now, told });
    }

    /// Room for one more. Should all be fresh, they all leave: so it is seldom done, and no order need be kept.
    fn make_room(&mut self, now: Duration) {
        if self.0.len() >= MOST {
            self.0.retain(|_, signed| signed.is_fresh(now));
        }
        if self.0.len() >= MOST {
            self.0.clear();
        }
    }
}

impl Signed {
    fn is_fresh(&self, now: Duration) -> bool {
        now.checked_sub(self.issued).is_some_and(|age| age < USED_FOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whose(number: u64) -> Whose {
        let mut session = SessionId([0; 16]);
        session.0[..8].copy_from_slice(&number.to_be_bytes());
        let listener = ListenerFacts { tls: false, public_port: 8080, loopback: true, redirects: false };
        Whose { session, workspace: WorkspaceId::parse("alice").unwrap(), listener }
    }

    #[test]
    fn what_is_kept_is_bounded_and_old_ones_leave_first() {
        let mut kept = Kept::default();
        let told = Told::lab("a");
        let (early, late) = (Duration::from_secs(100), Duration::from_secs(200));
        let put = |kept: &mut Kept, number, now| {
            let signed = Signed { session: Weak::new(), issued: now, told: told.clone() };
            kept.make_room(now);
            kept.0.insert(whose(number), signed);
        };
        for number in 0..10 {
            put(&mut kept, number, early);
        }
        for number in 10..1024 {
            put(&mut kept, number, late);
        }
        put(&mut kept, 1024, late);
        assert_eq!(kept.0.len(), MOST - 9);
        for number in 1025..5000 {
            put(&mut kept, number, late);
            assert!(kept.0.len() <= MOST);
        }
    }
}
