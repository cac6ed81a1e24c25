//! What Usher may do in a cluster: each verb of the chart's Roles is used, and without it fails what is said here.
//!
//! With streaming lists and with plain ones, which need other verbs. Whoever adds a verb to the Roles adds its line.
//! A few verbs are tried each time, drawn by lot; all of them in `make soak`.

use futures_util::stream::{self, StreamExt};
use http::{Method, StatusCode};
use k8s_openapi::api::rbac::v1::Role;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tests::{Cluster, DOMAIN, Person, Realm, Rendered, Usher, chance, html};

/// What an Usher does in the cluster, in the order in which it is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// It reads its records and the namespace of the workspaces, and says that it is ready.
    Begin,
    /// A person logs in: a user, a label, a session, a ticket.
    LogIn,
    /// A session is ended.
    LogOut,
    /// It takes the lease by which one of several stops what is idle.
    Lead,
    /// Its use of workspaces is written down, again and again.
    TellUse,
    /// It is sure of what it knows: no watch goes blind, to begin anew with a list.
    Know,
    /// A workspace is made, and started.
    Start,
    /// A warm workspace is given to somebody, and its pod and its files are told whose they are.
    Claim,
    /// What stands only in Events is told: a volume that cannot be mounted.
    TellEvents,
    /// What stands only in the Events of a claim is told: its class is unknown.
    TellClaims,
    /// "Try again" has the stuck pod made anew.
    TryAgain,
    /// A workspace is stopped.
    Stop,
    /// A workspace is deleted with its files.
    Delete,
}

const ALL: [Does; 13] = [
    Does::Begin,
    Does::LogIn,
    Does::LogOut,
    Does::Lead,
    Does::TellUse,
    Does::Know,
    Does::Start,
    Does::Claim,
    Does::TellEvents,
    Does::TellClaims,
    Does::TryAgain,
    Does::Stop,
    Does::Delete,
];

/// A verb on a resource, and what fails first without it: with streaming lists and with plain ones.
type Right = (&'static str, &'static str, Option<Does>, Option<Does>);

const RIGHTS: [Right; 24] = [
    ("secrets", "get", Some(Does::Begin), Some(Does::Begin)),
    ("secrets", "list", Some(Does::Begin), Some(Does::Begin)),
    ("secrets", "watch", Some(Does::LogIn), Some(Does::LogIn)),
    ("secrets", "create", Some(Does::Begin), Some(Does::Begin)),
    ("secrets", "patch", Some(Does::TellUse), Some(Does::TellUse)),
    ("secrets", "delete", Some(Does::LogOut), Some(Does::LogOut)),
    ("leases", "get", Some(Does::Lead), Some(Does::Lead)),
    ("leases", "create", Some(Does::Lead), Some(Does::Lead)),
    ("leases", "update", Some(Does::Lead), Some(Does::Lead)),
    ("statefulsets", "list", None, Some(Does::Begin)),
    ("statefulsets", "watch", Some(Does::Know), Some(Does::Know)),
    ("statefulsets", "create", Some(Does::Start), Some(Does::Start)),
    ("statefulsets", "patch", Some(Does::Start), Some(Does::Start)),
    ("statefulsets", "delete", Some(Does::Delete), Some(Does::Delete)),
    ("pods", "list", None, Some(Does::Begin)),
    ("pods", "watch", Some(Does::Know), Some(Does::Know)),
    ("pods", "patch", Some(Does::Claim), Some(Does::Claim)),
    ("pods", "delete", Some(Does::TryAgain), Some(Does::TryAgain)),
    ("persistentvolumeclaims", "list", Some(Does::Start), Some(Does::Know)),
    ("persistentvolumeclaims", "watch", Some(Does::Know), Some(Does::Know)),
    ("persistentvolumeclaims", "patch", Some(Does::Claim), Some(Does::Claim)),
    ("persistentvolumeclaims", "delete", Some(Does::Delete), Some(Does::Delete)),
    ("events", "list", None, Some(Does::Know)),
    ("events", "watch", Some(Does::Know), Some(Does::Know)),
];

/// How long a thing may take that nothing hinders.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long it is looked at after a call was refused, before it counts as failed.
const REFUSED: Duration = Duration::from_secs(3);
/// So long nothing is heard, and a watch is blind: 10 s, and a little more.
const SURE: Duration = Duration::from_secs(13);
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
    for (_, rules) in &mut roles {
        // A rule of no verb is refused.
        rules.as_array_mut().expect("rules are a list").retain(|rule| rule["verbs"] != json!([]));
    }
    assert_eq!(taken, 1, "the Roles do not have {verb} on {resource} once");
    roles
}

/// What has warm workspaces while it is tried. Not StatefulSets: who keeps warm ones asks for all verbs on them from the
/// beginning on, and what is refused then would be taken for what fails first.
const WITH_WARM: [&str; 2] = ["pods", "persistentvolumeclaims"];

/// Somebody for each template, which is chosen by the name.
fn templates(realm: &Realm, warm: bool) -> String {
    let named =
        |name: &str, keys: &str| realm.demo(keys).replace("[templates.demo]", &format!("[templates.{name}]"));
    [
        "[access]\nallow = \"true\"\ntemplate = \"user.name\"\n".to_owned(),
        named("alice", ""),
        named("stuck", "mounts = [{ path = \"/nope\", secret = \"nope\" }]\nvolume = \"none\""),
        named("classless", "volume = { size = \"1Gi\", class = \"nowhere\" }"),
        named("warm", &format!("warm.ready = {}", u8::from(warm))),
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
    /// What was seen before the thing was done.
    before: Option<String>,
    /// Since when the thing is tried.
    begun: Instant,
    /// Since when no watch has begun anew.
    still: Instant,
}

impl Trial<'_> {
    async fn refusals(&self) -> f64 {
        self.usher.metric(&self.refused).await.unwrap_or_default()
    }

    /// How often which watch has begun with a list.
    async fn lists(&self) -> String {
        let text = self.usher.admin("/metrics").send().await.text();
        let lines = text.lines().filter(|line| line.starts_with("usher_kubernetes_lists_total{"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// What kubectl says of an object; empty = there is none.
    async fn shown(&self, namespace: &str, arguments: &[&str]) -> String {
        let arguments = [&["get", "--ignore-not-found", "--namespace", namespace], arguments].concat();
        self.realm.cluster().kubectl(&arguments).await
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
            Does::Claim => self.claim().await,
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
                if now.is_empty() {
                    return false;
                }
                if self.before.is_none() {
                    self.people[1].try_again().await;
                }
                *self.before.get_or_insert_with(|| now.clone()) != now
            }
            Does::Stop => {
                self.people[0].press("stop").await;
                self.status(0).await["phase"] == "stopped"
            }
            Does::LogOut => self.log_out().await,
            Does::Delete => {
                // It is taken on, and done when there is time.
                if self.before.is_none() {
                    self.before = Some(self.usher.command(&["delete", "alice", "--with-volume"]).1);
                }
                let left = ["statefulset/alice", "persistentvolumeclaim/home-alice-0"];
                self.shown(workspaces, &left).await.is_empty()
            }
            Does::Know => {
                let lists = self.lists().await;
                if self.before.as_ref() == Some(&lists) {
                    return self.still.elapsed() > SURE;
                }
                // A machine that was too busy to listen began anew, too.
                if self.before.is_none() || self.refusals().await == 0.0 {
                    (self.before, self.still) = (Some(lists), Instant::now());
                }
                false
            }
            Does::Lead => self.usher.metric("usher_kubernetes_leads").await == Some(1.0),
        }
    }

    async fn claim(&mut self) -> bool {
        if self.before.is_none() {
            let ready = "usher_warm_workspaces{state=\"ready\",template=\"warm\"}";
            if self.usher.metric(ready).await.unwrap_or_default() == 0.0 {
                return false;
            }
            Person::new(&self.usher, "warm").visit("/").await;
            self.before = Some(String::new());
        }
        let hosts = "--output=jsonpath={.items[*].metadata.annotations.usher\\.dev/host}";
        let told = self.shown(&self.realm.workspaces, &["pods", "--selector=usher.dev/warm", hosts]).await;
        let theirs = "--selector=usher.dev/warm,usher.dev/workspace=warm";
        let files =
            self.shown(&self.realm.workspaces, &["persistentvolumeclaims", theirs, "--output=name"]).await;
        told.contains("warm.") && !files.is_empty()
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
        answer.status.is_success()
    }

    /// Whether it does so, before or in spite of a refusal.
    async fn does(&mut self, what: Does) -> bool {
        self.begun = Instant::now();
        let mut refused: Option<Instant> = None;
        self.before = None;
        loop {
            if self.attempt(what).await {
                return true;
            }
            if refused.is_none() && self.refusals().await > 0.0 {
                refused = Some(Instant::now());
            }
            let looked = if what == Does::Know { SURE } else { REFUSED };
            if refused.is_some_and(|since| since.elapsed() > looked) {
                return false;
            }
            assert!(
                self.begun.elapsed() < PATIENCE,
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
    let setup = realm
        .setup_with(&without(&realm, resource, verb), &templates(&realm, WITH_WARM.contains(&resource)))
        .await;
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
    let mut trial = Trial {
        realm: &realm,
        usher,
        refused,
        people: Vec::new(),
        before: None,
        begun: Instant::now(),
        still: Instant::now(),
    };
    for what in ALL.into_iter().filter(|what| *what != Does::Claim || WITH_WARM.contains(&resource)) {
        if !trial.does(what).await {
            return Some(what);
        }
    }
    None
}

/// How many Ushers are tried at a time.
const AT_A_TIME: usize = 4;
/// How many verbs a run of all tests tries: as many as it takes the time of one for.
const A_FEW: usize = AT_A_TIME;

/// How the API server lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lists {
    Streaming,
    Plain,
}

impl Lists {
    /// What fails first without a right.
    fn expected(self, right: &Right) -> Option<Does> {
        match self {
            Self::Streaming => right.2,
            Self::Plain => right.3,
        }
    }

    /// The features of such a cluster.
    fn features(self) -> &'static str {
        match self {
            Self::Streaming => "",
            Self::Plain => "WatchList=false",
        }
    }
}

/// Tries verbs; what is not as the table says.
async fn surprises(lists: Lists, rights: &[Right]) -> Vec<String> {
    let cluster = &silent_cluster(lists.features()).await;
    let trials = rights.iter().map(async |right| {
        let (resource, verb, ..) = *right;
        let failed = fails_without(cluster, resource, verb).await;
        eprintln!("without {verb} on {resource}: {failed:?}");
        (failed != lists.expected(right)).then(|| format!("without {verb} on {resource} fails {failed:?}"))
    });
    let found: Vec<Option<String>> = stream::iter(trials).buffer_unordered(AT_A_TIME).collect().await;
    found.into_iter().flatten().collect()
}

/// A cluster that does not tell what an account may do: else Usher looks at that first, and most of what fails is its
/// beginning.
async fn silent_cluster(features: &str) -> Cluster {
    let cluster = Cluster::with_features(features);
    cluster.kubectl(&["delete", "clusterrolebinding", "system:basic-user"]).await;
    cluster
}

#[tokio::test]
async fn a_few_rights_are_used() {
    let mut chance = chance();
    let lists = chance.choice([Lists::Streaming, Lists::Plain]).expect("there are two");
    let few = chance.choose_multiple(RIGHTS, A_FEW);
    let surprises = surprises(lists, &few).await;
    assert!(surprises.is_empty(), "{lists:?}: {surprises:#?}");
}

#[tokio::test]
#[ignore = "soak: minutes of work; `make soak` runs it"]
async fn every_right_is_used_with_streaming_lists() {
    let surprises = surprises(Lists::Streaming, &RIGHTS).await;
    assert!(surprises.is_empty(), "{surprises:#?}");
}

#[tokio::test]
#[ignore = "soak: minutes of work; `make soak` runs it"]
async fn every_right_is_used_with_plain_lists() {
    let surprises = surprises(Lists::Plain, &RIGHTS).await;
    assert!(surprises.is_empty(), "{surprises:#?}");
}

#[test]
fn the_table_has_every_right_of_the_chart() {
    let values = json!({
        "image": { "repository": "usher" }, "domain": DOMAIN, "config": "#", "workspaces": { "namespaces": ["desks"] },
    });
    let rendered = Rendered::new("usher", &values).unwrap();
    let mut rights: Vec<(String, String)> = Vec::new();
    for rule in rendered.all::<Role>().into_iter().flat_map(|role| role.rules.unwrap()) {
        for resource in rule.resources.unwrap() {
            rights.extend(rule.verbs.iter().map(|verb| (resource.clone(), verb.clone())));
        }
    }
    let mut table: Vec<(String, String)> =
        RIGHTS.iter().map(|(resource, verb, ..)| ((*resource).to_owned(), (*verb).to_owned())).collect();
    rights.sort_unstable();
    table.sort_unstable();
    assert_eq!(rights, table);
    // What only plain lists need is not without use; what nothing needs is.
    assert!(RIGHTS.iter().all(|right| right.2.or(right.3).is_some()));
}
