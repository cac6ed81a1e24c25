//! Pingora's callbacks, translated to ours.

use crate::access::ensure::{How, Waiting};
use crate::access::{self, Forward, Verdict};
use crate::access::route::Place;
use crate::answer;
use crate::edge::Edge;
use crate::exchange::{Exchange, Handover, OpenResponse};
use crate::hold;
use crate::log::{self, PendingEvent};
use crate::metrics::PlaceLabel;
use crate::notice::{self, Injector};
use crate::own::{self, Asked, BadBody};
use crate::refusal::{self, Code, Refusal};
use crate::request::{self, Intent, Request};
use crate::tunnel::Upgrade;
use crate::{connection::Link, head, portal, upstream, workspace_host};
use async_trait::async_trait;
use axum::Router;
use bytes::Bytes;
use http::header::ACCEPT_ENCODING;
use http::{Response, StatusCode};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{FailToProxy, ProxyHttp, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};
use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long an HTTP/1.1 connection waits for its next request.
pub const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// The largest head that a workspace may answer with, in bytes.
const HEAD_MAX: usize = 32 * 1024;
/// How many interim answers (1xx) a workspace may send before its answer.
const INTERIM_MAX: u32 = 8;

/// The edge, as Pingora sees it. One per core.
pub struct Gateway {
    edge: Arc<Edge>,
    portal: Router,
    workspace_host: Router,
}

/// What becomes of a request next.
pub enum Next {
    /// It goes to its workspace.
    Forward(Forward),
    /// It leaves Pingora for a tunnel.
    Tunnel(Box<Upgrade>),
    /// A router of ours answers it.
    Own(Box<Asked>),
    /// It waits for its workspace.
    Hold(Box<Waiting>),
    /// This is the answer.
    Answer(Response<Bytes>),
}

impl Gateway {
    /// A gateway with routers of its own.
    pub fn new(edge: Arc<Edge>) -> Self {
        Self { portal: portal::router(edge.clone()), workspace_host: workspace_host::router(edge.clone()), edge }
    }

    async fn own(&self, session: &mut Session, exchange: &mut Exchange, asked: Asked) -> Result<()> {
        let router = match asked.own.place {
            Place::Portal => &self.portal,
            Place::Workspace { .. } => &self.workspace_host,
        };
        match own::read_body(session).await? {
            Ok(body) => own::answer(router, session, asked, body).await,
            Err(bad) => {
                let answer = exchange.answer(session.req_header(), &refused_body(bad));
                answer::send(session, answer).await
            }
        }
    }
}

/// Asks all phases what becomes of a request.
pub async fn judge(edge: &Edge, session: &Session, exchange: &mut Exchange) -> Next {
    todo!()
}
