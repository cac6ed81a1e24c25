//! Addresses that are another's a moment later, under live traffic: nobody ever gets a byte of what somebody else's
//! workspace answers.

use super::spawn;
use crate::edge::ListenerFacts;
use crate::lab::{CONFIG, HURRIED, Lab};
use crate::listen::tls::server_config;
use config::{Listener, TemplateName, WorkspaceId};
use control::{Address, Event, Generation, Grant, Identity, Observed, ObservedPhase, Phase};
use fastrand::Rng;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

const OWNERS: [&str; 2] = ["alice", "bob"];
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// Answers each request, and fills each WebSocket, with the name of its instance.
#[derive(Default)]
struct Pod {
    accepts: JoinSet<()>,
    connections: Arc<Mutex<JoinSet<Option<()>>>>,
}

impl Pod {
    fn new(listener: TcpListener, name: String) -> Self {
        let mut pod = Self::default();
        let connections = pod.connections.clone();
        pod.accepts.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                connections.lock().unwrap().spawn(serve(socket, name.clone()));
            }
        });
        pod
    }

    /// Its address is free for others. If it lingers, it goes on answering those that are connected.
    async fn ends(&mut self, lingers: bool) {
        self.accepts.shutdown().await;
        if !lingers {
            self.connections.lock().unwrap().abort_all();
        }
    }
}

async fn serve(socket: TcpStream, name: String) -> Option<()> {
    let mut socket = BufStream::new(socket);
    loop {
        let head = head(&mut socket).await?;
        if head.to_ascii_lowercase().contains("upgrade: websocket") {
            let key = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .starts_with("sec-websocket-key:")
                    .then(|| line[18..].trim().to_owned())
            })?;
            let accept = derive_accept_key(key.as_bytes());
            let switched = format!(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            );
            say(&mut socket, switched.as_bytes()).await?;
            let frame = [&[0x81, u8::try_from(name.len()).ok()?], name.as_bytes()].concat();
            loop {
                say(&mut socket, &frame).await?;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
        say(&mut socket, answer.as_bytes()).await?;
    }
}

/// A head, up to its empty line.
async fn head(socket: &mut BufStream<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if socket.read_line(&mut head).await.ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

async fn say(socket: &mut BufStream<TcpStream>, bytes: &[u8]) -> Option<()> {
    socket.write_all(bytes).await.ok()?;
    socket.flush().await.ok()
}

/// What passed, and what should not have.
#[derive(Default)]
struct Tally {
    answers: AtomicUsize,
    frames: AtomicUsize,
    wrong: Mutex<Vec<String>>,
}

impl Tally {
    /// Waits until an answer has passed, and a frame as well if so asked.
    async fn moves(&self, frames: bool) {
        let passed = || (self.answers.load(Relaxed), self.frames.load(Relaxed));
        let before = passed();
        let moved = async {
            while passed().0 == before.0 || (frames && passed().1 == before.1) {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
        };
        timeout(Duration::from_secs(20), moved).await.expect("what is ready answers");
    }

    fn takes(&self, owner: &str, what: &AtomicUsize, said: &str) {
        what.fetch_add(1, Relaxed);
        if said.split('.').next() != Some(owner) {
            self.wrong.lock().unwrap().push(format!("{owner} got {said:?}"));
        }
    }
}

/// Somebody's browser, with their cookies.
#[derive(Clone)]
struct Person {
    owner: &'static str,
    cookies: String,
    edge: SocketAddr,
    tally: Arc<Tally>,
}

impl Person {
    fn request(&self, more: &str) -> String {
        let Self { owner, cookies, edge, .. } = self;
        let port = edge.port();
        format!(
            "GET / HTTP/1.1\r\nHost: {owner}.lab.localhost:{port}\r\nCookie: {cookies}\r\nSec-Fetch-Site: same-origin\r\n{more}\r\n"
        )
    }

    /// Asks again and again on one connection, and on the next when that is closed.
    async fn asks(self) {
        loop {
            if self.asks_on_one().await.is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    async fn asks_on_one(&self) -> Option<()> {
        let mut socket = BufStream::new(TcpStream::connect(self.edge).await.ok()?);
        let request = self.request("Sec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n");
        loop {
            say(&mut socket, request.as_bytes()).await?;
            let head = head(&mut socket).await?.to_ascii_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())?;
            let mut body = vec![0; length];
            socket.read_exact(&mut body).await.ok()?;
            if head.starts_with("http/1.1 200") {
                self.tally.takes(self.owner, &self.tally.answers, &String::from_utf8_lossy(&body));
            }
        }
    }

    /// Listens on a WebSocket, and on the next when that is closed.
    async fn listens(self) {
        loop {
            if self.listens_on_one().await.is_none() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    }

    async fn listens_on_one(&self) -> Option<()> {
        let mut socket = BufStream::new(TcpStream::connect(self.edge).await.ok()?);
        let origin = format!("http://{}.lab.localhost:{}", self.owner, self.edge.port());
        let upgrade = self.request(&format!(
            "Origin: {origin}\r\nConnection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n"
        ));
        say(&mut socket, upgrade.as_bytes()).await?;
        if !head(&mut socket).await?.starts_with("HTTP/1.1 101") {
            return None;
        }
        loop {
            let mut start = [0; 2];
            socket.read_exact(&mut start).await.ok()?;
            let mut payload = vec![0; usize::from(start[1])];
            socket.read_exact(&mut payload).await.ok()?;
            if start[0] != 0x81 {
                return None;
            }
            self.tally.takes(self.owner, &self.tally.frames, &String::from_utf8_lossy(&payload));
        }
    }
}

/// Has the driver tell how somebody's workspace is.
fn tell(lab: &Lab, owner: &str, phase: Option<ObservedPhase>) {
    let id = WorkspaceId::parse(owner).unwrap();
    let identity = Identity { issuer: Identity::DEVELOPMENT.to_owned(), subject: owner.to_owned() };
    let template = TemplateName::parse("demo").unwrap();
    lab.tell(match phase {
        Some(phase) => Event::Seen(Observed::alone(id, identity, template, Grant::default(), phase)),
        None => Event::Gone(id),
    });
}

/// Waits until the table shows that this instance is ready, or that nothing of this owner is.
async fn shows(lab: &Lab, owner: &str, generation: Option<&Generation>) {
    let id = WorkspaceId::parse(owner).unwrap();
    let mut changes = lab.edge.workspaces.changes();
    let is_so = || match lab.edge.workspaces.lookup(&id).map(|entry| entry.phase.clone()) {
        Some(Phase::Ready(route)) => Some(&route.generation) == generation,
        _ => generation.is_none(),
    };
    while !is_so() {
        timeout(Duration::from_secs(20), changes.changed()).await.expect("it comes so").unwrap();
    }
}

/// One address after the other changes hands, so many times.
async fn change_hands(mut chance: Rng, times: usize) -> Arc<Tally> {
    let facts = ListenerFacts { tls: false, public_port: 8080, loopback: true, redirects: false };
    let lab = Lab::with(&format!("{CONFIG}{HURRIED}"), facts).await;
    let listener = Listener {
        addresses: vec!["127.0.0.1:0".parse().unwrap()],
        ..lab.edge.config.load().listeners[0].clone()
    };
    let tls = server_config(lab.edge.resolver.clone(), &lab.edge.config.load().tls, &lab.edge.keys);
    let bound = crate::listen::bind(&[listener], &tls, 2).unwrap();
    let edge = bound.addresses()[0];
    let _cores = spawn(&lab.edge, bound).unwrap();
    let tally = Arc::<Tally>::default();
    let mut people = JoinSet::new();
    for owner in OWNERS {
        let mut browser = lab.browser();
        let host = format!("{owner}.lab.localhost");
        browser.log_in(owner, &format!("http://{host}:8080/")).await;
        let cookies = browser.jar.iter().filter(|((of, _), _)| *of == host);
        let cookies: Vec<_> = cookies.map(|((_, name), value)| format!("{name}={value}")).collect();
        let person = Person { owner, cookies: cookies.join("; "), edge, tally: tally.clone() };
        people.spawn(person.clone().asks());
        people.spawn(person.clone().asks());
        people.spawn(person.listens());
    }
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut before = Pod::default();
    for number in 0..times {
        let owner = OWNERS[number % 2];
        let generation = Generation(format!("{owner}.{number}").into());
        let listener = TcpListener::bind(address).await.unwrap();
        let mut pod = Pod::new(listener, generation.to_string());
        tell(&lab, owner, Some(ObservedPhase::started(generation.clone(), Some(Address::Tcp(address)))));
        shows(&lab, owner, Some(&generation)).await;
        tally.moves(chance.bool()).await;
        tokio::time::sleep(Duration::from_micros(chance.u64(0..3_000))).await;
        before.ends(false).await;
        let lingers = chance.bool();
        // It ends before that is told, or after, or at the very moment at which another gets its address.
        let ends_at = chance.u8(0..3);
        if ends_at == 0 {
            pod.ends(lingers).await;
        }
        tell(&lab, owner, chance.bool().then_some(ObservedPhase::Stopped));
        if ends_at == 1 {
            pod.ends(lingers).await;
        }
        shows(&lab, owner, None).await;
        pod.ends(lingers).await;
        before = pod;
    }
    people.shutdown().await;
    lab.edge.drain.cut.cancel();
    tally
}

async fn nobody_gets_anothers(times: usize) {
    let seed = std::env::var("USHER_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    eprintln!("seed {seed}; USHER_SEED={seed} repeats this run");
    let tally = change_hands(Rng::with_seed(seed), times).await;
    let wrong = tally.wrong.lock().unwrap();
    assert!(wrong.is_empty(), "of {times} times: {wrong:?}");
    let (answers, frames) = (tally.answers.load(Relaxed), tally.frames.load(Relaxed));
    println!("{times} times an address changed hands under {answers} answers and {frames} frames");
}

#[tokio::test]
async fn whoever_gets_an_address_after_another_gets_none_of_the_others_answers() {
    nobody_gets_anothers(100).await;
}

#[tokio::test]
#[ignore = "takes a minute; `make soak` runs it"]
async fn five_thousand_times_whoever_gets_an_address_gets_none_of_the_others_answers() {
    nobody_gets_anothers(5_000).await;
}
