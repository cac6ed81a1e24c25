//! Warm workspaces on a real cluster: users get pods that run already, each their own, and nobody after them.

use futures_util::future::join_all;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tests::{Cluster, Image, Person, Realm, STARTED, Setup, Usher, wait_for};

const CLAIMED_BY: &str = "usher.dev/claimed-by";
const CLAIMS: &str = "usher.dev/claims";
/// A claim that came too late is taken back, which whoever keeps the warm ones leaves a minute for; then it is as if begun.
const SETTLED: Duration = STARTED.saturating_mul(2);

/// An Usher that keeps so many warm workspaces, each of which serves what it is told of whose it is.
async fn setup(realm: &Realm, ready: usize) -> Setup {
    let image = realm.cluster().image(&Image::Busybox);
    let keys = format!(
        "image = \"{image}\"\nimage_pull_policy = \"Never\"\nvolume = \"none\"\npod = {{}}\n\
         command = [\"httpd\", \"-f\", \"-p\", \"{{port}}\", \"-h\", \"/run/usher\"]\nwarm.ready = {ready}"
    );
    let spawn = "[spawn]\nconcurrent = 20\n";
    realm.setup(&format!("{}\n{spawn}", realm.demo(&keys))).await
}

async fn objects(realm: &Realm, kind: &str) -> Vec<Value> {
    let list = realm.cluster().object(&[kind, "--namespace", &realm.workspaces]).await;
    list["items"].as_array().cloned().unwrap_or_default()
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("every object has a name")
}

fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    object["metadata"]["annotations"][key].as_str()
}

/// The warm pods that are ready and nobody's, by the names of their sets.
async fn free(realm: &Realm) -> BTreeMap<String, Value> {
    let taken: BTreeSet<String> = objects(realm, "statefulsets")
        .await
        .iter()
        .filter(|set| annotation(set, CLAIMED_BY).is_some())
        .map(|set| name(set).to_owned())
        .collect();
    let is_ready = |pod: &Value| {
        let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
    };
    let pods = objects(realm, "pods").await.into_iter().filter(is_ready);
    let named =
        pods.filter_map(|pod| Some((pod["metadata"]["labels"]["usher.dev/warm"].as_str()?.to_owned(), pod)));
    named
        .filter(|(set, pod)| !taken.contains(set) && pod["metadata"]["deletionTimestamp"].is_null())
        .collect()
}

async fn await_free(realm: &Realm, count: usize) -> BTreeMap<String, Value> {
    wait_for(&format!("{count} warm workspaces"), SETTLED, async || {
        let free = free(realm).await;
        (free.len() == count).then_some(free)
    })
    .await
}

/// What a person's workspace was told of whose it is, once it was.
async fn told(person: &Person) -> String {
    wait_for(&format!("{}'s pod to be told", person.name), SETTLED, async || {
        let answer = person.fetch(Method::GET, "/workspace").send().await;
        (answer.status.is_success() && !answer.text().is_empty()).then(|| answer.text())
    })
    .await
}

/// The set that a workspace runs in, as it says itself.
async fn claims(realm: &Realm, id: &str) -> Option<String> {
    let sets = objects(realm, "statefulsets").await;
    sets.iter().find(|set| name(set) == id).and_then(|set| annotation(set, CLAIMS)).map(str::to_owned)
}

#[tokio::test]
async fn a_user_gets_a_pod_that_runs_already_and_nobody_gets_it_after_them() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let usher = setup(&realm, 2).await.start().await;
    let free = await_free(&realm, 2).await;
    for pod in free.values() {
        let text = pod.to_string();
        assert!(!text.contains("lab.localhost") && !text.contains("USHER_"), "{text}");
        assert!(annotation(pod, "usher.dev/owner").is_none(), "{text}");
    }

    let alice = Person::logged_in(&usher, "alice").await;
    alice.reaches("ready").await;
    let ready = Instant::now();
    assert_eq!(told(&alice).await, "alice");
    assert!(ready.elapsed() < Duration::from_secs(1), "told after {:?}", ready.elapsed());
    let owner: Value = alice.fetch(Method::GET, "/owner").send().await.json();
    assert_eq!(owner, json!({ "iss": "usher:development", "sub": "alice" }));
    assert_eq!(alice.fetch(Method::GET, "/host").send().await.text(), "alice.lab.localhost");

    let theirs = claims(&realm, "alice").await.expect("a warm one was claimed");
    let before = &free[&theirs];
    let pod = format!("{theirs}-0");
    let after = cluster.object(&["pod", &pod, "--namespace", &realm.workspaces]).await;
    assert_eq!(after["metadata"]["uid"], before["metadata"]["uid"], "the claim replaced the pod");
    assert_eq!(after["status"]["containerStatuses"], before["status"]["containerStatuses"]);
    assert!(objects(&realm, "pods").await.iter().all(|pod| name(pod) != "alice-0"));

    // Another is made in its place, and alice's goes with her.
    await_free(&realm, 2).await;
    assert!(alice.press("stop").await.status.is_success());
    let status = alice.reaches("stopped").await;
    assert_eq!(status["stopped"]["code"], "asked", "{status}");
    wait_for("alice's pod to go", SETTLED, async || {
        objects(&realm, "pods").await.iter().all(|object| name(object) != pod).then_some(())
    })
    .await;
    assert_eq!(claims(&realm, "alice").await, None);
    assert!(objects(&realm, "statefulsets").await.iter().all(|set| name(set) != theirs));

    // Who comes back gets another.
    let mut alice = alice;
    alice.visit("/").await;
    alice.reaches("ready").await;
    assert_eq!(told(&alice).await, "alice");
    assert_ne!(claims(&realm, "alice").await.expect("another was claimed"), theirs);
    // A replaced pod knows whose it is from the start.
    let theirs = claims(&realm, "alice").await.unwrap();
    cluster.kubectl(&["delete", "pod", &format!("{theirs}-0"), "--namespace", &realm.workspaces]).await;
    assert_eq!(told(&alice).await, "alice");
    assert_eq!(usher.metric("usher_warm_claims_total{result=\"claimed\"}").await, Some(2.0));
}

/// That each has one pod and shares it with nobody; the warm sets that they took.
async fn each_has_one(realm: &Realm, people: &[Person]) -> BTreeSet<String> {
    let sets = wait_for("no set to be of somebody who does not name it", SETTLED, async || {
        let sets = objects(realm, "statefulsets").await;
        let named: BTreeSet<_> = sets.iter().filter_map(|set| annotation(set, CLAIMS)).collect();
        let all = sets
            .iter()
            .filter(|set| annotation(set, CLAIMED_BY).is_some())
            .all(|set| named.contains(name(set)));
        all.then(|| sets.clone())
    })
    .await;
    let mut claimed = BTreeSet::new();
    for person in people {
        let own = sets.iter().find(|set| name(set) == person.name).expect("it has a set of its own");
        let theirs: Vec<&Value> = sets
            .iter()
            .filter(|set| {
                annotation(set, CLAIMED_BY).is_some_and(|by| by.contains(&format!("\"{}\"", person.name)))
            })
            .collect();
        match annotation(own, CLAIMS) {
            Some(claims) => {
                assert_eq!(own["spec"]["replicas"], 0);
                assert_eq!(
                    theirs.iter().map(|set| name(set)).collect::<Vec<_>>(),
                    [claims],
                    "{}",
                    person.name
                );
                assert!(claimed.insert(claims.to_owned()), "{claims} is of two");
            }
            None => {
                assert_eq!((own["spec"]["replicas"].as_i64(), theirs.len()), (Some(1), 0), "{}", person.name)
            }
        }
    }
    claimed
}

#[tokio::test]
async fn ten_users_at_once_over_three_ushers_share_no_pod_and_none_has_two() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let mut ushers = Vec::new();
    for _ in 0..3 {
        ushers.push(setup(&realm, 5).await.start().await);
    }
    let free = await_free(&realm, 5).await;
    let names: Vec<String> = (0..10).map(|n| format!("user{n}")).collect();
    let arrive = |(n, name): (usize, &String)| {
        let (usher, name) = (&ushers[n % 3], name.clone());
        async move {
            let person = Person::logged_in(usher, &name).await;
            person.reaches("ready").await;
            // Wherever it runs, it is told the same.
            assert_eq!(told(&person).await, name);
            person
        }
    };
    let people = join_all(names.iter().enumerate().map(arrive)).await;

    let claimed = each_has_one(&realm, &people).await;
    assert!(free.keys().any(|set| claimed.contains(set)), "nobody took one: {claimed:?}");

    // Everybody leaves: their pods go with them, and the five that are there then are new.
    join_all(people.iter().map(|person| async { assert!(person.press("stop").await.status.is_success()) }))
        .await;
    wait_for("the pods of those who left to go", SETTLED, async || {
        let sets = objects(&realm, "statefulsets").await;
        let pods = objects(&realm, "pods").await;
        let gone =
            sets.iter().all(|set| annotation(set, CLAIMED_BY).is_none() && !claimed.contains(name(set)));
        (gone && pods.len() == 5).then_some(())
    })
    .await;
    let fresh = await_free(&realm, 5).await;
    assert!(fresh.keys().all(|set| !claimed.contains(set)));
}

/// A StatefulSet of alice's own which says that it runs in this warm one, as one leaves it that dies over its claim.
fn half_made(realm: &Realm, warm: &str) -> Value {
    let labels = json!({
        "usher.dev/workspace": "alice", "usher.dev/template": "demo", "app.kubernetes.io/managed-by": "usher",
    });
    let owner = json!({ "iss": "usher:development", "sub": "alice" }).to_string();
    let image = realm.cluster().image(&Image::Busybox);
    let container = json!({
        "name": "workspace", "image": image, "imagePullPolicy": "Never",
        "command": ["httpd", "-f", "-p", "8888", "-h", "/etc"],
        "ports": [{ "name": "workspace", "containerPort": 8888 }],
        "securityContext": {
            "allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 1000,
            "capabilities": { "drop": ["ALL"] }, "seccompProfile": { "type": "RuntimeDefault" },
        },
    });
    json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {
            "name": "alice", "namespace": realm.workspaces, "labels": labels,
            "annotations": { "usher.dev/owner": owner, CLAIMS: warm },
        },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": { "usher.dev/workspace": "alice" } },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [container], "terminationGracePeriodSeconds": 1 },
            },
        },
    })
}

#[tokio::test]
async fn a_claim_that_was_left_half_made_becomes_an_ordinary_start_and_takes_nothing_from_others() {
    let cluster = Cluster::shared();
    for what in ["free", "gone", "bobs"] {
        let realm = Realm::new(&cluster).await;
        let usher = setup(&realm, 1).await.start().await;
        let free = await_free(&realm, 1).await;
        let warm = free.into_keys().next().unwrap();
        let bob = if what == "bobs" {
            let bob = Person::logged_in(&usher, "bob").await;
            bob.reaches("ready").await;
            Some(bob)
        } else {
            None
        };
        let named = if what == "gone" { "warm---demo-gone1" } else { &warm };
        cluster.apply(&half_made(&realm, named)).await;
        wait_for(&format!("alice to start as usual ({what})"), STARTED, async || {
            let set = cluster.object(&["statefulset", "alice", "--namespace", &realm.workspaces]).await;
            (set["spec"]["replicas"] == 1 && annotation(&set, CLAIMS).is_none()).then_some(())
        })
        .await;
        let alice = Person::logged_in(&usher, "alice").await;
        alice.reaches("ready").await;
        if let Some(bob) = bob {
            assert_eq!(claims(&realm, "bob").await.as_ref(), Some(&warm));
            assert_eq!(told(&bob).await, "bob");
        }
    }
}

#[tokio::test]
async fn a_template_that_changes_replaces_the_free_ones_and_leaves_users_alone() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let usher: Usher = setup(&realm, 2).await.start().await;
    await_free(&realm, 2).await;
    let mut alice = Person::logged_in(&usher, "alice").await;
    alice.reaches("ready").await;
    let theirs = claims(&realm, "alice").await.expect("a warm one was claimed");
    let old = await_free(&realm, 2).await;

    let image = cluster.image(&Image::Busybox);
    let keys = format!(
        "image = \"{image}\"\nimage_pull_policy = \"Never\"\nvolume = \"none\"\npod = {{}}\n\
         command = [\"httpd\", \"-f\", \"-p\", \"{{port}}\", \"-h\", \"/run/usher\"]\nwarm.ready = 1\n\
         environment.NEW = \"yes\""
    );
    let usher = usher.replaced_by(realm.setup(&realm.demo(&keys)).await).await;
    wait_for("one of the new template", STARTED, async || {
        let free = free(&realm).await;
        (free.len() == 1 && free.keys().all(|set| !old.contains_key(set))).then_some(())
    })
    .await;
    alice.moved_to(&usher);
    alice.reaches("ready").await;
    assert_eq!(claims(&realm, "alice").await, Some(theirs));
    assert_eq!(told(&alice).await, "alice");
}

/// An Usher whose warm workspaces have files: the demo, which keeps a note.
async fn with_files(realm: &Realm, ready: usize) -> Setup {
    realm.setup(&realm.demo(&format!("warm.ready = {ready}"))).await
}

async fn note(person: &Person) -> String {
    wait_for(&format!("{}'s note", person.name), STARTED, async || {
        let answer = person.fetch(Method::GET, "/note").send().await;
        (answer.status == StatusCode::OK).then(|| answer.text())
    })
    .await
}

/// The warm set that has a workspace's files, as both sides and the claim say.
async fn keeper(realm: &Realm, id: &str) -> String {
    wait_for(&format!("it to be written down where {id}'s files are"), STARTED, async || {
        let sets = objects(realm, "statefulsets").await;
        let own = sets.iter().find(|set| name(set) == id)?;
        let keeper = annotation(own, "usher.dev/files")?.to_owned();
        let claims = objects(realm, "persistentvolumeclaims").await;
        let claim = claims.iter().find(|claim| name(claim) == format!("home-{keeper}-0"))?;
        let by = sets.iter().find(|set| name(set) == keeper).and_then(|set| annotation(set, CLAIMED_BY))?;
        let said = claim["metadata"]["labels"]["usher.dev/workspace"] == id
            && annotation(claim, "usher.dev/owner").is_some_and(|owner| owner.contains(id));
        (said && by.contains(id)).then_some(keeper)
    })
    .await
}

/// How many pods a set is to have.
async fn replicas(realm: &Realm, set: &str) -> Option<i64> {
    let sets = objects(realm, "statefulsets").await;
    sets.iter().find(|object| name(object) == set).and_then(|set| set["spec"]["replicas"].as_i64())
}

#[tokio::test]
async fn who_comes_first_gets_a_warm_pod_with_an_empty_volume_and_finds_it_whenever_they_come_back() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let usher = with_files(&realm, 1).await.start().await;
    let free = await_free(&realm, 1).await;

    let mut alice = Person::logged_in(&usher, "alice").await;
    alice.reaches("ready").await;
    assert_eq!(note(&alice).await, "");
    alice.fetch(Method::PUT, "/note").body("alice's").send().await;
    let hers = keeper(&realm, "alice").await;
    assert!(free.contains_key(&hers), "she got the one that ran");
    assert_eq!(usher.metric("usher_warm_claims_total{result=\"claimed\"}").await, Some(1.0));

    // She leaves, and it rests with her files; who comes next gets another.
    alice.press("stop").await;
    alice.reaches("stopped").await;
    wait_for("her warm workspace to rest", STARTED, async || {
        (replicas(&realm, &hers).await == Some(0)).then_some(())
    })
    .await;
    await_free(&realm, 1).await;
    let mut bob = Person::logged_in(&usher, "bob").await;
    bob.reaches("ready").await;
    assert_eq!(note(&bob).await, "");
    assert_ne!(keeper(&realm, "bob").await, hers);

    // She comes back to her files, and takes no other.
    await_free(&realm, 1).await;
    alice.visit("/").await;
    alice.reaches("ready").await;
    assert_eq!(note(&alice).await, "alice's");
    assert_eq!(
        (claims(&realm, "alice").await, replicas(&realm, "alice").await),
        (Some(hers.clone()), Some(0))
    );
    assert_eq!(usher.metric("usher_warm_claims_total{result=\"claimed\"}").await, Some(2.0));

    // Somebody removes it by hand while she works: she is stopped, and finds her files again.
    cluster.kubectl(&["delete", "statefulset", &hers, "--namespace", &realm.workspaces]).await;
    alice.reaches("stopped").await;
    alice.visit("/").await;
    alice.reaches("ready").await;
    assert_eq!(note(&alice).await, "alice's");

    // So she does when her workspace was deleted without them, and the template has no warm ones any more.
    assert!(usher.command(&["delete", "alice"]).0, "it is deleted");
    wait_for("nothing of hers but her files", STARTED, async || {
        let sets = objects(&realm, "statefulsets").await;
        sets.iter().all(|set| ![hers.as_str(), "alice"].contains(&name(set))).then_some(())
    })
    .await;
    let usher = usher.replaced_by(with_files(&realm, 0).await).await;
    alice.moved_to(&usher);
    alice.visit("/").await;
    alice.reaches("ready").await;
    assert_eq!(note(&alice).await, "alice's");
    assert_eq!(keeper(&realm, "alice").await, hers);

    // With them, nothing is left of her; of those that nobody took, nothing either.
    assert!(usher.command(&["delete", "alice", "--with-volume"]).0, "it is deleted");
    let bobs = format!("home-{}-0", keeper(&realm, "bob").await);
    wait_for("bob's files to be the only ones", 3 * STARTED, async || {
        let claims = objects(&realm, "persistentvolumeclaims").await;
        (claims.iter().map(name).collect::<Vec<_>>() == [bobs.as_str()]).then_some(())
    })
    .await;
    bob.moved_to(&usher);
    assert_eq!(note(&bob).await, "");
}
