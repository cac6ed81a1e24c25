//! A pod that ends although it should run, and a node that does not answer.

use super::*;

const DELETED: &str = "2026-11-21T12:00:05Z";

fn disrupted(reason: &str, message: &str) -> Value {
    json!({"phase": "Running", "containerStatuses": [state("workspace", running())],
        "conditions": [condition("DisruptionTarget", "True", reason, message), condition("Ready", "True", "", "")]})
}

fn notice(stands: &Stands) -> (Option<&str>, CauseCode, Weight, &str) {
    match stands {
        Stands::Running { generation, address: None, step: Step::Asked, trouble: Some(trouble) } => {
            let generation = generation.as_ref().map(|generation| &*generation.0);
            (generation, trouble.cause.code, trouble.weight, &trouble.cause.hint)
        }
        other => panic!("{other:?}"),
    }
}

/// What the end of a pod looks like, and what is told of it: the pod's metadata and status, code and hint.
fn endings() -> Vec<(Value, Value, CauseCode, &'static str)> {
    use CauseCode::*;
    let failed =
        |reason: &str, message: &str| json!({"phase": "Failed", "reason": reason, "message": message});
    let deleted = || json!({"deletionTimestamp": DELETED});
    vec![
        (
            deleted(),
            disrupted("EvictionByEvictionAPI", "Eviction API: evicting"),
            Drained,
            "kubectl drain of node node1, or another eviction: Eviction API: evicting",
        ),
        (
            deleted(),
            disrupted(
                "PreemptionByScheduler",
                "default-scheduler: preempting to accommodate a higher priority pod",
            ),
            Preempted,
            "preempted: default-scheduler: preempting to accommodate a higher priority pod",
        ),
        (
            deleted(),
            disrupted("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"),
            Drained,
            "node node1 has a taint NoExecute: Taint manager: deleting due to NoExecute taint",
        ),
        (
            deleted(),
            disrupted("DeletionByPodGC", "PodGC: node no longer exists"),
            Drained,
            "node node1 was removed: PodGC: node no longer exists",
        ),
        (
            json!({}),
            failed("Evicted", "The node was low on resource: memory."),
            Evicted,
            "node node1 says: The node was low on resource: memory.",
        ),
        (
            json!({}),
            failed("DeadlineExceeded", "Pod was active on the node longer than the specified deadline"),
            DeadlineExceeded,
            "activeDeadlineSeconds",
        ),
        (
            json!({}),
            failed(
                "UnexpectedAdmissionError",
                "Allocate failed due to requested number of devices unavailable for nvidia.com/gpu",
            ),
            FailedOnNode,
            "node node1 says: UnexpectedAdmissionError: Allocate failed",
        ),
        (
            deleted(),
            json!({"phase": "Running", "containerStatuses": [state("workspace", running())]}),
            Removed,
            "deleted by hand",
        ),
    ]
}

#[test]
fn why_a_pod_ends_is_told_and_its_route_is_dropped() {
    let now = Instant::now();
    for (metadata, status, code, hint) in endings() {
        let mut cluster = Cluster::new(now);
        cluster.pod_of("pod-1", metadata, json!("node1"), status);
        let stands = cluster.read(now);
        let (generation, told, weight, said) = notice(&stands);
        assert_eq!((generation, told, weight), (None, code, Weight::Notice));
        assert!(said.contains(hint), "{said}");
    }
}

#[test]
fn a_pod_that_is_only_announced_to_end_serves_on() {
    let now = Instant::now();
    let mut cluster = Cluster::new(now);
    cluster.pod(disrupted("TerminationByKubelet", "x"));
    assert_eq!(way(&cluster.read(now)).0, Some("pod-1"));
    assert_eq!(cluster.trouble(now), None);
}

#[test]
fn the_one_who_waits_for_the_successor_is_told_why_until_it_has_begun() {
    let now = Instant::now();
    let mut cluster = Cluster::new(now);
    cluster.pod_of(
        "pod-1",
        json!({"deletionTimestamp": DELETED}),
        json!("node1"),
        disrupted("EvictionByEvictionAPI", "x"),
    );
    assert_eq!(cluster.trouble(now), Some(CauseCode::Drained));
    cluster.pod = None;
    assert_eq!(cluster.trouble(now), Some(CauseCode::Drained));
    cluster.pod_of("pod-2", json!({}), json!("node2"), json!({}));
    assert_eq!(cluster.trouble(now), Some(CauseCode::Drained));
    let status = |workspace| json!({"containerStatuses": [state("workspace", workspace)]});
    cluster.pod_of("pod-2", json!({}), json!("node2"), status(waiting("ErrImagePull", "dial tcp")));
    assert_eq!(cluster.trouble(now), Some(CauseCode::ImagePullFailed));
    cluster.pod_of("pod-2", json!({}), json!("node2"), status(running()));
    assert_eq!(cluster.trouble(now), None);
    cluster.pod_of(
        "pod-2",
        json!({}),
        json!("node2"),
        status(json!({"waiting": {"reason": "ContainerCreating"}})),
    );
    assert_eq!(cluster.trouble(now), None);
}

#[test]
fn a_start_that_is_interrupted_again_and_again_is_given_up() {
    let now = Instant::now();
    let mut cluster = Cluster::new(now);
    for n in 1..=INTERRUPTIONS {
        cluster.pod_of(
            &format!("pod-{n}"),
            json!({}),
            json!("node1"),
            json!({"phase": "Failed", "reason": "OutOfmemory"}),
        );
        // The same pod, seen twice, counts once.
        cluster.read(now);
        let stands = cluster.read(now);
        assert_eq!(matches!(stands, Stands::Failed { .. }), n == INTERRUPTIONS, "{n}: {stands:?}");
    }
}

/// The status of a pod whose node does not answer: nothing but the readiness changes.
fn silent() -> Value {
    json!({"phase": "Running", "podIP": "10.244.0.7", "containerStatuses": [state("workspace", running())],
        "conditions": [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}]})
}

#[test]
fn a_node_that_does_not_answer_keeps_the_route_and_the_files() {
    let now = Instant::now();
    let deleting = json!({"deletionTimestamp": DELETED});
    for metadata in [json!({}), deleting] {
        let mut cluster = Cluster::new(now);
        let mut status = silent();
        let taint = condition(
            "DisruptionTarget",
            "True",
            "DeletionByTaintManager",
            "Taint manager: deleting due to NoExecute taint",
        );
        status["conditions"].as_array_mut().unwrap().push(taint);
        cluster.claim("Bound").pod_of("pod-1", metadata, json!("node1"), status);
        let Stands::Running { generation, address, step, trouble: Some(trouble) } = cluster.read(now) else {
            panic!()
        };
        assert_eq!((generation.map(|g| g.0.to_string()), step), (Some("pod-1".into()), Step::Started));
        assert!(address.is_some());
        assert_eq!((trouble.cause.code, trouble.weight), (CauseCode::NodeLost, Weight::Hindrance));
        assert!(trouble.cause.detail.contains("Your files are safe"));
        assert!(
            trouble.cause.hint.contains(
                "kubectl taint node node1 node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
            )
        );
    }
}

#[test]
fn without_a_volume_a_lost_node_holds_nothing_up() {
    let now = Instant::now();
    let mut cluster = Cluster::new(now);
    cluster.pod(silent());
    let Stands::Running { trouble: Some(trouble), .. } = cluster.read(now) else { panic!() };
    assert!(
        !trouble.cause.detail.contains("files") && trouble.cause.hint.contains("kubectl delete node node1")
    );
    cluster.replicas(0);
    assert_eq!(cluster.trouble(now), Some(CauseCode::NodeLost));
}

#[test]
fn only_a_pod_that_mounts_nothing_to_keep_is_removed_by_force() {
    let now = Instant::now();
    let ends = json!({"deletionTimestamp": DELETED});
    let claim = json!([{"name": "team", "persistentVolumeClaim": {"claimName": "team"}}]);
    let nothing = json!([{"name": "home", "emptyDir": {}}]);
    // What the template mounts now, and what the pod does, which may be of an earlier one.
    let table = [
        (&nothing, &nothing, true),
        (&claim, &claim, false),
        (&claim, &nothing, false),
        (&nothing, &claim, false),
    ];
    for (template, mounted, stranded) in table {
        let mut cluster = Cluster::new(now);
        let template = json!({"spec": {"containers": [], "volumes": template}});
        let spec = json!({"replicas": 1, "selector": {}, "template": template});
        cluster.set =
            Outline::from(&typed::<StatefulSet>(json!({"metadata": {"name": "alice"}, "spec": spec})));
        cluster.pod_of("pod-1", ends.clone(), json!("node1"), silent());
        let mut pod = cluster.pod.take().unwrap();
        pod.spec.as_mut().unwrap().volumes = typed(mounted.clone());
        cluster.pod = Some(outline::pod(pod));
        assert_eq!(is_stranded(&cluster.view()), stranded, "{template} {mounted}");
        let Stands::Running { trouble: Some(trouble), .. } = cluster.read(now) else { panic!() };
        assert_eq!(trouble.cause.detail.contains("Your files are safe"), !stranded);
    }
}

#[test]
fn a_workspace_that_is_not_ready_for_a_reason_of_its_own_is_not_on_a_lost_node() {
    let now = Instant::now();
    let mut cluster = Cluster::new(now);
    let mut status = silent();
    status["conditions"] = json!([condition(
        "Ready",
        "False",
        "ContainersNotReady",
        "containers with unready status: [workspace]"
    )]);
    cluster.pod(status);
    assert_eq!(cluster.trouble(now), None);
    cluster.pod(json!({"conditions": [{"type": "Ready", "status": "False"}]}));
    assert_eq!(cluster.trouble(now), None);
}
