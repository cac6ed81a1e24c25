//! What stands in the StatefulSet of a template, whole and by key.

use super::*;
use crate::Grant;
use crate::kubernetes::profile::violations;
use crate::kubernetes::token::tokens;
use config::{Config, RequestFacts, Subject, WorkspaceId};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::sync::Arc;

const HEAD: &str = r#"domain = "lab.example.org"
driver = "kubernetes"
listeners = [{ address = "127.0.0.1:8080" }]
access = { allow = "true", template = "'t'" }
kubernetes = { namespace = "w" }
[templates.t]
"#;

fn template(keys: &str) -> Arc<Template> {
    let config = Config::parse("f", &format!("{HEAD}{keys}"), &|_| None).unwrap_or_else(|e| panic!("{e}"));
    config.templates.into_values().next().unwrap()
}

/// The smallest template with more keys.
fn with(more: &str) -> Arc<Template> {
    template(&format!(
        "image = 'i'\nport = 80\nresources.memory = '1Gi'\nresources.cpu = 1\n{more}\n{}",
        if more.contains("volume") { "" } else { "volume = { size = '5Gi' }" }
    ))
}

fn spec(template: Arc<Template>) -> StartSpec {
    StartSpec {
        id: WorkspaceId::parse("gpu--alice").unwrap(),
        owner: Identity { issuer: "https://id.example.org".to_owned(), subject: "7".to_owned() },
        template,
        host: "gpu--alice.lab.example.org".to_owned(),
        grant: Grant::default(),
    }
}

/// The StatefulSet for a user in the group `gpu`.
fn made(template: Arc<Template>) -> Value {
    let Runs::Kubernetes(pods) = &template.runs else { panic!("{template:?}") };
    let subject =
        Subject { name: "alice $(TOKEN)".to_owned(), groups: vec!["gpu".to_owned()], ..Subject::default() };
    let values = pods.evaluate(&subject, &RequestFacts::default()).unwrap();
    let spec = StartSpec { grant: Grant { values, ..Grant::default() }, ..spec(template) };
    serde_json::to_value(stateful_set(&spec, "workspaces", 0).unwrap()).unwrap()
}

/// The volume that tells a pod whose it is.
fn about() -> Value {
    let item = |path: &str| {
        let field = format!("metadata.annotations['usher.dev/{path}']");
        json!({ "path": path, "fieldRef": { "fieldPath": field } })
    };
    let items = ["workspace", "host", "owner"].map(item);
    json!({ "name": "usher", "downwardAPI": { "items": items } })
}

#[test]
#[expect(clippy::too_many_lines, reason = "one object, whole")]
fn the_smallest_template_makes_a_whole_and_restricted_statefulset() {
    let mut set = made(with("stop_grace = '1500ms'"));
    let hash = set["metadata"]["annotations"]["usher.dev/template-hash"].take();
    assert_eq!(hash.as_str().map(str::len), Some(32));
    let labels = json!({
        "usher.dev/workspace": "gpu--alice", "usher.dev/template": "t", "app.kubernetes.io/managed-by": "usher",
    });
    let owner = r#"{"iss":"https://id.example.org","sub":"7"}"#;
    let unanswering = |key: &str| json!({ "key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30 });
    let amounts = json!({ "cpu": "1", "memory": "1Gi" });
    let expected = json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": "gpu--alice",
            "namespace": "workspaces",
            "labels": labels.clone(),
            "annotations": { "usher.dev/owner": owner, "usher.dev/template-hash": null },
        },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": { "usher.dev/workspace": "gpu--alice" } },
            "podManagementPolicy": "Parallel",
            "updateStrategy": { "type": "OnDelete" },
            "persistentVolumeClaimRetentionPolicy": { "whenDeleted": "Retain", "whenScaled": "Retain" },
            "revisionHistoryLimit": 1,
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {
                        "usher.dev/workspace": "gpu--alice",
                        "usher.dev/host": "gpu--alice.lab.example.org",
                        "usher.dev/owner": owner,
                    },
                },
                "spec": {
                    "automountServiceAccountToken": false,
                    "enableServiceLinks": false,
                    "terminationGracePeriodSeconds": 2,
                    "tolerations": [
                        unanswering("node.kubernetes.io/unreachable"),
                        unanswering("node.kubernetes.io/not-ready"),
                    ],
                    "securityContext": {
                        "runAsUser": 1000, "runAsGroup": 1000, "runAsNonRoot": true,
                        "fsGroup": 1000, "fsGroupChangePolicy": "OnRootMismatch",
                        "seccompProfile": { "type": "RuntimeDefault" },
                    },
                    "volumes": [about()],
                    "containers": [{
                        "name": "workspace",
                        "image": "i",
                        "env": [
                            { "name": "HOME", "value": "/home/workspace" },
                            { "name": "USHER_WORKSPACE", "value": "gpu--alice" },
                            { "name": "USHER_LABEL", "value": "alice" },
                            { "name": "USHER_NAME", "value": "gpu" },
                            { "name": "USHER_HOST", "value": "gpu--alice.lab.example.org" },
                        ],
                        "ports": [{ "name": "workspace", "containerPort": 80 }],
                        "resources": { "requests": amounts.clone(), "limits": amounts },
                        "volumeMounts": [
                            { "name": "home", "mountPath": "/home/workspace" },
                            { "name": "usher", "mountPath": "/run/usher", "readOnly": true },
                        ],
                        "terminationMessagePolicy": "FallbackToLogsOnError",
                        "securityContext": {
                            "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
                        },
                    }],
                },
            },
            "volumeClaimTemplates": [{
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": {
                    "name": "home",
                    "labels": { "usher.dev/workspace": "gpu--alice", "app.kubernetes.io/managed-by": "usher" },
                    "annotations": { "usher.dev/owner": owner },
                },
                "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "5Gi" } } },
            }],
        },
    });
    assert_eq!(set, expected, "{set:#}");
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_key_of_a_template_arrives_in_the_pod() {
    let pod = "/spec/template/spec";
    let workspace = "/spec/template/spec/containers/0";
    for (keys, pointer, expected) in [
        (
            "command = ['a', '{port} {home}', '{host} {label} {name}']",
            format!("{workspace}/command"),
            json!(["a", "80 /home/workspace", "gpu--alice.lab.example.org alice gpu"]),
        ),
        (
            "command = ['sh', '-c', 'echo $HOME $(id)']",
            format!("{workspace}/command/2"),
            json!("echo $$HOME $$(id)"),
        ),
        ("image_pull_policy = 'Never'", format!("{workspace}/imagePullPolicy"), json!("Never")),
        (
            "environment = { A = '{label}' }",
            format!("{workspace}/env/5"),
            json!({ "name": "A", "value": "alice" }),
        ),
        (
            "environment = { HOME = '/x' }",
            format!("{workspace}/env/4"),
            json!({ "name": "HOME", "value": "/x" }),
        ),
        (
            "environment = { A = { expression = 'user.name' } }",
            format!("{workspace}/env/5/value"),
            json!("alice $$(TOKEN)"),
        ),
        (
            "environment = { A = { from_secret = { name = 's', key = 'k' } } }",
            format!("{workspace}/env/5"),
            json!({ "name": "A", "valueFrom": { "secretKeyRef": { "name": "s", "key": "k" } } }),
        ),
        (
            "resources.limits = { 'nvidia.com/gpu' = { expression = \"'gpu' in groups ? '1' : '0'\" } }",
            format!("{workspace}/resources/limits"),
            json!({ "cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1" }),
        ),
        ("run_as = { uid = 5, gid = 6, fs_group = 7 }", format!("{pod}/securityContext/fsGroup"), json!(7)),
        ("working_dir = '/w'", format!("{workspace}/workingDir"), json!("/w")),
        ("volume = 'none'", format!("{pod}/volumes"), json!([{ "name": "home", "emptyDir": {} }, about()])),
        ("volume = 'none'", "/spec/volumeClaimTemplates".to_owned(), Value::Null),
        (
            "volume = { size = '1', class = 'c', access = 'ReadWriteOncePod', mount = '/m/' }",
            "/spec/volumeClaimTemplates/0/spec".to_owned(),
            json!({ "accessModes": ["ReadWriteOncePod"], "storageClassName": "c",
                "resources": { "requests": { "storage": "1" } } }),
        ),
        ("volume = { size = '1', mount = '/m/' }", format!("{workspace}/env/0/value"), json!("/m")),
        (
            "mounts = [{ path = '/c', config_map = 'c', sub_path = 'x' }]",
            format!("{workspace}/volumeMounts/2"),
            json!({ "name": "mount-0", "mountPath": "/c", "subPath": "x", "readOnly": true }),
        ),
        (
            "mounts = [{ path = '/s', secret = 's' }]",
            format!("{pod}/volumes/1/secret"),
            json!({ "secretName": "s" }),
        ),
        (
            "mounts = [{ path = '/e', empty_dir = '1Gi' }]",
            format!("{pod}/volumes/1/emptyDir"),
            json!({ "sizeLimit": "1Gi" }),
        ),
        (
            "mounts = [{ path = '/d', claim = 'd', read_only = false }]",
            format!("{pod}/volumes/1"),
            json!({ "name": "mount-0", "persistentVolumeClaim": { "claimName": "d" } }),
        ),
        ("node_selector = { disk = 'ssd' }", format!("{pod}/nodeSelector"), json!({ "disk": "ssd" })),
        ("service_account = 'sa'", format!("{pod}/serviceAccountName"), json!("sa")),
        ("service_account = 'sa'", format!("{pod}/automountServiceAccountToken"), json!(false)),
        ("stop_grace = '0s'", format!("{pod}/terminationGracePeriodSeconds"), json!(1)),
        ("tolerations = [{ key = 'gpu' }]", format!("{pod}/tolerations/2"), json!({ "key": "gpu" })),
        ("sidecars = [{ name = 's' }]", format!("{pod}/initContainers/0/restartPolicy"), json!("Always")),
        (
            "init_containers = [{ name = 's' }]",
            format!("{pod}/initContainers/0/securityContext"),
            json!({ "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] } }),
        ),
        ("pod.priorityClassName = 'p'", format!("{pod}/priorityClassName"), json!("p")),
        ("pod.containers = [{ name = 'workspace', image = 'j' }]", format!("{workspace}/image"), json!("j")),
        (
            "pod.containers = [{ name = 'log' }]",
            format!("{pod}/containers/1/terminationMessagePolicy"),
            json!("FallbackToLogsOnError"),
        ),
    ] {
        let set = made(with(keys));
        assert_eq!(set.pointer(&pointer).unwrap_or(&Value::Null), &expected, "{keys}: {set:#}");
    }
}

#[test]
fn what_the_rules_gave_stands_beside_the_workspace() {
    let rule = "image = { expression = \"'gpu' in groups ? 'cuda' : 'plain'\" }\nport = 80\nvolume = 'none'\nresources = { memory = '1Gi', cpu = 1 }";
    let set = made(template(rule));
    assert_eq!(set["metadata"]["annotations"]["usher.dev/values"], json!(r#"{"image":"cuda"}"#));
    assert_eq!(set["spec"]["template"]["spec"]["containers"][0]["image"], json!("cuda"));
    let missing = stateful_set(&spec(template(rule)), "w", 1).unwrap_err();
    assert_eq!(missing.to_string(), "image: has no value for this user");
}

#[test]
fn the_hash_tells_pods_apart_and_nothing_else() {
    let hash = |keys: &str| made(with(keys))["metadata"]["annotations"]["usher.dev/template-hash"].clone();
    assert_eq!(hash("idle_after = '1h'"), hash("idle_after = '2h'"));
    assert_eq!(hash("volume = { size = '1Gi' }"), hash("volume = { size = '2Gi' }"));
    assert_ne!(hash("stop_grace = '1s'"), hash("stop_grace = '2s'"));
    assert_ne!(hash("pod.hostname = 'a'"), hash("pod.hostname = 'b'"));
}

#[test]
fn no_overlay_reaches_what_makes_it_the_workspaces() {
    // PodSpec has no metadata: an overlay cannot name labels, owner, selector or claim.
    let plain = made(with(""));
    let overlaid = made(with("pod = { hostname = 'bob', subdomain = 'bob', serviceAccountName = 'bob' }"));
    for part in ["/spec/selector", "/spec/template/metadata", "/spec/volumeClaimTemplates", "/metadata/name"]
    {
        assert_eq!(plain.pointer(part), overlaid.pointer(part), "{part}");
    }
}

#[test]
fn a_warm_pod_is_its_templates_and_nobodys() {
    let keys =
        "volume = 'none'\nwarm = { ready = 1 }\ncommand = ['a', '{port}']\nenvironment = { A = '{home}' }";
    let warm = |name: &str| serde_json::to_value(warm_set(name, &with(keys), "workspaces").unwrap()).unwrap();
    let (mut set, other) = (warm("warm---t-abc"), warm("warm---t-xyz"));
    let hash = "/metadata/annotations/usher.dev~1template-hash";
    assert_eq!(set.pointer(hash), other.pointer(hash), "the name makes no other pod");
    let labels = json!({
        "usher.dev/warm": "warm---t-abc", "usher.dev/template": "t", "app.kubernetes.io/managed-by": "usher",
    });
    let mut owned = made(with(keys));
    assert_eq!(set["metadata"]["labels"], labels);
    assert_eq!(
        set["metadata"]["annotations"].as_object().map(serde_json::Map::len),
        Some(1),
        "only the hash"
    );
    assert_eq!(set["spec"]["replicas"], json!(1));
    assert_eq!(set["spec"]["selector"], json!({ "matchLabels": { "usher.dev/warm": "warm---t-abc" } }));
    assert_eq!(set["spec"]["template"]["metadata"], json!({ "labels": labels }));
    let environment = set.pointer("/spec/template/spec/containers/0/env").unwrap();
    let expected =
        json!([{ "name": "HOME", "value": "/home/workspace" }, { "name": "A", "value": "/home/workspace" }]);
    assert_eq!(*environment, expected);
    // All else is as for one who has come, and nothing anywhere is of a user.
    for one in [&mut set, &mut owned] {
        one.pointer_mut("/spec/template/spec/containers/0/env").unwrap().take();
    }
    assert_eq!(set["spec"]["template"]["spec"], owned["spec"]["template"]["spec"]);
    for theirs in ["alice", "id.example.org", "lab.example.org"] {
        assert!(!set.to_string().contains(theirs), "{theirs}: {set:#}");
    }
}

#[test]
fn a_warm_pod_with_a_volume_has_an_empty_one_and_then_its_users() {
    let template = with("volume = { size = '2Gi' }\nwarm = { ready = 1 }\nenvironment = { A = '{home}' }");
    let name = "warm---t-abc";
    let set = serde_json::to_value(warm_set(name, &template, "workspaces").unwrap()).unwrap();
    let claims = set.pointer("/spec/volumeClaimTemplates").unwrap().clone();
    let labels = json!({ "usher.dev/warm": name, "app.kubernetes.io/managed-by": "usher" });
    assert_eq!(claims[0]["metadata"], json!({ "name": "home", "labels": labels }), "it is nobody's");
    assert_eq!(claims[0]["spec"]["resources"], json!({ "requests": { "storage": "2Gi" } }));

    let spec = spec(template);
    let theirs = serde_json::to_value(warm_set_of(name, &spec, "workspaces").unwrap()).unwrap();
    let own = serde_json::to_value(stateful_set(&spec, "workspaces", 1).unwrap()).unwrap();
    for part in [
        "/metadata/name",
        "/metadata/labels",
        "/spec/selector",
        "/spec/volumeClaimTemplates",
        "/spec/replicas",
    ] {
        assert_eq!(theirs.pointer(part), set.pointer(part), "{part}");
    }
    let pod = "/spec/template/spec";
    assert_eq!(theirs.pointer(pod), own.pointer(pod), "its pod is as that of its own set");
    let told = "/spec/template/metadata/annotations";
    assert_eq!(theirs.pointer(told), own.pointer(told));
    assert_eq!(
        theirs.pointer("/metadata/annotations/usher.dev~1owner"),
        own.pointer("/metadata/annotations/usher.dev~1owner")
    );
}

/// Keys of templates, each of which may be there or not; what a template must not say is among them.
fn keys() -> impl Strategy<Value = Vec<&'static str>> {
    let all = vec![
        "command = ['a', '{home}']",
        "environment = { A = '{label}', B = { expression = 'user.name' } }",
        "run_as = { uid = 5, gid = 6, fs_group = 7 }",
        "mounts = [{ path = '/c', config_map = 'c' }, { path = '/e', empty_dir = '1Gi' }]",
        "service_account = 'sa'",
        "sidecars = [{ name = 's', image = 's' }, { name = 'r', securityContext = { runAsUser = 0 } }]",
        "init_containers = [{ name = 'i', securityContext = { capabilities = { add = ['NET_ADMIN'] } } }]",
        "pod.hostPID = true",
        "pod.automountServiceAccountToken = true",
        "pod.hostname = 'a'",
        "pod.securityContext.seccompProfile.type = 'Unconfined'",
        "pod.volumes = [{ name = 'h', hostPath = { path = '/' } }]",
        "pod.containers = [{ name = 'workspace', securityContext = { allowPrivilegeEscalation = true } }]",
    ];
    let count = all.len();
    prop::sample::subsequence(all, 0..=count)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is judged at load is what is made later, whatever the values.
    #[test]
    fn a_template_without_findings_makes_a_restricted_pod(keys in keys()) {
        let text = format!(
            "{HEAD}image = 'i'\nport = 80\nvolume = 'none'\nresources = {{ memory = '1Gi', cpu = 1 }}\n{}",
            keys.join("\n"),
        );
        let config = Config::parse("f", &text, &|_| None).unwrap_or_else(|e| panic!("{e}"));
        let is_accepted = crate::kubernetes::judge(&config).is_empty();
        let set = made(config.templates.into_values().next().unwrap());
        let pod: PodSpec = serde_json::from_value(set["spec"]["template"]["spec"].clone()).unwrap();
        let is_restricted = violations(&pod).is_empty() && tokens(&pod).is_empty();
        prop_assert_eq!(is_accepted, is_restricted, "{:?}", keys);
    }
}
