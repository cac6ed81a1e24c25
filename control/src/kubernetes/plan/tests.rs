use super::*;
use crate::kubernetes::notes::Notes;
use crate::kubernetes::outline::Outline;
use crate::kubernetes::testing::{merge as apply, start_spec as spec};
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;

/// A StatefulSet as Usher makes it of an image, changed by a patch of the test's.
fn object(image: &str, patch: Value) -> Value {
    let spec = spec(image);
    let mut set = serde_json::to_value(&Wanted::of(&spec, "w").unwrap().made).unwrap();
    apply(&mut set, json!({ "metadata": { "uid": "set-1", "resourceVersion": "40" } }));
    apply(&mut set, patch);
    set
}

/// What is known of that.
fn known(image: &str, patch: Value) -> Known {
    seen(&object(image, patch))
}

fn seen(set: &Value) -> Known {
    let set: StatefulSet = serde_json::from_value(set.clone()).unwrap();
    let outline = Arc::new(Outline::from(&set));
    Known { notes: Notes::of(&set).unwrap(), set: outline, pod: None, body: None }
}

/// With a pod, whose program has this state.
fn with_pod(mut known: Known, state: Value) -> Known {
    let statuses = json!([{
        "name": "workspace", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state,
    }]);
    let pod = json!({ "metadata": { "uid": "pod-1" }, "status": { "containerStatuses": statuses } });
    known.pod = Some(Arc::new(serde_json::from_value::<Pod>(pod).unwrap()));
    known
}

fn patch(plan: Plan) -> Value {
    match plan {
        Plan::Patch(patch) => patch,
        plan => panic!("{plan:?}"),
    }
}

fn refusal(plan: &Plan) -> CauseCode {
    match plan {
        Plan::Refuse(cause) => cause.code,
        plan => panic!("{plan:?}"),
    }
}

fn annotated(key: &str, text: &str) -> Value {
    json!({ "metadata": { "annotations": { key: text } } })
}

fn running() -> Value {
    json!({ "running": {} })
}

fn pod() -> Generation {
    Generation("pod-1".into())
}

fn marked(reason: StopReason) -> Value {
    annotated(names::MARK, &notes::mark(reason, "r"))
}

#[test]
fn a_workspace_that_is_not_there_is_made_at_0_when_it_is_wanted() {
    let spec = spec("i");
    let plan = Wanted::of(&spec, "w").unwrap().want(None, &notes::want(5, "r"));
    let Plan::Create(set) = plan else { panic!("{plan:?}") };
    assert_eq!(set.spec.as_ref().unwrap().replicas, Some(0));
    let annotations = set.metadata.annotations.as_ref().unwrap();
    let note = annotations.get(names::WANTED).map(String::as_str);
    assert_eq!(note, Some(r#"{"at_ms":5,"replica":"r"}"#));
}

#[test]
fn a_late_start_brings_nothing_back_that_was_called_off() {
    let spec = spec("i");
    let wanted = Wanted::of(&spec, "w").unwrap();
    let called_off = known("i", json!({}));
    for known in [None, Some(&called_off)] {
        assert_eq!(refusal(&wanted.start(known)), CauseCode::Conflict);
        assert_eq!(refusal(&wanted.claim(known, "warm---t-x")), CauseCode::Conflict);
    }
    let waits = known("i", annotated(names::WANTED, &notes::want(5, "r")));
    let start = patch(wanted.start(Some(&waits)));
    assert_eq!(start["metadata"]["resourceVersion"], "40", "it may be called off meanwhile");
}

#[test]
fn a_want_is_written_down_once_and_takes_back_what_the_last_start_came_to() {
    let spec = spec("i");
    let wanted = Wanted::of(&spec, "w").unwrap();
    let note = notes::want(5, "r");
    let written = patch(wanted.want(Some(&known("i", json!({}))), &note));
    let annotations = &written["metadata"]["annotations"];
    assert_eq!(annotations[names::WANTED], json!(note));
    assert_eq!(written["metadata"]["uid"], json!("set-1"));
    assert_eq!((&annotations[names::FAILED], &annotations[names::STOPPED]), (&Value::Null, &Value::Null));
    let twice = known("i", annotated(names::WANTED, &note));
    assert_eq!(wanted.want(Some(&twice), &notes::want(9, "other")), Plan::Nothing);
    let runs = known("i", json!({ "spec": { "replicas": 1 } }));
    assert_eq!(wanted.want(Some(&runs), &note), Plan::Nothing);
}

#[test]
fn nothing_of_another_owner_is_touched_nor_anything_that_ends() {
    let spec = spec("i");
    let wanted = Wanted::of(&spec, "w").unwrap();
    let other = known("i", annotated(names::OWNER, r#"{"iss":"https://id.example.org","sub":"8"}"#));
    let ends = known("i", json!({ "metadata": { "deletionTimestamp": "2026-11-21T12:00:00Z" } }));
    for (known, code) in [(&other, CauseCode::NotTheOwner), (&ends, CauseCode::Conflict)] {
        assert_eq!(refusal(&wanted.want(Some(known), "n")), code);
        assert_eq!(refusal(&wanted.start(Some(known))), code);
    }
    let other = known(
        "i",
        json!({
            "spec": { "replicas": 1 }, "metadata": { "annotations": { names::OWNER: r#"{"iss":"i","sub":"8"}"# } },
        }),
    );
    assert_eq!(refusal(&wanted.nudge(Some(&other), "n")), CauseCode::NotTheOwner);
}

#[test]
fn a_start_takes_back_all_that_was_written_of_the_last_one() {
    let spec = spec("i");
    let notes = json!({
        names::WANTED: notes::want(5, "r"), names::MARK: notes::mark(StopReason::Idle, "r"),
        names::STOPPED: "idle", names::FAILED: r#"{"code":"crashed","detail":"d","hint":"h"}"#,
    });
    let mut set = object("i", json!({ "metadata": { "annotations": notes } }));
    let start = patch(Wanted::of(&spec, "w").unwrap().start(Some(&seen(&set))));
    assert_eq!(start["spec"], json!({ "replicas": 1 }), "the template is the same");
    apply(&mut set, start);
    let then = Notes::of(&serde_json::from_value(set).unwrap()).unwrap();
    assert_eq!((then.wanted, then.mark, then.stopped, then.failed), (None, None, None, None));
}

#[test]
fn a_start_puts_the_template_as_it_is_now_in_the_place_of_the_one_before() {
    let spec = spec("new");
    let wanted = Wanted::of(&spec, "w").unwrap();
    let note = notes::want(5, "r");
    let mut set = object(
        "old",
        json!({
            "metadata": { "annotations": { names::WANTED: note } },
            "spec": { "template": { "spec": { "nodeSelector": { "disk": "ssd" } } } },
        }),
    );
    let start = patch(wanted.start(Some(&seen(&set))));
    apply(&mut set, start);
    let (set, made) = (set, serde_json::to_value(&wanted.made).unwrap());
    assert_eq!(set["spec"]["template"], made["spec"]["template"], "nothing of the old one is left");
    assert_eq!(
        set["metadata"]["annotations"][names::TEMPLATE_HASH],
        made["metadata"]["annotations"][names::TEMPLATE_HASH]
    );
}

#[test]
fn what_runs_keeps_its_template_and_what_never_ran_gets_the_mended_one() {
    let spec = spec("new");
    let wanted = Wanted::of(&spec, "w").unwrap();
    let on_the_way = |image| known(image, json!({ "spec": { "replicas": 1 } }));
    for (known, mends) in [
        (with_pod(on_the_way("old"), running()), false),
        (with_pod(on_the_way("old"), json!({ "terminated": { "exitCode": 1 } })), false),
        (with_pod(on_the_way("old"), json!({ "waiting": { "reason": "ErrImagePull" } })), true),
        (with_pod(on_the_way("new"), json!({ "waiting": { "reason": "ErrImagePull" } })), false),
        (on_the_way("old"), true),
        (known("old", json!({})), false),
    ] {
        assert_eq!(wanted.mends(&known), mends, "{known:?}");
        if known.is_wanted() {
            assert_eq!(wanted.start(Some(&known)) == Plan::Nothing, !mends);
            let nudge = patch(wanted.nudge(Some(&known), "n"));
            assert_eq!(nudge["metadata"]["annotations"][names::NUDGE], json!("n"));
            assert_eq!(nudge["spec"]["template"].is_object(), mends);
        }
    }
    let nudged = known(
        "new",
        json!({ "spec": { "replicas": 1 }, "metadata": { "annotations": { names::NUDGE: "n" } } }),
    );
    assert_eq!(wanted.nudge(Some(&nudged), "n"), Plan::Nothing);
    assert_eq!(wanted.nudge(Some(&known("new", json!({}))), "n"), Plan::Nothing);
}

#[test]
fn only_the_instance_that_is_meant_is_marked_and_only_once() {
    let runs = || with_pod(known("i", json!({ "spec": { "replicas": 1 } })), running());
    let note = notes::mark(StopReason::Idle, "r");
    let written = patch(mark(Some(&runs()), &pod(), &note));
    assert_eq!(
        written,
        json!({ "metadata": { "uid": "set-1", "resourceVersion": "40", "annotations": { names::MARK: note } } })
    );
    let twice = with_pod(
        known(
            "i",
            json!({
                "spec": { "replicas": 1 }, "metadata": { "annotations": { names::MARK: note } },
            }),
        ),
        running(),
    );
    assert_eq!(mark(Some(&twice), &pod(), &note), Plan::Nothing);
    for known in [None, Some(known("i", json!({}))), Some(known("i", json!({ "spec": { "replicas": 1 } })))] {
        assert_eq!(refusal(&mark(known.as_ref(), &pod(), &note)), CauseCode::Conflict, "{known:?}");
    }
    assert_eq!(refusal(&mark(Some(&runs()), &Generation("pod-2".into()), &note)), CauseCode::Conflict);
}

#[test]
fn only_the_mark_that_is_meant_is_taken_back() {
    let standing = Mark { number: 40, reason: StopReason::Idle };
    let written = patch(unmark(Some(&known("i", marked(StopReason::Idle))), standing));
    assert_eq!(
        written,
        json!({ "metadata": { "uid": "set-1", "resourceVersion": "40", "annotations": { names::MARK: null } } })
    );
    assert_eq!(unmark(Some(&known("i", json!({}))), standing), Plan::Nothing);
    assert_eq!(unmark(None, standing), Plan::Nothing);
    let other = Mark { number: 39, ..standing };
    assert_eq!(refusal(&unmark(Some(&known("i", marked(StopReason::Idle))), other)), CauseCode::Conflict);
}

#[test]
fn a_marked_workspace_is_stopped_only_while_nothing_else_was_written() {
    let mark = Mark { number: 40, reason: StopReason::MaxAge };
    let runs = |patch: Value| {
        let mut all = json!({ "spec": { "replicas": 1 } });
        apply(&mut all, patch);
        with_pod(known("i", all), running())
    };
    let standing = runs(marked(StopReason::MaxAge));
    let written = patch(stop(Some(&standing), Some(&pod()), &Stop::Marked(mark)));
    assert_eq!(
        written,
        json!({
            "metadata": {
                "uid": "set-1", "resourceVersion": "40",
                "annotations": {
                    names::WANTED: null, names::MARK: null, names::CLAIMS: null, names::STOPPED: "max_age",
                },
            },
            "spec": { "replicas": 0 },
        })
    );
    let other = Generation("pod-0".into());
    for (known, generation, mark) in [
        (runs(json!({})), pod(), mark),
        (standing.clone(), pod(), Mark { number: 39, ..mark }),
        (standing, other, mark),
        (known("i", marked(StopReason::MaxAge)), pod(), mark),
    ] {
        let plan = stop(Some(&known), Some(&generation), &Stop::Marked(mark));
        assert_eq!(refusal(&plan), CauseCode::Conflict, "{known:?}");
    }
}

#[test]
fn a_stop_leaves_a_newer_instance_alone_and_writes_down_why() {
    let runs = with_pod(known("i", json!({ "spec": { "replicas": 1 } })), running());
    let newer = Generation("pod-0".into());
    assert_eq!(stop(Some(&runs), Some(&newer), &Stop::Asked), Plan::Nothing);
    assert_eq!(stop(None, None, &Stop::Asked), Plan::Nothing);
    assert_eq!(stop(Some(&known("i", json!({}))), None, &Stop::Asked), Plan::Nothing, "it is at 0");
    let asked = patch(stop(Some(&runs), Some(&pod()), &Stop::Asked));
    assert_eq!(asked["metadata"]["annotations"][names::STOPPED], json!("asked"));
    assert_eq!(asked["spec"], json!({ "replicas": 0 }));
    assert_eq!(asked["metadata"]["resourceVersion"], "40", "another may have started it anew");

    let mut set = object("i", annotated(names::WANTED, &notes::want(5, "r")));
    let waits = seen(&set);
    let cause = crate::testing::cause(CauseCode::QuotaExceeded);
    let failed = patch(stop(Some(&waits), None, &Stop::Failed(cause.clone())));
    apply(&mut set, failed);
    let then = Notes::of(&serde_json::from_value(set).unwrap()).unwrap();
    assert_eq!((then.wanted, then.failed), (None, Some(cause.clone())));
    // What this one could not begin another may have begun.
    assert_eq!(stop(Some(&runs), None, &Stop::Refused(cause.clone())), Plan::Nothing);
    assert!(matches!(stop(Some(&runs), None, &Stop::Failed(cause.clone())), Plan::Patch(_)));
    assert!(matches!(stop(Some(&waits), None, &Stop::Refused(cause)), Plan::Patch(_)));
}

/// A warm set that runs.
fn body() -> Arc<Outline> {
    Arc::new(Outline { replicas: 1, ..Outline::default() })
}

#[test]
fn a_claim_is_named_at_0_replicas_and_only_where_nothing_was_written_since() {
    let spec = spec("a");
    let wanted = Wanted::of(&spec, "w").unwrap();
    let waits = known("a", annotated(names::WANTED, &notes::want(5, "r")));
    let named = patch(wanted.claim(Some(&waits), "warm---t-x"));
    assert_eq!(named["metadata"]["resourceVersion"], "40");
    assert_eq!(named["spec"], json!({ "replicas": 0 }));
    for key in [names::WANTED, names::MARK, names::STOPPED, names::FAILED] {
        assert_eq!(named["metadata"]["annotations"][key], Value::Null, "{key}");
    }
    assert_eq!(named["metadata"]["annotations"][names::CLAIMS], "warm---t-x");
}

#[test]
fn one_that_names_a_warm_set_in_vain_starts_as_usual_unless_it_was_written_since() {
    let spec = spec("a");
    let wanted = Wanted::of(&spec, "w").unwrap();
    let in_vain = known("a", annotated(names::CLAIMS, "warm---t-x"));
    assert!(in_vain.claims_in_vain() && in_vain.is_wanted());
    for plan in [wanted.start(Some(&in_vain)), give_up(Some(&in_vain))] {
        let patch = patch(plan);
        assert_eq!(
            (&patch["metadata"]["resourceVersion"], &patch["spec"]),
            (&json!("40"), &json!({ "replicas": 1 }))
        );
        let annotations = patch["metadata"]["annotations"].as_object().unwrap();
        assert_eq!(annotations.get(names::CLAIMS), Some(&Value::Null));
    }
    // Of one whose claim is true nothing is taken.
    let claimed = Known { body: Some(body()), ..in_vain };
    assert!(!claimed.claims_in_vain() && claimed.is_wanted());
    assert_eq!(wanted.start(Some(&claimed)), Plan::Nothing);
    assert_eq!(give_up(Some(&claimed)), Plan::Nothing);
}

#[test]
fn a_stop_writes_down_which_warm_set_has_the_files_and_a_start_keeps_it() {
    let spec = spec("a");
    let wanted = Wanted::of(&spec, "w").unwrap();
    let files = |patch: &Value| patch["metadata"]["annotations"].get(names::FILES).cloned();
    let keeps = Arc::new(Outline {
        name: "warm---t-x".to_owned(),
        keeps_files: true,
        replicas: 1,
        ..Outline::default()
    });
    let mut claimed = with_pod(known("a", annotated(names::CLAIMS, "warm---t-x")), running());
    for (body, expected) in [(Some(keeps), Some(json!("warm---t-x"))), (Some(body()), None), (None, None)] {
        claimed.body = body;
        assert_eq!(files(&patch(stop(Some(&claimed), Some(&pod()), &Stop::Asked))), expected);
    }
    // While it rests, or its warm set was removed by hand, nothing forgets it.
    let rests = known(
        "a",
        json!({ "metadata": { "annotations": { names::FILES: "warm---t-x", names::WANTED: notes::want(5, "r") } } }),
    );
    assert_eq!((rests.is_wanted(), rests.keeper()), (false, Some("warm---t-x")));
    assert_eq!(files(&patch(wanted.claim(Some(&rests), "warm---t-x"))), Some(json!("warm---t-x")));
    assert_ne!(files(&patch(stop(Some(&rests), None, &Stop::Asked))), Some(Value::Null));
}

#[test]
fn who_lost_the_warm_set_with_their_files_is_not_shown_an_empty_one() {
    let both =
        json!({ "metadata": { "annotations": { names::CLAIMS: "warm---t-x", names::FILES: "warm---t-x" } } });
    let patch = patch(give_up(Some(&known("a", both))));
    assert_eq!(patch["spec"], json!({ "replicas": 0 }));
    assert_eq!(patch["metadata"]["annotations"], json!({ names::CLAIMS: null }));
}

#[test]
fn to_stop_a_claimed_one_is_to_name_nothing_any_more() {
    let mut claimed = with_pod(known("a", annotated(names::CLAIMS, "warm---t-x")), running());
    claimed.body = Some(body());
    let mark = Mark { number: 40, reason: StopReason::Idle };
    let stop = |known: &Known, why| stop(Some(known), Some(&pod()), why);
    assert_eq!(patch(stop(&claimed, &Stop::Asked))["metadata"]["annotations"][names::CLAIMS], Value::Null);
    claimed.notes.mark = Some(StopReason::Idle);
    let marked = patch(stop(&claimed, &Stop::Marked(mark)));
    assert_eq!(marked["metadata"]["resourceVersion"], "40");
    assert!(marked["metadata"]["annotations"].as_object().unwrap().contains_key(names::CLAIMS));
}
