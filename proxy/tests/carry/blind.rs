//! While nothing is heard of the cluster: what is open goes on, and nothing is opened to where others may be by now.

use crate::OK;
use crate::floor::{Floor, read_all, read_until, until, upstream};
use crate::sockets::{HELLO_BACK, fast_and, hello_back, upgrade};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::io::AsyncWriteExt;

const BROWSER: &str =
    "Accept: text/html\r\nSec-Fetch-Site: none\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
const PAGE: &str = "Sec-Fetch-Site: same-origin\r\nSec-Fetch-Mode: cors\r\nSec-Fetch-Dest: empty\r\n";

/// A text frame of a client.
const HELLO: [u8; 11] = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];

/// What leaves no connection in a pool.
const LAST: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

/// An edge before a workspace that answers so, and how often that was connected to.
async fn floor(answer: &'static str) -> (Floor, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let to = upstream(move |tcp| {
        counted.fetch_add(1, Relaxed);
        fast_and(tcp, answer)
    });
    (Floor::before(to.await).await, connections)
}

#[tokio::test]
async fn what_is_open_and_pooled_goes_on_without_a_dial() {
    let (floor, connections) = floor(OK).await;
    let mut socket = floor.send(&upgrade(&floor)).await;
    read_until(&mut socket, "\r\n\r\n").await;
    assert_eq!(hello_back(&mut socket).await, HELLO_BACK);
    let request = format!("{}\r\n", floor.head("GET /pooled"));
    let mut client = floor.send(&request).await;
    read_until(&mut client, "\r\n\r\nok").await;

    floor.is_sighted(false).await;
    let before = connections.load(Relaxed);
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = read_until(&mut client, "\r\n\r\nok").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "by the connection that is pooled: {answer}");
    socket.write_all(&HELLO).await.unwrap();
    assert_eq!(hello_back(&mut socket).await, HELLO_BACK);
    assert_eq!(connections.load(Relaxed), before);
}

#[tokio::test]
async fn an_answer_and_whatever_a_socket_carries_vouch_for_what_is_dialled_next() {
    let (answered, of_answered) = floor(OK).await;
    let mut client = answered.send("").await;
    let request = format!("{}\r\n", answered.head("GET /pooled"));
    for is_sure in [false, true] {
        if is_sure {
            answered.was_true_until_now().await;
        }
        client.write_all(request.as_bytes()).await.unwrap();
        read_until(&mut client, "\r\n\r\nok").await;
    }
    let (spoken, of_spoken) = floor(LAST).await;
    let mut socket = spoken.send(&upgrade(&spoken)).await;
    read_until(&mut socket, "\r\n\r\n").await;
    assert_eq!(hello_back(&mut socket).await, HELLO_BACK);
    spoken.was_true_until_now().await;
    socket.write_all(&HELLO).await.unwrap();
    assert_eq!(hello_back(&mut socket).await, HELLO_BACK);
    for (floor, connections) in [(answered, of_answered), (spoken, of_spoken)] {
        floor.is_sighted(false).await;
        let before = connections.load(Relaxed);
        let mut another = floor.send(&upgrade(&floor)).await;
        read_until(&mut another, "\r\n\r\n").await;
        assert_eq!(connections.load(Relaxed), before + 1);
        let status = floor.get("/.usher/status").await;
        assert!(!status.contains("cluster_unreachable"), "{status}");
    }
}

#[tokio::test]
async fn a_page_is_told_at_once_and_a_script_and_a_websocket_wait_until_it_is_seen_again() {
    let (floor, connections) = floor(LAST).await;
    floor.is_replaced().await;
    floor.is_sighted(false).await;
    let before = connections.load(Relaxed);
    let ask = |more: &str| format!("{}{more}Connection: close\r\n\r\n", floor.head("GET /x?close"));
    let told = read_all(&mut floor.send(&ask(PAGE)).await).await;
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("usher-error: unseen"), "{told}");
    assert!(told.to_lowercase().contains("retry-after: 10"), "{told}");
    let told = read_all(&mut floor.send(&ask(BROWSER)).await).await;
    assert!(told.starts_with("HTTP/1.1 503 ") && told.contains("data-view=\"unseen\""), "{told}");
    let status = floor.get("/.usher/status").await;
    assert!(status.contains("\"phase\":\"ready\"") && status.contains("cluster_unreachable"), "{status}");

    let mut script = floor.send(&ask("")).await;
    let mut socket = floor.send(&upgrade(&floor)).await;
    until("both are held", || floor.edge.metrics.connections_open.get() >= 2).await;
    assert_eq!(connections.load(Relaxed), before, "nothing was dialled");
    floor.is_sighted(true).await;
    let answer = read_all(&mut script).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    read_until(&mut socket, "\r\n\r\n").await;
    assert_eq!(hello_back(&mut socket).await, HELLO_BACK);
}
