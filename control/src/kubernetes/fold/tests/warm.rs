//! Warm sets in the fold: what is told of them, and of whom.

use super::*;

const WARM: &str = "warm---t-aaaaa";

/// A warm set; claimed by these words, if by any.
fn warm(version: u64, claimed_by: Option<(&str, &str)>) -> StatefulSet {
    let mut annotations = json!({ names::TEMPLATE_HASH: "h" });
    if let Some((workspace, uid)) = claimed_by {
        let by = json!({ "workspace": workspace, "uid": uid }).to_string();
        annotations[names::CLAIMED_BY] = json!(by);
        annotations[names::OWNER] = json!(r#"{"iss":"i","sub":"s"}"#);
    }
    let labels = json!({ names::WARM: WARM, names::TEMPLATE: "t" });
    serde_json::from_value(json!({
        "metadata": {
            "name": WARM, "namespace": "w", "uid": "warm-set", "resourceVersion": version.to_string(),
            "labels": labels, "annotations": annotations,
        },
        "spec": { "replicas": 1, "selector": {}, "template": {} },
    }))
    .unwrap()
}

fn warm_pod(set_uid: &str) -> Pod {
    let mut pod = pod_of(WARM, set_uid, "10.0.0.7");
    pod.metadata.uid = Some("warm-pod".to_owned());
    pod.metadata.labels = Some([(names::WARM.to_owned(), WARM.to_owned())].into());
    let conditions = json!([{ "type": "Ready", "status": "True" }]);
    pod.status.as_mut().unwrap().conditions = serde_json::from_value(conditions).unwrap();
    pod
}

/// Alice's own set, which names the warm one.
fn naming(version: u64) -> StatefulSet {
    set("alice", version, 0, json!({ names::CLAIMS: WARM }))
}

fn put(set: StatefulSet) -> News {
    News::Set(Seen::Put(set))
}

const ASKED: [&str; 1] = ["alice Asked none"];
const RUNS: [&str; 1] = ["alice Started warm-pod at 10.0.0.7:80"];
const NOTHING: [&str; 0] = [];

#[test]
fn of_a_warm_workspace_that_is_nobodys_nothing_is_told() {
    let mut told = Told::synced();
    told.take(put(warm(1, None))).take(News::Pod(Seen::Put(warm_pod("warm-set"))));
    assert_eq!(told.words(), NOTHING);
    told.take(News::Pod(Seen::Deleted(format!("{WARM}-0")))).take(News::Set(Seen::Deleted(WARM.to_owned())));
    assert_eq!(told.words(), NOTHING);
}

#[test]
fn there_is_no_way_to_a_warm_pod_until_both_sides_say_whose_it_is() {
    for (claimed_by, words) in [
        (None, ASKED),
        (Some(("bob", "bob-set")), ASKED),
        (Some(("alice", "an-earlier-set")), ASKED),
        (Some(("bob", "alice-set")), ASKED),
        (Some(("alice", "alice-set")), RUNS),
    ] {
        let mut told = Told::synced();
        told.take(News::Pod(Seen::Put(warm_pod("warm-set")))).take(put(naming(5)));
        assert_eq!(told.words(), ASKED, "its claim is being made");
        told.take(put(warm(6, claimed_by)));
        let words: &[&str] = if words == ASKED { &[] } else { &words };
        assert_eq!(told.words(), words, "{claimed_by:?}");
    }
    // Nor where the warm set alone says so.
    let mut told = Told::synced();
    told.take(put(plain("alice", 5, 0))).take(News::Pod(Seen::Put(warm_pod("warm-set"))));
    told.take(put(warm(6, Some(("alice", "alice-set")))));
    assert_eq!(told.words(), ["alice stopped"]);
}

#[test]
fn a_warm_pod_of_another_owner_or_of_another_set_is_not_routed_to() {
    let mut told = Told::synced();
    let mut others = warm(6, Some(("alice", "alice-set")));
    let owner = r#"{"iss":"i","sub":"another"}"#.to_owned();
    others.metadata.annotations.as_mut().unwrap().insert(names::OWNER.to_owned(), owner);
    told.take(put(naming(5))).take(put(others)).take(News::Pod(Seen::Put(warm_pod("warm-set"))));
    assert_eq!(told.words(), ASKED);

    let mut told = Told::synced();
    told.take(put(naming(5))).take(put(warm(6, Some(("alice", "alice-set")))));
    told.take(News::Pod(Seen::Put(warm_pod("another-set"))));
    assert_eq!(told.words(), ASKED);
}

#[test]
fn who_stops_is_stopped_at_once_though_the_warm_pod_has_not_ended() {
    let mut told = Told::synced();
    told.take(put(naming(5))).take(put(warm(6, Some(("alice", "alice-set")))));
    told.take(News::Pod(Seen::Put(warm_pod("warm-set"))));
    assert_eq!(told.words(), RUNS);
    told.fold.answer(plain("alice", 7, 0), told.now);
    assert_eq!(told.words(), ["alice stopped"]);
    // And what becomes of the warm one concerns them no more.
    told.take(News::Pod(Seen::Deleted(format!("{WARM}-0")))).take(News::Set(Seen::Deleted(WARM.to_owned())));
    assert_eq!(told.words(), NOTHING);
}

#[test]
fn a_mark_of_a_claimed_one_stands_on_its_own_set() {
    let mut told = Told::synced();
    told.take(put(warm(6, Some(("alice", "alice-set"))))).take(News::Pod(Seen::Put(warm_pod("warm-set"))));
    let mark = notes::mark(StopReason::Idle, "r");
    told.take(put(set("alice", 9, 0, json!({ names::CLAIMS: WARM, names::MARK: mark }))));
    assert_eq!(told.words(), ["alice Started warm-pod at 10.0.0.7:80 marked idle 9"]);
}

#[test]
fn one_whose_warm_set_vanishes_is_asked_for_again_and_found_by_whoever_completes_claims() {
    let mut told = Told::synced();
    told.take(put(naming(5))).take(put(warm(6, Some(("alice", "alice-set")))));
    told.take(News::Pod(Seen::Put(warm_pod("warm-set"))));
    assert_eq!(told.words(), RUNS);
    assert_eq!(told.fold.in_vain().count(), 0);
    told.take(News::Set(Seen::Deleted(WARM.to_owned())));
    assert_eq!(told.words(), ASKED);
    assert_eq!(told.fold.in_vain().map(ToString::to_string).collect::<Vec<_>>(), ["alice"]);
    assert!(told.fold.look(&WorkspaceId::parse("alice").unwrap()).unwrap().claims_in_vain());
}

#[test]
fn one_whose_files_a_warm_set_has_runs_there_only_while_its_own_set_says_so() {
    let mut told = Told::synced();
    let files = |version, more: Value| {
        let mut annotations = json!({ names::FILES: WARM });
        annotations.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
        put(set("alice", version, 0, annotations))
    };
    told.take(put(warm(6, Some(("alice", "alice-set"))))).take(News::Pod(Seen::Put(warm_pod("warm-set"))));
    told.take(files(7, json!({ names::CLAIMS: WARM })));
    assert_eq!(told.words(), RUNS);
    // It is stopped: the warm set follows in a moment, and its pod with it.
    told.take(files(8, json!({ names::STOPPED: "asked" })));
    assert_eq!(told.words(), ["alice stopping warm-pod"]);
    told.take(News::Pod(Seen::Deleted(format!("{WARM}-0"))));
    assert_eq!(told.words(), ["alice stopped"]);
    assert!(!told.fold.look(&WorkspaceId::parse("alice").unwrap()).unwrap().is_wanted());
    // Somebody's hand alone starts nothing for her.
    told.take(News::Pod(Seen::Put(warm_pod("warm-set"))));
    assert_eq!(told.words(), ["alice stopping warm-pod"]);
}
