use super::*;
use crate::kubernetes::testing::{Asked, Reply, Server};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

/// Secrets as an API server keeps them, which loses answers.
#[derive(Default)]
struct Kept {
    objects: BTreeMap<String, Value>,
    version: u64,
    /// What becomes of the next requests.
    faults: VecDeque<Fault>,
}

#[derive(Clone)]
enum Fault {
    /// Done, and answered with this.
    Done(Reply),
    /// Not done, and answered with this.
    Not(Reply),
}

impl Kept {
    fn answer(&mut self, asked: &Asked) -> Reply {
        match self.faults.pop_front() {
            Some(Fault::Not(reply)) => reply,
            Some(Fault::Done(reply)) => {
                self.carry_out(asked);
                reply
            }
            None => self.carry_out(asked),
        }
    }

    fn carry_out(&mut self, asked: &Asked) -> Reply {
        let (method, rest) = asked.line.split_once(' ').unwrap();
        let path = rest.split('?').next().unwrap();
        let mut sent = asked.json();
        if method == "POST" {
            let name = sent["metadata"]["name"].as_str().unwrap().to_owned();
            if self.objects.contains_key(&name) {
                return Reply::refusal(409, "AlreadyExists");
            }
            return self.put(&name, sent);
        }
        let name = path.rsplit('/').next().unwrap();
        let Some(standing) = self.objects.get(name) else { return Reply::refusal(404, "NotFound") };
        match method {
            "DELETE" => {
                self.objects.remove(name);
                Reply::json(200, &json!({"kind": "Status", "status": "Success"}))
            }
            "PATCH" if standing["metadata"]["resourceVersion"] != sent["metadata"]["resourceVersion"] => {
                Reply::refusal(409, "Conflict")
            }
            "PATCH" => {
                let mut changed = standing.clone();
                changed["data"] = sent["data"].take();
                changed["metadata"]["annotations"]["usher.dev/write"] =
                    sent["metadata"]["annotations"]["usher.dev/write"].take();
                let name = name.to_owned();
                self.put(&name, changed)
            }
            _ => Reply::json(200, standing),
        }
    }

    fn put(&mut self, name: &str, mut object: Value) -> Reply {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(name.to_owned(), object.clone());
        Reply::json(201, &object)
    }
}

fn store() -> (SecretRecords, Arc<Mutex<Kept>>, Server) {
    let kept = Arc::new(Mutex::new(Kept::default()));
    let answering = kept.clone();
    let server = Server::new(move |asked| answering.lock().unwrap().answer(asked));
    (SecretRecords::new(&server.in_memory(), "u"), kept, server)
}

fn lost() -> [Reply; 3] {
    [Reply::refusal(504, "Timeout"), Reply::silence(), Reply::stream().say(b"{\"metadata\"").cut()]
}

#[tokio::test(start_paused = true)]
async fn a_creation_whose_answer_was_lost_is_known_for_its_own() {
    for answer in lost() {
        let (records, kept, _server) = store();
        kept.lock().unwrap().faults.push_back(Fault::Done(answer));
        assert_eq!(records.create(Kind::Ticket, "a", b"v".to_vec()).await.unwrap(), Version(1));
    }
}

#[tokio::test(start_paused = true)]
async fn who_writes_the_same_is_not_taken_for_oneself() {
    for answer in lost() {
        let (records, kept, _server) = store();
        records.create(Kind::Ticket, "a", b"v".to_vec()).await.unwrap();
        kept.lock().unwrap().faults.push_back(Fault::Not(answer));
        let again = records.create(Kind::Ticket, "a", b"v".to_vec()).await;
        assert!(matches!(&again, Err(RecordError::Exists(name)) if name == "a"), "{again:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replacement_whose_answer_was_lost_is_known_for_its_own_and_another_is_not() {
    for answer in lost() {
        let (records, kept, _server) = store();
        let first = records.create(Kind::Use, "a", b"1".to_vec()).await.unwrap();
        kept.lock().unwrap().faults.push_back(Fault::Done(answer.clone()));
        let second = records.replace(Kind::Use, "a", first, b"2".to_vec()).await.unwrap();
        assert_eq!(second, Version(2));
        kept.lock().unwrap().faults.push_back(Fault::Not(answer));
        let stale = records.replace(Kind::Use, "a", first, b"2".to_vec()).await;
        assert!(matches!(stale, Err(RecordError::Conflict(_))), "{stale:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_moment_of_overload_is_waited_out() {
    let (records, kept, _server) = store();
    let faults = [Reply::refusal(429, "TooManyRequests"), Reply::refusal(503, "ServiceUnavailable")];
    kept.lock().unwrap().faults.extend(faults.map(Fault::Not));
    records.create(Kind::User, "a", Vec::new()).await.unwrap();
    kept.lock().unwrap().faults.push_back(Fault::Not(Reply::silence()));
    assert!(records.delete(Kind::User, "a").await.unwrap(), "it may have been this that deleted it");
    assert_eq!(records.get(Kind::User, "a").await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_told_in_time_with_what_to_do_and_without_the_value() {
    let (records, kept, _server) = store();
    kept.lock().unwrap().faults.extend((0..20).map(|_| Fault::Not(Reply::silence())));
    let begun = Instant::now();
    let error = records.create(Kind::Key, "ring", b"s3cret".to_vec()).await.unwrap_err();
    assert!(begun.elapsed() < PATIENCE + Duration::from_millis(2500), "{:?}", begun.elapsed());
    let error = error.to_string();
    assert!(error.contains("http://memory") && error.contains("frozen"), "{error}");
    assert!(!error.contains("s3cret") && !error.contains("czNjcmV0"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_right_that_lacks_is_told_at_once() {
    let (records, kept, server) = store();
    kept.lock().unwrap().faults.push_back(Fault::Not(Reply::refusal(403, "Forbidden")));
    let error = records.get(Kind::User, "a").await.unwrap_err().to_string();
    assert!(error.contains("Role"), "{error}");
    assert_eq!(server.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_can_never_be_written_is_not_sent() {
    let (records, _kept, server) = store();
    let large = records.create(Kind::Use, "a", vec![0; VALUE + 1]).await.unwrap_err().to_string();
    assert!(large.contains("786433 bytes"), "{large}");
    let long = records.create(Kind::Use, &"a".repeat(NAME + 1), Vec::new()).await.unwrap_err().to_string();
    assert!(long.contains("1025 bytes"), "{long}");
    // To an API server the version 0 is any.
    let zero = records.replace(Kind::Use, "a", Version(0), Vec::new()).await;
    assert!(matches!(zero, Err(RecordError::Conflict(_))), "{zero:?}");
    assert_eq!(server.asked(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_stranger_in_a_records_place_is_not_read() {
    let (records, kept, _server) = store();
    let stranger = json!({"metadata": {"name": "key-ring", "resourceVersion": "1"}, "type": "Opaque", "data": {"value": "eA=="}});
    kept.lock().unwrap().objects.insert("key-ring".to_owned(), stranger);
    let error = records.get(Kind::Key, "ring").await.unwrap_err().to_string();
    assert!(error.contains("key-ring") && error.contains("type"), "{error}");
}

fn event(kind: &str, name: &str, version: u64, record: Option<&str>) -> Value {
    let annotations = record.map_or(json!({}), |record| json!({"usher.dev/name": record}));
    let metadata = json!({"name": name, "resourceVersion": version.to_string(), "annotations": annotations});
    json!({"type": kind, "object": {"metadata": metadata, "type": "usher.dev/session", "data": {"value": "dg=="}}})
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_the_records_names_whatever_the_objects_are_called() {
    let odd = object::name_of(Kind::Session, "A_b");
    let end = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"resourceVersion": "3", "annotations": {"k8s.io/initial-events-end": "true"}}});
    let stream = Reply::stream()
        .line(&event("ADDED", &odd, 1, Some("A_b")))
        .line(&event("ADDED", "session-plain", 2, None))
        .line(&event("ADDED", "somebody-elses", 3, None))
        .line(&json!({"type": "BOOKMARK", "object": end}))
        .line(&event("DELETED", &odd, 4, Some("A_b")))
        .line(&event("DELETED", "somebody-elses", 5, None))
        .line(&event("DELETED", "session-plain", 6, None));
    let server = Server::script([stream.hang()]);
    let records = SecretRecords::new(&server.in_memory(), "u");
    let changes: Vec<_> = records.watch(Kind::Session).take(4).collect().await;
    let put = |name: &str, version| {
        Change::Put(Record { name: name.to_owned(), version: Version(version), value: b"v".to_vec() })
    };
    let deleted = |name: &str| Change::Deleted(name.to_owned());
    assert_eq!(changes, [put("A_b", 1), put("plain", 2), deleted("A_b"), deleted("plain")]);
    assert!(server.asked()[0].contains("fieldSelector=type%3Dusher.dev%2Fsession"), "{:?}", server.asked());
}
