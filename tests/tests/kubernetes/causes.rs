//! Why a workspace does not run, caused for real: each is named on the page within seconds of its first sign.

use crate::shown;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tests::{Cluster, Image, Person, Realm, STARTED, Usher, wait_for};

/// So soon after its first sign a cause is shown.
const OWED: Duration = Duration::from_secs(5);

/// Everybody gets the template of their own name.
const BY_NAME: &str = "[access]\nallow = \"true\"\ntemplate = \"user.name\"\n[spawn]\nconcurrent = 20\n";

/// A template that nothing is wrong with but what these keys say; the demo keeps its name.
fn template(realm: &Realm, name: &str, keys: &str) -> String {
    realm.demo(keys).replace("[templates.demo]", &format!("[templates.{name}]"))
}

/// Waits until the cause is shown, and looks when its first sign stood in the API: `object` shows `sign` at `path`.
async fn told(realm: &Realm, usher: &Usher, cause: &Cause<'_>) -> Value {
    let person = Person::logged_in(usher, cause.name).await;
    let (awaited, owed) =
        (format!("the first sign of {}", cause.code), format!("{} on the page", cause.code));
    let sign = wait_for(&awaited, STARTED, async || {
        let seen = match cause.kind {
            "event" => said_of(realm, cause.name).await,
            _ => shown(realm, &cause.object(), cause.path).await?,
        };
        seen.contains(cause.sign).then(Instant::now)
    });
    let told = wait_for(&owed, STARTED, async || {
        let status = person.status().await;
        (status["cause"]["code"] == cause.code).then(|| (status, Instant::now()))
    });
    let (sign, (status, told)) = tokio::join!(sign, told);
    let late = told.saturating_duration_since(sign);
    eprintln!("{} was told {} ms after its first sign was seen", cause.code, late.as_millis());
    assert!(late < OWED, "{} was told {late:?} after its first sign", cause.code);
    for word in cause.words {
        assert!(status.to_string().contains(word), "{word:?} is not told: {status}");
    }
    status
}

/// What events say of somebody's pod: they stay when it was taken back.
async fn said_of(realm: &Realm, name: &str) -> String {
    let about = format!("--field-selector=involvedObject.name={name}-0");
    let output = "--output=jsonpath={.items[*].message}";
    realm.cluster().kubectl(&["get", "events", "--namespace", &realm.workspaces, &about, output]).await
}

/// What is wrong, where its first sign stands, and what is told of it.
struct Cause<'a> {
    name: &'a str,
    keys: &'a str,
    kind: &'a str,
    path: &'a str,
    sign: &'a str,
    code: &'a str,
    words: &'a [&'a str],
}

impl Cause<'_> {
    fn object(&self) -> String {
        match self.kind {
            "pod" => format!("pod/{}-0", self.name),
            kind => format!("{kind}/{}", self.name),
        }
    }
}

const WAITING: &str = "{.status.containerStatuses[*].state.waiting.reason}";
const CONDITION: &str = "{.status.conditions[?(@.type=='PodScheduled')].reason}";

#[expect(clippy::too_many_lines, reason = "a table")]
fn causes() -> Vec<Cause<'static>> {
    let cause =
        |name, keys, path, sign, code, words| Cause { name, keys, kind: "pod", path, sign, code, words };
    vec![
        cause(
            "nopull",
            "image = \"localhost:1/none:1\"\nimage_pull_policy = \"Always\"",
            WAITING,
            "ErrImagePull",
            "image_pull_failed",
            &["localhost:1/none:1", "cannot be reached"],
        ),
        Cause {
            kind: "event",
            ..cause(
                "noimage",
                "image = \"localhost/none:1\"",
                "",
                "is not present with pull policy of Never",
                "image_missing",
                &["localhost/none:1"],
            )
        },
        cause(
            "nonode",
            "node_selector = { disk = \"ssd\" }",
            CONDITION,
            "Unschedulable",
            "unschedulable",
            &[],
        ),
        cause(
            "nogpu",
            "resources.limits = { memory = \"64Mi\", \"nvidia.com/gpu\" = 1 }\nresources.requests = { cpu = \"10m\", \"nvidia.com/gpu\" = 1 }",
            CONDITION,
            "Unschedulable",
            "unschedulable",
            &["GPU"],
        ),
        cause(
            "nosecret",
            "environment = { A = { from_secret = { name = \"nope\", key = \"k\" } } }",
            WAITING,
            "CreateContainerConfigError",
            "secret_missing",
            &["nope"],
        ),
        Cause {
            kind: "event",
            ..cause(
                "noprogram",
                "command = [\"/bin/nope\"]",
                "",
                "/bin/nope",
                "program_not_found",
                &["/bin/nope"],
            )
        },
        cause(
            "noclass",
            "volume = { size = \"1Gi\", class = \"fast-ssd\" }",
            CONDITION,
            "Unschedulable",
            "volume_unbound",
            &["fast-ssd"],
        ),
    ]
}

#[tokio::test]
async fn what_hinders_a_pod_is_told() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let causes = causes();
    let templates: String = causes.iter().map(|cause| template(&realm, cause.name, cause.keys)).collect();
    let usher = realm.setup(&format!("{BY_NAME}{templates}")).await.start().await;
    futures_util::future::join_all(causes.iter().map(|cause| told(&realm, &usher, cause))).await;
}

#[tokio::test]
async fn a_step_before_the_program_that_fails_is_told_with_its_last_words() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let image = cluster.image(&Image::Busybox);
    let keys = format!(
        "volume = \"none\"\ninit_containers = [{{ name = \"fetch\", image = \"{image}\", imagePullPolicy = \"Never\", \
         command = [\"sh\", \"-c\", \"echo no such bucket; exit 7\"] }}]"
    );
    let status = "{.status.initContainerStatuses[*].state.terminated.exitCode}{.status.initContainerStatuses[*].lastState.terminated.exitCode}";
    let cause = Cause {
        name: "init",
        keys: &keys,
        kind: "pod",
        path: status,
        sign: "7",
        code: "init_failed",
        words: &["exit code 7", "no such bucket"],
    };
    let usher = realm.setup(&format!("{BY_NAME}{}", template(&realm, "init", &keys))).await.start().await;
    told(&realm, &usher, &cause).await;
    let init = Person::logged_in(&usher, "init").await;
    init.reaches("failed").await;
    wait_for("the broken workspace to go back to 0", STARTED, async || {
        shown(&realm, "statefulset/init", "{.spec.replicas}").await.filter(|replicas| replicas == "0")
    })
    .await;
}

#[tokio::test]
async fn a_program_that_ends_again_and_again_is_told_with_its_exit_code_and_last_words_and_goes_back_to_0() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let image = cluster.image(&Image::Busybox);
    let keys = format!(
        "image = \"{image}\"\nvolume = \"none\"\npod = {{}}\ncommand = [\"sh\", \"-c\", \"echo the disk is on fire; exit 3\"]"
    );
    let cause = Cause {
        name: "crash",
        keys: &keys,
        kind: "pod",
        path: "{.status.containerStatuses[*].state.terminated.exitCode}{.status.containerStatuses[*].lastState.terminated.exitCode}",
        sign: "3",
        code: "crashed",
        words: &["exit code 3", "the disk is on fire"],
    };
    let memory = format!(
        "image = \"{image}\"\nvolume = \"none\"\npod = {{}}\nresources.limits = {{ memory = \"32Mi\" }}\ncommand = [\"sh\", \"-c\", \"exec tail /dev/zero\"]"
    );
    let eater = Cause {
        name: "eater",
        keys: &memory,
        path: "{.status.containerStatuses[*].state.terminated.reason}{.status.containerStatuses[*].lastState.terminated.reason}",
        sign: "OOMKilled",
        code: "out_of_memory",
        words: &[],
        ..cause
    };
    let templates = template(&realm, "crash", &keys) + &template(&realm, "eater", &memory);
    let usher = realm.setup(&format!("{BY_NAME}{templates}")).await.start().await;
    tokio::join!(told(&realm, &usher, &cause), told(&realm, &usher, &eater));
    let crash = Person::logged_in(&usher, "crash").await;
    let failed = crash.reaches("failed").await;
    assert_eq!(failed["cause"]["code"], "crash_loop", "{failed}");
    wait_for("the broken workspace to go back to 0", STARTED, async || {
        shown(&realm, "statefulset/crash", "{.spec.replicas}").await.filter(|replicas| replicas == "0")
    })
    .await;
}

#[tokio::test]
async fn a_quota_and_a_policy_that_say_no_are_told_in_their_words() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let namespace = &realm.workspaces;
    let setup = realm.setup("").await;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "few", "namespace": namespace },
        "spec": { "hard": { "pods": "0" } },
    });
    cluster.apply(&quota).await;
    let usher = setup.start().await;
    let told_of = async |name: &str, code: &str, words: &str| {
        let person = Person::logged_in(&usher, name).await;
        let status = wait_for(&format!("{name} to be told of {code}"), STARTED, async || {
            let status = person.status().await;
            (status["cause"]["code"] == code).then_some(status)
        })
        .await;
        assert!(status.to_string().contains(words), "{words:?} is not told: {status}");
        person
    };
    let alice = told_of("alice", "quota_exceeded", "workspaces").await;

    // Somebody makes room: a person who presses the button does not wait for the controller's back-off.
    cluster.kubectl(&["delete", "resourcequota", "few", "--namespace", namespace]).await;
    assert!(alice.press("start").await.status.is_success());
    alice.reaches("ready").await;

    let policy = format!("no-{namespace}");
    cluster
        .apply(&json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": { "name": policy },
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": { "resourceRules": [{
                    "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods", "configmaps"],
                }] },
                "validations": [{ "expression": "false", "message": "workspaces must carry a cost centre" }],
            },
        }))
        .await;
    cluster
        .apply(&json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": { "name": policy },
            "spec": {
                "policyName": policy, "validationActions": ["Deny"],
                "matchResources": { "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": namespace } } },
            },
        }))
        .await;
    let dry = ["create", "configmap", "probe", "--dry-run=server", "--namespace", namespace];
    wait_for("the policy to be in force", STARTED, async || {
        cluster.try_kubectl(&dry).await.err().filter(|said| said.contains("cost centre"))
    })
    .await;
    told_of("bob", "admission_refused", "workspaces must carry a cost centre").await;
    for kind in ["validatingadmissionpolicybinding", "validatingadmissionpolicy"] {
        cluster.kubectl(&["delete", kind, &policy]).await;
    }
}
