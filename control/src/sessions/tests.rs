mod late;

use super::*;
use crate::Version;
use crate::metrics::Metrics;
use crate::records::redb::RedbRecords;
use crate::testing::secs;
use futures_util::stream::{self, StreamExt};
use std::path::Path;
use std::time::SystemTime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const PER_USER: usize = 20;
const LIMITS: Limits = Limits {
    idle_after: secs_of(1800),
    max_age: secs_of(86_400),
    per_user: PER_USER,
    refresh_after: secs_of(600),
};

const fn secs_of(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn open(file: &Path, ages: HashMap<ShortName, SessionAge>) -> (Sessions, CancellationToken) {
    over(Arc::new(RedbRecords::open(file).unwrap()), ages, Acts::untold()).await
}

/// One replica over a store that others may use as well.
async fn over(
    records: Arc<dyn Records>,
    ages: HashMap<ShortName, SessionAge>,
    acts: Acts,
) -> (Sessions, CancellationToken) {
    let metrics = Arc::new(Metrics::new(&prometheus::Registry::new()).unwrap());
    let (sessions, keeper) = Keeper::new(records, LIMITS, ages, metrics, acts).await.unwrap();
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
        subject: config::Subject { name: subject.to_uppercase(), ..config::Subject::default() },
        login: Login {
            at: SystemTime::UNIX_EPOCH,
            provider: Some(ProviderName::parse("lab").unwrap()),
            sid: Some(format!("sid of {subject}")),
            device: Device { agent: "Firefox on Linux".to_owned(), network: "192.0.2.0/24".to_owned() },
        },
        kept: None,
    }
}

/// A session as it would be after so much time, without waiting for it.
fn aged(created: Duration, used: Duration) -> (Session, Instant) {
    let start = Instant::now();
    let age = SessionAge { created: start, used: start };
    let session = Session::new(new("alice"), Version(1), age, None);
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
    assert_eq!((found.label.as_str(), found.display_name()), ("alice", "ALICE"));
    assert_eq!(found.subject().name, "ALICE");
    assert_eq!(sessions.count(), 1);
    sessions.end(&id).await.result().unwrap();
    assert!(sessions.lookup(&id).is_none() && session.ended().is_given());
    sessions.end(&id).await.result().unwrap();
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
    assert_eq!(sessions.end_all(new("alice").identity.as_ref()).await.result().unwrap(), 3);
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

/// What a replica was told that it did: whose session ended, and why.
fn trail() -> (Acts, mpsc::UnboundedReceiver<(String, Over)>) {
    let (tell, told) = mpsc::unbounded_channel();
    let acts = Acts::new(move |act| {
        let Act::SessionOver(ended, why) = act else { panic!("{act:?}") };
        let identity = ended.session.identity().subject;
        tell.send((format!("{identity} {}", ended.reference.short()), why)).unwrap();
    });
    (acts, told)
}

#[tokio::test]
async fn of_many_replicas_one_is_told_that_it_has_ended_a_session() {
    let dir = tempfile::tempdir().unwrap();
    let records = Arc::new(RedbRecords::open(&dir.path().join("state.redb")).unwrap());
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(over(records.clone(), HashMap::new(), Acts::untold()).await);
    }
    let (id, _) = replicas[0].0.create(new("alice")).await.unwrap();
    for (replica, _) in &replicas {
        replica.await_known(&id, secs(10)).await.unwrap();
    }
    let endings = futures_util::future::join_all(replicas.iter().map(|(replica, _)| replica.end(&id))).await;
    let ended: Vec<_> = endings.iter().flat_map(|ending| &ending.ended).collect();
    assert_eq!(ended.iter().map(|ended| ended.session.label.as_str()).collect::<Vec<_>>(), ["alice"]);
    assert!(endings.iter().all(|ending| ending.failed.is_none()));
    assert_eq!(ended[0].reference, id.reference());
    let short = ended[0].reference.short();
    assert!(short.len() == 16 && short.bytes().all(|byte| byte.is_ascii_hexdigit()), "{short}");
}

#[tokio::test]
async fn a_session_that_is_over_is_told_once_by_all_replicas_together_with_why() {
    let dir = tempfile::tempdir().unwrap();
    let records = Arc::new(RedbRecords::open(&dir.path().join("state.redb")).unwrap());
    let (first, _shutdown) = over(records.clone(), HashMap::new(), Acts::untold()).await;
    let (id, _) = first.create(new("alice")).await.unwrap();
    let now = Instant::now();
    let ages = [("unused", secs(1800), Over::Unused), ("old", secs(86_400), Over::TooOld)];
    for (nth, (_, age, why)) in ages.into_iter().enumerate() {
        let id = if nth == 0 { id } else { first.create(new("bob")).await.unwrap().0 };
        let whose = if nth == 0 { "alice" } else { "bob" };
        let age = SessionAge { created: clock::ago(now, age), used: clock::ago(now, secs(1800)) };
        let (acts, mut told) = trail();
        let ages = HashMap::from([(id.name().short(), age)]);
        let (_one, _stop) = over(records.clone(), ages.clone(), acts.clone()).await;
        let (_other, _stop) = over(records.clone(), ages, acts).await;
        while records.get(Kind::Session, &id.name().to_string()).await.unwrap().is_some() {
            tokio::task::yield_now().await;
        }
        let expected = (format!("{whose} {}", id.reference().short()), why);
        assert_eq!(tokio::time::timeout(secs(10), told.recv()).await.unwrap(), Some(expected));
        // Whoever came second has been answered by now: the store serves in order.
        records.list(Kind::Session).await.unwrap();
        assert!(told.try_recv().is_err());
    }
}

#[tokio::test]
async fn the_oldest_that_leaves_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let records = Arc::new(RedbRecords::open(&dir.path().join("state.redb")).unwrap());
    let (acts, mut told) = trail();
    let (sessions, _shutdown) = over(records, HashMap::new(), acts).await;
    let (first, _) = sessions.create(new("alice")).await.unwrap();
    for _ in 0..PER_USER {
        sessions.create(new("alice")).await.unwrap();
    }
    assert_eq!(told.try_recv().unwrap(), (format!("alice {}", first.reference().short()), Over::TooMany));
    assert!(told.try_recv().is_err());
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
    let made = sessions.records.create(Kind::Session, &name, Document::new(&new("alice")).write());
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
    // Until nobody publishes any more.
    let over = sessions.snapshot.await_that(secs(3600), || None::<()>);
    tokio::time::timeout(secs(20), over).await.unwrap();
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

#[tokio::test]
async fn what_a_provider_ends_is_its_own_session_or_all_of_one_account() {
    let (_dir, sessions) = fresh().await;
    let (lab, other) = (ProviderName::parse("lab").unwrap(), ProviderName::parse("other").unwrap());
    for name in ["alice", "alice", "bob", "carol"] {
        sessions.create(new(name)).await.unwrap();
    }
    let end = async |provider, subject, sid| sessions.end_at(provider, subject, sid).await.result().unwrap();
    assert_eq!(end(&other, Some("alice"), None).await, 0);
    assert_eq!(end(&lab, None, None).await, 0, "who names nobody ends nobody");
    assert_eq!(end(&lab, Some("bob"), Some("sid of carol")).await, 0);
    assert_eq!(end(&lab, None, Some("sid of carol")).await, 1);
    assert_eq!(end(&lab, Some("alice"), None).await, 2);
    assert_eq!(sessions.count(), 1);
}

#[test]
fn a_session_reads_as_it_was_written_and_so_does_one_of_before() {
    let mut written = new("alice");
    written.kept =
        Some(Kept { sealed: "sealed".to_owned(), lasts: secs(60), at: SystemTime::UNIX_EPOCH + secs(9) });
    let read = Document::read(&Document::new(&written).write()).unwrap().session().unwrap();
    assert_eq!((read.login, read.kept), (written.login, written.kept));
    let before = br#"{"identity":{"issuer":"i","subject":"s"},"label":"alice","display_name":"A",
        "subject":{"issuer":"i","subject":"s","name":"A","claims":{},"groups":[]}}"#;
    let read = Document::read(before).unwrap().session().unwrap();
    assert_eq!((read.label.as_str(), read.login.provider, read.kept), ("alice", None, None));
}

/// A session whose provider says that what it says holds for ten minutes.
async fn kept(sessions: &Sessions) -> (SessionId, SessionRef, Arc<Session>) {
    let at = SystemTime::now();
    let new =
        NewSession { kept: Some(Kept { sealed: "first".to_owned(), lasts: secs(600), at }), ..new("alice") };
    let (id, session) = sessions.create(new).await.unwrap();
    (id, SessionRef(id.name()), session)
}

/// Uses it later than it was made: a use is known to the millisecond.
fn use_it(session: &Session) {
    let before = session.used();
    while session.used() <= before {
        session.touch();
    }
}

fn said(groups: &[&str], sealed: &str) -> (config::Subject, Option<Kept>) {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    let subject = config::Subject { groups, name: "ALICE".to_owned(), ..config::Subject::default() };
    (subject, Some(Kept { sealed: sealed.to_owned(), lasts: secs(600), at: SystemTime::now() }))
}

/// What is due, in short.
fn due(sessions: &Sessions, later: u64) -> Vec<&'static str> {
    let due = sessions.due(Instant::now() + secs(later)).into_iter();
    due.map(|due| if matches!(due, Due::Ask(..)) { "ask" } else { "lost" }).collect()
}

#[tokio::test]
async fn a_provider_is_asked_again_at_half_of_its_tokens_life() {
    let (_dir, sessions) = fresh().await;
    let (_, _, session) = kept(&sessions).await;
    use_it(&session);
    assert_eq!(due(&sessions, 290), [""; 0]);
    assert_eq!(due(&sessions, 301), ["ask"]);
    assert!(!session.is_stale(Instant::now() + secs(590)) && session.is_stale(Instant::now() + secs(601)));
}

#[tokio::test]
async fn about_somebody_who_was_not_there_since_no_provider_is_asked() {
    let (_dir, sessions) = fresh().await;
    let at = SystemTime::now() + secs(1);
    let new =
        NewSession { kept: Some(Kept { sealed: "first".to_owned(), lasts: secs(600), at }), ..new("alice") };
    let (_, session) = sessions.create(new).await.unwrap();
    assert_eq!(due(&sessions, 700), [""; 0]);
    use_it(&session);
    assert_eq!(due(&sessions, 700), ["ask"]);
}

#[tokio::test]
async fn one_of_two_asks_a_provider_and_what_it_said_is_seen_by_all() {
    let (_dir, sessions) = fresh().await;
    let (id, reference, session) = kept(&sessions).await;
    use_it(&session);
    let (one, other) = tokio::join!(sessions.claim(reference), sessions.claim(reference));
    let claim = match (one.unwrap(), other.unwrap()) {
        (Some(claim), None) | (None, Some(claim)) => claim,
        both => panic!("{both:?}"),
    };
    assert_eq!(claim.session.kept.as_ref().unwrap().sealed, "first");
    sessions.snapshot.await_echo(|| (due(&sessions, 301) == ["lost"]).then_some(())).await.unwrap();
    let (subject, kept) = said(&["staff"], "second");
    sessions.renew(&claim, subject, None, kept).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), session.changed().token().cancelled()).await.unwrap();
    let renewed = sessions.lookup(&id).unwrap();
    assert_eq!((renewed.subject().groups, session.ended().is_given()), (vec!["staff".to_owned()], false));
    assert_eq!((renewed.logged_in, renewed.device()), (session.logged_in, session.device()));
    renewed.touch();
    assert_eq!(session.used(), renewed.used(), "it is one session");
    let claim = sessions.claim(reference).await.unwrap().unwrap();
    assert_eq!(claim.session.kept.as_ref().unwrap().sealed, "second");
    let (subject, kept) = said(&["staff"], "third");
    sessions.renew(&claim, subject, None, kept).await.unwrap();
    let known = || sessions.lookup(&id).filter(|known| known.version != renewed.version);
    sessions.snapshot.await_echo(|| known().map(drop)).await.unwrap();
    assert!(!renewed.changed().is_given(), "the rules see the same");
}

#[tokio::test]
async fn who_asks_and_gets_no_answer_gives_the_right_back_and_who_dies_over_it_loses_that_session() {
    let (_dir, sessions) = fresh().await;
    let (_, reference, session) = kept(&sessions).await;
    use_it(&session);
    let claim = sessions.claim(reference).await.unwrap().unwrap();
    sessions.give_back(&claim, None).await.unwrap();
    sessions.snapshot.await_echo(|| (due(&sessions, 301) == ["ask"]).then_some(())).await.unwrap();
    let _dies = sessions.claim(reference).await.unwrap().unwrap();
    sessions.snapshot.await_echo(|| (due(&sessions, 301) == ["lost"]).then_some(())).await.unwrap();
    assert_eq!(due(&sessions, 44), [""; 0]);
    assert_eq!(due(&sessions, 46), ["lost"]);
    assert!(sessions.claim(reference).await.unwrap().is_none());
}

#[tokio::test]
async fn a_session_that_ended_while_its_provider_was_asked_stays_so() {
    let (_dir, sessions) = fresh().await;
    let (id, reference, _) = kept(&sessions).await;
    let claim = sessions.claim(reference).await.unwrap().unwrap();
    sessions.end(&id).await.result().unwrap();
    let (subject, kept) = said(&[], "second");
    sessions.renew(&claim, subject, None, kept).await.unwrap();
    assert!(sessions.records.list(Kind::Session).await.unwrap().is_empty());
}
