//! Records keep their promises wherever they are: in a file, and as Secrets of a real Kubernetes.
#![expect(clippy::unwrap_used, reason = "all of it is tests: the macro makes two of each promise")]

use control::kubernetes::{Client, ClientMetrics, ClientSettings};
use control::{
    Change, Identity, Kind, Record, RecordError, Records, RedbRecords, SecretRecords, Users, Version,
};
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::BoxStream;
use proxy::keys::{Keys, Purpose};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tests::{Cluster, Realm};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

type Store = Arc<dyn Records>;

/// Makes of each promise a test per store.
macro_rules! promises {
    ($($promise:ident),* $(,)?) => {
        mod in_a_file {
            $(#[tokio::test]
            async fn $promise() {
                let folder = tempfile::tempdir().unwrap();
                let records = control::RedbRecords::open(&folder.path().join("state.redb")).unwrap();
                super::$promise(std::sync::Arc::new(records)).await;
            })*
        }
        mod in_a_cluster {
            $(#[tokio::test]
            async fn $promise() {
                let realm = tests::Realm::new(&tests::Cluster::shared()).await;
                let records = super::secrets(&realm).await;
                super::$promise(std::sync::Arc::new(records)).await;
            })*
        }
    };
}

promises!(
    a_record_is_made_once_and_replaced_only_in_the_version_that_was_seen,
    a_name_that_is_used_again_gets_a_higher_version,
    of_twenty_who_create_one_record_one_does,
    of_twenty_who_replace_one_version_one_does,
    who_counts_by_compare_and_swap_loses_no_count,
    a_watch_tells_what_is_there_and_then_every_change_in_order,
    a_watch_and_a_list_end_up_with_the_same,
    records_of_any_name_and_of_any_kind_are_told_apart,
    a_value_may_be_any_bytes_and_large,
    what_one_replica_seals_opens_on_all_whoever_came_first,
    of_twenty_who_want_one_label_one_has_it_and_each_other_gets_a_suffix,
);

/// So many want each of so many labels at once, and each of them twice, as if logged in at two replicas.
async fn race_for_labels(records: &Store, labels: usize, racers: usize) {
    let config = "domain = 'lab.example.org'\nlisteners = [{ address = '127.0.0.1:8080' }]\n\
                  access = { allow = 'true', template = \"'t'\" }\n[templates.t]\ncommand = ['t', '{port}']\nconnect = 'port'\n";
    let config = Arc::new(config::Config::parse("f", config, &|_| None).unwrap());
    let (_config, config) = tokio::sync::watch::channel(config);
    for number in 0..labels {
        let (wanted, issuer) = (format!("label{number}"), "https://id.example.org".to_owned());
        let mut race = JoinSet::new();
        for (racer, _) in (0..racers).flat_map(|racer| [(racer, 1), (racer, 2)]) {
            // Each has a replica's own way to the records.
            let users = Users::new(records.clone(), config.clone());
            let identity = Identity { issuer: issuer.clone(), subject: format!("{number}-{racer}") };
            let wanted = wanted.clone();
            race.spawn(async move { (racer, users.enter(&identity, &wanted).await.unwrap().1.to_string()) });
        }
        let mut got: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        for (racer, label) in race.join_all().await {
            got.entry(racer).or_default().insert(label);
        }
        assert!(got.values().all(|labels| labels.len() == 1), "one identity has two labels: {got:?}");
        let all: BTreeSet<_> = got.values().flatten().collect();
        assert_eq!(all.len(), racers, "two identities have one label: {got:?}");
        assert!(all.contains(&wanted), "nobody has it: {got:?}");
        let suffixed = all.iter().filter(|label| label.starts_with(&format!("{wanted}-"))).count();
        assert_eq!(suffixed, racers - 1, "{got:?}");
    }
}

async fn of_twenty_who_want_one_label_one_has_it_and_each_other_gets_a_suffix(records: Store) {
    race_for_labels(&records, 1, 20).await;
}

#[tokio::test]
#[ignore = "takes more than a minute; `make soak` runs it"]
async fn of_two_thousand_who_want_a_hundred_labels_a_hundred_have_them() {
    let realm = Realm::new(&Cluster::shared()).await;
    let records: Store = Arc::new(secrets(&realm).await);
    let began = Instant::now();
    race_for_labels(&records, 100, 20).await;
    println!("2000 users made, each twice at once, in {:.1} s", began.elapsed().as_secs_f64());
}

/// As one who has the rights of the chart's Role and no more.
async fn secrets(realm: &Realm) -> SecretRecords {
    let verbs = ["get", "list", "watch", "create", "patch", "delete"];
    let rules = json!([{ "apiGroups": [""], "resources": ["secrets"], "verbs": verbs }]);
    let kubeconfig = realm.account("records", &[(&realm.records, rules)]).await;
    let metrics = ClientMetrics::new(&prometheus::Registry::new()).unwrap();
    let settings = ClientSettings { kubeconfig: Some(kubeconfig), context: None };
    SecretRecords::new(&Client::new(&settings, metrics).await.unwrap(), &realm.records)
}

async fn put(records: &Store, name: &str, value: &str) -> Version {
    records.create(Kind::Session, name, value.into()).await.unwrap()
}

async fn next(watch: &mut BoxStream<'static, Change>) -> Change {
    timeout(Duration::from_secs(20), watch.next()).await.expect("the watch tells").expect("the watch goes on")
}

async fn a_record_is_made_once_and_replaced_only_in_the_version_that_was_seen(records: Store) {
    let first = put(&records, "a", "1").await;
    let again = records.create(Kind::Session, "a", b"2".to_vec()).await;
    assert!(matches!(&again, Err(RecordError::Exists(name)) if name == "a"), "{again:?}");
    let second = records.replace(Kind::Session, "a", first, b"2".to_vec()).await.unwrap();
    assert!(second > first);
    for version in [first, Version(0), Version(second.0 + 1)] {
        let stale = records.replace(Kind::Session, "a", version, b"3".to_vec()).await;
        assert!(matches!(&stale, Err(RecordError::Conflict(name)) if name == "a"), "{version:?}: {stale:?}");
    }
    let expected = Record { name: "a".to_owned(), version: second, value: b"2".to_vec() };
    assert_eq!(records.get(Kind::Session, "a").await.unwrap(), Some(expected.clone()));
    assert_eq!(records.list(Kind::Session).await.unwrap(), [expected]);
}

async fn a_name_that_is_used_again_gets_a_higher_version(records: Store) {
    let first = put(&records, "a", "1").await;
    let deletions = join_all((0..8).map(|_| records.delete(Kind::Session, "a"))).await;
    let deleted = deletions.into_iter().filter(|deleted| *deleted.as_ref().unwrap());
    assert_eq!(deleted.count(), 1, "one of many is told that it has deleted it");
    assert_eq!(records.get(Kind::Session, "a").await.unwrap(), None);
    let gone = records.replace(Kind::Session, "a", first, Vec::new()).await;
    assert!(matches!(&gone, Err(RecordError::Conflict(_))), "{gone:?}");
    let second = put(&records, "a", "2").await;
    assert!(second > first);
    let stale = records.replace(Kind::Session, "a", first, Vec::new()).await;
    assert!(matches!(&stale, Err(RecordError::Conflict(_))), "{stale:?}");
}

async fn of_twenty_who_create_one_record_one_does(records: Store) {
    let mut creating = JoinSet::new();
    for i in 0_u8..20 {
        let records = records.clone();
        creating.spawn(async move { (i, records.create(Kind::Label, "alice", vec![i]).await) });
    }
    let mut winners = Vec::new();
    for (i, created) in creating.join_all().await {
        match created {
            Ok(version) => winners.push((i, version)),
            Err(error) => assert!(matches!(&error, RecordError::Exists(_)), "{error}"),
        }
    }
    let [(winner, version)] = winners[..] else { panic!("{} won", winners.len()) };
    let expected = Record { name: "alice".to_owned(), version, value: vec![winner] };
    assert_eq!(records.get(Kind::Label, "alice").await.unwrap(), Some(expected));
}

async fn of_twenty_who_replace_one_version_one_does(records: Store) {
    let first = records.create(Kind::Use, "a", Vec::new()).await.unwrap();
    let mut replacing = JoinSet::new();
    for _ in 0..20 {
        let records = records.clone();
        // All write the same: what stands afterwards does not tell who was first.
        replacing.spawn(async move { records.replace(Kind::Use, "a", first, b"same".to_vec()).await });
    }
    let mut winners = 0;
    for replaced in replacing.join_all().await {
        match replaced {
            Ok(_) => winners += 1,
            Err(error) => assert!(matches!(&error, RecordError::Conflict(_)), "{error}"),
        }
    }
    assert_eq!(winners, 1);
}

async fn who_counts_by_compare_and_swap_loses_no_count(records: Store) {
    records.create(Kind::Use, "count", b"0".to_vec()).await.unwrap();
    let mut counting = JoinSet::new();
    for _ in 0..5 {
        let records = records.clone();
        counting.spawn(async move {
            let mut counted = 0;
            while counted < 10 {
                let seen = records.get(Kind::Use, "count").await.unwrap().unwrap();
                let count: u32 = String::from_utf8(seen.value).unwrap().parse().unwrap();
                let value = (count + 1).to_string().into_bytes();
                match records.replace(Kind::Use, "count", seen.version, value).await {
                    Ok(_) => counted += 1,
                    Err(error) => assert!(matches!(&error, RecordError::Conflict(_)), "{error}"),
                }
            }
        });
    }
    counting.join_all().await;
    let count = records.get(Kind::Use, "count").await.unwrap().unwrap();
    assert_eq!(count.value, b"50");
}

async fn a_watch_tells_what_is_there_and_then_every_change_in_order(records: Store) {
    let first = put(&records, "a", "1").await;
    let mut watch = records.watch(Kind::Session);
    let record =
        |name: &str, version, value: &[u8]| Record { name: name.to_owned(), version, value: value.to_vec() };
    assert_eq!(next(&mut watch).await, Change::Put(record("a", first, b"1")));
    let second = put(&records, "B_odd", "2").await;
    assert_eq!(next(&mut watch).await, Change::Put(record("B_odd", second, b"2")));
    records.create(Kind::User, "other-kind", Vec::new()).await.unwrap();
    let third = records.replace(Kind::Session, "B_odd", second, b"3".to_vec()).await.unwrap();
    records.delete(Kind::Session, "a").await.unwrap();
    records.delete(Kind::Session, "B_odd").await.unwrap();
    let fourth = put(&records, "a", "4").await;
    assert_eq!(next(&mut watch).await, Change::Put(record("B_odd", third, b"3")));
    assert_eq!(next(&mut watch).await, Change::Deleted("a".to_owned()));
    assert_eq!(next(&mut watch).await, Change::Deleted("B_odd".to_owned()));
    assert_eq!(next(&mut watch).await, Change::Put(record("a", fourth, b"4")));
}

async fn a_watch_and_a_list_end_up_with_the_same(records: Store) {
    let mut watch = records.watch(Kind::Session);
    let mut writing = JoinSet::new();
    for writer in 0..6 {
        let records = records.clone();
        writing.spawn(async move {
            for i in 0_u8..20 {
                // Some names are everybody's.
                let name =
                    if i.is_multiple_of(3) { format!("shared-{i}") } else { format!("Own_{writer}-{i}") };
                let made = records.create(Kind::Session, &name, vec![writer]).await;
                if let (Ok(version), 0) = (made, i % 2) {
                    let _raced = records.replace(Kind::Session, &name, version, vec![writer, i]).await;
                }
                if i.is_multiple_of(5) {
                    records.delete(Kind::Session, &name).await.unwrap();
                }
            }
        });
    }
    writing.join_all().await;
    let last = put(&records, "the-last", "").await;
    let mut seen = BTreeMap::new();
    loop {
        match next(&mut watch).await {
            Change::Deleted(name) => drop(seen.remove(&name)),
            Change::Put(record) => {
                let done = record.version == last;
                seen.insert(record.name.clone(), record);
                if done {
                    break;
                }
            }
        }
    }
    let listed = records.list(Kind::Session).await.unwrap();
    let listed: BTreeMap<_, _> = listed.into_iter().map(|record| (record.name.clone(), record)).collect();
    assert!(listed.len() > 50, "{}", listed.len());
    assert_eq!(seen, listed);
}

async fn records_of_any_name_and_of_any_kind_are_told_apart(records: Store) {
    let long = "x".repeat(300);
    // The last is the hash of "A": whoever takes a hashed name for a name must not find that record.
    let hash = "559aead08264d5795d3909718cdd05abd49572e84fe55590eef31a88a08fdffd";
    let names = ["a", "A", "-", "", "a b", "a/b", "a.b", "..", "ä", "session-a", "u5e_r-n4ME", &long, hash];
    let kinds = [Kind::User, Kind::Session, Kind::Use];
    for kind in kinds {
        for name in names {
            let value = format!("{kind:?} {name}").into_bytes();
            records.create(kind, name, value).await.unwrap();
        }
    }
    for kind in kinds {
        let listed: BTreeSet<_> =
            records.list(kind).await.unwrap().into_iter().map(|record| record.name).collect();
        assert_eq!(listed, names.iter().map(|name| (*name).to_owned()).collect());
        for name in names {
            let found = records.get(kind, name).await.unwrap().expect("it is there");
            assert_eq!((found.name.as_str(), found.value), (name, format!("{kind:?} {name}").into_bytes()));
        }
        records.delete(kind, "A").await.unwrap();
        assert_eq!(records.get(kind, "A").await.unwrap(), None);
        assert!(records.get(kind, "a").await.unwrap().is_some());
    }
    assert_eq!(records.list(Kind::Key).await.unwrap(), []);
}

async fn a_value_may_be_any_bytes_and_large(records: Store) {
    let large: Vec<u8> =
        (0..768 << 10).map(|i: u32| i.to_le_bytes()[usize::from(i.is_multiple_of(3))]).collect();
    for (name, value) in [("none", Vec::new()), ("bytes", (0..=255).collect()), ("large", large)] {
        let version = records.create(Kind::Use, name, value.clone()).await.unwrap();
        let found = records.get(Kind::Use, name).await.unwrap().expect("it is there");
        assert!(found.value == value && found.version == version, "{name}");
    }
}

#[tokio::test]
async fn records_are_private_to_their_namespace_and_say_what_right_they_lack() {
    let realm = Realm::new(&Cluster::shared()).await;
    let kubeconfig = realm.account("nobody", &[(&realm.records, json!([]))]).await;
    let metrics = ClientMetrics::new(&prometheus::Registry::new()).unwrap();
    let settings = ClientSettings { kubeconfig: Some(kubeconfig), context: None };
    let records = SecretRecords::new(&Client::new(&settings, metrics).await.unwrap(), &realm.records);
    let error = records.get(Kind::User, "a").await.unwrap_err().to_string();
    for word in ["403", "cannot get resource \"secrets\"", "Role"] {
        assert!(error.contains(word), "{error}");
    }
}

/// The figures of `benches/README.md`.
#[tokio::test]
#[ignore = "takes a minute and much of the machine"]
async fn ten_thousand_sessions_are_held() {
    const SESSIONS: usize = 10_000;
    let realm = Realm::new(&Cluster::shared()).await;
    let records = secrets(&realm).await;
    let begun = Instant::now();
    let made = futures_util::stream::iter(0..SESSIONS).map(|i| {
        let records = &records;
        async move { records.create(Kind::Session, &format!("S{i:042}"), vec![b'x'; 450]).await }
    });
    let made: Vec<_> = made.buffer_unordered(8).collect().await;
    assert!(made.iter().all(Result::is_ok));
    println!("created {SESSIONS} in {:?}", begun.elapsed());
    let (begun, before) = (Instant::now(), resident());
    let mut watch = records.watch(Kind::Session);
    for _ in 0..SESSIONS {
        next(&mut watch).await;
    }
    println!("watch told all in {:?}, holding {} KiB", begun.elapsed(), resident() - before);
    let begun = Instant::now();
    assert_eq!(records.list(Kind::Session).await.unwrap().len(), SESSIONS);
    println!("listed in {:?}", begun.elapsed());
    let begun = Instant::now();
    put(&(Arc::new(records) as Store), "one-more", "").await;
    next(&mut watch).await;
    println!("one more told in {:?}", begun.elapsed());
}

/// Resident memory of this process, in KiB.
fn resident() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_watch_of_a_file_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let records = RedbRecords::open(&folder.path().join("state.redb")).unwrap();
    let mut watch = records.watch(Kind::Session);
    drop(records);
    assert_eq!(watch.next().await, None);
}

async fn what_one_replica_seals_opens_on_all_whoever_came_first(records: Store) {
    let opening = (0..8).map(|_| Keys::open_record(&*records));
    let replicas: Vec<Keys> = join_all(opening).await.into_iter().map(|keys| keys.unwrap()).collect();
    let host = "alice.lab.example.org";
    for one in &replicas {
        let cookie = one.seal(Purpose::WorkspaceSession, host, b"alice's");
        for other in &replicas {
            let opened = other.open(Purpose::WorkspaceSession, host, cookie.as_bytes());
            assert_eq!(opened.as_deref(), Ok(&b"alice's"[..]));
        }
    }
    assert_eq!(records.list(Kind::Key).await.unwrap().len(), 1);
}
