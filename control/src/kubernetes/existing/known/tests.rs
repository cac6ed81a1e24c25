use super::*;
use crate::CauseCode;
use config::{ObjectKind, RouteName};
use k8s_openapi::api::apps::v1::Deployment;
use serde_json::{Value, json};
use std::time::Duration;

const KUBERNETES: &str = include_str!("../../../../../config/usher.kubernetes.example.toml");

/// `[kubernetes]` of the example, and a route `wiki` to a Deployment of that name.
fn configured() -> (Kubernetes, ExistingObject, Arc<Template>) {
    let keys = "kind = 'Deployment'\nobject = 'wiki'\nport = 8080\nallow = 'true'\n";
    let config = config::Config::parse("test", &format!("{KUBERNETES}[routes.wiki]\n{keys}"), &|_| None);
    let config = config.unwrap_or_else(|error| panic!("{error}"));
    let config::Driver::Kubernetes(kubernetes) = &config.driver else { panic!("it is of Kubernetes") };
    let template = config.routes[&RouteName::parse("wiki").unwrap()].template.clone();
    let config::Runs::Existing(existing) = &template.runs else { panic!("it leads to what is there") };
    (kubernetes.clone(), existing.clone(), template)
}

/// A Deployment that has agreed, at a version.
fn deployment(version: u64, replicas: u32, more: &Value) -> Object {
    let mut annotations = json!({ "usher.dev/route": "wiki" });
    for (key, value) in more.as_object().unwrap() {
        annotations[key] = value.clone();
    }
    let metadata = json!({
        "name": "wiki", "namespace": "tools", "uid": "u", "resourceVersion": version.to_string(), "annotations": annotations,
    });
    let selector = json!({ "matchLabels": { "app": "wiki" } });
    let spec = json!({ "replicas": replicas, "selector": selector, "template": {} });
    serde_json::from_value::<Deployment>(json!({ "metadata": metadata, "spec": spec })).unwrap().into()
}

/// A pod of it that runs, at 10.0.0.`n`, with this in its status besides.
fn pod(n: u8, status: Value) -> Pod {
    let owner = json!({ "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "wiki-5f", "uid": "r", "controller": true });
    let mut all = json!({
        "phase": "Running", "podIP": format!("10.0.0.{n}"),
        "conditions": [{ "type": "Ready", "status": "True" }],
        "containerStatuses": [{ "name": "main", "state": { "running": {} }, "image": "", "imageID": "", "ready": true, "restartCount": 0 }],
    });
    for (key, value) in status.as_object().unwrap() {
        all[key] = value.clone();
    }
    let metadata = json!({
        "name": format!("wiki-5f-{n}"), "uid": n.to_string(), "labels": { "pod-template-hash": "5f" },
        "ownerReferences": [owner], "creationTimestamp": format!("2026-11-21T12:00:{n:02}Z"),
    });
    let spec = json!({ "nodeName": "node1", "containers": [{ "name": "main" }] });
    serde_json::from_value(json!({ "metadata": metadata, "spec": spec, "status": all })).unwrap()
}

fn deleted(mut pod: Pod) -> Pod {
    pod.metadata.deletion_timestamp = Some(serde_json::from_value(json!("2026-11-21T13:00:00Z")).unwrap());
    pod
}

fn strange(mut pod: Pod) -> Pod {
    pod.metadata.owner_references = None;
    pod
}

/// Something that comes to be known.
type Change = fn(&mut Known, Instant);

/// What is told when these were seen.
fn told(object: Option<Object>, pods: Vec<Pod>) -> Observed {
    let (kubernetes, mut known, now) = whole(object, pods);
    known.read(&kubernetes, now).expect("it was seen")
}

fn whole(object: Option<Object>, pods: Vec<Pod>) -> (Kubernetes, Known, Instant) {
    let (kubernetes, existing, template) = configured();
    let (mut known, now) = (Known::new(existing, template), Instant::now());
    if let Some(object) = object {
        known.take_object(Seen::Listed(object), now);
    }
    known.take_object(Seen::Synced, now);
    for pod in pods {
        known.take_pod(Seen::Listed(pod), now);
    }
    known.take_pod(Seen::Synced, now);
    (kubernetes, known, now)
}

/// Which pods are told of, and which of them serve.
fn members(observed: &Observed) -> Vec<(String, bool)> {
    observed.members.iter().map(|member| (member.generation.to_string(), member.serves)).collect()
}

fn member(n: u8, serves: bool) -> (String, bool) {
    (n.to_string(), serves)
}

#[test]
fn it_is_told_as_the_routes_own_and_nothing_before_it_was_seen() {
    let (kubernetes, existing, template) = configured();
    assert_eq!(existing.kind, ObjectKind::Deployment);
    let mut known = Known::new(existing, template);
    assert_eq!(known.read(&kubernetes, Instant::now()), None);
    let observed = told(Some(deployment(1, 0, &json!({}))), Vec::new());
    assert_eq!((observed.id.to_string().as_str(), observed.template.as_str()), ("route:wiki", "route:wiki"));
    assert!(observed.owner.is_of_route(observed.id.route().unwrap()));
    assert_eq!(observed.phase, ObservedPhase::Stopped);
}

#[test]
fn traffic_goes_to_pods_that_are_ready_and_stays_with_those_that_run() {
    let not_ready =
        json!({ "conditions": [{ "type": "Ready", "status": "False", "reason": "ContainersNotReady" }] });
    let starting = json!({ "containerStatuses": [], "podIP": null, "conditions": [] });
    let mut foreign = pod(7, json!({}));
    foreign.metadata.owner_references = None;
    let pods = vec![
        pod(1, json!({})),
        pod(2, not_ready.clone()),
        pod(3, starting),
        deleted(pod(4, json!({}))),
        pod(5, json!({ "phase": "Failed" })),
        pod(6, json!({ "podIP": "127.0.0.1" })),
        foreign,
    ];
    let observed = told(Some(deployment(1, 6, &json!({}))), pods);
    assert_eq!(members(&observed), [member(1, true), member(2, false), member(6, false)]);
    let ObservedPhase::Running { address, trouble, .. } = &observed.phase else { panic!("{observed:?}") };
    assert_eq!(*address, Some(Address::Tcp(([10, 0, 0, 1], 8080).into())));
    assert_eq!(*trouble, None, "one that serves is enough, whatever another lacks");
    let observed = told(Some(deployment(1, 1, &json!({}))), vec![pod(2, not_ready)]);
    let ObservedPhase::Running { address: None, .. } = &observed.phase else { panic!("{observed:?}") };
}

#[test]
fn what_hinders_a_start_is_read_of_its_newest_pod_and_of_its_controller() {
    let cannot_pull = json!({
        "conditions": [], "podIP": null,
        "containerStatuses": [{
            "name": "main", "image": "", "imageID": "", "ready": false, "restartCount": 0,
            "state": { "waiting": { "reason": "ErrImageNeverPull", "message": "Container image \"none:1\" is not present with pull policy of Never" } },
        }],
    });
    let observed = told(Some(deployment(1, 1, &json!({}))), vec![pod(1, cannot_pull)]);
    let ObservedPhase::Running { trouble: Some(trouble), .. } = observed.phase else {
        panic!("{observed:?}")
    };
    assert_eq!(trouble.cause.code, CauseCode::ImageMissing);

    let mut refused = deployment(1, 1, &json!({}));
    refused.refusal = Some("pods \"wiki-5f-x\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0".to_owned());
    let observed = told(Some(refused), Vec::new());
    let ObservedPhase::Running { trouble: Some(trouble), .. } = observed.phase else {
        panic!("{observed:?}")
    };
    assert_eq!(trouble.cause.code, CauseCode::QuotaExceeded);
}

#[test]
fn what_a_shared_program_printed_is_told_to_nobody() {
    let ended = json!({ "terminated": { "exitCode": 3, "reason": "Error", "message": "password of bob" } });
    let back_off = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
    let hook = json!({ "waiting": { "reason": "PostStartHookError", "message": "Exec lifecycle hook failed - error: 1, message: \"password of bob\"" } });
    for (state, last, restarts, code, sentence) in [
        (ended.clone(), json!({}), 0, CauseCode::Crashed, "The workspace's program failed with exit code 3."),
        (
            back_off.clone(),
            ended.clone(),
            2,
            CauseCode::CrashLoop,
            "The workspace's program ends again and again, the last time with exit code 3.",
        ),
        (hook, json!({}), 0, CauseCode::CannotStart, CauseCode::CannotStart.words().detail),
    ] {
        let status = json!({
            "name": "main", "image": "", "imageID": "", "ready": false, "restartCount": restarts, "state": state,
            "lastState": last,
        });
        let status = json!({ "conditions": [], "containerStatuses": [status] });
        let observed = told(Some(deployment(1, 1, &json!({}))), vec![pod(1, status)]);
        let ObservedPhase::Running { trouble: Some(Trouble { cause, .. }), .. } = observed.phase else {
            panic!("{observed:?}")
        };
        assert_eq!((cause.code, cause.detail.as_str()), (code, sentence));
        assert!(!cause.hint.contains("password"), "{}", cause.hint);
        assert!(
            cause.hint.contains("kubectl -n tools") && cause.hint.contains("wiki-5f-1"),
            "{}",
            cause.hint
        );
    }
}

#[test]
fn what_is_scaled_to_0_ends_before_it_rests_and_tells_what_was_written_on_it() {
    let run = generation(&deployment(1, 2, &json!({})));
    let stops = json!({ "usher.dev/stops": "1" });
    let ending = told(Some(deployment(2, 0, &stops)), vec![deleted(pod(1, json!({})))]);
    assert_eq!(ending.phase, ObservedPhase::Stopping { generation: run, trouble: None });
    let rests = told(
        Some(deployment(2, 0, &json!({ "usher.dev/stopped": "idle" }))),
        vec![pod(1, json!({ "phase": "Succeeded" }))],
    );
    assert_eq!((rests.phase, rests.stopped), (ObservedPhase::Stopped, Some(crate::StopReason::Idle)));
    let wanted = json!({ "usher.dev/wanted": crate::kubernetes::notes::want(1500, "a") });
    let observed = told(Some(deployment(2, 0, &wanted)), Vec::new());
    assert!(matches!(observed.phase, ObservedPhase::Wanted { .. }), "{observed:?}");
    let marked = json!({ "usher.dev/mark": crate::kubernetes::notes::mark(crate::StopReason::Idle, "a") });
    let observed = told(Some(deployment(7, 1, &marked)), vec![pod(1, json!({}))]);
    assert_eq!(observed.mark, Some(Mark { number: 7, reason: crate::StopReason::Idle }));
}

#[test]
fn a_pod_that_is_heard_of_before_its_start_is_no_stop() {
    let begun = || {
        let (kubernetes, mut known, now) = whole(Some(deployment(1, 0, &json!({}))), Vec::new());
        known.take_pod(Seen::Put(pod(1, json!({}))), now);
        let observed = known.read(&kubernetes, now).unwrap();
        assert_eq!((observed.phase, known.again_at()), (ObservedPhase::Stopped, Some(now + EARLY)));
        (kubernetes, known, now)
    };
    let is_ending =
        |observed: Option<Observed>| matches!(observed.unwrap().phase, ObservedPhase::Stopping { .. });
    let (kubernetes, mut known, now) = begun();
    assert!(is_ending(known.read(&kubernetes, now + EARLY)) && known.again_at().is_none());
    for later in [Seen::Put(deleted(pod(1, json!({})))), Seen::Listed(pod(1, json!({})))] {
        let (kubernetes, mut known, now) = begun();
        known.take_pod(later, now);
        assert!(is_ending(known.read(&kubernetes, now)));
    }
    // It is waited for once, whatever becomes of the object meanwhile.
    let (kubernetes, mut known, now) = begun();
    known.take_object(Seen::Deleted("wiki".to_owned()), now);
    known.read(&kubernetes, now + EARLY);
    assert_eq!(known.again_at(), None);
    let (_, mut known, _) = begun();
    known.forget_pods();
    assert_eq!(known.again_at(), None);
    // What ended before is kept, and another object's pod is none of its own.
    let ended = pod(1, json!({ "phase": "Failed" }));
    let (kubernetes, mut known, now) = whole(Some(deployment(1, 0, &json!({}))), vec![ended]);
    known.take_pod(Seen::Put(strange(pod(2, json!({})))), now);
    assert_eq!(known.again_at(), None);
    known.take_pod(Seen::Put(pod(3, json!({}))), now);
    assert_eq!(known.read(&kubernetes, now).unwrap().phase, ObservedPhase::Stopped);
    let (kubernetes, mut known, now) = begun();
    known.take_object(Seen::Put(deployment(2, 1, &json!({}))), now);
    assert!(matches!(known.read(&kubernetes, now).unwrap().phase, ObservedPhase::Running { .. }));
    known.take_object(Seen::Put(deployment(3, 0, &json!({}))), now);
    assert!(is_ending(known.read(&kubernetes, now)));
}

#[test]
fn what_is_not_there_or_has_not_agreed_fails_with_its_cause() {
    let code = |observed: Observed| match observed.phase {
        ObservedPhase::Failed { cause } => cause.code,
        phase => panic!("{phase:?}"),
    };
    assert_eq!(code(told(None, Vec::new())), CauseCode::ObjectMissing);
    let mut silent = deployment(1, 1, &json!({}));
    silent.meta.annotations = None;
    assert_eq!(code(told(Some(silent), vec![pod(1, json!({}))])), CauseCode::NotOptedIn, "though it runs");
}

#[test]
fn while_anything_is_not_seen_it_is_told_as_it_was_and_that_it_is_out_of_sight() {
    let (kubernetes, mut known, now) = whole(Some(deployment(1, 1, &json!({}))), vec![pod(1, json!({}))]);
    let before = known.read(&kubernetes, now).unwrap();
    assert_eq!((members(&before), &before.scope), (vec![member(1, true)], &of_wiki()));
    let steps: [(Change, bool); 4] = [
        (|known, now| known.take_pod(Seen::Blind, now), true),
        (|known, now| known.take_object(Seen::Blind, now), true),
        (|known, now| known.take_pod(Seen::Synced, now), true),
        (|known, now| known.take_object(Seen::Synced, now), false),
    ];
    for (step, blind) in steps {
        step(&mut known, now);
        assert_eq!((known.read(&kubernetes, now), known.is_blind()), (Some(before.clone()), blind));
    }
}

fn of_wiki() -> Scope {
    Scope::Route(RouteName::parse("wiki").unwrap())
}

#[test]
fn what_the_watch_tells_late_does_not_undo_what_a_write_was_answered() {
    let (kubernetes, mut known, now) = whole(Some(deployment(5, 0, &json!({}))), Vec::new());
    known.answer(deployment(7, 2, &json!({})), now);
    known.take_object(Seen::Put(deployment(6, 0, &json!({}))), now + Duration::from_millis(1));
    let observed = known.read(&kubernetes, now).unwrap();
    assert!(matches!(observed.phase, ObservedPhase::Running { .. }), "{observed:?}");
}

#[test]
fn what_is_told_of_a_cluster_that_was_restored_holds_though_its_versions_are_lower() {
    let known_before: [Change; 3] = [
        |_, _| {},
        // Written by Usher, and told by the watch since; and looked at once more.
        |known, now| {
            known.answer(deployment(7, 2, &json!({})), now);
            known.take_object(Seen::Put(deployment(7, 2, &json!({}))), now);
        },
        |known, now| known.answer(deployment(5, 2, &json!({})), now),
    ];
    for before in known_before {
        let (_, mut known, now) = whole(Some(deployment(5, 2, &json!({}))), Vec::new());
        before(&mut known, now);
        known.take_object(Seen::Listed(deployment(3, 0, &json!({}))), now);
        assert_eq!(known.object().map(|object| (object.version(), object.replicas)), Some((3, 0)));
    }
}
