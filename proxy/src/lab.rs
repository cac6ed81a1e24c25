//! A portal and its workspaces' hosts with real records, and browsers that come to them.
//!
//! Requests take the way of every request, [`access::admit`], so that what a phase refuses is refused here, too.
//! No workspace ever runs: one that is admitted answers [`INSIDE`], or with the waiting page where that is asked
//! for ([`Lab::with_pages`]); one of the template `broken` fails.

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
use http::header::{COOKIE, HOST, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use pingora::http::RequestHeader;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;
use url::Url;

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

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
    /// The value of the page's hidden field.
    pub(crate) fn hidden(&self, name: &str) -> String {
        let before = format!("name=\"{name}\" value=\"");
        let rest = self.body.split(&before).nth(1).unwrap_or_else(|| panic!("no {name} in {self:?}"));
        rest.split('"').next().unwrap().to_owned()
    }
}

/// Where a navigation ended, and by which addresses.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(crate) answer: Answer,
    pub(crate) url: String,
    pub(crate) by: Vec<String>,
}

/// A browser: keeps cookies by host, follows redirects, says what kind of request it makes.
#[derive(Clone)]
pub(crate) struct Browser<'a> {
    lab: &'a Lab,
    /// By host and name.
    pub(crate) jar: BTreeMap<(String, String), String>,
}

/// What a tab sends with a navigation.
pub(crate) const NAVIGATION: [(&str, &str); 4] = [
    ("sec-fetch-site", "none"),
    ("sec-fetch-mode", "navigate"),
    ("sec-fetch-dest", "document"),
    ("accept", "text/html"),
];

impl Browser<'_> {
    /// One request with this browser's cookies, followed nowhere.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let url = Url::parse(url).unwrap();
        let host = url.host_str().unwrap().to_owned();
        let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
        let mut head = RequestHeader::build(method, target.as_bytes(), None).unwrap();
        head.insert_header(HOST, &url[url::Position::BeforeHost..url::Position::AfterPort]).unwrap();
        for (name, value) in headers {
            let name = HeaderName::try_from(*name).unwrap();
            head.append_header(name, HeaderValue::try_from(*value).unwrap()).unwrap();
        }
        let cookies = self.jar.iter().filter(|((of, _), _)| *of == host);
        let cookies: Vec<_> = cookies.map(|((_, name), value)| format!("{name}={value}")).collect();
        if !cookies.is_empty() {
            head.insert_header(COOKIE, cookies.join("; ")).unwrap();
        }
        let answer = self.lab.answer(&head, body.to_owned()).await;
        for set in answer.headers.get_all(SET_COOKIE) {
            self.keep(&host, set.to_str().unwrap());
        }
        answer
    }

    fn keep(&mut self, host: &str, set: &str) {
        let (name, value) = set.split(';').next().unwrap().split_once('=').unwrap();
        let key = (host.to_owned(), name.to_owned());
        if set.contains("Max-Age=0") {
            self.jar.remove(&key);
        } else {
            self.jar.insert(key, value.to_owned());
        }
    }

    /// Goes to an address in a tab, over all redirects.
    pub(crate) async fn go(&mut self, url: &str) -> Visit {
        let answer = self.send(Method::GET, url, &NAVIGATION, "").await;
        self.follow(url.to_owned(), answer).await
    }

    /// Sends a form of a page of the portal, over all redirects.
    pub(crate) async fn submit(&mut self, url: &str, fields: &[(&str, &str)]) -> Visit {
        let answer = self.post(url, "http://lab.localhost:8080", fields).await;
        self.follow(url.to_owned(), answer).await
    }

    /// Sends a form of a page of some origin.
    pub(crate) async fn post(&mut self, url: &str, origin: &str, fields: &[(&str, &str)]) -> Answer {
        let mut form = form_urlencoded::Serializer::new(String::new());
        let form = form.extend_pairs(fields).finish();
        let mut headers = NAVIGATION.to_vec();
        headers[0].1 = "same-origin";
        headers.push(("content-type", "application/x-www-form-urlencoded"));
        if !origin.is_empty() {
            headers.push(("origin", origin));
        }
        self.send(Method::POST, url, &headers, &form).await
    }

    async fn follow(&mut self, mut url: String, mut answer: Answer) -> Visit {
        let mut by = vec![url.clone()];
        while let Some(location) = answer.headers.get(LOCATION) {
            assert!(by.len() < 12, "a loop: {by:#?}");
            url = Url::parse(&url).unwrap().join(location.to_str().unwrap()).unwrap().into();
            by.push(url.clone());
            answer = self.send(Method::GET, &url, &NAVIGATION, "").await;
        }
        Visit { answer, url, by }
    }

    /// Goes to an address, types a name into the login that comes, and goes on.
    pub(crate) async fn log_in(&mut self, name: &str, url: &str) -> Visit {
        let form = self.go(url).await.answer;
        let state = form.hidden("state");
        self.submit("http://lab.localhost:8080/login", &[("name", name), ("state", &state)]).await
    }

    pub(crate) fn cookie(&self, host: &str, name: &str) -> Option<&String> {
        self.jar.get(&(host.to_owned(), name.to_owned()))
    }
}
