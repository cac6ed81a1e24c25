//! What a claim takes next, by what is known of the workspace's own set and of the warm ones.

use super::*;
use crate::kubernetes::fold::News;
use crate::kubernetes::names;
use crate::kubernetes::watch::Seen;
use crate::{Grant, Identity};
use config::Config;

const HASH: &str = "h";

pub(in crate::kubernetes::warm) fn warm(n: usize) -> String {
    format!("warm---t-{n}")
}

/// Alice's start, and a fold that knows nothing yet.
pub(in crate::kubernetes::warm) fn alice() -> (StartSpec, Fold) {
    let text = "domain = 'lab.example.org'\ndriver = 'kubernetes'\nlisteners = [{ address = '127.0.0.1:8080' }]\n\
                access = { allow = 'true', template = \"'t'\" }\nkubernetes = { namespace = 'w' }\n\
                [templates.t]\nimage = 'i'\nport = 80\nvolume = 'none'\nresources = { memory = '1Gi', cpu = 1 }\n";
    let config = Config::parse("f", text, &|_| None).unwrap_or_else(|error| panic!("{error}"));
    let config::Driver::Kubernetes(kubernetes) = config.driver else { panic!("another driver") };
    let spec = StartSpec {
        id: WorkspaceId::parse("alice").unwrap(),
        owner: Identity { issuer: "i".to_owned(), subject: "s".to_owned() },
        template: config.templates.into_values().next().unwrap(),
        host: "alice.lab.example.org".to_owned(),
        grant: Grant::default(),
    };
    (spec, Fold::new(kubernetes))
}

/// Takes in alice's own set: at so many replicas, perhaps of another owner, perhaps naming a warm one.
fn own(fold: &mut Fold, replicas: u8, subject: &str, claims: Option<String>) {
    let claims = claims.map(|name| (names::CLAIMS, name));
    own_with(fold, replicas, subject, claims.into_iter().collect());
}

/// As [`own`], with these annotations.
pub(in crate::kubernetes::warm) fn own_with(
    fold: &mut Fold,
    replicas: u8,
    subject: &str,
    more: Vec<(&str, String)>,
) {
    let owner = json!({ "iss": "i", "sub": subject }).to_string();
    let mut annotations = json!({ names::OWNER: owner });
    for (key, text) in more {
        annotations[key] = json!(text);
    }
    let set = serde_json::from_value(json!({
        "metadata": {
            "name": "alice", "namespace": "w", "uid": "own", "resourceVersion": "40",
            "labels": { names::WORKSPACE: "alice", names::TEMPLATE: "t" },
            "annotations": annotations,
        },
        "spec": { "replicas": replicas, "selector": {}, "template": {} },
    }));
    fold.take(News::Set(Seen::Put(set.unwrap())), Instant::now());
}

/// A warm set at so many replicas, perhaps this one's.
pub(in crate::kubernetes::warm) fn warm_set(n: usize, replicas: u8, claimed_by: Option<String>) -> Value {
    let name = warm(n);
    let mut annotations = json!({ names::TEMPLATE_HASH: HASH });
    if let Some(claimed_by) = claimed_by {
        annotations[names::CLAIMED_BY] = json!(claimed_by);
        annotations[names::OWNER] = json!(json!({ "iss": "i", "sub": "s" }).to_string());
    }
    json!({
        "metadata": {
            "name": name, "uid": format!("{name}-uid"), "resourceVersion": "5",
            "labels": { names::WARM: name, names::TEMPLATE: "t" },
            "annotations": annotations,
        },
        "spec": { "replicas": replicas, "selector": {}, "template": {} },
    })
}

/// Takes in a warm set that can take a user, or that says it is this one's.
fn ready(fold: &mut Fold, n: usize, claimed_by: Option<String>) {
    let set = warm_set(n, 1, claimed_by);
    let name = warm(n);
    let controller = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "name": name, "uid": format!("{name}-uid"), "controller": true,
    });
    let status = json!({
        "name": names::CONTAINER, "image": "", "imageID": "", "ready": true, "restartCount": 0,
        "state": { "running": {} },
    });
    let pod = json!({
        "metadata": {
            "name": pod_name(&name), "uid": format!("{name}-pod"), "labels": { names::WARM: name },
            "ownerReferences": [controller],
        },
        "status": {
            "podIP": "10.0.0.1", "conditions": [{ "type": "Ready", "status": "True" }],
            "containerStatuses": [status],
        },
    });
    fold.take(News::Pod(Seen::Put(serde_json::from_value(pod).unwrap())), Instant::now());
    fold.take(News::Set(Seen::Put(serde_json::from_value(set).unwrap())), Instant::now());
}

pub(in crate::kubernetes::warm) fn handle(n: usize) -> Handle {
    Handle { name: warm(n), uid: format!("{}-uid", warm(n)), version: 5 }
}

fn lost(names: &[usize]) -> BTreeSet<String> {
    names.iter().map(|n| warm(*n)).collect()
}

pub(in crate::kubernetes::warm) fn by_alice(uid: &str) -> Option<String> {
    Some(claimed_by(&WorkspaceId::parse("alice").unwrap(), uid))
}

fn after(look: impl Fn(&mut Fold), lost: &BTreeSet<String>) -> Next {
    let (spec, mut fold) = alice();
    look(&mut fold);
    next(&fold, &spec, HASH, lost, Instant::now())
}

#[test]
fn without_a_free_one_it_starts_as_usual_and_it_is_known_why() {
    let none = lost(&[]);
    assert_eq!(after(|_| {}, &none), Next::Ordinary(Some(Took::NoneReady)));
    assert_eq!(after(|_| {}, &lost(&[1])), Next::Ordinary(Some(Took::Lost)));
    let all_lost = |fold: &mut Fold| ready(fold, 1, None);
    assert_eq!(after(all_lost, &lost(&[1])), Next::Ordinary(Some(Took::Lost)));
}

#[test]
fn its_own_set_names_a_free_one_first_whether_it_is_there_or_not() {
    let none = lost(&[]);
    assert_eq!(after(|fold| ready(fold, 1, None), &none), Next::Name(handle(1), None));
    let stopped = |fold: &mut Fold| {
        own(fold, 0, "s", None);
        ready(fold, 1, None);
    };
    assert_eq!(after(stopped, &none), Next::Name(handle(1), Some(40)));
}

#[test]
fn what_it_names_is_taken_only_while_it_is_nobodys() {
    let none = lost(&[]);
    let named = |claimed: Option<String>| {
        move |fold: &mut Fold| {
            own(fold, 0, "s", Some(warm(1)));
            ready(fold, 1, claimed.clone());
            ready(fold, 2, None);
        }
    };
    assert_eq!(after(named(None), &none), Next::Take(handle(1), "own".to_owned()));
    assert_eq!(after(named(by_alice("own")), &none), Next::Done);
    // Another's, that of an earlier set of alice's, and what cannot be read: another one is named.
    let bob = claimed_by(&WorkspaceId::parse("bob").unwrap(), "bobs");
    for claimed in [Some(bob), by_alice("earlier"), Some("nonsense".to_owned())] {
        assert_eq!(after(named(claimed.clone()), &none), Next::Name(handle(2), Some(40)), "{claimed:?}");
    }
    // It was tried long enough.
    assert_eq!(after(named(None), &lost(&[1])), Next::Name(handle(2), Some(40)));
}

#[test]
fn one_that_is_not_known_yet_is_waited_for_and_then_given_up() {
    let named = |fold: &mut Fold| {
        own(fold, 0, "s", Some(warm(1)));
        ready(fold, 2, None);
    };
    assert_eq!(after(named, &lost(&[])), Next::Wait(warm(1)));
    assert_eq!(after(named, &lost(&[1])), Next::Name(handle(2), Some(40)));
}

#[test]
fn what_runs_is_somebody_elses_or_is_being_deleted_claims_nothing() {
    let none = lost(&[]);
    let runs = |fold: &mut Fold| {
        own(fold, 1, "s", None);
        ready(fold, 1, None);
    };
    assert_eq!(after(runs, &none), Next::Ordinary(None));
    let of_another = |fold: &mut Fold| {
        own(fold, 0, "another", None);
        ready(fold, 1, None);
    };
    assert_eq!(after(of_another, &none), Next::Ordinary(None));
    let named_by_another = |fold: &mut Fold| {
        own(fold, 0, "another", Some(warm(1)));
        ready(fold, 1, None);
    };
    assert_eq!(after(named_by_another, &none), Next::Ordinary(None));
}
