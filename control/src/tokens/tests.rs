use super::*;
use crate::records::redb::RedbRecords;
use crate::testing::secs;
use crate::{Device, Login, NewSession, Users};
use config::{Config, Label, Subject, TokenScope, TokenScopes};
use std::path::Path;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const DAY: Duration = Duration::from_secs(86_400);

struct Usher {
    tokens: Tokens,
    users: Users,
    records: Arc<RedbRecords>,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), crate::LoopError>>,
}

async fn open(file: &Path) -> Usher {
    let records = Arc::new(RedbRecords::open(file).unwrap());
    // There already when it is opened again.
    let _there = records.create(Kind::Session, &by().to_string(), b"{}".to_vec()).await;
    let (tokens, keeper) = Keeper::new(records.clone()).await.unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(keeper.run(shutdown.clone()));
    let text = include_str!("../../../config/quickstart.toml");
    let config = Arc::new(Config::parse("test", text, &|_| None).unwrap());
    let users = Users::new(records.clone(), watch::channel(config).1);
    Usher { tokens, users, records, shutdown, running }
}

/// The session by which tokens are made.
fn by() -> SessionRef {
    crate::SessionId([7; 16]).reference()
}

async fn fresh() -> (tempfile::TempDir, Usher) {
    let dir = tempfile::tempdir().unwrap();
    let usher = open(&dir.path().join("state.redb")).await;
    (dir, usher)
}

impl Usher {
    /// Somebody who has logged in, as the rules see them.
    async fn logs_in(&self, name: &str, groups: &[&str]) -> Session {
        let identity = Identity { issuer: "https://id.test".to_owned(), subject: name.to_owned() };
        let (_, label) = self.users.enter(&identity, name).await.unwrap();
        let subject = subject(name, groups);
        self.users.remember(identity.as_ref(), &subject).await.unwrap();
        session(identity, label, subject)
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }
}

fn subject(name: &str, groups: &[&str]) -> Subject {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    Subject { name: name.to_uppercase(), groups, ..Subject::default() }
}

fn session(identity: Identity, label: Label, subject: Subject) -> Session {
    let display_name = subject.name.clone();
    let login = Login::now(None, None, Device::default());
    Session::of_machine(NewSession { identity, label, display_name, subject, login, kept: None })
}

fn new(name: &str) -> NewToken {
    let scopes = TokenScopes::from_iter([TokenScope::WorkspacesRead, TokenScope::WorkspacesStop]);
    NewToken { name: name.to_owned(), scopes, lifetime: DAY, now: SystemTime::now() }
}

#[tokio::test]
async fn a_token_is_known_when_it_is_made_and_gone_when_it_is_revoked() {
    let (_dir, usher) = fresh().await;
    let alice = usher.logs_in("alice", &["staff"]).await;
    let (secret, token) = usher.tokens.make(&alice, by(), new("ci"), 5).await.unwrap();
    let now = SystemTime::now();
    let found = usher.tokens.find(secret.reference(), now).unwrap();
    assert_eq!((found.name.as_str(), found.scopes, found.sort), ("ci", new("").scopes, TokenSort::Api));
    assert_eq!(
        (found.session.label.as_str(), found.session.subject().groups),
        ("alice", vec!["staff".to_owned()])
    );
    assert!(usher.tokens.find(secret.reference(), now + DAY).is_none(), "it has expired");
    assert!(usher.tokens.find(TokenSecret([7; 32]).reference(), now).is_none());
    usher.tokens.revoke(secret.reference()).await.result().unwrap();
    assert!(usher.tokens.find(secret.reference(), now).is_none());
    assert!(token.session.ended().is_given(), "its sockets are cut");
    usher.tokens.revoke(secret.reference()).await.result().unwrap();
}

#[tokio::test]
async fn no_secret_is_in_the_records() {
    let (_dir, usher) = fresh().await;
    let alice = usher.logs_in("alice", &[]).await;
    let (secret, _) = usher.tokens.make(&alice, by(), new("ci"), 5).await.unwrap();
    let (first, _) = usher.tokens.begin_login(&alice, by(), new("laptop")).await.unwrap();
    for record in usher.records.list(Kind::Token).await.unwrap() {
        let text = format!("{} {}", record.name, String::from_utf8_lossy(&record.value));
        for secret in [&secret.0[..], &first.family, &first.secret] {
            let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
            assert!(!text.contains(&hash::text(secret)) && !text.contains(&hex));
        }
    }
}

#[tokio::test]
async fn nobody_has_more_tokens_than_they_may_and_of_logins_the_oldest_leaves() {
    let (_dir, usher) = fresh().await;
    let alice = usher.logs_in("alice", &[]).await;
    for _ in 0..2 {
        usher.tokens.make(&alice, by(), new("ci"), 2).await.unwrap();
    }
    let refused = usher.tokens.make(&alice, by(), new("ci"), 2).await;
    assert!(matches!(refused, Err(MakeError::TooMany(2))));
    let (first, _) = usher.tokens.begin_login(&alice, by(), new("laptop")).await.unwrap();
    for _ in 0..LOGINS_PER_USER {
        usher.tokens.begin_login(&alice, by(), new("laptop")).await.unwrap();
        usher.tokens.end_excess(alice.identity()).await.result().unwrap();
    }
    assert!(usher.tokens.find(first.reference(), SystemTime::now()).is_none());
    assert_eq!(usher.tokens.list(alice.identity()).len(), 2 + LOGINS_PER_USER);
    assert_eq!(
        usher.tokens.revoke_all(alice.identity(), Some(TokenSort::Login)).await.result().unwrap(),
        LOGINS_PER_USER
    );
    assert_eq!(usher.tokens.revoke_all(alice.identity(), None).await.result().unwrap(), 2);
}

#[tokio::test]
async fn a_secret_is_good_once_and_who_shows_it_again_ends_the_login_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("state.redb");
    let usher = open(&file).await;
    let alice = usher.logs_in("alice", &[]).await;
    let (first, _) = usher.tokens.begin_login(&alice, by(), new("laptop")).await.unwrap();
    let now = SystemTime::now();
    let rotated = usher.tokens.rotate(&first, now, DAY, 90 * DAY).await.unwrap();
    let Rotated::Next(second, _) = rotated else { panic!("{rotated:?}") };
    let forged = RefreshSecret { family: [9; 16], secret: second.secret };
    assert!(matches!(usher.tokens.rotate(&forged, now, DAY, 90 * DAY).await.unwrap(), Rotated::Unknown));
    usher.end().await;

    let usher = open(&file).await;
    let rotated = usher.tokens.rotate(&second, now, DAY, 90 * DAY).await.unwrap();
    let Rotated::Next(third, token) = rotated else { panic!("{rotated:?}") };
    assert!(matches!(usher.tokens.rotate(&first, now, DAY, 90 * DAY).await.unwrap(), Rotated::Reused(_)));
    assert!(token.session.ended().is_given());
    assert!(matches!(usher.tokens.rotate(&third, now, DAY, 90 * DAY).await.unwrap(), Rotated::Unknown));
}

#[tokio::test]
async fn of_two_who_show_a_secret_at_once_at_most_one_gets_the_next_and_the_login_ends() {
    let (_dir, usher) = fresh().await;
    let alice = usher.logs_in("alice", &[]).await;
    let (first, token) = usher.tokens.begin_login(&alice, by(), new("laptop")).await.unwrap();
    let now = SystemTime::now();
    let (one, other) = tokio::join!(
        usher.tokens.rotate(&first, now, DAY, 90 * DAY),
        usher.tokens.rotate(&first, now, DAY, 90 * DAY)
    );
    let next = [one.unwrap(), other.unwrap()].iter().filter(|it| matches!(it, Rotated::Next(..))).count();
    assert!(next <= 1);
    assert!(token.session.ended().is_given());
}

#[tokio::test]
async fn a_token_has_no_more_than_its_owner_who_is_asked_about_anew_at_each_login() {
    let (_dir, usher) = fresh().await;
    let alice = usher.logs_in("alice", &["staff"]).await;
    let (secret, token) = usher.tokens.make(&alice, by(), new("ci"), 5).await.unwrap();
    usher.logs_in("alice", &["guests"]).await;
    tokio::time::timeout(Duration::from_secs(5), token.session.changed().token().cancelled()).await.unwrap();
    let now = SystemTime::now();
    let found = usher.tokens.find(secret.reference(), now).unwrap();
    assert_eq!(found.session.subject().groups, ["guests"]);
    assert!(!found.session.ended().is_given());
    // Whoever has no record has no facts, and so no rights.
    usher.records.delete(Kind::User, &alice.identity().key()).await.unwrap();
    usher
        .tokens
        .snapshot
        .await_echo(|| usher.tokens.find(secret.reference(), now).is_none().then_some(()))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_first_use_is_written_down_and_later_ones_now_and_then() {
    let (_dir, usher) = fresh().await;
    let alice = usher.logs_in("alice", &[]).await;
    let (secret, token) = usher.tokens.make(&alice, by(), new("ci"), 5).await.unwrap();
    assert!(token.is_first_use() && !token.is_first_use());
    token.session.touch();
    let now = SystemTime::now();
    let told = || usher.tokens.find(secret.reference(), now).filter(|token| token.used.is_some());
    let told = usher.tokens.snapshot.await_echo(told).await.unwrap();
    assert!(!told.is_first_use());
    told.session.touch();
    assert_eq!(told.untold(SystemTime::now()), None, "it was told a moment ago");
    let later = SystemTime::now() + secs(3700);
    assert!(told.untold(later).is_some_and(|used| used <= later));
}

#[tokio::test]
async fn a_login_ends_at_its_last_day_however_it_is_used() {
    let (_dir, usher) = fresh().await;
    let alice = usher.logs_in("alice", &[]).await;
    let (first, token) = usher.tokens.begin_login(&alice, by(), new("laptop")).await.unwrap();
    let half_a_day = token.made + DAY / 2;
    let rotated = usher.tokens.rotate(&first, half_a_day, DAY, DAY).await.unwrap();
    assert!(matches!(rotated, Rotated::Next(..)), "{rotated:?}");
    let record = usher.records.get(Kind::Token, &token.reference.to_string()).await.unwrap().unwrap();
    assert_eq!(Document::read(&record.value).unwrap().expires(), token.made + DAY);
}

#[tokio::test]
async fn no_token_is_made_by_a_session_that_has_ended() {
    let (_dir, usher) = fresh().await;
    let alice = usher.logs_in("alice", &[]).await;
    usher.records.delete(Kind::Session, &by().to_string()).await.unwrap();
    let made = usher.tokens.make(&alice, by(), new("ci"), 2).await;
    assert!(matches!(made, Err(MakeError::SessionOver)), "{made:?}");
    let begun = usher.tokens.begin_login(&alice, by(), new("laptop")).await;
    assert!(matches!(begun, Err(MakeError::SessionOver)), "{begun:?}");
    assert!(usher.records.list(Kind::Token).await.unwrap().is_empty());
}
