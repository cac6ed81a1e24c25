//! What is there already: a Deployment or StatefulSet that others made, woken by who may enter and at rest otherwise.

use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tests::{Closed, Cluster, Image, Part, Person, Realm, STARTED, Setup, Usher, wait_for, wait_instead_of};

/// A connection that is open for so long when the API server falls silent was surely opened to its pod: silence is noticed
/// after 10 s, and looked for each second.
const WITNESS: Duration = Duration::from_secs(12);

/// The demo as others would run it, at 0, with these annotations; ready when its port answers.
async fn make(realm: &Realm, kind: &str, annotations: Value) {
    let labels = json!({ "app": "wiki" });
    let probe = json!({ "httpGet": { "path": "/headers", "port": 8080 }, "periodSeconds": 1 });
    let container = json!({
        "name": "main", "image": realm.cluster().image(&Image::Usher), "imagePullPolicy": "Never",
        "command": ["usher", "demo", "--address", "0.0.0.0:8080"], "workingDir": "/tmp",
        "readinessProbe": probe,
        "volumeMounts": [{ "name": "tmp", "mountPath": "/tmp" }],
        "securityContext": { "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } },
    });
    let pod = json!({
        "automountServiceAccountToken": false, "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": { "type": "RuntimeDefault" },
        },
        "containers": [container],
        "volumes": [{ "name": "tmp", "emptyDir": {} }],
    });
    let metadata = json!({ "name": "wiki", "namespace": realm.workspaces, "annotations": annotations });
    let template = json!({ "metadata": { "labels": labels }, "spec": pod });
    let spec = json!({ "replicas": 0, "selector": { "matchLabels": labels }, "template": template });
    realm
        .cluster()
        .apply(&json!({ "apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec }))
        .await;
}

/// An usher that knows it as `wiki.<domain>`, open to alice and carol, with more keys; and may do as much to it as the
/// chart allows that is told of it.
async fn setup(realm: &Realm, kind: &str, keys: &str) -> Setup {
    let route = format!(
        "[routes.wiki]\nkind = \"{kind}\"\nobject = \"wiki\"\nport = 8080\n\
         allow = \"user.name in ['alice', 'carol']\"\n{keys}\n"
    );
    let kinds = if kind == "Deployment" { "deployments" } else { "statefulSets" };
    let routes = json!([{ "namespace": realm.workspaces, kinds: ["wiki"] }]);
    realm.setup_with(&realm.roles_with_routes(&routes), &route).await
}

/// What kubectl prints of an object: `deployment/wiki`.
async fn shown(realm: &Realm, object: &str, jsonpath: &str) -> String {
    let output = format!("--output=jsonpath={jsonpath}");
    realm.cluster().kubectl(&["get", object, "--namespace", &realm.workspaces, &output]).await
}

async fn kubectl(realm: &Realm, arguments: &[&str]) {
    let arguments = [arguments, &["--namespace", &realm.workspaces]].concat();
    realm.cluster().kubectl(&arguments).await;
}

/// The version of the Deployment, once its controller has nothing left to write of it.
async fn version(realm: &Realm) -> String {
    let output = "{.metadata.generation} {.status.observedGeneration} {.status.replicas} \
                  {.status.conditions[?(@.type=='Progressing')].reason}|{.metadata.resourceVersion}";
    wait_instead_of("the controller to be done with it", STARTED, async || {
        let told = shown(realm, "deployment/wiki", output).await;
        match told.split_once('|') {
            Some(("1 1  NewReplicaSetAvailable", version)) => Ok(version.to_owned()),
            _ => Err(told),
        }
    })
    .await
}

/// Somebody who has come to the route and waited until it serves.
async fn at(usher: &Usher, name: &str) -> Person {
    let person = Person::new(usher, name).at("wiki").log_in().await;
    person.reaches("ready").await;
    person
}

#[tokio::test]
async fn the_first_who_may_enter_wakes_it_nobody_else_does_and_unused_it_rests_again() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    make(&realm, "Deployment", json!({ "usher.dev/route": "wiki" })).await;
    let keys = "replicas = 2\nidle_after = \"10s\"\nwarn_before = \"1s\"";
    let usher = setup(&realm, "Deployment", keys).await.start().await;
    let before = version(&realm).await;

    let stranger = usher.client().get("wiki.lab.localhost", "/").navigate("none").send().await;
    assert_eq!(stranger.status, StatusCode::FOUND, "{}", stranger.text());
    let script = usher.client().get("wiki.lab.localhost", "/").send().await;
    assert_eq!(script.status, StatusCode::UNAUTHORIZED, "{}", script.text());
    let (_, refused) = Person::new(&usher, "bob").at("wiki").visit("/").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text());
    assert_eq!(refused.field("usher-error"), "not_allowed");
    assert_eq!(shown(&realm, "deployment/wiki", "{.metadata.resourceVersion}").await, before);

    // Nothing is loaded: a download puts the stop off.
    let alice = at(&usher, "alice").await;
    assert_eq!(shown(&realm, "deployment/wiki", "{.spec.replicas}").await, "2");
    let status = usher.status().await;
    assert_eq!(status["workspaces"][0]["workspace"], "route:wiki", "{status}");

    let status = alice.reaches("stopped").await;
    assert_eq!(status["stopped"]["code"], "idle", "{status}");
    let notes = "{.spec.replicas} {.metadata.annotations.usher\\.dev/replicas} {.metadata.annotations.usher\\.dev/mark}";
    assert_eq!(shown(&realm, "deployment/wiki", notes).await.trim_end(), "0 2");
}

#[tokio::test]
async fn a_stateful_set_is_woken_as_well() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    make(&realm, "StatefulSet", json!({ "usher.dev/route": "wiki" })).await;
    let usher = setup(&realm, "StatefulSet", "ready = { path = \"/headers\" }").await.start().await;
    let carol = at(&usher, "carol").await;
    carol.socket("/ws").await.unwrap().echoes("hello").await;
    let headers = carol.fetch(Method::GET, "/headers").send().await.text();
    assert!(headers.contains("x-usher-user") && headers.contains("x-usher-assertion"), "{headers}");
    assert!(!headers.contains("__Host-usher"), "{headers}");
}

#[tokio::test]
async fn one_whose_maker_has_not_agreed_is_left_alone_and_the_page_says_why() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    make(&realm, "Deployment", json!({ "usher.dev/route": "another" })).await;
    let before = version(&realm).await;
    let usher = setup(&realm, "Deployment", "").await.start().await;
    let mut alice = Person::new(&usher, "alice").at("wiki");
    let (_, page) = alice.visit("/").await;
    assert!(page.text().contains("may not be started from here"), "{} {}", page.status, page.text());
    let status = alice.reaches("failed").await;
    assert_eq!(status["cause"]["code"], "not_opted_in", "{status}");
    assert!(status["cause"]["hint"].as_str().unwrap().contains("usher.dev/route=wiki"), "{status}");
    assert_eq!(shown(&realm, "deployment/wiki", "{.metadata.resourceVersion}").await, before);

    kubectl(&realm, &["annotate", "deployment", "wiki", "--overwrite", "usher.dev/route=wiki"]).await;
    alice.reaches("stopped").await;
    alice.visit("/").await;
    alice.reaches("ready").await;
}

/// Waits until the status names this cause.
async fn await_cause(person: &Person, code: &str) -> Value {
    wait_instead_of(&format!("{} to be told of {code}", person.name), STARTED, async || {
        let status = person.status().await;
        if status["cause"]["code"] == code { Ok(status) } else { Err(status) }
    })
    .await
}

#[tokio::test]
async fn whoever_waits_is_told_what_only_events_tell() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    make(&realm, "Deployment", json!({ "usher.dev/route": "wiki" })).await;
    let volume = json!({ "name": "more", "secret": { "secretName": "later" } });
    let container = json!({ "name": "main", "volumeMounts": [{ "name": "more", "mountPath": "/more" }] });
    let pod = json!({ "volumes": [volume], "containers": [container] });
    let patch = json!({ "spec": { "template": { "spec": pod } } }).to_string();
    kubectl(&realm, &["patch", "deployment", "wiki", "--patch", &patch]).await;
    let usher = setup(&realm, "Deployment", "").await.start().await;
    let alice = Person::new(&usher, "alice").at("wiki").log_in().await;
    let status = await_cause(&alice, "secret_missing").await;
    assert!(status["cause"]["hint"].as_str().unwrap().contains("later"), "{status}");
    kubectl(&realm, &["create", "secret", "generic", "later"]).await;

    // The controller of a StatefulSet writes no condition when it may make no pod.
    let realm = Realm::new(&cluster).await;
    make(&realm, "StatefulSet", json!({ "usher.dev/route": "wiki" })).await;
    kubectl(&realm, &["create", "quota", "none", "--hard=pods=0"]).await;
    let usher = setup(&realm, "StatefulSet", "").await.start().await;
    let carol = Person::new(&usher, "carol").at("wiki").log_in().await;
    await_cause(&carol, "quota_exceeded").await;
    alice.reaches("ready").await;
}

#[tokio::test]
async fn what_is_scaled_by_hand_stays_so_and_is_remembered_and_only_an_operator_stops_it() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    make(&realm, "Deployment", json!({ "usher.dev/route": "wiki" })).await;
    let usher = setup(&realm, "Deployment", "").await.start().await;
    let mut alice = at(&usher, "alice").await;
    for (replicas, phase) in [("--replicas=0", "stopped"), ("--replicas=2", "ready")] {
        kubectl(&realm, &["scale", "deployment/wiki", replicas]).await;
        alice.reaches(phase).await;
    }
    let refused = alice.press("stop").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text());
    assert!(alice.press("extend").await.status.is_success());
    let (deleted, said) = usher.command(&["delete", "route:wiki"]);
    assert!(!deleted && said.contains("what others made"), "{said}");

    let (stopped, said) = usher.command(&["stop", "route:wiki"]);
    assert!(stopped, "{said}");
    alice.reaches("stopped").await;
    let notes = "{.spec.replicas} {.metadata.annotations.usher\\.dev/replicas}";
    assert_eq!(shown(&realm, "deployment/wiki", notes).await, "0 2");
    alice.visit("/").await;
    alice.reaches("ready").await;
    assert_eq!(shown(&realm, "deployment/wiki", "{.spec.replicas}").await, "2");
}

#[tokio::test]
async fn while_the_api_server_is_silent_it_serves_on() {
    let cluster = Cluster::alone();
    let realm = Realm::new(&cluster).await;
    make(&realm, "Deployment", json!({ "usher.dev/route": "wiki" })).await;
    let usher = setup(&realm, "Deployment", "").await.start().await;
    let alice = at(&usher, "alice").await;
    let mut socket = alice.socket("/ws").await.unwrap();
    let opened = Instant::now();
    wait_for("a connection that is old enough to bear witness", STARTED, async || {
        (opened.elapsed() > WITNESS).then_some(())
    })
    .await;

    cluster.pause(Part::ApiServer);
    for resource in ["deployments", "pods", "statefulsets"] {
        let blind = format!("usher_kubernetes_watches_blind{{resource=\"{resource}\"}}");
        wait_for("blindness", STARTED, async || {
            // The pods of workspaces and those of the route are watched apart.
            let all = if resource == "pods" { 2.0 } else { 1.0 };
            (usher.metric(&blind).await == Some(all)).then_some(())
        })
        .await;
        socket.echoes("still here").await;
        let answer = alice.fetch(Method::GET, "/headers").send().await;
        assert!(answer.status.is_success(), "{resource}: {} {}", answer.status, answer.text());
        assert_eq!(alice.status().await["phase"], "ready");
    }
    wait_for("the word of a pod that says nothing to be too old", STARTED, async || {
        (alice.status().await["cause"]["code"] == "cluster_unreachable").then_some(())
    })
    .await;
    cluster.resume(Part::ApiServer);
    cluster.api_is_ready().await;
    wait_for("it to be seen again", STARTED, async || {
        (alice.status().await["cause"] == Value::Null).then_some(())
    })
    .await;
    socket.echoes("still here").await;
}

#[tokio::test]
async fn a_rolling_update_keeps_it_alive_and_everybody_on_one_pod() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    make(&realm, "Deployment", json!({ "usher.dev/route": "wiki" })).await;
    let usher = setup(&realm, "Deployment", "replicas = 2").await.start().await;
    let alice = at(&usher, "alice").await;
    kubectl(&realm, &["rollout", "status", "deployment/wiki", "--timeout=60s"]).await;
    // What one pod was told no other knows: a note that is there for long is read where it was written.
    let note = async |person: &Person| person.fetch(Method::GET, "/note").send().await.text();
    wait_for("both pods to serve, and alice to have one of them", STARTED, async || {
        alice.fetch(Method::PUT, "/note").body("mine").send().await;
        for _ in 0..8 {
            if note(&alice).await != "mine" {
                return None;
            }
        }
        Some(())
    })
    .await;
    let mut socket = alice.socket("/ws").await.unwrap();
    socket.echoes("before").await;

    let template = json!({ "metadata": { "annotations": { "new": "yes" } } });
    let patch = json!({ "spec": { "template": template } }).to_string();
    kubectl(&realm, &["patch", "deployment", "wiki", "--patch", &patch]).await;
    let closed =
        async { tokio::time::timeout(STARTED, socket.closed()).await.expect("it ends with its pod") };
    let asked = async {
        let mut answers = 0;
        loop {
            let answer = alice.fetch(Method::GET, "/headers").send().await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
            answers += 1;
            let output = "{.metadata.generation} {.status.observedGeneration} {.status.updatedReplicas} {.status.replicas}";
            let told = shown(&realm, "deployment/wiki", output).await;
            // Before its controller has seen the change it tells of what was before.
            if let [asked, seen, "2", "2"] = told.split(' ').collect::<Vec<_>>()[..]
                && asked == seen
            {
                return answers;
            }
        }
    };
    let (closed, answers) = tokio::join!(closed, asked);
    assert!(
        matches!(&closed, Closed::Frame(4503, reason) if reason.contains("another takes its place")),
        "{closed:?}"
    );
    assert!(answers > 1);
    assert_eq!(alice.status().await["phase"], "ready");
    alice.socket("/ws").await.unwrap().echoes("after").await;
}

#[tokio::test]
async fn two_ushers_wake_it_once_and_let_it_rest_when_neither_knows_of_a_use() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    make(&realm, "Deployment", json!({ "usher.dev/route": "wiki" })).await;
    let keys = "idle_after = \"10s\"\nwarn_before = \"1s\"";
    let setup = setup(&realm, "Deployment", keys).await;
    let ushers = [setup.clone().start().await, setup.start().await];
    let (first, second) = tokio::join!(at(&ushers[0], "alice"), at(&ushers[1], "carol"));
    assert_eq!(shown(&realm, "deployment/wiki", "{.spec.replicas}").await, "1");
    let created = "--output=jsonpath={.items[?(@.reason=='SuccessfulCreate')].message}";
    let events = cluster.kubectl(&["get", "events", "--namespace", &realm.workspaces, created]).await;
    assert_eq!(events.matches("Created pod").count(), 1, "{events}");

    // Only the second knows of this use, and the first may be the one that lets it rest.
    let mut socket = second.socket("/ws").await.unwrap();
    let until = tokio::time::Instant::now() + Duration::from_secs(25);
    while tokio::time::Instant::now() < until {
        socket.echoes("still here").await;
        assert_eq!(first.status().await["phase"], "ready");
    }
    drop(socket);
    for person in [&first, &second] {
        let status = person.reaches("stopped").await;
        assert_eq!(status["stopped"]["code"], "idle", "{status}");
    }
}

#[tokio::test]
async fn an_usher_that_may_not_wake_what_a_route_leads_to_says_so_at_its_start_and_serves_the_rest() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    make(&realm, "Deployment", json!({ "usher.dev/route": "wiki" })).await;
    let route = "[routes.wiki]\nkind = \"Deployment\"\nobject = \"wiki\"\nport = 8080\nallow = \"true\"\n";
    let usher = realm.setup(route).await.start().await;
    let log = usher.logs.all();
    for right in ["watch deployments.apps wiki", "patch deployments.apps wiki"] {
        assert!(
            log.lines().any(|line| line.contains(right) && line.contains("does not wake")),
            "{right}: {log}"
        );
    }
    Person::at_work(&usher, "alice").await;
}

#[tokio::test]
async fn nobody_gets_the_name_of_a_route_as_their_label() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let usher = setup(&realm, "Deployment", "").await.start().await;
    let mut person = Person::new(&usher, "wiki");
    let portal = format!("{}/", usher.client().origin("lab.localhost"));
    let (_, dashboard) = person.follow(portal.parse().unwrap()).await;
    assert!(dashboard.text().contains("wiki-"), "{}", dashboard.text());
    let (_, refused) = person.visit("/").await;
    assert_eq!(refused.status, StatusCode::FORBIDDEN, "{}", refused.text());
}
