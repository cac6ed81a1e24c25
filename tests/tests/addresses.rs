//! Pods that get the address of somebody else's that has just ended, under live traffic by way of two Ushers: nobody ever
//! reads a byte of another's workspace.

use http::Method;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use tests::{Cluster, Kept, Person, Realm, STARTED, Usher, chance, wait_for};
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many of each kind ask at a time, by way of each Usher.
const CLIENTS: usize = 2;
/// How often each asks.
const PACE: Duration = Duration::from_millis(5);

/// What somebody's clients got.
#[derive(Debug, Default)]
struct Got {
    /// Answers of their own workspace.
    own: usize,
    /// When the last of them was asked for.
    last: Option<Instant>,
    /// What else was read.
    others: Vec<String>,
}

impl Got {
    fn own(&mut self, asked: Instant) {
        (self.own, self.last) = (self.own + 1, Some(asked));
    }
}

struct Site {
    realm: Realm,
    ushers: [Usher; 2],
    /// The one that runs, then the one that is about to.
    people: [Person; 2],
}

impl Site {
    /// Both have a note that says whose it is, and the first runs.
    async fn new(cluster: &Cluster) -> Self {
        let realm = Realm::new(cluster).await;
        let setup = realm.setup("").await;
        let ushers = [setup.clone().start().await, setup.start().await];
        let people = [Person::at_work(&ushers[0], "alice").await, Person::at_work(&ushers[0], "bob").await];
        for person in &people {
            let written = person.fetch(Method::PUT, "/note").body(person.name.clone()).send().await;
            assert!(written.status.is_success(), "{}", written.text());
        }
        people[1].press("stop").await;
        let site = Self { realm, ushers, people };
        site.is_gone(&site.people[1]).await;
        site
    }

    /// The address of somebody's pod, if there is one.
    async fn address(&self, person: &Person) -> Option<Ipv4Addr> {
        let pod = format!("pod/{}-0", person.name);
        let arguments =
            ["get", &pod, "--namespace", &self.realm.workspaces, "--output=jsonpath={.status.podIP}"];
        self.realm.cluster().try_kubectl(&arguments).await.ok()?.parse().ok()
    }

    async fn is_gone(&self, person: &Person) {
        let pod = format!("pod/{}-0", person.name);
        let arguments = ["get", &pod, "--namespace", &self.realm.workspaces, "--ignore-not-found"];
        wait_for(&format!("{pod} to be gone"), STARTED, async || {
            self.realm.cluster().kubectl(&arguments).await.is_empty().then_some(())
        })
        .await;
    }

    /// The next pod of the node gets this address, as soon as the pod that had it is gone from the node as well.
    async fn hand_on(&self, address: Ipv4Addr) {
        // As the network plugin `host-local` writes it down: who has an address, and what it gave last.
        let pods = self.realm.cluster().folder().join("addresses/pods");
        let (had, last) = (pods.join(address.to_string()), pods.join("last_reserved_ip.0"));
        wait_for("the address to be free", STARTED, async || (!had.exists()).then_some(())).await;
        let before = Ipv4Addr::from_bits(address.to_bits() - 1);
        std::fs::write(last, before.to_string()).expect("the folder of the cluster is ours");
    }

    /// The workspace of the first is ended in one of several ways.
    async fn end(&self, how: u8) {
        let (person, namespace) = (&self.people[0], self.realm.workspaces.as_str());
        let (set, pod) = (format!("statefulset/{}", person.name), format!("{}-0", person.name));
        let kubectl = async |arguments: &[&str]| {
            self.realm.cluster().kubectl(&[arguments, &["--namespace", namespace]].concat()).await;
        };
        match how {
            0 => drop(person.press("stop").await),
            1 => kubectl(&["scale", &set, "--replicas=0"]).await,
            _ => {
                kubectl(&["scale", &set, "--replicas=0"]).await;
                kubectl(&["delete", "pod", &pod, "--ignore-not-found", "--force", "--grace-period=0"]).await;
            }
        }
        self.is_gone(person).await;
    }

    /// Somebody asks for their note and opens WebSockets, by way of both Ushers, until they are told to stop.
    fn traffic(&self, person: &Person, end: &CancellationToken) -> JoinSet<Got> {
        let mut clients = JoinSet::new();
        for usher in &self.ushers {
            let mut person = person.clone();
            person.moved_to(usher);
            for _ in 0..CLIENTS {
                clients.spawn(ask(person.clone(), end.clone()));
                clients.spawn(talk(person.clone(), end.clone()));
            }
        }
        clients
    }
}

/// Asks for the note again and again, on one connection as long as that holds: background requests, which wake nothing.
async fn ask(person: Person, end: CancellationToken) -> Got {
    let (mut got, mut kept, mut pace) = (Got::default(), Kept::default(), interval(PACE));
    while !end.is_cancelled() {
        pace.tick().await;
        let asked = Instant::now();
        let answer = timeout(PATIENCE, kept.send(person.fetch(Method::GET, "/note"))).await;
        match answer {
            Ok(Ok(answer)) if answer.status.is_success() && answer.text() == person.name => got.own(asked),
            Ok(Ok(answer)) if answer.status.is_success() => got.others.push(answer.text()),
            // Usher's own, or cut off.
            _ => {}
        }
    }
    got
}

/// Opens a WebSocket again and again, and talks as long as it holds.
async fn talk(person: Person, end: CancellationToken) -> Got {
    let (mut got, mut pace) = (Got::default(), interval(PACE));
    while !end.is_cancelled() {
        pace.tick().await;
        let Ok(Ok(mut socket)) = timeout(PATIENCE, person.socket("/ws")).await else { continue };
        loop {
            pace.tick().await;
            let asked = Instant::now();
            let answers = timeout(PATIENCE, socket.answers("whose?")).await == Ok(true);
            if !answers || end.is_cancelled() {
                break;
            }
            got.own(asked);
        }
    }
    got
}

/// So many times, one workspace ends and the pod of the other gets its address.
async fn carry_out(cluster: &Cluster, rounds: usize) {
    let mut chance = chance();
    let mut site = Site::new(cluster).await;
    let mut answers = 0;
    for round in 1..=rounds {
        let [first, second] = &site.people;
        let address = site.address(first).await.expect("it runs");
        let end = CancellationToken::new();
        let (theirs, others) = (site.traffic(first, &end), site.traffic(second, &end));
        let how = chance.u8(0..3);
        site.end(how).await;
        site.hand_on(address).await;
        second.press("start").await;
        let handed_on = wait_for("the other to have an address", STARTED, async || {
            let next = site.address(second).await?;
            assert_eq!(next, address, "round {round}: the address is not handed on");
            Some(Instant::now())
        })
        .await;
        second.await_phase("ready").await;
        second.socket("/ws").await.expect("it is ready").echoes("is somebody there?").await;
        end.cancel();
        for got in theirs.join_all().await {
            assert_eq!(got.others, [""; 0], "round {round}, ended by {how}: {} read it", first.name);
            let late = got.last.filter(|last| *last > handed_on);
            assert_eq!(late, None, "round {round}, ended by {how}: {} was answered", first.name);
            answers += got.own;
        }
        for got in others.join_all().await {
            assert_eq!(got.others, [""; 0], "round {round}, ended by {how}: {} read it", second.name);
            answers += got.own;
        }
        site.people.swap(0, 1);
    }
    println!("{rounds} addresses were handed on: {answers} answers, all of them the own workspace's");
}

#[tokio::test]
async fn an_address_that_is_anothers_a_moment_later_tells_nobody_anything() {
    carry_out(&Cluster::shared(), 3).await;
}

#[tokio::test]
#[ignore = "takes minutes; `make soak` runs it"]
async fn thirty_addresses_that_are_anothers_a_moment_later_tell_nobody_anything() {
    carry_out(&Cluster::shared(), 30).await;
}
