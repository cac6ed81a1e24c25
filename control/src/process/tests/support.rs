//! What the tests of the driver share: installations, what a driver tells, and waiting.

use super::super::*;
use crate::{Address, Change, Generation, Identity, Kind, Record, StartSpec, Stop, Version};
use config::{Connect, Idle, ProcessTemplate, Runs, Template};
use futures_util::StreamExt;
use proc::ProcessId;
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;
use tokio::time::{Instant, timeout};

/// A template with this command and nothing else.
pub fn template(command: &[&str]) -> Template {
    Template {
        name: TemplateName::parse("any").unwrap(),
        runs: Runs::Process(ProcessTemplate {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            environment: BTreeMap::new(),
            connect: Connect::Socket,
            log_size: 1 << 20,
        }),
        ready: None,
        ports: Vec::new(),
        notice: false,
        service_workers: false,
        headers: Default::default(),
        addresses: config::AddressLists::default(),
        prestart: Vec::new(),
        start_timeout: Duration::from_secs(10),
        stop_grace: Duration::from_secs(5),
        idle: Idle {
            idle_after: None,
            warn_before: Duration::ZERO,
            max_age: None,
            keep_until_max: Duration::ZERO,
            count_open_sockets: false,
            count_workspace_frames: false,
            count_open_responses: false,
            background: Vec::new(),
            busy: None,
        },
    }
}

/// What a template tells the driver.
pub fn process(template: &mut Template) -> &mut ProcessTemplate {
    let Runs::Process(process) = &mut template.runs else { panic!("made above") };
    process
}

/// Records in memory, which outlive a driver as those in the file do.
#[derive(Default)]
pub struct InMemory(Mutex<BTreeMap<(Kind, String), Record>>);

#[async_trait::async_trait]
impl Records for InMemory {
    async fn list(&self, kind: Kind) -> Result<Vec<Record>, RecordError> {
        let all = self.0.lock().unwrap();
        Ok(all.iter().filter(|((of, _), _)| *of == kind).map(|(_, record)| record.clone()).collect())
    }
    async fn get(&self, kind: Kind, name: &str) -> Result<Option<Record>, RecordError> {
        Ok(self.0.lock().unwrap().get(&(kind, name.to_owned())).cloned())
    }
    async fn create(&self, kind: Kind, name: &str, value: Vec<u8>) -> Result<Version, RecordError> {
        let mut all = self.0.lock().unwrap();
        if all.contains_key(&(kind, name.to_owned())) {
            return Err(RecordError::Exists(name.to_owned()));
        }
        let record = Record { name: name.to_owned(), version: Version(1), value };
        all.insert((kind, name.to_owned()), record);
        Ok(Version(1))
    }
    async fn replace(
        &self,
        kind: Kind,
        name: &str,
        version: Version,
        value: Vec<u8>,
    ) -> Result<Version, RecordError> {
        match self.0.lock().unwrap().get_mut(&(kind, name.to_owned())) {
            Some(record) if record.version == version => {
                (record.version, record.value) = (Version(version.0 + 1), value);
                Ok(record.version)
            }
            _ => Err(RecordError::Conflict(name.to_owned())),
        }
    }
    async fn delete(&self, kind: Kind, name: &str) -> Result<bool, RecordError> {
        Ok(self.0.lock().unwrap().remove(&(kind, name.to_owned())).is_some())
    }
    fn watch(&self, _kind: Kind) -> BoxStream<'static, Change> {
        unreachable!("the driver is the only writer of its records")
    }
}

/// How many files the tests' workspaces may have open.
pub const OPEN_FILES: u64 = 123;

/// One state folder with its records. Ends the processes that a failed test leaves.
pub struct Installation {
    pub state: TempDir,
    pub records: Arc<InMemory>,
}

impl Drop for Installation {
    fn drop(&mut self) {
        for process in self.bearers() {
            let pid = rustix::process::Pid::from_raw(process.pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
    }
}

impl Installation {
    pub fn new() -> Self {
        Self { state: tempfile::tempdir().unwrap(), records: Arc::default() }
    }

    pub async fn open(&self) -> Opened {
        let settings = ProcessSettings {
            state_dir: self.state.path().into(),
            usher: "/bin/true".into(),
            open_files: Some(OPEN_FILES),
        };
        let driver = ProcessDriver::open(settings, self.records.clone()).await.unwrap();
        let events = driver.observe();
        Opened { driver, events }
    }

    /// The living processes that bear this installation's mark.
    pub fn bearers(&self) -> Vec<ProcessId> {
        let Ok(id) = std::fs::read_to_string(self.state.path().join("installation")) else {
            return Vec::new();
        };
        let prefix = mark(id.trim(), "");
        let marked = |one: &proc::Seen| one.mark.as_ref().is_some_and(|mark| mark.starts_with(&prefix));
        proc::scan().unwrap().iter().filter(|one| marked(one)).map(|one| one.process).collect()
    }

    pub fn home(&self, name: &str) -> PathBuf {
        self.state.path().join("homes").join(name)
    }

    pub async fn record(&self, name: &str) -> Option<Recorded> {
        let record = self.records.get(Kind::Workspace, name).await.unwrap()?;
        Some(serde_json::from_slice(&record.value).unwrap())
    }

    /// Changes a record, as if another Usher had written it.
    pub async fn rewrite(&self, name: &str, change: impl FnOnce(&mut Recorded)) {
        let mut recorded = self.record(name).await.unwrap();
        change(&mut recorded);
        self.write(name, &recorded).await;
    }

    pub async fn write(&self, name: &str, recorded: &Recorded) {
        self.records.delete(Kind::Workspace, name).await.unwrap();
        self.records.create(Kind::Workspace, name, serde_json::to_vec(recorded).unwrap()).await.unwrap();
    }
}

/// A driver and what it tells.
pub struct Opened {
    pub driver: ProcessDriver,
    events: BoxStream<'static, Event>,
}

pub const PATIENCE: Duration = Duration::from_secs(20);

impl Opened {
    pub async fn next(&mut self) -> Event {
        timeout(PATIENCE, self.events.next()).await.expect("an event in time").expect("the driver is whole")
    }

    /// The next phase of a workspace that is told.
    pub async fn phase(&mut self) -> ObservedPhase {
        loop {
            match self.next().await {
                Event::Seen(observed) => return observed.phase,
                Event::Synced | Event::Sighted(..) => {}
                Event::Gone(id) => panic!("{id} is gone"),
            }
        }
    }

    pub async fn failure(&mut self) -> Cause {
        loop {
            match self.phase().await {
                ObservedPhase::Failed { cause } => return cause,
                ObservedPhase::Running { .. } | ObservedPhase::Stopping { .. } => {}
                other => panic!("{other:?}, not failed"),
            }
        }
    }

    pub async fn start(&mut self, name: &str, template: Template) -> (Generation, Address) {
        self.driver.act(Action::Start(spec(name, template))).await.unwrap();
        match self.phase().await {
            ObservedPhase::Running { generation, address, .. } => (generation.unwrap(), address.unwrap()),
            other => panic!("{other:?}"),
        }
    }

    /// Stops a workspace and waits until it has.
    pub async fn stop(&mut self, name: &str, generation: Generation) {
        let stopping = ObservedPhase::stopping(generation.clone());
        self.driver
            .act(Action::Stop { id: id(name), generation: Some(generation), why: Stop::Asked })
            .await
            .unwrap();
        assert_eq!(self.phase().await, stopping);
        assert_eq!(self.phase().await, ObservedPhase::Stopped);
    }

    pub async fn delete(&mut self, name: &str, volume: bool) {
        self.driver.act(Action::Delete { id: id(name), volume, owner: None }).await.unwrap();
        loop {
            if let Event::Gone(gone) = self.next().await {
                return assert_eq!(gone, id(name));
            }
        }
    }
}

pub fn id(name: &str) -> WorkspaceId {
    WorkspaceId::parse(name).unwrap()
}

pub fn owner(subject: &str) -> Identity {
    Identity { issuer: Identity::DEVELOPMENT.into(), subject: subject.into() }
}

pub fn spec(name: &str, template: Template) -> StartSpec {
    let host = format!("{name}.lab.localhost");
    StartSpec {
        id: id(name),
        owner: owner(name),
        template: Arc::new(template),
        host,
        grant: Default::default(),
    }
}

pub fn shell(script: &str) -> Template {
    template(&["sh", "-c", script])
}

/// Waits until a condition holds.
pub async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The content of a file that a workspace writes, once it ends with a line feed.
pub async fn written(path: &Path) -> String {
    let content = || std::fs::read_to_string(path).unwrap_or_default();
    until("a file is written", || content().ends_with('\n')).await;
    content()
}

pub fn names(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}
