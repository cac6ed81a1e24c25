//! What is done in a cluster of which the driver knows the truth of a while ago, or nothing.

mod others;

use super::*;
use crate::kubernetes::fold::News;
use crate::kubernetes::pods;
use crate::kubernetes::testing::{
    Asked, Reply, Server, config_of, merge, space, start_spec, start_spec_with_files,
};
use crate::kubernetes::watch::Seen;
use config::Kubernetes;
use std::sync::{Arc, Mutex};

/// How alice's workspace is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Is {
    Absent,
    Stopped,
    Wanted,
    Running,
}

const ALL: [Is; 4] = [Is::Absent, Is::Stopped, Is::Wanted, Is::Running];

/// An API server with one StatefulSet at most, and claims.
#[derive(Clone, Default)]
struct Api(Arc<Mutex<Stands>>);

#[derive(Default)]
struct Stands {
    object: Option<Value>,
    version: u64,
    claims: Vec<Value>,
}

impl Api {
    /// It stands so from now on, and anew if it was not there.
    fn put(&self, is: Is, uid: &str) {
        let mut stands = self.0.lock().unwrap();
        stands.version += 1;
        let made = pods::stateful_set(&start_spec("i"), "w", u8::from(is == Is::Running)).unwrap();
        let mut object = serde_json::to_value(made).unwrap();
        let wanted = (is == Is::Wanted).then(|| notes::want(5, "another"));
        let version = stands.version.to_string();
        merge(
            &mut object,
            json!({ "metadata": {
                "uid": uid, "resourceVersion": version, "annotations": { names::WANTED: wanted },
            } }),
        );
        stands.object = (is != Is::Absent).then_some(object);
    }

    fn object(&self) -> Option<StatefulSet> {
        let object = self.0.lock().unwrap().object.clone()?;
        Some(serde_json::from_value(object).unwrap())
    }

    fn is(&self) -> Is {
        let Some(object) = self.object() else { return Is::Absent };
        let wanted = notes::Notes::of(&object).unwrap().wanted.is_some()
            || object.metadata.annotations.unwrap().contains_key(names::WANTED);
        match object.spec.unwrap().replicas {
            Some(0) if wanted => Is::Wanted,
            Some(0) => Is::Stopped,
            _ => Is::Running,
        }
    }

    fn answer(&self, asked: &Asked) -> Reply {
        let mut stands = self.0.lock().unwrap();
        let (verb, path) = asked.line.split_once(' ').unwrap();
        if path.contains("persistentvolumeclaims") {
            return stands.answer_of_claims(verb, path);
        }
        let Stands { object, version, .. } = &mut *stands;
        let (Some(stands), verb) = (object.as_mut(), verb) else {
            if verb != "POST" {
                return Reply::refusal(404, "NotFound");
            }
            *version += 1;
            let mut made = asked.json();
            merge(
                &mut made,
                json!({ "metadata": { "uid": format!("u{version}"), "resourceVersion": version.to_string() } }),
            );
            *object = Some(made.clone());
            return Reply::json(201, &made);
        };
        let said = asked.json();
        let checked = if verb == "DELETE" { &said["preconditions"] } else { &said["metadata"] };
        let differs = |key: &str| checked.get(key).is_some_and(|value| *value != stands["metadata"][key]);
        if verb == "POST" || differs("resourceVersion") || differs("uid") {
            return Reply::refusal(409, "Conflict");
        }
        if verb == "DELETE" {
            *object = None;
            return Reply::json(200, &json!({}));
        }
        let before = stands.clone();
        merge(stands, said);
        if *stands != before {
            *version += 1;
            stands["metadata"]["resourceVersion"] = json!(version.to_string());
        }
        Reply::json(200, stands)
    }
}

impl Stands {
    fn answer_of_claims(&mut self, verb: &str, path: &str) -> Reply {
        let name = |claim: &Value| claim["metadata"]["name"].as_str().unwrap().to_owned();
        if verb == "DELETE" {
            self.claims.retain(|claim| !path.contains(&format!("/{}?", name(claim))));
            return Reply::json(200, &json!({}));
        }
        let named = |claim: &&Value| path.contains(&format!("fieldSelector=metadata.name%3D{}", name(claim)));
        let labelled = |claim: &&Value| {
            path.contains("labelSelector") && claim["metadata"]["labels"][names::WORKSPACE] == "alice"
        };
        let items: Vec<_> = self.claims.iter().filter(|claim| named(claim) || labelled(claim)).collect();
        Reply::json(200, &json!({ "metadata": {}, "items": items }))
    }
}

/// The claim of alice's workspace, as Usher made it for somebody of this subject, or as another made it.
fn claim(subject: Option<&str>) -> Value {
    let owner = subject.map(|subject| format!(r#"{{"iss":"https://id.example.org","sub":"{subject}"}}"#));
    let labels = subject.map(|_| json!({ names::WORKSPACE: "alice", names::MANAGED_BY: names::USHER }));
    let mut claim = json!({ "metadata": { "name": "home-alice-0", "uid": "c" } });
    merge(&mut claim, json!({ "metadata": { "labels": labels, "annotations": { names::OWNER: owner } } }));
    claim
}

/// A driver that was told what the server has now, and is told nothing any more.
fn knowing(api: &Api) -> (Space, Server) {
    let answers = api.clone();
    let server = Server::new(move |asked| answers.answer(asked));
    let config::Driver::Kubernetes(kubernetes) = config_of("i").driver else { panic!("another driver") };
    let kubernetes = Kubernetes { records_namespace: Some("usher".to_owned()), ..kubernetes };
    let driver = space(server.in_memory(), kubernetes);
    let now = clock::now();
    if let Some(set) = api.object() {
        driver.inner.fold().take(News::Set(Seen::Put(set)), now);
    }
    driver.inner.fold().take(News::Set(Seen::Synced), now);
    driver.inner.fold().take(News::Pod(Seen::Synced), now);
    (driver, server)
}

fn actions() -> [(Action, &'static [Is]); 5] {
    let spec = start_spec("i");
    let id = spec.id.clone();
    [
        (Action::Want(spec.clone()), &[Is::Wanted, Is::Running]),
        (Action::Start(spec), &[Is::Running]),
        (Action::Stop { id: id.clone(), generation: None, why: Stop::Asked }, &[Is::Stopped, Is::Absent]),
        (Action::Delete { id: id.clone(), volume: false, owner: None }, &[Is::Absent]),
        (Action::Delete { id, volume: true, owner: None }, &[Is::Absent]),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_is_said_to_be_done_is_done_at_the_server_whatever_was_known() {
    for known in ALL {
        for stands in ALL {
            for same in [true, false] {
                for (action, goal) in actions() {
                    let api = Api::default();
                    api.put(known, "u");
                    let (driver, _) = knowing(&api);
                    if stands != known || !same {
                        api.put(stands, if same { "u" } else { "another" });
                    }
                    let done = driver.act(action.clone()).await;
                    let case = format!("{action:?}: {known:?} was known, {stands:?} stood there: {done:?}");
                    match done {
                        Ok(()) => assert!(goal.contains(&api.is()), "{case}: now it is {:?}", api.is()),
                        Err(_) => assert_eq!(api.is(), stands, "{case}"),
                    }
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_done_already_costs_one_question_and_no_write() {
    for (is, number) in
        [(Is::Running, 1), (Is::Running, 0), (Is::Stopped, 2), (Is::Absent, 2), (Is::Absent, 3)]
    {
        let api = Api::default();
        api.put(is, "u");
        let (driver, server) = knowing(&api);
        let action = actions()[number].0.clone();
        driver.act(action.clone()).await.unwrap();
        assert_eq!(api.0.lock().unwrap().version, 1, "{action:?}: nothing is written");
        assert_eq!(server.asked().len(), 1, "{action:?}: {:?}", server.asked());
    }
}

#[tokio::test(start_paused = true)]
async fn who_did_not_write_a_want_lets_the_other_begin_with_it() {
    let api = Api::default();
    api.put(Is::Wanted, "u");
    let (driver, server) = knowing(&api);
    let others = async {
        tokio::time::sleep(AHEAD / 2).await;
        assert_eq!(server.asked().len(), 0, "it is in the way of the other");
        api.put(Is::Running, "u");
        let set = api.object().unwrap();
        driver.inner.fold().take(News::Set(Seen::Put(set)), clock::now());
        driver.told();
    };
    let (done, ()) = tokio::join!(driver.act(actions()[1].0.clone()), others);
    done.unwrap();
    assert_eq!((api.0.lock().unwrap().version, server.asked().len()), (2, 1), "{:?}", server.asked());
}

#[tokio::test(start_paused = true)]
async fn what_was_wanted_by_an_usher_that_is_gone_is_begun_by_another() {
    let api = Api::default();
    api.put(Is::Wanted, "u");
    let (driver, _) = knowing(&api);
    let begun = clock::now();
    driver.act(actions()[1].0.clone()).await.unwrap();
    assert_eq!(api.is(), Is::Running);
    assert!((AHEAD..AHEAD * 2).contains(&(clock::now() - begun)));
}

#[tokio::test(start_paused = true)]
async fn a_set_of_the_name_that_usher_did_not_make_is_left_alone() {
    let api = Api::default();
    let (driver, _) = knowing(&api);
    let other = json!({
        "metadata": { "name": "alice", "namespace": "w", "uid": "x", "resourceVersion": "7" },
        "spec": { "replicas": 1, "selector": {}, "template": {} },
    });
    api.0.lock().unwrap().object = Some(other.clone());
    for number in [2, 3] {
        driver.act(actions()[number].0.clone()).await.unwrap();
    }
    assert_eq!(api.0.lock().unwrap().object, Some(other));
}

#[tokio::test(start_paused = true)]
async fn files_of_another_owner_or_of_nobody_known_are_never_taken_for_a_new_workspace() {
    let command = "`usher delete alice --with-volume`";
    for (kept, refused) in [
        (None, None),
        (Some(Some("7")), None),
        (Some(Some("8")), Some(command)),
        (Some(None), Some("remove it")),
    ] {
        let api = Api::default();
        api.0.lock().unwrap().claims = kept.map(claim).into_iter().collect();
        let (driver, server) = knowing(&api);
        let done = driver.act(Action::Want(start_spec_with_files())).await;
        let asked = server.asked();
        let Some(hint) = refused else {
            done.unwrap();
            assert_eq!((api.is(), asked.len()), (Is::Wanted, 3), "{asked:?}");
            continue;
        };
        let cause = done.unwrap_err();
        assert_eq!(cause.code, CauseCode::NotTheOwner);
        assert!(cause.hint.contains(hint), "{}", cause.hint);
        assert!(asked.iter().all(|line| line.starts_with("GET ")), "nothing is written: {asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_workspace_is_not_made_while_nobody_can_say_whose_its_files_are() {
    let message = "persistentvolumeclaims is forbidden: User \"usher\" cannot list resource";
    let refusal = Reply::json(403, &json!({ "code": 403, "reason": "Forbidden", "message": message }));
    for (reply, code) in
        [(refusal, CauseCode::NotPermitted), (Reply::silence(), CauseCode::ClusterUnreachable)]
    {
        let api = Api::default();
        let (driver, _) = knowing(&api);
        let server = Server::new(move |_| reply.clone());
        let mut inner = Arc::into_inner(driver.inner).unwrap();
        inner.client = server.in_memory();
        let begun = clock::now();
        let done = Space { inner: Arc::new(inner) }.act(Action::Want(start_spec_with_files())).await;
        assert_eq!(done.unwrap_err().code, code);
        assert!(clock::now() - begun <= PATIENCE, "whoever waits is told within a second");
        let asked = server.asked();
        assert!(asked.iter().all(|line| line.starts_with("GET ")), "nothing is written: {asked:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_workspace_that_stands_or_keeps_no_files_starts_without_a_look_at_claims() {
    for (known, spec) in [(Is::Absent, start_spec("i")), (Is::Stopped, start_spec_with_files())] {
        let api = Api::default();
        api.put(known, "u");
        let (driver, server) = knowing(&api);
        driver.act(Action::Want(spec)).await.unwrap();
        assert!(server.asked().iter().all(|line| !line.contains("claims")), "{:?}", server.asked());
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_who_deletes_with_all_files_deletes_none_of_somebody_else() {
    use Is::{Absent, Stopped};
    // What stands there is of subject 7, if anything; whose the claim is, who deletes, and what is left of both.
    let table = [
        (Absent, "7", Some("7"), None),
        (Absent, "8", None, None),
        (Absent, "8", Some("7"), Some(Absent)),
        (Stopped, "7", Some("7"), None),
        (Stopped, "8", None, None),
        (Stopped, "8", Some("7"), Some(Stopped)),
        (Stopped, "7", Some("8"), Some(Stopped)),
        (Stopped, "8", Some("8"), Some(Stopped)),
    ];
    for (stands, files_of, asks, left) in table {
        let api = Api::default();
        api.put(stands, "u");
        api.0.lock().unwrap().claims = vec![claim(Some(files_of))];
        let (driver, _) = knowing(&api);
        let spec = start_spec("i");
        let owner = asks.map(|asks| Identity { subject: asks.to_owned(), ..spec.owner });
        let done = driver.act(Action::Delete { id: spec.id, volume: true, owner }).await;
        let case = format!("{stands:?}, files of {files_of}, {asks:?} deletes: {done:?}");
        assert_eq!(done.err().map(|cause| cause.code), left.map(|_| CauseCode::NotTheOwner), "{case}");
        assert_eq!(api.is(), left.unwrap_or(Absent), "{case}");
        assert_eq!(api.0.lock().unwrap().claims.len(), usize::from(left.is_some()), "{case}");
    }
}
