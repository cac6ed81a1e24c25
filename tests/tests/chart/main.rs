//! The Helm chart on paper: what it makes of values, judged by its meaning. `installed.rs` runs it.

mod objects;
mod policies;
mod reach;
mod values;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Container, PodSpec};
use serde_json::{Value, json};
use tests::Rendered;

/// Where the release is in these tests; its workspaces are in `desks`.
const HOME: &str = "usher";

/// The least that the chart needs.
fn least() -> Value {
    json!({
        "image": { "repository": "registry.example.org/usher" },
        "domain": "lab.example.org",
        "config": "[access]\nallow = \"true\"\ntemplate = \"'demo'\"\n\n[templates.demo]\nimage = \"demo\"\n\
            port = 8888\nresources = { cpu = \"1\", memory = \"1Gi\" }\nvolume = \"none\"\n",
        "workspaces": { "namespaces": ["desks"] },
    })
}

/// [`least`] with further values over it.
fn with(more: &Value) -> Value {
    let mut values = least();
    merge(&mut values, more);
    values
}

fn merge(values: &mut Value, more: &Value) {
    match (values, more) {
        (Value::Object(values), Value::Object(more)) => {
            for (key, value) in more {
                merge(values.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (value, more) => *value = more.clone(),
    }
}

fn render(values: &Value) -> Rendered {
    Rendered::new(HOME, values).unwrap_or_else(|said| panic!("{values:#} is refused: {said}"))
}

/// Every value is another than its default.
fn everything() -> Value {
    let peer =
        json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "monitoring" } } });
    let toleration = json!({ "key": "spot", "operator": "Exists" });
    let config =
        format!("trusted_proxies = [\"10.0.0.0/16\"]\n{}", least()["config"].as_str().expect("a text"));
    with(&json!({
        "config": config,
        "proxyProtocol": true,
        "image": { "tag": "2", "pullPolicy": "Always", "pullSecrets": ["registry", "mirror"] },
        "replicas": 3,
        "portal": "auth.lab.example.org",
        "tls": { "secret": "wildcard" },
        "secrets": ["providers", "more"],
        "service": {
            "type": "LoadBalancer", "port": 8443, "redirectPort": 8081, "nodePort": 30443, "annotations": { "a": "b" },
            "loadBalancerClass": "example.org/lb", "loadBalancerSourceRanges": ["192.0.2.0/24"],
            "externalTrafficPolicy": "Local",
        },
        "publicPort": 443,
        "drain": { "delay": 1, "after": 2, "spread": 3 },
        "adminIp": "::",
        "log": "debug",
        "workspaces": {
            "namespaces": ["desks", "labs"], "create": true, "podSecurity": "baseline",
            "podNetworks": ["100.64.0.0/10", "2001:db8::/32"],
        },
        "networkPolicies": {
            "usher": {
                "from": [peer], "adminFrom": [peer], "apiServer": { "cidrs": ["192.0.2.7/32"], "ports": [6443] },
                "dns": [peer], "providers": { "to": [peer], "ports": [8443] },
            },
            "workspaces": {
                "portal": false, "internet": true, "never": ["198.51.100.0/24", "2001:db8::/32"],
                "egress": [{ "to": [{ "ipBlock": { "cidr": "10.9.0.0/16" } }], "ports": [{ "protocol": "TCP", "port": 5432 }] }],
            },
        },
        "prepull": {
            "images": ["one:1", "two:2"], "pullSecrets": ["registry"], "command": ["/true"], "pauseImage": "pause:1",
            "nodeSelector": { "users": "yes" }, "tolerations": [toleration],
        },
        "serviceAccount": { "annotations": { "a": "b" } },
        "resources": { "requests": { "cpu": "1", "memory": "1Gi" }, "limits": { "memory": "2Gi" } },
        "podAnnotations": { "a": "b" }, "podLabels": { "team": "edge" }, "nodeSelector": { "edge": "yes" },
        "tolerations": [toleration], "priorityClassName": "high",
        "affinity": { "nodeAffinity": {} },
        "topologySpreadConstraints": [{ "maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule" }],
    }))
}

/// What makes Usher get certificates by itself.
fn by_acme(challenge: &str) -> Value {
    let bind = "[dns_providers.bind]\nkind = \"rfc2136\"\nserver = \"192.0.2.53:53\"\n";
    json!({
        "acme": {
            "directory": "https://acme.example.org/directory", "termsOfServiceAgreed": true,
            "contact": ["mailto:edge@example.org"], "challenge": challenge,
        },
        "config": format!("{}{bind}", least()["config"].as_str().expect("a text")),
    })
}

/// Kinds of values, each with a name.
fn variants() -> Vec<(&'static str, Value)> {
    vec![
        ("the least", least()),
        ("https", with(&json!({ "tls": { "secret": "wildcard" } }))),
        ("https by http-01", with(&by_acme("http-01"))),
        ("https by dns-01", with(&by_acme("dns-01"))),
        ("everything", everything()),
        ("a Secret has all", with(&json!({ "config": "", "existingConfig": { "secret": "mine" } }))),
        (
            "a ConfigMap has all",
            with(&json!({ "config": "", "existingConfig": { "configMap": "mine", "key": "it" } })),
        ),
    ]
}

fn pod(rendered: &Rendered) -> PodSpec {
    let deployment: Deployment = rendered.one();
    deployment.spec.and_then(|spec| spec.template.spec).expect("a Deployment has pods")
}

fn usher(pod: &PodSpec) -> &Container {
    assert_eq!(pod.containers.len(), 1);
    &pod.containers[0]
}

/// The configuration that the chart writes.
fn toml(rendered: &Rendered) -> String {
    let map: ConfigMap = rendered.one();
    let data = map.data.expect("the map has data");
    assert_eq!(data.keys().collect::<Vec<_>>(), ["usher.toml"]);
    data["usher.toml"].clone()
}
