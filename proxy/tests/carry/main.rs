//! The accept loops, Pingora and our part in it, over real sockets, before upstreams that behave and that do not.

#![expect(clippy::unwrap_used, reason = "a test fails by a panic")]

mod blind;
mod floor;
mod hostile;
mod http2;
mod sockets;

use control::Identity;
use floor::{Floor, SOON, Setup, accept_all, answers, read_all, read_head, read_until, until, upstream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Answers every request of a connection.
async fn well_behaved(mut tcp: TcpStream) {
    while read_head(&mut tcp).await.is_some() {
        if tcp.write_all(OK.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Answers one request of a connection, and says that it was the last.
async fn closing(mut tcp: TcpStream) {
    if read_head(&mut tcp).await.is_some() {
        let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
    }
}

#[tokio::test]
async fn requests_of_one_connection_are_answered_one_after_the_other() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    let to = upstream(move |tcp| {
        counted.fetch_add(1, Relaxed);
        well_behaved(tcp)
    })
    .await;
    let floor = Floor::before(to).await;
    let before = connections.load(Relaxed);
    let head = floor.head("GET /a");
    let mut client = floor.send(&format!("{head}\r\n")).await;
    read_until(&mut client, "\r\n\r\nok").await;
    for _ in 0..3 {
        client.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
        let answer = read_until(&mut client, "\r\n\r\nok").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    assert!(connections.load(Relaxed) <= before + 1, "the upstream connection is used again");
}

/// An edge before a workspace that was ready and listens no more; where it did.
async fn before_a_closed_port() -> (Floor, std::net::SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let listening = tokio::spawn(accept_all(listener, closing));
    let floor = Floor::before(address).await;
    listening.abort();
    assert!(listening.await.unwrap_err().is_cancelled());
    (floor, address)
}

#[tokio::test]
async fn a_workspace_that_refuses_for_a_moment_is_dialled_again() {
    let (floor, address) = before_a_closed_port().await;
    let id = config::WorkspaceId::parse("alice").unwrap();
    let activity = floor.edge.workspaces.lookup(&id).unwrap().activity.clone();
    let before = activity.last_request().unwrap();
    // Use is kept to the millisecond.
    until("the next use is a later one", || before.elapsed() > Duration::from_millis(2)).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    let head = floor.head("POST /again").replace("Cookie", &format!("Origin: {}\r\nCookie", floor.origin()));
    let mut client = floor.send(&format!("{head}Content-Length: 0\r\nConnection: close\r\n\r\n")).await;
    until("the request was admitted", || activity.last_request().unwrap() > before).await;
    tokio::spawn(accept_all(socket.listen(16).unwrap(), closing));
    let answer = read_all(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_workspace_that_stays_away_is_a_502_with_its_code() {
    let (floor, _) = before_a_closed_port().await;
    let answer = floor.get("/gone").await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 502 ") && answer.contains("usher-error: bad_upstream"), "{answer}");
}

#[tokio::test]
async fn answers_that_break_a_rule_are_a_502_and_nothing_of_them_passes() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let bad = [
        ("more than eight interim answers", format!("{}{OK}", interim.repeat(9))),
        (
            "a 101 that nobody asked for",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nsecret".to_owned(),
        ),
        (
            "a head of more than 32 KiB",
            format!("HTTP/1.1 200 OK\r\nA: {}\r\n\r\nsecret", "x".repeat(33 * 1024)),
        ),
        ("no HTTP", "secret\r\n\r\n".to_owned()),
        ("nothing", String::new()),
    ];
    for (what, bytes) in bad {
        let floor = Floor::before(answers(bytes).await).await;
        let answer = floor.get("/bad").await;
        let last = answer.rsplit("HTTP/1.1 ").next().unwrap();
        assert!(last.starts_with("502 "), "{what}: {answer}");
        assert!(!answer.contains("secret"), "{what}: {answer}");
    }
}

#[tokio::test]
async fn eight_interim_answers_are_let_through() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let floor = Floor::before(answers(format!("{}{OK}", interim.repeat(8))).await).await;
    let answer = floor.get("/early").await;
    assert!(answer.contains("HTTP/1.1 200 ") && answer.ends_with("ok"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 103 ").count(), 8);
}

/// Sends the head and half of the body of a response, and the rest when it is asked to.
async fn halves() -> (std::net::SocketAddr, Arc<tokio::sync::Notify>) {
    let rest = Arc::new(tokio::sync::Notify::new());
    let asked = rest.clone();
    let to = upstream(move |mut tcp| {
        let asked = asked.clone();
        async move {
            let Some(head) = read_head(&mut tcp).await else { return };
            if head.starts_with("GET / ") {
                let _ = tcp.write_all(OK.as_bytes()).await;
                return;
            }
            let _ = tcp.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nfirst ").await;
            asked.notified().await;
            let _ = tcp.write_all(b"second").await;
        }
    })
    .await;
    (to, rest)
}

#[tokio::test]
async fn a_slow_answer_of_known_length_is_not_held_back() {
    let (to, rest) = halves().await;
    let floor = Floor::before(to).await;
    let mut client = floor.send(&format!("{}\r\n", floor.head("GET /slow"))).await;
    read_until(&mut client, "first ").await;
    rest.notify_one();
    read_until(&mut client, "second").await;
}

#[tokio::test]
async fn an_answer_that_streams_on_ends_with_its_session() {
    let (to, go_on) = halves().await;
    let floor = Floor::before(to).await;
    let mut client = floor.send(&format!("{}\r\n", floor.head("GET /long"))).await;
    read_until(&mut client, "first ").await;
    let alice = Identity { issuer: Identity::DEVELOPMENT.to_owned(), subject: "alice".to_owned() };
    assert_eq!(floor.edge.sessions.end_all(alice.as_ref()).await.result().unwrap(), 1);
    go_on.notify_one();
    assert_eq!(read_all(&mut client).await, "", "nothing comes for somebody who has logged out");
}

#[tokio::test]
async fn an_answer_that_streams_on_ends_when_its_workspace_is_somebody_elses() {
    let (to, go_on) = halves().await;
    let floor = Floor::before(to).await;
    let mut client = floor.send(&format!("{}\r\n", floor.head("GET /long"))).await;
    read_until(&mut client, "first ").await;
    floor.is_somebody_elses().await;
    go_on.notify_one();
    assert_eq!(read_all(&mut client).await, "", "nothing of another's workspace");
}

#[tokio::test]
async fn an_open_answer_is_counted_until_its_client_leaves() {
    let (to, _rest) = halves().await;
    let floor = Floor::before(to).await;
    let id = config::WorkspaceId::parse("alice").unwrap();
    let activity = floor.edge.workspaces.lookup(&id).unwrap().activity.clone();
    until("the first answer ended", || activity.open_responses() == 0).await;
    let mut client = floor.send(&format!("{}\r\n", floor.head("GET /slow"))).await;
    read_until(&mut client, "first ").await;
    assert_eq!(activity.open_responses(), 1);
    assert!(activity.last_bytes_taken().is_some() && activity.last_request().is_some());
    drop(client);
    until("the answer is closed", || activity.open_responses() == 0).await;
}

/// Echoes the body of a request with a Content-Length.
async fn echo(mut tcp: TcpStream) {
    while let Some(head) = read_head(&mut tcp).await {
        let head = head.to_ascii_lowercase();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        if tokio::io::AsyncReadExt::read_exact(&mut tcp, &mut body).await.is_err() {
            return;
        }
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let _ = tcp.write_all(answer.as_bytes()).await;
        let _ = tcp.write_all(&body).await;
    }
}

/// Waits until somebody's visit has woken alice's workspace.
async fn is_starting(floor: &Floor) {
    let id = config::WorkspaceId::parse("alice").unwrap();
    let phase = || floor.edge.workspaces.lookup(&id).map(|entry| entry.phase.as_str());
    until("its workspace starts", || phase() == Some("starting")).await;
}

#[tokio::test]
async fn a_script_is_held_while_its_workspace_starts_and_its_body_reaches_it_whole() {
    // What does not fit into the socket waits at the client.
    for length in [0, 5, 64 * 1024, 200 * 1024] {
        let floor = Floor::new(Setup::default()).await;
        let body = "x".repeat(length);
        let head = floor.head("GET /held");
        let mut client =
            floor.send(&format!("{head}Content-Length: {length}\r\nConnection: close\r\n\r\n")).await;
        let (mut read, mut write) = client.split();
        let sent = async { write.write_all(body.as_bytes()).await.unwrap() };
        let received = async {
            let mut answer = Vec::new();
            tokio::io::AsyncReadExt::read_to_end(&mut read, &mut answer).await.unwrap();
            String::from_utf8(answer).unwrap()
        };
        let ready = async {
            is_starting(&floor).await;
            floor.is_ready_at(upstream(echo).await);
        };
        let ((), answer, ()) = tokio::time::timeout(SOON, async { tokio::join!(sent, received, ready) })
            .await
            .unwrap_or_else(|_| panic!("{length} bytes are held for ever"));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{length}: {answer:.200}");
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{length}: {} came", answer.len());
    }
}

#[tokio::test]
async fn a_held_client_that_leaves_is_noticed_however_much_of_its_body_is_unread() {
    let large = format!("Content-Length: 1048576\r\n\r\n{}", "x".repeat(100 * 1024));
    for rest in [
        "\r\n",
        "Content-Length: 5\r\n\r\nab",
        "Content-Length: 5\r\n\r\nabcde",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        &large,
    ] {
        let floor = Floor::new(Setup::default()).await;
        let accepting = floor.edge.drain.slots();
        let client = floor.send(&format!("{}{rest}", floor.head("GET /held"))).await;
        is_starting(&floor).await;
        assert_eq!(floor.edge.drain.slots(), accepting + 1);
        drop(client);
        until("its connection ended", || floor.edge.drain.slots() == accepting).await;
    }
}

#[tokio::test]
async fn a_script_runs_out_of_patience_with_503_and_the_phase() {
    let more = "spawn = { hold_timeout = \"100ms\" }";
    let floor = Floor::new(Setup { more, ..Setup::default() }).await;
    let answer = floor.get("/held").await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("\r\nretry-after: 2\r\n"), "{answer}");
    assert!(answer.contains("The workspace is starting."), "{answer}");
}

const QUICK: &str = "drain = { delay = \"0s\", after = \"10m\", spread = \"30s\" }";

#[tokio::test]
async fn a_drain_closes_idle_connections_and_lets_answers_finish() {
    let (to, rest) = halves().await;
    let mut floor = Floor::new(Setup { more: QUICK, ..Setup::default() }).await;
    floor.is_ready_at(to);
    let mut idle = floor.send(&format!("{}\r\n", floor.head("GET /"))).await;
    read_until(&mut idle, "ok").await;
    let mut busy = floor.send(&format!("{}\r\n", floor.head("GET /slow"))).await;
    read_until(&mut busy, "first ").await;
    let address = floor.address;
    let drained = tokio::spawn(async move { floor.drain().await });
    assert_eq!(read_all(&mut idle).await, "");
    until("no connection is accepted", || std::net::TcpStream::connect(address).is_err()).await;
    assert!(!drained.is_finished());
    rest.notify_one();
    assert_eq!(read_all(&mut busy).await, "second");
    tokio::time::timeout(SOON, drained).await.expect("it ends with the last connection").unwrap();
}

#[tokio::test]
async fn connections_that_wait_in_a_closing_listener_are_still_answered() {
    // Some may come before it is known that the workspace is ready, and each of those asks for its start.
    const MANY: &str =
        "drain = { delay = '0s', after = '10m', spread = '30s' }\nlimits = { spawns_per_user = '1000' }";
    let mut floor = Floor::new(Setup { more: MANY, ..Setup::default() }).await;
    floor.is_ready_at(upstream(well_behaved).await);
    let head = floor.head("GET /");
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(floor.send(&format!("{head}\r\n")).await);
    }
    let drained = tokio::spawn(async move { floor.drain().await });
    for mut client in clients {
        let answer = read_all(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    }
    drained.await.unwrap();
}
