//! How workspaces are named and marked in a cluster.

use crate::hash::digest;
use config::WorkspaceId;

/// Label: the workspace's id. The selector of its StatefulSet; a pod without it is orphaned.
pub(crate) const WORKSPACE: &str = "usher.dev/workspace";
/// Label: the template's name.
pub(crate) const TEMPLATE: &str = "usher.dev/template";
/// Label: who made it.
pub(crate) const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// The value of [`MANAGED_BY`].
pub(crate) const USHER: &str = "usher";
/// Annotation: whose it is, `{"iss":…,"sub":…}`.
pub(crate) const OWNER: &str = "usher.dev/owner";
/// Annotation: the namespace of the records of those who made it: only they may have it.
pub(crate) const RECORDS: &str = "usher.dev/records";
/// Annotation: the hash of the pod template that the StatefulSet holds.
pub(crate) const TEMPLATE_HASH: &str = "usher.dev/template-hash";
/// Annotation: what the template's rules gave for its user, a JSON object.
pub(crate) const VALUES: &str = "usher.dev/values";
/// Annotation: the quotas that it counts against, a JSON list of their names.
pub(crate) const QUOTAS: &str = "usher.dev/quotas";

/// Label of a warm StatefulSet and of its pod: the StatefulSet's own name. Its selector.
pub(crate) const WARM: &str = "usher.dev/warm";
/// Annotation of a warm StatefulSet: the workspace that took it, once it is taken.
pub(crate) const CLAIMED_BY: &str = "usher.dev/claimed-by";
/// Annotation of a workspace's own StatefulSet: the warm one that it runs in.
pub(crate) const CLAIMS: &str = "usher.dev/claims";
/// Annotation of a workspace's own StatefulSet: the warm one that has its files, and in which it runs from then on.
pub(crate) const FILES: &str = "usher.dev/files";
/// Annotation of a pod: the host under which its user sees it.
pub(crate) const HOST: &str = "usher.dev/host";

/// Annotation: when it was asked for, while it waits for its turn, `{"at_ms":…,"replica":…}`.
pub(crate) const WANTED: &str = "usher.dev/wanted";
/// Annotation: the first half of a stop, `{"reason":…,"replica":…}`.
pub(crate) const MARK: &str = "usher.dev/mark";
/// Annotation: why it was last stopped, in the word of a `StopReason`.
pub(crate) const STOPPED: &str = "usher.dev/stopped";
/// Annotation: why it failed and was taken back to 0, `{"code":…,"detail":…,"hint":…}`.
pub(crate) const FAILED: &str = "usher.dev/failed";
/// Annotation: any change of it makes the controller try at once.
pub(crate) const NUDGE: &str = "usher.dev/nudge";

/// Annotation or label of an object that others made: the name of the route that may wake it and let it rest.
pub(crate) const ROUTE: &str = "usher.dev/route";
/// Annotation: how many pods it had when it was last scaled to 0.
pub(crate) const REPLICAS: &str = "usher.dev/replicas";
/// Annotation: how often Usher has scaled it to 0.
pub(crate) const STOPS: &str = "usher.dev/stops";

/// Field manager: who writes [`WANTED`]. The API server notes when it last did.
pub(crate) const WANTER: &str = "usher-want";

/// The workspace's container in its pod.
pub(crate) const CONTAINER: &str = "workspace";
/// The volume of the user's files; also the claim template, so that the claim is `home-<name>-0`.
pub(crate) const HOME: &str = "home";

/// The volume by which a pod is told whose it is, and where the workspace sees it.
pub(crate) const ABOUT: &str = "usher";
/// Where the workspace sees [`ABOUT`].
pub(crate) const ABOUT_PATH: &str = "/run/usher";

/// Longest name of a StatefulSet: its pods carry it with a revision of 11 characters in a label of 63
/// (`controller-revision-hash`), and are never made where that is longer.
const NAME_MAX: usize = 52;
/// How many characters of the hash stand in for what is cut off.
const SUFFIX: usize = 10;

/// The name of a workspace's StatefulSet: its id.
pub(crate) fn stateful_set(id: &WorkspaceId) -> String {
    bounded(&id.to_string())
}

/// The name of a workspace's only pod.
pub(crate) fn pod(id: &WorkspaceId) -> String {
    format!("{}-0", stateful_set(id))
}

/// The name of the claim that a workspace's StatefulSet makes, or takes if it is there.
pub(crate) fn claim(id: &WorkspaceId) -> String {
    claim_of(&stateful_set(id))
}

/// The name of the claim of the only pod of a StatefulSet.
pub(crate) fn claim_of(set: &str) -> String {
    format!("{HOME}-{set}-0")
}

/// The StatefulSet that makes, or takes, the claim of this name.
pub(crate) fn set_of_claim(claim: &str) -> Option<&str> {
    claim.strip_prefix(HOME)?.strip_prefix('-')?.strip_suffix("-0")
}

/// A text of at most [`NAME_MAX`] bytes; a longer one is cut and told from its like by a hash.
fn bounded(text: &str) -> String {
    if text.len() <= NAME_MAX {
        return text.to_owned();
    }
    let hash: String = digest(&[text.as_bytes()]).iter().map(|byte| format!("{byte:02x}")).collect();
    let head: String = text.chars().take(NAME_MAX - SUFFIX - 1).collect();
    format!("{}-{}", head.trim_end_matches('-'), &hash[..SUFFIX])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_workspace_has_a_name_of_its_own() {
        let label = format!("a{}", "b".repeat(29));
        let longest = WorkspaceId::parse(&format!("c{}--{label}", "d".repeat(14))).unwrap();
        assert_eq!(longest.to_string().len(), 47);
        assert_eq!(stateful_set(&longest), longest.to_string());
        assert_eq!(stateful_set(&WorkspaceId::parse("gpu--alice").unwrap()), "gpu--alice");
    }

    #[test]
    fn a_longer_name_is_cut_and_told_from_its_like() {
        let (one, other) = ("a".repeat(60), format!("{}b", "a".repeat(59)));
        assert_eq!((bounded(&one).len(), bounded(&other).len()), (NAME_MAX, NAME_MAX));
        assert_ne!(bounded(&one), bounded(&other));
        assert_eq!(bounded(&one), bounded(&one));
        assert_eq!(bounded(&"a".repeat(52)), "a".repeat(52));
    }
}
