//! Tokens that were believed, until they expire: whoever comes with one again is found by its hash.
//!
//! There is room for so many. One that is pushed out is judged anew when it comes again, and what it has opened goes on:
//! nobody ends what is others' by bringing many tokens. It ends when its token expires, as if it had been kept.

use crate::machines::Bearer;
use control::Session;
use moka::Expiry;
use moka::notification::RemovalCause;
use moka::sync::Cache;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

/// The most tokens that are kept: more than machines come with within the life of one.
pub(super) const MOST: u64 = 10_000;
/// How often it is looked for tokens that have expired: so late at most their sockets are closed.
const SWEEP: Duration = Duration::from_secs(1);

/// Somebody whose token was believed.
pub(super) struct Known {
    pub(super) session: Arc<Session>,
    pub(super) bearer: Bearer,
    pub(super) until: SystemTime,
}

/// The tokens that were believed. Cheap to clone.
#[derive(Clone)]
pub(super) struct Kept {
    known: Cache<[u8; 32], Arc<Known>>,
    pushed_out: Arc<Mutex<Vec<PushedOut>>>,
}

/// Whose token had no room; as long as a request or a socket is theirs.
struct PushedOut {
    session: Weak<Session>,
    until: SystemTime,
}

/// A token is kept for as long as it holds.
struct WhileItHolds;

impl Expiry<[u8; 32], Arc<Known>> for WhileItHolds {
    fn expire_after_create(&self, _: &[u8; 32], known: &Arc<Known>, _: Instant) -> Option<Duration> {
        Some(known.until.duration_since(SystemTime::now()).unwrap_or_default())
    }
}

impl Kept {
    /// With room for so many.
    pub(super) fn new(most: u64) -> Self {
        let pushed_out = Arc::<Mutex<Vec<PushedOut>>>::default();
        let list = pushed_out.clone();
        let removed = move |_: Arc<[u8; 32]>, known: Arc<Known>, why: RemovalCause| match why {
            RemovalCause::Expired => known.session.ended().give(),
            RemovalCause::Size | RemovalCause::Explicit | RemovalCause::Replaced => {
                let gone = PushedOut { session: Arc::downgrade(&known.session), until: known.until };
                list.lock().unwrap_or_else(PoisonError::into_inner).push(gone);
            }
        };
        let known = Cache::builder().max_capacity(most).expire_after(WhileItHolds).eviction_listener(removed);
        Self { known: known.build(), pushed_out }
    }

    /// Whoever's token this is, if it was believed and holds now.
    pub(super) fn find(&self, name: &[u8; 32], now: SystemTime) -> Option<Arc<Known>> {
        self.known.get(name).filter(|known| now < known.until && !known.session.ended().is_given())
    }

    /// Keeps one that was believed. Who came with it in the same moment was judged as well: one session stands for all.
    pub(super) fn keep(&self, name: [u8; 32], known: Known) -> Arc<Known> {
        self.known.entry(name).or_insert(Arc::new(known)).into_value()
    }

    /// Whether a token has its place still.
    #[cfg(test)]
    pub(super) fn holds(&self, name: &[u8; 32]) -> bool {
        self.known.run_pending_tasks();
        self.known.contains_key(name)
    }

    /// Ends what came by tokens that have expired, for ever.
    pub(super) async fn sweep(self) {
        let mut look = tokio::time::interval(SWEEP);
        loop {
            look.tick().await;
            self.known.run_pending_tasks();
            self.end_pushed_out(SystemTime::now());
        }
    }

    fn end_pushed_out(&self, now: SystemTime) {
        let mut pushed_out = self.pushed_out.lock().unwrap_or_else(PoisonError::into_inner);
        pushed_out.retain(|gone| match gone.session.upgrade() {
            Some(session) if now >= gone.until => {
                session.ended().give();
                false
            }
            Some(_) => true,
            None => false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::Subject;
    use control::{Device, Identity, Login, NewSession};

    const AT_LAST: Duration = Duration::from_secs(10);

    fn known(subject: &str, lasts: Duration) -> Known {
        let identity = Identity { issuer: "https://issuer.test".to_owned(), subject: subject.to_owned() };
        let session = Session::of_machine(NewSession {
            identity,
            label: config::Label::parse("ci").unwrap(),
            display_name: "ci".to_owned(),
            subject: Subject::default(),
            login: Login::now(None, None, Device::default()),
            kept: None,
        });
        let bearer = Bearer { scopes: Default::default(), token: None };
        Known { session: Arc::new(session), bearer, until: SystemTime::now() + lasts }
    }

    async fn ends(kept: &Kept, session: &Session) {
        tokio::select! {
            () = kept.clone().sweep() => unreachable!("it never ends"),
            ended = tokio::time::timeout(AT_LAST, session.ended().token().cancelled_owned()) => ended.unwrap(),
        }
    }

    #[tokio::test]
    async fn what_came_by_a_token_ends_when_the_token_does() {
        let kept = Kept::new(MOST);
        let known = kept.keep([7; 32], known("ci", Duration::from_millis(50)));
        assert!(!known.session.ended().is_given());
        ends(&kept, &known.session).await;
    }

    #[tokio::test]
    async fn whoever_brings_many_tokens_ends_nothing_of_others_before_its_time() {
        let kept = Kept::new(100);
        let lasts = Duration::from_secs(3600);
        let others: Vec<_> =
            (0..100).map(|n| kept.keep([n; 32], known("other", lasts)).session.clone()).collect();
        for n in 0..2000_u32 {
            let mut name = [200; 32];
            name[..4].copy_from_slice(&n.to_be_bytes());
            for _ in 0..3 {
                kept.keep(name, known("greedy", lasts));
            }
        }
        let now = SystemTime::now();
        // The cache lets go of what it removed a moment later; nobody holds that, and it is forgotten.
        let forgotten = async {
            loop {
                kept.known.run_pending_tasks();
                kept.end_pushed_out(now);
                if kept.pushed_out.lock().unwrap().len() < 1000 {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(AT_LAST, forgotten).await.unwrap();
        let is_kept = |n: u8| kept.find(&[n; 32], now).is_some();
        let were_kept: Vec<bool> = (0..100).map(is_kept).collect();
        assert!(were_kept.contains(&false), "some were pushed out");
        assert!(others.iter().all(|session| !session.ended().is_given()));
        kept.end_pushed_out(now + lasts * 2);
        let ended = others.iter().map(|session| session.ended().is_given());
        assert!(ended.zip(were_kept).all(|(ended, was_kept)| ended != was_kept));
    }
}
