//! A portal and its workspaces' hosts with real records, and browsers that come to them.
//!
//! Requests take the way of every request, [`access::admit`], so that what a phase refuses is refused here, too.
//! No workspace ever runs: one that is admitted answers [`INSIDE`], or with the waiting page where that is asked
//! for ([`Lab::with_pages`]); one of the template `broken` fails.

mod browser;

pub(crate) use browser::{Answer, Browser, NAVIGATION, Visit};

use crate::access::ensure::How;
use crate::access::{self, Verdict};
use crate::assertion::Assertions;
use crate::audit::Audit;
use crate::connection::ConnectionFacts;
use crate::edge::{Edge, ListenerFacts, Origins};
use crate::identity::refresh::Wishes;
use crate::keys::Keys;
use crate::limits::Limits;
use crate::machines::{Issuers, Machines};
use crate::metrics::Metrics;
use crate::own::Asked;
use crate::request::{Intent, Request};
use crate::{portal, refusal, workspace_host};
use arc_swap::ArcSwap;
use axum::body::{Body, to_bytes};
use config::Config;
use control::{
    Action, Cause, CauseCode, Control, Driver, Event, Generation, Identity, Observed, ObservedPhase,
    RedbRecords, StartSpec,
};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use pingora::http::RequestHeader;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

/// What a workspace's host shows to whoever may enter.
pub(crate) const INSIDE: &str = "the workspace";

/// With pods in place of processes.
pub(crate) const PODS: &str = r#"
domain = "lab.localhost"
driver = "kubernetes"
state_dir = "/nowhere"
kubernetes = { namespace = "workspaces" }
listeners = [{ address = "127.0.0.1:8080" }]
login = { development = true }
access = { allow = "true", template = "'demo'" }
[templates.demo]
image = "demo"
port = 8888
volume = "none"
resources = { cpu = 1, memory = "1Gi" }
"#;

pub(crate) const CONFIG: &str = r#"
domain = "lab.localhost"
state_dir = "/nowhere"
[[listeners]]
address = ["127.0.0.1:8080"]
[login]
development = true
[access]
allow = "user.name != 'mallory'"
label = "user.name"
template = "'demo'"
[named_workspaces.gpu]
template = "'demo'"
[templates.demo]
command = ["demo", "{socket}"]
connect = "socket"
ports = [8888]
"#;

/// For tests that hurry as no person does.
pub(crate) const HURRIED: &str = r#"
[limits]
requests_per_address = 1000000000
logins_per_address = 1000000000
bad_tokens_per_address = 1000000000
requests_per_user = "1000000000"
messages_per_user = "1000000000"
"#;

pub(crate) struct Lab {
    pub(crate) edge: Arc<Edge>,
    pub(crate) records: Arc<RedbRecords>,
    listener: Arc<ListenerFacts>,
    driver: Arc<Nothing>,
    pages: bool,
    _state: tempfile::TempDir,
    _shutdown: DropGuard,
}

/// A driver of a machine on which nothing runs but a workspace of dora's name that somebody else has made, and what
/// a test has it tell.
struct Nothing {
    tells: mpsc::UnboundedSender<Event>,
    told: Mutex<Option<mpsc::UnboundedReceiver<Event>>>,
    starts: Mutex<Vec<StartSpec>>,
}

impl Nothing {
    fn new() -> Self {
        let (tells, told) = mpsc::unbounded_channel();
        Self { tells, told: Mutex::new(Some(told)), starts: Mutex::default() }
    }
}

#[async_trait::async_trait]
impl Driver for Nothing {
    fn observe(&self) -> BoxStream<'static, Event> {
        let foreign = Event::Seen(Observed::alone(
            config::WorkspaceId::parse("gpu--dora").unwrap(),
            Identity { issuer: Identity::DEVELOPMENT.to_owned(), subject: "somebody else".to_owned() },
            config::TemplateName::parse("demo").unwrap(),
            Default::default(),
            ObservedPhase::started(Generation("1".into()), None),
        ));
        let told = self.told.lock().unwrap().take().unwrap();
        stream::iter([foreign, Event::Synced]).chain(UnboundedReceiverStream::new(told)).boxed()
    }
    async fn act(&self, action: Action) -> Result<(), Cause> {
        match action {
            Action::Start(spec) if spec.template.name.as_str() == "broken" => Err(Cause {
                code: CauseCode::ProgramNotFound,
                detail: "The program `broken` does not exist.".to_owned(),
                hint: "Install it.".to_owned(),
            }),
            Action::Start(spec) => {
                self.starts.lock().unwrap().push(spec);
                Ok(())
            }
            _ => Ok(()),
        }
    }
    async fn log_tail(&self, id: &config::WorkspaceId) -> String {
        format!("the output of {id}")
    }
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let facts = ListenerFacts { tls: false, public_port: 8080, loopback: true, redirects: false };
        Self::with(&format!("{CONFIG}{HURRIED}"), facts).await
    }

    /// One that is asked for challenges and can answer these.
    pub(crate) async fn asked_for(challenges: certs::HttpChallenges) -> Self {
        let facts = ListenerFacts { tls: false, public_port: 8080, loopback: true, redirects: false };
        Self::of(&format!("{CONFIG}{HURRIED}"), facts, certs::Resolver::of_none(), challenges).await
    }

    pub(crate) async fn with(toml: &str, listener: ListenerFacts) -> Self {
        Self::of(toml, listener, certs::Resolver::of_none(), Default::default()).await
    }

    /// One with these certificates.
    pub(crate) async fn showing(resolver: certs::Resolver) -> Self {
        let facts = ListenerFacts { tls: true, public_port: 443, loopback: true, redirects: false };
        Self::of(&format!("{CONFIG}{HURRIED}"), facts, resolver, Default::default()).await
    }

    async fn of(
        toml: &str,
        listener: ListenerFacts,
        resolver: certs::Resolver,
        challenges: certs::HttpChallenges,
    ) -> Self {
        let config = Arc::new(Config::parse("test.toml", toml, &|_| None).unwrap());
        let state = tempfile::tempdir().unwrap();
        let records = Arc::new(RedbRecords::open(&state.path().join("state.redb")).unwrap());
        let shutdown = CancellationToken::new();
        let (_, told) = watch::channel(config.clone());
        let registry = prometheus::Registry::new();
        let driver = Arc::new(Nothing::new());
        let keys = Keys::open_dir(state.path()).unwrap();
        let metrics = Metrics::new().unwrap();
        let audit = Audit::open(&config.audit, &metrics.audit).unwrap().0;
        let control =
            Control::start(told, driver.clone(), records.clone(), &registry, audit.acts(), shutdown.clone())
                .await
                .unwrap();
        let edge = Edge {
            config: ArcSwap::new(config),
            workspaces: control.workspaces,
            sessions: control.sessions,
            tokens: control.tokens,
            machines: Machines::new(&keys, Issuers::default(), &metrics),
            users: control.users,
            tickets: control.tickets,
            providers: Default::default(),
            refresh: Wishes::new().0,
            resolver,
            challenges,
            assertions: Assertions::new(&keys),
            keys,
            certificates: None,
            origins: Origins::default(),
            limits: Limits::at_once(&metrics),
            metrics,
            audit,
            draining: CancellationToken::new(),
            close_tunnels: CancellationToken::new(),
            drain: crate::drain::Drain::default(),
        };
        Self {
            edge: Arc::new(edge),
            records,
            listener: Arc::new(listener),
            driver,
            pages: false,
            _state: state,
            _shutdown: shutdown.drop_guard(),
        }
    }

    /// Has the driver tell something.
    pub(crate) fn tell(&self, event: Event) {
        self.driver.tells.send(event).unwrap();
    }

    /// What the driver was asked to start, in order.
    pub(crate) fn starts(&self) -> Vec<StartSpec> {
        self.driver.starts.lock().unwrap().clone()
    }

    /// Shows the waiting page to navigations whose workspace is not ready.
    pub(crate) fn with_pages(self) -> Self {
        Self { pages: true, ..self }
    }

    pub(crate) fn browser(&self) -> Browser<'_> {
        Browser { lab: self, jar: BTreeMap::new() }
    }

    /// One request, from its parsed head to the answer.
    async fn answer(&self, head: &RequestHeader, body: String) -> Answer {
        let config = self.edge.config.load_full();
        let connection = ConnectionFacts {
            listener: self.listener.clone(),
            client: "127.0.0.1:4000".parse().unwrap(),
            server_name: None,
            transport_security: None,
        };
        let intent = Intent::of(&head.headers);
        let portal = Some(self.listener.origin(config.portal.as_str()));
        let reader = refusal::Reader { intent, method: &head.method, request_id: "r-1", portal };
        let refused = |refusal| refusal::answer(&refusal, &reader).map(Body::from);
        let response = match Request::parse(head, &connection) {
            Err(refusal) => refused(refusal),
            Ok(request) => match access::admit(&self.edge, &config, &request).await {
                Err(refusal) => refused(refusal),
                Ok(Verdict::Own(own)) => {
                    let asked = Asked {
                        own: Arc::new(own),
                        host: request.host.clone(),
                        connection: connection.clone(),
                        config,
                        method: head.method.clone(),
                        intent,
                        request_id: "r-1".into(),
                    };
                    self.own(head, asked, body).await
                }
                Ok(Verdict::Wait(waiting)) if self.pages && waiting.how == How::Page => {
                    workspace_host::waiting_page(&self.edge, &request, waiting.permit.id(), waiting.woken)
                        .await
                        .map(Body::from)
                }
                Ok(_) => http::Response::new(Body::from(INSIDE)),
            },
        };
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    async fn own(&self, head: &RequestHeader, asked: Asked, body: String) -> http::Response<Body> {
        let router = match asked.own.place {
            access::route::Place::Portal => portal::router(self.edge.clone()),
            access::route::Place::Workspace { .. } => workspace_host::router(self.edge.clone()),
        };
        let mut request = http::Request::new(Body::from(body));
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = head.uri.clone();
        *request.headers_mut() = head.headers.clone();
        request.extensions_mut().insert(asked);
        router.oneshot(request).await.unwrap()
    }
}
