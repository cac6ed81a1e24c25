//! wsload: everything the benchmark needs that wrk and h2load cannot do.
//!
//! Servers (run until killed):
//!   wsload backend LISTEN                    HTTP/1.1: / (13 B), /64k, /1m, /auth (204); WebSocket echo on /ws
//!   wsload tls-direct LISTEN CERT KEY        the same answers over TLS, no proxy: floor of "TLS + answer"
//!   wsload tls-pipe LISTEN UPSTREAM CERT KEY TLS in, bytes copied to UPSTREAM: floor of "TLS + relay"
//! Clients (print one JSON line):
//!   wsload hs   ADDR CONNS SECONDS           one full TLS handshake and one GET per connection, closed by the client
//!   wsload shake ADDR CONNS SECONDS VERSION  one full TLS handshake (VERSION = 1.2 or 1.3) and no more per connection
//!   wsload rate ADDR CONNS SECONDS RATE      HTTP/1.1 keep-alive at a fixed rate (coordinated omission corrected)
//!   wsload echo ADDR CONNS SECONDS [BYTES]   WebSocket ping-pong
//!   wsload idle ADDR CONNS                   open WebSockets, print, wait for stdin to close, check all alive
//! Client settings from the environment: TLS=1, DOMAIN=lab.test, HOSTS=1000, COOKIE=...
mod client;
mod server;

use std::sync::Arc;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio_rustls::rustls::{ServerConfig, crypto::ring};

pub type Res<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

pub fn tls_server_config(cert: &str, key: &str) -> Res<Arc<ServerConfig>> {
    let certs = CertificateDer::pem_file_iter(cert)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key)?;
    let mut cfg = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(certs, key)?;
    cfg.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(cfg))
}

fn main() -> Res<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let arg = |i: usize| args.get(i).map(String::as_str).unwrap_or("");
    let num = |i: usize, d: usize| arg(i).parse::<usize>().unwrap_or(d);
    let threads: usize = std::env::var("THREADS").ok().and_then(|v| v.parse().ok()).unwrap_or(1);
    let rt = if threads == 1 {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?
    } else {
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?
    };
    match arg(0) {
        "backend" => rt.block_on(server::backend(arg(1))),
        "tls-direct" => rt.block_on(server::tls_direct(arg(1), tls_server_config(arg(2), arg(3))?)),
        "tls-pipe" => {
            rt.block_on(server::tls_pipe(arg(1), arg(2).to_string(), tls_server_config(arg(3), arg(4))?))
        }
        "hs" => rt.block_on(client::handshakes(arg(1), num(2, 16), num(3, 5))),
        "shake" => rt.block_on(client::shakes(arg(1), num(2, 16), num(3, 5), arg(4))),
        "rate" => rt.block_on(client::rate(arg(1), num(2, 64), num(3, 8), num(4, 5000))),
        "echo" => rt.block_on(client::echo(arg(1), num(2, 64), num(3, 8), num(4, 128))),
        "idle" => rt.block_on(client::idle(arg(1), num(2, 2000))),
        _ => Err("usage: see the head of src/main.rs".into()),
    }
}
