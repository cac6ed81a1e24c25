//! The demo workspace: a small application inside the binary, to see and to test what Usher does for a real one.
//!
//! It knows nothing of Usher but the headers that it is sent, and it does not poll: an open page is no use.

mod note;
mod routes;
mod sockets;

use crate::cli;
use axum::Router;
use axum::body::Body;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use note::Note;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::either::Either;
use tower::ServiceExt as _;

/// How often a demo that starts slowly says so: a waiting page has something to show.
const SAYS_EVERY: Duration = Duration::from_millis(500);
/// How long accepting pauses after it failed, as for want of descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(50);

/// Why the demo ended.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// It cannot listen where it was told to.
    #[error("the demo cannot listen on {0}")]
    Listen(String, #[source] io::Error),
    /// It cannot hear signals.
    #[error("the demo cannot wait for signals")]
    Signals(#[source] io::Error),
}

/// Serves the demo until SIGTERM or SIGINT, then ends at once: what is open is cut, the note is on disk.
///
/// # Errors
/// It cannot listen, or not hear signals.
pub async fn run(args: &cli::Demo, home: PathBuf) -> Result<(), DemoError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(DemoError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(DemoError::Signals)?;
    tokio::select! {
        ended = start(args, home) => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

async fn start(args: &cli::Demo, home: PathBuf) -> Result<(), DemoError> {
    warm_up(Duration::from_millis(args.start_delay)).await;
    let listener = match (&args.listen.socket, args.listen.port) {
        (Some(path), _) => bind(path)
            .map(Listener::Unix)
            .map_err(|error| DemoError::Listen(path.display().to_string(), error))?,
        (None, port) => {
            let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, port.unwrap_or(0)));
            let address = args.listen.address.unwrap_or(loopback);
            let bound = TcpListener::bind(address).await;
            Listener::Tcp(bound.map_err(|error| DemoError::Listen(address.to_string(), error))?)
        }
    };
    println!("demo: listening");
    accept(listener, routes::router(Note::in_home(&home))).await
}

/// Where it listens.
enum Listener {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<Either<UnixStream, TcpStream>> {
        match self {
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Either::Left(stream)),
            Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Either::Right(stream)),
        }
    }
}

/// Lets the time pass aloud.
async fn warm_up(delay: Duration) {
    let mut left = delay;
    while !left.is_zero() {
        println!("demo: warming up, {:.1} s left", left.as_secs_f64());
        let step = left.min(SAYS_EVERY);
        sleep(step).await;
        left -= step;
    }
}

/// A socket for nobody but this account. One that an earlier run left behind makes room.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves every connection until the future is dropped, and ends them with it.
async fn accept(listener: Listener, router: Router) -> Result<(), DemoError> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(stream) => {
                    connections.spawn(serve(stream, router.clone()));
                }
                Err(error) => {
                    println!("demo: a connection was not accepted: {error}");
                    sleep(ACCEPT_AGAIN).await;
                }
            },
            // Takes ended connections off the set; how each ended is its client's affair.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve<S>(stream: S, router: Router)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
        router.clone().oneshot(request.map(Body::new))
    });
    let connection =
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // A client that breaks off is no fault of the demo's.
    let _ = connection.with_upgrades().await;
}

#[cfg(test)]
mod tests;
