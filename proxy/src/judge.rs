//! Between Pingora's session and the phases: parses, asks, and says what is to be done.

use crate::access::ensure::{How, Waiting};
use crate::access::route::Place;
use crate::access::{self, Forward, Verdict};
use crate::audit::{Entry, Event};
use crate::connection::ConnectionFacts;
use crate::edge::Edge;
use crate::exchange::Exchange;
use crate::metrics::PlaceLabel;
use crate::own::Asked;
use crate::refusal::{Code, Refusal};
use crate::request::{self, Request};
use crate::tunnel::Upgrade;
use crate::{challenge, head, workspace_host};
use bytes::Bytes;
use http::Response;
use pingora::proxy::Session;
use std::sync::Arc;
use std::time::SystemTime;

/// What becomes of a request next.
pub enum Next {
    /// It goes to its workspace.
    Forward(Box<Forward>),
    /// It leaves Pingora for a tunnel.
    Tunnel(Box<Upgrade>),
    /// A router of ours answers it.
    Own(Box<Asked>),
    /// It waits for its workspace.
    Hold(Box<Waiting>),
    /// This is the answer.
    Answer(Response<Bytes>),
}

/// Asks all phases what becomes of a request.
pub async fn judge(edge: &Edge, session: &mut Session, exchange: &mut Exchange) -> Next {
    let Some(connection) = exchange.connection() else {
        return Next::Answer(exchange.refuse(session.req_header(), &Refusal::new(Code::Internal)));
    };
    match next(edge, session, exchange, &connection).await {
        Ok(next) => next,
        Err(refusal) => {
            if matches!(refusal.code, Code::BadRequest | Code::MethodNotAllowed) {
                // What broke a rule of framing may hide a second request, and behind a CONNECT there is no HTTP.
                session.set_keepalive(None);
            }
            Next::Answer(exchange.refuse(session.req_header(), &refusal))
        }
    }
}

async fn next(
    edge: &Edge,
    session: &mut Session,
    exchange: &mut Exchange,
    connection: &ConnectionFacts,
) -> Result<Next, Refusal> {
    if let Some(http1) = session.as_http1() {
        request::check_raw(&http1.get_headers_raw_bytes())?;
    }
    let parsed = Request::parse(session.req_header(), connection)?;
    let request = Request { again: exchange.judged, id: exchange.id.clone(), ..parsed };
    exchange.judged = true;
    let config = exchange.config.clone();
    if let Some(answer) = challenge::answer(edge, &config, &request)? {
        exchange.place = PlaceLabel::Edge;
        return Ok(Next::Answer(answer));
    }
    Ok(match access::admit(edge, &config, &request).await? {
        Verdict::Own(own) => {
            exchange.place = match own.place {
                Place::Portal => PlaceLabel::Portal,
                Place::Workspace { .. } => PlaceLabel::Edge,
            };
            Next::Own(Box::new(Asked {
                own: Arc::new(own),
                method: request.head.method.clone(),
                intent: request.intent,
                connection: request.connection.clone(),
                host: request.host,
                config,
                request_id: exchange.id.clone(),
            }))
        }
        Verdict::Wait(waiting) => {
            if waiting.asked_first {
                let entry = Entry::done(Event::WorkspaceStart).at(connection.client.ip(), &exchange.id);
                edge.audit.record(entry.caller(waiting.permit.caller()).workspace(waiting.permit.id()));
            }
            exchange.admitted(&waiting.permit);
            match waiting.how {
                How::Page => Next::Answer(
                    workspace_host::waiting_page(edge, &request, waiting.permit.id(), waiting.woken).await,
                ),
                How::Hold => Next::Hold(Box::new(waiting)),
            }
        }
        Verdict::Forward(forward) => {
            exchange.admitted(&forward.permit);
            exchange.place = PlaceLabel::Workspace;
            if forward.counts {
                forward.activity.request();
            }
            if request.websocket {
                Next::Tunnel(Box::new(upgrade(edge, exchange, &request, forward)?))
            } else {
                Next::Forward(Box::new(forward))
            }
        }
    })
}

fn upgrade(
    edge: &Edge,
    exchange: &Exchange,
    request: &Request<'_>,
    forward: Forward,
) -> Result<Upgrade, Refusal> {
    let messages = edge.limits.messages(&exchange.config, &forward.permit.caller().session)?;
    let listener = &request.connection.listener;
    let told = edge.assertions.told(&forward.permit, &exchange.config, listener, SystemTime::now());
    let mut head = request.head.clone();
    head::to_upstream(&mut head, request.head, &forward, told);
    Ok(Upgrade { head, forward, messages, request_id: exchange.id.clone() })
}
