//! A test's own part of a cluster.

use super::{Cable, Cluster, Image};
use crate::chart::Rendered;
use crate::usher::{DOMAIN, Setup};
use crate::wait::{SOON, wait_for};
use k8s_openapi::api::rbac::v1::Role;
use serde_json::{Value, json};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tempfile::TempDir;

/// Two Kubernetes namespaces that no other test has: one for Usher's records, one for its workspaces.
///
/// Dropped, both are deleted with all that is in them; nobody waits for that.
pub struct Realm {
    cluster: Cluster,
    folder: TempDir,
    /// The namespace of Usher's own records.
    pub records: String,
    /// The namespace of the workspaces.
    pub workspaces: String,
}

impl Realm {
    /// Makes both and waits until pods can be made in them.
    ///
    /// The namespace of the workspaces enforces the restricted profile.
    pub async fn new(cluster: &Cluster) -> Self {
        // Every RandomState has keys of its own: two runs on one cluster do not meet.
        let id = RandomState::new().build_hasher().finish() >> 32;
        let (records, workspaces) = (format!("records-{id:08x}"), format!("workspaces-{id:08x}"));
        let folder = TempDir::new().expect("a temporary folder");
        let realm = Self { cluster: cluster.clone(), folder, records, workspaces };
        let profile = json!({ "pod-security.kubernetes.io/enforce": "restricted" });
        for (name, labels) in [(&realm.records, json!({})), (&realm.workspaces, profile)] {
            let metadata = json!({ "name": name, "labels": labels });
            cluster.apply(&json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata })).await;
        }
        for name in [&realm.records, &realm.workspaces] {
            // The controllers make it, at their leisure.
            wait_for("the namespace's service account", SOON, async || {
                cluster.try_kubectl(&["get", "serviceaccount", "default", "--namespace", name]).await.ok()
            })
            .await;
        }
        realm
    }

    /// The cluster that it is part of.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// An usher on this realm, as its own account: `rest` as for [`Setup::new`], where `[templates.demo]` is the demo in
    /// a pod unless it is given.
    pub async fn setup(&self, rest: &str) -> Setup {
        self.setup_with(&self.roles(), rest).await
    }

    /// As [`Realm::setup`], with other rights.
    pub async fn setup_with(&self, roles: &[(&str, Value)], rest: &str) -> Setup {
        self.setup_in(roles, "", rest).await
    }

    /// As [`Realm::setup`], where workspaces may be in this namespace as well, with the same rights.
    pub async fn setup_among(&self, more: &str, rest: &str) -> Setup {
        let mut roles = self.roles();
        let rules = roles[0].1.clone();
        roles.push((more, rules));
        self.setup_in(&roles, &format!("more_namespaces = [\"{more}\"]\n"), rest).await
    }

    async fn setup_in(&self, roles: &[(&str, Value)], more: &str, rest: &str) -> Setup {
        let account = self.account("usher", roles).await;
        self.setup_as(&account, more, rest)
    }

    /// As [`Realm::setup`], of one for each cable: it reaches the API server by that way alone.
    pub async fn setups_over(&self, cables: &[Cable], rest: &str) -> Vec<Setup> {
        let account = self.account("usher", &self.roles()).await;
        let text = std::fs::read_to_string(account).expect("it was written just now");
        let (start, end) = (text.find("https://"), text.find(", certificate-authority"));
        let (start, end) = start.zip(end).expect("a kubeconfig names the server");
        let setup = |(number, cable): (usize, &Cable)| {
            let file = self.folder.path().join(format!("usher-{number}.kubeconfig"));
            let text = format!("{}{}\"{}", &text[..start], cable.server(), &text[end..]);
            std::fs::write(&file, text).expect("the folder is ours");
            self.setup_as(&file, "", rest)
        };
        cables.iter().enumerate().map(setup).collect()
    }

    fn setup_as(&self, account: &Path, more: &str, rest: &str) -> Setup {
        let demo = if rest.contains("[templates.demo]") { String::new() } else { self.demo("") };
        let Self { records, workspaces, .. } = self;
        let kubernetes = format!(
            "[kubernetes]\nnamespace = \"{workspaces}\"\nrecords_namespace = \"{records}\"\nkubeconfig = \"{}\"\nuse_every = \"1s\"\n{more}",
            account.display()
        );
        Setup::new(&format!("{kubernetes}\n{demo}\n{rest}")).root("driver = \"kubernetes\"\n")
    }

    /// `[templates.demo]`: the demo in a pod, with more keys or others.
    pub fn demo(&self, keys: &str) -> String {
        let image = self.cluster.image(&Image::Usher);
        let all = [
            ("image", format!("\"{image}\"")),
            ("image_pull_policy", "\"Never\"".to_owned()),
            ("command", "[\"usher\", \"demo\", \"--address\", \"0.0.0.0:{port}\"]".to_owned()),
            ("port", "8888".to_owned()),
            ("resources.requests", "{ cpu = \"10m\", memory = \"16Mi\" }".to_owned()),
            ("resources.limits", "{ memory = \"256Mi\" }".to_owned()),
            ("stop_grace", "\"1s\"".to_owned()),
            ("volume", "{ size = \"1Gi\" }".to_owned()),
            // The demo keeps its note where it runs.
            ("working_dir", "\"/home/workspace\"".to_owned()),
        ];
        let given = |key: &str| keys.lines().any(|line| line.trim_start().starts_with(key));
        let others = all.iter().filter(|(key, _)| !given(key));
        let others: String = others.map(|(key, value)| format!("{key} = {value}\n")).collect();
        format!("[templates.demo]\n{others}{keys}\n")
    }

    /// What Usher's account may do: the chart's Roles, and nothing more.
    pub fn roles(&self) -> Vec<(&str, Value)> {
        self.roles_with_routes(&json!([]))
    }

    /// As [`Realm::roles`], where the chart is told of these routes into the namespace of the workspaces.
    pub fn roles_with_routes(&self, routes: &Value) -> Vec<(&str, Value)> {
        let values = json!({
            "image": { "repository": "usher" }, "domain": DOMAIN, "config": "#",
            "workspaces": { "namespaces": [self.workspaces] }, "routes": routes,
        });
        let rendered = Rendered::new(&self.records, &values).expect("the chart takes these values");
        let roles = rendered.all::<Role>();
        let of = |namespace: &str| {
            let there = roles.iter().filter(|role| role.metadata.namespace.as_deref() == Some(namespace));
            let rules: Vec<_> = there.flat_map(|role| role.rules.clone().unwrap_or_default()).collect();
            assert!(!rules.is_empty(), "the namespace {namespace} has a Role");
            serde_json::to_value(rules).expect("rules are JSON")
        };
        [&self.workspaces, &self.records].map(|namespace| (namespace.as_str(), of(namespace))).into()
    }

    /// The kubeconfig of one who may do exactly this: for some namespaces the `rules` of a Role each.
    pub async fn account(&self, name: &str, roles: &[(&str, Value)]) -> PathBuf {
        let account = json!({ "name": name, "namespace": self.records });
        let mut objects = vec![json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": account })];
        let group = "rbac.authorization.k8s.io";
        for (namespace, rules) in roles {
            let metadata = json!({ "name": name, "namespace": namespace });
            let api = format!("{group}/v1");
            objects.push(json!({ "apiVersion": api, "kind": "Role", "metadata": metadata, "rules": rules }));
            objects.push(json!({
                "apiVersion": api, "kind": "RoleBinding", "metadata": metadata,
                "roleRef": { "apiGroup": group, "kind": "Role", "name": name },
                "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": self.records }],
            }));
        }
        self.cluster.apply(&json!({ "apiVersion": "v1", "kind": "List", "items": objects })).await;
        let token = self.cluster.kubectl(&["create", "token", name, "--namespace", &self.records]).await;
        self.kubeconfig(name, token.trim())
    }

    /// The admin's kubeconfig with another's token.
    fn kubeconfig(&self, name: &str, token: &str) -> PathBuf {
        let admin = std::fs::read_to_string(self.cluster.admin()).expect("the cluster wrote it");
        let start = admin.find("token: ").expect("the admin has a token") + "token: ".len();
        let end = start + admin[start..].find('}').expect("the token ends");
        let file = self.folder.path().join(format!("{name}.kubeconfig"));
        std::fs::write(&file, [&admin[..start], token, &admin[end..]].concat()).expect("the folder is ours");
        file
    }

    /// Shows what a failed test left: nobody can look later.
    fn show(&self) {
        for (namespace, kind) in [&self.records, &self.workspaces]
            .into_iter()
            .flat_map(|n| [(n, "pods,services,endpointslices"), (n, "events")])
        {
            let shown = self.run(&["get", kind, "--output=wide", "--namespace", namespace]);
            eprintln!("{kind} in {namespace}:\n{shown}");
        }
    }

    fn run(&self, arguments: &[&str]) -> String {
        let mut command = self.cluster.kubectl_command();
        let output = command.arg("--request-timeout=5s").args(arguments).stdin(Stdio::null()).output();
        output.map_or_else(
            |error| error.to_string(),
            |output| String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    }
}

impl Drop for Realm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show();
        }
        self.run(&["delete", "namespace", "--wait=false", &self.records, &self.workspaces]);
    }
}
