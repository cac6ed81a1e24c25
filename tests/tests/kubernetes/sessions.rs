//! Sessions of three Ushers before one cluster: who logged in at one is known to all, and who is out is out at all of them.

use http::Method;
use http::StatusCode;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tests::{
    Cable, Closed, Cluster, DOMAIN, IdentityProvider, Person, Realm, SOON, STARTED, Socket, Usher, Way,
    wait_for,
};
use url::Url;

/// Within which all replicas know that a session has ended.
const ENDED: Duration = Duration::from_secs(5);

const RULES: &str = "[access]\nallow = \"'staff' in groups\"\ntemplate = \"'demo'\"\n";

fn accounts() -> Value {
    json!({ "alice": { "name": "Ada", "preferred_username": "alice", "groups": ["staff"] } })
}

async fn three(realm: &Realm, provider: &IdentityProvider, rest: &str) -> [Usher; 3] {
    let setup = provider.logs_in(realm.setup(&format!("{RULES}{rest}")).await, "");
    let ushers = [setup.clone().start().await, setup.clone().start().await, setup.start().await];
    provider.knows_all(&ushers).await;
    ushers
}

/// The same person with the same cookies at another Usher.
fn at(person: &Person, usher: &Usher) -> Person {
    let mut person = person.clone();
    person.moved_to(usher);
    person
}

fn portal(usher: &Usher, path: &str) -> Url {
    Url::parse(&format!("{}{path}", usher.client().origin(DOMAIN))).expect("a path is valid")
}

/// Somebody at work, with a live socket by way of each Usher.
async fn at_work(ushers: &[Usher; 3]) -> (Person, Vec<Socket>) {
    let alice = Person::at_work_in_cluster(&ushers[0], "alice").await;
    let mut sockets = Vec::new();
    for usher in ushers {
        let here = at(&alice, usher);
        here.reaches("ready").await;
        sockets.push(here.socket("/ws").await.expect("the workspace runs"));
    }
    (alice, sockets)
}

/// All sockets are closed, and no Usher lets her in any more.
async fn is_out(alice: &Person, ushers: &[Usher; 3], sockets: Vec<Socket>) {
    let ended = Instant::now();
    for mut socket in sockets {
        let closed = tokio::time::timeout(ENDED.saturating_sub(ended.elapsed()), socket.closed()).await;
        assert_eq!(closed.expect("in time"), Closed::Frame(4401, "the session has ended".to_owned()));
    }
    for usher in ushers {
        assert_eq!(at(alice, usher).fetch(Method::GET, "/").send().await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn who_logs_in_at_one_is_known_to_the_next_at_once_without_a_bounce() {
    let realm = Realm::new(&Cluster::shared()).await;
    let provider = IdentityProvider::start(accounts()).await;
    let ushers = three(&realm, &provider, "").await;
    for round in 0..10 {
        let [first, second] = [&ushers[round % 3], &ushers[(round + 1) % 3]];
        let mut alice = Person::new(first, "alice");
        let (_, dashboard) = alice.follow(portal(first, "/")).await;
        assert_eq!(dashboard.status, StatusCode::OK, "{}", dashboard.text());
        // The very next request goes elsewhere, whose watch may be behind.
        let mut elsewhere = at(&alice, second);
        let before = elsewhere.trail.len();
        let (url, page) = elsewhere.follow(portal(second, "/")).await;
        assert_eq!((url.path(), page.status), ("/", StatusCode::OK), "{}", page.text());
        assert_eq!(elsewhere.trail.len(), before + 1, "no bounce: {:?}", &elsewhere.trail[before..]);
    }
}

#[tokio::test]
async fn who_logs_out_at_one_is_out_at_all_three_with_every_socket() {
    let realm = Realm::new(&Cluster::shared()).await;
    let provider = IdentityProvider::start(accounts()).await;
    let ushers = three(&realm, &provider, "").await;
    let (alice, sockets) = at_work(&ushers).await;
    let here = at(&alice, &ushers[2]);
    assert_eq!(here.change("/logout", &[]).await.status, StatusCode::OK);
    is_out(&alice, &ushers, sockets).await;
}

#[tokio::test]
async fn who_left_the_group_is_out_at_all_three_after_one_of_them_has_asked() {
    let realm = Realm::new(&Cluster::shared()).await;
    let provider = IdentityProvider::start_with(json!({ "accounts": accounts(), "accessTtl": 6 })).await;
    let ushers = three(&realm, &provider, "").await;
    let (alice, mut sockets) = at_work(&ushers).await;
    // All three see her at work, and one of them asks at a time: her provider takes a token that comes twice for stolen.
    let asked = provider.asked("/token").await;
    wait_for("three refreshes", STARTED, async || {
        for socket in &mut sockets {
            socket.echoes("at work").await;
        }
        (provider.asked("/token").await >= asked + 3).then_some(())
    })
    .await;
    provider.account("alice", json!({ "name": "Ada", "preferred_username": "alice", "groups": [] })).await;
    wait_for("the session to end", SOON, async || {
        let answer = alice.fetch(Method::GET, "/").send().await;
        (answer.status == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    is_out(&alice, &ushers, sockets).await;
}

#[tokio::test]
async fn of_two_that_are_shown_the_same_ticket_one_lets_its_bearer_in() {
    let realm = Realm::new(&Cluster::shared()).await;
    let provider = IdentityProvider::start(accounts()).await;
    let ushers = three(&realm, &provider, "").await;
    for _ in 0..5 {
        let mut alice = Person::new(&ushers[0], "alice");
        // Up to the ticket, which is not shown yet.
        let ticket = alice.follow_to_ticket().await;
        let tries = [&ushers[1], &ushers[2]].map(|usher| {
            let mut alice = at(&alice, usher);
            let mut to = ticket.clone();
            to.set_port(Some(usher.client().address.port())).expect("it has a port");
            tokio::spawn(async move { alice.show(to).await })
        });
        let mut let_in = 0;
        for tried in tries {
            let_in += usize::from(tried.await.expect("no panic"));
        }
        assert_eq!(let_in, 1);
    }
}

/// Three Ushers, each with a way of its own to the API server.
async fn three_by_cables(realm: &Realm, provider: &IdentityProvider) -> ([Usher; 3], [Cable; 3]) {
    let cluster = realm.cluster();
    let cables = [Cable::lay(cluster).await, Cable::lay(cluster).await, Cable::lay(cluster).await];
    let mut ushers = Vec::new();
    for setup in realm.setups_over(&cables, RULES).await {
        ushers.push(provider.logs_in(setup, "").start().await);
    }
    let ushers = <[Usher; 3]>::try_from(ushers).unwrap_or_else(|_| panic!("one for each cable"));
    provider.knows_all(&ushers).await;
    (ushers, cables)
}

#[tokio::test]
async fn an_usher_whose_store_says_nothing_keeps_its_sessions_and_acknowledges_nothing_that_it_did_not_do() {
    let realm = Realm::new(&Cluster::shared()).await;
    let provider = IdentityProvider::start_with(json!({ "accounts": accounts(), "accessTtl": 6 })).await;
    let (ushers, cables) = three_by_cables(&realm, &provider).await;
    let (alice, mut sockets) = at_work(&ushers).await;
    let here = at(&alice, &ushers[0]);
    cables[0].is(Way::Silent);
    // Whoever comes now is told so in time; what they asked for is not done.
    let (_, refused) = Person::new(&ushers[0], "alice").follow(portal(&ushers[0], "/login")).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{}", refused.text());
    let logout = here.change("/logout", &[]).await;
    assert_eq!(logout.status, StatusCode::SERVICE_UNAVAILABLE, "{}", logout.text());
    // Past the time for which what the provider said holds: nobody can write down that it was asked anew.
    wait_for("it to be known that nothing can be written", STARTED, async || {
        sockets[0].echoes("at work").await;
        ushers[0].logs.all().contains("a session could not be refreshed").then_some(())
    })
    .await;
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(here.portal("/api/v1/sessions").await.status, StatusCode::OK);
    }
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "no request waits for the store: {:?}",
        begun.elapsed()
    );
    sockets[0].echoes("still at work").await;
    // What is done elsewhere holds elsewhere, and here once the store is heard again.
    assert_eq!(at(&alice, &ushers[1]).change("/logout", &[]).await.status, StatusCode::OK);
    wait_for("the third to know", ENDED, async || {
        let answer = at(&alice, &ushers[2]).fetch(Method::GET, "/").send().await;
        (answer.status == StatusCode::UNAUTHORIZED).then_some(())
    })
    .await;
    assert_eq!(here.portal("/api/v1/sessions").await.status, StatusCode::OK, "nobody has told this one");
    cables[0].heals();
    is_out(&alice, &ushers, sockets).await;
}

#[tokio::test]
async fn an_usher_whose_store_is_slow_lets_people_in_and_makes_nobody_wait_who_is() {
    let realm = Realm::new(&Cluster::shared()).await;
    let provider = IdentityProvider::start(accounts()).await;
    let (ushers, cables) = three_by_cables(&realm, &provider).await;
    let (alice, _sockets) = at_work(&ushers).await;
    let late = Duration::from_secs(1);
    cables[0].is(Way::Slow(late));
    let here = at(&alice, &ushers[0]);
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(here.fetch(Method::GET, "/").send().await.status, StatusCode::OK);
    }
    assert!(begun.elapsed() < late * 10, "no request waits for the store: {:?}", begun.elapsed());
    let (_, page) = Person::new(&ushers[0], "alice").follow(portal(&ushers[0], "/")).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text());
    // Who comes by it, and goes on to another at once, is not bounced.
    let mut other = Person::new(&ushers[1], "alice");
    other.follow(portal(&ushers[1], "/")).await;
    let mut elsewhere = at(&other, &ushers[0]);
    let (url, page) = elsewhere.follow(portal(&ushers[0], "/")).await;
    assert_eq!((url.path(), page.status), ("/", StatusCode::OK), "{}", page.text());
    assert_eq!(here.change("/logout", &[]).await.status, StatusCode::OK);
    assert_eq!(here.fetch(Method::GET, "/").send().await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_token_that_is_made_at_one_is_good_at_all_three_and_revoked_at_another_at_none() {
    let realm = Realm::new(&Cluster::shared()).await;
    let provider = IdentityProvider::start(accounts()).await;
    let ushers = three(&realm, &provider, "").await;
    let (alice, _sockets) = at_work(&ushers).await;
    let fields = [("name", "ci"), ("scopes", "workspaces:read workspaces:access"), ("days", "7")];
    let made = alice.change("/api/v1/tokens", &fields).await.json();
    let text = |key: &str| made[key].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    let (id, bearer) = (text("id"), format!("Bearer {}", text("token")));
    let ask = async |usher: &Usher| {
        let ask = usher.client().get(DOMAIN, "/api/v1/workspaces").with("authorization", &bearer);
        ask.send().await.status
    };
    let mut sockets = Vec::new();
    for usher in &ushers {
        // The very next request: the others' watch may be behind.
        assert_eq!(ask(usher).await, StatusCode::OK);
        let opened = Socket::open(&usher.client(), &alice.host(), "/ws", &[("authorization", &bearer)]).await;
        let mut socket = opened.unwrap_or_else(|answer| panic!("{}", answer.text()));
        socket.echoes("by a token").await;
        sockets.push(socket);
    }
    let there = at(&alice, &ushers[2]);
    assert_eq!(there.change(&format!("/api/v1/tokens/{id}/revoke"), &[]).await.status, StatusCode::OK);
    let revoked = Instant::now();
    for mut socket in sockets {
        let closed = tokio::time::timeout(ENDED.saturating_sub(revoked.elapsed()), socket.closed()).await;
        assert_eq!(closed.expect("in time"), Closed::Frame(4401, "the session has ended".to_owned()));
    }
    for usher in &ushers {
        assert_eq!(ask(usher).await, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn of_all_that_happens_one_of_three_tells_once() {
    let realm = Realm::new(&Cluster::shared()).await;
    let provider = IdentityProvider::start(accounts()).await;
    let ushers = three(&realm, &provider, "").await;
    let (alice, sockets) = at_work(&ushers).await;
    let there = ushers.each_ref().map(|usher| at(&alice, usher));
    let [first, second, third] = &there;
    let everywhere = [("everywhere", "yes")];
    let (a, b, c) = tokio::join!(
        first.change("/logout", &everywhere),
        second.change("/logout", &everywhere),
        third.change("/logout", &everywhere),
    );
    assert!([a, b, c].iter().any(|answer| answer.status == StatusCode::OK));
    is_out(&alice, &ushers, sockets).await;
    let told = || {
        let events = ushers.iter().flat_map(|usher| usher.logs.events("audit"));
        let told = events.map(|event| (event["event"].to_string(), event["session"].to_string()));
        let mut told: Vec<_> = told.collect();
        told.sort();
        told
    };
    let session = wait_for("the end to be told", SOON, async || {
        told().into_iter().find(|(event, _)| event == "\"session_ended\"").map(|(_, session)| session)
    })
    .await;
    let once = ["login", "session_ended", "workspace_entered", "workspace_start"];
    assert_eq!(told(), once.map(|event| (format!("\"{event}\""), session.clone())));
}
