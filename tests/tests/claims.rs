//! Who gets a warm workspace when several ask at once: drivers of three Ushers on one real API, pods simulated.

use config::{Config, WorkspaceId};
use control::kubernetes::{Client, ClientMetrics, ClientSettings, WarmMetrics};
use control::{
    Action, Driver, Grant, Identity, KubernetesDriver, KubernetesSettings, SecretRecords, StartSpec,
};
use futures_util::future::join_all;
use prometheus::Registry;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use tests::{Cluster, Realm, SIMULATED, STARTED, wait_for};
use tokio::sync::watch::Sender;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// One Usher's driver, which ends with it.
struct Replica {
    driver: Arc<KubernetesDriver>,
    config: Sender<Arc<Config>>,
    _running: JoinHandle<()>,
    _ends: DropGuard,
}

/// Keeps so many warm ones, on nodes that only say that their pods run.
fn config(realm: &Realm, ready: usize) -> Arc<Config> {
    let text = format!(
        "domain = \"lab.example.org\"\ndriver = \"kubernetes\"\nlisteners = [{{ address = \"127.0.0.1:8080\" }}]\n\
         access = {{ allow = \"true\", template = \"'t'\" }}\n\
         kubernetes = {{ namespace = \"{}\", records_namespace = \"{}\", kubeconfig = \"-\" }}\n\
         [templates.t]\nimage = \"nowhere/nothing:1\"\nport = 8888\nvolume = \"none\"\nwarm.ready = {ready}\n\
         resources = {{ memory = \"1Mi\", cpu = \"1m\" }}\nnode_selector = {{ \"{SIMULATED}\" = \"true\" }}\n\
         tolerations = [{{ key = \"{SIMULATED}\", operator = \"Exists\" }}]\n",
        realm.workspaces, realm.records
    );
    Arc::new(Config::parse("test", &text, &|_| None).unwrap_or_else(|error| panic!("{error}")))
}

async fn replica(realm: &Realm, name: &str, ready: usize) -> Replica {
    let kubeconfig = realm.account("usher", &realm.roles()).await;
    let registry = Registry::new();
    let settings = ClientSettings { kubeconfig: Some(kubeconfig), context: None };
    let metrics = ClientMetrics::new(&registry).expect("a registry of its own");
    let client = Client::new(&settings, metrics).await.expect("the realm wrote the file");
    let read = config(realm, ready);
    let config::Driver::Kubernetes(kubernetes) = read.driver.clone() else { panic!("another driver") };
    let (config, followed) = tokio::sync::watch::channel(read);
    let settings = KubernetesSettings {
        kubernetes,
        records_namespace: realm.records.clone(),
        records: Arc::new(SecretRecords::new(&client, &realm.records)),
        replica: name.to_owned(),
        config: followed,
        warm: WarmMetrics::new(&registry).expect("and of nobody else"),
    };
    let shutdown = CancellationToken::new();
    let (driver, running) = KubernetesDriver::begin(&client, settings, shutdown.clone());
    Replica { driver, config, _running: running, _ends: shutdown.drop_guard() }
}

impl Replica {
    async fn start(&self, name: &str) {
        let spec = StartSpec {
            id: WorkspaceId::parse(name).expect("a test's name is a label"),
            owner: Identity { issuer: "https://id.example.org".to_owned(), subject: name.to_owned() },
            template: self.config.borrow().templates.values().next().expect("there is one").clone(),
            host: format!("{name}.lab.example.org"),
            grant: Grant::default(),
        };
        // As the control loop does: what was not answered in time is asked for again.
        wait_for(&format!("{name} to be started"), STARTED, async || {
            self.driver.act(Action::Want(spec.clone())).await.ok()?;
            self.driver.act(Action::Start(spec.clone())).await.ok()
        })
        .await;
    }
}

async fn sets(realm: &Realm) -> BTreeMap<String, Value> {
    let list = realm.cluster().object(&["statefulsets", "--namespace", &realm.workspaces]).await;
    let items = list["items"].as_array().cloned().unwrap_or_default();
    let named = |set: Value| (set["metadata"]["name"].as_str().unwrap_or_default().to_owned(), set);
    items.into_iter().map(named).collect()
}

/// So many warm ones that are ready and nobody's.
async fn await_free(realm: &Realm, count: usize) {
    wait_for(&format!("{count} free warm workspaces"), STARTED, async || {
        let free = sets(realm).await.into_values().filter(|set| {
            let meta = &set["metadata"];
            meta["labels"]["usher.dev/warm"].is_string()
                && meta["annotations"]["usher.dev/claimed-by"].is_null()
                && set["status"]["readyReplicas"] == 1
        });
        (free.count() == count).then_some(())
    })
    .await;
}

/// The warm set in which each workspace runs, as both say; those that run in their own have none.
///
/// Waits until no set says that it is of somebody who does not name it: a claim that came too late is taken back.
async fn claims(realm: &Realm, names: &[String]) -> BTreeMap<String, Option<String>> {
    wait_for("both sides of all claims to say the same", 2 * STARTED, async || {
        let sets = sets(realm).await;
        let claim = |name: &String| {
            let claims = sets[name]["metadata"]["annotations"]["usher.dev/claims"].as_str();
            (name.clone(), claims.map(str::to_owned))
        };
        let claims: BTreeMap<_, _> = names.iter().map(claim).collect();
        let claimed = sets.iter().filter_map(|(name, set)| {
            let by = set["metadata"]["annotations"]["usher.dev/claimed-by"].as_str()?;
            let by: Value = serde_json::from_str(by).expect("Usher wrote it");
            let workspace = by["workspace"].as_str()?.to_owned();
            assert_eq!(by["uid"], sets[&workspace]["metadata"]["uid"], "{workspace}");
            Some((workspace, name.clone()))
        });
        // Of one who has two, one is not named.
        let claimed: Vec<_> = claimed.collect();
        let all = claimed.iter().all(|(workspace, set)| claims[workspace].as_ref() == Some(set));
        let both = all && claimed.len() == claims.values().flatten().count();
        let once =
            names.iter().all(|name| sets[name]["spec"]["replicas"] == i32::from(claims[name].is_none()));
        (both && once).then_some(claims)
    })
    .await
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("user{n}")).collect()
}

#[tokio::test]
async fn of_eight_who_want_the_last_warm_one_over_three_ushers_one_gets_it() {
    let cluster = Cluster::shared();
    cluster.simulated_nodes(2);
    let realm = Realm::new(&cluster).await;
    let names = names(8);
    let replicas =
        [replica(&realm, "a", 1).await, replica(&realm, "b", 1).await, replica(&realm, "c", 1).await];
    await_free(&realm, 1).await;
    let first = sets(&realm).await.into_keys().next().unwrap();
    join_all(names.iter().enumerate().map(|(n, name)| replicas[n % 3].start(name))).await;
    let claims = claims(&realm, &names).await;
    let who: Vec<_> = claims.iter().filter(|(_, claim)| claim.as_ref() == Some(&first)).collect();
    assert_eq!(who.len(), 1, "{claims:?}");
}

#[tokio::test]
async fn one_user_whom_three_ushers_start_at_once_gets_one_warm_one() {
    let cluster = Cluster::shared();
    cluster.simulated_nodes(2);
    let realm = Realm::new(&cluster).await;
    let names = names(6);
    let replicas =
        [replica(&realm, "a", 8).await, replica(&realm, "b", 8).await, replica(&realm, "c", 8).await];
    await_free(&realm, 8).await;
    let all = names.iter().flat_map(|name| replicas.iter().map(move |replica| replica.start(name)));
    join_all(all).await;
    let claims = claims(&realm, &names).await;
    assert!(claims.values().any(Option::is_some), "nobody took one: {claims:?}");
}

#[tokio::test]
async fn thirty_warm_ones_are_kept_and_none_is_left_when_nobody_asks_for_any() {
    let cluster = Cluster::shared();
    cluster.simulated_nodes(2);
    let realm = Realm::new(&cluster).await;
    let replica = replica(&realm, "a", 30).await;
    await_free(&realm, 30).await;
    let names = names(10);
    join_all(names.iter().map(|name| replica.start(name))).await;
    await_free(&realm, 30).await;
    let before = claims(&realm, &names).await;
    replica.config.send(config(&realm, 0)).unwrap();
    await_free(&realm, 0).await;
    assert_eq!(claims(&realm, &names).await, before, "users keep theirs");
    assert_eq!(sets(&realm).await.len(), names.len() + before.values().flatten().count());
}
