//! Which loopback ports the workspaces have, so that no two get the same one before they bind it.

use config::WorkspaceId;
use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard};

/// How often a free port is asked for: the system gives one of tens of thousands, of which few are reserved.
const TRIES: usize = 100;

/// The ports of the workspaces that run.
#[derive(Default)]
pub(super) struct Ports(Mutex<HashMap<WorkspaceId, u16>>);

impl Ports {
    /// Reserves a port for a workspace, which gives its former one up.
    pub fn reserve(&self, id: &WorkspaceId, free: impl Fn() -> io::Result<u16>) -> io::Result<u16> {
        let mut taken = self.taken();
        for _ in 0..TRIES {
            let port = free()?;
            if taken.values().all(|other| *other != port) {
                taken.insert(id.clone(), port);
                return Ok(port);
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    /// Notes the port of a workspace that runs already.
    pub fn adopt(&self, id: &WorkspaceId, port: u16) {
        self.taken().insert(id.clone(), port);
    }

    /// Gives a workspace's port up.
    pub fn release(&self, id: &WorkspaceId) {
        self.taken().remove(id);
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<WorkspaceId, u16>> {
        self.0.lock().expect("nobody panics with the lock held")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn no_two_workspaces_get_one_port() {
        let (alice, bob) = (WorkspaceId::parse("alice").unwrap(), WorkspaceId::parse("bob").unwrap());
        let ports = Ports::default();
        let next = Cell::new(0);
        // Each port is offered twice.
        let free = || Ok(4000 + next.replace(next.get() + 1) / 2);
        assert_eq!(ports.reserve(&alice, free).unwrap(), 4000);
        assert_eq!(ports.reserve(&bob, free).unwrap(), 4001);
        let always = || Ok(4000);
        assert_eq!(ports.reserve(&bob, always).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        ports.release(&alice);
        assert_eq!(ports.reserve(&bob, always).unwrap(), 4000);
    }
}
