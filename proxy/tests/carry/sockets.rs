//! WebSockets, from an admitted upgrade to the end of its tunnel.

use crate::floor::{Floor, SOON, Setup, read_all, read_head, read_until, until, upstream};
use crate::{OK, QUICK};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// The key and its answer from RFC 6455 §1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
/// A masked text frame "Hello" (RFC 6455 §5.7), and the same unmasked.
const HELLO: [u8; 11] = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
pub const HELLO_BACK: [u8; 7] = [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f];

/// Answers an upgrade and its first frame with all that it has to say, at once; then listens.
pub async fn fast(tcp: TcpStream) {
    fast_and(tcp, OK).await;
}

/// As [`fast`], with this answer to what is no upgrade.
pub async fn fast_and(mut tcp: TcpStream, answer: &str) {
    while let Some(head) = read_head(&mut tcp).await {
        if !head.to_ascii_lowercase().contains("upgrade: websocket") {
            let _ = tcp.write_all(answer.as_bytes()).await;
            continue;
        }
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
        );
        let _ = tcp.write_all(&[answer.as_bytes(), &HELLO_BACK].concat()).await;
        let mut frame = [0; HELLO.len()];
        while tcp.read_exact(&mut frame).await.is_ok() {
            let _ = tcp.write_all(&HELLO_BACK).await;
        }
        return;
    }
}

pub fn upgrade(floor: &Floor) -> String {
    let head = floor.head("GET /socket");
    format!(
        "{head}Origin: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {KEY}\r\n\r\n",
        floor.origin()
    )
}

pub async fn hello_back(client: &mut TcpStream) -> [u8; HELLO_BACK.len()] {
    let mut frame = [0; HELLO_BACK.len()];
    tokio::time::timeout(SOON, client.read_exact(&mut frame)).await.expect("a frame comes").unwrap();
    frame
}

#[tokio::test]
async fn of_many_upgrades_before_a_fast_workspace_none_is_dead_after_its_101() {
    let floor = Floor::before(upstream(fast).await).await;
    let mut all = JoinSet::new();
    for _ in 0..300 {
        let mut client = floor.send(&upgrade(&floor)).await;
        all.spawn(async move {
            let head = read_until(&mut client, "\r\n\r\n").await;
            assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
            assert_eq!(hello_back(&mut client).await, HELLO_BACK);
            client.write_all(&HELLO).await.unwrap();
            assert_eq!(hello_back(&mut client).await, HELLO_BACK);
            client
        });
    }
    let clients: Vec<_> = all.join_all().await;
    assert_eq!(floor.edge.metrics.tunnels_open.get(), 300);
    drop(clients);
    until("all tunnels end with their clients", || floor.edge.metrics.tunnels_open.get() == 0).await;
}

#[tokio::test]
async fn a_tunnel_to_what_is_somebody_elses_now_is_closed_with_4403() {
    let floor = Floor::before(upstream(fast).await).await;
    let mut client = floor.send(&upgrade(&floor)).await;
    read_until(&mut client, "\r\n\r\n").await;
    hello_back(&mut client).await;
    floor.is_somebody_elses().await;
    let mut close = [0; 4];
    tokio::time::timeout(SOON, client.read_exact(&mut close)).await.expect("a Close comes").unwrap();
    assert_eq!((close[0], u16::from_be_bytes([close[2], close[3]])), (0x88, 4403));
}

#[tokio::test]
async fn bytes_before_the_101_are_never_carried() {
    let floor = Floor::before(upstream(fast).await).await;
    let mut client = floor.send(&format!("{}early bytes", upgrade(&floor))).await;
    assert_eq!(read_all(&mut client).await, "");
    assert_eq!(floor.edge.metrics.tunnels_open.get(), 0);
}

#[tokio::test]
async fn a_drain_closes_sockets_with_1012_when_their_time_to_end_by_themselves_is_over() {
    let more = QUICK.replace("10m", "100ms").replace("30s", "1s").leak();
    let mut floor = Floor::new(Setup { more, ..Setup::default() }).await;
    floor.is_ready_at(upstream(fast).await);
    assert!(floor.get("/").await.contains(" 200 "));
    let mut client = floor.send(&upgrade(&floor)).await;
    read_until(&mut client, "\r\n\r\n").await;
    assert_eq!(hello_back(&mut client).await, HELLO_BACK);
    let drained = tokio::spawn(async move { floor.drain().await });
    let mut head = [0; 4];
    tokio::time::timeout(SOON, client.read_exact(&mut head)).await.expect("a frame comes").unwrap();
    assert_eq!((head[0], u16::from_be_bytes([head[2], head[3]])), (0x88, 1012));
    // The answer to a Close (RFC 6455 §5.5.1): masked, 1012.
    client.write_all(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xf4]).await.unwrap();
    assert_eq!(read_all(&mut client).await, "usher is restarting");
    drop(client);
    tokio::time::timeout(SOON, drained).await.expect("it ends with the last socket").unwrap();
}

#[tokio::test]
async fn an_upgrade_that_is_answered_otherwise_passes_as_an_answer_and_closes() {
    let floor = Floor::before(
        upstream(|mut tcp| async move {
            while let Some(head) = read_head(&mut tcp).await {
                let refused = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
                let answer = if head.starts_with("GET / ") { OK } else { refused };
                let _ = tcp.write_all(answer.as_bytes()).await;
            }
        })
        .await,
    )
    .await;
    let answer = read_all(&mut floor.send(&upgrade(&floor)).await).await;
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.ends_with("\r\n\r\nno"), "{answer}");
}
