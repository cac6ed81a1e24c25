use crate::Res;
use crate::server::ws_config;
use futures_util::{SinkExt, StreamExt};
use std::io::Read;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, SignatureScheme, version::TLS12, version::TLS13,
};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest, http::HeaderValue};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// The benchmark's certificate is self-signed and its client is not what is measured: accept it unseen.
#[derive(Debug)]
struct Trust(Arc<CryptoProvider>);

impl ServerCertVerifier for Trust {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

struct Target {
    addr: String,
    tls: Option<TlsConnector>,
    domain: String,
    hosts: usize,
    cookie: String,
    next: AtomicUsize,
}

fn env(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_string())
}

impl Target {
    fn new(addr: &str) -> Res<Arc<Target>> {
        Self::speaking(addr, "1.3")
    }

    fn speaking(addr: &str, version: &str) -> Res<Arc<Target>> {
        let version = if version == "1.2" { &TLS12 } else { &TLS13 };
        let provider = Arc::new(ring::default_provider());
        let mut cfg = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Trust(provider)))
            .with_no_client_auth();
        cfg.alpn_protocols = vec![b"http/1.1".to_vec()];
        cfg.resumption = Resumption::disabled();
        Ok(Arc::new(Target {
            addr: addr.to_string(),
            tls: (env("TLS", "1") == "1").then(|| TlsConnector::from(Arc::new(cfg))),
            domain: env("DOMAIN", "lab.test"),
            hosts: env("HOSTS", "1000").parse()?,
            cookie: env("COOKIE", ""),
            next: AtomicUsize::new(0),
        }))
    }

    async fn connect(&self) -> Res<(Box<dyn Io>, String)> {
        let host = format!("u{}.{}", self.next.fetch_add(1, Relaxed) % self.hosts, self.domain);
        let s = TcpStream::connect(&self.addr).await?;
        s.set_nodelay(true)?;
        let io: Box<dyn Io> = match &self.tls {
            Some(c) => Box::new(c.connect(ServerName::try_from(host.clone())?, s).await?),
            None => Box::new(s),
        };
        Ok((io, host))
    }

    async fn ws(&self) -> Res<WebSocketStream<Box<dyn Io>>> {
        let (io, host) = self.connect().await?;
        let (scheme, origin) = if self.tls.is_some() { ("wss", "https") } else { ("ws", "http") };
        let port = self.addr.rsplit(':').next().unwrap_or_default();
        let mut req = format!("{scheme}://{host}:{port}/ws").into_client_request()?;
        // What authenticates by cookie asks for the page's own origin.
        req.headers_mut().insert("origin", HeaderValue::from_str(&format!("{origin}://{host}:{port}"))?);
        if !self.cookie.is_empty() {
            req.headers_mut().insert("cookie", HeaderValue::from_str(&self.cookie)?);
        }
        Ok(client_async_with_config(req, io, Some(ws_config())).await?.0)
    }
}

fn quantile(sorted: &[u32], q: f64) -> f64 {
    if sorted.is_empty() {
        return 0.0;
    }
    sorted[((sorted.len() - 1) as f64 * q) as usize] as f64
}

fn report(count: usize, errors: u64, secs: f64, mut us: Vec<u32>) {
    us.sort_unstable();
    println!(
        "{{\"count\":{count},\"errors\":{errors},\"secs\":{secs:.3},\"rate\":{:.1},\"p50_us\":{},\"p99_us\":{}}}",
        count as f64 / secs,
        quantile(&us, 0.5),
        quantile(&us, 0.99)
    );
}

/// One full handshake after the other, each with a GET.
pub async fn handshakes(addr: &str, conns: usize, secs: usize) -> Res<()> {
    let t = Target::new(addr)?;
    let one = move || {
        let t = t.clone();
        async move {
            let (mut io, host) = t.connect().await?;
            let req = format!("GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {}\r\n\r\n", t.cookie);
            io.write_all(req.as_bytes()).await?;
            io.flush().await?;
            let mut buf = vec![0u8; 4096];
            let n = io.read(&mut buf).await?;
            if buf[..n].starts_with(b"HTTP/1.1 200") { Ok(()) } else { Err("not 200".into()) }
        }
    };
    repeat(conns, secs, one).await
}

/// One full handshake after the other, and nothing else. What ends one is the server's end of the connection: in
/// TLS 1.3 the server has work left when its client is done.
pub async fn shakes(addr: &str, conns: usize, secs: usize, version: &str) -> Res<()> {
    let t = Target::speaking(addr, version)?;
    let one = move || {
        let t = t.clone();
        async move {
            let (mut io, _) = t.connect().await?;
            io.shutdown().await?;
            let mut rest = Vec::new();
            // However it ends: many just hang up.
            let _end = tokio::time::timeout(Duration::from_secs(2), io.read_to_end(&mut rest)).await?;
            Ok(())
        }
    };
    repeat(conns, secs, one).await
}

/// One task for each of `conns` places; each repeats `step` until the time is up.
async fn repeat<S, F>(conns: usize, secs: usize, step: S) -> Res<()>
where
    S: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = Res<()>> + Send,
{
    let (all, errors) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
    let start = Instant::now();
    let end = start + Duration::from_secs(secs as u64);
    let mut tasks = Vec::new();
    for _ in 0..conns {
        let (step, all, errors) = (step.clone(), all.clone(), errors.clone());
        tasks.push(tokio::spawn(async move {
            let mut mine = Vec::new();
            while Instant::now() < end {
                let begun = Instant::now();
                match step().await {
                    Ok(()) => mine.push(begun.elapsed().as_micros() as u32),
                    Err(e) => {
                        if errors.fetch_add(1, Relaxed) == 0 {
                            eprintln!("first error: {e}");
                        }
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
            }
            all.lock().unwrap().append(&mut mine);
        }));
    }
    for task in tasks {
        task.await?;
    }
    let secs = start.elapsed().as_secs_f64();
    let us = std::mem::take(&mut *all.lock().unwrap());
    report(us.len(), errors.load(Relaxed), secs, us);
    Ok(())
}

/// HTTP/1.1 keep-alive at a fixed total rate. A request that had to wait behind a slow one is timed from
/// when it should have been sent; one that was sent on time is timed from its sending, so that the
/// client's own timer (1 ms steps) does not show.
pub async fn rate(addr: &str, conns: usize, secs: usize, rate: usize) -> Res<()> {
    let t = Target::new(addr)?;
    let mut open = Vec::new();
    for _ in 0..conns {
        open.push(t.connect().await?);
    }
    let (all, errors) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
    let start = Instant::now();
    let gap = Duration::from_secs_f64(conns as f64 / rate as f64);
    let mut tasks = Vec::new();
    for (i, (mut io, host)) in open.into_iter().enumerate() {
        let (t, all, errors) = (t.clone(), all.clone(), errors.clone());
        let mut due = start + gap.mul_f64(i as f64 / conns as f64);
        tasks.push(tokio::spawn(async move {
            let req = format!("GET / HTTP/1.1\r\nHost: {host}\r\nCookie: {}\r\n\r\n", t.cookie);
            let (mut mine, mut buf) = (Vec::new(), vec![0u8; 4096]);
            while due < start + Duration::from_secs(secs as u64) {
                let late = Instant::now() >= due;
                if !late {
                    tokio::time::sleep_until(due.into()).await;
                }
                let begun = if late { due } else { Instant::now() };
                let one = async {
                    io.write_all(req.as_bytes()).await?;
                    io.flush().await?;
                    let mut n = 0;
                    while !complete(&buf[..n]) {
                        let got = io.read(&mut buf[n..]).await?;
                        if got == 0 {
                            return Err("closed".into());
                        }
                        n += got;
                    }
                    if buf.starts_with(b"HTTP/1.1 200") { Ok(()) } else { Err("not 200".into()) }
                };
                let done: Res<()> = one.await;
                if done.is_err() {
                    errors.fetch_add(1, Relaxed);
                    break;
                }
                mine.push(begun.elapsed().as_micros() as u32);
                due += gap;
            }
            all.lock().unwrap().append(&mut mine);
        }));
    }
    for task in tasks {
        task.await?;
    }
    let secs = start.elapsed().as_secs_f64();
    let us = std::mem::take(&mut *all.lock().unwrap());
    report(us.len(), errors.load(Relaxed), secs, us);
    Ok(())
}

/// The small answer is 13 bytes of 'x', with a length or (some proxies) as one chunk.
fn complete(buf: &[u8]) -> bool {
    match buf.windows(4).position(|w| w == b"\r\n\r\n") {
        Some(p) => buf[p + 4..].ends_with(b"xxxxxxxxxxxxx") || buf.ends_with(b"0\r\n\r\n"),
        None => false,
    }
}

pub async fn echo(addr: &str, conns: usize, secs: usize, bytes: usize) -> Res<()> {
    let t = Target::new(addr)?;
    let mut sockets = Vec::new();
    for _ in 0..conns {
        sockets.push(t.ws().await?);
    }
    let (all, errors) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
    let start = Instant::now();
    let end = start + Duration::from_secs(secs as u64);
    let mut tasks = Vec::new();
    for mut ws in sockets {
        let (all, errors) = (all.clone(), errors.clone());
        tasks.push(tokio::spawn(async move {
            let mut mine = Vec::with_capacity(16 << 10);
            let body = vec![b'x'; bytes];
            loop {
                let begun = Instant::now();
                if begun >= end {
                    break;
                }
                let sent = ws.send(Message::binary(body.clone())).await;
                match (sent, ws.next().await) {
                    (Ok(()), Some(Ok(m))) if m.len() == bytes => {
                        mine.push(begun.elapsed().as_micros() as u32)
                    }
                    _ => {
                        errors.fetch_add(1, Relaxed);
                        break;
                    }
                }
            }
            all.lock().unwrap().append(&mut mine);
        }));
    }
    for task in tasks {
        task.await?;
    }
    let secs = start.elapsed().as_secs_f64();
    let us = std::mem::take(&mut *all.lock().unwrap());
    report(us.len(), errors.load(Relaxed), secs, us);
    Ok(())
}

pub async fn idle(addr: &str, conns: usize) -> Res<()> {
    let t = Target::new(addr)?;
    let start = Instant::now();
    let (open, left) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(conns)));
    let errors = Arc::new(AtomicU64::new(0));
    let mut tasks = Vec::new();
    for _ in 0..32 {
        let (t, open, left, errors) = (t.clone(), open.clone(), left.clone(), errors.clone());
        tasks.push(tokio::spawn(async move {
            while left.fetch_update(Relaxed, Relaxed, |n| n.checked_sub(1)).is_ok() {
                match t.ws().await {
                    Ok(ws) => open.lock().unwrap().push(ws),
                    Err(e) => {
                        if errors.fetch_add(1, Relaxed) == 0 {
                            eprintln!("first error: {e}");
                        }
                    }
                }
            }
        }));
    }
    for task in tasks {
        task.await?;
    }
    let secs = start.elapsed().as_secs_f64();
    let mut open = std::mem::take(&mut *open.lock().unwrap());
    report(open.len(), errors.load(Relaxed), secs, Vec::new());
    // The harness reads the proxy's memory now, then closes our stdin.
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()).ok()).await?;
    let mut alive = 0;
    for ws in &mut open {
        let sent = ws.send(Message::binary(vec![1u8; 16])).await;
        let got = tokio::time::timeout(Duration::from_secs(2), ws.next()).await;
        match got {
            Ok(Some(Ok(ref m))) if m.len() == 16 => alive += 1,
            _ => eprintln!("not alive: sent {sent:?}, got {got:?}"),
        }
    }
    println!("{{\"alive\":{alive}}}");
    Ok(())
}
