//! The live sessions by name, in a map that is cheap to copy after a change.
//!
//! Each change is published as a copy that nobody changes. A copy of one map of all would cost as much as there are sessions;
//! of many small ones only those are copied that have changed.

use super::{Session, SessionName};
use std::array;
use std::collections::HashMap;
use std::sync::Arc;

/// One for each first byte of a name, which is a hash: all are about as full.
const SHARDS: usize = 256;

type Shard = HashMap<SessionName, Arc<Session>>;

/// The live sessions by name.
#[derive(Debug, Clone)]
pub(super) struct Live {
    shards: Arc<[Arc<Shard>; SHARDS]>,
    len: usize,
}

impl Default for Live {
    fn default() -> Self {
        let empty = Arc::new(Shard::new());
        Self { shards: Arc::new(array::from_fn(|_| empty.clone())), len: 0 }
    }
}

impl Live {
    pub(super) fn get(&self, name: &SessionName) -> Option<&Arc<Session>> {
        self.shards[usize::from(name.0[0])].get(name)
    }

    /// Puts a session in, and gives the one in whose place it stands now.
    pub(super) fn insert(&mut self, name: SessionName, session: Arc<Session>) -> Option<Arc<Session>> {
        let before = self.shard(name).insert(name, session);
        self.len += usize::from(before.is_none());
        before
    }

    pub(super) fn remove(&mut self, name: SessionName) -> Option<Arc<Session>> {
        self.get(&name)?;
        let session = self.shard(name).remove(&name);
        self.len -= usize::from(session.is_some());
        session
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&SessionName, &Arc<Session>)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// The part that this name is in; a copy of it where the present one is published.
    fn shard(&mut self, name: SessionName) -> &mut Shard {
        Arc::make_mut(&mut Arc::make_mut(&mut self.shards)[usize::from(name.0[0])])
    }
}
