//! The way between one Usher and the API server, in a test's hands: HTTP in the clear on one side, the server's TLS on
//! the other.

use super::Cluster;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What becomes of what is asked and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// It passes.
    Open,
    /// Connections break, and none is taken.
    Cut,
    /// Nothing passes and nothing breaks.
    Silent,
    /// Each request is handed on this much later.
    Slow(Duration),
    /// Each request is answered with this status, and the server hears nothing of it.
    Refused(u16),
    /// Each write is done by the server, and answered 504.
    DoneBut504,
}

/// A way to the API server.
pub struct Cable {
    address: SocketAddr,
    state: watch::Sender<State>,
    /// Ends all connections when it is dropped.
    _tasks: JoinSet<()>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    way: Way,
    /// The answers to so many writes are lost with their connections.
    lost: u32,
    /// So many requests are turned away with 429.
    turned_away: u32,
    /// Counts how often all connections were broken.
    breaks: u32,
}

impl Cable {
    /// Lays one, which is open.
    pub async fn lay(cluster: &Cluster) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let api = Api::of(cluster);
        let state = watch::Sender::new(State { way: Way::Open, lost: 0, turned_away: 0, breaks: 0 });
        let mut tasks = JoinSet::new();
        let accepting = state.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                while connections.try_join_next().is_some() {}
                if accepting.borrow().way != Way::Cut {
                    connections.spawn(Connection::of(socket, api.clone(), accepting.clone()).run());
                }
            }
        });
        Self { address, state, _tasks: tasks }
    }

    /// What a kubeconfig says of the server, for whoever is to go by this way.
    pub(crate) fn server(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What becomes of requests and answers from now on.
    pub fn is(&self, way: Way) {
        self.state.send_modify(|state| state.way = way);
    }

    /// Breaks all connections that there are.
    pub fn breaks(&self) {
        self.state.send_modify(|state| state.breaks += 1);
    }

    /// Loses the answers to the next so many writes, which are done.
    pub fn loses(&self, count: u32) {
        self.state.send_modify(|state| state.lost += count);
    }

    /// Turns the next so many requests away: there is too much to do.
    pub fn turns_away(&self, count: u32) {
        self.state.send_modify(|state| state.turned_away += count);
    }

    /// Undoes all of it.
    pub fn heals(&self) {
        self.state.send_modify(|state| (state.way, state.lost, state.turned_away) = (Way::Open, 0, 0));
    }
}

/// How the API server is reached.
#[derive(Clone)]
struct Api {
    address: SocketAddr,
    tls: TlsConnector,
}

impl Api {
    fn of(cluster: &Cluster) -> Self {
        let (address, authority) = cluster.server();
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(authority).expect("the cluster wrote it") {
            // The server's own, and the one that signed it.
            roots.add(certificate.expect("it is PEM")).expect("it is a certificate");
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring supports the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { address, tls: TlsConnector::from(Arc::new(config)) }
    }

    async fn connect(&self) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        self.tls.connect(ServerName::IpAddress(self.address.ip().into()), stream).await
    }
}

/// One connection of an Usher, with one of its own to the server.
struct Connection {
    asks: OwnedReadHalf,
    hears: OwnedWriteHalf,
    /// What was asked and is not handed on yet.
    asked: Vec<u8>,
    api: Api,
    server: Option<TlsStream<TcpStream>>,
    fate: Fate,
    state: watch::Sender<State>,
}

/// What becomes of the answer that comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Told,
    Lost,
    Late,
}

impl Connection {
    fn of(socket: TcpStream, api: Api, state: watch::Sender<State>) -> Self {
        let (asks, hears) = socket.into_split();
        Self { asks, hears, asked: Vec::new(), api, server: None, fate: Fate::Told, state }
    }

    /// Ends, and both connections with it, when either breaks or is to break.
    async fn run(mut self) {
        let _broken = self.relay().await;
    }

    async fn relay(&mut self) -> std::io::Result<()> {
        let mut states = self.state.subscribe();
        let breaks = states.borrow().breaks;
        let mut answer = vec![0; 64 << 10];
        loop {
            let now = *states.borrow_and_update();
            if now.way == Way::Cut || now.breaks != breaks {
                return Ok(());
            }
            if now.way != Way::Silent
                && let Some(length) = whole(&self.asked)
            {
                if let Way::Slow(late) = now.way {
                    tokio::time::sleep(late).await;
                }
                let request: Vec<u8> = self.asked.drain(..length).collect();
                self.hand_on(&request).await?;
                continue;
            }
            tokio::select! {
                read = self.asks.read_buf(&mut self.asked) => if read? == 0 { return Ok(()) },
                read = heard(&mut self.server, &mut answer), if now.way != Way::Silent => {
                    let length = read?;
                    if length == 0 || !self.tell(&answer[..length]).await? {
                        return Ok(());
                    }
                }
                changed = states.changed() => if changed.is_err() { return Ok(()) },
            }
        }
    }

    async fn hand_on(&mut self, request: &[u8]) -> std::io::Result<()> {
        let writes = !request.starts_with(b"GET ");
        let (mut refused, mut fate) = (None, Fate::Told);
        self.state.send_if_modified(|state| {
            match state.way {
                Way::Refused(status) => refused = Some(status),
                _ if state.turned_away > 0 => {
                    (refused, state.turned_away) = (Some(429), state.turned_away - 1);
                }
                Way::DoneBut504 if writes => fate = Fate::Late,
                _ if writes && state.lost > 0 => (fate, state.lost) = (Fate::Lost, state.lost - 1),
                _ => {}
            }
            false
        });
        if let Some(status) = refused {
            return self.hears.write_all(&refusal(status)).await;
        }
        self.fate = fate;
        if self.server.is_none() {
            self.server = Some(self.api.connect().await?);
        }
        let server = self.server.as_mut().expect("it is connected");
        server.write_all(request).await?;
        server.flush().await
    }

    /// Tells what the server answered; `false` = the connection breaks.
    async fn tell(&mut self, answer: &[u8]) -> std::io::Result<bool> {
        match self.fate {
            Fate::Lost => return Ok(false),
            Fate::Late => {
                self.server = None;
                self.hears.write_all(&refusal(504)).await?;
            }
            Fate::Told => self.hears.write_all(answer).await?,
        }
        Ok(true)
    }
}

async fn heard(server: &mut Option<TlsStream<TcpStream>>, answer: &mut [u8]) -> std::io::Result<usize> {
    match server {
        Some(server) => server.read(answer).await,
        None => std::future::pending().await,
    }
}

/// The length of the first request, if all of it is there: its body is as long as its head says.
fn whole(asked: &[u8]) -> Option<usize> {
    let head = asked.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&asked[..head]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    let whole = head + length.unwrap_or(0);
    (asked.len() >= whole).then_some(whole)
}

/// An answer as the API server gives it.
fn refusal(status: u16) -> Vec<u8> {
    let (reason, message) = match status {
        403 => ("Forbidden", "it is forbidden: User \"usher\" cannot do this: the test's cable says so"),
        429 => ("TooManyRequests", "the test's cable says that there is too much to do"),
        504 => ("Timeout", "the test's cable says that it took too long"),
        _ => ("InternalError", "the test's cable says so"),
    };
    let body = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": status,
        "reason": reason, "message": message,
    })
    .to_string();
    let length = body.len();
    format!("HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}
