//! Who may reach whom.

use super::policies::{End, is_valid, lets_through};
use super::{HOME, by_acme, render, with};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

/// Who may reach whom, with these values.
fn reach(more: &Value) -> impl Fn(&End, &End, &str, u16) -> bool + use<> {
    let policies: Vec<NetworkPolicy> = render(&with(more)).all();
    move |from, to, protocol, port| lets_through(&policies, from, to, protocol, port)
}

fn replica() -> End {
    End::pod(HOME, &[("app.kubernetes.io/name", "usher"), ("app.kubernetes.io/instance", "usher")])
}

fn workspace(name: &str) -> End {
    End::pod("desks", &[("app.kubernetes.io/managed-by", "usher"), ("usher.dev/workspace", name)])
}

/// One that runs before its user comes.
fn warm() -> End {
    End::pod("desks", &[("app.kubernetes.io/managed-by", "usher"), ("usher.dev/warm", "warm---demo-abcde")])
}

fn dns() -> End {
    End::pod("kube-system", &[("k8s-app", "kube-dns")])
}

#[test]
fn only_usher_reaches_a_workspace() {
    let reaches = reach(&json!({}));
    let alice = workspace("alice");
    for port in [80, 8888] {
        assert!(reaches(&replica(), &alice, "TCP", port) && reaches(&replica(), &warm(), "TCP", port));
        assert!(!reaches(&alice, &warm(), "TCP", port));
        for (who, stranger) in [
            ("another workspace", workspace("bob")),
            ("a warm workspace", warm()),
            ("another pod of the namespace", End::pod("desks", &[("app", "batch")])),
            (
                "a pod of Usher's namespace that is not Usher",
                End::pod(HOME, &[("app.kubernetes.io/name", "usher-prepull")]),
            ),
            (
                "an usher of another namespace",
                End::pod(
                    "other",
                    &[("app.kubernetes.io/name", "usher"), ("app.kubernetes.io/instance", "usher")],
                ),
            ),
            ("somebody outside", End::at("192.0.2.1")),
            ("somebody in the private network", End::at("10.0.0.9")),
        ] {
            assert!(!reaches(&stranger, &alice, "TCP", port), "{who} reaches {port}");
        }
    }
}

#[test]
fn usher_reaches_names_and_identity_providers_where_the_operator_lets_it() {
    let (provider, inside) = (End::at("192.0.2.9"), End::pod("sso", &[("app", "keycloak")]));
    let reaches = reach(&json!({}));
    assert!(reaches(&replica(), &dns(), "UDP", 53) && reaches(&replica(), &provider, "TCP", 443));
    assert!(!reaches(&replica(), &provider, "TCP", 80));
    let api = json!({ "cidrs": ["192.0.2.1/32"] });
    let usher = |providers: Value| json!({ "networkPolicies": { "usher": { "apiServer": api, "dns": [], "providers": providers } } });
    let reaches = reach(&usher(json!({ "ports": [] })));
    assert!(!reaches(&replica(), &dns(), "UDP", 53) && !reaches(&replica(), &provider, "TCP", 443));
    let sso = json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "sso" } } });
    let reaches = reach(&usher(json!({ "to": [sso], "ports": [8443] })));
    assert!(reaches(&replica(), &inside, "TCP", 8443) && !reaches(&replica(), &provider, "TCP", 8443));
}

#[test]
fn a_workspace_reaches_names_and_the_portal_and_nothing_else() {
    let alice = workspace("alice");
    for (what, more, outside) in [
        ("as it comes", json!({}), false),
        ("with the internet", json!({ "networkPolicies": { "workspaces": { "internet": true } } }), true),
    ] {
        let reaches = reach(&more);
        assert!(reaches(&alice, &dns(), "UDP", 53) && reaches(&alice, &dns(), "TCP", 53), "{what}: no names");
        assert!(!reaches(&alice, &dns(), "TCP", 9153), "{what}");
        assert!(reaches(&alice, &replica(), "TCP", 8080), "{what}: no keys of assertions");
        assert!(!reaches(&alice, &replica(), "TCP", 9090), "{what}: the operator's side");
        assert!(!reaches(&alice, &workspace("bob"), "TCP", 8888), "{what}: bob");
        for (name, address) in [
            ("the API server's Service", "10.96.0.1"),
            ("a node, with the API server or the kubelet", "192.168.1.10"),
            ("a node of a provider with carriers' addresses", "100.64.3.1"),
            ("metadata of most clouds", "169.254.169.254"),
            ("metadata over IPv6", "fd00:ec2::254"),
            ("metadata of Alibaba", "100.100.100.200"),
            ("metadata of Oracle", "192.0.0.192"),
            ("the wire server of Azure", "168.63.129.16"),
            ("a link", "fe80::1"),
        ] {
            for port in [80, 443, 6443, 10250] {
                assert!(!reaches(&alice, &End::at(address), "TCP", port), "{what}: {name} at {port}");
            }
        }
        assert_eq!(reaches(&alice, &End::at("192.0.2.1"), "TCP", 443), outside, "{what}");
        let six = End::at("2606:4700::1111");
        assert!(
            !reaches(&alice, &six, "TCP", 443),
            "{what}: nobody said which IPv6 networks are the cluster's"
        );
    }
}

/// With the internet open, and these networks named as the cluster's.
fn internet(pods: &[&str], never: &[&str]) -> Value {
    json!({
        "workspaces": { "podNetworks": pods },
        "networkPolicies": { "workspaces": { "internet": true, "never": never } },
    })
}

#[test]
fn a_workspace_with_the_internet_reaches_no_pod_at_a_public_address() {
    let reaches = reach(&internet(&["34.118.0.0/17", "2600:1900:4::/48"], &[]));
    let (alice, bob) = (workspace("alice"), workspace("bob"));
    let batch = End::pod("other", &[("app", "batch")]);
    for address in ["34.118.0.9", "2600:1900:4::9"] {
        for pod in [&bob, &batch] {
            assert!(!reaches(&alice, &pod.clone().moved(address), "TCP", 8888), "{pod:?} at {address}");
        }
    }
    for address in ["192.0.2.1", "34.118.128.1", "2606:4700::1111", "2600:1900:5::1"] {
        assert!(reaches(&alice, &End::at(address), "TCP", 443), "{address}");
    }
}

#[test]
fn ipv6_is_open_only_where_the_clusters_own_is_named() {
    let (four, six) = (End::at("192.0.2.1"), End::at("2606:4700::1111"));
    for (pods, never, opens) in [
        (&[][..], &[][..], (true, false)),
        (&["100.64.0.0/10"], &["198.51.100.7/32"], (true, false)),
        (&["2600:1900:4::/48"], &[], (true, true)),
        (&[], &["2001:DB8:7::/48"], (true, true)),
        // Not part of what is public: it is shut already.
        (&["fd00:10::/56"], &["2::/16", "fe80::/10"], (true, true)),
        // As wide as what would be open.
        (&[], &["::/0"], (true, false)),
        (&["2000::/3"], &["2001:db8::/32"], (true, false)),
        (&["2001:db8::/32"], &["0.0.0.0/0"], (false, true)),
        (&["0.0.0.0/0"], &["::/0"], (false, false)),
    ] {
        let more = internet(pods, never);
        let reaches = reach(&more);
        let open = |end: &End| reaches(&workspace("alice"), end, "TCP", 443);
        assert_eq!((open(&four), open(&six)), opens, "{more}");
        assert!(!open(&End::at("10.96.0.1")), "{more}");
        let policies: Vec<NetworkPolicy> = render(&with(&more)).all();
        let rules = policies.into_iter().filter_map(|policy| policy.spec?.egress).flatten();
        for block in rules.filter_map(|rule| rule.to).flatten().filter_map(|peer| peer.ip_block) {
            assert!(is_valid(&block), "{more}: the API refuses {block:?}");
        }
    }
}

#[test]
fn the_operator_says_what_else_is_open_and_shut() {
    let reaches = reach(&json!({ "networkPolicies": { "workspaces": {
        "internet": true, "portal": false, "dns": [],
        "never": ["198.51.100.7/32", "2001:db8:7::/48"],
        "egress": [{ "to": [{ "ipBlock": { "cidr": "10.9.0.0/16" } }], "ports": [{ "protocol": "TCP", "port": 5432 }] }],
    } } }));
    let alice = workspace("alice");
    assert!(!reaches(&alice, &End::at("198.51.100.7"), "TCP", 443), "a public API server");
    assert!(!reaches(&alice, &End::at("2001:db8:7::1"), "TCP", 443), "one over IPv6");
    assert!(reaches(&alice, &End::at("198.51.100.8"), "TCP", 443));
    assert!(reaches(&alice, &End::at("10.9.1.1"), "TCP", 5432));
    assert!(!reaches(&alice, &End::at("10.9.1.1"), "TCP", 22));
    assert!(!reaches(&alice, &dns(), "UDP", 53));
    assert!(!reaches(&alice, &replica(), "TCP", 8080));
}

#[test]
fn no_workspace_opens_a_connection_that_says_whose_it_is() {
    let to_the_portal = |more: &Value| reach(more)(&workspace("alice"), &replica(), "TCP", 8080);
    assert!(to_the_portal(&json!({})));
    assert!(!to_the_portal(&json!({ "proxyProtocol": true })));
}

#[test]
fn usher_is_reached_at_its_listener_and_reaches_the_api_server_and_workspaces() {
    let reaches = reach(&json!({}));
    let usher = replica();
    assert!(reaches(&End::at("192.0.2.1"), &usher, "TCP", 8080));
    assert!(!reaches(&End::at("192.0.2.1"), &usher, "TCP", 9090), "the operator's side is open to the world");
    assert!(!reaches(&End::pod("other", &[]), &usher, "TCP", 9090));
    assert!(
        reaches(&usher, &End::at("10.96.0.1"), "TCP", 443)
            && reaches(&usher, &End::at("10.0.0.1"), "TCP", 6443)
    );
    assert!(!reaches(&usher, &End::at("169.254.169.254"), "TCP", 80), "metadata");
    assert!(!reaches(&usher, &End::pod("other", &[]), "TCP", 8888));

    let monitoring =
        json!({ "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "monitoring" } } });
    let strict = reach(&json!({ "tls": { "secret": "wildcard" }, "networkPolicies": { "usher": {
        "from": [{ "ipBlock": { "cidr": "192.0.2.0/24" } }], "adminFrom": [monitoring],
        "apiServer": { "cidrs": ["10.96.0.1/32"], "ports": [443] },
    } } }));
    assert!(
        strict(&End::at("192.0.2.1"), &usher, "TCP", 8443)
            && !strict(&End::at("198.51.100.1"), &usher, "TCP", 8443)
    );
    assert!(strict(&End::pod("monitoring", &[]), &usher, "TCP", 9090));
    assert!(!strict(&End::pod("monitoring", &[]), &usher, "TCP", 8443));
    assert!(
        strict(&usher, &End::at("10.96.0.1"), "TCP", 443)
            && !strict(&usher, &End::at("10.0.0.1"), "TCP", 443)
    );
}

#[test]
fn authorities_reach_port_80_and_usher_the_servers_of_its_domain() {
    let (world, usher) = (End::at("192.0.2.1"), replica());
    let (plain, http) = (reach(&json!({ "tls": { "secret": "wildcard" } })), reach(&by_acme("http-01")));
    assert!(http(&world, &usher, "TCP", 8443) && http(&world, &usher, "TCP", 8080));
    assert!(!plain(&world, &usher, "TCP", 8080), "nobody listens there");
    let dns = reach(&by_acme("dns-01"));
    for protocol in ["UDP", "TCP"] {
        assert!(dns(&usher, &End::at("192.0.2.53"), protocol, 53));
        assert!(!http(&usher, &End::at("192.0.2.53"), protocol, 53));
    }
}

#[test]
fn usher_reaches_the_pods_that_its_routes_lead_to_and_no_others() {
    let routes = json!([
        { "namespace": "docs", "deployments": ["wiki"], "podLabels": { "app": "wiki" }, "ports": [8080] },
        { "namespace": "tools", "statefulSets": ["search"] },
    ]);
    let (reaches, usher) = (reach(&json!({ "routes": routes })), replica());
    let wiki = End::pod("docs", &[("app", "wiki")]);
    assert!(reaches(&usher, &wiki, "TCP", 8080) && !reaches(&usher, &wiki, "TCP", 22));
    assert!(!reaches(&usher, &End::pod("docs", &[("app", "forum")]), "TCP", 8080));
    assert!(reaches(&usher, &End::pod("tools", &[("app", "search")]), "TCP", 9200));
    assert!(!reaches(&usher, &End::pod("other", &[("app", "wiki")]), "TCP", 8080));
}

#[test]
fn a_pulled_image_talks_to_nobody() {
    let reaches = reach(&json!({ "prepull": { "images": ["one"] } }));
    let pulled = End::pod(
        HOME,
        &[("app.kubernetes.io/name", "usher-prepull"), ("app.kubernetes.io/instance", "usher")],
    );
    assert!(!reaches(&pulled, &End::at("10.96.0.1"), "TCP", 443));
    assert!(!reaches(&pulled, &replica(), "TCP", 8080));
    assert!(!reaches(&workspace("alice"), &pulled, "TCP", 80));
}

#[test]
fn whatever_else_runs_beside_workspaces_is_shut_off() {
    let reaches = reach(&json!({ "workspaces": { "namespaces": ["desks", "labs"] } }));
    for namespace in ["desks", "labs"] {
        let batch = End::pod(namespace, &[("app", "batch")]);
        for other in [replica(), workspace("alice"), dns(), End::at("192.0.2.1")] {
            for port in [53, 443, 8080] {
                assert!(!reaches(&other, &batch, "TCP", port), "{namespace}: {other:?} reaches it at {port}");
                assert!(!reaches(&batch, &other, "TCP", port), "{namespace}: it reaches {other:?} at {port}");
            }
        }
    }
    let bob = End::pod("labs", &[("app.kubernetes.io/managed-by", "usher")]);
    assert!(reaches(&replica(), &bob, "TCP", 8888));
    assert!(!reaches(&workspace("alice"), &bob, "TCP", 8888), "a workspace of another namespace");
}
