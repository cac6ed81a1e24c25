//! Which warm sets can take a user, and what is still to be told to whom.

use super::*;
use serde_json::{Value, json};

const SECOND: Duration = Duration::from_secs(1);

fn set(name: &str, patch: &Value) -> StatefulSet {
    let mut set = json!({
        "metadata": {
            "name": name, "uid": format!("{name}-uid"), "resourceVersion": "5",
            "labels": { names::WARM: name, names::TEMPLATE: "t" },
            "annotations": { names::TEMPLATE_HASH: "h" },
        },
        "spec": { "replicas": 1, "selector": {}, "template": { "metadata": { "annotations": { "a": "1" } } } },
    });
    for (key, value) in patch["metadata"].as_object().into_iter().flatten() {
        set["metadata"][key] = value.clone();
    }
    serde_json::from_value(set).unwrap()
}

fn pod(name: &str, ready: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": pod_name(name), "uid": format!("{name}-pod"), "labels": { names::WARM: name },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "StatefulSet", "name": name, "uid": format!("{name}-uid"),
                "controller": true,
            }],
        },
        "status": {
            "podIP": "10.0.0.1", "conditions": [{ "type": "Ready", "status": ready }],
            "containerStatuses": [{
                "name": names::CONTAINER, "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "state": { "running": {} },
            }],
        },
    }))
    .unwrap()
}

fn name(n: usize) -> String {
    format!("{PREFIX}t-{n}")
}

fn free(sets: &WarmSets, id: &str, now: Instant) -> Vec<String> {
    let (template, id) = (TemplateName::parse("t").unwrap(), WorkspaceId::parse(id).unwrap());
    sets.free(&template, "h", &id, now).into_iter().map(|handle| handle.name).collect()
}

#[test]
fn only_those_that_can_take_a_user_of_the_template_now_are_given() {
    let now = Instant::now();
    let claimed = json!({ "annotations": { names::TEMPLATE_HASH: "h", names::CLAIMED_BY: "nonsense" } });
    for (patch, ready, is) in [
        (json!({}), "True", true),
        (json!({}), "False", false),
        (json!({ "annotations": { names::TEMPLATE_HASH: "older" } }), "True", false),
        (json!({ "labels": { names::WARM: name(0), names::TEMPLATE: "other" } }), "True", false),
        (claimed, "True", false),
        (json!({ "deletionTimestamp": "2026-11-21T00:00:00Z" }), "True", false),
        (json!({ "uid": "another" }), "True", false),
    ] {
        let mut sets = WarmSets::default();
        sets.put_pod(pod(&name(0), ready), now);
        assert_eq!(free(&sets, "alice", now), Vec::<String>::new(), "its set is not known");
        sets.put_set(set(&name(0), &json!({ "metadata": patch })), false, now);
        assert_eq!(free(&sets, "alice", now).len(), usize::from(is), "{patch} {ready}");
    }
}

#[test]
fn those_that_surely_accept_are_given_first_and_to_each_in_another_order() {
    let begin = Instant::now();
    let mut sets = WarmSets::default();
    for n in 0..8 {
        sets.put_set(set(&name(n), &json!({})), false, begin);
        sets.put_pod(pod(&name(n), "True"), begin + u32::from(n == 5) * 8 * SECOND);
    }
    // The young one comes last, until it is old enough.
    let ids: Vec<String> = (0..20).map(|n| format!("user{n}")).collect();
    assert!(ids.iter().all(|id| free(&sets, id, begin + SETTLED).last() == Some(&name(5))));
    let later = begin + SETTLED + 8 * SECOND;
    let firsts: std::collections::BTreeSet<_> =
        ids.iter().map(|id| free(&sets, id, later).remove(0)).collect();
    assert!(firsts.len() > 3, "all look at the same: {firsts:?}");
    for id in &ids {
        assert_eq!(free(&sets, id, later), free(&sets, id, later), "the same for every Usher");
    }
    // A pod that took its name begins anew.
    let mut other = pod(&name(0), "True");
    other.metadata.uid = Some("another".to_owned());
    sets.put_pod(other, later);
    assert!(ids.iter().all(|id| free(&sets, id, later).last() == Some(&name(0))));
}

#[test]
fn the_pod_of_a_claimed_one_is_to_be_told_until_it_knows() {
    let now = Instant::now();
    let mut sets = WarmSets::default();
    let name = name(0);
    sets.put_pod(pod(&name, "True"), now);
    sets.put_set(set(&name, &json!({})), false, now);
    assert_eq!(sets.untold(&name), None, "it is nobody's");
    let by = claimed_by(&WorkspaceId::parse("alice").unwrap(), "own");
    let annotations = json!({ names::CLAIMED_BY: by, names::OWNER: r#"{"iss":"i","sub":"s"}"# });
    let claimed = set(&name, &json!({ "metadata": { "annotations": annotations, "resourceVersion": "6" } }));
    assert_eq!(sets.put_set(claimed, true, now).map(|id| id.to_string()).as_deref(), Some("alice"));
    let told = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
    assert_eq!(sets.untold(&name), Some((format!("{name}-pod"), told.clone())));
    let mut knows = pod(&name, "True");
    knows.metadata.annotations = Some(told);
    sets.put_pod(knows, now);
    assert_eq!(sets.untold(&name), None);
    // What the watch tells of before the answer does not take the claim back.
    sets.put_set(set(&name, &json!({})), false, now);
    assert_eq!(sets.look(&name).map(|(handle, _)| handle.version), Some(6));
}
