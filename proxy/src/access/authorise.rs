//! Phase 4: whether they may. The only file that can make a [`Permit`].

use crate::access::authenticate::Caller;
use crate::access::route::Place;
use crate::refusal::Refusal;
use crate::request::Request;
use config::{Config, TemplateName, WorkspaceId};

/// The proof that a caller may use a workspace.
#[derive(Debug)]
pub struct Permit {
    id: WorkspaceId,
    port: Option<u16>,
    caller: Caller,
    template: TemplateName,
    running_max: usize,
}

impl Permit {
    /// The workspace.
    pub fn id(&self) -> &WorkspaceId {
        &self.id
    }
    /// Another port of it.
    pub fn port(&self) -> Option<u16> {
        self.port
    }
    /// Who may.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
    /// The template for a workspace that has none yet.
    pub fn template(&self) -> &TemplateName {
        &self.template
    }
    /// How many of this user's may run at a time.
    pub fn running_max(&self) -> usize {
        self.running_max
    }
}

/// Lets the owner of a declared workspace in, by a port that its template allows.
///
/// # Errors
/// No caller: 302 to the portal's login for navigations, 401 with its address otherwise. Not theirs, not
/// declared, a port that is not allowed: one 404, the same for all.
pub fn permit(
    _config: &Config,
    _place: Place,
    _caller: Option<Caller>,
    _request: &Request<'_>,
) -> Result<Permit, Refusal> {
    todo!()
}
