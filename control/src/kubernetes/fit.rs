//! Whether a table that an operator wrote fits a type of Kubernetes.

use super::overlay::PATCH;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_path_to_error::Segment;

/// Most misfits that are told of one value.
const MISFITS_MAX: usize = 50;

/// One step from a value into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// To the value of a key.
    Key(String),
    /// To an item of a list.
    Item(usize),
}

/// One thing that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misfit {
    /// Where.
    pub(super) path: Vec<Step>,
    /// What is expected there; none = the type has no such field.
    pub(super) expected: Option<String>,
}

/// All that does not fit a `T`. Directives of the merge are no fields.
pub(super) fn misfits<T: DeserializeOwned + Serialize>(value: &Value) -> Vec<Misfit> {
    let mut rest = without_directives(value);
    let mut found = Vec::new();
    while found.len() < MISFITS_MAX {
        match serde_path_to_error::deserialize::<_, T>(&rest) {
            Ok(typed) => {
                let known = serde_json::to_value(typed).expect("the types of Kubernetes are JSON");
                unknown(&rest, &known, &mut Vec::new(), &mut found);
                break;
            }
            Err(error) => {
                let path = steps(&error);
                let removed = remove(&mut rest, &path);
                found.push(Misfit { path, expected: Some(expected(&error.into_inner().to_string())) });
                if !removed {
                    break;
                }
            }
        }
    }
    found
}

fn without_directives(value: &Value) -> Value {
    match value {
        Value::Object(table) => {
            let fields = table.iter().filter(|(key, _)| *key != PATCH);
            Value::Object(fields.map(|(key, value)| (key.clone(), without_directives(value))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(without_directives).collect()),
        other => other.clone(),
    }
}

/// What the type did not keep, it does not know.
fn unknown(given: &Value, known: &Value, path: &mut Vec<Step>, found: &mut Vec<Misfit>) {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            for (key, value) in given {
                path.push(Step::Key(key.clone()));
                match known.get(key) {
                    Some(known) => unknown(value, known, path, found),
                    None => found.push(Misfit { path: path.clone(), expected: None }),
                }
                path.pop();
            }
        }
        (Value::Array(given), Value::Array(known)) => {
            for (index, (value, known)) in given.iter().zip(known).enumerate() {
                path.push(Step::Item(index));
                unknown(value, known, path, found);
                path.pop();
            }
        }
        _ => {}
    }
}

fn steps(error: &serde_path_to_error::Error<serde_json::Error>) -> Vec<Step> {
    let step = |segment: &Segment| match segment {
        Segment::Seq { index } => Some(Step::Item(*index)),
        Segment::Map { key } => Some(Step::Key(key.clone())),
        Segment::Enum { .. } | Segment::Unknown => None,
    };
    error.path().iter().filter_map(step).collect()
}

/// What stands behind "expected": what stands before it quotes the value, which may be a secret.
fn expected(message: &str) -> String {
    let expected =
        message.rsplit_once(", expected ").map_or("another kind of value", |(_, expected)| expected);
    expected.to_owned()
}

/// Removes the innermost field that a path leads through, to go on with what is left.
fn remove(value: &mut Value, path: &[Step]) -> bool {
    let Some(last) = path.iter().rposition(|step| matches!(step, Step::Key(_))) else { return false };
    let (way, Step::Key(key)) = (&path[..last], &path[last]) else { return false };
    let table = way.iter().try_fold(value, |value, step| match step {
        Step::Key(key) => value.get_mut(key),
        Step::Item(index) => value.get_mut(index),
    });
    table.and_then(Value::as_object_mut).and_then(|table| table.remove(key)).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::PodSpec;
    use serde_json::json;

    fn told(value: &Value) -> Vec<(String, Option<String>)> {
        let path = |path: &[Step]| {
            let step = |step: &Step| match step {
                Step::Key(key) => format!(".{key}"),
                Step::Item(index) => format!("[{index}]"),
            };
            path.iter().map(step).collect::<String>()
        };
        misfits::<PodSpec>(value).iter().map(|misfit| (path(&misfit.path), misfit.expected.clone())).collect()
    }

    #[test]
    fn what_fits_has_no_misfits() {
        for fine in [
            json!({}),
            json!({ "containers": [{ "name": "a", "env": [], "resources": { "limits": { "cpu": "1" } } }] }),
            json!({ "containers": [{ "name": "a", "$patch": "delete" }], "nodeSelector": { "$patch": "replace" } }),
            json!({ "volumes": [{ "name": "v", "emptyDir": {} }], "securityContext": { "runAsUser": 5 } }),
            json!({ "containers": [{ "name": "a", "livenessProbe": { "httpGet": { "port": "http" } } }] }),
        ] {
            assert_eq!(told(&fine), [], "{fine}");
        }
    }

    #[test]
    fn unknown_fields_and_wrong_kinds_are_told_all_at_once_by_their_paths() {
        let bad = json!({
            "containers": [
                { "name": "a", "imagee": "x", "env": [{ "name": "A", "value": 5 }] },
                { "name": 7, "resources": { "limits": { "cpu": true } } },
            ],
            "hostNetwork": "hunter2",
            "colour": { "deep": 1 },
        });
        let told = told(&bad);
        let paths: Vec<&str> = told.iter().map(|(path, _)| path.as_str()).collect();
        for path in [
            ".containers[0].env[0].value",
            ".containers[1].name",
            ".containers[1].resources.limits.cpu",
            ".hostNetwork",
            ".containers[0].imagee",
            ".colour",
        ] {
            assert!(paths.contains(&path), "{path}: {told:?}");
        }
        assert_eq!(told.len(), 6, "{told:?}");
        assert!(told.contains(&(".colour".to_owned(), None)));
        assert!(told.contains(&(".hostNetwork".to_owned(), Some("a boolean".to_owned()))), "{told:?}");
        assert!(!format!("{told:?}").contains("hunter2"));
    }

    #[test]
    fn what_is_no_table_at_all_is_one_misfit() {
        assert_eq!(told(&json!(5)).len(), 1);
        assert_eq!(told(&json!({ "containers": { "name": "a" } })).len(), 1);
        assert_eq!(told(&json!({ "containers": ["a"] })).len(), 1);
    }
}
