//! The API server is cut off, silent, busy, refuses, or does what it says it did not: what runs serves on, a start
//! fails at once with its cause, and all is true again soon.

use http::Method;
use std::time::{Duration, Instant};
use tests::{
    Cable, Cluster, Part, Person, Realm, STARTED, Socket, Usher, Way, chance, wait_for, wait_instead_of,
};

/// So soon a start that cannot be says why: within a second, and what a busy machine takes to show it.
const TOLD: Duration = Duration::from_secs(2);
/// So soon after its return the table is true.
const TRUE_AGAIN: Duration = Duration::from_secs(5);
/// For the cluster's own controllers, whose pauses grow with the length of an outage, and for its scheduler, which looks
/// again after five minutes at a pod that it was about to place when the API server ended.
const RECOVERED: Duration = Duration::from_secs(330);
/// By so much an Usher may have grown after all of it, in KiB.
const GROWN: usize = 24 << 10;

/// What befalls the server.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// To one Usher it is so.
    Way(Way),
    /// It is ended, and begins anew.
    Killed,
    /// It is halted.
    Paused,
}

/// A fault, and the code of the cause for which a start fails; none = it does not.
type Befalls = (Fault, Option<&'static str>);

const BY_CABLE: [Befalls; 5] = [
    (Fault::Way(Way::Cut), Some("cluster_unreachable")),
    (Fault::Way(Way::Silent), Some("cluster_unreachable")),
    (Fault::Way(Way::Refused(429)), Some("cluster_busy")),
    (Fault::Way(Way::Refused(403)), Some("not_permitted")),
    (Fault::Way(Way::DoneBut504), None),
];
const FOR_ALL: [Befalls; 2] =
    [(Fault::Killed, Some("cluster_unreachable")), (Fault::Paused, Some("cluster_unreachable"))];

struct Site {
    realm: Realm,
    cable: Cable,
    usher: Usher,
    /// Whose workspace is in use all the time.
    alice: Person,
    /// Who starts and stops theirs.
    bob: Person,
    /// Whose workspace others scale by hand.
    carol: Person,
}

impl Site {
    async fn new(cluster: &Cluster) -> Self {
        let realm = Realm::new(cluster).await;
        let cable = Cable::lay(cluster).await;
        let setup = realm.setups_over(std::slice::from_ref(&cable), "").await.remove(0);
        let usher = setup.start().await;
        let [alice, bob, carol] = ["alice", "bob", "carol"];
        let alice = Person::at_work_in_cluster(&usher, alice).await;
        let (bob, carol) =
            (Person::at_work_in_cluster(&usher, bob).await, Person::at_work_in_cluster(&usher, carol).await);
        Self { realm, cable, usher, alice, bob, carol }
    }

    fn cluster(&self) -> &Cluster {
        self.realm.cluster()
    }

    fn begin(&self, fault: Fault) {
        match fault {
            Fault::Way(way) => self.cable.is(way),
            Fault::Killed => self.cluster().kill(Part::ApiServer),
            Fault::Paused => self.cluster().pause(Part::ApiServer),
        }
    }

    async fn end(&self, fault: Fault) {
        match fault {
            Fault::Way(_) => self.cable.heals(),
            Fault::Killed => self.cluster().start_again(Part::ApiServer),
            Fault::Paused => self.cluster().resume(Part::ApiServer),
        }
        self.cluster().api_is_ready().await;
    }

    /// One fault for so long.
    async fn survives(&self, (fault, code): Befalls, time: Duration, socket: &mut Socket) {
        assert!(self.bob.press("stop").await.status.is_success());
        self.bob.reaches("stopped").await;
        self.begin(fault);
        let began = Instant::now();
        self.starts_or_says_why(code).await;
        let mut asked = 0;
        while began.elapsed() < time {
            socket.echoes("still here").await;
            let note = self.alice.fetch(Method::PUT, "/note").body("written meanwhile").send().await;
            assert!(note.status.is_success(), "{fault:?}, after {:?}: {}", began.elapsed(), note.text());
            asked += 1;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        self.end(fault).await;
        let late = self.true_again().await;
        // Whatever became of bob's wish meanwhile, now it is fulfilled.
        wait_instead_of("bob's workspace", RECOVERED, async || {
            self.bob.press("start").await;
            self.bob.is_in("ready").await
        })
        .await;
        socket.echoes("still here").await;
        println!(
            "{fault:?} for {time:?}: {asked} requests and messages passed, the table was true after {late:?}"
        );
    }

    async fn starts_or_says_why(&self, code: Option<&str>) {
        let pressed = Instant::now();
        assert!(self.bob.press("start").await.status.is_success());
        let Some(code) = code else { return drop(self.bob.reaches("ready").await) };
        let (said, status) = wait_for("the cause on bob's page", STARTED, async || {
            let status = self.bob.status().await;
            status["cause"]["code"].is_string().then(|| (pressed.elapsed(), status))
        })
        .await;
        assert_eq!(status["cause"]["code"], code, "{status}");
        assert!(said < TOLD, "it was said after {said:?}: {status}");
    }

    /// How long the table takes to show what is done by hand now.
    async fn true_again(&self) -> Duration {
        let namespace = ["--namespace", &self.realm.workspaces];
        let back = Instant::now();
        let scale = async |replicas: &str| {
            let scale = ["scale", "statefulset/carol", "--replicas", replicas];
            self.cluster().kubectl(&[&scale, &namespace[..]].concat()).await;
        };
        scale("0").await;
        let late = wait_for("the table to show what kubectl did", STARTED, async || {
            let phase = self.carol.status().await["phase"].clone();
            (phase == "stopping" || phase == "stopped").then(|| back.elapsed())
        })
        .await;
        assert!(late < TRUE_AGAIN, "the table was true {late:?} after the API's return");
        self.carol.reaches("stopped").await;
        scale("1").await;
        self.carol.reaches_within(RECOVERED, "ready").await;
        late
    }

    /// All of these, each for so long; memory stays as it is.
    async fn survive(&self, faults: &[Befalls], time: Duration) {
        let mut socket = self.alice.witness("/ws").await;
        let before = self.usher.memory("Anonymous");
        for fault in faults {
            self.survives(*fault, time, &mut socket).await;
        }
        let after = self.usher.memory("Anonymous");
        println!("memory: {before} KiB before, {after} KiB after");
        assert!(after < before + GROWN, "{before} KiB became {after} KiB");
    }
}

/// A sample: two faults for some seconds each.
#[tokio::test]
async fn whatever_the_api_server_answers_what_runs_serves_on() {
    let site = Site::new(&Cluster::shared()).await;
    let mut faults = BY_CABLE;
    chance().shuffle(&mut faults);
    site.survive(&faults[..2], Duration::from_secs(5)).await;
}

/// With `USHER_FAULTS` so many seconds.
#[tokio::test]
#[ignore = "takes more than twenty minutes; `make soak` runs it"]
async fn for_twenty_minutes_whatever_befalls_the_api_server_what_runs_serves_on() {
    let site = Site::new(&Cluster::alone()).await;
    let all = [&BY_CABLE[..], &FOR_ALL].concat();
    let seconds = std::env::var("USHER_FAULTS").map_or(20 * 60, |seconds| seconds.parse().expect("a number"));
    let time = Duration::from_secs(seconds) / u32::try_from(all.len()).expect("there are a few");
    site.survive(&all, time).await;
}
