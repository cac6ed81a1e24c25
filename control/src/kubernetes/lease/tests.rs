use super::*;
use crate::kubernetes::testing::{Asked, Reply, Server};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;

/// A lease as an API server keeps it.
#[derive(Default)]
struct Kept {
    lease: Option<Value>,
    version: u64,
    /// Nobody is answered.
    frozen: bool,
    /// Writes are done and answered with 504.
    answers_lost: usize,
}

impl Kept {
    fn answer(&mut self, asked: &Asked) -> Reply {
        if self.frozen {
            return Reply::silence();
        }
        let version = self.lease.as_ref().map(|lease| lease["metadata"]["resourceVersion"].clone());
        let mut sent = asked.json();
        match (asked.line.split(' ').next().unwrap(), version) {
            ("GET", Some(_)) => return Reply::json(200, self.lease.as_ref().unwrap()),
            ("GET", None) => return Reply::refusal(404, "NotFound"),
            ("POST", Some(_)) => return Reply::refusal(409, "AlreadyExists"),
            ("PUT", Some(version)) if version != sent["metadata"]["resourceVersion"] => {
                return Reply::refusal(409, "Conflict");
            }
            _ => {}
        }
        self.version += 1;
        sent["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = Some(sent.clone());
        if self.answers_lost > 0 {
            self.answers_lost -= 1;
            return Reply::refusal(504, "Timeout");
        }
        Reply::json(200, &sent)
    }
}

struct Contest {
    kept: Arc<Mutex<Kept>>,
    server: Server,
    running: JoinSet<()>,
}

impl Contest {
    fn new() -> Self {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let answering = kept.clone();
        let server = Server::new(move |asked| answering.lock().unwrap().answer(asked));
        Self { kept, server, running: JoinSet::new() }
    }

    fn join(&mut self, replica: &str) -> (watch::Receiver<bool>, CancellationToken) {
        let settings = LeaseSettings {
            namespace: "u".to_owned(),
            name: "reaper".to_owned(),
            replica: replica.to_owned(),
        };
        let (lease, leads) = Lease::new(&self.server.in_memory(), settings);
        let shutdown = CancellationToken::new();
        self.running.spawn(lease.run(shutdown.clone()));
        (leads, shutdown)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }
}

async fn becomes(leads: &mut watch::Receiver<bool>, expected: bool) -> Duration {
    let begun = Instant::now();
    let waited =
        tokio::time::timeout(Duration::from_secs(60), leads.wait_for(|leads| *leads == expected)).await;
    waited.expect("the lease changes hands").unwrap();
    begun.elapsed()
}

#[tokio::test(start_paused = true)]
async fn of_three_one_leads_and_when_it_leaves_the_next_does_at_once() {
    let mut contest = Contest::new();
    let (mut first, leave) = contest.join("first");
    becomes(&mut first, true).await;
    let (mut second, _) = contest.join("second");
    let (third, _) = contest.join("third");
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!((*first.borrow(), *second.borrow(), *third.borrow()), (true, false, false));
    leave.cancel();
    becomes(&mut first, false).await;
    let third = async {
        let mut third = third.clone();
        becomes(&mut third, true).await
    };
    tokio::select! {
        waited = becomes(&mut second, true) => assert!(waited <= EVERY * 2, "{waited:?}"),
        waited = third => assert!(waited <= EVERY * 2, "{waited:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_is_not_answered_stops_leading_before_another_may_begin() {
    let mut contest = Contest::new();
    let (mut first, _) = contest.join("first");
    becomes(&mut first, true).await;
    let (second, _) = contest.join("second");
    tokio::time::sleep(Duration::from_secs(5)).await;
    contest.kept().frozen = true;
    let until = becomes(&mut first, false).await;
    assert!(until <= candidate::LEADS, "{until:?}");
    assert!(!*second.borrow());
    contest.kept().frozen = false;
    // Whoever comes first: never both.
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!(*first.borrow() && *second.borrow()), "two lead");
    }
    assert!(*first.borrow() || *second.borrow(), "nobody leads");
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_dies_is_followed_when_its_time_is_over() {
    let mut contest = Contest::new();
    let (mut first, _) = contest.join("first");
    becomes(&mut first, true).await;
    contest.running.shutdown().await;
    let (mut second, _) = contest.join("second");
    let waited = becomes(&mut second, true).await;
    assert!(waited >= candidate::DURATION && waited <= candidate::DURATION + EVERY * 2, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_is_found_to_be_done() {
    let mut contest = Contest::new();
    contest.kept().answers_lost = 2;
    let (mut first, _) = contest.join("first");
    let waited = becomes(&mut first, true).await;
    assert!(waited < EVERY * 4, "{waited:?}");
    let transitions = contest.kept().lease.as_ref().unwrap()["spec"]["leaseTransitions"].clone();
    assert_eq!(transitions, json!(0));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_somebody_deletes_is_made_again() {
    let mut contest = Contest::new();
    let (mut first, _) = contest.join("first");
    becomes(&mut first, true).await;
    contest.kept().lease = None;
    tokio::time::sleep(EVERY * 3).await;
    assert!(*first.borrow());
    assert!(contest.kept().lease.is_some());
}
