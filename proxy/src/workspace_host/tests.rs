//! What a browser meets on a workspace's host while the workspace does not run.

use crate::edge::ListenerFacts;
use crate::lab::{Answer, Browser, CONFIG, INSIDE, Lab, NAVIGATION, PODS};
use control::Phase;
use http::{Method, StatusCode};
use serde_json::{Value, json};

const ALICE: &str = "http://alice.lab.localhost:8080";
const BROKEN: &str = "http://broken--alice.lab.localhost:8080";
const PORTAL: &str = "http://lab.localhost:8080";
const SAME: [(&str, &str); 3] =
    [("sec-fetch-site", "same-origin"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")];
const JSON: (&str, &str) = ("accept", "application/json");

async fn lab() -> Lab {
    let broken = "[named_workspaces.broken]\ntemplate = \"'broken'\"\n\
                  [templates.broken]\ncommand = [\"broken\", \"{socket}\"]\nconnect = \"socket\"\n";
    let listener = ListenerFacts { tls: false, public_port: 8080, loopback: true, redirects: false };
    Lab::with(&format!("{CONFIG}{broken}"), listener).await.with_pages()
}

/// A browser with a session on a host, which has woken nothing yet.
async fn visitor<'a>(lab: &'a Lab, origin: &str) -> Browser<'a> {
    let mut browser = lab.browser();
    browser.log_in("alice", &format!("{origin}/.usher/status")).await;
    browser
}

async fn fetch(browser: &mut Browser<'_>, url: &str) -> Answer {
    browser.send(Method::GET, url, &SAME, "").await
}

async fn status(browser: &mut Browser<'_>, origin: &str) -> Value {
    let answer = fetch(browser, &format!("{origin}/.usher/status")).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap()
}

/// A script of a page of this very host.
async fn ask(browser: &mut Browser<'_>, origin: &str, path: &str) -> Answer {
    let headers = [SAME.as_slice(), &[("origin", origin), JSON]].concat();
    browser.send(Method::POST, &format!("{origin}{path}"), &headers, "").await
}

#[tokio::test]
async fn a_navigation_wakes_and_gets_the_waiting_page_at_once() {
    let lab = lab().await;
    let mut browser = visitor(&lab, ALICE).await;
    assert_eq!(status(&mut browser, ALICE).await["phase"], "stopped", "asking wakes nothing");
    let answer = browser.go(&format!("{ALICE}/lab?x=1")).await.answer;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((answer.header("retry-after"), answer.header("cache-control")), (Some("2"), Some("no-store")));
    assert!(answer.header("content-security-policy").unwrap().contains("script-src 'self'"));
    for part in [
        "data-view=\"starting\"",
        "<script src=\"/.usher/wait.js\" defer>",
        "content=\"2;url=http://alice.lab.localhost:8080/lab?x=1\"",
        "the output of alice",
    ] {
        assert!(answer.body.contains(part), "{part}: {}", answer.body);
    }
    let told = status(&mut browser, ALICE).await;
    assert_eq!(
        (&told["phase"], &told["template"], &told["log"]),
        (&json!("starting"), &json!("demo"), &json!("the output of alice"))
    );
}

#[tokio::test]
async fn what_a_shared_application_printed_is_shown_to_none_of_its_users() {
    const WIKI: &str = "http://wiki.lab.localhost:8080";
    let route = "[routes.wiki]\nkind = 'Deployment'\nobject = 'wiki'\nport = 8080\nallow = \"user.name == 'alice'\"\n";
    let listener = ListenerFacts { tls: false, public_port: 8080, loopback: true, redirects: false };
    let lab = Lab::with(&format!("{PODS}{route}"), listener).await.with_pages();
    let mut browser = visitor(&lab, WIKI).await;
    let page = browser.go(WIKI).await.answer;
    assert_eq!(page.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(page.body.contains("data-view=\"starting\"") && !page.body.contains("the output of"), "{page:?}");
    let told = status(&mut browser, WIKI).await;
    assert_eq!((&told["phase"], told.get("log")), (&json!("starting"), None), "{told}");
}

#[tokio::test]
async fn a_browser_that_cannot_prove_a_tab_gets_a_button_and_its_form_starts_and_leads_back() {
    let lab = lab().await;
    let mut browser = visitor(&lab, ALICE).await;
    let page = |site| {
        [
            ("accept", "text/html"),
            ("sec-fetch-site", site),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "document"),
            ("sec-purpose", "prefetch"),
        ]
    };
    let answer = browser.send(Method::GET, &format!("{ALICE}/a?b=1"), &page("none"), "").await;
    assert!(
        answer.body.contains("data-view=\"stopped\"") && !answer.body.contains("http-equiv"),
        "{}",
        answer.body
    );
    assert_eq!(status(&mut browser, ALICE).await["phase"], "stopped");

    let back = answer.hidden("return");
    let start = format!("{ALICE}/.usher/start");
    let answer = browser.post(&start, ALICE, &[("retry", "false"), ("return", &back)]).await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (StatusCode::SEE_OTHER, Some("http://alice.lab.localhost:8080/a?b=1"))
    );
    assert_eq!(status(&mut browser, ALICE).await["phase"], "starting");
}

#[tokio::test]
async fn a_form_leads_to_no_other_host() {
    let lab = lab().await;
    let mut browser = visitor(&lab, ALICE).await;
    for (back, location) in [
        ("//evil.example/", "http://alice.lab.localhost:8080//evil.example/"),
        ("https://evil.example/", "http://alice.lab.localhost:8080/"),
        ("/a\r\nset-cookie: a=b", "http://alice.lab.localhost:8080/"),
        ("", "http://alice.lab.localhost:8080/"),
    ] {
        let answer = browser.post(&format!("{ALICE}/.usher/extend"), ALICE, &[("return", back)]).await;
        assert_eq!(answer.header("location"), Some(location), "{back}");
    }
}

#[tokio::test]
async fn background_requests_wake_nothing_and_are_told_to_come_back_while_it_starts() {
    let lab = lab().await;
    let mut browser = visitor(&lab, ALICE).await;
    let api = format!("{ALICE}/api/kernels");
    let answer = fetch(&mut browser, &api).await;
    assert_eq!(
        (answer.status, answer.header("usher-error")),
        (StatusCode::FAILED_DEPENDENCY, Some("workspace_stopped"))
    );
    browser.go(ALICE).await;
    let answer = fetch(&mut browser, &api).await;
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, Some("2")));
}

#[tokio::test]
async fn a_script_wakes_and_is_held() {
    let lab = lab().await;
    let mut browser = visitor(&lab, ALICE).await;
    let answer = browser.send(Method::GET, &format!("{ALICE}/api"), &[], "").await;
    assert_eq!(answer.body, INSIDE);
    assert_eq!(status(&mut browser, ALICE).await["phase"], "starting");
}

#[tokio::test]
async fn only_a_page_of_this_very_origin_changes_anything() {
    let lab = lab().await;
    let mut browser = visitor(&lab, ALICE).await;
    for path in ["start", "stop", "extend"] {
        let url = format!("{ALICE}/.usher/{path}");
        for origin in [
            "",
            "null",
            PORTAL,
            "http://bob.lab.localhost:8080",
            "http://alice.lab.localhost",
            "https://alice.lab.localhost:8080",
        ] {
            let answer = browser.post(&url, origin, &[]).await;
            assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path} from {origin:?}");
        }
        let answer = fetch(&mut browser, &url).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED, "GET {path}");
    }
    assert_eq!(status(&mut browser, ALICE).await["phase"], "stopped");
}

#[tokio::test]
async fn start_and_stop_answer_a_script_with_the_status() {
    let lab = lab().await;
    let mut browser = visitor(&lab, ALICE).await;
    let answer = ask(&mut browser, ALICE, "/.usher/start").await;
    let told: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((answer.status, &told["phase"]), (StatusCode::ACCEPTED, &json!("starting")));
    let answer = ask(&mut browser, ALICE, "/.usher/stop").await;
    let told: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(answer.status, StatusCode::ACCEPTED);
    assert!(["stopping", "stopped"].contains(&told["phase"].as_str().unwrap()), "{told}");
}

#[tokio::test]
async fn a_failure_is_told_with_its_cause_and_ends_the_events_at_once() {
    let lab = lab().await;
    let mut browser = visitor(&lab, BROKEN).await;
    browser.go(BROKEN).await;
    let id = config::WorkspaceId::parse("broken--alice").unwrap();
    let mut changes = lab.edge.workspaces.changes();
    while !lab.edge.workspaces.lookup(&id).is_some_and(|entry| matches!(entry.phase, Phase::Failed { .. })) {
        changes.changed().await.unwrap();
    }
    let events = fetch(&mut browser, &format!("{BROKEN}/.usher/events")).await;
    assert_eq!(events.header("content-type"), Some("text/event-stream"));
    assert!(
        events.body.starts_with("retry: 2000\n\nevent: status\ndata: {")
            && events.body.contains("\"failed\""),
        "{events:?}"
    );
    let answer = browser.go(BROKEN).await.answer;
    for part in [
        "data-view=\"failed\"",
        "The program `broken` does not exist.",
        "Install it.",
        "program_not_found",
        "the output of broken--alice",
    ] {
        assert!(answer.body.contains(part), "{part}: {}", answer.body);
    }
    assert!(!answer.body.contains("http-equiv"), "nothing moves by itself");
    let script = browser.send(Method::GET, &format!("{BROKEN}/api"), &[], "").await;
    assert_eq!(
        (script.status, script.header("usher-error")),
        (StatusCode::SERVICE_UNAVAILABLE, Some("workspace_failed"))
    );
}

#[tokio::test]
async fn without_a_session_everything_but_the_scripts_of_repair_asks_for_one() {
    let lab = lab().await;
    let mut nobody = lab.browser();
    for path in ["status", "events", "notice.js", "wait.js"] {
        let answer = fetch(&mut nobody, &format!("{ALICE}/.usher/{path}")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        let problem: Value = serde_json::from_str(&answer.body).unwrap();
        assert!(
            problem["login"].as_str().unwrap().starts_with("http://lab.localhost:8080/login?return="),
            "{problem}"
        );
    }
    let answer = nobody.send(Method::GET, &format!("{ALICE}/.usher/status"), &NAVIGATION, "").await;
    assert_eq!(
        (answer.status, answer.header("location")),
        (StatusCode::FOUND, Some("/.usher/enter?return=%2F.usher%2Fstatus"))
    );
    assert_eq!(ask(&mut nobody, ALICE, "/.usher/start").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn what_does_not_stand_under_usher_is_404_for_everybody() {
    let lab = lab().await;
    let mut browser = visitor(&lab, ALICE).await;
    for path in [
        "/.usher/",
        "/.usher",
        "/.usher/status/",
        "/.usher/%73tatus2",
        "//.usher/status",
        "/.well-known/acme-challenge/x",
    ] {
        let answer = fetch(&mut browser, &format!("{ALICE}{path}")).await;
        assert_eq!(
            (answer.status, answer.header("usher-error")),
            (StatusCode::NOT_FOUND, Some("not_found")),
            "{path}"
        );
    }
}

#[tokio::test]
async fn scripts_are_asked_about_each_time_and_sent_once() {
    let lab = lab().await;
    let mut browser = visitor(&lab, ALICE).await;
    let url = format!("{ALICE}/.usher/notice.js");
    let answer = fetch(&mut browser, &url).await;
    assert_eq!(answer.body, crate::notice::SCRIPT);
    assert_eq!(answer.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(answer.header("cache-control"), Some("private, no-cache"));
    let tag = answer.header("etag").unwrap().to_owned();
    let again =
        browser.send(Method::GET, &url, &[SAME.as_slice(), &[("if-none-match", &tag)]].concat(), "").await;
    assert_eq!((again.status, again.body.as_str()), (StatusCode::NOT_MODIFIED, ""));
}

#[tokio::test]
async fn the_repair_is_for_the_portals_pages_only() {
    let lab = lab().await;
    let url = format!("{ALICE}/.usher/reset");
    let image = |origin| {
        [
            ("origin", origin),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-mode", "cors"),
            ("sec-fetch-dest", "image"),
        ]
    };
    let answer = lab.browser().send(Method::GET, &url, &image(PORTAL), "").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("clear-site-data"), Some("\"cache\", \"storage\""));
    assert_eq!(
        (answer.header("content-type"), answer.header("access-control-allow-origin")),
        (Some("image/gif"), Some(PORTAL))
    );
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    for origin in ["http://bob.lab.localhost:8080", ALICE, "null"] {
        let answer = lab.browser().send(Method::GET, &url, &image(origin), "").await;
        assert_eq!(
            (answer.status, answer.header("clear-site-data")),
            (StatusCode::FORBIDDEN, None),
            "{origin}"
        );
    }
    let answer = lab.browser().send(Method::GET, &url, &NAVIGATION, "").await;
    assert_eq!(answer.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_service_worker_is_answered_with_one_that_takes_itself_away() {
    let lab = lab().await;
    let mut browser = visitor(&lab, ALICE).await;
    for path in ["/sw.js", "/.usher/status"] {
        let headers = [
            ("service-worker", "script"),
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-mode", "same-origin"),
            ("sec-fetch-dest", "serviceworker"),
        ];
        let answer = browser.send(Method::GET, &format!("{ALICE}{path}"), &headers, "").await;
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (StatusCode::OK, Some("text/javascript; charset=utf-8")),
            "{path}"
        );
        assert!(answer.body.contains("registration.unregister()"), "{path}");
    }
}

#[tokio::test]
async fn what_somebody_else_made_under_a_users_name_is_not_theirs() {
    let lab = lab().await;
    let foreign = "http://gpu--dora.lab.localhost:8080";
    let mut dora = lab.browser();
    dora.log_in("dora", foreign).await;
    let id = config::WorkspaceId::parse("gpu--dora").unwrap();
    assert!(lab.edge.workspaces.lookup(&id).is_some(), "it is in the table");
    assert!(dora.cookie("gpu--dora.lab.localhost", "__Host-usher-ws").is_some());
    for path in ["/", "/.usher/status", "/.usher/events"] {
        let answer = fetch(&mut dora, &format!("{foreign}{path}")).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
    }
    for path in ["/.usher/start", "/.usher/stop", "/.usher/extend"] {
        assert_eq!(ask(&mut dora, foreign, path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn a_template_that_allows_workers_is_not_to_be_told_by_a_stranger() {
    let allowing = CONFIG.replace("ports = [8888]", "ports = [8888]\nservice_workers = true");
    let listener = ListenerFacts { tls: false, public_port: 8080, loopback: true, redirects: false };
    let lab = Lab::with(&allowing, listener).await.with_pages();
    let mut owner = lab.browser();
    owner.log_in("alice", ALICE).await;
    let script = [SAME.as_slice(), &[("service-worker", "script")]].concat();
    let asked = owner.send(Method::GET, &format!("{ALICE}/sw.js"), &script, "").await;
    assert_eq!(asked.header("usher-error"), Some("starting"), "it is the workspace that would answer");
    let mut answers = Vec::new();
    for host in ["alice", "nobody"] {
        let url = format!("http://{host}.lab.localhost:8080/sw.js");
        let answer = lab.browser().send(Method::GET, &url, &script, "").await;
        assert!(answer.body.contains("registration.unregister()"), "{host}: {answer:?}");
        answers.push((answer.status, answer.headers));
    }
    assert_eq!(answers[0], answers[1]);
}
