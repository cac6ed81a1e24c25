use super::*;
use crate::request::tests::{Client, head};
use control::{Identity, UseMark};
use futures_util::future::join_all;
use http::HeaderValue;
use prometheus::IntCounter;
use std::net::SocketAddr;
use tokio::io::{DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Why the workspace was stopped.
const WHY: &str = "it was unused";

/// A tunnel between two ends that the test holds.
struct Rig {
    client: DuplexStream,
    workspace: DuplexStream,
    activity: Arc<Activity>,
    session_use: UseMark,
    client_frames: IntCounter,
    workspace_frames: IntCounter,
    route: CancellationToken,
    session: CancellationToken,
    drain: CancellationToken,
    tunnel: JoinHandle<End>,
}

fn rig() -> Rig {
    rig_with(1 << 16, &[])
}

/// With so much room in each pipe, and these bytes behind the 101.
fn rig_with(room: usize, early: &[u8]) -> Rig {
    let (client, client_side) = duplex(room);
    let (workspace, workspace_side) = duplex(room);
    let (activity, session_use) = (Arc::new(Activity::default()), UseMark::default());
    let count = |name: &str| IntCounter::new(name, "for a test").unwrap();
    let (client_frames, workspace_frames) = (count("client"), count("workspace"));
    let tally = Tally {
        uses: Some((activity.clone(), session_use.clone())),
        client_frames: client_frames.clone(),
        workspace_frames: workspace_frames.clone(),
        witness: None,
        messages: None,
    };
    let (route, session, drain) =
        (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
    let endings = Endings { route: route.clone(), session: session.clone(), ..never() };
    let (early, draining) = (early.to_vec(), drain.clone());
    let tunnel = tokio::spawn(async move {
        let mut relay = Relay::new(client_side, workspace_side, 0, tally);
        let drained = async {
            draining.cancelled().await;
            End::Drained
        };
        carry(&mut relay, early, &endings, drained, || (End::Stopped, WHY.to_owned())).await
    });
    Rig {
        client,
        workspace,
        activity,
        session_use,
        client_frames,
        workspace_frames,
        route,
        session,
        drain,
        tunnel,
    }
}

/// A client's frame with an all-zero mask.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, payload.len() as u8], payload].concat()
}

async fn read_exactly(stream: &mut DuplexStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await.unwrap();
    bytes
}

async fn rest_of(stream: &mut DuplexStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    bytes
}

fn close(code: u16, reason: &str) -> Vec<u8> {
    frames::close_frame(code, reason)
}

#[tokio::test(start_paused = true)]
async fn bytes_pass_unchanged_and_data_frames_are_counted() {
    let mut rig = rig_with(1 << 16, &unmasked(0x81, b"early"));
    assert_eq!(read_exactly(&mut rig.client, 7).await, unmasked(0x81, b"early"));
    assert!(rig.activity.last_workspace_frame().is_some() && rig.activity.last_client_frame().is_none());
    assert_eq!(rig.session_use.time(), None, "what the workspace sends is no use of the session");
    let sent = [masked(0x81, b"one"), masked(0x89, b"ping"), masked(0x82, b"two")].concat();
    rig.client.write_all(&sent).await.unwrap();
    assert_eq!(read_exactly(&mut rig.workspace, sent.len()).await, sent);
    assert_eq!((rig.client_frames.get(), rig.workspace_frames.get()), (2, 1));
    assert!(rig.activity.last_client_frame().is_some() && rig.session_use.time().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_only_answers_pings_is_no_use() {
    let mut rig = rig();
    rig.workspace.write_all(&unmasked(0x89, b"?")).await.unwrap();
    assert_eq!(read_exactly(&mut rig.client, 3).await, unmasked(0x89, b"?"));
    rig.client.write_all(&masked(0x8a, b"?")).await.unwrap();
    assert_eq!(read_exactly(&mut rig.workspace, 7).await, masked(0x8a, b"?"));
    assert!(rig.activity.last_client_frame().is_none() && rig.activity.last_workspace_frame().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_closing_handshake_passes_and_ends_both_connections() {
    let mut rig = rig();
    rig.client.write_all(&masked(0x88, &[3, 232])).await.unwrap();
    assert_eq!(read_exactly(&mut rig.workspace, 8).await, masked(0x88, &[3, 232]));
    rig.workspace.write_all(&unmasked(0x88, &[3, 232])).await.unwrap();
    rig.workspace.shutdown().await.unwrap();
    assert_eq!(rest_of(&mut rig.client).await, unmasked(0x88, &[3, 232]));
    drop(rig.client);
    assert_eq!(rig.tunnel.await.unwrap(), End::Closed);
}

#[tokio::test(start_paused = true)]
async fn each_ending_is_told_by_its_own_code() {
    for (what, expected, frame) in [
        ("route", End::Stopped, close(4503, WHY)),
        ("session", End::SessionEnded, close(4401, "the session has ended")),
        ("drain", End::Drained, close(1012, "usher is restarting")),
    ] {
        let mut rig = rig();
        match what {
            "route" => rig.route.cancel(),
            "session" => rig.session.cancel(),
            _ => rig.drain.cancel(),
        }
        assert_eq!(read_exactly(&mut rig.client, frame.len()).await, frame, "{what}");
        rig.client.write_all(&masked(0x88, &frame[2..])).await.unwrap();
        assert!(rest_of(&mut rig.client).await.is_empty());
        drop(rig.client);
        assert_eq!(rig.tunnel.await.unwrap(), expected);
        assert!(rest_of(&mut rig.workspace).await.is_empty(), "the client's Close is not the workspace's");
    }
}

#[tokio::test(start_paused = true)]
async fn our_close_waits_for_the_end_of_the_workspaces_frame() {
    let mut rig = rig();
    let frame = unmasked(0x82, &[7; 100]);
    rig.workspace.write_all(&frame[..40]).await.unwrap();
    assert_eq!(read_exactly(&mut rig.client, 40).await, frame[..40]);
    rig.route.cancel();
    tokio::time::advance(Duration::from_secs(1)).await;
    // The rest of the frame, and more that must not come.
    rig.workspace.write_all(&[&frame[40..], &unmasked(0x82, b"late")].concat()).await.unwrap();
    let ours = close(4503, WHY);
    let expected = [&frame[40..], &ours].concat();
    assert_eq!(read_exactly(&mut rig.client, expected.len()).await, expected);
    rig.client.shutdown().await.unwrap();
    assert_eq!(rig.tunnel.await.unwrap(), End::Stopped);
    assert!(rest_of(&mut rig.client).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_does_not_end_is_cut_without_a_close_inside_it() {
    let mut rig = rig();
    let frame = unmasked(0x82, &[7; 100]);
    rig.workspace.write_all(&frame[..40]).await.unwrap();
    assert_eq!(read_exactly(&mut rig.client, 40).await, frame[..40]);
    rig.route.cancel();
    assert!(rest_of(&mut rig.client).await.is_empty());
    drop(rig.client);
    assert_eq!(rig.tunnel.await.unwrap(), End::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_our_close_is_cut_off_after_five_seconds() {
    let mut rig = rig();
    let began = tokio::time::Instant::now();
    rig.session.cancel();
    let frame = close(4401, "the session has ended");
    assert_eq!(rest_of(&mut rig.client).await, frame);
    assert_eq!(rig.tunnel.await.unwrap(), End::SessionEnded);
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_breaks_the_protocol_is_told_1002_and_the_workspace_nothing() {
    let mut rig = rig();
    let good = masked(0x81, b"good");
    rig.client.write_all(&[good.clone(), unmasked(0x81, b"unmasked")].concat()).await.unwrap();
    let frame = close(1002, "a wrong masking");
    assert_eq!(read_exactly(&mut rig.client, frame.len()).await, frame);
    drop(rig.client);
    assert_eq!(rig.tunnel.await.unwrap(), End::ClientViolation("a wrong masking"));
    assert_eq!(rest_of(&mut rig.workspace).await, good);
}

#[tokio::test(start_paused = true)]
async fn a_workspace_that_breaks_the_protocol_is_cut_off_and_the_client_told_1011() {
    let good = unmasked(0x81, b"good");
    let mut rig = rig_with(1 << 16, &[good.clone(), unmasked(0x8f, b"bad")].concat());
    let frame = close(1011, "the workspace broke the WebSocket protocol");
    let expected = [good, frame].concat();
    assert_eq!(read_exactly(&mut rig.client, expected.len()).await, expected);
    drop(rig.client);
    assert_eq!(rig.tunnel.await.unwrap(), End::WorkspaceViolation("a reserved opcode"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_nothing_for_a_minute_is_cut_off() {
    let mut rig = rig_with(64, &[]);
    rig.workspace.write_all(&unmasked(0x82, &[7; 120])).await.unwrap();
    let began = tokio::time::Instant::now();
    assert_eq!(rig.tunnel.await.unwrap(), End::Stalled);
    assert!((60..70).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_a_little_now_and_then_is_not() {
    let mut rig = rig_with(64, &[]);
    let writer = tokio::spawn(async move {
        for _ in 0..10 {
            rig.workspace.write_all(&unmasked(0x82, &[7; 120])).await.unwrap();
        }
        rig.workspace
    });
    for _ in 0..122 {
        tokio::time::advance(Duration::from_secs(45)).await;
        read_exactly(&mut rig.client, 10).await;
    }
    assert!(!rig.tunnel.is_finished());
    writer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_silent_socket_stays_open_for_days() {
    let mut rig = rig();
    tokio::time::advance(Duration::from_secs(3 * 86_400)).await;
    rig.workspace.write_all(&unmasked(0x81, b"x")).await.unwrap();
    assert_eq!(read_exactly(&mut rig.client, 3).await, unmasked(0x81, b"x"));
}

#[tokio::test(start_paused = true)]
async fn a_workspace_that_was_killed_is_told_apart_from_one_that_left() {
    let mut rig = rig();
    drop(rig.workspace);
    rig.route.cancel();
    let frame = close(4503, WHY);
    assert_eq!(read_exactly(&mut rig.client, frame.len()).await, frame);
    drop(rig.client);
    assert_eq!(rig.tunnel.await.unwrap(), End::Stopped);

    let mut rig = self::rig();
    drop(rig.workspace);
    assert!(rest_of(&mut rig.client).await.is_empty());
    drop(rig.client);
    assert_eq!(rig.tunnel.await.unwrap(), End::Vanished);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_left_still_lets_the_workspace_finish_for_a_while() {
    let mut rig = rig();
    rig.client.shutdown().await.unwrap();
    assert!(rest_of(&mut rig.workspace).await.is_empty(), "the workspace learns of it");
    rig.workspace.write_all(&unmasked(0x81, b"last")).await.unwrap();
    assert_eq!(read_exactly(&mut rig.client, 6).await, unmasked(0x81, b"last"));
    let began = tokio::time::Instant::now();
    assert_eq!(rig.tunnel.await.unwrap(), End::Closed);
    assert!(began.elapsed() <= Duration::from_secs(11), "{:?}", began.elapsed());
}

#[test]
fn a_crash_is_told_by_its_cause_and_a_stop_by_its_reason() {
    let alice = Identity { issuer: "i".into(), subject: "alice".into() };
    let entry = |phase, stopped| Entry {
        id: WorkspaceId::parse("alice").unwrap(),
        owner: alice.clone(),
        template: config::TemplateName::parse("demo").unwrap(),
        phase,
        seen: true,
        since: std::time::Instant::now(),
        activity: Arc::default(),
        terms: None,
        withheld: None,
        stopped,
    };
    let cause = control::Cause {
        code: control::CauseCode::Crashed,
        detail: "The workspace ended by itself, with exit code 3.".into(),
        hint: String::new(),
    };
    let failed = entry(Phase::Failed { cause: cause.clone(), retry_at: std::time::Instant::now() }, None);
    assert_eq!(how_stopped(Some(&failed), alice.as_ref()), (End::Stopped, cause.detail.clone()));
    let step = control::Step::Asked;
    let again = entry(Phase::Starting { step, trouble: Some(cause.clone()) }, None);
    assert_eq!(
        how_stopped(Some(&again), alice.as_ref()),
        (End::Stopped, cause.detail.clone()),
        "and is started again"
    );
    let idle = control::StopReason::Idle;
    let stopping = entry(Phase::stopping(), Some(idle));
    assert_eq!(how_stopped(Some(&stopping), alice.as_ref()), (End::Stopped, idle.sentence().to_owned()));
    let bob = Identity { subject: "bob".into(), ..alice.clone() };
    assert_eq!(
        how_stopped(Some(&stopping), bob.as_ref()).0,
        End::NotAllowed,
        "whatever else it is told of it"
    );
    for other in [Some(entry(Phase::stopping(), None)), Some(entry(Phase::Stopped, None)), None] {
        assert_eq!(
            how_stopped(other.as_ref(), alice.as_ref()),
            (End::Stopped, "The workspace has ended.".to_owned())
        );
    }
}

#[test]
fn the_reason_of_a_stop_fits_into_a_close_frame() {
    use control::StopReason::{Asked, Idle, MaxAge};
    for reason in [Asked, Idle, MaxAge] {
        // RFC 6455 §5.5: 125 bytes, two of them the code.
        assert!(reason.sentence().len() <= 123, "{reason:?}");
    }
}

#[tokio::test]
async fn open_tunnels_are_counted_balanced() {
    let activity = Arc::new(Activity::default());
    let gauge = IntGauge::new("open", "for a test").unwrap();
    let first = OpenTunnel::new(Some(activity.clone()), &gauge);
    let background = OpenTunnel::new(None, &gauge);
    assert_eq!((activity.open_sockets(), gauge.get()), (1, 2));
    drop((first, background));
    assert_eq!((activity.open_sockets(), gauge.get()), (0, 0));
}

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// A workspace that answers every upgrade at once with these bytes, and then echoes.
async fn workspace_that_says(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut asked = Vec::new();
                while !asked.ends_with(b"\r\n\r\n") {
                    stream.read_buf(&mut asked).await?;
                }
                stream.write_all(&answer).await?;
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await
            });
        }
    });
    address
}

/// A client whose browser is told to come by https.
fn facts() -> ConnectionFacts {
    let transport_security = Some(HeaderValue::from_static("max-age=60"));
    ConnectionFacts { transport_security, ..Client::plain().0 }
}

fn never() -> Endings {
    let id = Box::new(WorkspaceId::parse("alice").unwrap());
    Endings { route: CancellationToken::new(), session: CancellationToken::new(), id }
}

/// One tunnel over real sockets: the client's end, and what became of it.
async fn tunnel_to(workspace: SocketAddr) -> (TcpStream, JoinHandle<Result<End, Outcome>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (mut conn, _) = listener.accept().await.unwrap();
    let tunnel = tokio::spawn(async move {
        let dialled = async {
            let stream = dial::Stream::Left(TcpStream::connect(workspace).await?);
            Ok(Dialled { stream, witness: None })
        };
        let (head, base, endings) = (handshake_head(), HostName::parse("lab.test").unwrap(), never());
        let opening = open(&mut conn, dialled, &head, &base, &endings).await;
        let (Dialled { stream, .. }, opened) = settle(&mut conn, &facts(), opening, "r-1").await?;
        let count = || IntCounter::new("frames", "for a test").unwrap();
        let tally = Tally {
            uses: None,
            client_frames: count(),
            workspace_frames: count(),
            witness: None,
            messages: None,
        };
        let mut relay = Relay::new(conn, stream, opened.reserved, tally);
        let never_drained = std::future::pending();
        relay.greet(answer::to_wire(&opened.head));
        Ok(carry(&mut relay, opened.early, &endings, never_drained, || (End::Stopped, String::new())).await)
    });
    (client, tunnel)
}

fn handshake_head() -> RequestHeader {
    head(
        "GET",
        "alice.lab.test",
        "/ws",
        &[
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", KEY),
        ],
    )
}

async fn head_of(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// The bug of Pingora's own upgrade (cloudflare/pingora #946): with a frame in the write of the 101.
#[tokio::test]
async fn no_upgrade_against_a_fast_workspace_dies_after_the_101() {
    let hello = unmasked(0x81, b"hello");
    let workspace = workspace_that_says([SWITCH.as_bytes(), &hello].concat()).await;
    let one = async || {
        let (mut client, tunnel) = tunnel_to(workspace).await;
        assert!(head_of(&mut client).await.starts_with("HTTP/1.1 101 "));
        let mut greeted = [0; 7];
        client.read_exact(&mut greeted).await.unwrap();
        assert_eq!(greeted[..], unmasked(0x81, b"hello"));
        // The workspace echoes it as it is, which is a violation of its own, and shows that both were alive.
        client.write_all(&masked(0x89, b"")).await.unwrap();
        let mut end = close(1011, "the workspace broke the WebSocket protocol");
        client.read_exact(&mut end).await.unwrap();
        drop(client);
        assert_eq!(tunnel.await.unwrap(), Ok(End::WorkspaceViolation("a wrong masking")));
    };
    for _ in 0..10 {
        join_all((0..50).map(|_| one())).await;
    }
}

#[tokio::test]
async fn an_answer_other_than_101_is_sent_once_and_nothing_more_passes() {
    let answer = "HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\nServer: x\r\n\r\nnope+ more bytes";
    let workspace = workspace_that_says(answer.into()).await;
    let (mut client, tunnel) = tunnel_to(workspace).await;
    let mut got = String::new();
    client.read_to_string(&mut got).await.unwrap();
    assert!(got.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{got}");
    assert!(got.ends_with("\r\n\r\nnope"), "{got}");
    assert!(!got.to_lowercase().contains("server:"), "{got}");
    let outcome = tunnel.await.unwrap().unwrap_err();
    assert_eq!((outcome.status, outcome.refusal), (Some(StatusCode::FORBIDDEN), None));
}

#[tokio::test]
async fn a_wrong_accept_key_and_bytes_before_the_101_are_a_502_without_them() {
    let wrong = SWITCH.replace("s3pPLMBiTxaQ9kYGzzhZRbK", "AAAAAAAAAAAAAAAAAAAAAAA");
    for answer in [wrong, format!("secret{SWITCH}"), "\u{1}\u{6}secret".to_owned()] {
        let workspace = workspace_that_says([answer.as_bytes(), b"secret\r\n\r\n"].concat()).await;
        let (mut client, tunnel) = tunnel_to(workspace).await;
        let mut got = String::new();
        client.read_to_string(&mut got).await.unwrap();
        assert!(got.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{got}");
        assert!(
            got.to_lowercase().contains("usher-error: bad_upstream\r\n") && !got.contains("secret"),
            "{got}"
        );
        assert!(got.contains("\"request_id\":\"r-1\""), "{got}");
        assert_eq!(tunnel.await.unwrap().unwrap_err().refusal, Some(Code::BadUpstream));
    }
}

#[tokio::test]
async fn a_client_that_speaks_or_leaves_before_the_101_ends_it() {
    // A workspace that never answers.
    let workspace = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for leaves in [true, false] {
        let (mut client, tunnel) = tunnel_to(workspace.local_addr().unwrap()).await;
        if leaves {
            drop(client);
        } else {
            client.write_all(&masked(0x81, b"early")).await.unwrap();
        }
        assert_eq!(tunnel.await.unwrap().unwrap_err().status, None);
    }
}

#[tokio::test]
async fn a_workspace_that_nobody_listens_for_is_a_502() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (mut client, tunnel) = tunnel_to(free).await;
    assert!(head_of(&mut client).await.starts_with("HTTP/1.1 502 "));
    assert_eq!(tunnel.await.unwrap().unwrap_err().refusal, Some(Code::BadUpstream));
}

fn size_of_future<A, B, C, F>(_: fn(A, B, C) -> F) -> usize {
    size_of::<F>()
}

/// A ceiling against growth by accident: 848 bytes on 21 November 2026, with the plain state of both connections
/// in it; 256 more wait in a box for the drain. TLS and the kernel take their own.
#[test]
fn the_future_of_an_open_tunnel_is_small_and_holds_no_buffer() {
    let size = size_of_future(run);
    assert!(size <= 1024, "{size}");
}
