//! Many first visits at once, over three Ushers, with a limit of starts at a time: nobody is refused, all are served in
//! the order in which they came, each is told their true place, and the cluster is asked for little.
//!
//! Pods are simulated: they run at once wherever the cluster has room, and one listener of the test's answers for all.

mod listener;
mod record;

use futures_util::future::join_all;
use http::{Method, StatusCode};
use record::Record;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tests::{Cluster, Person, Realm, SIMULATED, SOON, STARTED, Usher, wait_instead_of};

/// How many may be on their way at a time.
const CAP: usize = 20;
/// How many more it may be for a moment: one for each Usher.
const REPLICAS: usize = 3;
/// The calls of the API that a spawn may cost, those that came in vain among them.
const CALLS: usize = 6;
/// How old what an Usher tells may be.
const FRESH: Duration = Duration::from_secs(2);
/// How long all of it may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);
/// What a visitor is told when the cluster does not answer in time: a machine that has too much to do is no fault.
const UNHEARD: [&str; 2] = ["cluster_unreachable", "cluster_busy"];
/// Twice as often as a waiting page looks that is told of no events.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many pods a simulated node takes, with room for those of other tests.
const PODS_OF_A_NODE: usize = 200;

/// The demo's template for pods of simulated nodes, and the limit.
fn configuration(realm: &Realm, port: u16) -> String {
    let demo = realm.demo(&format!(
        "image = \"simulated\"\nport = {port}\nvolume = \"none\"\npod = {{}}\n\
         node_selector = {{ \"{SIMULATED}\" = \"true\" }}\n\
         tolerations = [{{ key = \"{SIMULATED}\", operator = \"Exists\" }}]"
    ));
    format!("[spawn]\nconcurrent = {CAP}\n{demo}")
}

/// A place that somebody was told, and when it was asked and told.
#[derive(Debug)]
struct Told {
    name: String,
    asked: Instant,
    answered: Instant,
    position: usize,
}

/// What the visitors saw.
#[derive(Debug, Default)]
struct Seen {
    told: Vec<Told>,
    /// How often the cluster was too slow to have a want written down in time.
    unheard: usize,
}

/// One first visit, watched until the workspace answers.
async fn visit(mut person: Person, begun: Instant) -> Seen {
    let host = person.host();
    let (_, page) = person.visit("/").await;
    // The waiting page; who was refused would be at "stopped" afterwards.
    let is_page = [StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE].contains(&page.status);
    assert!(is_page, "{host}: {} {}", page.status, page.text());
    let mut seen = Seen::default();
    loop {
        let asked = Instant::now();
        let status = person.status().await;
        let phase = status["phase"].as_str().unwrap_or_default();
        match phase {
            "ready" => break,
            "queued" => seen.told.push(Told {
                name: person.name.clone(),
                asked,
                answered: Instant::now(),
                position: status["position"].as_u64().and_then(|p| p.try_into().ok()).expect("a place"),
            }),
            "starting" => {}
            "failed" if UNHEARD.iter().any(|code| status["cause"]["code"] == *code) => {
                seen.unheard += 1;
                person.try_again().await;
            }
            _ => panic!("{host} was not served in its turn: {status}"),
        }
        assert!(begun.elapsed() < PATIENCE, "{host} still waits: {status}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let answer = person.fetch(Method::GET, "/").send().await;
    assert_eq!(answer.text(), format!("for {host}"), "{}", answer.status);
    seen
}

/// The calls that Ushers made for workspaces, by verb, resource and how they ended. Their watches, their lease and
/// their records are there whoever comes.
async fn calls(ushers: &[Usher]) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for usher in ushers {
        let text = usher.admin("/metrics").send().await.text();
        let calls = text.lines().filter_map(|line| line.strip_prefix("usher_kubernetes_requests_total{"));
        for (labels, count) in calls.filter_map(|line| line.rsplit_once("} ")) {
            let standing = ["verb=\"watch\"", "resource=\"secrets\"", "resource=\"leases\""];
            if !standing.iter().any(|label| labels.contains(label)) {
                *all.entry(labels.to_owned()).or_default() += count.parse::<usize>().expect("a count");
            }
        }
    }
    all
}

/// The writes of StatefulSets that the API server counted; their controllers write their status only.
async fn writes(cluster: &Cluster) -> usize {
    let text = cluster.kubectl(&["get", "--raw", "/metrics"]).await;
    let counted = text.lines().filter(|line| {
        let of_sets =
            ["resource=\"statefulsets\"", "subresource=\"\""].iter().all(|label| line.contains(label));
        let writes = ["POST", "PATCH", "APPLY", "PUT", "DELETE"].iter();
        let mut writes = writes.map(|verb| format!("verb=\"{verb}\""));
        line.starts_with("apiserver_request_total{") && of_sets && writes.any(|verb| line.contains(&verb))
    });
    counted.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).map(|count| count as usize).sum()
}

/// Waits until the cluster writes nothing any more to take away what tests before have left.
async fn others_to_be_gone(cluster: &Cluster) {
    let ending =
        ["get", "namespaces", "--output=jsonpath={.items[?(@.status.phase==\"Terminating\")].metadata.name}"];
    wait_instead_of("the namespaces of other tests to be gone", STARTED, async || {
        let names = cluster.kubectl(&ending).await;
        if names.is_empty() { Ok(()) } else { Err(names) }
    })
    .await;
}

/// How many calls about StatefulSets were answered, and of how many nobody knows.
fn of_sets(spent: &BTreeMap<String, usize>) -> [usize; 2] {
    let of_sets = spent.iter().filter(|(labels, _)| labels.contains("\"statefulsets\""));
    let (answered, lost): (Vec<_>, Vec<_>) = of_sets.partition(|(labels, _)| !labels.contains("\"timeout\""));
    [answered, lost].map(|calls| calls.iter().map(|(_, count)| **count).sum())
}

async fn rush(visitors: usize) {
    let cluster = Cluster::shared();
    cluster.simulated_nodes(visitors.div_ceil(PODS_OF_A_NODE) + 1);
    let realm = Realm::new(&cluster).await;
    let port = listener::begin().await;
    let setup = realm.setup(&configuration(&realm, port)).await;
    let ushers = [setup.clone().start().await, setup.clone().start().await, setup.start().await];
    let mut people = Vec::new();
    // Of each Usher one at a time: how fast people log in is not what is looked at here.
    for row in 0..visitors.div_ceil(REPLICAS) {
        let these = ushers.iter().zip(row * REPLICAS..visitors);
        let at_doors = these.map(async |(usher, n)| Person::at_the_door(usher, &format!("u{n}")).await);
        people.extend(join_all(at_doors).await);
    }
    let record = Record::begin(&realm).await;
    others_to_be_gone(&cluster).await;
    let (before, written) = (calls(&ushers).await, writes(&cluster).await);

    let begun = Instant::now();
    let seen = join_all(people.into_iter().map(|person| visit(person, begun))).await;
    eprintln!("{visitors} visitors are served after {:.1} s", begun.elapsed().as_secs_f64());
    let unheard: usize = seen.iter().map(|seen| seen.unheard).sum();
    let told: Vec<Told> = seen.into_iter().flat_map(|seen| seen.told).collect();

    // The last of them may still be answered.
    let (spent, lost) = wait_instead_of("both sides to count the same calls", SOON, async || {
        let mut spent = calls(&ushers).await;
        spent
            .iter_mut()
            .for_each(|(labels, count)| *count -= before.get(labels).copied().unwrap_or_default());
        spent.retain(|_, count| *count > 0);
        let [answered, lost] = of_sets(&spent);
        let (counted, written) = (answered..=answered + lost, writes(&cluster).await - written);
        let same = counted.contains(&written).then_some((spent, lost));
        same.ok_or_else(|| format!("Usher counts {counted:?} writes, and the API server {written}"))
    })
    .await;
    let sum: usize = spent.values().sum();
    eprintln!("{:.2} calls of the API for each: {spent:#?}", sum as f64 / visitors as f64);
    assert!(sum <= CALLS * visitors, "{sum} calls for {visitors} spawns");
    eprintln!(
        "{unheard} times the cluster was too slow for somebody, of {lost} calls without an answer in time"
    );
    assert!(unheard <= lost, "{unheard} were refused, and {lost} calls had no answer");

    let record = record.end(visitors).await;
    record.nothing_twice(visitors);
    let most = record.most_at_once();
    eprintln!("at most {most} were on their way at a time");
    assert!(most <= CAP + REPLICAS, "{most} were on their way at a time");
    assert_eq!(record.out_of_turn(CAP + REPLICAS), Vec::<String>::new());
    eprintln!("{} told places are looked at", told.len());
    let untrue: Vec<String> = told.iter().filter_map(|told| untruth(&record, told)).collect();
    assert!(untrue.is_empty(), "{} of {} places: {untrue:#?}", untrue.len(), told.len());
    assert!(!told.is_empty(), "nobody had to wait");
}

/// Why a told place is none that somebody may have had within the time for which it may be told. One start may be under way
/// that the record does not show.
fn untruth(record: &record::Whole, told: &Told) -> Option<String> {
    let places = record.places(&told.name, told.asked.checked_sub(FRESH)?, told.answered)?;
    let places = places.start().saturating_sub(1).max(1)..=*places.end();
    (!places.contains(&told.position)).then(|| format!("{told:?}, but it was one of {places:?}"))
}

#[tokio::test]
async fn sixty_first_visits_are_served_in_order_by_three() {
    rush(60).await;
}

#[tokio::test]
#[ignore = "soak: minutes of work; `make soak` runs it"]
async fn five_hundred_first_visits_are_served_in_order_by_three() {
    rush(500).await;
}
