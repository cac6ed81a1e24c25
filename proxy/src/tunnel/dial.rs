//! The way to a workspace: one TCP or Unix connection for one tunnel, never pooled.

use control::Address;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::either::Either;

/// A connection to a workspace.
pub(super) type Stream = Either<TcpStream, UnixStream>;

/// How long a connect may take: the workspace is ready, so it accepts at once or is gone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// When a silent peer is asked whether it is there, how often again and how many times; and how long bytes may
/// stay unacknowledged. A tunnel has no other way to notice a workspace that vanished without a word.
const KEEPALIVE_TIME: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// Connects.
///
/// # Errors
/// Nobody accepts there, or not in time.
pub(super) async fn dial(address: &Address) -> io::Result<Stream> {
    tokio::time::timeout(CONNECT_TIMEOUT, connect(address))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the workspace did not accept in time"))?
}

async fn connect(address: &Address) -> io::Result<Stream> {
    match address {
        Address::Unix(path) => Ok(Either::Right(UnixStream::connect(path).await?)),
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let socket = SockRef::from(&stream);
            socket.set_tcp_keepalive(
                &TcpKeepalive::new()
                    .with_time(KEEPALIVE_TIME)
                    .with_interval(KEEPALIVE_INTERVAL)
                    .with_retries(KEEPALIVE_RETRIES),
            )?;
            socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
            Ok(Either::Left(stream))
        }
    }
}
