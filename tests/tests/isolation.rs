//! Bob cannot enter alice's workspace, by whatever he or a page of his sends.

use http::{Method, StatusCode};
use tests::{Answer, DOMAIN, Person, Usher};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Shows what the workspace was sent, so an answer of this path is proof that a request came through.
const PROOF: &str = "/headers";

async fn both() -> (Usher, Person, Person) {
    let usher = Usher::start("").await;
    let alice = Person::at_work(&usher, "alice").await;
    let bob = Person::at_work(&usher, "bob").await;
    (usher, alice, bob)
}

fn assert_outside(what: &str, answer: &Answer) {
    let outside = answer.status.is_redirection() || answer.status.is_client_error();
    assert!(outside, "{what}: {} {}", answer.status, answer.text());
    assert!(!answer.text().contains("[[\"host\""), "{what}: it reached the workspace");
}

#[tokio::test]
async fn the_owner_reaches_the_path_that_the_attacks_ask_for() {
    let (_usher, alice, _) = both().await;
    let answer = alice.fetch(Method::GET, PROOF).send().await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.text().contains("[\"host\""), "{}", answer.text());
}

#[tokio::test]
async fn a_cookie_copied_to_another_host_is_worth_nothing() {
    let (usher, alice, bob) = both().await;
    let client = usher.client();
    for host in [bob.host(), DOMAIN.to_owned()] {
        let cookies = bob.jar.field(&host).unwrap();
        let ask = client.get(&alice.host(), PROOF).with("cookie", &cookies);
        assert_outside(&host, &ask.clone().fetch("same-origin").send().await);
        assert_outside(&host, &ask.clone().navigate("none").send().await);
        assert_outside(&host, &ask.send().await);
    }
    // Under the name that counts there, too.
    let portal = bob.jar.cookie(DOMAIN, "__Host-usher").unwrap();
    let ask = client.get(&alice.host(), PROOF).with("cookie", &format!("__Host-usher-ws={portal}"));
    assert_outside("renamed", &ask.navigate("none").send().await);
}

#[tokio::test]
async fn forged_headers_make_nobody_alice() {
    let (usher, alice, bob) = both().await;
    let client = usher.client();
    let names =
        ["x-usher-user", "x_usher_user", "x-forwarded-user", "remote-user", "x-auth-user", "x-original-host"];
    let mut bare = client.get(&alice.host(), PROOF);
    let mut own = client.get(&bob.host(), PROOF);
    for name in names.iter().filter(|name| !name.contains('_')) {
        bare = bare.with(name, "alice");
        own = own.with(name, "alice");
    }
    assert_outside("forged", &bare.fetch("same-origin").send().await);
    let seen = bob.with_cookies(own.fetch("same-origin"), &bob.host()).send().await;
    assert_eq!(seen.status, StatusCode::OK, "{}", seen.text());
    assert!(!seen.text().contains("\"alice\""), "a forged identity reached bob's workspace: {}", seen.text());
    assert!(!seen.text().contains("__Host-usher"), "our cookie reached a workspace: {}", seen.text());
}

#[tokio::test]
async fn one_request_names_one_host() {
    let (usher, alice, bob) = both().await;
    let cookies = bob.jar.field(&bob.host()).unwrap();
    let client = usher.client();
    let (at_alice, at_bob) = (client.authority(&alice.host()), client.authority(&bob.host()));
    let heads = [
        format!("GET {PROOF} HTTP/1.1\r\nHost: {at_bob}\r\nHost: {at_alice}\r\nCookie: {cookies}\r\n\r\n"),
        format!("GET http://{at_alice}{PROOF} HTTP/1.1\r\nHost: {at_bob}\r\nCookie: {cookies}\r\n\r\n"),
        format!("GET http://{at_bob}{PROOF} HTTP/1.1\r\nHost: {at_alice}\r\nCookie: {cookies}\r\n\r\n"),
        format!("GET {PROOF} HTTP/1.1\r\nHost: {at_bob}, {at_alice}\r\nCookie: {cookies}\r\n\r\n"),
    ];
    for head in heads {
        let mut stream = client.connect(&bob.host()).await.unwrap();
        stream.write_all(head.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let seen_by_alice = answer.contains("200 OK") && answer.contains(&at_alice);
        assert!(!seen_by_alice, "{head}\n{answer}");
    }
}

#[tokio::test]
async fn a_ticket_is_good_once_and_in_one_browser() {
    let (usher, alice, mut bob) = both().await;
    let entered = alice.trail.iter().find(|url| url.path() == "/.usher/enter").expect("a hand-off by ticket");
    let path = format!("{}?{}", entered.path(), entered.query().unwrap());
    let host = alice.host();

    let again =
        alice.with_cookies(usher.client().get(&host, &path), &host).navigate("same-site").send().await;
    assert!(!sets_session(&again), "a ticket was good twice: {:?}", again.headers);
    let elsewhere =
        bob.with_cookies(usher.client().get(&host, &path), &host).navigate("same-site").send().await;
    assert!(!sets_session(&elsewhere), "a ticket was good in another browser: {:?}", elsewhere.headers);
    bob.follow(entered.clone()).await;
    let asked = bob.with_cookies(usher.client().get(&host, PROOF), &host).navigate("none").send().await;
    assert_outside("bob after alice's ticket", &asked);
}

fn sets_session(answer: &Answer) -> bool {
    let cookies = answer.headers.get_all("set-cookie");
    cookies.iter().any(|field| field.as_bytes().starts_with(b"__Host-usher-ws="))
}

#[tokio::test]
async fn a_websocket_needs_the_origin_of_its_own_host() {
    let (usher, alice, bob) = both().await;
    let client = usher.client();
    let cookie = alice.jar.field(&alice.host()).unwrap();
    let other_port = format!("http://{}:1", alice.host());
    let https = client.origin(&alice.host()).replace("http:", "https:");
    let foreign =
        [client.origin(&bob.host()), client.origin(DOMAIN), "null".into(), String::new(), other_port, https];
    for origin in foreign {
        let opened =
            tests::Socket::open(&client, &alice.host(), "/ws", &[("origin", &origin), ("cookie", &cookie)])
                .await;
        let refused = opened.err().unwrap_or_else(|| panic!("a WebSocket from {origin:?} was opened"));
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{origin:?}: {}", refused.text());
    }
    alice.socket("/ws").await.expect("her own page may");
}

#[tokio::test]
async fn no_page_of_a_sibling_can_act_with_alices_cookies() {
    let (usher, alice, bob) = both().await;
    let client = usher.client();
    let bobs = client.origin(&bob.host());
    let ask =
        |method: Method, path| alice.with_cookies(client.ask(method, &alice.host(), path), &alice.host());
    let frame = |site| {
        ask(Method::GET, PROOF)
            .with("sec-fetch-site", site)
            .with("sec-fetch-mode", "navigate")
            .with("sec-fetch-dest", "iframe")
            .with("accept", "text/html")
    };
    let script =
        || ask(Method::GET, "/sw.js").with("sec-fetch-site", "same-site").with("sec-fetch-mode", "no-cors");
    let attacks = [
        ("fetch", ask(Method::GET, PROOF).fetch("same-site").with("origin", &bobs)),
        (
            "fetch from elsewhere",
            ask(Method::GET, PROOF).fetch("cross-site").with("origin", "https://example.org"),
        ),
        (
            "image",
            ask(Method::GET, PROOF).with("sec-fetch-site", "same-site").with("sec-fetch-mode", "no-cors"),
        ),
        ("preflight", ask(Method::OPTIONS, PROOF).fetch("same-site").with("origin", &bobs)),
        ("form", ask(Method::POST, PROOF).navigate("same-site").with("origin", &bobs)),
        ("form without a referrer", ask(Method::POST, PROOF).navigate("same-site").with("origin", "null")),
        ("form that stops", ask(Method::POST, "/.usher/stop").navigate("same-site").with("origin", &bobs)),
        ("old browser's form", ask(Method::POST, PROOF).with("origin", &bobs)),
        ("iframe", frame("same-site")),
        ("worker", script().with("sec-fetch-dest", "worker")),
    ];
    for (what, ask) in attacks {
        let answer = ask.send().await;
        assert_outside(what, &answer);
        assert!(!answer.status.is_redirection(), "{what}: sent to the login");
    }
    assert_eq!(alice.status().await["phase"], "ready", "a sibling's form stopped her workspace");
}

#[tokio::test]
async fn a_prefetch_wakes_nothing() {
    let usher = Usher::start("").await;
    let alice = Person::at_work(&usher, "alice").await;
    alice.press("stop").await;
    alice.await_phase("stopped").await;
    for purpose in ["prefetch", "prefetch;prerender"] {
        let ask = usher.client().get(&alice.host(), "/").navigate("none").with("sec-purpose", purpose);
        let answer = alice.with_cookies(ask, &alice.host()).send().await;
        assert!(!answer.status.is_success(), "{purpose}: {}", answer.status);
        assert_eq!(alice.status().await["phase"], "stopped", "{purpose}");
    }
}

#[tokio::test]
async fn a_service_worker_is_replaced_by_one_that_leaves() {
    let usher = Usher::start("").await;
    let alice = Person::at_work(&usher, "alice").await;
    let ask = usher
        .client()
        .get(&alice.host(), "/sw.js")
        .with("service-worker", "script")
        .with("sec-fetch-site", "same-origin")
        .with("sec-fetch-mode", "same-origin")
        .with("sec-fetch-dest", "serviceworker");
    let answer = alice.with_cookies(ask, &alice.host()).send().await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.field("content-type").contains("javascript"), "{:?}", answer.headers);
    assert!(answer.text().contains("unregister"), "{}", answer.text());
}

#[tokio::test]
async fn a_label_is_handed_to_nobody_else_after_its_workspace_was_deleted() {
    let rules = "[access]\nallow = \"true\"\ntemplate = \"'demo'\"\nlabel = \"'team'\"\n";
    let usher = Usher::start(rules).await;
    let mut first = Person::at_work(&usher, "team").await;
    first.fetch(Method::PUT, "/note").body("theirs").send().await;
    let (deleted, text) = usher.command(&["delete", "team"]);
    assert!(deleted, "{text}");

    let mut second = Person::new(&usher, "somebody-else");
    let team = format!("{}/", usher.client().origin(&first.host()));
    let (_, answer) = second.follow(team.parse().unwrap()).await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}", answer.text());
    let portal = format!("{}/", usher.client().origin(DOMAIN));
    let (_, dashboard) = second.follow(portal.parse().unwrap()).await;
    assert!(dashboard.text().contains("team-"), "no label of their own: {}", dashboard.text());

    first.visit("/").await;
    first.await_phase("ready").await;
    assert_eq!(first.fetch(Method::GET, "/note").send().await.text(), "theirs");
}
