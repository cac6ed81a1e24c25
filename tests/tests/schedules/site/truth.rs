//! How workspaces are, by the cluster and by the tables of three Ushers.

use super::Site;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use tests::Person;

/// So soon after the truth came to rest every table shows it.
pub(super) const TRUE: Duration = Duration::from_secs(2);

impl Site {
    /// How each workspace is by the cluster, if nothing is on its way.
    pub(super) async fn truth(&self) -> Option<BTreeMap<String, &'static str>> {
        let namespace = ["--namespace", self.realm.workspaces.as_str()];
        let of = async |kind| self.realm.cluster().object(&[&[kind], &namespace[..]].concat()).await;
        let items = |list: &Value| list["items"].as_array().cloned().unwrap_or_default();
        let (sets, pods) = (items(&of("statefulsets").await), items(&of("pods").await));
        let claims = items(&of("persistentvolumeclaims").await);
        let ends = |object: &Value| object["metadata"]["deletionTimestamp"].is_string();
        // What is deleted with its files ends with them, and whoever wants it anew waits for that.
        if claims.iter().any(ends) {
            return None;
        }
        let names: BTreeSet<_> = self.people.iter().map(|person| person.name.as_str()).collect();
        let mut truth = BTreeMap::new();
        for set in &sets {
            let name = set["metadata"]["name"].as_str().expect("objects have names");
            assert!(names.contains(name), "nobody asked for {name}");
            let pod = pods.iter().find(|pod| pod["metadata"]["name"] == format!("{name}-0"));
            let wanted = set["metadata"]["annotations"]["usher.dev/wanted"].is_string();
            let stands = match (set["spec"]["replicas"].as_u64(), pod) {
                _ if ends(set) => return None,
                (Some(1), Some(pod)) if !ends(pod) && pod["status"]["phase"] == "Running" => "ready",
                (Some(0), None) if !wanted => "stopped",
                _ => return None,
            };
            truth.insert(name.to_owned(), stands);
        }
        // A pod goes after its set. If one that is nobody's stays, nothing ever comes to rest.
        (pods.len() <= sets.len()).then_some(truth)
    }

    /// What each replica shows of all workspaces.
    pub(super) async fn tables(&self) -> Vec<BTreeMap<String, String>> {
        let mut tables = Vec::new();
        for replica in &self.replicas {
            let status = replica.usher.as_ref().expect("all live by now").status().await;
            let all = status["workspaces"].as_array().cloned().unwrap_or_default();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            tables.push(all.iter().map(|one| (text(&one["workspace"]), text(&one["phase"]))).collect());
        }
        tables
    }

    /// Whether all show this within so long.
    pub(super) async fn all_show(&self, truth: &BTreeMap<String, &'static str>) -> bool {
        let end = Instant::now() + TRUE;
        loop {
            let tables = self.tables().await;
            let shows = |table: &BTreeMap<String, String>| {
                self.people.iter().all(|Person { name, .. }| {
                    let truth = truth.get(name).copied().unwrap_or("stopped");
                    let shown = table.get(name).map_or("stopped", String::as_str);
                    // A want that could not be written down failed, and only where it was asked for.
                    truth == shown || (truth == "stopped" && shown == "failed")
                })
            };
            if tables.iter().all(shows) {
                return true;
            }
            if Instant::now() > end {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
