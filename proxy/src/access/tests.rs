//! What all phases together make of requests to workspaces that are pods.

use crate::edge::ListenerFacts;
use crate::lab::{Answer, Browser, Lab, NAVIGATION};
use config::{TemplateName, WorkspaceId};
use control::{Event, Grant, Identity, Observed, ObservedPhase, StartSpec};
use http::{Method, StatusCode};
use std::time::{Duration, Instant};

const CONFIG: &str = r#"
domain = "lab.localhost"
driver = "kubernetes"
state_dir = "/nowhere"
kubernetes = { namespace = "workspaces" }
[[listeners]]
address = ["127.0.0.1:8080"]
[login]
development = true
[access]
allow = "true"
template = "'small'"
[named_workspaces.more]
template = "'small'"
[quotas.cores]
applies_to = "true"
each = { cpu = "1500m" }
[quotas.odd]
applies_to = "user.name == 'stranger' && claims.team == 'odd'"
all = { workspaces = 1 }
[templates.small]
image = "small"
port = 8888
volume = "none"
resources = { cpu = 1, memory = { expression = "user.name == 'mallory' ? user.subject : '1Gi'" } }
environment = { TEAM = { expression = "user.name == 'nobody' ? claims.team : user.name" } }
[templates.large]
image = { expression = "'large-' + user.name" }
port = 8888
volume = "none"
resources = { cpu = 1, memory = "8Gi" }
"#;

async fn lab() -> Lab {
    Lab::with(CONFIG, ListenerFacts { tls: false, public_port: 8080, loopback: true, redirects: false })
        .await
        .with_pages()
}

fn origin(name: &str) -> String {
    format!("http://{name}.lab.localhost:8080")
}

/// A browser with a session that has woken nothing yet.
async fn visitor<'a>(lab: &'a Lab, name: &str) -> Browser<'a> {
    let mut browser = lab.browser();
    browser.log_in(name, &format!("{}/.usher/status", origin(name))).await;
    browser
}

async fn open(browser: &mut Browser<'_>, name: &str) -> Answer {
    browser.send(Method::GET, &format!("{}/", origin(name)), &NAVIGATION, "").await
}

/// Waits for the driver to be asked for so many starts.
async fn starts(lab: &Lab, number: usize) -> Vec<StartSpec> {
    let mut changes = lab.edge.workspaces.changes();
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let starts = lab.starts();
        if starts.len() >= number {
            return starts;
        }
        assert!(
            Instant::now() < until,
            "the driver was asked for {} starts, and not for {number}",
            starts.len()
        );
        let _ = tokio::time::timeout(Duration::from_millis(5), changes.changed()).await;
    }
}

#[tokio::test]
async fn a_start_has_what_the_templates_rules_give_for_its_user() {
    let lab = lab().await;
    for name in ["alice", "bob"] {
        assert_eq!(open(&mut visitor(&lab, name).await, name).await.status, StatusCode::SERVICE_UNAVAILABLE);
    }
    let starts = starts(&lab, 2).await;
    for (start, name) in starts.iter().zip(["alice", "bob"]) {
        let values: Vec<_> = start.grant.values.0.iter().map(|(key, value)| (&**key, &**value)).collect();
        assert_eq!(values, [("environment.TEAM", name), ("resources.memory", "1Gi")]);
    }
}

#[tokio::test]
async fn a_workspace_that_has_a_template_already_is_started_with_the_values_of_that_one() {
    let lab = lab().await;
    let mut browser = visitor(&lab, "alice").await;
    let id = WorkspaceId::parse("alice").unwrap();
    let owner = Identity { issuer: Identity::DEVELOPMENT.to_owned(), subject: "alice".to_owned() };
    let template = TemplateName::parse("large").unwrap();
    let stopped = ObservedPhase::Stopped;
    lab.tell(Event::Seen(Observed::alone(id.clone(), owner, template, Grant::default(), stopped)));
    let mut changes = lab.edge.workspaces.changes();
    while lab.edge.workspaces.lookup(&id).is_none() {
        changes.changed().await.unwrap();
    }
    open(&mut browser, "alice").await;
    let values = &starts(&lab, 1).await[0].grant.values.0;
    assert_eq!(values.iter().next().map(|(key, value)| (&**key, &**value)), Some(("image", "large-alice")));
}

#[tokio::test]
async fn a_rule_that_gives_no_value_starts_nothing_and_says_which_key_it_is() {
    let lab = lab().await;
    for (name, key) in
        [("mallory", "templates.small.resources.memory"), ("nobody", "templates.small.environment.TEAM")]
    {
        let mut browser = visitor(&lab, name).await;
        let answer = open(&mut browser, name).await;
        assert_eq!(answer.status, StatusCode::INTERNAL_SERVER_ERROR, "{answer:?}");
        assert_eq!(answer.header("usher-error"), Some("misconfigured"));
        assert!(answer.body.contains(key), "{}", answer.body);
        let config = lab.edge.config.load();
        let line = CONFIG
            .lines()
            .position(|line| line.contains(if name == "mallory" { "memory = {" } else { "TEAM" }));
        assert!(config.place(key).starts_with(&format!("test.toml:{}:", line.unwrap() + 1)));
    }
    assert!(lab.starts().is_empty() && lab.edge.workspaces.all().len() == 1, "{:?}", lab.starts());
}

#[tokio::test]
async fn a_start_beyond_a_quota_is_refused_with_its_name_and_with_what_uses_it() {
    let lab = lab().await;
    let mut browser = visitor(&lab, "alice").await;
    open(&mut browser, "alice").await;
    assert_eq!(starts(&lab, 1).await[0].grant.quotas.iter().map(|name| name.as_str()).next(), Some("cores"));
    let answer = browser.go(&format!("{}/", origin("more--alice"))).await.answer;
    assert_eq!(
        (answer.status, answer.header("usher-error")),
        (StatusCode::TOO_MANY_REQUESTS, Some("over_quota"))
    );
    assert!(answer.header("retry-after").is_some());
    for part in ["cores", "1500m of cpu", "1 are used", "these use it: alice"] {
        assert!(answer.body.contains(part), "{part}: {}", answer.body);
    }
    assert_eq!(lab.starts().len(), 1);
}

#[tokio::test]
async fn a_quota_that_gives_no_answer_for_a_user_starts_nothing_of_theirs() {
    let lab = lab().await;
    let mut browser = visitor(&lab, "stranger").await;
    let answer = open(&mut browser, "stranger").await;
    assert_eq!((answer.status, answer.header("usher-error")), (StatusCode::FORBIDDEN, Some("not_allowed")));
    assert!(answer.body.contains("quotas.odd.applies_to"), "{}", answer.body);
    assert!(lab.starts().is_empty());
}
