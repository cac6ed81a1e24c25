//! Who may ask for what stands under `/.usher/`: the workspace's owner, or whoever may enter a route.

use super::{Host, refused, unasked};
use crate::access::authorise::{self, Permit};
use crate::access::ensure::may_reach;
use crate::own::Asked;
use crate::refusal::{Code, Refusal};
use crate::request::single;
use axum::body::Body;
use axum::extract::{FromRequestParts, Request};
use axum::http::header::ORIGIN;
use axum::http::request::Parts;
use axum::http::{Method, Response, Uri};
use config::RequestFacts;

/// The proof that an endpoint's caller owns the workspace, or may enter the route, with what is known of the request.
pub(super) struct Owner {
    pub(super) permit: Permit,
    pub(super) asked: Asked,
    pub(super) method: Method,
    pub(super) uri: Uri,
}

impl Owner {
    /// What the rules see of this request.
    pub(super) fn facts(&self) -> RequestFacts {
        facts(&self.asked, &self.method, &self.uri)
    }

    /// The origin of the host asked for.
    pub(super) fn origin(&self) -> String {
        self.asked.connection.listener.origin(self.asked.host.as_str())
    }

    /// A refusal, as this client understands it.
    pub(super) fn refused(&self, refusal: &Refusal) -> Response<Body> {
        refused(&self.asked, refusal)
    }
}

impl FromRequestParts<Host> for Owner {
    type Rejection = Response<Body>;

    async fn from_request_parts(parts: &mut Parts, host: &Host) -> Result<Self, Self::Rejection> {
        let Some(asked) = parts.extensions.get::<Asked>().cloned() else { return Err(unasked()) };
        let Some(caller) = &asked.own.caller else {
            let page = parts.uri.path_and_query().map_or("/", |page| page.as_str());
            let Asked { config, host, connection, intent, .. } = &asked;
            let refusal = authorise::login_needed(config, host, &connection.listener, *intent, page);
            return Err(refused(&asked, &refusal));
        };
        let facts = || facts(&asked, &parts.method, &parts.uri);
        let permit = authorise::allowed(&host.edge, &asked.config, &asked.own.place, caller, facts);
        let permit = permit.and_then(|permit| {
            let entry = host.edge.workspaces.lookup(permit.id());
            may_reach(&asked.config, caller, entry.as_deref(), &asked.connection).map(|()| permit)
        });
        match permit {
            Ok(permit) => Ok(Self { permit, method: parts.method.clone(), uri: parts.uri.clone(), asked }),
            Err(refusal) => Err(refused(&asked, &refusal)),
        }
    }
}

/// An [`Owner`] whose browser says that a page of this very origin asks (never `Origin: null`), or who came by a token, which
/// no browser sends by itself.
///
/// It proves no human: the workspace's own code has that origin.
pub(super) struct SameOrigin(pub(super) Owner);

impl FromRequestParts<Host> for SameOrigin {
    type Rejection = Response<Body>;

    async fn from_request_parts(parts: &mut Parts, host: &Host) -> Result<Self, Self::Rejection> {
        let owner = Owner::from_request_parts(parts, host).await?;
        let origin = single(&parts.headers, &ORIGIN);
        let has_token = owner.permit.caller().bearer.is_some();
        if has_token || origin == Some(owner.origin().as_bytes()) {
            Ok(Self(owner))
        } else {
            Err(owner.refused(&Refusal::new(Code::CrossOrigin)))
        }
    }
}

/// Under `/.usher/` there is nothing else.
pub(super) async fn unknown(request: Request) -> Response<Body> {
    refuse(&request, Code::NotFound)
}

/// Right path, wrong method.
pub(super) async fn wrong_method(request: Request) -> Response<Body> {
    refuse(&request, Code::MethodNotAllowed)
}

fn refuse(request: &Request, code: Code) -> Response<Body> {
    match request.extensions().get::<Asked>() {
        Some(asked) => refused(asked, &Refusal::new(code)),
        None => unasked(),
    }
}

fn facts(asked: &Asked, method: &Method, uri: &Uri) -> RequestFacts {
    authorise::facts(&asked.host, method.as_str(), uri.path(), &asked.connection)
}
