//! The accept loops: one single-threaded runtime per core, with sockets, a gateway and an upstream pool of its own.
//!
//! Measured in 2026 against one work-stealing runtime, this took a fifth to a third off the cost of every kind of
//! traffic: nothing of a request crosses a core.

mod handshake;
mod proxy_header;
#[cfg(test)]
mod reuse;
mod serve;
mod sockets;

pub use sockets::connection_limit;

use crate::edge::Edge;
use crate::gateway::Gateway;
use crate::listen::{Bound, Door};
use pingora::apps::{HttpServerApp, HttpServerOptions};
use pingora::protocols::http::v2::server::default_h2_options;
use pingora::proxy::{HttpProxy, http_proxy};
use pingora::server::configuration::ServerConf;
use serve::Entrance;
use sockets::Accept;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long an HTTP/2 connection may be without an open stream.
const H2_IDLE: Duration = Duration::from_secs(120);
/// How many unused upstream connections a core keeps.
const POOL: usize = 512;
/// Between the closing of listeners and the closing of connections that wait for a request: one that is on its way
/// already, or in a connection that was just accepted, is still answered.
const PARTING: Duration = Duration::from_millis(500);

/// The running cores.
pub struct Cores {
    threads: Vec<JoinHandle<()>>,
    ended: CancellationToken,
}

/// A core ended in a panic.
#[derive(Debug, thiserror::Error)]
#[error("{0} of the threads that carry connections ended in a panic")]
pub struct CoreFailed(usize);

impl Cores {
    /// Completes when any core has ended. Before a drain that is a fault, and fatal.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Waits for all cores to end; blocks.
    ///
    /// # Errors
    /// One of them panicked.
    pub fn join(self) -> Result<(), CoreFailed> {
        let failed = self.threads.into_iter().map(JoinHandle::join).filter(Result::is_err).count();
        if failed == 0 { Ok(()) } else { Err(CoreFailed(failed)) }
    }
}

/// Serves what was bound, on one thread per core, until [`Edge::drain`] closes the listeners and the last
/// connection is gone.
///
/// # Errors
/// A runtime or a thread cannot be made, or a socket cannot be polled.
pub fn spawn(edge: &Arc<Edge>, bound: Bound) -> io::Result<Cores> {
    let ended = CancellationToken::new();
    let limit = connection_limit();
    tracing::info!(connections.limit = limit, cores = bound.cores(), "carrying connections");
    let gateway = Gateway::new(edge.clone());
    let mut threads = Vec::new();
    for (index, doors) in per_core(bound).into_iter().enumerate() {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let core = Core::new(gateway.clone(), edge.clone(), doors, limit, &runtime)?;
        let guard = ended.clone().drop_guard();
        let thread = std::thread::Builder::new().name(format!("usher-core-{index}"));
        threads.push(thread.spawn(move || core.run(&runtime, guard))?);
    }
    Ok(Cores { threads, ended })
}

/// Hands each core its socket of every door.
fn per_core(bound: Bound) -> Vec<Vec<Door>> {
    let mut cores: Vec<Vec<Door>> = (0..bound.cores()).map(|_| Vec::new()).collect();
    for Door { facts, address, tls, proxy_protocol, sockets } in bound.doors {
        for (core, socket) in cores.iter_mut().zip(sockets) {
            let (facts, tls, sockets) = (facts.clone(), tls.clone(), vec![socket]);
            core.push(Door { facts, address, tls, proxy_protocol, sockets });
        }
    }
    cores
}

/// All that one core works with.
struct Core {
    edge: Arc<Edge>,
    app: Arc<HttpProxy<Gateway>>,
    closes: watch::Sender<bool>,
    loops: Vec<Accept>,
}

impl Core {
    fn new(
        gateway: Gateway,
        edge: Arc<Edge>,
        doors: Vec<Door>,
        limit: usize,
        runtime: &Runtime,
    ) -> io::Result<Self> {
        let _inside = runtime.enter();
        let app = Arc::new(app(gateway));
        let (closes, closing) = watch::channel(false);
        let loops = doors
            .into_iter()
            .map(|door| {
                let entrance = Entrance::new(edge.clone(), app.clone(), closing.clone(), &door);
                Accept::new(entrance, door, limit)
            })
            .collect::<io::Result<_>>()?;
        Ok(Self { edge, app, closes, loops })
    }

    fn run(self, runtime: &Runtime, _ended: DropGuard) {
        runtime.block_on(async {
            let loops = futures_util::future::join_all(self.loops.into_iter().map(Accept::run));
            loops.await;
            // Answers say `Connection: close` from now on, and HTTP/2 clients get GOAWAY.
            self.closes.send_replace(true);
            self.edge.drain.pause(PARTING).await;
            self.app.http_cleanup().await;
            tokio::select! {
                () = self.edge.drain.gone() => {}
                () = self.edge.drain.cut.cancelled() => {}
            }
        });
    }
}

fn app(gateway: Gateway) -> HttpProxy<Gateway> {
    let conf = ServerConf {
        threads: 1,
        upstream_keepalive_pool_size: POOL,
        max_retries: usize::try_from(crate::upstream::TRIES).unwrap_or(1),
        ..ServerConf::default()
    };
    let mut app = http_proxy(&Arc::new(conf), gateway);
    // Pingora's defaults hold its limits on header lists and streams.
    app.h2_options = Some(default_h2_options());
    let mut options = HttpServerOptions::default();
    options.h2_idle_timeout = Some(H2_IDLE);
    // Else Pingora answers CONNECT by itself, without our headers and our event; `Request::parse` refuses it.
    options.allow_connect_method_proxying = true;
    app.server_options = Some(options);
    app
}
