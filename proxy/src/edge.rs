//! What every request shares: one per process, read without locks.

use crate::assertion::Assertions;
use crate::audit::Audit;
use crate::drain::Drain;
use crate::identity::Providers;
use crate::identity::refresh::Wishes;
use crate::keys::Keys;
use crate::limits::Limits;
use crate::machines::Machines;
use crate::metrics::Metrics;
use arc_swap::ArcSwap;
use certs::Operations;
use config::Config;
use control::{Sessions, Tickets, Tokens, Users, Workspaces};
use tokio_util::sync::CancellationToken;

/// What every request shares.
pub struct Edge {
    /// The configuration in force; a request takes one snapshot and keeps it.
    pub config: ArcSwap<Config>,
    /// The table of workspaces.
    pub workspaces: Workspaces,
    /// Who is logged in.
    pub sessions: Sessions,
    /// Who comes without a browser.
    pub tokens: Tokens,
    /// What is known of them beside.
    pub machines: Machines,
    /// Who has which label.
    pub users: Users,
    /// Which hand-off tickets were used.
    pub tickets: Tickets,
    /// Who tells who somebody is.
    pub providers: Providers,
    /// Asks them anew about somebody.
    pub refresh: Wishes,
    /// What cookies and tickets are sealed with.
    pub keys: Keys,
    /// Which certificate a host is shown.
    pub resolver: certs::Resolver,
    /// What authorities are answered that ask over HTTP.
    pub challenges: certs::HttpChallenges,
    /// What tells workspaces who asks.
    pub assertions: Assertions,
    /// The origins that the listeners serve.
    pub origins: Origins,
    /// What operators want of certificates; none is configured = none.
    pub certificates: Option<Operations>,
    /// How much addresses and users may ask for.
    pub limits: Limits,
    /// What is counted.
    pub metrics: Metrics,
    /// What is told of who did what.
    pub audit: Audit,
    /// Cancelled when a drain begins: readiness fails, new connections stop after `drain.delay`.
    pub draining: CancellationToken,
    /// Cancelled when WebSockets that are still open shall close with 1012: wait with [`Edge::tunnel_turn`].
    pub close_tunnels: CancellationToken,
    /// The other steps of a drain, and the connections that it waits for.
    pub drain: Drain,
}

/// What the accept loop knows of the listener that a connection came in by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListenerFacts {
    /// Whether browsers speak TLS to it, or to where it leads.
    pub tls: bool,
    /// The port that browsers use: `public_port`, or the one bound; that to which it leads.
    pub public_port: u16,
    /// Whether it is bound to a loopback address: only then is the development login served.
    pub loopback: bool,
    /// Whether it serves nothing but the way to a listener with `https`, of which the other facts are then.
    pub redirects: bool,
}

impl ListenerFacts {
    /// The origin of a host as browsers see it through this listener: `http://alice.lab.localhost:8080`;
    /// the default port is left out (RFC 6454 §6.1).
    pub fn origin(&self, host: &str) -> String {
        let (scheme, default) = if self.tls { ("https", 443) } else { ("http", 80) };
        if self.public_port == default {
            format!("{scheme}://{host}")
        } else {
            format!("{scheme}://{host}:{}", self.public_port)
        }
    }
}

/// The listeners that this process serves, once bound.
#[derive(Debug, Clone, Default)]
pub struct Origins(pub Vec<ListenerFacts>);
