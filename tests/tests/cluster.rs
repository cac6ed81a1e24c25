//! The cluster of the tests itself: what the other tests build on.

use http::Method;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tests::{Client, Cluster, Image, Part, Realm, SIMULATED, SOON, STARTED, wait_for};
use tokio::net::TcpStream;

/// A StatefulSet of none, as the restricted profile wants it, of a container and its volume.
fn stateful_set(name: &str, container: &Value) -> Value {
    let labels = json!({ "app": name });
    let claim =
        json!({ "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } });
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": { "name": name },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": {
                    "automountServiceAccountToken": false,
                    "terminationGracePeriodSeconds": 1,
                    "securityContext": {
                        "runAsNonRoot": true, "runAsUser": 1000, "fsGroup": 1000,
                        "seccompProfile": { "type": "RuntimeDefault" },
                    },
                    "containers": [container],
                },
            },
            "volumeClaimTemplates": [{ "metadata": { "name": "home" }, "spec": claim }],
        },
    })
}

fn container(image: &str, command: &[&str]) -> Value {
    json!({
        "name": "main", "image": image, "imagePullPolicy": "Never", "command": command,
        "workingDir": "/home/usher", "volumeMounts": [{ "name": "home", "mountPath": "/home/usher" }],
        "env": [{ "name": "HOME", "value": "/home/usher" }],
        "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
    })
}

/// One whose pod only seems to run.
fn simulated(name: &str) -> Value {
    let mut container = container("nowhere/nothing:1", &["nothing"]);
    container["imagePullPolicy"] = json!("Always");
    let mut set = stateful_set(name, &container);
    set["spec"]["template"]["spec"]["nodeSelector"] = json!({ SIMULATED: "true" });
    set["spec"]["template"]["spec"]["tolerations"] = json!([{ "key": SIMULATED, "operator": "Exists" }]);
    set
}

async fn create(realm: &Realm, mut object: Value) {
    object["metadata"]["namespace"] = json!(realm.workspaces);
    realm.cluster().apply(&object).await;
}

async fn scale(realm: &Realm, name: &str, replicas: usize) {
    let set = format!("statefulset/{name}");
    let replicas = format!("--replicas={replicas}");
    realm.cluster().kubectl(&["scale", "--namespace", &realm.workspaces, &set, &replicas]).await;
}

/// The address of a pod, as soon as it has one.
async fn address(realm: &Realm, pod: &str, port: u16) -> SocketAddr {
    let arguments =
        ["get", "pod", pod, "--namespace", &realm.workspaces, "--output=jsonpath={.status.podIP}"];
    wait_for("the pod's address", STARTED, async || {
        let ip = realm.cluster().try_kubectl(&arguments).await.ok()?;
        Some(SocketAddr::new(ip.parse().ok()?, port))
    })
    .await
}

async fn accepts(address: SocketAddr) {
    wait_for("the pod's port to accept", STARTED, async || {
        let connected = tokio::time::timeout(Duration::from_millis(250), TcpStream::connect(address)).await;
        connected.ok()?.ok()
    })
    .await;
}

#[tokio::test]
async fn a_stateful_set_of_the_demo_serves_from_its_pod_and_keeps_its_volume() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let image = cluster.image(&Image::Usher);
    let command = ["usher", "demo", "--address", "0.0.0.0:8888"];
    create(&realm, stateful_set("alice", &container(&image, &command))).await;

    scale(&realm, "alice", 1).await;
    let client = Client::at(address(&realm, "alice-0", 8888).await, None);
    accepts(client.address).await;
    let saved = client.ask(Method::PUT, "alice.localhost", "/note").body("kept").send().await;
    assert!(saved.status.is_success(), "{} {}", saved.status, saved.text());

    scale(&realm, "alice", 0).await;
    let gone = ["wait", "--for=delete", "pod/alice-0", "--timeout=30s", "--namespace", &realm.workspaces];
    cluster.kubectl(&gone).await;
    scale(&realm, "alice", 1).await;
    let client = Client::at(address(&realm, "alice-0", 8888).await, None);
    accepts(client.address).await;
    assert_eq!(client.get("alice.localhost", "/note").send().await.text(), "kept");
}

#[tokio::test]
async fn jupyterlab_answers_from_its_pod() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let image = cluster.image(&Image::JupyterLab);
    let command =
        ["jupyter", "lab", "--no-browser", "--ip=0.0.0.0", "--port=8888", "--IdentityProvider.token="];
    create(&realm, stateful_set("alice", &container(&image, &command))).await;
    scale(&realm, "alice", 1).await;
    let client = Client::at(address(&realm, "alice-0", 8888).await, None);
    accepts(client.address).await;
    let answer = client.get("localhost", "/api").send().await;
    assert!(answer.json()["version"].is_string(), "{}", answer.text());
}

#[tokio::test]
async fn a_simulated_pod_runs_and_whoever_listens_answers_for_it() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    create(&realm, simulated("bob")).await;
    scale(&realm, "bob", 1).await;

    let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
    let address = address(&realm, "bob-0", listener.local_addr().unwrap().port()).await;
    let (accepted, connected) = tokio::join!(listener.accept(), TcpStream::connect(address));
    assert_eq!(accepted.unwrap().0.local_addr().unwrap(), connected.unwrap().peer_addr().unwrap());
}

#[tokio::test]
async fn an_account_may_do_what_its_role_says_and_nothing_more() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let rules = json!([{ "apiGroups": [""], "resources": ["pods"], "verbs": ["list"] }]);
    let account = realm.account("reader", &[(&realm.workspaces, rules)]).await;
    let may = async |verb: &str, resource: &str, namespace: &str| {
        let kubeconfig = format!("--kubeconfig={}", account.display());
        let arguments = [&kubeconfig, "auth", "can-i", verb, resource, "--namespace", namespace];
        cluster.try_kubectl(&arguments).await.is_ok()
    };
    wait_for("the role to be known", SOON, async || {
        may("list", "pods", &realm.workspaces).await.then_some(())
    })
    .await;
    assert!(!may("delete", "pods", &realm.workspaces).await);
    assert!(!may("list", "secrets", &realm.workspaces).await);
    assert!(!may("list", "pods", &realm.records).await);
}

#[tokio::test]
async fn a_paused_or_killed_api_server_comes_back_and_two_clusters_do_not_meet() {
    let other = Cluster::alone();
    let cluster = Cluster::alone();
    let realm = Realm::new(&cluster).await;
    let answers = async |cluster: &Cluster| {
        cluster.try_kubectl(&["get", "--raw=/livez", "--request-timeout=2s"]).await.is_ok()
    };
    let lives = async |cluster: &Cluster, what: &str| {
        wait_for(what, SOON, async || answers(cluster).await.then_some(())).await;
    };

    cluster.pause(Part::ApiServer);
    assert!(!answers(&cluster).await, "a paused API server answered");
    lives(&other, "the other cluster, which was not paused").await;
    cluster.resume(Part::ApiServer);
    cluster.api_is_ready().await;

    cluster.kill(Part::ApiServer);
    assert!(!answers(&cluster).await, "a killed API server answered");
    lives(&other, "the other cluster, which was not killed").await;
    cluster.start_again(Part::ApiServer);
    cluster.api_is_ready().await;
    // Whoever was started again can be paused and killed like the first.
    cluster.pause(Part::ApiServer);
    cluster.resume(Part::ApiServer);
    cluster.kill(Part::ApiServer);
    cluster.start_again(Part::ApiServer);
    cluster.api_is_ready().await;

    let namespaces = async |cluster: &Cluster| cluster.kubectl(&["get", "namespaces", "--output=name"]).await;
    assert!(namespaces(&cluster).await.contains(&realm.workspaces));
    assert!(!namespaces(&other).await.contains(&realm.workspaces));
    let folder = other.folder().to_owned();
    drop(other);
    assert!(!folder.exists(), "a cluster left its folder behind");
    lives(&cluster, "a cluster, once another has ended").await;
}

#[tokio::test]
async fn a_scheduler_that_fails_by_itself_runs_again_and_places_what_came_meanwhile() {
    let cluster = Cluster::alone();
    let realm = Realm::new(&cluster).await;
    create(&realm, simulated("bob")).await;
    cluster.crash(Part::Scheduler);
    scale(&realm, "bob", 1).await;
    address(&realm, "bob-0", 80).await;
}
