//! A driver that has all its workspaces running before it is asked for anything.

use config::{TemplateName, WorkspaceId};
use control::{Action, Address, Cause, Driver, Event, Generation, Grant, Identity, Observed, ObservedPhase};
use futures_util::stream::{self, BoxStream, StreamExt};
use std::net::SocketAddr;

/// So many running workspaces, all at one address.
pub(crate) struct Running {
    pub(crate) ids: Vec<WorkspaceId>,
    address: SocketAddr,
    template: TemplateName,
}

impl Running {
    pub(crate) fn at(address: SocketAddr, count: usize) -> anyhow::Result<Self> {
        let ids = (0..count).map(|n| WorkspaceId::parse(&format!("u{n}"))).collect::<Result<_, _>>()?;
        Ok(Self { ids, address, template: TemplateName::parse("bench")? })
    }

    fn seen(&self, id: &WorkspaceId) -> Event {
        let owner = Identity { issuer: "bench".to_owned(), subject: id.to_string() };
        let generation = Generation(id.to_string().into());
        let phase = ObservedPhase::started(generation, Some(Address::Tcp(self.address)));
        Event::Seen(Observed::alone(id.clone(), owner, self.template.clone(), Grant::default(), phase))
    }
}

#[async_trait::async_trait]
impl Driver for Running {
    fn observe(&self) -> BoxStream<'static, Event> {
        let events: Vec<_> = self.ids.iter().map(|id| self.seen(id)).chain([Event::Synced]).collect();
        stream::iter(events).chain(stream::pending()).boxed()
    }

    async fn act(&self, _: Action) -> Result<(), Cause> {
        Ok(())
    }

    async fn log_tail(&self, _: &WorkspaceId) -> String {
        String::new()
    }
}
