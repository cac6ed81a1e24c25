//! NetworkPolicies on paper: who may reach whom, by their meaning.
//!
//! Source: kubernetes.io, *Network Policies*, and the API reference of `NetworkPolicySpec`. Where implementations differ
//! it is judged for the worse: a block of addresses is taken to hold for pods in it, too.

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use std::net::IpAddr;

pub type Labels = BTreeMap<String, String>;

/// Labels from pairs.
pub fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// One end of a connection.
#[derive(Debug, Clone)]
pub struct End {
    address: IpAddr,
    /// Namespace and labels; none = no pod of this cluster.
    pod: Option<(String, Labels)>,
}

impl End {
    /// Something that is no pod.
    pub fn at(address: &str) -> Self {
        Self { address: address.parse().expect("a test's address is valid"), pod: None }
    }

    /// A pod, at some address of the pods.
    pub fn pod(namespace: &str, pairs: &[(&str, &str)]) -> Self {
        Self { pod: Some((namespace.to_owned(), labels(pairs))), ..Self::at("10.244.0.7") }
    }

    /// The same, at another address.
    pub fn moved(self, address: &str) -> Self {
        Self { pod: self.pod, ..Self::at(address) }
    }
}

/// Whether a connection is let through at both of its ends.
pub fn lets_through(policies: &[NetworkPolicy], from: &End, to: &End, protocol: &str, port: u16) -> bool {
    let out = |spec: &NetworkPolicySpec| {
        spec.egress.iter().flatten().any(|rule| {
            peers(policies_namespace(from), rule.to.as_deref(), to)
                && ports(rule.ports.as_deref(), protocol, port)
        })
    };
    let into = |spec: &NetworkPolicySpec| {
        spec.ingress.iter().flatten().any(|rule| {
            peers(policies_namespace(to), rule.from.as_deref(), from)
                && ports(rule.ports.as_deref(), protocol, port)
        })
    };
    side(policies, from, "Egress", out) && side(policies, to, "Ingress", into)
}

fn policies_namespace(end: &End) -> &str {
    end.pod.as_ref().map_or("", |(namespace, _)| namespace)
}

/// One end's say: without a policy that selects it everything goes, else what any of them allows.
fn side(
    policies: &[NetworkPolicy],
    end: &End,
    direction: &str,
    allows: impl Fn(&NetworkPolicySpec) -> bool,
) -> bool {
    let Some((namespace, labels)) = &end.pod else { return true };
    let selecting: Vec<&NetworkPolicySpec> = policies
        .iter()
        .filter(|policy| policy.metadata.namespace.as_ref() == Some(namespace))
        .filter_map(|policy| policy.spec.as_ref())
        .filter(|spec| spec.pod_selector.as_ref().is_some_and(|selector| selects(selector, labels)))
        .filter(|spec| spec.policy_types.iter().flatten().any(|kind| kind == direction))
        .collect();
    selecting.is_empty() || selecting.into_iter().any(allows)
}

/// Whether a rule of a policy in `home` means this end; a rule without peers means all.
fn peers(home: &str, peers: Option<&[NetworkPolicyPeer]>, end: &End) -> bool {
    peers.is_none_or(|peers| peers.is_empty() || peers.iter().any(|peer| is_meant(home, peer, end)))
}

fn is_meant(home: &str, peer: &NetworkPolicyPeer, end: &End) -> bool {
    if let Some(block) = &peer.ip_block {
        return is_in(block, end.address);
    }
    let Some((namespace, labels)) = &end.pod else { return false };
    // Every namespace carries its name as a label.
    let of_namespace = self::labels(&[("kubernetes.io/metadata.name", namespace)]);
    let in_namespace = match &peer.namespace_selector {
        Some(selector) => selects(selector, &of_namespace),
        None => namespace == home,
    };
    in_namespace && peer.pod_selector.as_ref().is_none_or(|selector| selects(selector, labels))
}

fn ports(ports: Option<&[NetworkPolicyPort]>, protocol: &str, port: u16) -> bool {
    let is_it = |allowed: &NetworkPolicyPort| {
        let first = match &allowed.port {
            None => return allowed.protocol.as_deref().unwrap_or("TCP") == protocol,
            Some(IntOrString::Int(number)) => *number,
            Some(IntOrString::String(name)) => {
                panic!("a named port, {name}, means what each pod makes of it")
            }
        };
        let range = first..=allowed.end_port.unwrap_or(first);
        allowed.protocol.as_deref().unwrap_or("TCP") == protocol && range.contains(&i32::from(port))
    };
    ports.is_none_or(|ports| ports.is_empty() || ports.iter().any(is_it))
}

fn selects(selector: &LabelSelector, labels: &Labels) -> bool {
    let holds = |requirement: &LabelSelectorRequirement| {
        let value = labels.get(&requirement.key);
        let among = |value: &String| requirement.values.iter().flatten().any(|allowed| allowed == value);
        match requirement.operator.as_str() {
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            "In" => value.is_some_and(among),
            "NotIn" => !value.is_some_and(among),
            other => panic!("no operator of selectors: {other}"),
        }
    };
    selector.match_labels.iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
        && selector.match_expressions.iter().flatten().all(holds)
}

fn is_in(block: &IPBlock, address: IpAddr) -> bool {
    covers(&block.cidr, address) && !block.except.iter().flatten().any(|except| covers(except, address))
}

/// Whether the API takes a block: each exception lies within it and is smaller (`ValidateIPBlock`).
pub fn is_valid(block: &IPBlock) -> bool {
    let (_, width) = network(&block.cidr);
    block.except.iter().flatten().all(|except| {
        let (base, prefix) = network(except);
        covers(&block.cidr, base) && prefix > width
    })
}

fn network(cidr: &str) -> (IpAddr, u32) {
    let (base, prefix) = cidr.split_once('/').expect("CIDR notation");
    (base.parse().expect("an address"), prefix.parse().expect("a number of bits"))
}

fn covers(cidr: &str, address: IpAddr) -> bool {
    let (base, prefix) = network(cidr);
    let (bits, base_bits, width) = match (address, base) {
        (IpAddr::V4(address), IpAddr::V4(base)) => {
            (u128::from(address.to_bits()), u128::from(base.to_bits()), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(base)) => (address.to_bits(), base.to_bits(), 128),
        _ => return false,
    };
    (bits ^ base_bits).checked_shr(width - prefix).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_address_is_in_its_block_but_not_in_what_is_excepted() {
        for (cidr, except, address, expected) in [
            ("0.0.0.0/0", "10.0.0.0/8", "192.0.2.1", true),
            ("0.0.0.0/0", "10.0.0.0/8", "10.1.2.3", false),
            ("0.0.0.0/0", "10.0.0.0/8", "::1", false),
            ("192.0.2.1/32", "192.0.2.2/32", "192.0.2.1", true),
            ("192.0.2.1/32", "192.0.2.2/32", "192.0.2.3", false),
            ("2000::/3", "2001:db8::/32", "2606:4700::1", true),
            ("2000::/3", "2001:db8::/32", "2001:db8::1", false),
            ("2000::/3", "2001:db8::/32", "fd00::1", false),
        ] {
            let block = IPBlock { cidr: cidr.to_owned(), except: Some(vec![except.to_owned()]) };
            assert_eq!(is_in(&block, address.parse().unwrap()), expected, "{cidr} {except} {address}");
        }
    }

    #[test]
    fn what_is_excepted_must_be_a_true_part_of_the_block() {
        for (cidr, except, expected) in [
            ("0.0.0.0/0", "10.0.0.0/8", true),
            ("0.0.0.0/0", "0.0.0.0/0", false),
            ("0.0.0.0/0", "2001:db8::/32", false),
            ("2000::/3", "2001:db8::/32", true),
            ("2000::/3", "2000::/3", false),
            ("2000::/3", "fd00::/8", false),
        ] {
            let block = IPBlock { cidr: cidr.to_owned(), except: Some(vec![except.to_owned()]) };
            assert_eq!(is_valid(&block), expected, "{cidr} {except}");
        }
    }

    #[test]
    fn policies_add_up_and_only_for_the_pods_and_the_direction_that_they_name() {
        let policies: Vec<NetworkPolicy> = serde_json::from_value(json!([
            { "metadata": { "namespace": "a" }, "spec": { "podSelector": {}, "policyTypes": ["Ingress"] } },
            { "metadata": { "namespace": "a" }, "spec": {
                "podSelector": { "matchLabels": { "app": "web" } }, "policyTypes": ["Ingress"],
                "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "app": "front" } } }],
                              "ports": [{ "port": 80, "endPort": 90 }] }],
            } },
        ]))
        .unwrap();
        let (web, other) = (End::pod("a", &[("app", "web")]), End::pod("a", &[("app", "db")]));
        let (front, elsewhere) = (End::pod("a", &[("app", "front")]), End::pod("b", &[("app", "front")]));
        let lets = |from: &End, to: &End, port| lets_through(&policies, from, to, "TCP", port);
        assert!(lets(&front, &web, 85));
        assert!(!lets(&front, &web, 91), "another port");
        assert!(!lets(&other, &web, 85), "another pod");
        assert!(!lets(&elsewhere, &web, 85), "a pod of another namespace");
        assert!(!lets(&front, &other, 85), "another target");
        assert!(lets(&web, &elsewhere, 85), "outwards nothing is said");
        assert!(!lets_through(&policies, &front, &web, "UDP", 85), "another protocol");
    }
}
