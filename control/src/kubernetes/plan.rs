//! What a workspace's StatefulSet needs for an action to be done. Pure.
//!
//! A plan is made of what is known now. Whoever carries it out and meets something else looks again and makes
//! another. [`Plan::Nothing`] is no exception: what is known may be late, so the server is asked whether it stands.

use super::fold::Known;
use super::names;
use super::notes;
use super::pods::{self, BadPod};
use crate::{Cause, CauseCode, Generation, Mark, StartSpec, Stop, StopReason};
use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::{Value, json};

/// What is to be done next.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Plan {
    /// It is as it should be, if it still is as it is known.
    Nothing,
    /// It may not, or cannot, be done.
    Refuse(Cause),
    /// The StatefulSet is to be made.
    Create(Box<StatefulSet>),
    /// The StatefulSet is to be changed so, by a strategic merge patch.
    Patch(Value),
}

/// The StatefulSet that a start is to lead to.
pub(super) struct Wanted<'a> {
    spec: &'a StartSpec,
    /// At 0 replicas.
    made: StatefulSet,
}

impl<'a> Wanted<'a> {
    /// That of a start.
    ///
    /// # Errors
    /// The template makes no pod of these values.
    pub(super) fn of(spec: &'a StartSpec, namespace: &str) -> Result<Self, Cause> {
        let made = pods::stateful_set(spec, namespace, 0).map_err(|error| bad_pod(&error))?;
        Ok(Self { spec, made })
    }

    /// Whether it has files, that are its owner's.
    pub(super) fn has_files(&self) -> bool {
        let claims = self.made.spec.as_ref().and_then(|spec| spec.volume_claim_templates.as_ref());
        claims.is_some_and(|claims| !claims.is_empty())
    }

    /// It is to be written down that it is wanted, with this note.
    pub(super) fn want(&self, known: Option<&Known>, note: &str) -> Plan {
        let Some(known) = known else { return self.create(note) };
        if let Some(cause) = self.refused(known) {
            return Plan::Refuse(cause);
        }
        if known.is_wanted() || known.notes.wanted.is_some() {
            return Plan::Nothing;
        }
        let mut annotations = json!({ names::WANTED: note, names::FAILED: null, names::STOPPED: null });
        self.grant(&mut annotations);
        Plan::Patch(json!({ "metadata": { "uid": known.uid(), "annotations": annotations } }))
    }

    /// Its turn has come.
    pub(super) fn start(&self, known: Option<&Known>) -> Plan {
        let known = match self.due(known) {
            Ok(known) => known,
            Err(cause) => return Plan::Refuse(cause),
        };
        if known.is_wanted() && !known.claims_in_vain() && !self.mends(known) {
            return Plan::Nothing;
        }
        Plan::Patch(self.run(known, 1, None))
    }

    /// Its turn has come, and it is to run in this warm set: so it says.
    pub(super) fn claim(&self, known: Option<&Known>, warm: &str) -> Plan {
        match self.due(known) {
            Ok(known) => Plan::Patch(self.run(known, 0, Some(warm))),
            Err(cause) => Plan::Refuse(cause),
        }
    }

    /// It is on its way and is to be tried again at once, with this note: any change makes its controller do so.
    pub(super) fn nudge(&self, known: Option<&Known>, note: &str) -> Plan {
        let Some(known) = known.filter(|known| known.is_wanted()) else { return Plan::Nothing };
        if let Some(cause) = self.refused(known) {
            return Plan::Refuse(cause);
        }
        if known.set.nudge.as_deref() == Some(note) {
            return Plan::Nothing;
        }
        let nudge = json!({ names::NUDGE: note });
        if !self.mends(known) {
            return Plan::Patch(json!({ "metadata": { "uid": known.uid(), "annotations": nudge } }));
        }
        let mut patch = self.run(known, 1, None);
        patch["metadata"]["annotations"][names::NUDGE] = json!(note);
        Plan::Patch(patch)
    }

    /// It is to run, here or in a warm set, from the template as it is now.
    fn run(&self, known: &Known, replicas: u8, warm: Option<&str>) -> Value {
        let mut annotations = json!({
            names::WANTED: null, names::MARK: null, names::STOPPED: null, names::FAILED: null,
            names::CLAIMS: warm,
        });
        if let Some(keeper) = known.keeper() {
            annotations[names::FILES] = json!(keeper);
        }
        self.grant(&mut annotations);
        let mut patch = json!({ "metadata": of(known), "spec": { "replicas": replicas } });
        if self.is_new_to(known) {
            annotations[names::TEMPLATE_HASH] = json!(self.annotation(names::TEMPLATE_HASH));
            let made = serde_json::to_value(self.made.spec.as_ref().map(|spec| &spec.template));
            let mut made = made.expect("the types of Kubernetes are JSON");
            // In the place of what stands there: nothing of that is left.
            made["$patch"] = json!("replace");
            patch["spec"]["template"] = made;
            patch["metadata"]["labels"] = json!({ names::TEMPLATE: self.spec.template.name.as_str() });
        }
        patch["metadata"]["annotations"] = annotations;
        patch
    }

    /// Whether it is on its way with another template, and would stay so: what runs is never touched.
    pub(super) fn mends(&self, known: &Known) -> bool {
        known.is_wanted() && !known.has_begun() && self.is_new_to(known)
    }

    fn is_new_to(&self, known: &Known) -> bool {
        known.notes.hash != self.annotation(names::TEMPLATE_HASH)
    }

    /// It is made at 0: its turn is to come.
    fn create(&self, note: &str) -> Plan {
        let mut set = self.made.clone();
        let annotations = set.metadata.annotations.get_or_insert_default();
        annotations.insert(names::WANTED.to_owned(), note.to_owned());
        Plan::Create(Box::new(set))
    }

    /// Writes down what it was admitted with, in place of what an earlier start was.
    fn grant(&self, annotations: &mut Value) {
        for (key, value) in pods::annotations(&self.spec.grant) {
            annotations[key] = json!(value);
        }
    }

    fn annotation(&self, key: &str) -> Option<String> {
        self.made.metadata.annotations.as_ref()?.get(key).cloned()
    }

    /// What is to be started. Whoever was halted for long may come late: what is not wanted any more was called off,
    /// and is not brought back.
    pub(super) fn due<'k>(&self, known: Option<&'k Known>) -> Result<&'k Known, Cause> {
        let Some(known) = known else {
            return Err(conflict("it was removed since it was asked for"));
        };
        match self.refused(known) {
            Some(cause) => Err(cause),
            None if known.is_wanted() || known.notes.wanted.is_some() => Ok(known),
            None => Err(conflict("it was called off since it was asked for")),
        }
    }

    /// Why what stands there may not be adopted.
    fn refused(&self, known: &Known) -> Option<Cause> {
        if known.notes.owner != self.spec.owner {
            return Some(Cause::not_the_owner(&self.spec.id));
        }
        known.ends().then(|| conflict("it is being deleted; it can be started when that is done"))
    }
}

/// The `metadata` of a patch that is done only if nothing was written since: what was decided on what stands there may
/// not hold for what came after it.
fn of(known: &Known) -> Value {
    json!({ "uid": known.uid(), "resourceVersion": known.version().to_string() })
}

/// The first half of a stop is to be written down, with this note.
pub(super) fn mark(known: Option<&Known>, generation: &Generation, note: &str) -> Plan {
    let Some(known) =
        known.filter(|known| known.is_wanted() && known.generation().as_ref() == Some(generation))
    else {
        return Plan::Refuse(conflict("another instance runs, or none"));
    };
    if known.notes.mark.is_some() {
        return Plan::Nothing;
    }
    let mut metadata = of(known);
    metadata["annotations"] = json!({ names::MARK: note });
    Plan::Patch(json!({ "metadata": metadata }))
}

/// A mark is to be taken back.
pub(super) fn unmark(known: Option<&Known>, mark: Mark) -> Plan {
    let Some(known) = known.filter(|known| known.notes.mark.is_some()) else { return Plan::Nothing };
    if known.version() != mark.number {
        return Plan::Refuse(conflict("it was written since; the mark may be another"));
    }
    let mut metadata = of(known);
    metadata["annotations"] = json!({ names::MARK: null });
    Plan::Patch(json!({ "metadata": metadata }))
}

/// It is to be taken to 0.
pub(super) fn stop(known: Option<&Known>, generation: Option<&Generation>, why: &Stop) -> Plan {
    let Some(known) = known else { return Plan::Nothing };
    let newer = generation.is_some() && known.generation().is_some_and(|runs| Some(&runs) != generation);
    let mut metadata = of(known);
    let mut annotations = json!({ names::WANTED: null, names::MARK: null, names::CLAIMS: null });
    if let Some(keeper) = known.keeper() {
        annotations[names::FILES] = json!(keeper);
    }
    match why {
        Stop::Marked(mark) => {
            if newer || !known.is_wanted() || known.notes.mark.is_none() || known.version() != mark.number {
                return Plan::Refuse(conflict("its mark was taken back, or it was written since"));
            }
            annotations[names::STOPPED] = json!(mark.reason.as_str());
        }
        _ if newer => return Plan::Nothing,
        Stop::Refused(_) if known.is_wanted() && !known.claims_in_vain() => return Plan::Nothing,
        _ if !known.is_wanted() && known.notes.wanted.is_none() => return Plan::Nothing,
        Stop::Asked => annotations[names::STOPPED] = json!(StopReason::Asked.as_str()),
        Stop::Failed(cause) | Stop::Refused(cause) => {
            annotations[names::STOPPED] = Value::Null;
            annotations[names::FAILED] = json!(notes::failure(cause));
        }
    }
    metadata["annotations"] = annotations;
    Plan::Patch(json!({ "metadata": metadata, "spec": { "replicas": 0 } }))
}

/// A claim that came to nothing is to become an ordinary start. Where the files of the workspace are in a warm set that
/// somebody removed, that would show it without them: it is stopped, and the next start makes that one anew.
pub(super) fn give_up(known: Option<&Known>) -> Plan {
    let Some(known) = known.filter(|known| known.claims_in_vain() && !known.ends()) else {
        return Plan::Nothing;
    };
    let mut metadata = of(known);
    metadata["annotations"] = json!({ names::CLAIMS: null });
    let replicas = u8::from(known.notes.files.is_none());
    Plan::Patch(json!({ "metadata": metadata, "spec": { "replicas": replicas } }))
}

pub(super) fn bad_pod(error: &BadPod) -> Cause {
    let code = CauseCode::SpecInvalid;
    Cause { code, detail: code.words().detail.to_owned(), hint: error.to_string() }
}

pub(super) fn conflict(hint: &str) -> Cause {
    let code = CauseCode::Conflict;
    Cause { code, detail: code.words().detail.to_owned(), hint: hint.to_owned() }
}

#[cfg(test)]
mod tests;
