//! Usher installed in a real cluster by its Helm chart.

use tests::{Cluster, Person, Realm, Release};

#[tokio::test]
async fn an_installed_usher_ends_in_a_login_and_a_running_workspace() {
    let cluster = Cluster::shared();
    let realm = Realm::new(&cluster).await;
    let release = Release::install(&realm, 1, "").await;
    let alice = Person::before(release.client().await, "alice").log_in().await;
    alice.await_phase("ready").await;
    alice.socket("/ws").await.unwrap().echoes("hello").await;
}
