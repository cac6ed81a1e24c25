//! Where a workspace is.

use super::*;
use crate::kubernetes::fold::News;
use crate::kubernetes::testing::{Asked, Reply, Server, config_of, merge, space, start_spec_with_files};
use crate::kubernetes::watch::Seen;
use crate::{RedbRecords, SecretRecords};
use config::Kubernetes;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

fn places(folder: &Path) -> Places {
    Places::new(Arc::new(RedbRecords::open(&folder.join("state.redb")).unwrap()))
}

#[tokio::test]
async fn the_first_choice_holds_until_nothing_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let places = places(folder.path());
    let (alice, bob) = (crate::testing::id("alice"), crate::testing::id("gpu--bob"));
    assert_eq!(places.choose(&alice, "desks").await.unwrap(), "desks");
    assert_eq!(places.choose(&alice, "labs").await.unwrap(), "desks", "its files may be there");
    assert_eq!(places.choose(&bob, "labs").await.unwrap(), "labs");
    places.forget(&alice).await;
    assert_eq!(places.choose(&alice, "labs").await.unwrap(), "labs");
}

/// A driver in the namespaces `desks` and `w`, of which so many are listed, and are empty.
fn driver(server: &Server, listed: usize) -> KubernetesDriver {
    let config::Driver::Kubernetes(kubernetes) = config_of("i").driver else { panic!("another driver") };
    let spaces = ["desks", "w"].map(|namespace| {
        space(server.in_memory(), Kubernetes { namespace: namespace.to_owned(), ..kubernetes.clone() })
    });
    for space in &spaces[..listed] {
        space.inner.fold().take(News::Set(Seen::Synced), clock::now());
        space.inner.fold().take(News::Pod(Seen::Synced), clock::now());
    }
    let records = SecretRecords::new(&server.in_memory(), "usher");
    KubernetesDriver { spaces: spaces.into(), places: Places::new(Arc::new(records)) }
}

/// The answers of a server that has nothing.
fn nothing(asked: &Asked) -> Reply {
    let secret = asked.line.contains("/secrets");
    match asked.line.split(' ').next() {
        Some("GET") if secret => Reply::refusal(404, "NotFound"),
        Some("GET") => Reply::json(200, &json!({ "metadata": {}, "items": [] })),
        _ => {
            let mut made = asked.json();
            merge(&mut made, json!({ "metadata": { "uid": "u", "resourceVersion": "1" } }));
            Reply::json(201, &made)
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_started_before_all_namespaces_are_listed_or_while_they_do_not_answer() {
    for (listed, silent, expected) in [
        (2, "none", Ok("desks")),
        // It may be running in the other.
        (1, "none", Err("not all namespaces are listed yet")),
        (2, "/w/persistentvolumeclaims", Err("no answer after 850 ms")),
        (2, "/secrets", Err("no answer after 850 ms")),
    ] {
        let server = Server::new(
            move |asked| if asked.line.contains(silent) { Reply::silence() } else { nothing(asked) },
        );
        let (driver, begun) = (driver(&server, listed), clock::now());
        let placed = driver.place(&start_spec_with_files()).await.map(Space::namespace);
        let case = format!("{listed} listed, {silent} silent: {:?}", server.asked());
        assert!(
            clock::now() - begun < Duration::from_secs(1),
            "whoever waits is told within a second: {case}"
        );
        match (placed, expected) {
            (Err(cause), Err(hint)) => {
                assert_eq!(cause.code, CauseCode::ClusterUnreachable, "{case}");
                assert!(cause.hint.ends_with(hint), "{}: {case}", cause.hint);
            }
            (placed, expected) => {
                assert_eq!(placed.map_err(|cause| cause.hint), expected.map_err(str::to_owned), "{case}");
            }
        }
    }
}
