//! Usher installed in a cluster by its Helm chart.

use crate::chart::CHART;
use crate::cluster::{Image, Realm};
use crate::http_client::Client;
use crate::usher::DOMAIN;
use crate::wait::{SOON, wait_for};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::time::timeout;

/// The name of the release, and so of its objects.
const NAME: &str = "usher";
/// The Service's port.
const PORT: u16 = 8080;
/// After so long without an answer a connection is begun anew.
const ANEW: Duration = Duration::from_secs(1);

/// Everybody is whoever they say they are, and works in the demo.
const CONFIG: &str = r#"
[login]
development = true
development_from_anywhere_unsafe = true

[access]
allow = "true"
template = "'demo'"

[limits]
logins_per_address = 1000

[templates.demo]
image = "IMAGE"
image_pull_policy = "Never"
command = ["usher", "demo", "--address", "0.0.0.0:{port}"]
port = 8888
resources = { memory = "128Mi", requests = { cpu = "10m" } }
volume = { size = "1Gi" }
stop_grace = "1s"
# It keeps its note where it is started.
working_dir = "/home/workspace"
"#;

/// Usher as its chart installs it: in the records' namespace of a realm, which then takes restricted pods only.
pub struct Release<'r> {
    realm: &'r Realm,
    values: Value,
}

impl<'r> Release<'r> {
    /// Installs so many replicas and waits until they are ready. `config` comes after what all tests have.
    pub async fn install(realm: &'r Realm, replicas: u8, config: &str) -> Self {
        let image = realm.cluster().image(&Image::Usher);
        let (repository, tag) = image.rsplit_once(':').expect("the image has a tag");
        let values = json!({
            "image": { "repository": repository, "tag": tag, "pullPolicy": "Never" },
            "replicas": replicas,
            "domain": DOMAIN,
            "service": { "port": PORT },
            "drain": { "delay": 5, "after": 0, "spread": 2 },
            "workspaces": { "namespaces": [realm.workspaces] },
            "config": format!("{}{config}", CONFIG.replace("IMAGE", &image)),
        });
        let profile = "pod-security.kubernetes.io/enforce=restricted";
        realm.cluster().kubectl(&["label", "namespace", &realm.records, profile]).await;
        let release = Self { realm, values };
        release.helm(&["install", NAME, CHART, "--values=-"]).await;
        release.rolled_out().await;
        release.is_reached().await;
        release
    }

    /// Waits until the Service leads somewhere: nodes hear of a ready pod a little later. A connection that was begun
    /// before that leads nowhere for ever, since the kernel keeps to the way that it took first.
    async fn is_reached(&self) {
        let client = self.client().await;
        wait_for("the Service to be reached", SOON, async || {
            timeout(ANEW, client.connect(DOMAIN)).await.ok()?.ok()
        })
        .await;
    }

    /// Upgrades it with another value; returns when the cluster has been told.
    pub async fn upgrade(&mut self, key: &str, value: Value) {
        self.values[key] = value;
        self.helm(&["upgrade", NAME, CHART, "--values=-"]).await;
    }

    /// Takes it away; returns when helm has.
    pub async fn uninstall(self) {
        self.helm(&["uninstall", NAME, "--wait"]).await;
    }

    async fn helm(&self, arguments: &[&str]) {
        let namespace = format!("--namespace={}", self.realm.records);
        let arguments = [arguments, &[&namespace]].concat();
        let said = self.realm.cluster().helm(&arguments, &self.values).await;
        said.unwrap_or_else(|said| panic!("helm {arguments:?}: {said}"));
    }

    /// Waits until all of its pods are the newest, and ready.
    pub async fn rolled_out(&self) {
        self.has_rolled_out("deployment/usher").await;
    }

    /// Waits until images were pulled on every node that takes ordinary pods.
    pub async fn pulled(&self) {
        self.has_rolled_out("daemonset/usher-prepull").await;
    }

    async fn has_rolled_out(&self, object: &str) {
        let namespace = format!("--namespace={}", self.realm.records);
        let arguments = ["rollout", "status", object, "--timeout=50s", &namespace];
        if let Err(said) = self.realm.cluster().try_kubectl(&arguments).await {
            panic!("{object} does not become ready: {said}\n{}", self.logs().await);
        }
    }

    /// What its pods have logged, the last of each.
    pub async fn logs(&self) -> String {
        let namespace = format!("--namespace={}", self.realm.records);
        let selector = "--selector=app.kubernetes.io/name=usher";
        let logs = ["logs", selector, "--prefix", "--tail=200", &namespace];
        self.realm.cluster().try_kubectl(&logs).await.unwrap_or_else(|said| said)
    }

    /// The names of its pods that run and are not about to end.
    pub async fn pods(&self) -> Vec<String> {
        let selector = "--selector=app.kubernetes.io/name=usher";
        let list = self.realm.cluster().object(&["pods", selector, "--namespace", &self.realm.records]).await;
        let items = list["items"].as_array().expect("a list has items").iter();
        let live = items.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        live.map(|pod| pod["metadata"]["name"].as_str().expect("pods have names").to_owned()).collect()
    }

    /// What asks its Service.
    pub async fn client(&self) -> Client {
        let arguments = ["service", NAME, "--namespace", &self.realm.records];
        let address = wait_for("the Service's address", SOON, async || {
            let service = self.realm.cluster().object(&arguments).await;
            service["spec"]["clusterIP"].as_str()?.parse::<IpAddr>().ok()
        })
        .await;
        Client::at(SocketAddr::new(address, PORT), None)
    }
}
