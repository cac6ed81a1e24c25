//! A request of a script whose workspace is on its way: held until it is ready, refused, or out of patience.

use crate::access::ensure::{ASK_AGAIN, Waiting};
use crate::answer::DRAIN_MAX;
use crate::edge::Edge;
use crate::exchange::Exchange;
use crate::judge::{Next, judge};
use crate::refusal::{Code, Refusal};
use config::WorkspaceId;
use control::Phase;
use http::header::CONTENT_LENGTH;
use pingora::Result;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use std::future::pending;
use tokio::time::{Instant, sleep_until};

/// Waits for the workspace to be ready, asking all phases anew whenever it stands somewhere else.
///
/// A small body is read meanwhile and replayed; a larger one waits in the socket, or Pingora would lose it.
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
    let reads = body_fits(session.req_header());
    let mut changes = edge.workspaces.changes();
    let mut stood = None;
    if reads {
        session.enable_retry_buffering();
    }
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
            gone = left(session, reads) => return Err(gone),
        }
    }
}

/// Completes when the client left. Its body is read on the way if that is safe.
async fn left(session: &mut Session, reads: bool) -> Box<pingora::Error> {
    // Whether the client is still there shows only at the end of what it sent.
    while reads || session.is_body_done() {
        let done = session.is_body_done();
        if let Err(gone) = session.downstream_session.read_body_or_idle(done).await {
            return gone.into_down();
        }
    }
    pending().await
}

/// Whether the body is known to fit into Pingora's buffer for a replay, or there is none.
fn body_fits(head: &RequestHeader) -> bool {
    match head.headers.get(CONTENT_LENGTH) {
        Some(length) => {
            length.to_str().ok().and_then(|l| l.parse::<usize>().ok()).is_some_and(|l| l <= DRAIN_MAX)
        }
        None => false,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_body_of_known_and_small_length_is_read_while_it_waits() {
        for (length, fits) in
            [(Some("0"), true), (Some("65536"), true), (Some("65537"), false), (None, false)]
        {
            let mut head = RequestHeader::build("POST", b"/", None).unwrap();
            if let Some(length) = length {
                head.insert_header(CONTENT_LENGTH, length).unwrap();
            }
            assert_eq!(body_fits(&head), fits, "{length:?}");
        }
    }
}
