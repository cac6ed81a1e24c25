//! One row a cause: the objects as they were seen, and the words that come of them.

use super::*;

/// What a row expects.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Told {
    /// At once, and the start goes on.
    Hinders,
    /// Only after it stood for a while.
    Settles,
    /// The end.
    Ends,
}

/// How a pod's state is told.
fn told(cluster: &mut Cluster, now: Instant) -> (Told, Cause) {
    match cluster.read(now) {
        Stands::Failed { cause, .. } => (Told::Ends, cause),
        Stands::Running { trouble: Some(trouble), .. } => (Told::Hinders, trouble.cause),
        Stands::Running { trouble: None, .. } => match cluster.read(now + SETTLES) {
            Stands::Running { trouble: Some(trouble), .. } => (Told::Settles, trouble.cause),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn check(mut cluster: Cluster, now: Instant, wanted: (Told, CauseCode, &str), hint: &str) {
    let (how, cause) = told(&mut cluster, now);
    assert_eq!((how, cause.code, cause.detail.as_str()), wanted);
    assert!(cause.hint.contains(hint), "{hint:?} is not in {:?}", cause.hint);
    assert!(cause.detail.len() <= 1024 && cause.hint.len() <= 1024, "{cause:?}");
}

#[test]
fn what_a_container_waits_for_is_told() {
    use CauseCode::*;
    let pull = r#"failed to pull and unpack image "registry.example/lab:1": failed to resolve image: failed to do request: Head "https://bob:pw@registry.example/v2/lab/manifests/1": "#;
    let refused = r#"rpc error: code = NotFound desc = failed to pull and unpack image "registry.example/lab:1": failed to resolve reference "registry.example/lab:1": registry.example/lab:1: not found"#;
    let exec = r#"failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: "/bin/nope": stat /bin/nope: no such file or directory"#;
    let image = "The image \"registry.example/lab:1\" of this workspace";
    let unreachable = format!("{image} cannot be fetched: its registry cannot be reached.");
    let absent = format!("{image} cannot be fetched: its registry has no such image.");
    let table: [(&str, String, Told, CauseCode, &str, &str); 12] = [
        ("ErrImageNeverPull", r#"Container image "registry.example/lab:1" is not present with pull policy of Never"#.into(), Told::Ends, ImageMissing, &format!("{image} is not on the node, and may not be fetched."), "kubectl -n ws describe pod alice-0"),
        ("ErrImagePull", format!("{pull}dial tcp: lookup registry.example: no such host"), Told::Hinders, ImagePullFailed, &unreachable, "kubectl -n ws describe pod alice-0"),
        ("ImagePullBackOff", format!("Back-off pulling image \"registry.example/lab:1\": ErrImagePull: {pull}dial tcp: i/o timeout"), Told::Hinders, ImagePullFailed, &unreachable, "***@registry.example"),
        ("ErrImagePull", refused.into(), Told::Hinders, ImagePullFailed, &absent, "not found"),
        ("ImagePullBackOff", format!("Back-off pulling image \"registry.example/lab:1\": ErrImagePull: {refused}"), Told::Ends, ImagePullFailed, &absent, "kubectl -n ws describe pod alice-0"),
        ("InvalidImageName", "Failed to apply default image tag \"Lab:1\": couldn't parse image name \"Lab:1\": invalid reference format: repository name (library/Lab) must be lowercase".into(), Told::Ends, ImageNameBad, "The name \"registry.example/lab:1\" of this workspace's image is not valid.", "must be lowercase"),
        ("CreateContainerConfigError", "secret \"nope\" not found".into(), Told::Hinders, SecretMissing, "A secret that this workspace needs is missing.", "make secret \"nope\" in namespace ws"),
        ("CreateContainerConfigError", "couldn't find key token in Secret ws/lab".into(), Told::Hinders, SecretMissing, "A secret that this workspace needs is missing.", "couldn't find key token in Secret ws/lab: add the key"),
        ("CreateContainerConfigError", "configmap \"nope\" not found".into(), Told::Hinders, ConfigMapMissing, "A setting that this workspace needs is missing.", "make configmap \"nope\" in namespace ws"),
        ("CreateContainerConfigError", "container has runAsNonRoot and image will run as root (pod: \"alice-0_ws(1)\", container: workspace)".into(), Told::Ends, RunsAsRoot, "The image of this workspace wants to run as root, which is not allowed here.", "run_as"),
        ("RunContainerError", exec.into(), Told::Ends, ProgramNotFound, "The program \"/bin/nope\" of this workspace was not found.", "kubectl -n ws describe pod alice-0"),
        ("CreateContainerError", "context deadline exceeded".into(), Told::Hinders, CannotStart, "The node could not start this workspace.", "context deadline exceeded"),
    ];
    let now = Instant::now();
    for (reason, message, how, code, detail, hint) in table {
        let mut cluster = Cluster::new(now);
        cluster.workspace(waiting(reason, &message));
        check(cluster, now, (how, code, detail), hint);
    }
}

#[test]
fn how_a_container_ended_is_told_with_its_last_lines() {
    use CauseCode::*;
    let end = |reason: &str, exit: i32, message: &str| json!({"terminated": {"reason": reason, "exitCode": exit, "message": message}});
    let back_off = || {
        waiting("CrashLoopBackOff", "back-off 10s restarting failed container=workspace pod=alice-0_ws(1)")
    };
    let nope = r#"exec: "/bin/nope": stat /bin/nope: no such file or directory"#;
    let prepare = "A step that prepares this workspace";
    // container, its restarts, state, last state
    let table = [
        ("workspace", 0, end("Error", 3, "no\nsuch database\n"), json!({}), Told::Hinders, Crashed, "The workspace's program failed with exit code 3. Its last output: no\nsuch database".to_owned(), "kubectl -n ws logs alice-0 -c workspace --previous"),
        ("workspace", 1, running(), end("Error", 3, ""), Told::Hinders, Crashed, "The workspace's program failed with exit code 3.".into(), "read the workspace's log"),
        ("workspace", 1, back_off(), end("Error", 3, "x"), Told::Hinders, Crashed, "The workspace's program failed with exit code 3. Its last output: x".into(), ""),
        ("workspace", 2, back_off(), end("Error", 3, "x"), Told::Ends, CrashLoop, "The workspace's program ends again and again, the last time with exit code 3. Its last output: x".into(), ""),
        ("workspace", 0, end("Completed", 0, ""), json!({}), Told::Hinders, Crashed, "The workspace's program ended by itself, with exit code 0.".into(), "must stay in the foreground"),
        ("workspace", 0, end("Error", 139, ""), json!({}), Told::Hinders, Crashed, "The workspace's program was ended by signal 11.".into(), ""),
        ("workspace", 0, end("OOMKilled", 137, ""), json!({}), Told::Hinders, OutOfMemory, "The workspace needed more memory than it may have, and was ended.".into(), "resources.memory"),
        ("workspace", 2, back_off(), end("OOMKilled", 137, ""), Told::Ends, OutOfMemory, "The workspace needed more memory than it may have, and was ended.".into(), "resources.memory"),
        ("workspace", 1, back_off(), end("StartError", 128, nope), Told::Ends, ProgramNotFound, "The program \"/bin/nope\" of this workspace was not found.".into(), ""),
        ("workspace", 2, back_off(), end("StartError", 128, "cgroup: busy"), Told::Ends, CannotStart, "The node could not start this workspace.".into(), "cgroup: busy"),
        ("prepare", 0, end("Error", 7, "no such bucket"), json!({}), Told::Hinders, InitFailed, format!("{prepare} failed with exit code 7. Its last output: no such bucket"), "-c prepare"),
        ("prepare", 2, back_off(), end("Error", 7, "no such bucket"), Told::Ends, InitFailed, format!("{prepare} ends again and again, the last time with exit code 7. Its last output: no such bucket"), ""),
        ("logger", 0, end("Error", 1, ""), json!({}), Told::Hinders, Crashed, "A program beside the workspace failed with exit code 1.".into(), "-c logger"),
        ("proxy", 2, back_off(), end("Error", 1, ""), Told::Ends, CrashLoop, "A program beside the workspace ends again and again, the last time with exit code 1.".into(), "-c proxy"),
    ];
    let now = Instant::now();
    for (name, restarts, now_state, last, how, code, detail, hint) in table {
        let mut status = state(name, now_state);
        status["restartCount"] = json!(restarts);
        status["lastState"] = last;
        let list =
            if matches!(name, "prepare" | "logger") { "initContainerStatuses" } else { "containerStatuses" };
        let mut cluster = Cluster::new(now);
        cluster.pod(json!({"phase": "Running", list: [status]}));
        check(cluster, now, (how, code, &detail), hint);
    }
}

#[test]
fn nothing_beside_a_workspace_ends_it_once_its_own_program_runs() {
    let end = json!({"reason": "Error", "exitCode": 1});
    let pull = "Back-off pulling image \"proxy:1\": ErrImagePull: proxy:1: not found";
    let crashes = waiting("CrashLoopBackOff", "back-off 10s restarting failed container=proxy");
    let ended = json!({"terminated": {"reason": "Completed", "exitCode": 0}});
    let own_back_off = waiting("CrashLoopBackOff", "back-off 10s restarting failed container=workspace");
    // How the workspace's own program is, how often it was started again, and whether the reading is the end.
    let table = [
        (running(), 0, false),
        (ended, 0, false),
        (own_back_off.clone(), 1, false),
        (own_back_off, 2, true),
        (waiting("ContainerCreating", ""), 0, true),
        (waiting("PodInitializing", ""), 1, true),
    ];
    let now = Instant::now();
    for list in ["containerStatuses", "initContainerStatuses"] {
        let name = if list == "containerStatuses" { "proxy" } else { "logger" };
        for beside in [crashes.clone(), waiting("ImagePullBackOff", pull)] {
            for (own, restarts, ends) in &table {
                let mut main = state("workspace", own.clone());
                (main["restartCount"], main["lastState"]) = (json!(restarts), json!({"terminated": &end}));
                let mut other = state(name, beside.clone());
                (other["restartCount"], other["lastState"]) = (json!(5), json!({"terminated": &end}));
                let mut status =
                    json!({"phase": "Running", "podIP": "10.244.0.7", "containerStatuses": [main]});
                match status[list].as_array_mut() {
                    Some(all) => all.push(other),
                    None => status[list] = json!([other]),
                }
                let mut cluster = Cluster::new(now);
                cluster.pod(status);
                match cluster.read(now) {
                    Stands::Failed { .. } => assert!(ends, "{name} {beside} {own}"),
                    Stands::Running { trouble: Some(trouble), address, .. } => {
                        assert!(!ends && trouble.weight == Weight::Hindrance, "{name} {beside} {own}");
                        assert_eq!(address.is_some(), *own == running(), "{name} {beside} {own}");
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

#[test]
fn a_program_that_ran_for_long_is_not_given_up_for_having_failed_before() {
    let now = Instant::now();
    let times = [
        ("1970-01-01T00:00:00Z", true),
        ("2026-11-21T12:00:01Z", true),
        ("2026-11-21T11:59:00Z", false),
        ("2026-11-14T12:00:00Z", false),
    ];
    for (started, ends) in times {
        let end = json!({"reason": "Error", "exitCode": 1, "startedAt": started, "finishedAt": "2026-11-21T12:00:00Z"});
        let mut cluster = Cluster::new(now);
        let mut status = state("workspace", json!({"terminated": end}));
        status["restartCount"] = json!(2);
        cluster.pod(json!({"containerStatuses": [status.clone()]}));
        assert_eq!(matches!(cluster.read(now), Stands::Failed { .. }), ends, "{started}");
        status["restartCount"] = json!(1);
        cluster.pod(json!({"containerStatuses": [status]}));
        assert!(matches!(cluster.read(now), Stands::Running { .. }), "{started}");
    }
}

#[test]
fn a_step_that_prepared_it_and_ended_well_hinders_nothing() {
    let now = Instant::now();
    let mut cluster = Cluster::new(now);
    let done = json!({"terminated": {"reason": "Completed", "exitCode": 0}});
    cluster.pod(json!({"initContainerStatuses": [state("prepare", done)], "containerStatuses": [state("workspace", running())]}));
    assert_eq!(cluster.trouble(now), None);
}

/// The scheduler's message, the claim's event, and what is told.
type Scheduled = (&'static str, (&'static str, &'static str), Told, CauseCode, &'static str, &'static str);

const SCHEDULED: &[Scheduled] = &[
    (
        "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
        ("", ""),
        Told::Settles,
        CauseCode::Unschedulable,
        "There is no node with a free GPU.",
        "1 of 1: not enough nvidia.com/gpu; kubectl -n ws describe pod alice-0. The scheduler says: 0/1 nodes are available: 1 Insufficient nvidia.com/gpu",
    ),
    (
        "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind.",
        ("", ""),
        Told::Settles,
        CauseCode::VolumeUnbound,
        "The volume for this workspace's files is not there yet.",
        "kubectl -n ws describe pod alice-0",
    ),
    (
        "pod has unbound immediate PersistentVolumeClaims. not found",
        ("FailedBinding", "no persistent volumes available for this claim and no storage class is set"),
        Told::Hinders,
        CauseCode::VolumeUnbound,
        "There is no kind of volume for this workspace's files.",
        "kubectl -n ws describe pvc home-alice-0",
    ),
    (
        "pod has unbound immediate PersistentVolumeClaims. not found",
        ("ProvisioningFailed", "storageclass.storage.k8s.io \"fast-ssd\" not found"),
        Told::Hinders,
        CauseCode::VolumeUnbound,
        "There is no volume of the kind that this workspace asks for.",
        "there is no storage class \"fast-ssd\"",
    ),
    (
        "pod has unbound immediate PersistentVolumeClaims. not found",
        ("ProvisioningFailed", "failed to provision volume with StorageClass \"fast\": out of disks"),
        Told::Settles,
        CauseCode::VolumeUnbound,
        "The volume for this workspace's files is not there yet.",
        "out of disks",
    ),
    (
        "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity.",
        ("", ""),
        Told::Settles,
        CauseCode::VolumeElsewhere,
        "The volume with your files is tied to a node that cannot be used now.",
        "2 of 2: its volume is tied to another node or zone",
    ),
];

#[test]
fn what_the_scheduler_and_the_claim_say_is_told() {
    let noise = " no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.";
    let now = Instant::now();
    for (message, (reason, said), how, code, detail, hint) in SCHEDULED {
        let mut cluster = Cluster::new(now);
        let status = json!({"conditions": [condition("PodScheduled", "False", "Unschedulable", &format!("{message}{noise}"))]});
        cluster.pod_of("pod-1", json!({}), json!(null), status).claim("Pending");
        if !reason.is_empty() {
            cluster.told("claim-1", reason, said, now);
        }
        check(cluster, now, (*how, *code, detail), hint);
    }
}

#[test]
fn what_only_events_tell_is_told() {
    use CauseCode::*;
    let refused = |why: &str| {
        format!("create Pod alice-0 in StatefulSet alice failed error: pods \"alice-0\" is forbidden: {why}")
    };
    let set = "kubectl -n ws describe statefulset alice";
    let table = [
        ("set-1", "FailedCreate", refused("exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0"), Told::Hinders, QuotaExceeded, "No more may run now: the cluster's quota of workspaces is used up.", set),
        ("set-1", "FailedCreate", refused("failed quota: q: must specify limits.cpu for: c"), Told::Ends, LimitsRequired, "This workspace is not allowed to run without limits.", set),
        ("set-1", "FailedCreate", refused("violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false"), Told::Ends, PodSecurity, "This workspace breaks the security rules of the cluster.", "allowPrivilegeEscalation != false"),
        ("set-1", "FailedCreate", refused("error looking up service account ws/ghost: serviceaccount \"ghost\" not found"), Told::Settles, ServiceAccountMissing, "The account that this workspace runs under is missing.", "\"ghost\""),
        ("set-1", "FailedCreate", refused("no PriorityClass with name ghost was found"), Told::Ends, PriorityClassMissing, "The priority that this workspace asks for does not exist.", "\"ghost\""),
        ("set-1", "FailedCreate", refused("ValidatingAdmissionPolicy 'no-big' with binding 'no-big' denied request: workspaces must carry a cost centre"), Told::Ends, AdmissionRefused, "A rule of the cluster refuses this workspace: workspaces must carry a cost centre", "'no-big'"),
        ("pod-1", "FailedMount", "MountVolume.SetUp failed for volume \"s\" : secret \"nope\" not found".into(), Told::Hinders, SecretMissing, "A secret that this workspace needs is missing.", "make secret \"nope\""),
        ("pod-1", "FailedMount", "MountVolume.SetUp failed for volume \"c\" : configmap \"nope\" not found".into(), Told::Hinders, ConfigMapMissing, "A setting that this workspace needs is missing.", "make configmap \"nope\""),
        ("pod-1", "FailedMount", "MountVolume.MountDevice failed for volume \"pvc-1\" : rpc error: code = Internal desc = bad superblock".into(), Told::Settles, VolumeUnmountable, "A volume of this workspace cannot be mounted.", "bad superblock"),
        ("pod-1", "FailedAttachVolume", "Multi-Attach error for volume \"pvc-1\" Volume is already exclusively attached to one node and can't be attached to another".into(), Told::Settles, VolumeElsewhere, "The volume with your files is still held by another node.", "out-of-service"),
        ("pod-1", "FailedCreatePodSandBox", "Failed to create pod sandbox: plugin type=\"bridge\" failed (add): no IP addresses available in range set".into(), Told::Settles, NetworkFailed, "The node cannot connect this workspace to the network.", "no IP addresses"),
    ];
    let now = Instant::now();
    for (about, reason, message, how, code, detail, hint) in table {
        let mut cluster = Cluster::new(now);
        if about == "pod-1" {
            cluster.workspace(json!({"waiting": {"reason": "ContainerCreating"}}));
        }
        cluster.told(about, reason, &message, now);
        check(cluster, now, (how, code, detail), hint);
    }
}
