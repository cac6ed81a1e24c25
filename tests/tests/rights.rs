//! What Usher may do in a cluster: each verb of the chart's Roles is used, and without it fails what is said here.
//!
//! With streaming lists and with plain ones, which need other verbs. Whoever adds a verb to the Roles adds its line.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tests::{Cluster, DOMAIN, Person, Realm, Usher, html};

/// What an Usher does in the cluster, in the order in which it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// It reads its records and the namespace of the workspaces, and says that it is ready.
    Begin,
    /// A person logs in: a user, a label, a session, a ticket.
    LogIn,
    /// A workspace is made, and started.
    Start,
    /// What stands only in Events is told: a volume that cannot be mounted.
    TellEvents,
    /// What stands only in the Events of a claim is told: its class is unknown.
    TellClaims,
    /// Its use of workspaces is written down, again and again.
    TellUse,
    /// "Try again" has the stuck pod made anew.
    TryAgain,
    /// A workspace is stopped.
    Stop,
    /// A session is ended.
    LogOut,
    /// A workspace is deleted with its files.
    Delete,
    /// It takes the lease by which one of several stops what is idle.
    Lead,
}

const ALL: [Does; 11] = [
    Does::Begin,
    Does::LogIn,
    Does::Start,
    Does::TellEvents,
    Does::TellClaims,
    Does::TellUse,
    Does::TryAgain,
    Does::Stop,
    Does::LogOut,
    Does::Delete,
    Does::Lead,
];

/// A verb on a resource, and what fails first without it: with streaming lists and with plain ones.
type Right = (&'static str, &'static str, Option<Does>, Option<Does>);

const RIGHTS: [Right; 22] = [
    ("secrets", "get", None, None),
    ("secrets", "list", None, None),
    ("secrets", "watch", None, None),
    ("secrets", "create", None, None),
    ("secrets", "patch", None, None),
    ("secrets", "delete", None, None),
    ("leases", "get", None, None),
    ("leases", "create", None, None),
    ("leases", "update", None, None),
    ("statefulsets", "list", None, None),
    ("statefulsets", "watch", None, None),
    ("statefulsets", "create", None, None),
    ("statefulsets", "patch", None, None),
    ("statefulsets", "delete", None, None),
    ("pods", "list", None, None),
    ("pods", "watch", None, None),
    ("pods", "delete", None, None),
    ("persistentvolumeclaims", "list", None, None),
    ("persistentvolumeclaims", "watch", None, None),
    ("persistentvolumeclaims", "delete", None, None),
    ("events", "list", None, None),
    ("events", "watch", None, None),
];

/// How long a thing may take that nothing hinders.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long it is looked at after a call was refused, before it counts as failed.
const REFUSED: Duration = Duration::from_secs(3);
const EVERY: Duration = Duration::from_millis(100);

/// The Roles without a verb.
fn without<'r>(realm: &'r Realm, resource: &str, verb: &str) -> Vec<(&'r str, Value)> {
    let mut roles = realm.roles();
    let mut taken = 0;
    for rule in roles.iter_mut().flat_map(|(_, rules)| rules.as_array_mut().expect("rules are a list")) {
        if rule["resources"] == json!([resource]) {
            let verbs = rule["verbs"].as_array_mut().expect("verbs are a list");
            let before = verbs.len();
            verbs.retain(|other| other != verb);
            taken += before - verbs.len();
        }
    }
    assert_eq!(taken, 1, "the Roles do not have {verb} on {resource} once");
    roles
}

/// Somebody for each template, which is chosen by the name.
fn templates(realm: &Realm) -> String {
    let named =
        |name: &str, keys: &str| realm.demo(keys).replace("[templates.demo]", &format!("[templates.{name}]"));
    [
        "[access]\nallow = \"true\"\ntemplate = \"user.name\"\n".to_owned(),
        named("alice", ""),
        named("stuck", "mounts = [{ path = \"/nope\", secret = \"nope\" }]\nvolume = \"none\""),
        named("classless", "volume = { size = \"1Gi\", class = \"nowhere\" }"),
        realm.demo(""),
    ]
    .join("\n")
}

/// One Usher that lacks a verb, and what it is asked to do.
struct Trial<'r> {
    realm: &'r Realm,
    usher: Usher,
    refused: String,
    people: Vec<Person>,
    before: Option<String>,
}

impl Trial<'_> {
    async fn refusals(&self) -> f64 {
        self.usher.metric(&self.refused).await.unwrap_or_default()
    }

    /// What kubectl says of an object; empty = there is none.
    async fn shown(&self, namespace: &str, arguments: &[&str]) -> String {
        let arguments = [&["get", "--namespace", namespace], arguments].concat();
        self.realm.cluster().try_kubectl(&arguments).await.unwrap_or_default()
    }

    async fn status(&self, who: usize) -> Value {
        let Some(person) = self.people.get(who) else { return Value::Null };
        let answer = person.fetch(Method::GET, "/.usher/status").send().await;
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// Tries once; whether it is done.
    async fn attempt(&mut self, what: Does) -> bool {
        let workspaces = &self.realm.workspaces;
        match what {
            Does::Begin => self.usher.admin("/readyz").send().await.status == StatusCode::OK,
            Does::LogIn => self.log_in().await,
            Does::Start => self.status(0).await["phase"] == "ready",
            Does::TellEvents => self.status(1).await["cause"].to_string().contains("nope"),
            Does::TellClaims => self.status(2).await["cause"].to_string().contains("nowhere"),
            Does::TellUse => {
                let types = "--field-selector=type=usher.dev/use";
                let versions = "--output=jsonpath={.items[*].metadata.resourceVersion}";
                let now = self.shown(&self.realm.records, &["secrets", types, versions]).await;
                let before = self.before.get_or_insert_with(|| now.clone());
                !now.is_empty() && *before != now
            }
            Does::TryAgain => {
                let now = self.shown(workspaces, &["pod/stuck-0", "--output=jsonpath={.metadata.uid}"]).await;
                if self.before.is_none() && !now.is_empty() {
                    self.people[1].press("start").await;
                }
                let before = self.before.get_or_insert_with(|| now.clone());
                !now.is_empty() && *before != now
            }
            Does::Stop => {
                self.people[0].press("stop").await;
                self.status(0).await["phase"] == "stopped"
            }
            Does::LogOut => self.log_out().await,
            Does::Delete => {
                let (done, _) = self.usher.command(&["delete", "alice", "--with-volume"]);
                done && self
                    .shown(workspaces, &["statefulset/alice", "persistentvolumeclaim/home-alice-0"])
                    .await
                    .is_empty()
            }
            Does::Lead => self.usher.metric("usher_kubernetes_leads").await == Some(1.0),
        }
    }

    async fn log_in(&mut self) -> bool {
        self.people.clear();
        for name in ["alice", "stuck", "classless"] {
            let mut person = Person::new(&self.usher, name);
            let (url, _) = person.visit("/").await;
            if url.host_str() != Some(&person.host()) {
                return false;
            }
            self.people.push(person);
        }
        true
    }

    /// A device of bob's is logged out.
    async fn log_out(&self) -> bool {
        let mut bob = Person::new(&self.usher, "classless");
        let client = self.usher.client();
        bob.visit("/").await;
        let asked = bob.with_cookies(client.get(DOMAIN, "/logout"), DOMAIN).navigate("none").send().await;
        let Some(form) = html::form(&asked.text()) else { return false };
        let post = client.post(DOMAIN, "/logout").with("origin", &client.origin(DOMAIN)).form(&form.hidden);
        let answer = bob.with_cookies(post, DOMAIN).navigate("same-origin").send().await;
        answer.status.is_redirection()
    }

    /// Whether it does so, before or in spite of a refusal.
    async fn does(&mut self, what: Does) -> bool {
        let begun = Instant::now();
        let mut refused: Option<Instant> = None;
        self.before = None;
        loop {
            if self.attempt(what).await {
                return true;
            }
            if refused.is_none() && self.refusals().await > 0.0 {
                refused = Some(Instant::now());
            }
            if refused.is_some_and(|since| since.elapsed() > REFUSED) {
                return false;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{what:?} is not done, though nothing was refused:\n{}",
                self.usher.logs.all()
            );
            tokio::time::sleep(EVERY).await;
        }
    }
}

/// What fails first without a verb; none = nothing does.
async fn fails_without(cluster: &Cluster, resource: &str, verb: &str) -> Option<Does> {
    let realm = Realm::new(cluster).await;
    if (resource, verb) == ("leases", "update") {
        let metadata = json!({ "name": "usher-reaper", "namespace": realm.records });
        let lease = json!({ "apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {} });
        cluster.apply(&lease).await;
    }
    let setup = realm.setup_with(&without(&realm, resource, verb), &templates(&realm)).await;
    let usher = match setup.try_start().await {
        Ok(usher) => usher,
        Err(said) => {
            assert!(said.contains("403") || said.contains("forbidden"), "{resource} {verb}: {said}");
            return Some(Does::Begin);
        }
    };
    let refused = format!(
        "usher_kubernetes_requests_total{{resource=\"{resource}\",result=\"refused\",verb=\"{verb}\"}}"
    );
    let mut trial = Trial { realm: &realm, usher, refused, people: Vec::new(), before: None };
    for what in ALL {
        if !trial.does(what).await {
            return Some(what);
        }
    }
    None
}

#[tokio::test]
async fn explore() {
    let cluster = Cluster::shared();
    for (resource, verb, ..) in RIGHTS {
        let begun = Instant::now();
        let failed = fails_without(&cluster, resource, verb).await;
        eprintln!("{resource} {verb}: {failed:?} {:?}", begun.elapsed());
    }
}
