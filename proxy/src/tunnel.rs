//! A WebSocket after its admission: the workspace's handshake is checked, then bytes go both ways, frames told
//! apart.
//!
//! Why not Pingora's own way: it tears 2–6 % of upgrades down right after a fast 101 (cloudflare/pingora #946),
//! keeps 80 KiB for an idle socket and cannot put a Close frame between two frames.
//!
//! A live session is looked at again by whoever sweeps the sessions, once a minute: that cancels
//! [`control::Session::ended`], on which every tunnel waits. No tunnel has a clock of its own for it.

mod body;
mod frames;
mod half;
mod handshake;
mod messages;
mod relay;

pub use relay::End;

use crate::access::Forward;
use crate::access::authorise::Permit;
use crate::access::ensure::is_of;
use crate::connection::{Conn, ConnectionFacts};
use crate::dial::{Dial, DialError, Dialled};
use crate::edge::Edge;
use crate::head::speak_for_site;
use crate::limits::Meter;
use crate::metrics::TunnelEnd;
use crate::refusal::{self, Code, Reader, Refusal};
use crate::{answer, dial, upstream};
use bytes::Bytes;
use config::{HostName, WorkspaceId};
use control::{Activity, Entry, IdentityRef, Phase, Session};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use handshake::{Answer, Opened, unusable};
use http::StatusCode;
use messages::MessageLimit;
use pingora::http::{RequestHeader, ResponseHeader};
use prometheus::IntGauge;
use relay::{Relay, Tally};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long a workspace may take for its handshake. JupyterLab answers only when the kernel does, for which it
/// waits a minute itself.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(90);
/// How long an answer other than a 101 may take to leave.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long after a workspace vanished the news of its end may take: then the client is told the reason.
const NEWS_PATIENCE: Duration = Duration::from_secs(1);

/// An admitted WebSocket upgrade, handed from Pingora's phases to the accept loop.
#[derive(Debug)]
pub struct Upgrade {
    /// The head for the workspace, built by [`crate::head::to_upstream`].
    pub head: RequestHeader,
    /// What was admitted.
    pub forward: Forward,
    /// What the client's messages are counted in.
    pub messages: Arc<Meter>,
    /// The request's id, for a problem document.
    pub request_id: Arc<str>,
}

/// What became of an upgrade, for the request's event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// The status that the client got; none if it left before.
    pub status: Option<StatusCode>,
    /// What it was refused with, if the workspace gave no answer to pass on.
    pub refusal: Option<Code>,
    /// Bytes to the client: of a body, or of frames with their 101.
    pub bytes_sent: u64,
    /// Why the tunnel ended; none if it never opened.
    pub end: Option<End>,
}

/// Carries an admitted upgrade to its end: dials, checks the 101, then bytes both ways.
///
/// The end of the instance (4503, or 4403 where it is somebody else's now), of the session (4401) and a drain (1012)
/// close it at a frame boundary.
/// Dropped, it closes both connections at once.
pub fn run(conn: Conn, upgrade: Upgrade, edge: Arc<Edge>) -> impl Future<Output = Outcome> + Send {
    // Boxed before the future exists, so that a tunnel of many hours does not keep the space of its beginning.
    let beginning = Box::pin(begin(conn, upgrade, edge.clone()));
    async move {
        let Begun { mut relay, greeting, early, endings, told, session, _open } = match beginning.await {
            Ok(begun) => *begun,
            Err(outcome) => {
                edge.metrics.tunnel_ended(TunnelEnd::NotOpened);
                return outcome;
            }
        };
        relay.greet(greeting);
        let stopped = || how_stopped(edge.workspaces.lookup(&endings.id).as_deref(), session.identity());
        let end = carry(&mut relay, early, &endings, told, stopped).await;
        edge.metrics.tunnel_ended(label(end));
        Outcome {
            status: Some(StatusCode::SWITCHING_PROTOCOLS),
            refusal: None,
            bytes_sent: relay.bytes_to_client(),
            end: Some(end),
        }
    }
}

/// An open tunnel that has carried nothing yet.
struct Begun {
    relay: Relay<Conn, dial::Stream>,
    greeting: Vec<u8>,
    early: Vec<u8>,
    endings: Endings,
    /// The end that has nothing to do with the workspace.
    told: BoxFuture<'static, End>,
    session: Arc<Session>,
    _open: OpenTunnel,
}

async fn begin(mut conn: Conn, upgrade: Upgrade, edge: Arc<Edge>) -> Result<Box<Begun>, Outcome> {
    let Upgrade { head, forward, messages, request_id } = upgrade;
    let endings = Endings::of(&forward);
    let address = upstream::address(&forward.route.address, forward.port);
    let config = edge.config.load_full();
    let dial = Dial::of(edge.clone(), config.clone(), &forward);
    let opening = open(&mut conn, dial.open(&address), &head, &config.domain, &endings).await;
    let facts = conn.link().facts().clone();
    let settled = settle(&mut conn, &facts, opening, &request_id).await?;
    let (Dialled { stream: workspace, witness }, opened) = settled;
    let activity = forward.counts.then_some(forward.activity);
    let session = forward.permit.caller().session.clone();
    let tally = Tally {
        uses: activity.clone().map(|activity| (activity, session.use_mark())),
        client_frames: edge.metrics.client_frames.clone(),
        workspace_frames: edge.metrics.workspace_frames.clone(),
        messages: Some(Box::new(MessageLimit::new(edge.clone(), session.clone(), messages))),
        witness: witness.map(Box::new),
    };
    Ok(Box::new(Begun {
        relay: Relay::new(conn, workspace, opened.reserved, tally),
        greeting: answer::to_wire(&opened.head),
        early: opened.early,
        endings,
        told: told(edge.clone(), forward.permit),
        session,
        _open: OpenTunnel::new(activity, &edge.metrics.tunnels_open),
    }))
}

/// What ends a tunnel from outside.
struct Endings {
    route: CancellationToken,
    session: CancellationToken,
    /// Whose table entry says why the route ended. Boxed: a tunnel is small, and there are many.
    id: Box<WorkspaceId>,
}

impl Endings {
    fn of(forward: &Forward) -> Self {
        Self {
            route: forward.route.ended.clone(),
            session: forward.permit.caller().session.ended().token(),
            id: Box::new(forward.permit.id().clone()),
        }
    }
}

/// Completes in a drain, or when a rule does not let the user in any more.
fn told(edge: Arc<Edge>, permit: Permit) -> BoxFuture<'static, End> {
    if !permit.is_by_rule() {
        return async move { edge.tunnel_turn().map(|()| End::Drained).await }.boxed();
    }
    async move {
        let forbidden = Box::pin(forbidden(&edge, permit));
        tokio::select! {
            () = edge.tunnel_turn() => End::Drained,
            () = forbidden => End::NotAllowed,
        }
    }
    .boxed()
}

/// Asks the rule that gave a permit again whenever it may say something else, until it says no.
async fn forbidden(edge: &Edge, mut permit: Permit) {
    loop {
        permit.caller().session.changed().token().cancelled().await;
        match permit.renewed(edge, &edge.config.load()) {
            Some(renewed) => permit = renewed,
            None => return,
        }
    }
}

/// What the end of the route means and the reason that the client is told, by the table as it is then.
fn how_stopped(entry: Option<&Entry>, user: IdentityRef<'_>) -> (End, String) {
    let reason = match entry {
        Some(entry) if !is_of(user, entry) => {
            return (End::NotAllowed, "This workspace is somebody else's now.".to_owned());
        }
        // What ended it is why another is being started in its place.
        Some(Entry {
            phase: Phase::Failed { cause, .. } | Phase::Starting { trouble: Some(cause), .. },
            ..
        }) => cause.detail.clone(),
        Some(Entry { stopped: Some(reason), .. }) => reason.sentence().to_owned(),
        Some(entry)
            if entry.id.route().is_some()
                && !matches!(entry.phase, Phase::Stopped | Phase::Stopping { .. }) =>
        {
            "The pod that served this has ended; another takes its place.".to_owned()
        }
        // It ended by itself, or was ended by another hand than ours.
        _ => "The workspace has ended.".to_owned(),
    };
    (End::Stopped, reason)
}

/// Counts an open tunnel for as long as it lives.
struct OpenTunnel(Option<Arc<Activity>>, IntGauge);

impl OpenTunnel {
    fn new(activity: Option<Arc<Activity>>, open: &IntGauge) -> Self {
        open.inc();
        if let Some(activity) = &activity {
            activity.socket(true);
        }
        Self(activity, open.clone())
    }
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.1.dec();
        if let Some(activity) = &self.0 {
            activity.socket(false);
        }
    }
}

fn label(end: End) -> TunnelEnd {
    match end {
        End::Closed | End::Vanished => TunnelEnd::Closed,
        End::ClientViolation(_) | End::WorkspaceViolation(_) | End::Limited => TunnelEnd::Violation,
        End::Stalled | End::Failed => TunnelEnd::Failed,
        End::SessionEnded => TunnelEnd::Session,
        End::Stopped => TunnelEnd::Stopped,
        End::NotAllowed => TunnelEnd::NotAllowed,
        End::Drained => TunnelEnd::Drained,
    }
}

/// What the opening of a tunnel led to, before the client is told.
enum Opening {
    /// The workspace answered.
    Answered(Dialled, Answer),
    /// It did not, or not well.
    Refused(Refusal),
    /// The client left, or spoke before its turn.
    Abandoned,
}

/// Dials the workspace and reads its answer, for as long as the client silently waits for it.
async fn open<C>(
    client: &mut C,
    dialled: impl Future<Output = Result<Dialled, DialError>>,
    head: &RequestHeader,
    base: &HostName,
    endings: &Endings,
) -> Opening
where
    C: AsyncRead + Unpin,
{
    let handshake = async {
        let mut dialled = dialled.await.map_err(|error| error.refusal())?;
        let answer = timeout(HANDSHAKE_TIMEOUT, handshake::open(&mut dialled.stream, head, base)).await;
        let answer = answer.map_err(|_| unusable("The workspace did not answer the upgrade in time."))??;
        Ok((dialled, answer))
    };
    let mut byte = [0];
    tokio::select! {
        biased;
        _ = client.read(&mut byte) => Opening::Abandoned,
        () = endings.route.cancelled() => Opening::Refused(Refusal::new(Code::WorkspaceStopped)),
        () = endings.session.cancelled() => Opening::Refused(Refusal::new(Code::Unauthenticated)),
        answered = handshake => match answered {
            Ok((dialled, answer)) => Opening::Answered(dialled, answer),
            Err(refusal) => Opening::Refused(refusal),
        },
    }
}

/// Gives back what is needed to carry frames; or answers the client once and ends its connection.
async fn settle<C>(
    client: &mut C,
    connection: &ConnectionFacts,
    opening: Opening,
    request_id: &str,
) -> Result<(Dialled, Box<Opened>), Outcome>
where
    C: AsyncWrite + Unpin,
{
    let (head, body, refusal) = match opening {
        Opening::Answered(dialled, Answer::Open(mut opened)) => {
            speak_for_site(&mut opened.head, connection);
            return Ok((dialled, opened));
        }
        Opening::Answered(_, Answer::Other(mut head, body)) => {
            speak_for_site(&mut head, connection);
            (*head, body, None)
        }
        Opening::Refused(refusal) => {
            let reader = Reader::program(request_id);
            let (head, body) = answer::last(refusal::answer(&refusal, &reader), connection);
            (head, body, Some(refusal.code))
        }
        Opening::Abandoned => {
            return Err(Outcome { status: None, refusal: None, bytes_sent: 0, end: None });
        }
    };
    let sent = timeout(ANSWER_TIMEOUT, send_once(client, &head, &body)).await;
    let status = matches!(sent, Ok(Ok(()))).then_some(head.status);
    Err(Outcome { status, refusal, bytes_sent: body.len() as u64, end: None })
}

async fn send_once<C>(client: &mut C, head: &ResponseHeader, body: &Bytes) -> io::Result<()>
where
    C: AsyncWrite + Unpin,
{
    client.write_all(&answer::to_wire(head)).await?;
    client.write_all(body).await?;
    client.flush().await?;
    client.shutdown().await
}

/// Carries frames until one side ends or the edge has a reason to, and says goodbye.
async fn carry<C, W>(
    relay: &mut Relay<C, W>,
    early: Vec<u8>,
    endings: &Endings,
    told: impl Future<Output = End>,
    stopped: impl Fn() -> (End, String),
) -> End
where
    C: AsyncRead + AsyncWrite + Unpin,
    W: AsyncRead + AsyncWrite + Unpin,
{
    let end = tokio::select! {
        biased;
        () = endings.route.cancelled() => End::Stopped,
        () = endings.session.cancelled() => End::SessionEnded,
        end = told => end,
        end = relay.run(early) => end,
    };
    let end = match end {
        End::Vanished if timeout(NEWS_PATIENCE, endings.route.cancelled()).await.is_ok() => End::Stopped,
        end => end,
    };
    let (end, why) = match end {
        End::Stopped => stopped(),
        End::NotAllowed => (end, "This is not open to you any more.".to_owned()),
        end => (end, String::new()),
    };
    if end != End::Failed {
        // Boxed: many hours keep no space for the last seconds.
        Box::pin(relay.close(end, &why)).await;
    }
    end
}

#[cfg(test)]
mod tests;
