use super::*;
use crate::metrics::Metrics;
use crate::records::redb::RedbRecords;
use crate::testing::secs;
use futures_util::stream::{self, StreamExt};
use std::path::Path;

const LIMITS: Limits = Limits { idle_after: secs_of(1800), max_age: secs_of(86_400) };

const fn secs_of(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn open(file: &Path, ages: HashMap<ShortName, SessionAge>) -> (Sessions, CancellationToken) {
    let records = Arc::new(RedbRecords::open(file).unwrap());
    let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
    let (sessions, keeper) = Keeper::new(records, LIMITS, ages, metrics).await.unwrap();
    let shutdown = CancellationToken::new();
    tokio::spawn(keeper.run(stream::pending().boxed(), shutdown.clone()));
    (sessions, shutdown)
}

async fn fresh() -> (tempfile::TempDir, Sessions) {
    let dir = tempfile::tempdir().unwrap();
    let (sessions, _shutdown) = open(&dir.path().join("state.redb"), HashMap::new()).await;
    (dir, sessions)
}

fn new(subject: &str) -> NewSession {
    NewSession {
        identity: Identity { issuer: "test".to_owned(), subject: subject.to_owned() },
        label: Label::parse(subject).unwrap(),
        display_name: subject.to_uppercase(),
        subject: config::Subject { name: subject.to_owned(), ..config::Subject::default() },
    }
}

/// A session as it would be after so much time, without waiting for it.
fn aged(created: Duration, used: Duration) -> (Session, Instant) {
    let start = Instant::now();
    let NewSession { identity, label, display_name, subject } = new("alice");
    let age = SessionAge { created: start, used: start };
    let ended = CancellationToken::new();
    let last_use = Arc::default();
    let elsewhere = LastUse::default();
    let session = Session { identity, label, display_name, subject, ended, age, last_use, elsewhere };
    (session, start + created.max(used))
}

#[test]
fn a_session_is_over_when_it_is_unused_or_old() {
    for (age, over) in [(0, false), (1799, false), (1800, true), (90_000, true)] {
        let (session, now) = aged(secs(age), secs(age));
        assert_eq!(session.is_over(LIMITS, now), over, "{age} s");
    }
    let (mut session, now) = aged(secs(86_400), secs(0));
    session.age.used = now;
    assert!(session.is_over(LIMITS, now), "used all the time, and too old");
    assert!(!session.is_over(LIMITS, now.checked_sub(secs(1)).unwrap()));
}

#[tokio::test]
async fn a_session_is_known_when_create_returns_and_gone_when_end_does() {
    let (_dir, sessions) = fresh().await;
    let (id, session) = sessions.create(new("alice")).await.unwrap();
    let found = sessions.lookup(&id).unwrap();
    assert_eq!((found.label.as_str(), found.display_name.as_str()), ("alice", "ALICE"));
    assert_eq!(found.subject.name, "alice");
    assert_eq!(sessions.count(), 1);
    sessions.end(&id).await.unwrap();
    assert!(sessions.lookup(&id).is_none() && session.ended.is_cancelled());
    sessions.end(&id).await.unwrap();
    assert!(sessions.lookup(&SessionId([7; 16])).is_none());
}

#[tokio::test]
async fn the_id_of_a_session_is_not_in_its_record() {
    let (_dir, sessions) = fresh().await;
    let (id, _) = sessions.create(new("alice")).await.unwrap();
    let [record] = &sessions.records.list(Kind::Session).await.unwrap()[..] else { panic!() };
    let texts = [hash::text(&id.0), id.0.iter().map(|b| format!("{b:02x}")).collect()];
    for text in texts {
        assert!(!record.name.contains(&text) && !String::from_utf8_lossy(&record.value).contains(&text));
    }
}

#[tokio::test]
async fn all_sessions_of_one_user_end_and_those_of_others_live_on() {
    let (_dir, sessions) = fresh().await;
    let (bob, _) = sessions.create(new("bob")).await.unwrap();
    for _ in 0..3 {
        sessions.create(new("alice")).await.unwrap();
    }
    assert_eq!(sessions.end_all(&new("alice").identity).await.unwrap(), 3);
    assert_eq!(sessions.count(), 1);
    assert!(sessions.lookup(&bob).is_some());
}

#[tokio::test]
async fn a_user_with_too_many_sessions_loses_the_oldest() {
    let (_dir, sessions) = fresh().await;
    let (first, _) = sessions.create(new("alice")).await.unwrap();
    let (second, _) = sessions.create(new("alice")).await.unwrap();
    for _ in 2..PER_USER {
        sessions.create(new("alice")).await.unwrap();
    }
    assert!(sessions.lookup(&first).is_some());
    sessions.create(new("alice")).await.unwrap();
    assert!(sessions.lookup(&first).is_none());
    assert!(sessions.lookup(&second).is_some());
    assert_eq!(sessions.count(), PER_USER);
}

#[tokio::test]
async fn many_logins_at_once_leave_no_more_sessions_than_one_user_may_have() {
    let (_dir, sessions) = fresh().await;
    for _ in 0..PER_USER - 1 {
        sessions.create(new("alice")).await.unwrap();
    }
    let logins = (0..8).map(|_| sessions.create(new("alice")));
    for made in futures_util::future::join_all(logins).await {
        made.unwrap();
    }
    assert_eq!(sessions.count(), PER_USER);
}

#[tokio::test]
async fn a_session_that_another_replica_made_is_awaited() {
    let (_dir, sessions) = fresh().await;
    let id = SessionId([9; 16]);
    assert!(sessions.await_known(&id, Duration::from_millis(10)).await.is_none());
    let name = id.name().to_string();
    let made = sessions.records.create(Kind::Session, &name, document::write(&new("alice")));
    let (known, made) = tokio::join!(sessions.await_known(&id, secs(10)), made);
    made.unwrap();
    assert!(known.is_some());
}

#[tokio::test]
async fn sessions_live_over_a_restart_with_their_ages() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.redb");
    let (sessions, shutdown) = open(&file, HashMap::new()).await;
    let (young, _) = sessions.create(new("alice")).await.unwrap();
    let (old, _) = sessions.create(new("bob")).await.unwrap();
    shutdown.cancel();
    let mut changes = sessions.changes.clone();
    while changes.changed().await.is_ok() {}
    drop(sessions);

    let now = Instant::now();
    let age = SessionAge { created: now, used: clock::ago(now, secs(1800)) };
    let (sessions, _shutdown) = open(&file, HashMap::from([(old.name().short(), age)])).await;
    assert!(sessions.lookup(&young).is_some());
    assert!(sessions.lookup(&old).is_none());
    // The sweep takes the record away, too.
    while sessions.records.list(Kind::Session).await.unwrap().len() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(sessions.count(), 1);
}

#[tokio::test]
async fn a_session_that_is_used_by_way_of_another_usher_lives_on_here_and_is_not_told_on() {
    let (_dir, sessions) = fresh().await;
    let (_, session) = sessions.create(new("alice")).await.unwrap();
    let [(name, own)] = sessions.ages()[..] else { panic!() };
    let later = own.used + LIMITS.idle_after - secs(1);
    sessions.learn(&HashMap::from([(name, SessionAge { used: later, ..own })]));
    assert!(!session.is_over(LIMITS, later + secs(1000)));
    assert!(session.is_over(LIMITS, later + LIMITS.idle_after));
    assert_eq!(sessions.ages(), [(name, own)]);
}
