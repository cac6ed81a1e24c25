//! What the objects are, and what outlives them.

use super::{HOME, everything, least, pod, render, toml, usher, variants, with};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Container, Namespace, Probe, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

#[test]
fn every_field_of_every_object_is_one_that_kubernetes_knows() {
    for (name, values) in variants() {
        let rendered = render(&values);
        let known = rendered.all::<ConfigMap>().len()
            + rendered.all::<DaemonSet>().len()
            + rendered.all::<Deployment>().len()
            + rendered.all::<Namespace>().len()
            + rendered.all::<NetworkPolicy>().len()
            + rendered.all::<PodDisruptionBudget>().len()
            + rendered.all::<Role>().len()
            + rendered.all::<RoleBinding>().len()
            + rendered.all::<Service>().len()
            + rendered.all::<ServiceAccount>().len();
        assert_eq!(known, rendered.objects.len(), "{name}: an object of a kind that no test looks at");
        for object in &rendered.objects {
            assert!(object["metadata"]["name"].as_str().unwrap().len() <= 63, "{name}: {object:#}");
        }
    }
}

#[test]
fn secrets_stay_in_secrets() {
    for (name, values) in variants() {
        let rendered = render(&values);
        assert!(rendered.all::<Secret>().is_empty(), "{name}: helm keeps what it renders, readable by more");
        let maps = rendered.all::<ConfigMap>();
        assert_eq!(maps.len(), usize::from(!name.ends_with("has all")), "{name}");
    }
    let pod = pod(&render(&with(
        &json!({ "config": "", "existingConfig": { "secret": "mine" }, "tls": { "secret": "wildcard" } }),
    )));
    let sources: Vec<String> =
        pod.volumes.unwrap().into_iter().filter_map(|volume| volume.secret?.secret_name).collect();
    assert_eq!(sources, ["mine"], "a certificate is watched, and not mounted");
}

#[test]
fn a_changed_configuration_makes_other_pods_and_nothing_else_does() {
    let template = |values: &Value| {
        let deployment: Deployment = render(values).one();
        deployment.spec.unwrap().template
    };
    let config = format!("{}# a comment\n", least()["config"].as_str().unwrap());
    assert_ne!(template(&least()), template(&with(&json!({ "config": config }))));
    for same in [
        json!({ "replicas": 7 }),
        json!({ "service": { "annotations": { "a": "b" } } }),
        json!({ "prepull": { "images": ["one"] } }),
        json!({ "networkPolicies": { "workspaces": { "internet": true } } }),
    ] {
        assert_eq!(template(&least()), template(&with(&same)), "{same}");
    }
}

/// What a drain takes at most, with its last words (`LAST_WORDS` in `proxy/src/drain.rs`).
const LAST_WORDS: i64 = 8;

#[test]
fn kubernetes_waits_for_the_end_of_a_drain_and_nobody_else_puts_it_off() {
    for (delay, after, spread) in [(10, 300, 30), (0, 0, 0), (60, 3600, 120)] {
        let drain = json!({ "drain": { "delay": delay, "after": after, "spread": spread } });
        let rendered = render(&with(&drain));
        let pod = pod(&rendered);
        let granted = pod.termination_grace_period_seconds.unwrap();
        assert!(granted > delay + after + spread + LAST_WORDS, "{granted} for {drain}");
        assert!(usher(&pod).lifecycle.is_none(), "a hook would eat of the time that is granted");
        assert!(
            toml(&rendered)
                .contains(&format!("delay = \"{delay}s\"\nafter = \"{after}s\"\nspread = \"{spread}s\""))
        );
    }
}

#[test]
fn replicas_are_replaced_one_by_one_and_never_wanting() {
    for (name, values) in variants() {
        let rendered = render(&values);
        let deployment: Deployment = rendered.one();
        let spec = deployment.spec.unwrap();
        assert_eq!(spec.replicas, Some(values["replicas"].as_i64().unwrap_or(2) as i32), "{name}");
        let rolling = spec.strategy.unwrap().rolling_update.unwrap();
        assert_eq!(rolling.max_unavailable, Some(IntOrString::Int(0)), "{name}");
        assert_eq!(rolling.max_surge, Some(IntOrString::Int(1)), "{name}");
        let budget: PodDisruptionBudget = rendered.one();
        let budget = budget.spec.unwrap();
        assert_eq!(budget.max_unavailable, Some(IntOrString::Int(1)), "{name}: a drain of a node must end");
        assert_eq!(budget.selector, Some(spec.selector.clone()), "{name}");

        let labels = spec.template.metadata.unwrap().labels.unwrap();
        let service: Service = rendered.one();
        let selector = service.spec.unwrap().selector.unwrap();
        assert_eq!(Some(&selector), spec.selector.match_labels.as_ref(), "{name}");
        assert!(selector.iter().all(|pair| labels.iter().any(|other| other == pair)), "{name}");
        for set in rendered.all::<DaemonSet>() {
            let labels = set.spec.unwrap().template.metadata.unwrap().labels.unwrap();
            assert!(
                !selector.iter().all(|(key, value)| labels.get(key) == Some(value)),
                "{name}: served by pause"
            );
        }
    }
    let spread = pod(&render(&least()));
    assert!(spread.affinity.unwrap().pod_anti_affinity.is_some());
    assert_eq!(spread.topology_spread_constraints.unwrap()[0].when_unsatisfiable, "ScheduleAnyway");
}

#[test]
fn kubernetes_asks_the_admin_listener_how_usher_is() {
    for (name, values) in variants() {
        let pod = pod(&render(&values));
        let usher = usher(&pod);
        let asked = |probe: &Option<Probe>| {
            let get = probe.as_ref().unwrap().http_get.clone().unwrap();
            assert_eq!(get.port, IntOrString::String("admin".to_owned()), "{name}");
            get.path.unwrap()
        };
        assert_eq!(asked(&usher.startup_probe), "/livez", "{name}");
        assert_eq!(asked(&usher.liveness_probe), "/livez", "{name}");
        assert_eq!(asked(&usher.readiness_probe), "/readyz", "{name}");
        let ports = usher.ports.as_ref().unwrap();
        let named = |name: &str| {
            ports.iter().find(|port| port.name.as_deref() == Some(name)).map(|port| port.container_port)
        };
        assert_eq!(named("admin"), Some(9090), "{name}");
        let secret = values["tls"]["secret"].is_string();
        let redirects = values["acme"].is_object() || values["service"]["redirectPort"].is_number();
        let expected = match (secret, redirects) {
            (false, false) => (Some(8080), None),
            (_, redirects) => (redirects.then_some(8080), Some(8443)),
        };
        assert_eq!((named("http"), named("https")), expected, "{name}");
        let service: Service = render(&values).one();
        let led: Vec<_> = service.spec.unwrap().ports.unwrap().into_iter().map(|port| port.name).collect();
        let all = ["https", "http"].into_iter().filter(|port| named(port).is_some());
        assert_eq!(led, all.map(|port| Some(port.to_owned())).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn what_users_have_outlives_the_release() {
    let rendered = render(&everything());
    let kept: Vec<String> = rendered
        .objects
        .iter()
        .filter(|object| object["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep")
        .map(|object| {
            format!("{} {}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
        })
        .collect();
    let deny = "NetworkPolicy usher-deny";
    assert_eq!(kept, ["Namespace desks", "Namespace labs", deny, deny]);
    for namespace in rendered.all::<Namespace>() {
        let labels = namespace.metadata.labels.unwrap();
        assert_eq!(labels["pod-security.kubernetes.io/enforce"], "baseline");
    }
    assert!(render(&least()).all::<Namespace>().is_empty(), "made though nobody asked");
}

#[test]
fn every_namespace_of_workspaces_has_the_same_role_and_usher_has_no_right_beyond_them() {
    let rendered = render(&everything());
    let roles = rendered.all::<Role>();
    let of = |namespace: &str| {
        roles.iter().find(|role| role.metadata.namespace.as_deref() == Some(namespace)).unwrap()
    };
    assert_eq!(roles.len(), 3);
    assert_eq!(of("desks").rules, of("labs").rules);
    let resources = |role: &Role| -> Vec<String> {
        role.rules.iter().flatten().flat_map(|rule| rule.resources.clone().unwrap_or_default()).collect()
    };
    assert!(
        !resources(of("desks")).iter().any(|resource| resource == "secrets"),
        "it could read what templates hide"
    );
    assert_eq!(resources(of(HOME)), ["secrets", "leases", "leases"]);
    for role in &roles {
        for rule in role.rules.iter().flatten() {
            let words = [&Some(rule.verbs.clone()), &rule.resources, &rule.api_groups];
            assert!(words.into_iter().flatten().flatten().all(|word| word != "*"), "{rule:?}");
        }
    }
    for binding in rendered.all::<RoleBinding>() {
        let subjects = binding.subjects.unwrap();
        assert_eq!(subjects.len(), 1);
        assert_eq!((subjects[0].name.as_str(), subjects[0].namespace.as_deref()), ("usher", Some(HOME)));
    }
}

#[test]
fn what_routes_lead_to_may_be_watched_and_scaled_by_its_name_and_nothing_else_of_its_namespace() {
    let routes = json!([
        { "namespace": "docs", "deployments": ["wiki", "forum"], "statefulSets": ["search"] },
        { "namespace": "desks", "deployments": ["board"] },
    ]);
    let rendered = render(&with(&json!({ "routes": routes })));
    let role = |name: &str| {
        let roles = rendered.all::<Role>();
        let role = roles.into_iter().find(|role| role.metadata.name.as_deref() == Some(name)).unwrap();
        let rules = serde_json::to_value(role.rules).unwrap();
        (role.metadata.namespace.unwrap(), rules)
    };
    let of = |resource: &str, names: Value| {
        json!({ "apiGroups": ["apps"], "resources": [resource], "resourceNames": names,
            "verbs": ["list", "watch", "patch"] })
    };
    let told = json!({ "apiGroups": [""], "resources": ["pods", "events"], "verbs": ["list", "watch"] });
    let docs =
        json!([of("deployments", json!(["wiki", "forum"])), of("statefulsets", json!(["search"])), told]);
    assert_eq!(role("usher-routes-0"), ("docs".to_owned(), docs));
    let desks = json!([of("deployments", json!(["board"])), told]);
    assert_eq!(role("usher-routes-1"), ("desks".to_owned(), desks));
    let bound = |binding: &RoleBinding| {
        let name = binding.role_ref.name.clone();
        (name.starts_with("usher-routes-")).then(|| (name, binding.metadata.namespace.clone().unwrap()))
    };
    let bindings = rendered.all::<RoleBinding>();
    let bound: Vec<_> = bindings.iter().filter_map(bound).collect();
    let expected = [("usher-routes-0", "docs"), ("usher-routes-1", "desks")];
    assert_eq!(bound, expected.map(|(role, namespace)| (role.to_owned(), namespace.to_owned())));
}

#[test]
fn only_usher_has_a_token_of_the_cluster() {
    let rendered = render(&everything());
    assert_eq!(pod(&rendered).automount_service_account_token, Some(true));
    let set: DaemonSet = rendered.one();
    assert_eq!(set.spec.unwrap().template.spec.unwrap().automount_service_account_token, Some(false));
    assert_eq!(rendered.one::<ServiceAccount>().automount_service_account_token, Some(false));
}

#[test]
fn images_are_pulled_before_anybody_waits_for_them() {
    let set: DaemonSet = render(&everything()).one();
    let pod = set.spec.unwrap().template.spec.unwrap();
    let images = |containers: &[Container]| -> Vec<String> {
        containers.iter().filter_map(|container| container.image.clone()).collect()
    };
    assert_eq!(images(&pod.init_containers.unwrap()), ["one:1", "two:2"]);
    assert_eq!(images(&pod.containers), ["pause:1"]);
    assert!(render(&least()).all::<DaemonSet>().is_empty());
}

#[test]
fn an_image_is_named_by_tag_or_digest() {
    let image = |values: &Value| usher(&pod(&render(values))).image.clone().unwrap();
    assert_eq!(image(&least()), concat!("registry.example.org/usher:", env!("CARGO_PKG_VERSION")));
    assert_eq!(image(&with(&json!({ "image": { "tag": "2" } }))), "registry.example.org/usher:2");
    let digest = format!("sha256:{}", "ab".repeat(32));
    let expected = format!("registry.example.org/usher@{digest}");
    assert_eq!(image(&with(&json!({ "image": { "digest": digest } }))), expected);
}
