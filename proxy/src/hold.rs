//! A request of a script whose workspace is on its way: held until it is ready, refused, or out of patience.

use crate::access::ensure::{ASK_AGAIN, Waiting};
use crate::connection::Conn;
use crate::edge::Edge;
use crate::exchange::Exchange;
use crate::judge::{Next, judge};
use crate::refusal::{Code, Refusal};
use config::WorkspaceId;
use control::Phase;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};
use tokio::time::{Instant, sleep_until};

/// Waits for the workspace to be ready, asking all phases anew whenever it stands somewhere else.
///
/// # Errors
/// The client left.
pub async fn hold(
    edge: &Edge,
    session: &mut Session,
    exchange: &mut Exchange,
    waiting: Waiting,
) -> Result<Next> {
    let deadline = Instant::now() + exchange.config.spawn.hold_timeout;
    let id = waiting.permit.id().clone();
    let mut changes = edge.workspaces.changes();
    let mut stood = None;
    loop {
        let stands = stands(edge, &id);
        if stood != Some(stands) {
            stood = Some(stands);
            match judge(edge, session, exchange).await {
                Next::Hold(_) => {}
                next => return Ok(next),
            }
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                return Ok(Next::Answer(exchange.refuse(session.req_header(), &Refusal::new(Code::Unavailable))));
            },
            () = sleep_until(deadline) => {
                let refusal = out_of_patience(edge, &id);
                return Ok(Next::Answer(exchange.refuse(session.req_header(), &refusal)));
            }
            gone = left(session) => return Err(gone),
        }
    }
}

/// Completes when the client left. Its body, of whatever size, waits meanwhile where it is.
async fn left(session: &mut Session) -> Box<Error> {
    if let Some(stream) = session.downstream_session.watch_h2_stream_close() {
        drop(stream.await);
    } else if let Some(conn) = session.stream().and_then(|stream| stream.as_any().downcast_ref::<Conn>()) {
        drop(conn.left().await);
    }
    Error::explain(ErrorType::ConnectionClosed, "the client left while it was held").into_down()
}

fn stands(edge: &Edge, id: &WorkspaceId) -> &'static str {
    edge.workspaces.lookup(id).map_or("stopped", |entry| entry.phase.as_str())
}

/// 503 with what the workspace is at.
fn out_of_patience(edge: &Edge, id: &WorkspaceId) -> Refusal {
    let detail = match edge.workspaces.lookup(id).map(|entry| entry.phase.clone()) {
        Some(Phase::Queued { position }) => format!("The workspace is queued, at position {position}."),
        Some(phase) => format!("The workspace is {}.", phase.as_str()),
        None => "The workspace is stopped.".to_owned(),
    };
    let seconds = u32::try_from(ASK_AGAIN.as_secs()).unwrap_or(u32::MAX);
    Refusal { retry_after: Some(seconds), ..Refusal::with(Code::Starting, detail) }
}
