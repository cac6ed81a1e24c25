//! The phases of a request, in order. The file to read first.

pub mod authenticate;
pub mod authorise;
pub mod ensure;
pub mod isolate;
pub mod limit;
pub mod route;

use crate::edge::Edge;
use crate::machines;
use crate::refusal::Refusal;
use crate::request::{Arrival, Request};
use authorise::Permit;
use config::Config;
use ensure::Waiting;
use route::Place;

/// What becomes of a request that was not refused.
#[derive(Debug)]
pub enum Verdict {
    /// It goes to a workspace.
    Forward(Forward),
    /// One of our own endpoints answers it.
    Own(Own),
    /// Its workspace is not ready.
    Wait(Waiting),
}

/// A request on its way to a workspace.
#[derive(Debug)]
pub struct Forward {
    /// Who may do it.
    pub permit: Permit,
    /// Where it goes.
    pub route: control::Route,
    /// How it came.
    pub arrival: Arrival,
    /// Another port of the workspace than its own, if the host names one.
    pub port: Option<u16>,
    /// Where its use is counted.
    pub activity: std::sync::Arc<control::Activity>,
    /// How long a new connection is waited for while the table is blind; what is open and pooled is used meanwhile.
    pub patience: std::time::Duration,
    /// Whether it counts as use (`background` of the template does not).
    pub counts: bool,
}

/// A request to one of our own endpoints: which host's, and whose.
#[derive(Debug)]
pub struct Own {
    /// Portal or workspace host.
    pub place: Place,
    /// Who asks, if they are known.
    pub caller: Option<authenticate::Caller>,
}

/// Decides what becomes of a request: the only way to an upstream, for HTTP and WebSocket alike.
///
/// # Errors
/// The refusal, by the first phase that refuses.
pub async fn admit(edge: &Edge, config: &Config, request: &Request<'_>) -> Result<Verdict, Refusal> {
    let place = route::place(edge, config, request)?;
    limit::address(edge, config, request)?;
    route::served_here(request)?;
    let bearer = machines::shown(edge, config, request)?;
    isolate::check(config, &place, request, bearer.is_some())?;
    let caller = match bearer {
        Some(bearer) => Some(machines::caller(edge, config, &place, request, bearer).await?),
        None => authenticate::caller(edge, &place, request).await?,
    };
    limit::user(edge, config, caller.as_ref(), request)?;
    authenticate::touch(edge, &place, caller.as_ref(), request);
    if place.is_own(request) || place.withholds_worker(edge, config, caller.as_ref(), request) {
        return Ok(Verdict::Own(Own { place, caller }));
    }
    let permit = authorise::permit(edge, config, place, caller, request)?;
    ensure::upstream(edge, config, permit, request).await
}

#[cfg(test)]
mod tests;
