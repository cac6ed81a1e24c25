//! Three Ushers, their people and their workspaces, and what befalls them.

mod truth;

use crate::SCALE;
use crate::judge::{IDLE_AFTER, Log, Seen, Use};
use control::kubernetes::{Client, ClientMetrics, ClientSettings, Selection, watch};
use futures_util::StreamExt;
use http::Method;
use k8s_openapi::api::apps::v1::StatefulSet;
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tests::{Cable, Cluster, Deed, Part, Person, Realm, Schedule, Setup, Usher, WallClock, Way, wait_for};
use tokio::task::JoinSet;
use truth::TRUE;

/// For what controllers, kubelet and containers do on a busy machine, an API server that begins anew included.
const SETTLED: Duration = Duration::from_secs(120);
/// For the cluster's scheduler, too: a pod that it was about to place when the API server ended it looks at again after five
/// minutes, if nothing else happens.
const RESTS: Duration = Duration::from_secs(330);

struct Replica {
    /// None = it was killed, and is to begin anew.
    usher: Option<Usher>,
    setup: Setup,
    cable: Cable,
    clock: WallClock,
    /// Counts its lives.
    life: usize,
    halted: bool,
}

/// Something that ends later.
#[derive(Debug, Clone, Copy)]
enum Later {
    Begin(usize),
    GoOn(usize),
    Reconnect(usize),
    StartServer,
    ResumeServer,
}

pub struct Site {
    realm: Realm,
    /// Whether the cluster is nobody else's.
    own: bool,
    replicas: Vec<Replica>,
    /// Those that were told to end.
    ending: Vec<Usher>,
    people: Vec<Person>,
    log: Log,
    work: JoinSet<()>,
    later: BTreeMap<(Instant, usize), Later>,
    count: usize,
    /// Whose files somebody asked to be deleted.
    without_files: BTreeSet<usize>,
    server_away: bool,
}

fn real(time: Duration) -> Duration {
    time / SCALE
}

impl Site {
    /// All begin, and everybody has a file.
    pub async fn new(cluster: &Cluster, own: bool, schedule: &Schedule) -> Self {
        let realm = Realm::new(cluster).await;
        let mut cables = Vec::new();
        for _ in 0..schedule.replicas {
            cables.push(Cable::lay(cluster).await);
        }
        let idle = IDLE_AFTER.as_secs();
        let rest = format!(
            "[workspaces]\nidle_after = \"{idle}s\"\nwarn_before = \"1s\"\n[spawn]\nconcurrent = 2\n[drain]\nafter = \"1s\"\n"
        );
        let setups = realm.setups_over(&cables, &rest).await;
        let mut replicas = Vec::new();
        for (setup, cable) in setups.into_iter().zip(cables) {
            let clock = WallClock::new();
            let setup = clock.of(setup);
            let usher = Some(setup.clone().start().await);
            replicas.push(Replica { usher, setup, cable, clock, life: 1, halted: false });
        }
        let first = replicas[0].usher.as_ref().expect("it was started");
        let mut people = Vec::new();
        for name in ["alice", "bob", "carol"].iter().take(schedule.workspaces) {
            let person = Person::logged_in(first, name).await;
            ready(&person).await;
            let written = person.fetch(Method::PUT, "/note").body(person.name.clone()).send().await;
            assert!(written.status.is_success(), "{}", written.text());
            people.push(person);
        }
        let mut site = Self {
            realm,
            own,
            replicas,
            ending: Vec::new(),
            people,
            log: Log::default(),
            work: JoinSet::new(),
            later: BTreeMap::new(),
            count: 0,
            without_files: BTreeSet::new(),
            server_away: false,
        };
        for number in 0..site.replicas.len() {
            for person in &site.at(number) {
                wait_for("the session to be known everywhere", SETTLED, async || {
                    person.status().await.get("phase").map(drop)
                })
                .await;
            }
        }
        site.look_on().await;
        site
    }

    /// Writes down what the cluster shows of workspaces.
    async fn look_on(&mut self) {
        let settings = ClientSettings { kubeconfig: Some(self.realm.cluster().admin()), context: None };
        let metrics = ClientMetrics::new(&prometheus::Registry::new()).expect("a registry of its own");
        let client = Client::new(&settings, metrics).await.expect("the admin's kubeconfig");
        let (log, selection) = (self.log.clone(), Selection::all(&self.realm.workspaces));
        self.work.spawn(async move {
            let mut watch = watch::<StatefulSet>(&client, selection);
            while let Some(seen) = watch.next().await {
                let (control::kubernetes::Seen::Put(set) | control::kubernetes::Seen::Listed(set)) = seen
                else {
                    continue;
                };
                let notes = set.metadata.annotations.unwrap_or_default();
                log.seen(Seen {
                    workspace: set.metadata.name.unwrap_or_default(),
                    at: Instant::now(),
                    runs: set.spec.and_then(|spec| spec.replicas).unwrap_or(1) > 0,
                    marked: notes.contains_key("usher.dev/mark"),
                    stopped: notes.get("usher.dev/stopped").cloned(),
                });
            }
        });
    }

    /// Does it all, in its time.
    pub async fn carry_out(&mut self, schedule: &Schedule) {
        let mut at = Instant::now();
        for step in &schedule.steps {
            at += real(step.after);
            self.until(at).await;
            self.deed(step.deed).await;
        }
    }

    /// Lets the time pass; what is to end meanwhile ends.
    async fn until(&mut self, at: Instant) {
        while let Some(entry) = self.later.first_entry()
            && entry.key().0 <= at
        {
            let ((due, _), later) = entry.remove_entry();
            tokio::time::sleep_until(due.into()).await;
            self.end_of(later).await;
        }
        tokio::time::sleep_until(at.into()).await;
    }

    fn after(&mut self, time: Duration, later: Later) {
        self.count += 1;
        self.later.insert((Instant::now() + real(time), self.count), later);
    }

    async fn end_of(&mut self, later: Later) {
        match later {
            Later::Begin(number) => self.begin(number).await,
            Later::GoOn(number) => self.go_on(number),
            Later::Reconnect(number) => self.replicas[number].cable.is(Way::Open),
            Later::StartServer if self.own => {
                self.realm.cluster().start_again(Part::ApiServer);
                self.server_away = false;
            }
            Later::ResumeServer if self.own => {
                self.realm.cluster().resume(Part::ApiServer);
                self.server_away = false;
            }
            Later::StartServer | Later::ResumeServer => {
                self.replicas.iter().for_each(|replica| replica.cable.is(Way::Open));
            }
        }
    }

    /// A life begins, once the API server can be reached: without it none does.
    async fn begin(&mut self, number: usize) {
        let replica = &mut self.replicas[number];
        if replica.usher.is_some() {
            return;
        }
        replica.cable.heals();
        if self.server_away {
            return self.after(Duration::from_secs(20), Later::Begin(number));
        }
        if self.own {
            self.realm.cluster().api_is_ready().await;
        }
        replica.usher = Some(replica.setup.clone().start().await);
        replica.life += 1;
    }

    fn go_on(&mut self, number: usize) {
        let replica = &mut self.replicas[number];
        if std::mem::take(&mut replica.halted)
            && let Some(usher) = &replica.usher
        {
            usher.signal(Signal::CONT);
        }
    }

    /// Everybody at a replica that lives; nobody elsewhere.
    fn at(&self, number: usize) -> Vec<Person> {
        let replica = &self.replicas[number];
        let Some(usher) = replica.usher.as_ref().filter(|_| !replica.halted) else { return Vec::new() };
        let mut people = self.people.clone();
        people.iter_mut().for_each(|person| person.moved_to(usher));
        people
    }

    fn person(&self, number: usize, workspace: usize) -> Option<Person> {
        self.at(number).into_iter().nth(workspace)
    }

    async fn deed(&mut self, deed: Deed) {
        match deed {
            Deed::Visit { replica, workspace } => {
                if let Some(person) = self.person(replica, workspace) {
                    self.spawn(async move { person.try_visit("/").await });
                }
            }
            Deed::Work { replica, workspace, time } => self.use_it(replica, workspace, real(time)),
            Deed::Stop { replica, workspace } => {
                if let Some(person) = self.person(replica, workspace) {
                    self.spawn(async move {
                        let _cut = person.fetch(Method::POST, "/.usher/stop").try_send().await;
                    });
                }
            }
            Deed::Delete { replica, workspace, volume } => self.delete(replica, workspace, volume),
            Deed::Kill { replica, time } => self.kill(replica, time),
            Deed::Replace { replica, time } => self.replace(replica, time),
            Deed::Halt { replica, time } => self.halt(replica, time),
            Deed::CutOff { replica, time } => {
                self.log.hindered(replica, real(time));
                let silent = time.as_secs() % 2 == 0;
                self.replicas[replica].cable.is(if silent { Way::Silent } else { Way::Cut });
                self.after(time, Later::Reconnect(replica));
            }
            Deed::Jump { replica, seconds } => self.replicas[replica].clock.is_ahead(seconds),
            Deed::Lead { leads, .. } => {
                if leads {
                    let namespace = self.realm.records.clone();
                    self.kubectl(&["delete", "lease", "usher-reaper", "--namespace", &namespace]);
                }
            }
            Deed::LoseAnswers { replica, count } => {
                self.log.hindered(replica, Duration::from_secs(4));
                self.replicas[replica].cable.loses(count);
            }
            Deed::TurnAway { replica, count } => {
                self.log.hindered(replica, Duration::from_secs(4));
                self.replicas[replica].cable.turns_away(count);
            }
            Deed::Expire { replica } => self.replicas[replica].cable.breaks(),
            Deed::Restart { time } => self.take_server_away(time, true),
            Deed::Freeze { time } => self.take_server_away(time, false),
            Deed::Replaced { workspace } => {
                let pod = format!("{}-0", self.people[workspace].name);
                let namespace = self.realm.workspaces.clone();
                self.kubectl(&["delete", "pod", &pod, "--wait=false", "--namespace", &namespace]);
            }
            Deed::Scale { workspace, up } => {
                let set = format!("statefulset/{}", self.people[workspace].name);
                let (replicas, namespace) = (if up { "1" } else { "0" }, self.realm.workspaces.clone());
                self.kubectl(&["scale", &set, "--replicas", replicas, "--namespace", &namespace]);
            }
            Deed::Keep { .. } | Deed::Break { .. } => {}
        }
    }

    fn spawn(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.work.spawn(async move { drop(tokio::time::timeout(SETTLED, work).await) });
    }

    /// By somebody else's hand, which may well fail while the API server is away.
    fn kubectl(&mut self, arguments: &[&str]) {
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let cluster = self.realm.cluster().clone();
        self.spawn(async move {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            let _away = cluster.try_kubectl(&[&["--request-timeout=5s"], &arguments[..]].concat()).await;
        });
    }

    /// Somebody uses a workspace again and again for so long.
    fn use_it(&mut self, replica: usize, workspace: usize, time: Duration) {
        let Some(person) = self.person(replica, workspace) else { return };
        let (life, log) = (self.replicas[replica].life, self.log.clone());
        self.spawn(async move {
            let end = Instant::now() + time;
            while Instant::now() < end {
                let at = Instant::now();
                let asked = person.fetch(Method::GET, "/note").try_send();
                if let Ok(Ok(answer)) = tokio::time::timeout(Duration::from_secs(2), asked).await
                    && answer.status.is_success()
                {
                    log.used(Use { workspace: person.name.clone(), replica, life, at });
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        });
    }

    fn delete(&mut self, replica: usize, workspace: usize, volume: bool) {
        let replica = &self.replicas[replica];
        let Some(usher) = replica.usher.as_ref().filter(|_| !replica.halted) else { return };
        let name = self.people[workspace].name.clone();
        if volume {
            self.without_files.insert(workspace);
            usher.command(&["delete", &name, "--with-volume"]);
        } else {
            usher.command(&["delete", &name]);
        }
    }

    fn kill(&mut self, number: usize, time: Duration) {
        let replica = &mut self.replicas[number];
        if replica.usher.take().is_some() {
            replica.halted = false;
            self.after(time, Later::Begin(number));
        }
    }

    /// It is told to end, and has a while to do so.
    fn replace(&mut self, number: usize, time: Duration) {
        let replica = &mut self.replicas[number];
        if replica.halted {
            return;
        }
        let Some(usher) = replica.usher.take() else { return };
        usher.signal(Signal::TERM);
        self.ending.push(usher);
        self.after(time, Later::Begin(number));
    }

    fn halt(&mut self, number: usize, time: Duration) {
        self.log.hindered(number, real(time));
        let replica = &mut self.replicas[number];
        if let Some(usher) = replica.usher.as_ref().filter(|_| !replica.halted) {
            usher.signal(Signal::STOP);
            replica.halted = true;
            self.after(time, Later::GoOn(number));
        }
    }

    fn take_server_away(&mut self, time: Duration, restart: bool) {
        if self.server_away {
            return;
        }
        for number in 0..self.replicas.len() {
            // With what an API server takes to begin.
            self.log.hindered(number, real(time) + Duration::from_secs(if self.own { 10 } else { 0 }));
        }
        self.server_away = self.own;
        match (self.own, restart) {
            (true, true) => self.realm.cluster().kill(Part::ApiServer),
            (true, false) => self.realm.cluster().pause(Part::ApiServer),
            (false, _) => {
                let way = if restart { Way::Cut } else { Way::Silent };
                self.replicas.iter().for_each(|replica| replica.cable.is(way));
            }
        }
        self.after(time, if restart { Later::StartServer } else { Later::ResumeServer });
    }

    /// Nothing hinders anybody any more; soon all tables are the truth.
    pub async fn come_to_rest(&mut self) {
        if let Some(((last, _), _)) = self.later.last_key_value() {
            let last = *last;
            self.until(last).await;
        }
        self.realm.cluster().api_is_ready().await;
        for number in 0..self.replicas.len() {
            self.go_on(number);
            self.replicas[number].cable.heals();
            self.begin(number).await;
        }
        wait_for("the truth to rest and all tables to show it", RESTS, async || {
            let truth = self.truth().await?;
            let shown = self.all_show(&truth).await;
            let same = self.truth().await.as_ref() == Some(&truth);
            assert!(shown || !same, "{TRUE:?} after {truth:?} a table is another: {:?}", self.tables().await);
            shown.then_some(())
        })
        .await;
    }

    /// All is stopped and nothing is left but the files, which are there when their owners come back.
    pub async fn end(&mut self) {
        let lives: Vec<_> = self.replicas.iter().map(|replica| replica.life).collect();
        self.log.nothing_in_use_was_stopped(&lives);
        let people = self.at(0);
        wait_for("all to be stopped", SETTLED, async || {
            for person in &people {
                person.press("stop").await;
            }
            let truth = self.truth().await?;
            truth.values().all(|stands| *stands == "stopped").then_some(())
        })
        .await;
        for (number, person) in people.iter().enumerate() {
            wait_for("a start", SETTLED, async || {
                person.press("start").await;
                (person.status().await["phase"] == "ready").then_some(())
            })
            .await;
            let note = person.fetch(Method::GET, "/note").send().await.text();
            let lost = self.without_files.contains(&number);
            assert!(note == person.name || (lost && note.is_empty()), "{}'s file is {note:?}", person.name);
        }
    }

    /// What came of it, in words.
    pub fn said(&self) -> String {
        let (uses, stops) = self.log.counts();
        let lives: usize = self.replicas.iter().map(|replica| replica.life).sum();
        format!("{uses} uses, {stops} stops of what was unused, {lives} lives")
    }
}

async fn ready(person: &Person) {
    wait_for("a workspace to be ready", SETTLED, async || {
        (person.status().await["phase"] == "ready").then_some(())
    })
    .await;
}
