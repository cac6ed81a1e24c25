use super::*;
use crate::kubernetes::testing::{Reply, Server};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn object(name: &str, version: u64) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "resourceVersion": version.to_string()}})
}

fn event(kind: &str, name: &str, version: u64) -> Value {
    json!({"type": kind, "object": object(name, version)})
}

fn bookmark(version: u64) -> Value {
    json!({"type": "BOOKMARK", "object": {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"resourceVersion": version.to_string()}}})
}

fn end_of_list(version: u64) -> Value {
    let mut mark = bookmark(version);
    mark["object"]["metadata"]["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    mark
}

fn expired() -> Value {
    let message = "too old resource version: 5 (9)";
    json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "message": message, "reason": "Expired", "code": 410}})
}

/// A streaming list of these, whole at this version; the answer goes on.
fn list(objects: &[(&str, u64)], version: u64) -> Reply {
    let list = objects
        .iter()
        .fold(Reply::stream(), |reply, (name, version)| reply.line(&event("ADDED", name, *version)));
    list.line(&end_of_list(version))
}

fn page(objects: &[(&str, u64)], version: u64, next: &str) -> Reply {
    let items: Vec<_> = objects.iter().map(|(name, version)| object(name, *version)).collect();
    let metadata = json!({"resourceVersion": version.to_string(), "continue": next});
    Reply::json(
        200,
        &json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": metadata, "items": items}),
    )
}

fn word(seen: Seen<ConfigMap>) -> String {
    match seen {
        Seen::Put(object) | Seen::Listed(object) => {
            format!("{}{}", object.metadata.name.unwrap(), object.metadata.resource_version.unwrap())
        }
        Seen::Deleted(name) => format!("-{name}"),
        Seen::Synced => "synced".to_owned(),
        Seen::Blind => "blind".to_owned(),
    }
}

/// What a watch tells until so many words are there, in one text; it must not take longer than a minute.
async fn told(watch: &mut BoxStream<'static, Seen<ConfigMap>>, count: usize) -> String {
    let words = watch.by_ref().take(count).map(word).collect::<Vec<_>>();
    timeout(secs(60), words).await.expect("the watch tells").join(" ")
}

/// That a watch says nothing for so long.
async fn is_quiet(watch: &mut BoxStream<'static, Seen<ConfigMap>>, so_long: Duration) {
    if let Ok(seen) = timeout(so_long, watch.next()).await {
        panic!("it says {:?}", seen.map(word));
    }
}

fn in_memory(server: &Server) -> BoxStream<'static, Seen<ConfigMap>> {
    watch(&server.in_memory(), Selection::all("w"))
}

const LIST: &str = "GET /api/v1/namespaces/w/configmaps?&watch=true&timeoutSeconds=8&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&resourceVersion=";

fn from(version: u64) -> String {
    format!(
        "GET /api/v1/namespaces/w/configmaps?&watch=true&timeoutSeconds=8&allowWatchBookmarks=true&resourceVersion={version}"
    )
}

#[tokio::test(start_paused = true)]
async fn a_timely_end_is_a_sign_of_life_and_the_watch_is_taken_up_where_it_was() {
    let server = Server::script([
        list(&[("a", 1)], 3).wait(secs(8)),
        Reply::stream().wait(secs(8)),
        Reply::stream().line(&event("MODIFIED", "a", 7)).wait(secs(8)),
        Reply::stream().wait(secs(8)),
        Reply::stream().line(&event("DELETED", "a", 9)).hang(),
    ]);
    let mut watch = in_memory(&server);
    let begun = Instant::now();
    assert_eq!(told(&mut watch, 4).await, "a1 synced a7 -a");
    assert_eq!(begun.elapsed(), secs(32));
    assert_eq!(server.asked(), [LIST, &from(3), &from(3), &from(7), &from(7)]);
}

#[tokio::test(start_paused = true)]
async fn after_ten_seconds_of_silence_the_watch_is_blind_and_tells_what_changed_when_it_sees_again() {
    let server =
        Server::script([list(&[("a", 1), ("b", 2)], 3).hang(), list(&[("b", 2), ("c", 8)], 9).hang()]);
    let mut watch = in_memory(&server);
    assert_eq!(told(&mut watch, 3).await, "a1 b2 synced");
    assert_eq!(server.metric("usher_kubernetes_watches_blind", &["other"]), 0.0);
    is_quiet(&mut watch, Duration::from_millis(9_999)).await;
    assert_eq!(told(&mut watch, 1).await, "blind");
    assert_eq!(server.metric("usher_kubernetes_watches_blind", &["other"]), 1.0);
    assert_eq!(told(&mut watch, 3).await, "c8 -a synced");
    assert_eq!(server.asked(), [LIST, LIST], "of a list it is known when it has caught up");
    drop(watch);
    assert_eq!(server.metric("usher_kubernetes_watches_blind", &["other"]), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_everybody_is_silence_too() {
    let mut replies = vec![list(&[("a", 1)], 3).wait(secs(2)).cut()];
    replies.extend((0..5).map(|_| Reply::refusal(503, "ServiceUnavailable")));
    replies.push(Reply::silence());
    let server = Server::script(replies);
    let mut watch = in_memory(&server);
    let begun = Instant::now();
    assert_eq!(told(&mut watch, 3).await, "a1 synced blind");
    assert_eq!(begun.elapsed(), secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_frozen_server_is_asked_again_often_enough_to_be_true_within_five_seconds_of_its_return() {
    let mut asked = 0;
    let thaw = Instant::now() + secs(40);
    let server = Server::new(move |_| {
        asked += 1;
        match asked {
            1 => list(&[("a", 1)], 3).hang(),
            // What was asked while it was frozen is lost: harder than a real one, which answers late.
            _ if Instant::now() < thaw => Reply::silence(),
            _ => list(&[("b", 9)], 9).hang(),
        }
    });
    let mut watch = in_memory(&server);
    assert_eq!(told(&mut watch, 6).await, "a1 synced blind b9 -a synced");
    let late = Instant::now() - thaw;
    assert!(late < secs(5), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_was_busy_for_long_is_not_told_that_the_watch_was_blind() {
    let server = Server::script([
        list(&[("a", 1)], 3).wait(secs(2)).line(&event("MODIFIED", "a", 4)).wait(secs(6)),
        Reply::stream().hang(),
    ]);
    let mut watch = in_memory(&server);
    assert_eq!(told(&mut watch, 2).await, "a1 synced");
    tokio::time::advance(secs(30)).await;
    assert_eq!(told(&mut watch, 1).await, "a4");
}

#[tokio::test(start_paused = true)]
async fn what_lay_there_while_the_process_was_halted_is_no_sign_of_life() {
    let server = Server::script([list(&[("a", 1)], 3).wait(secs(8)), list(&[("b", 9)], 9).hang()]);
    let mut watch = in_memory(&server);
    assert_eq!(told(&mut watch, 2).await, "a1 synced");
    // It waits; then a minute passes in which nobody looks, and in which the server has ended the watch.
    assert!(futures_util::FutureExt::now_or_never(watch.next()).is_none());
    tokio::time::advance(secs(60)).await;
    assert_eq!(told(&mut watch, 4).await, "blind b9 -a synced");
}

#[tokio::test(start_paused = true)]
async fn a_list_that_never_becomes_whole_does_not_count_as_sight() {
    let partly = || Reply::stream().line(&event("ADDED", "a", 1)).wait(secs(2)).cut();
    let mut replies = vec![list(&[("a", 1)], 3).line(&expired())];
    replies.extend((0..20).map(|_| partly()));
    let server = Server::script(replies);
    let mut watch = in_memory(&server);
    let begun = Instant::now();
    assert_eq!(told(&mut watch, 3).await, "a1 synced blind");
    assert_eq!(begun.elapsed(), secs(10));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_stalls_is_begun_again() {
    let server = Server::script([
        Reply::stream().line(&event("ADDED", "a", 1)).hang(),
        list(&[("a", 1), ("b", 2)], 3).hang(),
    ]);
    let mut watch = in_memory(&server);
    let begun = Instant::now();
    assert_eq!(told(&mut watch, 3).await, "a1 b2 synced");
    assert!(begun.elapsed() < secs(4), "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_position_that_the_server_does_not_answer_is_given_up() {
    // It lies in the future: the store was restored.
    let server = Server::script([
        list(&[("a", 7)], 90).wait(secs(8)),
        Reply::silence(),
        list(&[("a", 5)], 6).wait(secs(8)),
        Reply::stream().line(&event("MODIFIED", "a", 8)).hang(),
    ]);
    let mut watch = in_memory(&server);
    assert_eq!(told(&mut watch, 5).await, "a7 synced a5 synced a8");
    assert_eq!(server.asked(), [LIST, &from(90), LIST, &from(6)]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_ends_every_answer_at_once_is_not_asked_in_a_rush() {
    let mut first = true;
    let server =
        Server::new(move |_| if std::mem::take(&mut first) { list(&[], 3) } else { Reply::stream() });
    let mut watch = in_memory(&server);
    assert_eq!(told(&mut watch, 2).await, "synced blind");
    let asked = server.asked().len();
    assert!(asked < 20, "{asked} times in 10 s");
}

/// Every fault of the protocol: what the server does, and what the consumer is told of it all.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn whatever_the_server_does_the_consumer_ends_up_with_the_truth() {
    let begin = || list(&[("a", 1), ("b", 2)], 3);
    let good = |version| Reply::stream().line(&event("MODIFIED", "a", version)).hang();
    let long = format!("{{\"type\":\"ADDED\",\"object\":\"{}\"}}\n", "x".repeat(lines::LINE));
    for (fault, replies, expected) in [
        ("410 in the middle", vec![begin().line(&expired()), list(&[("b", 2)], 9).hang()], "a1 b2 synced -a"),
        (
            "410 as a refusal",
            vec![begin().wait(secs(1)), Reply::refusal(410, "Expired"), list(&[("b", 9)], 9).hang()],
            "a1 b2 synced b9 -a",
        ),
        (
            "410 twice",
            vec![begin().line(&expired()), Reply::stream().line(&expired()), list(&[("a", 1)], 9).hang()],
            "a1 b2 synced -b",
        ),
        (
            "500 for a position",
            vec![begin().wait(secs(1)), Reply::refusal(500, ""), list(&[("a", 1)], 9).hang()],
            "a1 b2 synced -b",
        ),
        ("truncated JSON", vec![begin().say(b"{\"type\":\"MODIF").cut(), good(7)], "a1 b2 synced a7"),
        (
            "truncated JSON and a clean end",
            vec![begin().say(b"{\"type\":\"MODIF"), good(7)],
            "a1 b2 synced a7",
        ),
        ("no JSON", vec![begin().say(b"upstream timed out\n").hang(), good(7)], "a1 b2 synced a7"),
        (
            "another's JSON",
            vec![begin().line(&json!({"kind": "Status", "code": 500})).hang(), good(7)],
            "a1 b2 synced a7",
        ),
        (
            "an object without a name",
            vec![begin().line(&json!({"type": "ADDED", "object": {"metadata": {}}})).hang(), good(7)],
            "a1 b2 synced a7",
        ),
        ("a line too long", vec![begin().say(long.as_bytes()).hang(), good(7)], "a1 b2 synced a7"),
        (
            "a line in pieces",
            vec![
                begin()
                    .say(b"{\"type\":\"MODIFIED\",\"object\":{\"metad")
                    .say(b"ata\":{\"name\":\"a\",\"resourceVersion\":\"7\"}}}\n\n")
                    .hang(),
            ],
            "a1 b2 synced a7",
        ),
        (
            "told twice and late",
            vec![
                begin()
                    .line(&event("MODIFIED", "a", 5))
                    .line(&event("MODIFIED", "a", 5))
                    .line(&event("ADDED", "b", 4))
                    .line(&event("DELETED", "b", 6))
                    .line(&event("MODIFIED", "b", 5))
                    .cut(),
                good(7),
            ],
            "a1 b2 synced a5 -b a7",
        ),
        (
            "a break within the list",
            vec![Reply::stream().line(&event("ADDED", "a", 1)).cut(), begin().hang()],
            "a1 b2 synced",
        ),
        (
            "a server without streaming lists",
            vec![
                Reply::refusal(422, "Invalid"),
                page(&[("a", 1)], 3, "next"),
                page(&[("b", 2)], 3, ""),
                good(7),
            ],
            "a1 b2 synced a7",
        ),
        (
            "a server that knows no streaming lists",
            vec![
                Reply::stream().line(&event("ADDED", "a", 1)).wait(secs(1)),
                page(&[("a", 1)], 3, ""),
                good(7),
            ],
            "a1 synced a7",
        ),
        (
            "a right to watch alone",
            vec![Reply::refusal(422, "Invalid"), Reply::refusal(403, "Forbidden"), begin().hang()],
            "a1 b2 synced",
        ),
        (
            "a page that is too late",
            vec![
                Reply::refusal(422, "Invalid"),
                page(&[("a", 1)], 3, "next"),
                Reply::refusal(410, "Expired"),
                page(&[("b", 2)], 3, ""),
                good(7),
            ],
            "a1 b2 -a synced a7",
        ),
    ] {
        let server = Server::script(replies);
        let (client, _server) = server.over_sockets().await;
        let mut watch = watch(&client, Selection::all("w"));
        let count = expected.split(' ').count();
        assert_eq!(told(&mut watch, count).await, expected, "{fault}");
        assert!(server.asked().len() < 8, "{fault}: {:?}", server.asked());
    }
}
