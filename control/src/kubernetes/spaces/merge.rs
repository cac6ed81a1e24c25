//! What several spaces tell, as one would. Pure.

use crate::Event;
use config::WorkspaceId;
use std::collections::{BTreeSet, HashMap};

/// Who tells what.
pub(super) struct Merge {
    /// Which spaces tell of a workspace: the first of them has it.
    tell: HashMap<WorkspaceId, BTreeSet<usize>>,
    synced: Vec<bool>,
}

/// What becomes of what a space told.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all are the large one")]
pub(super) enum Told {
    /// It is told on.
    On(Event),
    /// This space is asked to tell of this workspace again: it has it from now on.
    Ask(usize, WorkspaceId),
    /// It is no news.
    Nothing,
}

impl Merge {
    /// Of so many spaces that have told nothing yet.
    pub(super) fn new(spaces: usize) -> Self {
        Self { tell: HashMap::new(), synced: vec![false; spaces] }
    }

    /// Takes in what a space tells.
    pub(super) fn take(&mut self, from: usize, event: Event) -> Told {
        match event {
            Event::Seen(observed) => {
                let tell = self.tell.entry(observed.id.clone()).or_default();
                let is_new = tell.insert(from);
                if is_new && tell.len() > 1 {
                    let id = &observed.id;
                    tracing::warn!(workspace.name = %id, "a workspace is in two namespaces: one is let alone");
                }
                if tell.first() == Some(&from) { Told::On(Event::Seen(observed)) } else { Told::Nothing }
            }
            Event::Gone(id) => self.gone(from, id),
            Event::Synced => {
                let was_synced = std::mem::replace(&mut self.synced[from], true);
                let all = !was_synced && self.synced.iter().all(|synced| *synced);
                if all { Told::On(Event::Synced) } else { Told::Nothing }
            }
            // Each for its own.
            Event::Sighted(..) => Told::On(event),
        }
    }

    fn gone(&mut self, from: usize, id: WorkspaceId) -> Told {
        let Some(tell) = self.tell.get_mut(&id) else { return Told::On(Event::Gone(id)) };
        let had_it = tell.first() == Some(&from);
        tell.remove(&from);
        match tell.first() {
            None => {
                self.tell.remove(&id);
                Told::On(Event::Gone(id))
            }
            Some(next) if had_it => Told::Ask(*next, id),
            Some(_) => Told::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{id, seen};
    use crate::{ObservedPhase, Scope};

    /// What is told on, in words.
    fn word(told: Told) -> String {
        match told {
            Told::On(Event::Seen(observed)) => format!("{} seen", observed.id),
            Told::On(Event::Gone(id)) => format!("{id} gone"),
            Told::On(Event::Synced) => "synced".to_owned(),
            Told::On(Event::Sighted(_, sighted)) => format!("sighted {sighted}"),
            Told::Ask(space, id) => format!("ask {space} of {id}"),
            Told::Nothing => String::new(),
        }
    }

    fn alice() -> Event {
        seen(&id("alice"), ObservedPhase::Stopped)
    }

    #[test]
    fn all_is_told_when_all_have_told_and_each_is_blind_for_itself() {
        let mut merge = Merge::new(3);
        let mut take = |from, event| word(merge.take(from, event));
        assert_eq!([take(0, Event::Synced), take(2, Event::Synced)], ["", ""]);
        assert_eq!([take(1, Event::Synced), take(1, Event::Synced)], ["synced", ""]);
        for (from, sighted) in [(1, false), (2, false), (1, true), (2, true)] {
            let event = Event::Sighted(Scope::Space(from.to_string().into()), sighted);
            assert_eq!(take(from, event), format!("sighted {sighted}"), "{from}");
        }
    }

    #[test]
    fn of_two_objects_of_one_id_the_first_spaces_is_the_workspace_whichever_is_told_first() {
        for order in [[0, 1], [1, 0]] {
            let mut merge = Merge::new(2);
            let mut take = |from, event| word(merge.take(from, event));
            let first = take(order[0], alice());
            assert_eq!(first, "alice seen");
            assert_eq!(take(order[1], alice()), if order[1] == 0 { "alice seen" } else { "" });
            assert_eq!([take(1, alice()), take(0, alice())], ["", "alice seen"]);
            assert_eq!(take(1, Event::Gone(id("alice"))), "");
            assert_eq!(take(1, alice()), "");
            assert_eq!(take(0, Event::Gone(id("alice"))), "ask 1 of alice");
            assert_eq!(take(1, alice()), "alice seen");
            assert_eq!(take(0, Event::Gone(id("alice"))), "", "it is known nowhere there");
            assert_eq!(take(1, Event::Gone(id("alice"))), "alice gone");
            assert_eq!(take(1, Event::Gone(id("alice"))), "alice gone", "somebody waits for it");
        }
    }
}
