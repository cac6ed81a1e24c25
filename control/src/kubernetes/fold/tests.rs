//! What is told of a cluster, in words.

mod warm;

use super::*;
use crate::kubernetes::names;
use crate::kubernetes::reading::{EARLY, SETTLES};
use crate::{Address, CauseCode, Mark, ObservedPhase, StopReason, Weight};
use config::Config;
use futures_util::FutureExt;
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::time::Duration;

/// A fold, who observes it, and the time.
struct Told {
    fold: Fold,
    events: BoxStream<'static, crate::Event>,
    now: Instant,
}

impl Told {
    fn new() -> Self {
        let text = "domain = 'lab.example.org'\ndriver = 'kubernetes'\nlisteners = [{ address = '127.0.0.1:8080' }]\n\
                    access = { allow = 'true', template = \"'t'\" }\nkubernetes = { namespace = 'w' }\n\
                    [templates.t]\nimage = 'i'\nport = 80\nvolume = 'none'\nresources = { memory = '1Gi', cpu = 1 }\n";
        let config = Config::parse("f", text, &|_| None).unwrap_or_else(|error| panic!("{error}"));
        let config::Driver::Kubernetes(kubernetes) = config.driver else { panic!("another driver") };
        let mut fold = Fold::new(kubernetes);
        let events = fold.observe(CancellationToken::new());
        Self { fold, events, now: Instant::now() }
    }

    /// One that has told all that there was: nothing.
    fn synced() -> Self {
        let mut told = Self::new();
        told.take(News::Set(Seen::Synced)).take(News::Pod(Seen::Synced));
        assert_eq!(told.words(), ["synced"]);
        told
    }

    fn take(&mut self, news: News) -> &mut Self {
        self.fold.take(news, self.now);
        self
    }

    /// What is told of it all, in words.
    fn words(&mut self) -> Vec<String> {
        self.fold.flush(self.now);
        let mut words = Vec::new();
        while let Some(Some(event)) = self.events.next().now_or_never() {
            words.push(word(&event));
        }
        words
    }
}

fn word(event: &crate::Event) -> String {
    match event {
        crate::Event::Synced => "synced".to_owned(),
        crate::Event::Sighted(_, sighted) => format!("sighted {sighted}"),
        crate::Event::Gone(id) => format!("{id} gone"),
        crate::Event::Seen(Observed { id, phase, mark, .. }) => {
            let mark = mark.map(|Mark { number, reason }| format!(" marked {} {number}", reason.as_str()));
            format!("{id} {}{}", phase_word(phase), mark.unwrap_or_default())
        }
    }
}

fn phase_word(phase: &ObservedPhase) -> String {
    match phase {
        ObservedPhase::Stopped => "stopped".to_owned(),
        ObservedPhase::Wanted { order } => format!("wanted {}", order.within),
        ObservedPhase::Stopping { generation, .. } => format!("stopping {generation}"),
        ObservedPhase::Failed { cause } => format!("failed {}", cause.code.as_str()),
        ObservedPhase::Running { generation, address, step, trouble } => {
            let generation = generation.as_ref().map_or("none".to_owned(), ToString::to_string);
            let address = match address {
                Some(Address::Tcp(address)) => format!(" at {address}"),
                _ => String::new(),
            };
            let trouble = trouble.as_ref().map(|it| {
                let end = if it.weight == Weight::End { "!" } else { "" };
                format!(" {}{end}", it.cause.code.as_str())
            });
            format!("{step:?} {generation}{address}{}", trouble.unwrap_or_default())
        }
    }
}

fn set(name: &str, version: u64, replicas: u8, annotations: Value) -> StatefulSet {
    let mut all = json!({ names::OWNER: r#"{"iss":"i","sub":"s"}"# });
    for (key, value) in annotations.as_object().unwrap() {
        all[key] = value.clone();
    }
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "namespace": "w", "uid": format!("{name}-set"), "resourceVersion": version.to_string(),
            "labels": { names::WORKSPACE: name, names::TEMPLATE: "t" }, "annotations": all,
        },
        "spec": { "replicas": replicas, "selector": {}, "template": {} },
    }))
    .unwrap()
}

fn plain(name: &str, version: u64, replicas: u8) -> StatefulSet {
    set(name, version, replicas, json!({}))
}

fn marked(name: &str, version: u64) -> StatefulSet {
    set(name, version, 1, json!({ names::MARK: notes::mark(StopReason::Idle, "r") }))
}

/// Its first pod, running at this address.
fn pod(name: &str, ip: &str) -> Pod {
    pod_of(name, &format!("{name}-set"), ip)
}

fn pod_of(name: &str, set_uid: &str, ip: &str) -> Pod {
    serde_json::from_value(json!({
        "metadata": {
            "name": format!("{name}-0"), "uid": format!("{name}-pod"), "labels": { names::WORKSPACE: name },
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "StatefulSet", "name": name, "uid": set_uid, "controller": true,
            }],
        },
        "spec": {
            "nodeName": "n",
            "containers": [{ "name": "workspace", "ports": [{ "name": "workspace", "containerPort": 80 }] }],
        },
        "status": {
            "phase": "Running", "podIP": ip,
            "containerStatuses": [{
                "name": "workspace", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "state": { "running": {} },
            }],
        },
    }))
    .unwrap()
}

fn event(object: &str, kind: &str, uid: &str, reason: &str, message: &str) -> Event {
    serde_json::from_value(json!({
        "metadata": { "name": format!("{object}.{reason}") },
        "involvedObject": { "kind": kind, "name": object, "uid": uid },
        "reason": reason, "message": message,
    }))
    .unwrap()
}

#[test]
fn all_that_is_there_is_told_once_and_then_that_it_was_all() {
    let mut told = Told::new();
    told.take(News::Set(Seen::Listed(plain("alice", 1, 1))))
        .take(News::Set(Seen::Listed(plain("bob", 2, 0))));
    told.take(News::Set(Seen::Synced));
    assert_eq!(told.words(), Vec::<String>::new(), "its pod may be in the other list");
    told.take(News::Pod(Seen::Listed(pod("alice", "10.0.0.1")))).take(News::Pod(Seen::Synced));
    assert_eq!(told.words(), ["alice Started alice-pod at 10.0.0.1:80", "bob stopped", "synced"]);
    // A list anew, and nothing changed.
    told.take(News::Set(Seen::Synced)).take(News::Pod(Seen::Synced));
    assert_eq!(told.words(), Vec::<String>::new());
}

#[test]
fn nothing_that_is_told_after_a_write_shows_what_was_before_it() {
    let mut told = Told::synced();
    told.take(News::Set(Seen::Put(plain("alice", 5, 0))));
    assert_eq!(told.words(), ["alice stopped"]);
    told.fold.answer(plain("alice", 9, 1), told.now);
    assert_eq!(told.words(), ["alice Asked none"]);
    for (version, replicas) in [(7, 0), (9, 1)] {
        told.take(News::Set(Seen::Put(plain("alice", version, replicas))));
        assert_eq!(told.words(), Vec::<String>::new(), "the watch is at {version}");
    }
    told.take(News::Set(Seen::Put(plain("alice", 11, 0))));
    assert_eq!(told.words(), ["alice stopped"]);
    // An answer that comes after the watch came beyond it.
    told.fold.answer(plain("alice", 10, 1), told.now);
    assert_eq!(told.words(), Vec::<String>::new());
    // A store that was restored counts from an earlier number.
    told.take(News::Set(Seen::Listed(plain("alice", 3, 1))));
    assert_eq!(told.words(), ["alice Asked none"]);
}

#[test]
fn a_pod_that_is_heard_of_before_its_start_is_no_stop() {
    let wanted = json!({ names::WANTED: notes::want(1500, "a") });
    for (rests, word) in
        [(set("alice", 1, 0, wanted), "alice wanted 1500"), (plain("alice", 1, 0), "alice stopped")]
    {
        let mut told = Told::synced();
        told.take(News::Set(Seen::Put(rests)));
        assert_eq!(told.words(), [word]);
        told.take(News::Pod(Seen::Put(pod("alice", "10.0.0.1"))));
        assert_eq!(told.words(), Vec::<String>::new());
        told.take(News::Set(Seen::Put(plain("alice", 2, 1))));
        assert_eq!(told.words(), ["alice Started alice-pod at 10.0.0.1:80"]);
        // The same pod is no news, and it ends.
        told.take(News::Set(Seen::Put(plain("alice", 3, 0))))
            .take(News::Pod(Seen::Put(pod("alice", "10.0.0.1"))));
        assert_eq!(told.words(), ["alice stopping alice-pod"]);
    }
}

#[test]
fn a_new_pod_of_what_is_not_to_run_is_believed_after_a_while_or_when_it_ends() {
    let early = || {
        let mut told = Told::synced();
        told.take(News::Set(Seen::Put(plain("alice", 1, 0))))
            .take(News::Pod(Seen::Put(pod("alice", "10.0.0.1"))));
        assert_eq!(told.words(), ["alice stopped"]);
        told
    };
    let mut told = early();
    told.now += EARLY - Duration::from_millis(1);
    assert_eq!(told.fold.flush(told.now), Some(told.now + Duration::from_millis(1)));
    told.now += Duration::from_millis(1);
    assert_eq!(told.words(), ["alice stopping alice-pod"]);
    assert_eq!(told.fold.flush(told.now), None);
    let mut told = early();
    let mut ending = pod("alice", "10.0.0.1");
    ending.metadata.deletion_timestamp = serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
    told.take(News::Pod(Seen::Put(ending)));
    assert_eq!(told.words(), ["alice stopping alice-pod"]);
    let mut told = early();
    told.take(News::Pod(Seen::Listed(pod("alice", "10.0.0.1"))));
    assert_eq!(told.words(), ["alice stopping alice-pod"], "it may be there for long");
    // A stranger's is waited for no more than what is gone.
    let mut told = Told::synced();
    told.take(News::Set(Seen::Put(plain("alice", 1, 0))));
    told.take(News::Pod(Seen::Put(pod_of("alice", "another", "10.0.0.1"))));
    assert_eq!((told.words(), told.fold.flush(told.now)), (vec!["alice stopped".to_owned()], None));
    let mut told = early();
    told.take(News::Set(Seen::Deleted("alice".to_owned())));
    told.now += EARLY;
    assert_eq!(told.words(), ["alice stopping alice-pod"]);
    assert_eq!(told.fold.flush(told.now), None);
    let mut told = early();
    told.take(News::Pod(Seen::Deleted("alice-0".to_owned())));
    assert_eq!(told.words(), Vec::<String>::new());
}

#[test]
fn only_the_pod_of_the_workspaces_own_object_is_routed_to() {
    let mut told = Told::synced();
    told.take(News::Set(Seen::Put(plain("alice", 1, 1))));
    told.take(News::Pod(Seen::Put(pod_of("alice", "another-set", "10.0.0.9"))));
    assert_eq!(told.words(), ["alice Asked none"]);
    let mut named = pod("alice", "10.0.0.9");
    named.metadata.name = Some("alice-1".to_owned());
    told.take(News::Pod(Seen::Put(named)));
    assert_eq!(told.words(), Vec::<String>::new());
    told.take(News::Pod(Seen::Put(pod("alice", "10.0.0.1"))));
    assert_eq!(told.words(), ["alice Started alice-pod at 10.0.0.1:80"]);
}

#[test]
fn what_another_installation_made_is_let_alone() {
    let mut told = Told::synced();
    told.fold.kubernetes.records_namespace = Some("usher".to_owned());
    let made_by =
        |name: &str, records: &str| News::Set(Seen::Put(set(name, 5, 0, json!({ names::RECORDS: records }))));
    told.take(made_by("alice", "staging")).take(made_by("bob", "usher"));
    told.take(News::Set(Seen::Put(plain("carol", 6, 0))));
    assert_eq!(told.words(), ["bob stopped", "carol stopped"]);
    // It was made in place of bob's while nothing was heard.
    told.take(made_by("bob", "staging"));
    assert_eq!(told.words(), ["bob gone"]);

    let claim = "home-warm---t-a-0";
    for (records, id) in [("staging", None), ("usher", Some("bob"))] {
        let labels = json!({ names::WARM: "warm---t-a", names::WORKSPACE: "bob" });
        let annotations = json!({ names::RECORDS: records });
        let metadata = json!({ "name": claim, "uid": "c", "labels": labels, "annotations": annotations });
        told.take(News::Claim(Seen::Put(serde_json::from_value(json!({ "metadata": metadata })).unwrap())));
        let known = told.fold.warm.claim_deleted(claim);
        assert_eq!(known, id.map(crate::testing::id), "a claim that {records} made");
    }
}

#[test]
fn an_address_where_no_pod_may_be_is_never_told() {
    let mut told = Told::synced();
    told.take(News::Set(Seen::Put(plain("alice", 1, 1))));
    for address in ["169.254.169.254", "127.0.0.1", "8.8.8.8"] {
        told.take(News::Pod(Seen::Put(pod("alice", "10.0.0.1"))));
        told.words();
        told.take(News::Pod(Seen::Put(pod("alice", address))));
        assert_eq!(told.words(), ["alice Started alice-pod address_refused"], "{address}");
    }
}

#[test]
fn what_was_written_down_is_told_of_a_workspace_that_does_not_run() {
    let mut told = Told::synced();
    let failed = notes::failure(&crate::testing::cause(CauseCode::CrashLoop));
    for (version, annotations, expected) in [
        (1, json!({ names::FAILED: failed }), "alice failed crash_loop"),
        (2, json!({ names::FAILED: failed, names::WANTED: notes::want(7, "r") }), "alice wanted 7"),
        (3, json!({}), "alice stopped"),
    ] {
        told.take(News::Set(Seen::Put(set("alice", version, 0, annotations))));
        assert_eq!(told.words(), [expected]);
    }
}

#[test]
fn a_mark_is_told_when_all_before_it_are() {
    let mut told = Told::synced();
    told.take(News::Set(Seen::Put(plain("alice", 1, 1)))).take(News::Set(Seen::Put(plain("bob", 2, 1))));
    told.words();
    // The answer to this Usher's own write is ahead of the watch, which may have another's mark to tell.
    told.fold.answer(marked("alice", 9), told.now);
    assert_eq!(told.words(), Vec::<String>::new());
    told.take(News::Set(Seen::Put(marked("bob", 8)))).take(News::Set(Seen::Put(marked("alice", 9))));
    assert_eq!(told.words(), ["bob Asked none marked idle 8", "alice Asked none marked idle 9"]);
    // Another write while it stands: for all who see it the mark is a newer one.
    told.take(News::Set(Seen::Put(marked("bob", 12))));
    assert_eq!(told.words(), ["bob Asked none marked idle 12"]);
    told.take(News::Set(Seen::Put(plain("bob", 13, 1))));
    assert_eq!(told.words(), ["bob Asked none"]);
}

#[test]
fn a_list_tells_marks_when_it_is_whole_and_in_their_order() {
    let mut told = Told::synced();
    told.take(News::Set(Seen::Listed(marked("alice", 9))));
    assert_eq!(told.words(), ["alice Asked none"]);
    told.take(News::Set(Seen::Listed(marked("bob", 4)))).take(News::Set(Seen::Synced));
    assert_eq!(told.words(), ["bob Asked none marked idle 4", "alice Asked none marked idle 9"]);
    // Whoever begins to observe now is told in that order, too.
    told.events = told.fold.observe(CancellationToken::new());
    let all = ["bob Asked none marked idle 4", "alice Asked none marked idle 9", "synced"];
    assert_eq!(told.words(), all);
}

#[test]
fn an_observer_that_is_behind_is_told_the_last_of_each_in_the_order_in_which_it_came() {
    let mut told = Told::synced();
    told.take(News::Set(Seen::Put(plain("alice", 1, 1))));
    told.fold.flush(told.now);
    told.take(News::Set(Seen::Put(marked("bob", 2))));
    told.fold.flush(told.now);
    told.take(News::Set(Seen::Put(marked("alice", 3))));
    assert_eq!(told.words(), ["bob Asked none marked idle 2", "alice Asked none marked idle 3"]);
}

#[test]
fn blindness_is_told_and_so_is_sight() {
    let mut told = Told::synced();
    told.take(News::Set(Seen::Put(plain("alice", 1, 1))))
        .take(News::Pod(Seen::Put(pod("alice", "10.0.0.1"))));
    told.words();
    told.take(News::Pod(Seen::Blind));
    assert_eq!(told.words(), ["sighted false"]);
    told.take(News::Set(Seen::Blind));
    assert_eq!(told.words(), Vec::<String>::new());
    told.take(News::Set(Seen::Synced));
    assert_eq!(told.words(), Vec::<String>::new(), "the other is blind still");
    told.take(News::Pod(Seen::Synced));
    assert_eq!(told.words(), ["sighted true"]);
    // Those that only tell causes blind nobody.
    told.take(News::Claim(Seen::Blind)).take(News::Event(Seen::Blind));
    assert_eq!(told.words(), Vec::<String>::new());
}

#[test]
fn what_is_never_told_is_out_of_sight_and_nobody_waits_for_it() {
    let mut told = Told::new();
    told.take(News::Set(Seen::Listed(plain("alice", 1, 0)))).take(News::Set(Seen::Synced));
    assert_eq!(told.words(), Vec::<String>::new());
    told.fold.wait_no_longer();
    assert_eq!(told.words(), ["alice stopped", "sighted false", "synced"]);
    told.take(News::Pod(Seen::Synced));
    assert_eq!(told.words(), ["sighted true"]);
}

#[test]
fn of_a_deleted_workspace_its_pod_is_left_until_it_has_ended() {
    let mut told = Told::synced();
    told.take(News::Set(Seen::Put(plain("alice", 1, 1))))
        .take(News::Pod(Seen::Put(pod("alice", "10.0.0.1"))));
    told.words();
    told.fold.removed(&crate::testing::id("alice"), "alice-set");
    assert_eq!(told.words(), ["alice stopping alice-pod"]);
    // The watch comes to what was before.
    told.take(News::Set(Seen::Put(plain("alice", 2, 1))));
    assert_eq!(told.words(), Vec::<String>::new());
    told.take(News::Set(Seen::Deleted("alice".to_owned())))
        .take(News::Pod(Seen::Deleted("alice-0".to_owned())));
    assert_eq!(told.words(), ["alice gone"]);
    assert!(told.fold.workspaces.is_empty(), "{:?}", told.fold.workspaces);
}

#[test]
fn what_was_looked_at_and_found_as_it_is_known_is_believed_to_the_watch_as_before() {
    for (then, expected) in [
        (News::Set(Seen::Deleted("alice".to_owned())), "alice gone"),
        // The cluster was restored.
        (News::Set(Seen::Listed(plain("alice", 3, 0))), "alice stopped"),
    ] {
        let mut told = Told::synced();
        told.take(News::Set(Seen::Put(plain("alice", 5, 1))));
        told.fold.answer(plain("alice", 5, 1), told.now);
        told.words();
        told.take(then);
        assert_eq!(told.words(), [expected]);
    }
}

#[test]
fn a_reason_that_often_passes_is_told_when_it_has_stood_and_at_its_time() {
    let mut told = Told::synced();
    told.take(News::Set(Seen::Put(plain("alice", 1, 1))));
    let refused = "create Pod alice-0 in StatefulSet alice failed error: pods \"alice-0\" is forbidden: error looking up \
                   service account w/ghost: serviceaccount \"ghost\" not found";
    told.take(News::Event(Seen::Put(event("alice", "StatefulSet", "alice-set", "FailedCreate", refused))));
    assert_eq!(told.words(), ["alice Asked none"]);
    let due = told.fold.flush(told.now).expect("it is to be read again");
    assert_eq!(due, told.now + SETTLES);
    told.now = due;
    assert_eq!(told.words(), ["alice Asked none service_account_missing"]);
}

#[test]
fn events_are_kept_of_what_is_known_and_few_of_each() {
    let mut told = Told::synced();
    told.take(News::Event(Seen::Put(event("bob", "StatefulSet", "bob-set", "FailedCreate", "no"))));
    assert!(told.fold.workspaces.is_empty());
    told.take(News::Set(Seen::Put(plain("alice", 1, 1))));
    for nth in 0..1000 {
        let mut one = event("alice-0", "Pod", "alice-pod", &format!("Reason{}", nth % 100), "said");
        one.metadata.name = Some(format!("alice-0.{nth}"));
        told.take(News::Event(Seen::Put(one)));
        told.now += Duration::from_secs(1);
    }
    let kept = told.fold.workspaces.values().next().unwrap().events();
    assert_eq!(kept, 32);
}
