//! What a hostile client sends: each gets an answer of ours, is counted, and costs nobody else anything.

use crate::floor::{Floor, SOON, Setup, read_all, read_until, until};
use crate::well_behaved;
use prometheus::proto::MetricFamily;
use tokio::io::AsyncWriteExt;

/// The sum of a metric's samples that have this label value.
fn counted(floor: &Floor, name: &str, label: &str) -> f64 {
    let families: Vec<MetricFamily> = floor.edge.metrics.registry.gather();
    let family = families.iter().find(|family| family.name() == name).unwrap();
    let with_label = family
        .get_metric()
        .iter()
        .filter(|metric| metric.get_label().iter().any(|pair| pair.value() == label));
    with_label.map(|metric| metric.get_counter().get_value()).sum()
}

/// An answer of ours with this status and code, and nothing behind it.
fn assert_ours(what: &str, answer: &str, status: u16, code: &str) {
    let lower = answer.to_ascii_lowercase();
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
    assert!(lower.contains(&format!("\r\nusher-error: {code}\r\n")), "{what}: {answer}");
    assert!(!lower.contains("\r\nserver:") && !lower.contains("pingora"), "{what}: {answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{what}: {answer}");
}

#[tokio::test]
async fn a_head_that_cannot_be_read_is_answered_and_counted_by_us() {
    let floor = Floor::before(crate::upstream(well_behaved).await).await;
    let host = format!("Host: {}\r\n", crate::floor::HOST);
    for (what, sent) in [
        ("no HTTP", "\u{16}\u{3}\u{1} nonsense\r\n\r\n".to_owned()),
        ("no version", format!("GET /\r\n{host}\r\n")),
        ("a folded line", format!("GET / HTTP/1.1\r\n{host}A: b\r\n c\r\n\r\n")),
        ("space before a colon", format!("GET / HTTP/1.1\r\n{host}A : b\r\n\r\n")),
        ("a NUL", format!("GET / HTTP/1.1\r\n{host}A: b\0c\r\n\r\n")),
        ("two lengths", format!("POST / HTTP/1.1\r\n{host}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab")),
        ("an unknown coding", format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: gzip\r\n\r\n")),
        (
            "chunks in HTTP/1.0",
            format!("POST / HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ),
        ("two hosts", format!("GET / HTTP/1.1\r\n{host}Host: b\r\n\r\n")),
        ("HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned()),
    ] {
        let before = counted(&floor, "usher_refusals_total", "bad_request");
        let answer = read_all(&mut floor.send(&sent).await).await;
        assert_ours(what, &answer, 400, "bad_request");
        until(what, || counted(&floor, "usher_refusals_total", "bad_request") > before).await;
    }
}

#[tokio::test]
async fn connect_and_trace_are_refused_by_us_and_end_the_connection() {
    let floor = Floor::before(crate::upstream(well_behaved).await).await;
    let next = format!("{}\r\n", floor.head("GET /next"));
    for sent in [
        format!("CONNECT {h}:443 HTTP/1.1\r\nHost: {h}:443\r\n\r\n{next}", h = crate::floor::HOST),
        format!("{}\r\n{next}", floor.head("TRACE /")),
    ] {
        let answer = read_all(&mut floor.send(&sent).await).await;
        assert_ours(&sent, &answer, 405, "method_not_allowed");
    }
}

#[tokio::test]
async fn what_our_own_endpoints_refuse_is_counted_like_the_rest() {
    let floor = Floor::before(crate::upstream(well_behaved).await).await;
    let answer = floor.get("/.usher/nothing").await;
    assert_ours("nothing", &answer, 404, "not_found");
    until("it is counted", || counted(&floor, "usher_refusals_total", "not_found") == 1.0).await;
}

#[tokio::test]
async fn a_client_that_leaves_within_its_body_is_no_fault_of_ours() {
    let floor = Floor::new(Setup::default()).await;
    let accepting = floor.edge.drain.slots();
    let counts = || counted(&floor, "usher_connections_total", "accepted");
    for body in ["Content-Length: 5\r\n\r\na", "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"] {
        let before = counts();
        drop(floor.send(&format!("POST /login HTTP/1.1\r\nHost: lab.localhost\r\n{body}")).await);
        until("it was served", || counts() > before && floor.edge.drain.slots() == accepting).await;
    }
    assert_eq!(counted(&floor, "usher_refusals_total", "internal"), 0.0);
}

#[tokio::test]
async fn the_next_request_is_never_made_of_a_refused_ones_body() {
    let floor = Floor::new(Setup::default()).await;
    let inner = format!("{}\r\n", floor.head("GET /smuggled"));
    let host = format!("Host: {}\r\n", crate::floor::HOST);
    for framing in [
        format!("Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}", 5),
        format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("Content-Length: 0, 0\r\n\r\n{inner}"),
        format!("Content-Length: +0\r\n\r\n{inner}"),
        format!("A: b\nContent-Length: 0\r\n\r\n{inner}"),
        format!("Content-Length: 1048576\r\n\r\n{inner}"),
        format!("Expect: 100-continue\r\nContent-Length: 1048576\r\n\r\n{inner}"),
    ] {
        let answer = read_all(&mut floor.send(&format!("POST /x HTTP/1.1\r\n{host}{framing}")).await).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{framing}: {answer}");
        assert!(!answer.starts_with("HTTP/1.1 2"), "{framing}: {answer}");
    }
}

#[tokio::test]
async fn a_connection_serves_on_after_a_client_that_broke_every_rule_on_another() {
    let floor = Floor::before(crate::upstream(well_behaved).await).await;
    let mut idle = floor.send(&format!("{}\r\n", floor.head("GET /"))).await;
    read_until(&mut idle, "ok").await;
    drop(floor.send("\0\0\0\0\r\n\r\n").await);
    let mut half = floor.send("GET / HTT").await;
    half.shutdown().await.unwrap();
    let _ = tokio::time::timeout(SOON, tokio::io::AsyncReadExt::read_to_end(&mut half, &mut Vec::new()))
        .await
        .unwrap();
    idle.write_all(format!("{}\r\n", floor.head("GET /")).as_bytes()).await.unwrap();
    read_until(&mut idle, "ok").await;
}
