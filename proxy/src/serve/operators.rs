//! The operator's side: an address and a Unix socket of its own.

use super::ServeError;
use crate::admin;
use crate::admin::tls::TlsListener;
use crate::edge::Edge;
use axum::Router;
use axum::serve::Listener;
use config::Admin;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

/// Binds and serves both admin listeners; they end when the set is dropped.
pub(super) async fn serve(edge: &Arc<Edge>) -> Result<JoinSet<()>, ServeError> {
    let Admin { address, socket, tls } = edge.config.load().admin.clone();
    let shown = tls.as_ref().map(admin::tls::Shown::read).transpose()?;
    let tcp = TcpListener::bind(address).await.map_err(|source| admin_error(&address, "address", source))?;
    let unix = bind_socket(&socket).map_err(|source| admin_error(&socket.display(), "socket", source))?;
    tracing::info!(admin.address = %tcp.local_addr()?, admin.socket = %socket.display(), "listening");
    let mut serving = JoinSet::new();
    let router = admin::tcp_router(edge.clone(), shown.is_some());
    match shown {
        Some(shown) => {
            serving.spawn(serve_router(TlsListener::new(tcp, shown.clone()), router));
            serving.spawn(shown.follow());
        }
        None => drop(serving.spawn(serve_router(tcp, router))),
    }
    serving.spawn(serve_router(unix, admin::socket_router(edge.clone())));
    Ok(serving)
}

fn admin_error(place: &dyn std::fmt::Display, key: &'static str, source: io::Error) -> ServeError {
    ServeError::Admin { place: place.to_string(), key, source }
}

async fn serve_router<L: Listener<Addr: std::fmt::Debug>>(listener: L, router: Router) {
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!(%error, "an admin listener ended");
    }
}

/// Binds a Unix socket that only this user can connect to, in place of one that an earlier usher left.
///
/// It gets its mode before it gets its name, so that there is no moment at which others could connect.
fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    let unnamed = path.with_extension("new");
    match std::fs::remove_file(&unnamed) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&unnamed)?;
    std::fs::set_permissions(&unnamed, Permissions::from_mode(0o600))?;
    std::fs::rename(&unnamed, path)?;
    Ok(listener)
}

/// Completes when an admin listener has ended, which none does while its set lives.
pub(super) async fn ended(serving: &mut JoinSet<()>) -> ServeError {
    match serving.join_next().await {
        Some(Err(panic)) => ServeError::Panicked(panic),
        Some(Ok(())) | None => ServeError::AdminEnded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn mode(path: &Path) -> u32 {
        path.metadata().unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn an_admin_listener_that_ends_or_panics_is_the_end_of_usher() {
        let mut serving = JoinSet::new();
        serving.spawn(std::future::pending());
        serving.spawn(async {});
        assert!(matches!(ended(&mut serving).await, ServeError::AdminEnded));
        serving.spawn(async { panic!("for a test") });
        assert!(matches!(ended(&mut serving).await, ServeError::Panicked(_)));
    }

    #[tokio::test]
    async fn the_admin_socket_is_for_its_owner_alone_and_replaces_an_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        drop(bind_socket(&path).unwrap());
        let _listener = bind_socket(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        UnixStream::connect(&path).unwrap();
    }
}
