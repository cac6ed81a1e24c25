//! What the tests of the control loop share: values, and a driver that does as it is told.

use crate::state::{Settings, State};
use crate::table::Elsewhere;
use crate::usage::Restored;
use crate::work::Probes;
use crate::{
    Action, Address, Cause, CauseCode, Driver, Event, Generation, Grant, Identity, Observed, ObservedPhase,
    StartSpec, Terms, Wake,
};
use config::{Connect, Idle, ProcessTemplate, Runs, Template, TemplateName, WorkspaceId};
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

pub(crate) fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn id(text: &str) -> WorkspaceId {
    WorkspaceId::parse(text).unwrap()
}

/// The owner of the workspaces under the label of this id.
pub(crate) fn owner(id: &WorkspaceId) -> Identity {
    match id.route() {
        Some(route) => Identity::of_route(route),
        None => Identity { issuer: "test".to_owned(), subject: id.label().unwrap().to_string() },
    }
}

pub(crate) fn idle() -> Idle {
    Idle {
        idle_after: Some(secs(600)),
        warn_before: secs(60),
        max_age: None,
        keep_until_max: secs(36_000),
        count_open_sockets: false,
        count_workspace_frames: false,
        count_open_responses: false,
        background: Vec::new(),
        busy: None,
    }
}

pub(crate) fn template(name: &str, idle: Idle) -> Arc<Template> {
    Arc::new(Template {
        name: TemplateName::parse(name).unwrap(),
        runs: Runs::Process(ProcessTemplate {
            command: vec!["true".to_owned()],
            environment: BTreeMap::new(),
            connect: Connect::Port,
            log_size: 1024,
        }),
        ready: None,
        ports: Vec::new(),
        notice: false,
        service_workers: false,
        headers: Default::default(),
        addresses: config::AddressLists::default(),
        prestart: Vec::new(),
        start_timeout: secs(30),
        stop_grace: secs(5),
        idle,
    })
}

pub(crate) fn settings(concurrent: usize, queue: usize, idle: Idle) -> Settings {
    let demo = template("demo", idle);
    Settings {
        domain: "lab.localhost".to_owned(),
        templates: BTreeMap::from([(demo.name.clone(), demo)]),
        concurrent,
        queue,
        quotas: BTreeMap::new(),
        demands: Default::default(),
    }
}

/// Settings of workspaces that are pods, with these tables of the configuration.
pub(crate) fn pods(tables: &str) -> Settings {
    let head = "domain = 'lab.localhost'\ndriver = 'kubernetes'\nlisteners = [{ address = '127.0.0.1:8080' }]\n\
                access = { allow = 'true', template = \"'demo'\" }\nkubernetes = { namespace = 'w' }\n";
    let config = config::Config::parse("f", &format!("{head}{tables}"), &|_| None);
    Settings::of(&config.unwrap_or_else(|findings| panic!("{findings}")))
}

pub(crate) fn state(settings: Settings, now: Instant) -> State {
    let mut state = State::new(settings, Restored::default(), false);
    state.fold(Event::Synced, now);
    state
}

/// A start of the workspace's own owner, from the template `demo`.
pub(crate) fn spec(id: &WorkspaceId) -> StartSpec {
    let (template, host) = (template("demo", idle()), format!("{id}.lab.localhost"));
    StartSpec { id: id.clone(), owner: owner(id), template, host, grant: Grant::default() }
}

pub(crate) fn terms(started: Instant) -> Terms {
    Terms {
        started,
        last: (started, "started"),
        busy: None,
        extended_until: None,
        kept_until: None,
        elsewhere: Elsewhere::default(),
    }
}

pub(crate) fn wake(id: &WorkspaceId) -> Wake {
    Wake {
        id: id.clone(),
        owner: owner(id),
        template: TemplateName::parse("demo").unwrap(),
        grant: Grant::default(),
        host: format!("{id}.lab.localhost"),
        running_max: 3,
        retry: false,
    }
}

pub(crate) fn cause(code: CauseCode) -> Cause {
    Cause { code, detail: "It failed.".to_owned(), hint: "look".to_owned() }
}

pub(crate) fn address() -> Address {
    Address::Tcp(([127, 0, 0, 1], 1).into())
}

pub(crate) fn generation(number: u64) -> Generation {
    Generation(number.to_string().into())
}

pub(crate) fn seen(id: &WorkspaceId, phase: ObservedPhase) -> Event {
    let template = TemplateName::parse("demo").unwrap();
    Event::Seen(Observed::alone(id.clone(), owner(id), template, Grant::default(), phase))
}

pub(crate) fn running(id: &WorkspaceId, number: u64) -> Event {
    seen(id, ObservedPhase::started(generation(number), Some(address())))
}

/// A driver that does what it is asked at once, writes it down, and tells what a test has it tell.
pub(crate) struct FakeDriver {
    events: mpsc::UnboundedSender<Event>,
    stream: Mutex<Option<mpsc::UnboundedReceiver<Event>>>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    log: Vec<String>,
    generations: u64,
    running: HashMap<WorkspaceId, Generation>,
    refuse: Option<Cause>,
    frozen: bool,
}

impl FakeDriver {
    pub(crate) fn new() -> Arc<Self> {
        let (events, stream) = mpsc::unbounded_channel();
        Arc::new(Self { events, stream: Mutex::new(Some(stream)), inner: Mutex::default() })
    }

    pub(crate) fn tell(&self, event: Event) {
        self.events.send(event).unwrap();
    }

    /// What it was asked to do, in order: `start alice`, `stop alice 1`, …
    pub(crate) fn log(&self) -> Vec<String> {
        self.inner.lock().unwrap().log.clone()
    }

    /// Refuses everything from now on, or nothing any more.
    pub(crate) fn refuse(&self, cause: Option<Cause>) {
        self.inner.lock().unwrap().refuse = cause;
    }

    /// Takes everything up and does nothing of it, from now on.
    pub(crate) fn freeze(&self) {
        self.inner.lock().unwrap().frozen = true;
    }

    fn start(&self, inner: &mut Inner, spec: &StartSpec) {
        inner.generations += 1;
        inner.running.insert(spec.id.clone(), generation(inner.generations));
        self.tell(running(&spec.id, inner.generations));
    }

    fn end(&self, inner: &mut Inner, id: &WorkspaceId, generation: &Generation) {
        if inner.running.get(id).is_none_or(|running| running == generation) {
            inner.running.remove(id);
            self.tell(seen(id, ObservedPhase::stopping(generation.clone())));
            self.tell(seen(id, ObservedPhase::Stopped));
        }
    }
}

#[async_trait::async_trait]
impl Driver for FakeDriver {
    fn observe(&self) -> BoxStream<'static, Event> {
        UnboundedReceiverStream::new(self.stream.lock().unwrap().take().unwrap()).boxed()
    }

    async fn act(&self, action: Action) -> Result<(), Cause> {
        let mut inner = self.inner.lock().unwrap();
        inner.log.push(match &action {
            Action::Start(spec) => format!("start {}", spec.id),
            Action::Stop { id, generation: Some(generation), .. } => format!("stop {id} {generation}"),
            Action::Stop { id, .. } => format!("stop {id}"),
            Action::Want(spec) => format!("want {}", spec.id),
            Action::Mark { id, .. } => format!("mark {id}"),
            Action::Unmark { id, .. } => format!("unmark {id}"),
            Action::Delete { id, volume, owner: None } => format!("delete {id} {volume}"),
            Action::Delete { id, volume, owner: Some(owner) } => {
                format!("delete {id} {volume} of {}", owner.subject)
            }
            Action::Nudge(spec) => format!("nudge {}", spec.id),
        });
        if let Some(cause) = &inner.refuse {
            return Err(cause.clone());
        }
        if inner.frozen {
            return Ok(());
        }
        match action {
            Action::Start(spec) => self.start(&mut inner, &spec),
            Action::Stop { id, generation: Some(generation), .. } => self.end(&mut inner, &id, &generation),
            Action::Delete { id, .. } => self.tell(Event::Gone(id)),
            _ => {}
        }
        Ok(())
    }

    async fn log_tail(&self, id: &WorkspaceId) -> String {
        format!("listening\n{id}: out of luck\n")
    }
}

/// Probes that get through after so long, and applications that take a while to say what `answer` says now.
pub(crate) fn probes(after: Duration, answer: Arc<Mutex<Option<serde_json::Value>>>) -> Probes {
    Probes {
        reach: Box::new(move |_, _, _| tokio::time::sleep(after).boxed()),
        ask: Box::new(move |_, _, _| {
            let answer = answer.lock().unwrap().clone();
            async move {
                tokio::time::sleep(secs(3)).await;
                answer
            }
            .boxed()
        }),
    }
}

/// The rules for JupyterLab as they are shipped: idle after 20 min, a busy kernel counts and is asked for each
/// minute.
pub(crate) fn jupyterlab() -> Settings {
    let text = include_str!("../../config/quickstart.toml");
    let mut config = config::Config::parse("quickstart.toml", text, &|_| None).unwrap();
    let demo = TemplateName::parse("demo").unwrap();
    let jupyterlab = config.templates.remove(&TemplateName::parse("jupyterlab").unwrap()).unwrap();
    config.templates.insert(demo, jupyterlab);
    Settings::of(&config)
}
