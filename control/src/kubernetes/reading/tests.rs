//! Readings of real objects, as the API server gives them: what each cause looks like, and what time makes of it.

mod interruptions;
mod rows;

use super::*;
use crate::kubernetes::outline::{self, Outline};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim};
use serde_json::{Value, json};

/// The objects of one workspace, and how they came.
struct Cluster {
    set: Outline,
    pod: Option<Pod>,
    claims: Vec<PersistentVolumeClaim>,
    happenings: Vec<Happening>,
    sight: Sight,
    asked: Instant,
    before: Option<Reading>,
}

fn typed<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).unwrap()
}

/// A container's state as it stands in a status.
fn state(name: &str, state: Value) -> Value {
    json!({"name": name, "image": "registry.example/lab:1", "imageID": "", "ready": false, "restartCount": 0, "state": state})
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": message}})
}

fn running() -> Value {
    json!({"running": {"startedAt": "2026-11-21T12:00:01Z"}})
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": status, "reason": reason, "message": message})
}

impl Cluster {
    /// One that was asked to run a workspace just now.
    fn new(now: Instant) -> Self {
        let set = json!({
            "metadata": {"name": "alice", "namespace": "ws", "uid": "set-1"},
            "spec": {"replicas": 1, "selector": {}, "template": {}},
            "status": {"replicas": 0}
        });
        Self {
            set: Outline::from(&typed::<StatefulSet>(set)),
            pod: None,
            claims: Vec::new(),
            happenings: Vec::new(),
            sight: Sight::Confirmed { back: None },
            asked: now,
            before: None,
        }
    }

    fn replicas(&mut self, replicas: i32) -> &mut Self {
        self.set.replicas = replicas;
        self
    }

    /// A pod on a node, with this status.
    fn pod(&mut self, status: Value) -> &mut Self {
        self.pod_of("pod-1", json!({}), json!("node1"), status)
    }

    fn pod_of(&mut self, uid: &str, metadata: Value, node: Value, status: Value) -> &mut Self {
        let mut pod = json!({
            "metadata": {"name": "alice-0", "namespace": "ws", "uid": uid},
            "spec": {
                "nodeName": node,
                "containers": [{"name": "workspace", "image": "registry.example/lab:1"}, {"name": "proxy"}],
                "initContainers": [{"name": "prepare"}, {"name": "logger", "restartPolicy": "Always"}]
            },
            "status": status
        });
        for (key, value) in metadata.as_object().unwrap() {
            pod["metadata"][key] = value.clone();
        }
        self.pod = Some(typed(pod));
        self
    }

    /// A pod whose workspace is in this state.
    fn workspace(&mut self, workspace: Value) -> &mut Self {
        self.pod(json!({"phase": "Pending", "podIP": "10.244.0.7", "containerStatuses": [state("workspace", workspace)]}))
    }

    fn claim(&mut self, phase: &str) -> &mut Self {
        let claim = json!({"metadata": {"name": "home-alice-0", "namespace": "ws", "uid": "claim-1"}, "status": {"phase": phase}});
        self.claims = vec![typed(claim)];
        self
    }

    fn told(&mut self, about: &str, reason: &str, message: &str, heard: Instant) -> &mut Self {
        self.event(
            about,
            reason,
            message,
            json!({"count": 1, "lastTimestamp": "2026-11-21T12:00:00Z"}),
            heard,
            false,
        )
    }

    fn event(
        &mut self,
        about: &str,
        reason: &str,
        message: &str,
        more: Value,
        heard: Instant,
        listed: bool,
    ) -> &mut Self {
        let mut event = json!({
            "metadata": {"name": "alice.1", "namespace": "ws"},
            "involvedObject": {"uid": about},
            "reason": reason,
            "message": message,
        });
        for (key, value) in more.as_object().unwrap() {
            event[key] = value.clone();
        }
        self.happenings.push(Happening::of(&typed::<Event>(event), heard, listed));
        self
    }

    fn view(&self) -> View<'_> {
        View {
            kind: "statefulset",
            set: &self.set,
            pod: self.pod.as_ref(),
            claims: &self.claims,
            happenings: &self.happenings,
            container: "workspace",
            port: 8888,
            sight: self.sight,
            asked: self.asked,
            is_shared: false,
        }
    }

    fn read(&mut self, now: Instant) -> Stands {
        let reading = read(&self.view(), self.before.as_ref(), now);
        self.before = Some(reading.clone());
        reading.stands
    }

    fn again_at(&self) -> Option<Instant> {
        self.before.as_ref().and_then(|before| before.again_at)
    }

    /// What hinders it, by its code.
    fn trouble(&mut self, now: Instant) -> Option<CauseCode> {
        match self.read(now) {
            Stands::Running { trouble, .. } | Stands::Stopping { trouble, .. } => {
                trouble.map(|t| t.cause.code)
            }
            other => panic!("{other:?}"),
        }
    }
}

fn way(stands: &Stands) -> (Option<&str>, Option<String>, Option<Step>) {
    match stands {
        Stands::Running { generation, address, step, .. } => {
            let address = address.as_ref().map(|address| format!("{address:?}"));
            (generation.as_ref().map(|generation| &*generation.0), address, Some(*step))
        }
        other => panic!("{other:?}"),
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_start_goes_its_steps_and_has_an_address_while_its_program_runs() {
    let now = Instant::now();
    let mut cluster = Cluster::new(now);
    assert_eq!(way(&cluster.read(now)), (None, None, Some(Step::Asked)));
    cluster.pod_of("pod-1", json!({}), json!(null), json!({"phase": "Pending"}));
    assert_eq!(way(&cluster.read(now)), (Some("pod-1"), None, Some(Step::Scheduling)));
    cluster.workspace(json!({"waiting": {"reason": "ContainerCreating"}}));
    assert_eq!(way(&cluster.read(now)), (Some("pod-1"), None, Some(Step::Creating)));
    cluster.told("pod-1", "Pulling", "Pulling image \"registry.example/lab:1\"", now);
    assert_eq!(way(&cluster.read(now)), (Some("pod-1"), None, Some(Step::Pulling)));
    cluster.told(
        "pod-1",
        "Pulled",
        "Successfully pulled image \"registry.example/lab:1\" in 2.1s (2.1s including waiting).",
        now,
    );
    assert_eq!(way(&cluster.read(now)), (Some("pod-1"), None, Some(Step::Creating)));
    cluster.workspace(running());
    let address = Some("Tcp(10.244.0.7:8888)".to_owned());
    assert_eq!(way(&cluster.read(now)), (Some("pod-1"), address, Some(Step::Started)));
    cluster.workspace(json!({"terminated": {"exitCode": 1, "reason": "Error"}}));
    assert_eq!(way(&cluster.read(now)), (Some("pod-1"), None, Some(Step::Started)));
}

#[test]
fn what_is_not_to_run_is_stopping_until_its_pod_is_gone() {
    let now = Instant::now();
    let mut cluster = Cluster::new(now);
    cluster.workspace(running()).replicas(0);
    let generation = Some(Generation("pod-1".into()));
    assert_eq!(cluster.read(now), Stands::Stopping { generation: generation.clone(), trouble: None });
    cluster.pod = None;
    assert_eq!(cluster.read(now), Stands::Stopped);
    cluster.replicas(1).workspace(running());
    cluster.set.ends = true;
    assert_eq!(cluster.read(now), Stands::Stopping { generation, trouble: None });
}

#[test]
fn a_warning_that_heals_is_never_shown() {
    let now = Instant::now();
    let mut cluster = Cluster::new(now);
    cluster.workspace(json!({"waiting": {"reason": "ContainerCreating"}}));
    let message = "MountVolume.SetUp failed for volume \"kube-api-access\" : no relationship found between node 'node1' and this object";
    cluster.told("pod-1", "FailedMount", message, now);
    assert_eq!(cluster.trouble(now), None);
    assert_eq!(cluster.again_at(), Some(now + SETTLES));
    assert_eq!(cluster.trouble(now + SETTLES - SECOND), None);
    cluster.workspace(running());
    assert_eq!(cluster.trouble(now + SETTLES), None);
    assert_eq!(cluster.again_at(), None);
}

#[test]
fn a_warning_that_stands_is_shown_and_stays_shown() {
    let now = Instant::now();
    let mut cluster = Cluster::new(now);
    let status =
        |message: &str| json!({"conditions": [condition("PodScheduled", "False", "Unschedulable", message)]});
    cluster.pod_of(
        "pod-1",
        json!({}),
        json!(null),
        status("0/1 nodes are available: 1 Insufficient nvidia.com/gpu."),
    );
    assert_eq!(cluster.trouble(now), None);
    // The counts change all the time in a busy cluster; the cause does not.
    cluster.pod_of(
        "pod-1",
        json!({}),
        json!(null),
        status("0/2 nodes are available: 2 Insufficient nvidia.com/gpu."),
    );
    assert_eq!(cluster.trouble(now + SETTLES), Some(CauseCode::Unschedulable));
    assert_eq!(cluster.trouble(now + SETTLES + SECOND), Some(CauseCode::Unschedulable));
}

#[test]
fn a_refusal_of_an_earlier_start_ends_nothing() {
    let now = Instant::now();
    let message = "create Pod alice-0 in StatefulSet alice failed error: pods \"alice-0\" is forbidden: no PriorityClass with name ghost was found";
    let at = json!({"count": 4, "lastTimestamp": "2026-11-21T12:00:00Z"});
    for (heard, listed) in [(now - SECOND, false), (now + SECOND, true)] {
        let mut cluster = Cluster::new(now);
        cluster.event("set-1", "FailedCreate", message, at.clone(), heard, listed);
        assert_eq!(cluster.trouble(now), None);
        assert_eq!(cluster.trouble(now + SETTLES), Some(CauseCode::PriorityClassMissing));
        cluster.event("set-1", "FailedCreate", message, at.clone(), now + SETTLES, false);
        assert!(matches!(cluster.read(now + SETTLES), Stands::Failed { .. }));
    }
}

#[test]
fn a_refusal_that_a_later_success_contradicts_is_over() {
    let now = Instant::now();
    let refused = "create Pod alice-0 in StatefulSet alice failed error: pods \"alice-0\" is forbidden: exceeded quota: q, requested: pods=1";
    let old = json!({"series": {"count": 3, "lastObservedTime": "2026-11-21T12:00:00.000000Z"}});
    let new = json!({"count": 1, "lastTimestamp": "2026-11-21T12:00:01Z"});
    for (claim, wanted) in [(false, None), (true, Some(CauseCode::QuotaExceeded))] {
        let mut cluster = Cluster::new(now);
        cluster.event("set-1", "FailedCreate", refused, old.clone(), now, true);
        let made = if claim {
            "create Claim home-alice-0 Pod alice-0 in StatefulSet alice success"
        } else {
            "create Pod alice-0 in StatefulSet alice successful"
        };
        cluster.event("set-1", "SuccessfulCreate", made, new.clone(), now, true);
        cluster.read(now);
        assert_eq!(cluster.trouble(now + SETTLES), wanted);
    }
}

#[test]
fn events_of_others_and_of_an_earlier_pod_are_left_alone() {
    let now = Instant::now();
    let mut cluster = Cluster::new(now);
    cluster.workspace(json!({"waiting": {"reason": "ContainerCreating"}}));
    for uid in ["pod-0", "set-2", ""] {
        cluster.told(uid, "FailedMount", "secret \"x\" not found", now);
        cluster.told(uid, "FailedCreate", "failed error: x", now);
        cluster.told(uid, "Pulling", "Pulling image \"x\"", now);
    }
    assert_eq!(way(&cluster.read(now)), (Some("pod-1"), None, Some(Step::Creating)));
    assert_eq!(cluster.trouble(now + SETTLES), None);
}

#[test]
fn a_cluster_that_comes_back_is_said_to_recover_and_one_that_is_silent_to_be_unreachable() {
    let now = Instant::now();
    let mut cluster = Cluster::new(now);
    cluster.sight = Sight::Confirmed { back: Some(now - SECOND) };
    assert_eq!(cluster.trouble(now), None);
    assert_eq!(cluster.trouble(now + SETTLES), Some(CauseCode::ClusterRecovering));
    assert_eq!(cluster.trouble(now + RECOVERY), None);
    assert_eq!(cluster.trouble(now + RECOVERY + SETTLES), Some(CauseCode::ClusterSlow));
    cluster.sight = Sight::Blind;
    assert_eq!(cluster.trouble(now + RECOVERY), Some(CauseCode::ClusterUnreachable));
    cluster.workspace(running());
    assert_eq!(cluster.trouble(now + RECOVERY), None);
}

#[test]
fn a_cluster_that_does_nothing_at_all_is_told_of() {
    let now = Instant::now();
    let mut cluster = Cluster::new(now);
    assert_eq!(cluster.trouble(now), None);
    assert_eq!(cluster.again_at(), Some(now + SILENCE));
    assert_eq!(cluster.trouble(now + SILENCE), None);
    assert_eq!(cluster.trouble(now + SILENCE + SETTLES), Some(CauseCode::ClusterSlow));
    // Its controller has made a pod, and no scheduler has looked at it.
    cluster.pod_of("pod-1", json!({}), json!(null), json!({"phase": "Pending"}));
    assert_eq!(way(&cluster.read(now + SILENCE + SETTLES)), (Some("pod-1"), None, Some(Step::Scheduling)));
    assert_eq!(cluster.trouble(now + SILENCE + SETTLES), Some(CauseCode::ClusterSlow));
}

#[test]
fn what_is_known_while_blind_ends_nothing() {
    let now = Instant::now();
    let mut cluster = Cluster::new(now);
    cluster.workspace(waiting("InvalidImageName", "couldn't parse")).sight = Sight::Blind;
    assert_eq!(cluster.trouble(now), Some(CauseCode::ImageNameBad));
    cluster.sight = Sight::Confirmed { back: None };
    assert!(matches!(cluster.read(now), Stands::Failed { .. }));
}

#[test]
fn the_last_words_of_the_program_are_kept_for_the_log() {
    let now = Instant::now();
    let mut cluster = Cluster::new(now);
    assert_eq!(last_output(&cluster.view()), "");
    let mut status = state("workspace", running());
    status["lastState"] = json!({"terminated": {"exitCode": 3, "message": "one\ntwo \u{1b}[31mred\n"}});
    cluster.pod(json!({"containerStatuses": [status]}));
    assert_eq!(last_output(&cluster.view()), "one\ntwo red");
}
