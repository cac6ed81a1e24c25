//! What Usher knows of a real API server, while that is killed, frozen, or refuses.

use control::kubernetes::{
    CallError, Client, ClientMetrics, ClientSettings, Lease, LeaseSettings, Seen, Selection, watch,
};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tests::{Cluster, Part, Realm};
use tokio::sync::watch::Receiver;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// In which the truth is owed after the API's return.
const OWED: Duration = Duration::from_secs(5);

async fn client(kubeconfig: PathBuf) -> Client {
    let metrics = ClientMetrics::new(&prometheus::Registry::new()).expect("a registry of its own");
    let settings = ClientSettings { kubeconfig: Some(kubeconfig), context: None };
    Client::new(&settings, metrics).await.expect("the realm wrote the file")
}

fn object(name: &str, value: &str) -> ConfigMap {
    serde_json::from_value(json!({ "metadata": { "name": name }, "data": { "value": value } }))
        .expect("this is a ConfigMap")
}

/// A watch of ConfigMaps and what it has told.
struct Watched {
    watch: BoxStream<'static, Seen<ConfigMap>>,
    values: BTreeMap<String, String>,
    /// How often the value of an object was told.
    puts: usize,
    sighted: bool,
}

impl Watched {
    fn new(client: &Client, realm: &Realm) -> Self {
        let watch = watch(client, Selection::all(&realm.records));
        Self { watch, values: BTreeMap::new(), puts: 0, sighted: false }
    }

    /// Follows it until this holds.
    async fn until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !holds(self) {
            let left = Duration::from_secs(60).saturating_sub(begun.elapsed());
            let seen = timeout(left, self.watch.next()).await;
            match seen.unwrap_or_else(|_| panic!("waited in vain for {what}")).expect("a watch never ends") {
                Seen::Put(object) | Seen::Listed(object) => {
                    let value = object.data.and_then(|mut data| data.remove("value")).unwrap_or_default();
                    self.values.insert(object.metadata.name.expect("what is told has a name"), value);
                    self.puts += 1;
                }
                Seen::Deleted(name) => drop(self.values.remove(&name)),
                Seen::Synced => self.sighted = true,
                Seen::Blind => self.sighted = false,
            }
        }
    }

    fn has(&self, name: &str, value: &str) -> bool {
        self.values.get(name).is_some_and(|there| there == value)
    }
}

#[tokio::test]
async fn a_watch_outlives_its_eight_seconds_without_a_word_to_its_consumer() {
    let realm = Realm::new(&Cluster::shared()).await;
    let client = client(realm.cluster().admin()).await;
    client.create(&realm.records, &object("a", "1")).await.unwrap();
    let mut watched = Watched::new(&client, &realm);
    watched.until("the list", |watched| watched.sighted).await;
    assert!(watched.has("a", "1"));
    let told = watched.values.len();
    let news = timeout(Duration::from_secs(20), watched.watch.next()).await;
    assert!(news.is_err(), "something was told in silence: {news:?}");
    client.create(&realm.records, &object("b", "2")).await.unwrap();
    watched.until("what changed later", |watched| watched.has("b", "2")).await;
    assert_eq!(watched.values.len(), told + 1);
}

#[tokio::test]
async fn after_a_restart_of_the_api_the_consumer_is_told_what_changed_and_nothing_else() {
    let cluster = Cluster::alone();
    let realm = Realm::new(&cluster).await;
    let client = client(cluster.admin()).await;
    for i in 0..50 {
        client.create(&realm.records, &object(&format!("o{i}"), "1")).await.unwrap();
    }
    let mut watched = Watched::new(&client, &realm);
    watched.until("the list", |watched| watched.sighted).await;
    let puts = watched.puts;
    cluster.kill(Part::ApiServer);
    cluster.start_again(Part::ApiServer);
    let mut returned = None;
    // Whoever writes first after the return is seen by the watch within what is owed.
    let written = async {
        loop {
            match client.create(&realm.records, &object("late", "2")).await {
                Ok(_) => return Instant::now(),
                Err(error) if error.code() == Some(409) => return Instant::now(),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    tokio::join!(
        async { returned = Some(written.await) },
        watched.until("what was written after the restart", |watched| watched.has("late", "2")),
    );
    let late = returned.unwrap().elapsed();
    println!("told {late:?} after the first write was answered");
    assert!(late < OWED, "{late:?}");
    assert_eq!(watched.puts, puts + 1, "only what changed is told");
    assert!(watched.values.len() >= 51, "a list never empties anything");
}

#[tokio::test]
async fn a_frozen_api_makes_calls_fail_within_a_second_and_the_watch_blind_until_it_is_back() {
    let cluster = Cluster::alone();
    let realm = Realm::new(&cluster).await;
    let client = client(cluster.admin()).await;
    client.create(&realm.records, &object("a", "1")).await.unwrap();
    let mut watched = Watched::new(&client, &realm);
    watched.until("the list", |watched| watched.sighted).await;
    cluster.pause(Part::ApiServer);
    let frozen = Instant::now();
    let error = client.create(&realm.records, &object("b", "2")).await.unwrap_err();
    assert!(frozen.elapsed() < Duration::from_secs(1), "{:?}", frozen.elapsed());
    assert!(matches!(error, CallError::Silent { .. }), "{error}");
    watched.until("blindness", |watched| !watched.sighted).await;
    println!("blind after {:?}", frozen.elapsed());
    assert!(frozen.elapsed() < Duration::from_secs(11), "{:?}", frozen.elapsed());
    assert!(watched.has("a", "1"), "blindness forgets nothing");
    cluster.resume(Part::ApiServer);
    let back = Instant::now();
    watched.until("sight", |watched| watched.sighted).await;
    println!("sees again after {:?}", back.elapsed());
    assert!(back.elapsed() < OWED, "{:?}", back.elapsed());
    // The creation that nobody answered may have been carried out: then it is told.
    let there = client.get::<ConfigMap>(&realm.records, "b").await.unwrap().is_some();
    watched.until("the truth", |watched| watched.has("b", "2") == there).await;
}

#[tokio::test]
async fn the_right_to_watch_suffices_and_without_it_the_watch_says_what_lacks() {
    let realm = Realm::new(&Cluster::shared()).await;
    let rules = |verbs: &[&str]| json!([{ "apiGroups": [""], "resources": ["configmaps"], "verbs": verbs }]);
    let writer = client(realm.cluster().admin()).await;
    writer.create(&realm.records, &object("a", "1")).await.unwrap();
    for verbs in [&["watch"][..], &["list", "watch"]] {
        let kubeconfig = realm.account(&verbs.join("-"), &[(&realm.records, rules(verbs))]).await;
        let mut watched = Watched::new(&client(kubeconfig).await, &realm);
        watched.until("the list", |watched| watched.sighted).await;
        assert!(watched.has("a", "1"), "{verbs:?}");
    }
    let kubeconfig = realm.account("lister", &[(&realm.records, rules(&["list"]))]).await;
    let mut watch = watch::<ConfigMap>(&client(kubeconfig).await, Selection::all(&realm.records));
    // The plain list tells what is there; the watch that is refused then makes it blind.
    let told = watch.by_ref().take_while(|seen| std::future::ready(!matches!(seen, Seen::Blind)));
    assert!(timeout(Duration::from_secs(30), told.count()).await.unwrap() >= 2);
}

async fn leads(leads: &mut Receiver<bool>, within: Duration) -> Duration {
    let begun = Instant::now();
    timeout(within, leads.wait_for(|leads| *leads))
        .await
        .expect("it leads in time")
        .expect("the candidate lives");
    begun.elapsed()
}

#[tokio::test]
async fn of_three_who_want_a_lease_one_leads_and_another_follows_it() {
    let realm = Realm::new(&Cluster::shared()).await;
    let verbs = ["get", "create", "update"];
    let rules = json!([{ "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": verbs }]);
    let client = client(realm.account("reaper", &[(&realm.records, rules)]).await).await;
    let mut running = JoinSet::new();
    let mut contenders = Vec::new();
    for replica in ["first", "second", "third"] {
        let settings = LeaseSettings {
            namespace: realm.records.clone(),
            name: "reaper".to_owned(),
            replica: replica.to_owned(),
        };
        let (lease, leads) = Lease::new(&client, settings);
        let shutdown = CancellationToken::new();
        let ended = running.spawn(lease.run(shutdown.clone()));
        contenders.push((leads, shutdown, ended));
    }
    let leader =
        async |contenders: &mut [(Receiver<bool>, CancellationToken, tokio::task::AbortHandle)], within| {
            let waiting = contenders.iter_mut().enumerate().map(|(i, (receiver, ..))| {
                Box::pin(async move {
                    let waited = leads(receiver, within).await;
                    (i, waited)
                })
            });
            futures_util::future::select_all(waiting).await.0
        };
    let (first, _) = leader(&mut contenders, Duration::from_secs(5)).await;
    let holding = contenders.iter().filter(|(leads, ..)| *leads.borrow()).count();
    assert_eq!(holding, 1);
    // One that leaves gives it back.
    let (mut left, shutdown, _) = contenders.remove(first);
    shutdown.cancel();
    timeout(OWED, left.wait_for(|leads| !leads)).await.unwrap().unwrap();
    let (second, waited) = leader(&mut contenders, Duration::from_secs(6)).await;
    println!("followed {waited:?} after the holder left");
    // One that dies does not, and its time has to pass.
    let (_, _, dies) = contenders.remove(second);
    dies.abort();
    let (_, waited) = leader(&mut contenders, Duration::from_secs(25)).await;
    println!("followed {waited:?} after the holder died");
    assert!(waited > Duration::from_secs(10), "{waited:?}");
}
