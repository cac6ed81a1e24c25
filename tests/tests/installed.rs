//! Usher installed in a real cluster by its Helm chart, replaced, and taken away.

use http::Method;
use serde_json::{Value, json};
use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tests::{Client, Closed, Cluster, Image, Kept, Person, Realm, Release, SOON, Socket, wait_for};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn an_installed_usher_ends_in_a_login_and_a_running_workspace() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let release = Release::install(&realm, 1, "").await;
    let alice = Person::before(release.client().await, "alice").log_in().await;
    alice.await_phase("ready").await;
    alice.socket("/ws").await.unwrap().echoes("hello").await;
}

#[tokio::test]
async fn images_are_pulled_by_pods_that_keep_the_restricted_profile() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let mut release = Release::install(&realm, 1, "").await;
    let image = cluster.image(&Image::Busybox);
    release.upgrade("prepull", json!({ "images": [image, image], "pauseImage": image })).await;
    release.pulled().await;
}

/// The objects of the workspaces' namespace, each with what makes it itself.
async fn left(realm: &Realm, kind: &str) -> Vec<(String, String)> {
    let list = realm.cluster().object(&[kind, "--namespace", &realm.workspaces]).await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = list["items"].as_array().expect("a list has items").iter();
    items.map(|item| (text(&item["metadata"]["name"]), text(&item["metadata"]["uid"]))).collect()
}

#[tokio::test]
async fn workspaces_and_files_outlive_the_release_and_the_next_one_finds_them() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let release = Release::install(&realm, 1, "").await;
    let alice = Person::before(release.client().await, "alice").log_in().await;
    alice.await_phase("ready").await;
    let saved = alice.fetch(Method::PUT, "/note").body("mine").send().await;
    assert!(saved.status.is_success(), "{}", saved.text());
    let kinds = ["statefulsets", "pods", "persistentvolumeclaims"];
    let mut before = Vec::new();
    for kind in kinds {
        before.push(left(&realm, kind).await);
    }

    release.uninstall().await;
    for (kind, before) in kinds.into_iter().zip(&before) {
        assert_eq!((left(&realm, kind).await, before.len()), (before.clone(), 1), "{kind}");
    }
    let policies = left(&realm, "networkpolicies").await;
    let policies: Vec<&str> = policies.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(policies, ["usher-deny"], "what runs on stays apart, and nobody is let in");

    let release = Release::install(&realm, 1, "").await;
    let alice = Person::before(release.client().await, "alice").log_in().await;
    alice.await_phase("ready").await;
    assert_eq!(alice.fetch(Method::GET, "/note").send().await.text(), "mine");
    assert_eq!(left(&realm, "pods").await, before[1], "she was moved to another pod");
}

/// How many WebSockets are open while all replicas are replaced.
const SOCKETS: usize = 200;
/// For how long a client may be without its WebSocket.
const BACK: Duration = Duration::from_secs(2);

/// What one WebSocket after the other of one page went through.
struct Life {
    closes: Vec<Closed>,
    /// From each Close to the echo over the next WebSocket.
    gaps: Vec<Duration>,
}

/// Keeps a WebSocket open as a page does, and talks over it, until told to end.
async fn keep_open(person: Rc<Person>, open: Rc<Cell<usize>>, end: CancellationToken) -> Life {
    let mut life = Life { closes: Vec::new(), gaps: Vec::new() };
    let mut socket = person.socket("/clock").await.expect("a WebSocket");
    open.set(open.get() + 1);
    loop {
        tokio::select! {
            () = end.cancelled() => return life,
            closed = socket.closed() => {
                let since = Instant::now();
                life.closes.push(closed);
                socket = again(&person).await;
                life.gaps.push(since.elapsed());
            }
        }
    }
}

/// The next WebSocket, tried for until there is one, as pages do.
async fn again(person: &Person) -> Socket {
    wait_for("a WebSocket in place of the one that was closed", SOON, async || {
        person.socket("/clock").await.ok()
    })
    .await
}

/// Asks over and over, over a connection that is kept or a new one each time; how often, and what was not answered well.
fn keep_asking(person: Rc<Person>, kept: bool, end: CancellationToken) -> JoinHandle<(usize, Vec<String>)> {
    spawn_local(async move {
        let (mut asked, mut failed, mut connection) = (0, Vec::new(), Kept::default());
        while !end.is_cancelled() {
            asked += 1;
            if !kept {
                connection = Kept::default();
            }
            match connection.send(person.fetch(Method::GET, "/note")).await {
                Ok(answer) if answer.status.is_success() => {}
                Ok(answer) => failed.push(format!("{} {}", answer.status, answer.text())),
                Err(error) => failed.push(format!("{error:#}")),
            }
        }
        (asked, failed)
    })
}

async fn tunnels(realm: &Realm, pods: &[String]) -> f64 {
    let mut open = 0.0;
    for pod in pods {
        let object = realm.cluster().object(&["pod", pod, "--namespace", &realm.records]).await;
        let ip = object["status"]["podIP"].as_str().expect("a ready pod has an address").to_owned();
        let admin = Client::at(format!("{ip}:9090").parse().expect("an address"), None);
        let text = admin.get(&ip, "/metrics").send().await.text();
        let line = text.lines().find_map(|line| line.strip_prefix("usher_tunnels_open "));
        open += line.expect("it counts tunnels").parse::<f64>().expect("a number");
    }
    open
}

async fn all_replicas_are_replaced() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let mut release = Release::install(&realm, 2, "").await;
    let old = release.pods().await;
    let alice = Person::before(release.client().await, "alice").log_in().await;
    alice.await_phase("ready").await;
    let alice = Rc::new(alice);

    let (end, open) = (CancellationToken::new(), Rc::new(Cell::new(0)));
    let lives: Vec<_> =
        (0..SOCKETS).map(|_| spawn_local(keep_open(alice.clone(), open.clone(), end.clone()))).collect();
    wait_for("all WebSockets to be open", SOON, async || (open.get() == SOCKETS).then_some(())).await;
    let asking: Vec<_> = [false, true].map(|kept| keep_asking(alice.clone(), kept, end.clone())).into();

    release.upgrade("podAnnotations", json!({ "usher.test/turn": "second" })).await;
    release.rolled_out().await;
    let gone = ["wait", "--for=delete", "--timeout=40s", "--namespace", &realm.records];
    let names: Vec<String> = old.iter().map(|name| format!("pod/{name}")).collect();
    let arguments: Vec<&str> = gone.into_iter().chain(names.iter().map(String::as_str)).collect();
    cluster.kubectl(&arguments).await;
    let new = release.pods().await;
    assert!(new.len() == 2 && new.iter().all(|name| !old.contains(name)), "{new:?} after {old:?}");
    wait_for("all WebSockets to be on the new replicas", SOON, async || {
        (tunnels(&realm, &new).await == SOCKETS as f64).then_some(())
    })
    .await;
    end.cancel();

    let mut gaps = Vec::new();
    for life in lives {
        let life = life.await.expect("a life does not panic");
        assert!(!life.closes.is_empty(), "a WebSocket outlived its replica");
        assert!(life.closes.iter().all(|end| matches!(end, Closed::Frame(1012, _))), "{:?}", life.closes);
        gaps.extend(life.gaps);
    }
    gaps.sort_unstable();
    let (median, longest) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    let mut asked = 0;
    for asking in asking {
        let (count, failed) = asking.await.expect("who asks does not panic");
        assert!(failed.is_empty(), "{} of {count} requests failed: {failed:?}", failed.len());
        asked += count;
    }
    println!(
        "{SOCKETS} WebSockets closed {} times, back after {median:?} (median) to {longest:?}; {asked} requests",
        gaps.len()
    );
    assert!(longest <= BACK, "a WebSocket was away for {longest:?}");
}

#[tokio::test]
async fn an_upgrade_closes_every_websocket_in_good_order_and_fails_no_request() {
    LocalSet::new().run_until(all_replicas_are_replaced()).await;
}
