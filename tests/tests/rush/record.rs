//! What the API server told of StatefulSets and pods, by another client than Usher's, and what follows from it.
//!
//! Versions of objects are of one store that counts all writes: they put what happened to sets and to pods in one order.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ops::RangeInclusive;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tests::{Realm, wait_for};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::runtime;
use tokio::sync::oneshot;

/// A want that is so old is known to every Usher.
const KNOWN: Duration = Duration::from_secs(1);
/// How long it may take until all that happened is told here, too.
const TOLD: Duration = Duration::from_secs(30);

/// A place in the queue: by the API server's second, within it by the writer's milliseconds, and then by name.
pub type Order = (String, u64, String);

type Lines = Arc<Mutex<Vec<(Instant, String)>>>;

/// A record that is being written.
pub struct Record {
    sets: Lines,
    pods: Lines,
    /// Who listens ends with it.
    _listeners: [oneshot::Sender<()>; 2],
}

/// A record that is whole.
pub struct Whole {
    /// When each set was wanted, and when and at which version it was started.
    sets: HashMap<String, Course>,
    /// The version at which each workspace's pod ran, and which pods there were.
    running: HashMap<String, u64>,
    pods: BTreeMap<String, HashSet<String>>,
}

#[derive(Debug, Default)]
struct Course {
    wanted: Option<(Span, Order)>,
    started: Option<(u64, Span)>,
}

/// When the API server did something at the earliest, by the second that it notes, and when that was heard of: an API
/// server with much to do tells late.
#[derive(Debug, Clone, Copy)]
struct Span {
    done: Instant,
    heard: Instant,
}

impl Span {
    fn new(second: &Time, heard: Instant) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_secs_f64();
        let ago = Duration::from_secs_f64((since - second.0.as_second() as f64).max(0.0));
        Self { done: Instant::now().checked_sub(ago).map_or(heard, |done| done.min(heard)), heard }
    }
}

impl Record {
    /// Begins to listen to what happens in the realm's namespace of workspaces.
    pub async fn begin(realm: &Realm) -> Self {
        let (sets, of_sets) = follow(realm, "/apis/apps/v1", "statefulsets");
        let (pods, of_pods) = follow(realm, "/api/v1", "pods");
        Self { sets, pods, _listeners: [of_sets, of_pods] }
    }

    /// Ends when the pods of so many workspaces were seen to run.
    pub async fn end(self, count: usize) -> Whole {
        let whole = wait_for("the record to be whole", TOLD, async || {
            let whole = Whole::of(&lines(&self.sets), &lines(&self.pods));
            let started = whole.sets.values().filter(|course| course.started.is_some()).count();
            (whole.running.len() >= count && started >= count).then_some(whole)
        })
        .await;
        drop(self);
        whole
    }
}

fn lines(lines: &Lines) -> Vec<(Instant, String)> {
    lines.lock().expect("nobody panics with it").clone()
}

/// Listens in a thread of its own, so that nothing it hears waits for the visitors; where kubectl gives up, anew, which
/// tells again what there is.
fn follow(realm: &Realm, group: &str, kind: &str) -> (Lines, oneshot::Sender<()>) {
    // As it comes: an API server ends the watch of a client that is slow to read what it is told.
    let watch = format!("{group}/namespaces/{}/{kind}?watch=true", realm.workspaces);
    let cluster = realm.cluster().clone();
    let heard = Lines::default();
    let into = heard.clone();
    let listen = async move || loop {
        let mut command = Command::from(cluster.kubectl_command());
        command.args(["get", "--raw", &watch]).stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("kubectl can be started");
        let mut told = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        while let Ok(Some(line)) = told.next_line().await {
            into.lock().expect("nobody panics with it").push((Instant::now(), line));
        }
    };
    let (end, ended) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime =
            runtime::Builder::new_current_thread().enable_all().build().expect("threads have one each");
        runtime.block_on(async {
            tokio::select! { _ = ended => {} () = listen() => {} }
        });
    });
    (heard, end)
}

impl Whole {
    fn of(sets: &[(Instant, String)], pods: &[(Instant, String)]) -> Self {
        let mut whole = Self { sets: HashMap::new(), running: HashMap::new(), pods: BTreeMap::new() };
        for (at, line) in sets {
            let StatefulSet { metadata, spec, .. } = object(line);
            let (name, version) = named(&metadata);
            let course = whole.sets.entry(name.clone()).or_default();
            if course.started.is_some() {
                continue;
            }
            if let Some((second, order)) = order(&metadata)
                // Who had to try again is behind those who came meanwhile.
                && course.wanted.as_ref().is_none_or(|(_, known)| *known != order)
            {
                course.wanted = Some((Span::new(second, *at), order));
            }
            if spec.and_then(|spec| spec.replicas) == Some(1) {
                let writers = metadata.managed_fields.iter().flatten().filter(|of| of.subresource.is_none());
                let second = writers.filter_map(|writer| writer.time.as_ref()).max_by_key(|time| time.0);
                let second = second.expect("what was written has its second");
                course.started = Some((version, Span::new(second, *at)));
            }
        }
        for (_, line) in pods {
            let Pod { metadata, status, .. } = object(line);
            let (_, version) = named(&metadata);
            let workspace = metadata.labels.unwrap_or_default().remove("usher.dev/workspace");
            let workspace = workspace.expect("each pod is a workspace's");
            let uid = metadata.uid.expect("each has one");
            whole.pods.entry(workspace.clone()).or_default().insert(uid);
            if status.and_then(|status| status.phase).as_deref() == Some("Running") {
                whole.running.entry(workspace).or_insert(version);
            }
        }
        whole
    }

    /// There is one StatefulSet for each of so many, and of each one pod.
    pub fn nothing_twice(&self, count: usize) {
        assert_eq!((self.sets.len(), self.pods.len()), (count, count));
        let twice: Vec<_> = self.pods.iter().filter(|(_, uids)| uids.len() > 1).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }

    /// The most that had been started and whose pods did not run yet.
    pub fn most_at_once(&self) -> usize {
        let started = self.sets.values().filter_map(|course| Some((course.started?.0, 1)));
        let ran = self.running.values().map(|version| (*version, -1));
        let changes: BTreeSet<(u64, i32)> = started.chain(ran).collect();
        let counts = changes.into_iter().scan(0, |count, (_, change)| {
            *count += change;
            Some(*count)
        });
        counts.max().unwrap_or_default().try_into().expect("what runs was started")
    }

    /// Who was started although those on their way, and those who came before them, had been known for long and still
    /// waited, were more than may be on their way.
    pub fn out_of_turn(&self, cap: usize) -> Vec<String> {
        let courses = self
            .sets
            .iter()
            .filter_map(|(name, course)| Some((name, course.wanted.as_ref()?, course.started?)));
        let courses: Vec<_> = courses.collect();
        let early = courses.iter().filter_map(|(name, (_, mine), (version, start))| {
            let waited = |want: &Span| start.heard.saturating_duration_since(want.heard);
            let before = courses.iter().filter(|(_, (_, order), (started, _))| order < mine && started > version);
            let passed_over: Vec<_> =
                before.map(|(_, (want, _), _)| waited(want)).filter(|waited| *waited > KNOWN).collect();
            let runs_later = |name: &str| self.running.get(name).is_none_or(|running| running > version);
            let on_their_way =
                courses.iter().filter(|(name, _, (started, _))| started < version && runs_later(name)).count();
            (passed_over.len() + on_their_way >= cap)
                .then(|| format!("{name}: {on_their_way} were on their way, and before it came some that had waited for {passed_over:?}"))
        });
        early.collect()
    }

    /// The places that somebody may have had in the queue from one time to another; `None` = they were not in it all the
    /// time.
    pub fn places(&self, name: &str, from: Instant, to: Instant) -> Option<RangeInclusive<usize>> {
        let (wanted, mine) = self.sets.get(name)?.wanted.as_ref()?;
        if from < wanted.heard {
            return None;
        }
        let before = self.sets.values().filter_map(|course| {
            let (want, order) = course.wanted.as_ref()?;
            (order < mine).then_some((want, course.started?.1))
        });
        let before: Vec<(&Span, Span)> = before.collect();
        let changes =
            before.iter().flat_map(|(want, start)| [want.done, want.heard, start.done, start.heard]);
        let moments: Vec<Instant> = changes.filter(|at| (from..=to).contains(at)).chain([from, to]).collect();
        let ahead = |waits: fn(&Span, &Span, Instant) -> bool| {
            let before = &before;
            let count = move |at| before.iter().filter(|(want, start)| waits(want, start, at)).count();
            moments.iter().copied().map(count)
        };
        let surely = ahead(|want, start, at| want.heard <= at && at < start.done).min()?;
        let perhaps = ahead(|want, start, at| want.done <= at && at < start.heard).max()?;
        Some(1 + surely..=1 + perhaps)
    }
}

/// What a line of a watch is about.
fn object<K: DeserializeOwned>(line: &str) -> K {
    let mut event: Value = serde_json::from_str(line).expect("a watch tells of an event in each line");
    serde_json::from_value(event["object"].take()).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// Its name and its version.
fn named(metadata: &ObjectMeta) -> (String, u64) {
    let version = metadata.resource_version.as_ref().and_then(|version| version.parse().ok());
    (metadata.name.clone().expect("each has one"), version.expect("a version is a number"))
}

/// The place of whoever wants it, if somebody does.
fn order(metadata: &ObjectMeta) -> Option<(&Time, Order)> {
    let want = metadata.annotations.as_ref()?.get("usher.dev/wanted")?;
    let want: Value = serde_json::from_str(want).expect("a want is JSON");
    let mut writers = metadata.managed_fields.iter().flatten();
    let writer = writers.find(|writer| writer.manager.as_deref() == Some("usher-want"));
    let second = writer.and_then(|writer| writer.time.as_ref()).expect("a want has its second");
    let within = want["at_ms"].as_u64().expect("a want has a time");
    Some((second, (second.0.to_string(), within, metadata.name.clone()?)))
}
