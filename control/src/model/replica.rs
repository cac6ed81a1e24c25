//! One Usher as far as the model has it: what it knows, what it was told, and what befalls it.

use super::api::Set;
use super::{Millis, Uses};
use crate::state::State;
use crate::usage::Restored;
use crate::work::InTurn;
use config::WorkspaceId;
use std::collections::{BTreeMap, BTreeSet};

pub(super) struct Replica {
    /// The name of its record.
    pub(super) name: String,
    /// Counts its lives: what was meant for an earlier one is not for this one.
    pub(super) life: u64,
    pub(super) alive: bool,
    pub(super) state: State,
    /// Whether it has told the others that it is there.
    pub(super) registered: bool,
    pub(super) in_turn: InTurn,
    /// Objects as its driver last read them, be it in a watch or in an answer.
    pub(super) read: BTreeMap<WorkspaceId, Set>,
    /// What its driver told, by version.
    pub(super) told: BTreeMap<WorkspaceId, u64>,
    /// Before which version nothing is told of a workspace.
    pub(super) floor: BTreeMap<WorkspaceId, u64>,
    /// When it heard last that there was none of a name: an answer from before does not bring it back.
    pub(super) gone: BTreeMap<WorkspaceId, u64>,
    /// How much of the log of objects its watch has told.
    pub(super) position: usize,
    /// Set if its watch has to list.
    pub(super) lists: bool,
    pub(super) use_position: usize,
    /// Records that were deleted, of which its watch has not told.
    pub(super) unheard_ends: Vec<String>,
    pub(super) halted_until: Millis,
    pub(super) cut_until: Millis,
    /// Since when its watches hear nothing.
    pub(super) deaf_since: Option<Millis>,
    pub(super) blind: bool,
    pub(super) clock_ms: i64,
    pub(super) leads: bool,
    /// When the use was last looked at that is written down.
    pub(super) written: Millis,
    pub(super) lose: u32,
    pub(super) turn_away: u32,
    /// When it was hindered from talking with the API server: from, to.
    pub(super) hindered: Vec<(Millis, Millis)>,
    /// Visits that were taken up and have not led to anything yet.
    pub(super) visits: BTreeMap<WorkspaceId, Millis>,
    /// The last use by way of it in this life.
    pub(super) used: Uses,
    /// The last use that others told it.
    pub(super) heard: Uses,
    /// Requests of the last minute.
    pub(super) requests: Vec<(Millis, WorkspaceId)>,
    /// What somebody asked to be ended since it was ready.
    pub(super) ended: BTreeSet<WorkspaceId>,
    /// When a delivery is due, of objects and of records.
    pub(super) due: [bool; 2],
}

impl Replica {
    /// One that was never there.
    pub(super) fn new(number: usize) -> Self {
        Self {
            name: format!("usher-{number}"),
            life: 0,
            alive: false,
            state: State::new(super::settings(), Restored::default(), true),
            registered: false,
            in_turn: InTurn::default(),
            read: BTreeMap::new(),
            told: BTreeMap::new(),
            floor: BTreeMap::new(),
            gone: BTreeMap::new(),
            position: 0,
            lists: true,
            use_position: 0,
            unheard_ends: Vec::new(),
            halted_until: 0,
            cut_until: 0,
            deaf_since: None,
            blind: false,
            clock_ms: 0,
            leads: number == 0,
            written: 0,
            lose: 0,
            turn_away: 0,
            hindered: Vec::new(),
            visits: BTreeMap::new(),
            used: Uses::new(),
            heard: Uses::new(),
            requests: Vec::new(),
            ended: BTreeSet::new(),
            due: [false; 2],
        }
    }

    /// Whether it serves people.
    pub(super) fn serves(&self) -> bool {
        self.alive && self.registered && self.state.standing().synced
    }

    /// The queue as it is the same for all.
    pub(super) fn queue(&self) -> Vec<WorkspaceId> {
        let given = |place: &crate::state::Place| matches!(place, crate::state::Place::Given(_));
        self.state.queue.iter().filter(|(place, _)| given(place)).map(|(_, id)| id.clone()).collect()
    }

    /// Whether it could talk with the API server all the time from one moment to another.
    pub(super) fn was_free(&self, from: Millis, to: Millis) -> bool {
        self.hindered.iter().all(|(begin, end)| *end < from || *begin > to)
    }

    pub(super) fn phase(&self, id: &WorkspaceId) -> &'static str {
        self.state.entry(id).map_or("none", |entry| entry.phase.as_str())
    }
}
