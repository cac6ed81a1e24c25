//! Workspaces as pods of a real cluster: what users are promised, whatever happens to pods, cluster and Usher.

mod causes;
mod certificates;
mod endings;
mod journeys;
mod outages;
mod replicas;
mod sessions;
mod spaces;

use tests::Realm;

/// What kubectl prints of a workspace's object: `statefulset/alice`, `pod/alice-0`.
async fn shown(realm: &Realm, object: &str, jsonpath: &str) -> Option<String> {
    let output = format!("--output=jsonpath={jsonpath}");
    let arguments = ["get", object, "--namespace", &realm.workspaces, &output];
    realm.cluster().try_kubectl(&arguments).await.ok()
}

/// Which instance runs.
async fn pod_uid(realm: &Realm, name: &str) -> String {
    shown(realm, &format!("pod/{name}-0"), "{.metadata.uid}").await.expect("there is a pod")
}
