//! Bytes both ways after the 101, until one side ends or the edge has a reason to.

use crate::tunnel::frames::{Chunk, Sender, close_frame};
use crate::tunnel::half::{Fault, Half, poll_discard};
use crate::tunnel::messages::MessageLimit;
use crate::witness::Witness;
use control::{Activity, UseMark};
use prometheus::IntCounter;
use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Sleep, timeout};

/// How long a workspace may take to end the frame that it is sending, before the client is cut off inside it.
const BOUNDARY_PATIENCE: Duration = Duration::from_secs(2);
/// How long a client may take to answer our Close (RFC 6455 §7.1.1 lets the server close first).
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);
/// How long the workspace's last bytes are waited for after the client has ended, without a Close of its own.
const HALF_CLOSED_MAX: Duration = Duration::from_secs(10);

/// Why a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// One side closed.
    Closed,
    /// The workspace ended without a Close frame.
    Vanished,
    /// The client broke the protocol.
    ClientViolation(&'static str),
    /// The workspace broke the protocol.
    WorkspaceViolation(&'static str),
    /// The client sent more messages than its user may.
    Limited,
    /// One side took no bytes for too long.
    Stalled,
    /// A connection failed.
    Failed,
    /// The session ended.
    SessionEnded,
    /// The workspace was stopped.
    Stopped,
    /// The workspace is somebody else's now.
    NotAllowed,
    /// Usher drains.
    Drained,
}

impl End {
    /// The Close frame by which the client is told; none where there is nothing to tell, or nobody to listen.
    /// `why` is the reason of [`End::Stopped`] and [`End::NotAllowed`].
    fn close(self, why: &str) -> Option<Vec<u8>> {
        let (code, reason) = match self {
            Self::ClientViolation(rule) => (1002, rule),
            Self::WorkspaceViolation(_) => (1011, "the workspace broke the WebSocket protocol"),
            Self::Limited => (1008, "too many messages"),
            Self::Stalled => (1008, "no bytes were taken for too long"),
            Self::SessionEnded => (4401, "the session has ended"),
            Self::Stopped => (4503, why),
            Self::NotAllowed => (4403, why),
            Self::Drained => (1012, "usher is restarting"),
            Self::Closed | Self::Vanished | Self::Failed => return None,
        };
        Some(close_frame(code, reason))
    }
}

/// Where the frames of a tunnel are counted.
#[derive(Debug)]
pub(super) struct Tally {
    /// The use of the workspace and of the session; none for a tunnel that is the application's own background.
    pub(super) uses: Option<(Arc<Activity>, UseMark)>,
    pub(super) client_frames: IntCounter,
    pub(super) workspace_frames: IntCounter,
    /// The workspace's connection, of which nothing but its use is asked. Boxed: a tunnel is small.
    pub(super) witness: Option<Box<Witness>>,
    /// How many messages the client may send; none = any number. Boxed, too.
    pub(super) messages: Option<Box<MessageLimit>>,
}

impl Tally {
    /// The clock is read two or three times a chunk, however many frames it holds.
    fn saw(&self, sender: Sender, chunk: &Chunk) -> Result<(), Fault> {
        if let Some(witness) = &self.witness {
            witness.carried(Instant::now());
        }
        let frames = match sender {
            Sender::Client => &self.client_frames,
            Sender::Workspace => &self.workspace_frames,
        };
        if chunk.data_frames > 0 {
            frames.inc_by(u64::from(chunk.data_frames));
        }
        if let (Some(limit), Sender::Client) = (&self.messages, sender)
            && !limit.admits(chunk.data_frames, Instant::now())
        {
            return Err(Fault::Limited);
        }
        match (&self.uses, sender) {
            (Some((activity, session)), Sender::Client) if chunk.data => {
                activity.client_frame();
                session.touch();
            }
            // What the workspace sends by itself shows nothing of the person.
            (Some((activity, _)), Sender::Workspace) if chunk.data => activity.workspace_frame(),
            _ => {}
        }
        Ok(())
    }
}

/// Both connections of a tunnel and what is between them.
pub(super) struct Relay<C, W> {
    client: C,
    workspace: W,
    up: Half,
    down: Half,
    tally: Tally,
    /// Set once the client has ended and the workspace was told so.
    half_closed: Option<Pin<Box<Sleep>>>,
    /// Whether a Close of ours is on its way to the client.
    told: bool,
}

impl<C, W> Relay<C, W>
where
    C: AsyncRead + AsyncWrite + Unpin,
    W: AsyncRead + AsyncWrite + Unpin,
{
    /// Over two connections whose handshake is complete. `reserved`: the bits that extensions use.
    pub(super) fn new(client: C, workspace: W, reserved: u8, tally: Tally) -> Self {
        Self {
            client,
            workspace,
            up: Half::new(Sender::Client, reserved),
            down: Half::new(Sender::Workspace, reserved),
            tally,
            half_closed: None,
            told: false,
        }
    }

    /// Sends the 101 before anything else, in one write with what follows it at once.
    pub(super) fn greet(&mut self, head: Vec<u8>) {
        self.down.append(&head);
    }

    /// How many bytes the client's connection took, the 101 included.
    pub(super) fn bytes_to_client(&self) -> u64 {
        self.down.written
    }

    /// Carries what came with the 101, then everything, until one side ends. What was read is not lost when the
    /// future is dropped: [`Relay::close`] goes on from there.
    pub(super) async fn run(&mut self, early: Vec<u8>) -> End {
        if !early.is_empty() {
            let tally = &self.tally;
            if let Err(fault) = self.down.preload(&early, |chunk| tally.saw(Sender::Workspace, chunk)) {
                return end_of(Sender::Workspace, fault);
            }
        }
        // Empty or not, it has the space in which the workspace's answer was read.
        drop(early);
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if self.half_closed.is_none()
            && let Poll::Ready(end) = self.poll_up(cx)
        {
            return Poll::Ready(end);
        }
        let Self { client, workspace, up, down, tally, half_closed, .. } = self;
        match down.poll(cx, (workspace, client), false, |chunk| tally.saw(Sender::Workspace, chunk)) {
            Poll::Ready(Err(fault)) => return Poll::Ready(end_of(Sender::Workspace, fault)),
            Poll::Ready(Ok(())) if down.frames.closed() || up.frames.closed() => {
                return Poll::Ready(End::Closed);
            }
            Poll::Ready(Ok(())) => return Poll::Ready(End::Vanished),
            Poll::Pending => {}
        }
        match half_closed {
            Some(patience) => patience.as_mut().poll(cx).map(|()| End::Closed),
            None => Poll::Pending,
        }
    }

    /// The client's direction. When nothing more can go up, the workspace's last words are still carried down.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let Self { client, workspace, up, tally, .. } = self;
        match ready!(up.poll(cx, (client, workspace), false, |chunk| tally.saw(Sender::Client, chunk))) {
            Ok(()) => {
                // Should it fail, the workspace has gone, and reading from it will tell.
                let _ = ready!(Pin::new(workspace).poll_shutdown(cx));
            }
            Err(Fault::Unwritable) => {}
            Err(fault) => return Poll::Ready(end_of(Sender::Client, fault)),
        }
        self.half_closed = Some(Box::pin(tokio::time::sleep(HALF_CLOSED_MAX)));
        Poll::Pending
    }

    /// Tells the client why, at a boundary between two frames, and waits for its answer, within bounds. What the
    /// client still sends goes nowhere; a frame that the workspace is sending may end first.
    pub(super) async fn close(&mut self, end: End, why: &str) {
        // What is not at a boundary after that gets no frame of ours: it would be read as payload.
        let _ = timeout(BOUNDARY_PATIENCE, poll_fn(|cx| self.poll_boundary(cx))).await;
        if self.down.frames.at_boundary()
            && !self.down.frames.closed()
            && let Some(frame) = end.close(why)
        {
            self.down.append(&frame);
            self.told = true;
        }
        // A client that does not answer, or takes nothing, is cut off.
        let _ = timeout(CLOSE_PATIENCE, self.farewell(end)).await;
    }

    fn poll_boundary(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.down.frames.at_boundary() {
            return Poll::Ready(());
        }
        let Self { client, workspace, down, tally, .. } = self;
        // A fault ends the wait, too.
        down.poll(cx, (workspace, client), true, |chunk| tally.saw(Sender::Workspace, chunk)).map(|_| ())
    }

    async fn farewell(&mut self, end: End) {
        let Self { client, up, down, told, .. } = self;
        if poll_fn(|cx| down.poll_flushed(cx, client)).await.is_err() {
            return;
        }
        // After a violation its frames cannot be read any more.
        let answers = (*told || down.frames.closed()) && !matches!(end, End::ClientViolation(_));
        if answers && !up.frames.closed() {
            poll_fn(|cx| poll_discard(cx, client, Some(&mut up.frames))).await;
        }
        if client.shutdown().await.is_ok() {
            // Closing on unread bytes would reset the connection, and with it our last frame on its way.
            poll_fn(|cx| poll_discard(cx, client, None)).await;
        }
    }
}

/// What a fault in the bytes of one sender means for the tunnel.
fn end_of(sender: Sender, fault: Fault) -> End {
    match (fault, sender) {
        (Fault::Violation(rule), Sender::Client) => End::ClientViolation(rule.0),
        (Fault::Violation(rule), Sender::Workspace) => End::WorkspaceViolation(rule.0),
        (Fault::Stalled, _) => End::Stalled,
        (Fault::Limited, _) => End::Limited,
        (Fault::Unreadable, Sender::Workspace) => End::Vanished,
        (Fault::Unreadable | Fault::Unwritable, _) => End::Failed,
    }
}
