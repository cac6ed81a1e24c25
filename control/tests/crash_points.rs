//! Kills a process that uses the driver at every named point of a start, a stop and a deletion, and looks at what
//! the next one finds: no orphan, no second process, no lost file.
//!
//! `USHER_CRASH_ROUNDS` sets how often each point is tried.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

use config::{Connect, Idle, ProcessTemplate, Runs, Template, TemplateName, WorkspaceId};
use control::crash::{POINTS, VARIABLE};
use control::{
    Action, Change, Driver, Event, Generation, Identity, Kind, ObservedPhase, ProcessDriver, ProcessSettings,
    Record, RecordError, Records, StartSpec, Stop, Version,
};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

const STATE: &str = "USHER_CRASH_STATE";
const PATIENCE: Duration = Duration::from_secs(30);

/// What the next Usher must make of a workspace over which one was killed.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    Stopped,
    Running,
}

fn expected(point: &str) -> Left {
    match point {
        "spawn.asked" | "delete.files-removed" => Left::Nothing,
        "spawn.process-recorded" | "spawn.told" | "stop.asked" => Left::Running,
        _ => Left::Stopped,
    }
}

#[tokio::test]
async fn a_kill_at_any_point_leaves_no_orphan_no_second_process_and_every_file() {
    let rounds = std::env::var("USHER_CRASH_ROUNDS").map_or(2, |text| text.parse().unwrap());
    for point in POINTS {
        for round in 0..rounds {
            let state = tempfile::tempdir().unwrap();
            let _ends = EndsBearers(state.path());
            crash(state.path(), point);
            let left = recover(state.path()).await;
            assert_eq!(left, expected(point), "{point}, round {round}");
            again(state.path()).await;
        }
    }
}

/// Runs the victim below in a process of its own until it dies at the point.
fn crash(state: &Path, point: &str) {
    let victim = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "victim"])
        .envs([(STATE, state.as_os_str()), (VARIABLE, point.as_ref())])
        .output()
        .unwrap();
    assert_eq!(victim.status.signal(), Some(9), "{point}: {}", String::from_utf8_lossy(&victim.stderr));
}

/// Passes every point: a start, a stop of deaf processes, a deletion that keeps the files.
#[tokio::test]
#[ignore = "the process that is killed; the test above runs it"]
async fn victim() {
    let state = PathBuf::from(std::env::var_os(STATE).expect("only run by the test above"));
    let (driver, mut events) = open(&state).await;
    driver.act(Action::Start(spec())).await.unwrap();
    let generation = loop {
        if let Some(ObservedPhase::Running { generation: Some(generation), .. }) = phase(&mut events).await {
            break generation;
        }
    };
    while starts(&state) == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    driver.act(stop(generation)).await.unwrap();
    while phase(&mut events).await != Some(ObservedPhase::Stopped) {}
    driver.act(Action::Delete { id: alice(), volume: false, owner: None }).await.unwrap();
    while phase(&mut events).await.is_some() {}
}

/// Opens the driver anew and waits until it has settled; checks that it tells the truth.
async fn recover(state: &Path) -> Left {
    let (driver, mut events) = open(state).await;
    let mut left = Left::Nothing;
    let mut settled = true;
    let mut synced = false;
    while !(synced && settled) {
        match next(&mut events).await {
            Event::Synced => synced = true,
            Event::Sighted(..) => panic!("a driver that is alone is never blind"),
            Event::Gone(_) => (left, settled) = (Left::Nothing, true),
            Event::Seen(seen) => match seen.phase {
                ObservedPhase::Stopping { .. } => settled = false,
                ObservedPhase::Stopped => (left, settled) = (Left::Stopped, true),
                ObservedPhase::Running { generation: Some(generation), .. } => {
                    let marks = generations(state);
                    assert!(
                        marks.iter().all(|mark| **mark == *generation.0),
                        "{marks:?} beside {generation}"
                    );
                    assert!(!marks.is_empty(), "it runs");
                    (left, settled) = (Left::Running, true);
                }
                other => panic!("{other:?}"),
            },
        }
    }
    if left != Left::Running {
        assert_eq!(generations(state), [""; 0], "orphans");
    }
    drop(driver);
    left
}

/// Starts the workspace, whatever was left of it, and stops it: nobody else runs, its files are there.
async fn again(state: &Path) {
    let before = starts(state);
    let (driver, mut events) = open(state).await;
    driver.act(Action::Start(spec())).await.unwrap();
    let generation = loop {
        if let Some(ObservedPhase::Running { generation: Some(generation), .. }) = phase(&mut events).await {
            break generation;
        }
    };
    while !fs::read_to_string(state.join("homes/alice/starts")).unwrap_or_default().contains(&*generation.0) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(generations(state).iter().all(|mark| **mark == *generation.0), "a second one runs");
    assert!(starts(state) >= before, "a file was lost");
    driver.act(stop(generation)).await.unwrap();
    while phase(&mut events).await != Some(ObservedPhase::Stopped) {}
    assert_eq!(generations(state), [""; 0]);
}

async fn open(state: &Path) -> (ProcessDriver, BoxStream<'static, Event>) {
    let settings = ProcessSettings { state_dir: state.into(), usher: "/bin/true".into(), open_files: None };
    let driver = ProcessDriver::open(settings, Arc::new(Files(state.join("records")))).await.unwrap();
    let events = driver.observe();
    (driver, events)
}

async fn next(events: &mut BoxStream<'static, Event>) -> Event {
    timeout(PATIENCE, events.next()).await.expect("an event in time").expect("the driver is whole")
}

/// The next phase that is told; none = the workspace is gone.
async fn phase(events: &mut BoxStream<'static, Event>) -> Option<ObservedPhase> {
    loop {
        match next(events).await {
            Event::Seen(seen) => return Some(seen.phase),
            Event::Gone(_) => return None,
            Event::Synced | Event::Sighted(..) => {}
        }
    }
}

fn alice() -> WorkspaceId {
    WorkspaceId::parse("alice").unwrap()
}

fn stop(generation: Generation) -> Action {
    Action::Stop { id: alice(), generation: Some(generation), why: Stop::Asked }
}

/// Deaf to SIGTERM, with a child in a session of its own; notes each start in a file.
fn spec() -> StartSpec {
    let script = "trap '' TERM; echo $USHER_GENERATION >>starts; setsid sleep 600 & sleep 600; wait";
    let template = Template {
        name: TemplateName::parse("any").unwrap(),
        runs: Runs::Process(ProcessTemplate {
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
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
        start_timeout: PATIENCE,
        stop_grace: Duration::from_millis(50),
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
    };
    let owner = Identity { issuer: Identity::DEVELOPMENT.into(), subject: "alice".into() };
    let host = "alice.lab.localhost".into();
    StartSpec { id: alice(), owner, template: Arc::new(template), host, grant: Default::default() }
}

/// How often the workspace was started, by its own account.
fn starts(state: &Path) -> usize {
    fs::read_to_string(state.join("homes/alice/starts")).unwrap_or_default().lines().count()
}

/// The processes that bear the installation's mark: pid, and the environment's variables.
fn bearers(state: &Path) -> Vec<(i32, Vec<String>)> {
    let Ok(installation) = fs::read_to_string(state.join("installation")) else { return Vec::new() };
    let mark = format!("USHER_WORKSPACE={}/alice", installation.trim());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let Ok(pid) = entry.unwrap().file_name().to_str().unwrap_or("").parse() else { continue };
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let variables: Vec<String> = environment
            .split(|byte| *byte == 0)
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .collect();
        if variables.contains(&mark) {
            found.push((pid, variables));
        }
    }
    found
}

/// The generation of each process that bears the installation's mark.
fn generations(state: &Path) -> Vec<String> {
    let of = |variables: &[String]| {
        variables.iter().find_map(|text| text.strip_prefix("USHER_GENERATION=")).unwrap_or("none").to_owned()
    };
    bearers(state).iter().map(|(_, variables)| of(variables)).collect()
}

/// Ends what a failed test leaves.
struct EndsBearers<'a>(&'a Path);

impl Drop for EndsBearers<'_> {
    fn drop(&mut self) {
        for (pid, _) in bearers(self.0) {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
    }
}

/// Records as files, each written beside itself and renamed.
struct Files(PathBuf);

impl Files {
    fn write(&self, name: &str, version: Version, value: &[u8]) -> Result<Version, RecordError> {
        fs::create_dir_all(&self.0).unwrap();
        let unfinished = self.0.join("unfinished");
        fs::write(&unfinished, [version.0.to_string().as_bytes(), b"\n", value].concat()).unwrap();
        fs::rename(unfinished, self.0.join(name)).unwrap();
        Ok(version)
    }
    fn read(&self, name: &str) -> Option<Record> {
        let text = fs::read_to_string(self.0.join(name)).ok()?;
        let (version, value) = text.split_once('\n').unwrap();
        Some(Record { name: name.into(), version: Version(version.parse().unwrap()), value: value.into() })
    }
}

#[async_trait::async_trait]
impl Records for Files {
    async fn list(&self, _: Kind) -> Result<Vec<Record>, RecordError> {
        let names = fs::read_dir(&self.0).into_iter().flatten().map(|entry| entry.unwrap().file_name());
        let names = names.filter_map(|name| name.into_string().ok()).filter(|name| name != "unfinished");
        Ok(names.filter_map(|name| self.read(&name)).collect())
    }
    async fn get(&self, _: Kind, name: &str) -> Result<Option<Record>, RecordError> {
        Ok(self.read(name))
    }
    async fn create(&self, _: Kind, name: &str, value: Vec<u8>) -> Result<Version, RecordError> {
        match self.read(name) {
            Some(_) => Err(RecordError::Exists(name.into())),
            None => self.write(name, Version(1), &value),
        }
    }
    async fn replace(
        &self,
        _: Kind,
        name: &str,
        version: Version,
        value: Vec<u8>,
    ) -> Result<Version, RecordError> {
        match self.read(name) {
            Some(record) if record.version == version => self.write(name, Version(version.0 + 1), &value),
            _ => Err(RecordError::Conflict(name.into())),
        }
    }
    async fn delete(&self, _: Kind, name: &str) -> Result<bool, RecordError> {
        Ok(fs::remove_file(self.0.join(name)).is_ok())
    }
    fn watch(&self, _: Kind) -> BoxStream<'static, Change> {
        unreachable!("the driver is the only writer of its records")
    }
}
