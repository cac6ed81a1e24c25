//! One accept loop, and what is set on every accepted socket.

use super::serve::Entrance;
use crate::drain::Slot;
use crate::listen::Door;
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// A silent peer is asked after so long, and again each [`KEEP_ALIVE_EVERY`]; after three without an answer it is gone.
const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(30);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMES: u32 = 3;
/// How long what was sent may be without acknowledgement, or the peer without taking more.
const USER_TIMEOUT: Duration = Duration::from_secs(60);
/// The wait after an accept that failed for want of descriptors or memory: the connection stays in the queue, and
/// trying again at once would only burn the core.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// The accept loop of one socket.
pub(super) struct Accept {
    entrance: Arc<Entrance>,
    listener: TcpListener,
    limit: usize,
    /// The process does not end while this loop accepts.
    _slot: Slot,
}

impl Accept {
    pub(super) fn new(entrance: Entrance, door: Door, limit: usize) -> io::Result<Self> {
        let socket = door.sockets.into_iter().next().ok_or(io::ErrorKind::NotFound)?;
        let listener = TcpListener::from_std(socket)?;
        Ok(Self { _slot: entrance.edge.drain.slot(None), entrance: Arc::new(entrance), listener, limit })
    }

    /// Accepts until the listeners close, then what still waits in this socket's own queue: closing resets it.
    pub(super) async fn run(self) {
        let closing = self.entrance.edge.drain.closing.clone();
        let closed = closing.cancelled();
        tokio::pin!(closed);
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut closed => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((tcp, client)) => self.admit(tcp, client),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "connections cannot be accepted for want of descriptors or memory");
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
        if let Err(error) = self.empty() {
            tracing::warn!(%error, "connections that waited in a closing listener were lost");
        }
    }

    /// Accepts what waits, from the queue itself: what tokio knows of its readiness may be old.
    fn empty(self) -> io::Result<()> {
        let Self { entrance, listener, limit, _slot } = self;
        let queue = listener.into_std()?;
        loop {
            match queue.accept() {
                Ok((tcp, client)) => {
                    tcp.set_nonblocking(true)?;
                    admit(&entrance, TcpStream::from_std(tcp)?, client, limit);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn admit(&self, tcp: TcpStream, client: SocketAddr) {
        admit(&self.entrance, tcp, client, self.limit);
    }
}

/// Gives a connection a task of its own, or closes it at once where too many are open.
fn admit(entrance: &Arc<Entrance>, tcp: TcpStream, client: SocketAddr, limit: usize) {
    let metrics = &entrance.edge.metrics;
    if entrance.edge.drain.slots() >= limit {
        metrics.connections_refused.inc();
        return;
    }
    metrics.connections_accepted.inc();
    let slot = entrance.edge.drain.slot(Some(metrics.connections_open.clone()));
    if tune(&tcp).is_ok() {
        // It is counted by its slot, and ends with its runtime.
        tokio::spawn(entrance.clone().serve(tcp, client, slot));
    }
}

/// Small answers leave at once, and a peer that is gone is noticed.
fn tune(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = SockRef::from(tcp);
    let keep_alive = TcpKeepalive::new()
        .with_time(KEEP_ALIVE_AFTER)
        .with_interval(KEEP_ALIVE_EVERY)
        .with_retries(KEEP_ALIVE_TIMES);
    socket.set_tcp_keepalive(&keep_alive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// Whether an accept failed for the connection's own sake: the next one may be fine (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::CONNABORTED
                | Errno::INTR
                | Errno::PERM
                | Errno::PROTO
                | Errno::NETDOWN
                | Errno::HOSTDOWN
                | Errno::HOSTUNREACH
                | Errno::NETUNREACH
        )
    )
}

/// How many connections fit into the descriptors that this process may have.
pub fn connection_limit() -> usize {
    fits(getrlimit(Resource::Nofile).current)
}

/// Four fifths of the descriptors, two for each connection: its own and that to its workspace.
fn fits(descriptors: Option<u64>) -> usize {
    let descriptors = descriptors.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    descriptors / 5 * 4 / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_their_upstreams_stay_below_four_fifths_of_the_descriptors() {
        assert_eq!(fits(Some(1024)), 408);
        assert_eq!(fits(Some(1_048_576)), 419_430);
        assert!(fits(None) > 1_000_000_000);
    }

    #[test]
    fn want_of_descriptors_is_not_one_connections_fault() {
        for (errno, its_own) in [
            (Errno::CONNABORTED, true),
            (Errno::PROTO, true),
            (Errno::MFILE, false),
            (Errno::NFILE, false),
            (Errno::NOBUFS, false),
            (Errno::NOMEM, false),
        ] {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(is_of_one_connection(&error), its_own, "{errno}");
        }
    }

    #[tokio::test]
    async fn an_accepted_socket_notices_a_peer_that_is_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (tcp, _) = listener.accept().await.unwrap();
        tune(&tcp).unwrap();
        let socket = SockRef::from(&tcp);
        assert!(socket.keepalive().unwrap() && tcp.nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEP_ALIVE_AFTER);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEP_ALIVE_EVERY);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEP_ALIVE_TIMES);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
    }
}
