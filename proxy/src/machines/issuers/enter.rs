//! Gives those whose tokens are believed their labels: beside the requests, and few at a time.
//!
//! A label is for ever, so who has one is asked about once: only those who are new here cost a look into the records.

use super::later;
use crate::refusal::Refusal;
use config::Label;
use control::{Identity, Users};
use moka::sync::Cache;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// How many may wait: the jobs of a whole CI that begin in one moment.
const WAITING: usize = 256;
/// How many are looked up at a time.
const AT_ONCE: usize = 16;
/// How long one waits.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many labels are known without a look.
const KNOWN: u64 = 10_000;

struct Wish {
    identity: Identity,
    wanted: String,
    answer: oneshot::Sender<Option<Label>>,
}

/// The way to a label. Cheap to clone.
#[derive(Clone)]
pub(super) struct Entrance {
    known: Cache<Identity, Label>,
    /// None: nobody answers.
    wishes: Option<mpsc::Sender<Wish>>,
}

impl Default for Entrance {
    fn default() -> Self {
        Self { known: Cache::new(KNOWN), wishes: None }
    }
}

impl Entrance {
    /// What requests hold, and what answers them for ever.
    pub(super) fn new(users: Users) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, wishes) = mpsc::channel::<Wish>(WAITING);
        let entrance = Self { wishes: Some(sender), ..Self::default() };
        let entering = entering(users, entrance.known.clone(), wishes);
        (entrance, entering)
    }

    /// The label of somebody, claimed now if they have none.
    ///
    /// # Errors
    /// 503: too many come for the first time at once, or the store fails.
    pub(super) async fn enter(&self, identity: &Identity, wanted: String) -> Result<Label, Refusal> {
        if let Some(label) = self.known.get(identity) {
            return Ok(label);
        }
        let (answer, entered) = oneshot::channel();
        let wish = Wish { identity: identity.clone(), wanted, answer };
        self.wishes.as_ref().and_then(|wishes| wishes.try_send(wish).ok()).ok_or_else(later)?;
        let entered = tokio::time::timeout(PATIENCE, entered).await;
        entered.ok().and_then(Result::ok).flatten().ok_or_else(later)
    }
}

async fn entering(users: Users, known: Cache<Identity, Label>, mut wishes: mpsc::Receiver<Wish>) {
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            Some(wish) = wishes.recv(), if under_way.len() < AT_ONCE => {
                under_way.spawn(settle(users.clone(), known.clone(), wish));
            }
            // A panic leaves whoever asked without an answer, which is told as one that failed.
            Some(_) = under_way.join_next() => {}
            else => return,
        }
    }
}

async fn settle(users: Users, known: Cache<Identity, Label>, wish: Wish) {
    let Wish { identity, wanted, answer } = wish;
    if answer.is_closed() {
        // Nobody waits any more: they come again, or never.
        return;
    }
    // Of many that one machine sends at once, those that had to wait find what the first have brought.
    let label = match known.get(&identity) {
        Some(label) => Some(label),
        None => {
            let entered = users.enter(&identity, &wanted).await.map(|(_, label)| label);
            let entered = entered.inspect_err(|error| {
                tracing::error!(%error, "whoever shows a token of a trusted issuer could not be written down");
            });
            entered.ok()
        }
    };
    if let Some(label) = &label {
        known.insert(identity, label.clone());
    }
    // Whoever asked may have left.
    let _left = answer.send(label);
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::Config;
    use control::{Change, Kind, Record, RecordError, Records, RedbRecords, Version};
    use futures_util::future::join_all;
    use futures_util::stream::BoxStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use tokio::sync::{Barrier, watch};

    /// Records that count how often a user is looked up, and tell nobody before so many ask at a time.
    struct Slow {
        inner: RedbRecords,
        asked: AtomicUsize,
        together: Barrier,
    }

    #[async_trait::async_trait]
    impl Records for Slow {
        async fn list(&self, kind: Kind) -> Result<Vec<Record>, RecordError> {
            self.inner.list(kind).await
        }
        async fn get(&self, kind: Kind, name: &str) -> Result<Option<Record>, RecordError> {
            if kind == Kind::User {
                self.asked.fetch_add(1, Relaxed);
                self.together.wait().await;
            }
            self.inner.get(kind, name).await
        }
        async fn create(&self, kind: Kind, name: &str, value: Vec<u8>) -> Result<Version, RecordError> {
            self.inner.create(kind, name, value).await
        }
        async fn replace(
            &self,
            kind: Kind,
            name: &str,
            version: Version,
            value: Vec<u8>,
        ) -> Result<Version, RecordError> {
            self.inner.replace(kind, name, version, value).await
        }
        async fn delete(&self, kind: Kind, name: &str) -> Result<bool, RecordError> {
            self.inner.delete(kind, name).await
        }
        fn watch(&self, kind: Kind) -> BoxStream<'static, Change> {
            self.inner.watch(kind)
        }
    }

    /// The labels that these get who come all at once, and the records then.
    async fn enter(subjects: &[&str], together: usize) -> (Vec<String>, Arc<Slow>, Entrance) {
        let state = tempfile::tempdir().expect("a temporary folder");
        let inner = RedbRecords::open(&state.path().join("state.redb")).expect("a new file");
        let records = Arc::new(Slow { inner, asked: AtomicUsize::new(0), together: Barrier::new(together) });
        let config = Config::parse("test", crate::lab::CONFIG, &|_| None).expect("the lab's is good");
        let users = Users::new(records.clone(), watch::channel(Arc::new(config)).1);
        let (entrance, entering) = Entrance::new(users);
        let each = subjects.iter().map(|subject| {
            let (identity, wanted) = (machine(subject), (*subject).to_owned());
            let entrance = &entrance;
            async move { entrance.enter(&identity, wanted).await.map(|label| label.to_string()) }
        });
        let labels = tokio::select! {
            labels = join_all(each) => labels,
            () = entering => panic!("it never ends"),
        };
        (labels.into_iter().map(|label| label.expect("a label")).collect(), records, entrance)
    }

    fn machine(subject: &str) -> Identity {
        Identity { issuer: "https://issuer.test".to_owned(), subject: subject.to_owned() }
    }

    #[tokio::test]
    async fn newcomers_do_not_wait_for_each_other() {
        let names: Vec<String> = (0..4 * AT_ONCE).map(|n| format!("robot{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(enter(&names, AT_ONCE).await.0, names);
    }

    #[tokio::test]
    async fn who_comes_with_many_new_tokens_is_looked_up_a_few_times_and_then_not_again() {
        let (labels, records, entrance) = enter(&["robot"; WAITING], 1).await;
        assert_eq!(labels, ["robot"; WAITING]);
        // Those who were looked up together and found that another was faster looked again.
        assert!((1..=2 * AT_ONCE).contains(&records.asked.load(Relaxed)), "{:?}", records.asked);
        // Nobody answers any more: who is known needs no answer.
        let again = entrance.enter(&machine("robot"), "another".to_owned()).await;
        assert_eq!(again.map(|label| label.to_string()), Ok("robot".to_owned()));
        assert!(entrance.enter(&machine("other"), "other".to_owned()).await.is_err());
    }
}
