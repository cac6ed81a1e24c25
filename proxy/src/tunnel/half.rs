//! One direction of a tunnel: bytes are kept only while the other side cannot take them.

use crate::tunnel::frames::{Chunk, Frames, Sender, Violation};
use std::cell::RefCell;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// How long bytes may wait while the other side takes none.
pub(super) const STALL_MAX: Duration = Duration::from_secs(60);
/// As much as a TLS record holds. One buffer a thread: an idle tunnel has none.
const READ_MAX: usize = 16 * 1024;

thread_local!(static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_MAX].into()));

/// Why a direction ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The sender broke the protocol.
    Violation(Violation),
    /// The receiver took nothing for [`STALL_MAX`].
    Stalled,
    /// The sender's connection failed.
    Unreadable,
    /// The receiver's connection failed.
    Unwritable,
    /// The sender may not send so much; the chunk that was too much goes nowhere.
    Limited,
}

/// One direction.
pub(super) struct Half {
    pub(super) frames: Frames,
    /// What the receiver could not take: `rest[at..]`.
    rest: Vec<u8>,
    at: usize,
    /// Written and not flushed.
    unflushed: bool,
    ended: bool,
    /// Runs while bytes wait; `moved` says that some were taken since it was set.
    stall: Option<Pin<Box<Sleep>>>,
    moved: bool,
    /// How many bytes the receiver's connection took.
    pub(super) written: u64,
}

impl Half {
    pub(super) fn new(sender: Sender, reserved: u8) -> Self {
        Self {
            frames: Frames::new(sender, reserved),
            rest: Vec::new(),
            at: 0,
            unflushed: false,
            ended: false,
            stall: None,
            moved: false,
            written: 0,
        }
    }

    /// Takes bytes in as if they had just been read; nothing is written yet.
    pub(super) fn preload(
        &mut self,
        bytes: &[u8],
        saw: impl Fn(&Chunk) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let chunk = self.frames.feed(bytes, false);
        saw(&chunk)?;
        self.rest.extend_from_slice(&bytes[..chunk.used]);
        chunk.violation.map_or(Ok(()), |violation| Err(Fault::Violation(violation)))
    }

    /// Puts a frame of ours behind the sender's last one. The caller has seen that it ended.
    pub(super) fn append(&mut self, frame: &[u8]) {
        self.rest.extend_from_slice(frame);
    }

    /// Carries bytes until none come. Ready when the sender has ended and all was written, or, with
    /// `to_boundary`, when the sender's frame has ended; what it sends behind it is dropped.
    pub(super) fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        (from, to): (&mut R, &mut W),
        to_boundary: bool,
        saw: impl Fn(&Chunk) -> Result<(), Fault>,
    ) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if self.poll_rest(cx, to)?.is_pending() {
                return self.poll_stall(cx);
            }
            if self.ended || (to_boundary && self.frames.at_boundary()) {
                return self.poll_flushed(cx, to);
            }
            if self.poll_chunk(cx, from, to, to_boundary, &saw)?.is_pending() {
                // Both are waited for: the reader for more, the writer for what it has.
                let _ = self.poll_flushed(cx, to)?;
                return Poll::Pending;
            }
        }
    }

    /// Writes out and flushes all that was read or appended.
    pub(super) fn poll_flushed<W>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<Result<(), Fault>>
    where
        W: AsyncWrite + Unpin,
    {
        if self.poll_rest(cx, to)?.is_pending() {
            return self.poll_stall(cx);
        }
        if self.unflushed {
            if Pin::new(&mut *to).poll_flush(cx).map_err(|_| Fault::Unwritable)?.is_pending() {
                return self.poll_stall(cx);
            }
            self.unflushed = false;
        }
        self.stall = None;
        Poll::Ready(Ok(()))
    }

    fn poll_rest<W>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<Result<(), Fault>>
    where
        W: AsyncWrite + Unpin,
    {
        while self.at < self.rest.len() {
            let written = Pin::new(&mut *to).poll_write(cx, &self.rest[self.at..]);
            self.at += self.took(ready!(written))?;
        }
        if self.at > 0 {
            (self.rest, self.at) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    /// Notes how many bytes the receiver took; one that takes none for ever is as good as gone.
    fn took(&mut self, written: io::Result<usize>) -> Result<usize, Fault> {
        match written {
            Err(_) | Ok(0) => Err(Fault::Unwritable),
            Ok(written) => {
                self.written += written as u64;
                self.unflushed = true;
                self.moved = true;
                Ok(written)
            }
        }
    }

    /// Bytes wait. The clock is set once and looked at when it rings, so that progress costs nothing.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        let stall = self.stall.get_or_insert_with(|| {
            self.moved = false;
            Box::pin(tokio::time::sleep(STALL_MAX))
        });
        while stall.as_mut().poll(cx).is_ready() {
            if !self.moved {
                return Poll::Ready(Err(Fault::Stalled));
            }
            self.moved = false;
            *stall = Box::pin(tokio::time::sleep(STALL_MAX));
        }
        Poll::Pending
    }

    /// Reads once and writes what can be written; the rest is kept.
    fn poll_chunk<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        to_boundary: bool,
        saw: &impl Fn(&Chunk) -> Result<(), Fault>,
    ) -> Poll<Result<(), Fault>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        BUFFER.with_borrow_mut(|buffer| {
            let bytes = ready!(poll_read(cx, from, buffer)).map_err(|_| Fault::Unreadable)?;
            if bytes.is_empty() {
                self.ended = true;
                return Poll::Ready(Ok(()));
            }
            let chunk = self.frames.feed(bytes, to_boundary);
            saw(&chunk)?;
            let mut left = &bytes[..chunk.used];
            while !left.is_empty() {
                match Pin::new(&mut *to).poll_write(cx, left) {
                    Poll::Ready(written) => left = &left[self.took(written)?..],
                    Poll::Pending => {
                        self.rest = left.to_vec();
                        break;
                    }
                }
            }
            Poll::Ready(chunk.violation.map_or(Ok(()), |violation| Err(Fault::Violation(violation))))
        })
    }
}

/// Reads and throws away until the sender ends or, if its frames are still read, sends a Close.
pub(super) fn poll_discard<R>(cx: &mut Context<'_>, from: &mut R, mut frames: Option<&mut Frames>) -> Poll<()>
where
    R: AsyncRead + Unpin,
{
    BUFFER.with_borrow_mut(|buffer| {
        loop {
            match ready!(poll_read(cx, from, buffer)) {
                Ok(bytes) if !bytes.is_empty() => {
                    if let Some(frames) = &mut frames {
                        let broken = frames.feed(bytes, false).violation.is_some();
                        if frames.closed() || broken {
                            return Poll::Ready(());
                        }
                    }
                }
                _ => return Poll::Ready(()),
            }
        }
    })
}

/// One read; empty = the end. A TLS peer that leaves without a word has left, no more.
fn poll_read<'b, R>(cx: &mut Context<'_>, from: &mut R, buffer: &'b mut [u8]) -> Poll<io::Result<&'b [u8]>>
where
    R: AsyncRead + Unpin,
{
    let mut read = ReadBuf::new(buffer);
    match ready!(Pin::new(from).poll_read(cx, &mut read)) {
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Poll::Ready(Err(error)),
        _ => {
            let filled = read.filled().len();
            Poll::Ready(Ok(&buffer[..filled]))
        }
    }
}
