//! The events that are kept of one workspace, or of what a route leads to: few, and of its own objects.

use super::names;
use super::reading::Happening;
use super::watch::Seen;
use config::WorkspaceId;
use k8s_openapi::api::core::v1::Event;
use std::time::Instant;

/// How many are kept of one reason: one for each container of a pod, of the last pods.
const OF_A_REASON: usize = 4;
/// How many are kept in all.
const IN_ALL: usize = 32;

/// What a watch of events tells.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// When the list began that it tells now.
    listed: Option<Instant>,
}

impl Heard {
    /// Takes in what it told; `None` = that is nothing new of anything.
    pub(super) fn take(&mut self, seen: Seen<Event>, now: Instant) -> Option<(Event, Happening)> {
        let (event, listed) = match seen {
            Seen::Put(event) => (event, None),
            Seen::Listed(event) => (event, Some(*self.listed.get_or_insert(now))),
            Seen::Synced => {
                self.listed = None;
                return None;
            }
            // What was told stays as true as it was.
            Seen::Deleted(_) | Seen::Blind => return None,
        };
        let happening = Happening::of(&event, listed.unwrap_or(now), listed.is_some());
        Some((event, happening))
    }
}

/// The events of one workspace.
#[derive(Debug, Default)]
pub(super) struct Happenings {
    /// In the order of receipt, the oldest first; names beside them.
    names: Vec<String>,
    kept: Vec<Happening>,
}

/// The workspace that an event is about, by the name of the object.
pub(super) fn workspace(event: &Event) -> Option<WorkspaceId> {
    let about = &event.involved_object;
    let name = about.name.as_deref()?;
    let id = match about.kind.as_deref()? {
        "StatefulSet" => name,
        "Pod" => name.strip_suffix("-0")?,
        "PersistentVolumeClaim" => names::set_of_claim(name)?,
        _ => return None,
    };
    WorkspaceId::parse(id).ok()
}

impl Happenings {
    /// All that are kept.
    pub(super) fn all(&self) -> &[Happening] {
        &self.kept
    }

    /// Keeps one, in the place of what its object said before.
    pub(super) fn keep(&mut self, name: String, happening: Happening) {
        if let Some(at) = self.names.iter().position(|known| *known == name) {
            self.forget(at);
        }
        let alike = |kept: &Happening| kept.reason() == happening.reason();
        if self.kept.iter().filter(|kept| alike(kept)).count() >= OF_A_REASON
            && let Some(at) = self.kept.iter().position(alike)
        {
            self.forget(at);
        }
        if self.kept.len() >= IN_ALL {
            self.forget(0);
        }
        self.names.push(name);
        self.kept.push(happening);
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.names.clear();
        self.kept.clear();
    }

    fn forget(&mut self, at: usize) {
        self.names.remove(at);
        self.kept.remove(at);
    }
}
