//! From a browser to a running workspace, and back to it later.

use http::{Method, StatusCode};
use tests::{DOMAIN, Person, SOON, Setup, Usher, wait_for};

#[tokio::test]
async fn a_first_visit_leads_through_the_login_to_a_running_workspace() {
    let usher = Usher::start("").await;
    let alice = Person::at_work(&usher, "alice").await;
    let page = alice.fetch(Method::GET, "/").send().await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text());
    let mut socket = alice.socket("/ws").await.unwrap();
    socket.echoes("hello").await;
}

#[tokio::test]
async fn the_deep_link_survives_the_login() {
    let usher = Usher::start("").await;
    let mut alice = Person::new(&usher, "alice");
    let (url, _) = alice.visit("/lab/tree/a%20b.ipynb?reset&x=%2F").await;
    assert_eq!(url.host_str(), Some(alice.host().as_str()));
    assert_eq!((url.path(), url.query()), ("/lab/tree/a%20b.ipynb", Some("reset&x=%2F")));
}

#[tokio::test]
async fn a_navigation_to_a_starting_workspace_gets_the_waiting_page_at_once() {
    let usher = Setup::new(
        r#"
        [templates.demo]
        command = ["{usher}", "demo", "--socket", "{socket}", "--start-delay", "3000"]
        connect = "socket"
        "#,
    );
    let usher = usher.start().await;
    let mut alice = Person::new(&usher, "alice");
    let (_, page) = alice.visit("/").await;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE, "{}", page.text());
    assert!(page.field("content-type").starts_with("text/html"), "{:?}", page.headers);
    assert!(!page.field("retry-after").is_empty(), "{:?}", page.headers);
    alice.await_phase("ready").await;
}

#[tokio::test]
async fn files_outlive_a_stop() {
    let usher = Usher::start("").await;
    let mut alice = Person::at_work(&usher, "alice").await;
    let saved = alice.fetch(Method::PUT, "/note").body("remember me").send().await;
    assert_eq!(saved.status, StatusCode::NO_CONTENT, "{}", saved.text());
    assert!(alice.press("stop").await.status.is_success());
    alice.await_phase("stopped").await;
    assert_eq!(usher.workspace_processes(), [], "a stopped workspace has no process");

    alice.visit("/").await;
    alice.await_phase("ready").await;
    assert_eq!(alice.fetch(Method::GET, "/note").send().await.text(), "remember me");
}

#[tokio::test]
async fn background_requests_do_not_wake_a_stopped_workspace() {
    let usher = Usher::start("").await;
    let alice = Person::at_work(&usher, "alice").await;
    alice.press("stop").await;
    alice.await_phase("stopped").await;
    let answer = alice.fetch(Method::GET, "/api/kernels").send().await;
    assert_eq!(answer.status, StatusCode::FAILED_DEPENDENCY, "{}", answer.text());
    let refused = alice.socket("/ws").await.err().expect("no socket to a stopped workspace");
    assert_eq!(refused.status, StatusCode::FAILED_DEPENDENCY);
    assert_eq!(alice.status().await["phase"], "stopped");
}

#[tokio::test]
async fn names_that_nobody_declared_are_not_found_and_make_nothing() {
    let usher = Usher::start("").await;
    let alice = Person::at_work(&usher, "alice").await;
    let client = usher.client();
    for host in ["gpu--alice", "8888--alice", "a.b", "xn--alice-x", "al_ice"] {
        let answer = client.get(&format!("{host}.{DOMAIN}"), "/").navigate("none").send().await;
        let nothing = answer.status.is_client_error() || answer.status == StatusCode::FOUND;
        assert!(nothing, "{host}: {} {}", answer.status, answer.text());
    }
    let elsewhere = client.get("example.org", "/").navigate("none").send().await;
    assert!(elsewhere.status.is_client_error(), "{}", elsewhere.status);
    let status = usher.status().await;
    let known: Vec<_> = status["workspaces"].as_array().unwrap().iter().map(|w| &w["workspace"]).collect();
    assert_eq!(known, [alice.name.as_str()]);
}

#[tokio::test]
async fn a_further_workspace_that_the_operator_declared_runs_beside_the_first() {
    let usher = Usher::start("[named_workspaces.gpu]\ntemplate = \"'demo'\"\n").await;
    let mut alice = Person::at_work(&usher, "alice").await;
    let host = format!("gpu--{}", alice.host());
    let start = usher.client().origin(&host);
    alice.follow(start.parse().unwrap()).await;
    let ask = alice.with_cookies(usher.client().get(&host, "/.usher/status"), &host).fetch("same-origin");
    wait_for("the second workspace", SOON, async || {
        (ask.clone().send().await.json()["phase"] == "ready").then_some(())
    })
    .await;
    assert_eq!(usher.status().await["workspaces"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_workspace_that_cannot_start_says_why() {
    let rest = "[templates.demo]\ncommand = [\"/nonexistent/program\", \"{socket}\"]\nconnect = \"socket\"\n";
    let usher = Usher::start(rest).await;
    let mut alice = Person::new(&usher, "alice");
    alice.visit("/").await;
    let status = alice.await_phase("failed").await;
    assert_eq!(status["cause"]["code"], "program_not_found", "{status}");
}

#[tokio::test]
async fn a_workspace_that_ends_at_once_says_so() {
    let rest = "[templates.demo]\nconnect = \"socket\"\n\
                command = [\"/bin/sh\", \"-c\", \"echo no library; exit 3\", \"{socket}\"]\n";
    let usher = Usher::start(rest).await;
    let mut alice = Person::new(&usher, "alice");
    alice.visit("/").await;
    let status = alice.await_phase("failed").await;
    assert_eq!(status["cause"]["code"], "crashed", "{status}");
}

#[tokio::test]
async fn a_script_is_held_until_its_workspace_is_ready() {
    let usher = Usher::start("").await;
    let alice = Person::logged_in(&usher, "alice").await;
    alice.await_phase("ready").await;
    alice.press("stop").await;
    alice.await_phase("stopped").await;
    // No Sec-Fetch headers, no Origin, no Accept: nothing that a browser would send.
    let ask = usher.client().get(&alice.host(), "/note");
    let answer = alice.with_cookies(ask, &alice.host()).send().await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
}

#[tokio::test]
async fn operators_see_health_metrics_and_workspaces() {
    let usher = Usher::start("").await;
    assert_eq!(usher.admin("/livez").send().await.status, StatusCode::OK);
    wait_for("it to be ready", SOON, async || {
        (usher.admin("/readyz").send().await.status == StatusCode::OK).then_some(())
    })
    .await;
    assert!(usher.admin("/metrics").send().await.text().contains("usher_"));
    Person::at_work(&usher, "alice").await;
    let (succeeded, text) = usher.command(&["status"]);
    assert!(succeeded && text.contains("alice") && text.contains("ready"), "{text}");
    let (succeeded, text) = usher.command(&["stop", "alice"]);
    assert!(succeeded, "{text}");
}

#[tokio::test]
async fn the_access_event_names_no_query_and_no_cookie() {
    let usher = Usher::start("").await;
    let alice = Person::at_work(&usher, "alice").await;
    alice.fetch(Method::GET, "/headers?token=sesame").send().await;
    let cookie = alice.jar.cookie(&alice.host(), "__Host-usher-ws").unwrap();
    let log = usher.logs.all();
    assert!(!log.contains("sesame"), "a query string was logged");
    assert!(!log.contains(cookie), "a cookie was logged");
}
