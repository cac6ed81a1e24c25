//! Whether the templates of a configuration make pods: what only the types of Kubernetes can tell.
//!
//! Everything is told by key path; the configuration knows line and column.

use super::fit::{Step, misfits};
use super::names;
use super::overlay::{PATCH, merge_key};
use super::pods::{finished, of_template};
use super::profile::{Part, Violation, containers, sources, violations};
use super::token::tokens;
use crate::{Identity, StartSpec};
use config::{Config, KeyFinding, KeyPath, PodTemplate, Runs, Template, Text, WorkspaceId};
use k8s_openapi::api::core::v1::{Container, PodSpec, Toleration};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What is wrong with the templates of pods; empty for another driver.
///
/// A template that fits is tried with values of a user who does not exist: the finished pod must keep the restricted
/// Pod Security Standard and have no token of a service account, unless the template says `allow_privileged = true`.
pub fn judge(config: &Config) -> Vec<KeyFinding> {
    let namespaces = config.templates.values().filter_map(|template| judge_namespace(config, template));
    namespaces.chain(config.templates.values().flat_map(judge_template)).collect()
}

/// A namespace that is written down has to be one that Usher listens to; one that is made for each user is looked at when
/// it is known.
fn judge_namespace(config: &Config, template: &Template) -> Option<KeyFinding> {
    let (Runs::Kubernetes(pods), config::Driver::Kubernetes(kubernetes)) = (&template.runs, &config.driver)
    else {
        return None;
    };
    let Some(Text::Plain(named)) = &pods.namespace else { return None };
    let listed = kubernetes.namespaces().any(|namespace| namespace == named);
    (!listed).then(|| KeyFinding {
        key: KeyPath::default().key("templates").key(template.name.as_str()).key("namespace"),
        problem: format!("`{named}` is neither kubernetes.namespace nor one of kubernetes.more_namespaces"),
        accepted: kubernetes.namespaces().collect::<Vec<_>>().join(", "),
        of_name: false,
    })
}

fn judge_template(template: &Arc<Template>) -> Vec<KeyFinding> {
    let Runs::Kubernetes(pods) = &template.runs else { return Vec::new() };
    let root = KeyPath::default().key("templates").key(template.name.as_str());
    let mut judged = Judged { root, pods, found: Vec::new() };
    judged.fits();
    if judged.found.is_empty() {
        // Judged only when all fits: what is said of a pod that is not meant is guesswork.
        judged.finished_pod(template);
    }
    judged.found
}

/// One template under judgement.
struct Judged<'a> {
    root: KeyPath,
    pods: &'a PodTemplate,
    found: Vec<KeyFinding>,
}

impl Judged<'_> {
    /// The keys in Kubernetes' own words, each for itself.
    fn fits(&mut self) {
        let verbatim = &self.pods.verbatim;
        let overlay = Value::Object(verbatim.pod.clone());
        let root = self.root.key("pod");
        self.fit::<PodSpec>(&root, &overlay, "PodSpec");
        self.items_have_keys(&root, &overlay);
        for (key, items) in [("init_containers", &verbatim.init_containers), ("sidecars", &verbatim.sidecars)]
        {
            for (index, item) in items.iter().enumerate() {
                let root = self.root.key(key).index(index);
                self.fit::<Container>(&root, item, "Container");
                self.items_have_keys(&root, item);
                if item.is_object() && item.get("name").is_none() {
                    self.tell(root, "has no `name`", "name = \"…\"");
                }
            }
        }
        for (index, item) in verbatim.tolerations.iter().enumerate() {
            self.fit::<Toleration>(&self.root.key("tolerations").index(index), item, "Toleration");
        }
        self.not_in_workspaces();
    }

    fn fit<T: DeserializeOwned + Serialize>(&mut self, root: &KeyPath, value: &Value, kind: &str) {
        for misfit in misfits::<T>(value) {
            let key = below(root, &misfit.path);
            let finding = match misfit.expected {
                None => KeyFinding {
                    key,
                    problem: format!("unknown key: {kind} has no such field"),
                    accepted: "a field of the API reference of Kubernetes".to_owned(),
                    of_name: true,
                },
                Some(expected) => KeyFinding {
                    key,
                    problem: format!("does not fit {kind}"),
                    accepted: expected,
                    of_name: false,
                },
            };
            self.found.push(finding);
        }
    }

    /// Items of lists that merge are told apart by a key, and directives are known ones.
    fn items_have_keys(&mut self, at: &KeyPath, value: &Value) {
        match value {
            Value::Object(table) => {
                if let Some(directive) = table.get(PATCH)
                    && !["delete", "replace", "merge"].iter().any(|known| directive == known)
                {
                    self.tell(
                        at.key(PATCH),
                        "is no directive of a merge",
                        "\"delete\", \"replace\" or \"merge\"",
                    );
                }
                for (name, value) in table {
                    if let (Some(key), Some(items)) = (merge_key(name), value.as_array()) {
                        self.are_told_apart(&at.key(name), items, key);
                    }
                    self.items_have_keys(&at.key(name), value);
                }
            }
            Value::Array(items) => {
                let items = items.iter().enumerate();
                items.for_each(|(index, item)| self.items_have_keys(&at.index(index), item));
            }
            _ => {}
        }
    }

    fn are_told_apart(&mut self, at: &KeyPath, items: &[Value], key: &str) {
        let mut seen = BTreeSet::new();
        for (index, item) in items.iter().enumerate() {
            let name = item.get(key).map(Value::to_string);
            match name {
                None if item.get(PATCH).is_none() => {
                    let problem = format!("has no `{key}`, by which the items of this list are told apart");
                    self.tell(at.index(index), problem, format!("`{key}`"));
                }
                Some(name) if !seen.insert(name.clone()) => {
                    let problem = format!("has the `{key}` of another item above");
                    self.tell(at.index(index).key(key), problem, format!("another `{key}`"));
                }
                _ => {}
            }
        }
    }

    /// What PodSpec has and a StatefulSet's pod, or a workspace's, has not.
    fn not_in_workspaces(&mut self) {
        const NEVER: [(&str, &str); 3] = [
            ("activeDeadlineSeconds", "a StatefulSet refuses it; max_age ends a workspace"),
            ("ephemeralContainers", "they are put into a pod that runs"),
            ("terminationGracePeriodSeconds", "stop_grace says it, and Usher waits by it"),
        ];
        for (field, why) in NEVER {
            if self.pods.verbatim.pod.contains_key(field) {
                let (key, problem) = (self.root.key("pod").key(field), "has no place in a workspace");
                self.found.push(KeyFinding {
                    key,
                    problem: problem.to_owned(),
                    accepted: format!("nothing: {why}"),
                    of_name: true,
                });
            }
        }
        let policy = self.pods.verbatim.pod.get("restartPolicy");
        if policy.is_some_and(|policy| policy != "Always") {
            let key = self.root.key("pod").key("restartPolicy");
            self.tell(key, "a StatefulSet runs its pod always", "\"Always\"");
        }
    }

    /// The pod as it will be, with values of nobody.
    fn finished_pod(&mut self, template: &Arc<Template>) {
        let Ok(made) = of_template(Some(&sample(template)), template, self.pods, &self.pods.sample()) else {
            return;
        };
        let Some(pod) = finished(&made, self.pods) else {
            self.tell(self.root.key("pod"), "does not fit over the pod of this template", "a PodSpec");
            return;
        };
        self.names_of_containers(&pod);
        self.sources_of_volumes(&pod);
        if self.pods.allow_privileged {
            return;
        }
        self.not_allowed(violations(&pod), "have power over the node");
        self.not_allowed(tokens(&pod), "do what the service account may");
    }

    /// What only `allow_privileged` allows, and what its users could do then.
    fn not_allowed(&mut self, violations: Vec<Violation>, power: &str) {
        for Violation { part, field, problem, allowed } in violations {
            let key = self.place(&part, field);
            self.tell(
                key,
                problem,
                format!("{allowed}; or allow_privileged = true, if its users may {power}"),
            );
        }
    }

    fn names_of_containers(&mut self, pod: &PodSpec) {
        if !pod.containers.iter().any(|container| container.name == names::CONTAINER) {
            let problem = format!("takes away the container `{}`, which is the workspace", names::CONTAINER);
            self.tell(self.root.key("pod").key("containers"), problem, "its changes, under that name");
        }
        let mut seen = BTreeSet::new();
        // Those of the pod first: a name is at fault where it is given the second time.
        let mut all: Vec<_> = containers(pod).collect();
        all.sort_by_key(|(list, container)| (container.name != names::CONTAINER, *list));
        for (list, container) in all {
            if !seen.insert(&container.name) {
                let key = self.place(&Part::Container(list, container.name.clone()), "name");
                self.tell(key, "is the name of another container of the pod", "another name");
            }
        }
    }

    fn sources_of_volumes(&mut self, pod: &PodSpec) {
        for volume in pod.volumes.iter().flatten() {
            let key = self.place(&Part::Volume(volume.name.clone()), "");
            if sources(volume).len() != 1 {
                let accepted = "one source; over a volume of this name, with \"$patch\" = \"replace\"";
                self.tell(key, "has not one source", accepted);
            } else if volume.name == names::HOME && self.pods.volume.is_some() {
                self.tell(key, "`home` is the user's volume, which `volume` describes", "another name");
            }
        }
    }

    /// Where the operator wrote what stands in a part of the finished pod.
    fn place(&self, part: &Part, field: &str) -> KeyPath {
        let verbatim = &self.pods.verbatim;
        let named = |items: &[Value], name: &str| items.iter().position(|item| item["name"] == name);
        let overlaid = |list: &str, name: &str| {
            let items = verbatim.pod.get(list)?.as_array()?;
            Some(self.root.key("pod").key(list).index(named(items, name)?))
        };
        let part = match part {
            Part::Pod => self.root.key("pod"),
            Part::Volume(name) => overlaid("volumes", name).unwrap_or_else(|| self.root.clone()),
            Part::Container(list, name) => {
                let own = [("sidecars", &verbatim.sidecars), ("init_containers", &verbatim.init_containers)];
                let own = own
                    .into_iter()
                    .filter(|_| *list == "initContainers")
                    .find_map(|(key, items)| Some(self.root.key(key).index(named(items, name)?)));
                overlaid(list, name).or(own).unwrap_or_else(|| self.root.clone())
            }
        };
        field.split('.').filter(|step| !step.is_empty()).fold(part, |path, step| path.key(step))
    }

    fn tell(&mut self, key: KeyPath, problem: impl Into<String>, accepted: impl Into<String>) {
        self.found.push(KeyFinding {
            key,
            problem: problem.into(),
            accepted: accepted.into(),
            of_name: false,
        });
    }
}

fn below(root: &KeyPath, path: &[Step]) -> KeyPath {
    path.iter().fold(root.clone(), |path, step| match step {
        Step::Key(key) => path.key(key),
        Step::Item(index) => path.index(*index),
    })
}

/// A start for nobody, to try a template by.
pub(super) fn sample(template: &Arc<Template>) -> StartSpec {
    StartSpec {
        id: WorkspaceId::parse("sample").expect("it is a label"),
        owner: Identity { issuer: "https://issuer.example.org".to_owned(), subject: "0".to_owned() },
        template: template.clone(),
        host: "sample.lab.example.org".to_owned(),
        grant: Default::default(),
    }
}

#[cfg(test)]
mod tests;
