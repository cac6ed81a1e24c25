//! The operator's `pod` over the pod that a template makes: a strategic merge, as Kubernetes defines it.
//!
//! Tables merge; lists are replaced, but for those whose items are told apart by a key; `$patch` deletes or
//! replaces (kubernetes.io: *Update API Objects in Place Using kubectl patch*).

use serde_json::{Map, Value};

/// The directive of a table or of an item.
pub(super) const PATCH: &str = "$patch";

/// The lists of a `PodSpec` and of its containers that merge, each with the key of its items
/// (`x-kubernetes-patch-merge-key` of the API; a test holds them against the generated types).
const MERGED: [(&str, &str); 11] = [
    ("containers", "name"),
    ("env", "name"),
    ("hostAliases", "ip"),
    ("imagePullSecrets", "name"),
    ("initContainers", "name"),
    ("ports", "containerPort"),
    ("resourceClaims", "name"),
    ("topologySpreadConstraints", "topologyKey"),
    ("volumeDevices", "devicePath"),
    ("volumeMounts", "mountPath"),
    ("volumes", "name"),
];

/// The key by which the items of a list are told apart, if the list merges.
pub(super) fn merge_key(list: &str) -> Option<&'static str> {
    MERGED.iter().find(|(name, _)| *name == list).map(|(_, key)| *key)
}

/// Merges `over` into `base`.
pub(super) fn merge(base: &mut Map<String, Value>, over: &Map<String, Value>) {
    if directive(over) == Some("replace") {
        base.clear();
    }
    for (key, value) in over.iter().filter(|(key, _)| *key != PATCH) {
        match value {
            Value::Object(table) if directive(table) == Some("delete") => drop(base.remove(key)),
            Value::Object(table) => {
                let below = base.entry(key).or_insert_with(|| Value::Object(Map::new()));
                merge(as_table(below), table);
            }
            Value::Array(items) => match merge_key(key) {
                Some(merge_key) => {
                    let below = base.entry(key).or_insert_with(|| Value::Array(Vec::new()));
                    merge_items(as_list(below), items, merge_key);
                }
                None => drop(base.insert(key.clone(), value.clone())),
            },
            _ => drop(base.insert(key.clone(), value.clone())),
        }
    }
}

fn merge_items(base: &mut Vec<Value>, over: &[Value], key: &str) {
    let tables = || over.iter().filter_map(Value::as_object);
    if tables().any(|item| directive(item) == Some("replace") && !item.contains_key(key)) {
        base.clear();
    }
    for item in tables() {
        let Some(name) = item.get(key) else { continue };
        let found = base.iter().position(|other| other.get(key) == Some(name));
        match (directive(item), found) {
            (Some("delete"), Some(at)) => drop(base.remove(at)),
            (Some("delete"), None) => {}
            (_, Some(at)) => merge(as_table(&mut base[at]), item),
            (_, None) => {
                let mut fresh = Map::new();
                merge(&mut fresh, item);
                base.push(Value::Object(fresh));
            }
        }
    }
}

fn directive(table: &Map<String, Value>) -> Option<&str> {
    table.get(PATCH).and_then(Value::as_str)
}

/// The table that a value is; what was there of another kind is replaced.
fn as_table(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was made one above")
}

/// The list that a value is; what was there of another kind is replaced.
fn as_list(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    value.as_array_mut().expect("it was made one above")
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::DeepMerge;
    use k8s_openapi::api::core::v1::PodSpec;
    use serde_json::json;

    fn merged(base: &Value, over: &Value) -> Value {
        let mut base = base.as_object().unwrap().clone();
        merge(&mut base, over.as_object().unwrap());
        Value::Object(base)
    }

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn an_overlay_merges_as_kubernetes_does() {
        let base = json!({
            "hostname": "a",
            "nodeSelector": { "disk": "ssd" },
            "tolerations": [{ "key": "a" }],
            "containers": [{ "name": "workspace", "image": "i", "args": ["x", "y"],
                "env": [{ "name": "A", "value": "1" }, { "name": "B", "value": "2" }],
                "volumeMounts": [{ "name": "home", "mountPath": "/home" }] }],
            "volumes": [{ "name": "home", "emptyDir": {} }],
        });
        let workspace =
            |key: &str, value: Value| json!({ "containers": [{ "name": "workspace", key: value }] });
        for (over, pointer, expected) in [
            (json!({ "hostname": "b" }), "/hostname", json!("b")),
            (
                json!({ "nodeSelector": { "gpu": "yes" } }),
                "/nodeSelector",
                json!({ "disk": "ssd", "gpu": "yes" }),
            ),
            (
                json!({ "nodeSelector": { "$patch": "replace", "gpu": "yes" } }),
                "/nodeSelector",
                json!({ "gpu": "yes" }),
            ),
            (json!({ "nodeSelector": { "$patch": "delete" } }), "/nodeSelector", Value::Null),
            (json!({ "tolerations": [{ "key": "b" }] }), "/tolerations", json!([{ "key": "b" }])),
            (workspace("image", json!("j")), "/containers/0/image", json!("j")),
            (workspace("image", json!("j")), "/containers/0/args", json!(["x", "y"])),
            (workspace("args", json!(["z"])), "/containers/0/args", json!(["z"])),
            (
                workspace("env", json!([{ "name": "B", "value": "3" }, { "name": "C", "value": "4" }])),
                "/containers/0/env",
                json!([{ "name": "A", "value": "1" }, { "name": "B", "value": "3" }, { "name": "C", "value": "4" }]),
            ),
            (
                workspace("env", json!([{ "name": "A", "$patch": "delete" }])),
                "/containers/0/env",
                json!([{ "name": "B", "value": "2" }]),
            ),
            (
                workspace("env", json!([{ "$patch": "replace" }, { "name": "C", "value": "4" }])),
                "/containers/0/env",
                json!([{ "name": "C", "value": "4" }]),
            ),
            (
                workspace("volumeMounts", json!([{ "mountPath": "/home", "readOnly": true }])),
                "/containers/0/volumeMounts",
                json!([{ "name": "home", "mountPath": "/home", "readOnly": true }]),
            ),
            (json!({ "containers": [{ "name": "log" }] }), "/containers/1", json!({ "name": "log" })),
            (
                json!({ "volumes": [{ "name": "home", "$patch": "replace", "secret": { "secretName": "s" } }] }),
                "/volumes/0",
                json!({ "name": "home", "secret": { "secretName": "s" } }),
            ),
            (
                json!({ "containers": [{ "name": "workspace", "$patch": "delete" }] }),
                "/containers",
                json!([]),
            ),
        ] {
            let merged = merged(&base, &over);
            assert_eq!(merged.pointer(pointer).unwrap_or(&Value::Null), &expected, "{over}");
            assert!(!merged.to_string().contains(PATCH), "{merged}");
        }
    }

    /// The generated types merge by the annotations of the API itself.
    #[test]
    fn the_merge_keys_are_those_of_the_api() {
        for (list, key) in MERGED {
            let in_container = ["env", "ports", "volumeDevices", "volumeMounts"].contains(&list);
            let value = |n: i64| if key == "containerPort" { json!(n) } else { json!(n.to_string()) };
            let pod = |n: &[i64]| {
                let items: Vec<Value> = n.iter().map(|n| json!({ key: value(*n) })).collect();
                match in_container {
                    true => json!({ "containers": [{ "name": "workspace", list: items }] }),
                    false => json!({ "containers": [], list: items }),
                }
            };
            let (base, over) = (pod(&[1, 2]), pod(&[2, 3]));
            let typed = |value: &Value| serde_json::from_value::<PodSpec>(value.clone()).unwrap();
            let mut expected = typed(&base);
            expected.merge_from(typed(&over));
            assert_eq!(typed(&merged(&base, &over)), expected, "{list}");
        }
    }
}
