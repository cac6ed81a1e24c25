use super::*;
use crate::kubernetes::testing::{Reply, Server, kubeconfig};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::params::WatchParams;
use serde_json::json;
use std::path::Path;
use tokio::task::JoinSet;
use tokio::time::Instant;

fn object() -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap()
}

const CREATES: [&str; 2] = ["create", "other"];

async fn connected(file: &Path, context: Option<&str>) -> Result<Client, ConnectError> {
    let metrics = ClientMetrics::new(&prometheus::Registry::new()).unwrap();
    let settings = ClientSettings { kubeconfig: Some(file.to_owned()), context: context.map(str::to_owned) };
    Client::new(&settings, metrics).await
}

#[tokio::test(start_paused = true)]
async fn a_frozen_api_is_told_within_a_second() {
    let server = Server::script([]);
    let begun = Instant::now();
    let error = server.in_memory().create("w", &object()).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert!(matches!(&error, CallError::Silent { .. }), "{error}");
    assert!(
        error.to_string().contains("`create other`") && error.to_string().contains("http://memory"),
        "{error}"
    );
    assert!(error.may_be_done());
    assert_eq!(server.metric("usher_kubernetes_requests_total", &["create", "other", "timeout"]), 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_rush_of_calls_is_answered_in_turn_though_that_takes_longer_than_one_may() {
    let slow = Reply::stream().wait(Duration::from_millis(400)).say(b"{\"metadata\":{\"name\":\"a\"}}");
    let client = Server::new(move |_| slow.clone()).in_memory();
    let mut calls = JoinSet::new();
    for _ in 0..80 {
        let client = client.clone();
        calls.spawn(async move { client.create("w", &object()).await });
    }
    let begun = Instant::now();
    calls.join_all().await.into_iter().for_each(|created| drop(created.unwrap()));
    assert_eq!(begun.elapsed(), Duration::from_secs(4));
}

/// Answers a creation never, and a look at an object at once.
fn busy_with_others() -> Server {
    Server::new(|asked| match asked.line.starts_with("GET") {
        true => Reply::json(200, &json!({"metadata": {"name": "a"}})),
        false => Reply::silence(),
    })
}

#[tokio::test(start_paused = true)]
async fn a_server_that_gets_other_things_done_is_waited_for_but_not_for_ever() {
    let client = busy_with_others().in_memory();
    let begun = Instant::now();
    let mut looks = tokio::time::interval(Duration::from_millis(300));
    let looking = async {
        loop {
            looks.tick().await;
            client.get::<ConfigMap>("w", "a").await.unwrap();
        }
    };
    let object = object();
    let error = tokio::select! {
        () = looking => unreachable!("it looks for ever"),
        created = client.create("w", &object) => created.unwrap_err(),
    };
    assert!(matches!(error, CallError::Silent { .. }), "{error}");
    assert_eq!(begun.elapsed(), Duration::from_millis(2500));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_tells_a_watch_of_what_others_get_done_is_waited_for() {
    let event = json!({"type": "ADDED", "object": {}});
    let told = Reply::stream().wait(Duration::from_millis(700)).line(&event).hang();
    let server = Server::new(move |asked| match asked.line.starts_with("GET") {
        true => told.clone(),
        false => Reply::silence(),
    });
    let client = server.in_memory();
    let watch = of::<ConfigMap>("w").watch(&WatchParams::default(), "1");
    let mut lines = client.stream(watch).await.unwrap();
    let begun = Instant::now();
    let object = object();
    let (_, created) = tokio::join!(lines.frame(), client.create("w", &object));
    created.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::from_millis(1500));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_freezes_is_told_within_a_second_of_its_last_answer() {
    let client = busy_with_others().in_memory();
    let begun = Instant::now();
    client.get::<ConfigMap>("w", "a").await.unwrap();
    client.create("w", &object()).await.unwrap_err();
    assert_eq!(begun.elapsed(), Duration::from_millis(800));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_stalls_is_told_as_soon_as_one_that_never_comes() {
    let server = Server::script([Reply::stream().say(b"{\"metadata\":").hang()]);
    let begun = Instant::now();
    let error = server.in_memory().get::<ConfigMap>("w", "a").await.unwrap_err();
    assert!(matches!(error, CallError::Silent { .. }), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert_eq!(server.metric("usher_kubernetes_requests_in_flight", &[]), 0.0);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_eight_calls_are_in_flight_and_the_next_says_so() {
    let server = Server::script([]);
    let client = server.in_memory();
    let mut calls = JoinSet::new();
    for _ in 0..40 {
        let client = client.clone();
        calls.spawn(async move { client.create("w", &object()).await.unwrap_err() });
    }
    let begun = Instant::now();
    let errors = calls.join_all().await;
    assert_eq!(begun.elapsed(), Duration::from_millis(800), "many at once are told as soon as one");
    assert_eq!(server.asked().len(), 8);
    let crowded =
        errors.iter().filter(|error| matches!(error, CallError::Crowded { in_flight: 8, .. })).count();
    assert_eq!(crowded, 32);
    assert_eq!(server.metric("usher_kubernetes_requests_in_flight", &[]), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_call_is_made_once_whatever_the_answer() {
    for (code, reason, result) in [
        (409, "AlreadyExists", "conflict"),
        (403, "Forbidden", "refused"),
        (429, "TooManyRequests", "throttled"),
        (503, "ServiceUnavailable", "failed"),
        (504, "Timeout", "failed"),
    ] {
        let server = Server::script([Reply::refusal(code, reason)]);
        let error = server.in_memory().create("w", &object()).await.unwrap_err();
        let expected =
            CallError::Refused { code, reason: reason.to_owned(), message: format!("the test says {code}") };
        assert_eq!(error, expected);
        assert_eq!(server.asked().len(), 1, "{code}");
        let labels = [&CREATES[..], &[result]].concat();
        assert_eq!(server.metric("usher_kubernetes_requests_total", &labels), 1.0, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_by_something_in_between_is_told_in_its_words() {
    let page = Reply::stream().say(b"<html>bad gateway</html>");
    let server = Server::script([page.clone(), Reply::refusal(404, "NotFound")]);
    let client = server.in_memory();
    let error = client.get::<ConfigMap>("w", "a").await.unwrap_err();
    assert!(matches!(error, CallError::Unreadable { .. }), "{error}");
    assert!(!error.to_string().contains("gateway"), "what cannot be read may be a secret: {error}");
    assert!(client.get::<ConfigMap>("w", "a").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn who_leaves_a_call_is_counted_and_gives_its_place_back() {
    let server = Server::script([]);
    let client = server.in_memory();
    let left = tokio::time::timeout(Duration::from_millis(10), client.create("w", &object())).await;
    assert!(left.is_err());
    assert_eq!(server.metric("usher_kubernetes_requests_total", &["create", "other", "abandoned"]), 1.0);
    assert_eq!(server.metric("usher_kubernetes_requests_in_flight", &[]), 0.0);
}

#[tokio::test]
async fn every_write_asks_for_strict_checks_and_shows_the_credentials() {
    let server = Server::script([Reply::json(201, &json!({"metadata": {"name": "a"}}))]);
    let (client, _server) = server.over_sockets().await;
    let created = client.create("w", &object()).await.unwrap();
    assert_eq!(created.object.metadata.name.as_deref(), Some("a"));
    assert_eq!(server.asked(), ["POST /api/v1/namespaces/w/configmaps?fieldValidation=Strict"]);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    std::fs::write(&file, kubeconfig(&address)).unwrap();
    let client = connected(&file, None).await.unwrap();
    let error = client.get::<ConfigMap>("w", "a").await.unwrap_err();
    assert!(matches!(&error, CallError::Unreachable { server, .. } if *server == address), "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn what_is_wrong_with_a_kubeconfig_is_told_without_its_content() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kubeconfig");
    let path = file.to_str().unwrap();
    let said = async |content: Option<&str>, context| {
        match content {
            Some(content) => std::fs::write(&file, content).unwrap(),
            None => drop(std::fs::remove_file(&file)),
        }
        let error = connected(&file, context).await.err().expect("it cannot be used").to_string();
        assert!(error.contains(path) && !error.contains("s3cret"), "{error}");
        error
    };
    assert!(said(None, None).await.contains("No such file"));
    said(Some("token: [s3cret"), None).await;
    let good = kubeconfig("http://127.0.0.1:1");
    let unknown = said(Some(&good), Some("y")).await;
    assert!(unknown.contains("\"y\"") && unknown.contains("[\"x\"]"), "{unknown}");
    said(Some(&good.replace("cluster: c,", "cluster: d,")), None).await;
    let proxied = good.replace("server:", "proxy-url: \"http://user:s3cret@proxy:1\", server:");
    assert!(said(Some(&proxied), None).await.contains("proxy-url"));
}

#[tokio::test]
async fn outside_of_a_pod_a_kubeconfig_is_asked_for() {
    let metrics = ClientMetrics::new(&prometheus::Registry::new()).unwrap();
    let error = Client::new(&ClientSettings::default(), metrics).await.err().unwrap();
    assert!(error.to_string().contains("kubernetes.kubeconfig"), "{error}");
}
