//! An edge with everything but processes: real sockets, records, table and cores; the driver tells what the test says.

use async_trait::async_trait;
use config::{Config, HostName, WorkspaceId};
use control::{
    Action, Address, Cause, Control, Device, Driver, Event, Generation, Identity, Login, NewSession,
    Observed, ObservedPhase, Phase, RedbRecords, Scope,
};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use proxy::accept::{self, Cores};
use proxy::access::route::Place;
use proxy::assertion::Assertions;
use proxy::audit::Audit;
use proxy::drain::Drain;
use proxy::edge::Edge;
use proxy::identity::refresh::Wishes;
use proxy::keys::Keys;
use proxy::limits::Limits;
use proxy::machines::{Issuers, Machines};
use proxy::metrics::Metrics;
use proxy::{listen, session_cookie};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;

pub const HOST: &str = "alice.lab.localhost";
/// Within which everything here happens that happens at all.
pub const SOON: Duration = Duration::from_secs(10);

/// A driver whose workspaces are all one upstream of the test's, once it is told to have them ready.
struct Fake {
    events: mpsc::UnboundedSender<Event>,
    observed: Mutex<Option<mpsc::UnboundedReceiver<Event>>>,
    upstream: watch::Receiver<Option<SocketAddr>>,
}

#[async_trait]
impl Driver for Fake {
    fn observe(&self) -> BoxStream<'static, Event> {
        let events = self.observed.lock().unwrap().take().expect("observed once");
        UnboundedReceiverStream::new(events).boxed()
    }

    async fn act(&self, action: Action) -> Result<(), Cause> {
        if let Action::Start(spec) = action {
            let (events, mut upstream) = (self.events.clone(), self.upstream.clone());
            tokio::spawn(async move {
                let running = |address| {
                    Event::Seen(Observed::alone(
                        spec.id.clone(),
                        spec.owner.clone(),
                        spec.template.name.clone(),
                        spec.grant.clone(),
                        ObservedPhase::started(Generation("1".into()), address),
                    ))
                };
                let _ = events.send(running(None));
                if let Ok(address) = upstream.wait_for(Option::is_some).await {
                    let _ = events.send(running(address.map(Address::Tcp)));
                }
            });
        }
        Ok(())
    }

    async fn log_tail(&self, _id: &WorkspaceId) -> String {
        String::new()
    }
}

/// The edge under test.
pub struct Floor {
    pub edge: Arc<Edge>,
    pub address: SocketAddr,
    /// `__Host-usher-ws=…`
    pub cookie: String,
    cores: Option<Cores>,
    upstream: watch::Sender<Option<SocketAddr>>,
    events: mpsc::UnboundedSender<Event>,
    shutdown: CancellationToken,
    _state: tempfile::TempDir,
}

/// What differs between tests.
#[derive(Default)]
pub struct Setup {
    /// PEM files, for a listener with TLS.
    pub tls: Option<(String, String)>,
    /// Tables of the configuration.
    pub more: &'static str,
}

impl Floor {
    /// An edge whose workspaces start when they are visited, and are not ready yet.
    pub async fn new(setup: Setup) -> Self {
        let state = tempfile::tempdir().unwrap();
        let config = Arc::new(config(&setup, state.path()));
        let records = Arc::new(RedbRecords::open(&state.path().join("records.redb")).unwrap());
        let (events, observed) = mpsc::unbounded_channel();
        let (upstream, seen) = watch::channel(None);
        let _ = events.send(Event::Synced);
        let driver =
            Arc::new(Fake { events: events.clone(), observed: Mutex::new(Some(observed)), upstream: seen });
        let metrics = Metrics::new().unwrap();
        let shutdown = CancellationToken::new();
        let (_, configs) = watch::channel(config.clone());
        let audit = Audit::open(&config.audit, &metrics.audit).unwrap().0;
        let control =
            Control::start(configs, driver, records, &metrics.registry, audit.acts(), shutdown.clone())
                .await
                .unwrap();
        let keys = Keys::open_dir(state.path()).unwrap();
        let resolver = resolver(&setup);
        let tls = listen::tls::server_config(resolver.clone(), &config.tls, &keys);
        let bound = listen::bind(&config.listeners, &tls, 2).unwrap();
        let address = bound.addresses()[0];
        let edge = Arc::new(Edge {
            config: arc_swap::ArcSwap::from(config),
            workspaces: control.workspaces,
            sessions: control.sessions,
            tokens: control.tokens,
            machines: Machines::new(&keys, Issuers::default(), &metrics),
            users: control.users,
            tickets: control.tickets,
            providers: Default::default(),
            refresh: Wishes::new().0,
            resolver,
            challenges: Default::default(),
            assertions: Assertions::new(&keys),
            keys,
            certificates: None,
            origins: bound.origins(),
            limits: Limits::new(&metrics),
            metrics,
            audit,
            draining: CancellationToken::new(),
            close_tunnels: CancellationToken::new(),
            drain: Drain::default(),
        });
        let cookie = log_in(&edge).await;
        let cores = Some(accept::spawn(&edge, bound).unwrap());
        Self { edge, address, cookie, cores, upstream, events, shutdown, _state: state }
    }

    /// An edge in front of this upstream, which it has been told is ready.
    pub async fn before(upstream: SocketAddr) -> Self {
        let floor = Self::new(Setup::default()).await;
        floor.is_ready_at(upstream);
        let answer = floor.get("/").await;
        assert!(answer.contains(" 200 "), "{answer}");
        floor
    }

    /// Lets the workspace become ready.
    pub fn is_ready_at(&self, upstream: SocketAddr) {
        self.upstream.send_replace(Some(upstream));
    }

    /// What the table tells is surely true until now, so that what was opened before bears witness.
    pub async fn was_true_until_now(&self) {
        // Times are told apart by the millisecond.
        tokio::time::sleep(Duration::from_millis(2)).await;
        let entry = self.edge.workspaces.lookup(&WorkspaceId::parse("alice").unwrap());
        let Some(Phase::Ready(route)) = entry.map(|entry| entry.phase.clone()) else { panic!("it is ready") };
        route.sight.reaches(Instant::now());
    }

    /// Lets the driver tell whether it hears anything.
    pub async fn is_sighted(&self, sighted: bool) {
        self.events.send(Event::Sighted(Scope::default(), sighted)).unwrap();
        let id = WorkspaceId::parse("alice").unwrap();
        let is_told = || self.edge.workspaces.lookup(&id).is_some_and(|entry| entry.seen == sighted);
        until("the table tells it", is_told).await;
    }

    /// Lets the driver tell that another instance has taken the place of this one, at the same address: nothing was
    /// heard of it yet.
    pub async fn is_replaced(&self) {
        let id = WorkspaceId::parse("alice").unwrap();
        let before = self.edge.workspaces.lookup(&id).expect("it is ready");
        let generation = Generation("2".into());
        let address = (*self.upstream.borrow()).map(Address::Tcp);
        let phase = ObservedPhase::started(generation.clone(), address);
        let (owner, template) = (before.owner.clone(), before.template.clone());
        let seen = Observed::alone(id.clone(), owner, template, Default::default(), phase);
        self.events.send(Event::Seen(seen)).unwrap();
        until("it is ready", || {
            let phase = self.edge.workspaces.lookup(&id).map(|entry| entry.phase.clone());
            matches!(phase, Some(Phase::Ready(route)) if route.generation == generation)
        })
        .await;
    }

    /// Lets the driver tell that another instance, of another owner, has taken the workspace's place.
    pub async fn is_somebody_elses(&self) {
        let id = WorkspaceId::parse("alice").unwrap();
        let owner = Identity { issuer: Identity::DEVELOPMENT.to_owned(), subject: "bob".to_owned() };
        let phase = ObservedPhase::started(Generation("2".into()), None);
        let template = config::TemplateName::parse("demo").unwrap();
        let seen = Observed::alone(id.clone(), owner.clone(), template, Default::default(), phase);
        self.events.send(Event::Seen(seen)).unwrap();
        until("the table tells it", || {
            self.edge.workspaces.lookup(&id).is_some_and(|entry| entry.owner == owner)
        })
        .await;
    }

    /// The head of a script's request, without its empty line.
    pub fn head(&self, line: &str) -> String {
        format!("{line} HTTP/1.1\r\nHost: {HOST}:{}\r\nCookie: {}\r\n", self.address.port(), self.cookie)
    }

    /// The origin of the workspace's host.
    pub fn origin(&self) -> String {
        format!("http://{HOST}:{}", self.address.port())
    }

    /// A connection on which this was sent.
    pub async fn send(&self, bytes: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.address).await.unwrap();
        client.write_all(bytes.as_bytes()).await.unwrap();
        client
    }

    /// The whole answer to a GET on a connection of its own.
    pub async fn get(&self, path: &str) -> String {
        let head = self.head(&format!("GET {path}"));
        read_all(&mut self.send(&format!("{head}Connection: close\r\n\r\n")).await).await
    }

    /// Drains and waits for the cores to end.
    pub async fn drain(&mut self) {
        proxy::drain::run(&self.edge).await;
        let cores = self.cores.take().expect("drained once");
        tokio::task::spawn_blocking(|| cores.join()).await.unwrap().unwrap();
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.shutdown.cancel();
        self.edge.drain.closing.cancel();
        self.edge.drain.cut.cancel();
    }
}

fn resolver(setup: &Setup) -> certs::Resolver {
    let Some((chain, key)) = &setup.tls else { return certs::Resolver::of_none() };
    let certificate = certs::Certificate::parse(chain.as_bytes(), key.as_bytes()).unwrap();
    certs::Resolver::of_one(certificate.certified_key(), certificate.names().to_vec())
}

fn config(setup: &Setup, state: &std::path::Path) -> Config {
    let certificates = setup.tls.as_ref().map_or(String::new(), |(certificate, key)| {
        let (certificate_file, key_file) = (state.join("c.pem"), state.join("k.pem"));
        std::fs::write(&certificate_file, certificate).unwrap();
        std::fs::write(&key_file, key).unwrap();
        format!(
            "[certificates.files]\nsource = 'files'\ncertificate = {certificate_file:?}\nprivate_key = {key_file:?}\n\
             names = ['lab.localhost', '*.lab.localhost']\n"
        )
    });
    let protocol = if certificates.is_empty() { "http" } else { "https" };
    let text = format!(
        r#"
domain = "lab.localhost"
state_dir = {state:?}
access = {{ allow = "true", template = "'demo'" }}
login = {{ development = true }}
listeners = [{{ address = "127.0.0.1:0", protocol = "{protocol}" }}]
{}
{certificates}[templates.demo]
command = ["demo", "{{port}}"]
connect = "port"
"#,
        setup.more
    );
    Config::parse("test", &text, &|_| None).unwrap_or_else(|findings| panic!("{findings}"))
}

/// Makes alice and her session; tells her workspace's cookie.
async fn log_in(edge: &Edge) -> String {
    let identity = Identity { issuer: Identity::DEVELOPMENT.to_owned(), subject: "alice".to_owned() };
    let (_, label) = edge.users.enter(&identity, "alice").await.unwrap();
    let place = Place::Workspace { id: WorkspaceId::Own { label: label.clone(), name: None }, port: None };
    let new = NewSession {
        identity,
        label,
        display_name: "Alice".to_owned(),
        subject: config::Subject::default(),
        login: Login::now(None, None, Device::default()),
        kept: None,
    };
    let (id, _) = edge.sessions.create(new).await.unwrap();
    let host = HostName::parse(HOST).unwrap();
    let set = session_cookie::issue(&edge.keys, &place, &host, id, SystemTime::now());
    set.to_str().unwrap().split(';').next().unwrap().to_owned()
}

/// An upstream that gives each connection to this function.
pub async fn upstream<F, R>(serve: F) -> SocketAddr
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(accept_all(listener, serve));
    address
}

/// Serves a listener that the test has bound itself.
pub async fn accept_all<F, R>(listener: TcpListener, serve: F)
where
    F: Fn(TcpStream) -> R,
    R: Future<Output = ()> + Send + 'static,
{
    while let Ok((tcp, _)) = listener.accept().await {
        tokio::spawn(serve(tcp));
    }
}

/// An upstream that answers each first request of a connection with these bytes, and closes. `/` is answered 200.
pub async fn answers(bytes: String) -> SocketAddr {
    upstream(move |mut tcp| {
        let bytes = bytes.clone();
        async move {
            let Some(head) = read_head(&mut tcp).await else { return };
            let root = head.starts_with("GET / ");
            let answer = if root { "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" } else { &bytes };
            let _ = tcp.write_all(answer.as_bytes()).await;
        }
    })
    .await
}

/// The head of the next request; `None` when the connection ends before.
pub async fn read_head(tcp: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.ok()?);
    }
    Some(String::from_utf8(head).unwrap())
}

/// All that comes until the other side closes.
pub async fn read_all(tcp: &mut TcpStream) -> String {
    let mut all = Vec::new();
    tokio::time::timeout(SOON, tcp.read_to_end(&mut all)).await.expect("the answer ends").unwrap();
    String::from_utf8(all).unwrap()
}

/// Reads until this text came.
pub async fn read_until(tcp: &mut TcpStream, end: &str) -> String {
    let mut all = Vec::new();
    let read = async {
        while !all.ends_with(end.as_bytes()) {
            all.push(tcp.read_u8().await.unwrap());
        }
    };
    let came = tokio::time::timeout(SOON, read).await;
    let all = String::from_utf8_lossy(&all).into_owned();
    came.unwrap_or_else(|_| panic!("no {end:?} came, but {all:?}"));
    all
}

/// Waits until this is so.
pub async fn until(what: &str, is_so: impl Fn() -> bool) {
    let poll = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, poll).await.unwrap_or_else(|_| panic!("never: {what}"));
}
