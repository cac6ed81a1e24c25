//! What an object that others made needs for an action to be done: a change of its scale and of Usher's own notes on it,
//! in one write. Pure.
//!
//! Every write carries the version that it was made of. What somebody else wrote meanwhile, a `kubectl scale` above
//! all, is looked at before anything is done over it.

use super::object::Object;
use crate::kubernetes::{names, notes};
use crate::{Cause, CauseCode, Generation, Mark, Stop, StopReason};
use config::ExistingObject;
use serde_json::{Value, json};

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Plan {
    /// It is as it should be, if it still is as it is known.
    Nothing,
    /// It may not, or cannot, be done.
    Refuse(Cause),
    /// The object is to be changed so.
    Patch(Value),
}

/// The run that it is in, or began to end: it is another after each time that Usher scaled it to 0.
///
/// Of two runs that were both begun and ended by hand the second has the name of the first.
pub(super) fn generation(object: &Object) -> Generation {
    let run = if object.replicas > 0 { object.stops() } else { object.stops().saturating_sub(1) };
    Generation(format!("{}.{run}", object.uid()).into())
}

/// It is to be written down that it is wanted, with this note.
pub(super) fn want(existing: &ExistingObject, object: Option<&Object>, note: &str) -> Plan {
    let object = match ours(existing, object) {
        Ok(object) => object,
        Err(cause) => return Plan::Refuse(cause),
    };
    if object.replicas > 0 || object.course.wanted.is_some() {
        return Plan::Nothing;
    }
    patch(object, &json!({ names::WANTED: note, names::FAILED: null, names::STOPPED: null }), None)
}

/// Its turn has come. Whoever was halted for long may come late: what is not wanted any more was called off, and is not
/// brought back.
pub(super) fn start(existing: &ExistingObject, object: Option<&Object>) -> Plan {
    let object = match ours(existing, object) {
        Ok(object) => object,
        Err(cause) => return Plan::Refuse(cause),
    };
    if object.replicas > 0 {
        return Plan::Nothing;
    }
    if object.course.wanted.is_none() {
        return Plan::Refuse(conflict("it was called off since it was asked for"));
    }
    let replicas = object.remembered().unwrap_or(existing.replicas);
    let course = json!({ names::WANTED: null, names::MARK: null, names::STOPPED: null, names::FAILED: null });
    patch(object, &course, Some(replicas))
}

/// The first half of a stop is to be written down, with this note.
pub(super) fn mark(existing: &ExistingObject, object: Option<&Object>, run: &Generation, note: &str) -> Plan {
    let object = match ours(existing, object) {
        Ok(object) if object.replicas > 0 && generation(object) == *run => object,
        Ok(_) => return Plan::Refuse(conflict("another run began, or it is scaled to 0")),
        Err(cause) => return Plan::Refuse(cause),
    };
    if object.course.mark.is_some() {
        return Plan::Nothing;
    }
    patch(object, &json!({ names::MARK: note }), None)
}

/// A mark is to be taken back.
pub(super) fn unmark(object: Option<&Object>, mark: Mark) -> Plan {
    let Some(object) = object.filter(|object| object.course.mark.is_some()) else { return Plan::Nothing };
    if object.version() != mark.number {
        return Plan::Refuse(conflict("it was written since; the mark may be another"));
    }
    patch(object, &json!({ names::MARK: null }), None)
}

/// It is to be scaled to 0; how many it had is kept.
pub(super) fn stop(
    existing: &ExistingObject,
    object: Option<&Object>,
    run: Option<&Generation>,
    why: &Stop,
) -> Plan {
    // Of what is not there, or not for this route to scale, nothing is left to do.
    let Ok(object) = ours(existing, object) else { return Plan::Nothing };
    let newer = object.replicas > 0 && run.is_some_and(|run| *run != generation(object));
    let mut course = json!({ names::WANTED: null, names::MARK: null });
    match why {
        Stop::Marked(mark) => {
            let stands =
                object.replicas > 0 && object.course.mark.is_some() && object.version() == mark.number;
            if newer || !stands {
                return Plan::Refuse(conflict("its mark was taken back, or it was written since"));
            }
            course[names::STOPPED] = json!(mark.reason.as_str());
        }
        _ if newer => return Plan::Nothing,
        Stop::Refused(_) if object.replicas > 0 => return Plan::Nothing,
        _ if object.replicas == 0 && object.course.wanted.is_none() => return Plan::Nothing,
        Stop::Asked => course[names::STOPPED] = json!(StopReason::Asked.as_str()),
        Stop::Failed(cause) | Stop::Refused(cause) => {
            course[names::STOPPED] = Value::Null;
            course[names::FAILED] = json!(notes::failure(cause));
        }
    }
    if object.replicas > 0 {
        course[names::REPLICAS] = json!(object.replicas.to_string());
        course[names::STOPS] = json!((object.stops() + 1).to_string());
    }
    patch(object, &course, Some(0))
}

/// A start that waits out a back-off is to be tried at once.
pub(super) fn nudge(existing: &ExistingObject, object: Option<&Object>, note: &str) -> Plan {
    match ours(existing, object) {
        Ok(object) if object.replicas > 0 => patch(object, &json!({ names::NUDGE: note }), None),
        _ => Plan::Nothing,
    }
}

/// The object, if it is there and who made it has agreed.
pub(super) fn ours<'a>(existing: &ExistingObject, object: Option<&'a Object>) -> Result<&'a Object, Cause> {
    let ExistingObject { kind, name, namespace, route, .. } = existing;
    let kind = kind.as_str();
    let missing = |hint: String| {
        let code = CauseCode::ObjectMissing;
        Cause { code, detail: code.words().detail.to_owned(), hint }
    };
    match object {
        None => Err(missing(format!(
            "there is no {kind} {name} in namespace {namespace}: make it, or correct [routes.{route}]"
        ))),
        Some(object) if object.ends() => {
            Err(missing(format!("{kind} {name} in namespace {namespace} is being deleted")))
        }
        Some(object) if !object.agrees(route) => {
            let code = CauseCode::NotOptedIn;
            let hint = format!(
                "who owns {kind} {name} has to agree: kubectl -n {namespace} annotate {} {name} {}={route}",
                kind.to_ascii_lowercase(),
                names::ROUTE
            );
            Err(Cause { code, detail: code.words().detail.to_owned(), hint })
        }
        Some(object) => Ok(object),
    }
}

fn patch(object: &Object, annotations: &Value, replicas: Option<u32>) -> Plan {
    let version = object.version().to_string();
    let mut patch = json!({
        "metadata": { "uid": object.uid(), "resourceVersion": version, "annotations": annotations },
    });
    if let Some(replicas) = replicas {
        patch["spec"] = json!({ "replicas": replicas });
    }
    Plan::Patch(patch)
}

pub(super) fn conflict(hint: &str) -> Cause {
    let code = CauseCode::Conflict;
    Cause { code, detail: code.words().detail.to_owned(), hint: hint.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::{ObjectKind, RouteName};
    use k8s_openapi::api::apps::v1::Deployment;
    use std::time::Duration;

    fn existing() -> ExistingObject {
        ExistingObject {
            route: RouteName::parse("docs").unwrap(),
            kind: ObjectKind::Deployment,
            name: "wiki".to_owned(),
            namespace: "tools".to_owned(),
            port: 8080,
            replicas: 2,
            schedule_timeout: Duration::from_secs(1),
            pull_timeout: Duration::from_secs(1),
        }
    }

    /// At version 7, with these annotations beside the one that agrees.
    fn object(replicas: u32, annotations: Value) -> Object {
        let mut all = annotations;
        all["usher.dev/route"] = json!("docs");
        let metadata = json!({ "name": "wiki", "uid": "u", "resourceVersion": "7", "annotations": all });
        let spec = json!({ "replicas": replicas, "selector": {}, "template": {} });
        serde_json::from_value::<Deployment>(json!({ "metadata": metadata, "spec": spec })).unwrap().into()
    }

    fn refused(plan: &Plan) -> Option<CauseCode> {
        if let Plan::Refuse(cause) = plan { Some(cause.code) } else { None }
    }

    /// The annotations that are written and the scale, of a patch of version 7.
    fn written(plan: Plan) -> (Value, Value) {
        let Plan::Patch(patch) = plan else { panic!("{plan:?}") };
        assert_eq!(
            (&patch["metadata"]["uid"], &patch["metadata"]["resourceVersion"]),
            (&json!("u"), &json!("7"))
        );
        (patch["metadata"]["annotations"].clone(), patch["spec"]["replicas"].clone())
    }

    fn wanted() -> Value {
        json!({ "usher.dev/wanted": notes::want(1500, "a") })
    }

    fn marked() -> Value {
        json!({ "usher.dev/mark": notes::mark(StopReason::Idle, "a") })
    }

    #[test]
    fn what_is_not_there_or_has_not_agreed_is_left_alone_and_the_cause_says_so() {
        let existing = existing();
        let mut others = object(0, json!({}));
        others.meta.annotations = None;
        let ended = {
            let mut object = object(0, json!({}));
            object.meta.deletion_timestamp =
                Some(serde_json::from_value(json!("2026-11-21T12:00:00Z")).unwrap());
            object
        };
        for (object, code) in [
            (None, CauseCode::ObjectMissing),
            (Some(&others), CauseCode::NotOptedIn),
            (Some(&ended), CauseCode::ObjectMissing),
        ] {
            assert_eq!(refused(&want(&existing, object, "n")), Some(code));
            assert_eq!(refused(&start(&existing, object)), Some(code));
            assert_eq!(refused(&mark(&existing, object, &Generation("u.0".into()), "n")), Some(code));
            assert_eq!(stop(&existing, object, None, &Stop::Asked), Plan::Nothing);
            assert_eq!(nudge(&existing, object, "n"), Plan::Nothing);
        }
        let Plan::Refuse(cause) = want(&existing, Some(&others), "n") else { panic!() };
        assert!(
            cause.hint.contains("kubectl -n tools annotate deployment wiki usher.dev/route=docs"),
            "{}",
            cause.hint
        );
    }

    #[test]
    fn it_is_woken_to_what_it_had_and_else_to_what_the_route_says() {
        let existing = existing();
        let had = |replicas: Value| {
            let mut notes = wanted();
            notes["usher.dev/replicas"] = replicas;
            object(0, notes)
        };
        let (notes, replicas) = written(start(&existing, Some(&had(json!("5")))));
        assert_eq!(replicas, 5);
        assert_eq!(notes["usher.dev/wanted"], Value::Null);
        for nothing in [json!(""), json!("0"), json!("x")] {
            assert_eq!(written(start(&existing, Some(&had(nothing)))).1, 2);
        }
        // Somebody was faster by hand: their number holds.
        assert_eq!(start(&existing, Some(&object(3, json!({})))), Plan::Nothing);
        assert_eq!(want(&existing, Some(&object(3, json!({}))), "n"), Plan::Nothing);
        let (notes, replicas) = written(want(&existing, Some(&object(0, json!({}))), "n"));
        assert_eq!((&notes["usher.dev/wanted"], replicas), (&json!("n"), Value::Null));
    }

    #[test]
    fn a_late_start_does_not_bring_back_what_was_called_off() {
        let existing = existing();
        for called_off in [json!({}), json!({ "usher.dev/stopped": "asked" })] {
            assert_eq!(refused(&start(&existing, Some(&object(0, called_off)))), Some(CauseCode::Conflict));
        }
        assert_eq!(written(start(&existing, Some(&object(0, wanted())))).1, 2);
    }

    #[test]
    fn a_stop_keeps_the_number_of_pods_and_ends_the_run() {
        let existing = existing();
        let running = object(3, json!({ "usher.dev/stops": "4" }));
        let run = generation(&running);
        let (notes, replicas) = written(stop(&existing, Some(&running), Some(&run), &Stop::Asked));
        assert_eq!(
            (&notes["usher.dev/replicas"], &notes["usher.dev/stops"], replicas),
            (&json!("3"), &json!("5"), json!(0))
        );
        assert_eq!(notes["usher.dev/stopped"], "asked");
        let ending = object(0, json!({ "usher.dev/stops": "5" }));
        assert_eq!(generation(&ending), run, "the one that ends is the one that ran");
        assert_ne!(generation(&object(1, json!({ "usher.dev/stops": "5" }))), run);
        // A newer run is not touched, nor is one that rests.
        let newer = object(1, json!({ "usher.dev/stops": "5" }));
        assert_eq!(stop(&existing, Some(&newer), Some(&run), &Stop::Asked), Plan::Nothing);
        assert_eq!(stop(&existing, Some(&ending), Some(&run), &Stop::Asked), Plan::Nothing);
    }

    #[test]
    fn a_marked_one_is_stopped_only_while_that_very_mark_stands() {
        let existing = existing();
        let why = |number| Stop::Marked(Mark { number, reason: StopReason::Idle });
        let (running, run) = (object(1, marked()), generation(&object(1, marked())));
        let (notes, replicas) = written(stop(&existing, Some(&running), Some(&run), &why(7)));
        assert_eq!((&notes["usher.dev/stopped"], replicas), (&json!("idle"), json!(0)));
        for (object, number) in [(running.clone(), 6), (object(1, json!({})), 7), (object(0, marked()), 7)] {
            assert_eq!(
                refused(&stop(&existing, Some(&object), Some(&run), &why(number))),
                Some(CauseCode::Conflict)
            );
        }
        assert_eq!(
            written(unmark(Some(&running), Mark { number: 7, reason: StopReason::Idle })).0["usher.dev/mark"],
            Value::Null
        );
        let stale = Mark { number: 6, reason: StopReason::Idle };
        assert_eq!(refused(&unmark(Some(&running), stale)), Some(CauseCode::Conflict));
        assert_eq!(unmark(Some(&object(1, json!({}))), stale), Plan::Nothing);
        assert_eq!(mark(&existing, Some(&running), &run, "n"), Plan::Nothing);
        assert_eq!(written(mark(&existing, Some(&object(1, json!({}))), &run, "n")).0["usher.dev/mark"], "n");
    }
}
