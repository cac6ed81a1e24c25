//! A minimal Pingora TLS proxy: host lookup in a map of N subdomains, one upstream, nothing else.
//!
//! Settings come from the environment (defaults are the floor's settings):
//!   LISTEN=127.0.0.1:8443  UPSTREAM=127.0.0.1:9000  CERT=cert.pem  KEY=key.pem
//!   ROUTES=1000  DOMAIN=lab.test  THREADS=2  STEAL=1  POOL=1024  ACCEPTORS=1
//!   RBUF=65536  WBUF=1460 (the downstream's buffers, Pingora's defaults)
use async_trait::async_trait;
use pingora::listeners::{L4BufferSettings, ListenerConfig, tls::TlsSettings};
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;
use std::collections::HashMap;
use std::net::SocketAddr;

struct Floor {
    routes: HashMap<String, SocketAddr>,
}

#[async_trait]
impl ProxyHttp for Floor {
    type CTX = ();
    fn new_ctx(&self) {}

    async fn upstream_peer(&self, session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        let req = session.req_header();
        let host = match req.uri.host() {
            Some(h) => h, // HTTP/2 :authority
            None => req
                .headers
                .get("host")
                .and_then(|h| h.to_str().ok())
                .map(|h| h.split(':').next().unwrap_or(h))
                .unwrap_or(""),
        };
        match self.routes.get(host) {
            Some(addr) => Ok(Box::new(HttpPeer::new(*addr, false, String::new()))),
            None => Error::e_explain(HTTPStatus(404), "no such host"),
        }
    }
}

fn var(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_string())
}

fn num(name: &str, default: usize) -> usize {
    var(name, "").parse().unwrap_or(default)
}

fn main() {
    rustls::crypto::ring::default_provider().install_default().expect("no other provider is installed");

    let conf = ServerConf {
        threads: num("THREADS", 2),
        work_stealing: num("STEAL", 1) == 1,
        listener_tasks_per_fd: num("ACCEPTORS", 1),
        upstream_keepalive_pool_size: num("POOL", 1024),
        ..Default::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();

    let upstream: SocketAddr = var("UPSTREAM", "127.0.0.1:9000").parse().expect("UPSTREAM");
    let domain = var("DOMAIN", "lab.test");
    let routes = (0..num("ROUTES", 1000)).map(|i| (format!("u{i}.{domain}"), upstream)).collect();

    let mut service = http_proxy_service(&server.configuration, Floor { routes });
    let mut tls = TlsSettings::intermediate(&var("CERT", "cert.pem"), &var("KEY", "key.pem")).expect("cert");
    tls.enable_h2();
    service.add_listener(
        ListenerConfig::tcp(var("LISTEN", "127.0.0.1:8443"))
            .tls(tls)
            .l4_buffer(L4BufferSettings::new(num("RBUF", 64 << 10), num("WBUF", 1460))),
    );
    server.add_service(service);
    server.run_forever();
}
