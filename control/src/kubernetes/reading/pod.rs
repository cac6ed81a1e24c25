//! What a pod as a whole tells: whether its node answers, and why it ends although it should run.

use super::quote::{name, words};
use super::sign::{Finding, Sign};
use super::view::View;

/// Whether and how the node of the pod is lost.
///
/// A node that answers gives a reason whenever its pod is not ready. The cluster, which takes the readiness
/// away when the node falls silent, gives none.
pub(super) fn node_lost(view: &View<'_>) -> Option<Finding> {
    let node = name(view.node()?);
    let ready = view.condition("Ready")?;
    let silent = ready.status != "True" && ready.reason.as_deref().unwrap_or_default().is_empty();
    if !silent || !super::container::has_begun(view) {
        return None;
    }
    Some(if view.has_volume() {
        let detail = "The node of this workspace does not answer. Your files are safe. It starts again when the node \
                      is back, or when an operator removes the node.";
        let hint = format!(
            "bring node {node} back; if it is surely off: kubectl taint node {node} \
             node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
        );
        Finding::new(Sign::NodeLost, detail, hint)
    } else {
        let detail = "The node of this workspace does not answer. It starts again on another.";
        Finding::new(
            Sign::NodeLost,
            detail,
            format!("bring node {node} back, or remove it: kubectl delete node {node}"),
        )
    })
}

/// Why the pod ends although the workspace should run: its successor comes by itself.
pub(super) fn interruption(view: &View<'_>) -> Option<Finding> {
    let pod = view.pod?;
    let status = pod.status.as_ref();
    let phase = status.and_then(|status| status.phase.as_deref()).unwrap_or_default();
    let over = matches!(phase, "Failed" | "Succeeded");
    if !over && pod.metadata.deletion_timestamp.is_none() {
        return None;
    }
    let reason = status.and_then(|status| status.reason.as_deref()).unwrap_or_default();
    let message = status.and_then(|status| status.message.as_deref()).unwrap_or_default();
    let node = name(view.node().unwrap_or_default());
    if over && reason == "Evicted" {
        return Some(Finding::plain(Sign::Evicted, format!("node {node} says: {}", words(message))));
    }
    if over && reason == "DeadlineExceeded" {
        return Some(Finding::plain(Sign::DeadlineExceeded, Sign::DeadlineExceeded.code().words().hint));
    }
    if let Some(finding) = disruption(view, &node) {
        return Some(finding);
    }
    Some(if over {
        let said = [reason, message]
            .iter()
            .filter(|text| !text.is_empty())
            .map(|text| words(text))
            .collect::<Vec<_>>();
        Finding::plain(Sign::FailedOnNode, format!("node {node} says: {}", said.join(": ")))
    } else {
        Finding::plain(Sign::Removed, Sign::Removed.code().words().hint)
    })
}

/// As the condition says it that the cluster sets before it ends a pod of its own accord.
fn disruption(view: &View<'_>, node: &str) -> Option<Finding> {
    let target = view.condition("DisruptionTarget").filter(|condition| condition.status == "True")?;
    let hint = |what: &str| format!("{what}: {}", words(target.message.as_deref().unwrap_or_default()));
    Some(match target.reason.as_deref().unwrap_or_default() {
        "EvictionByEvictionAPI" => {
            Finding::plain(Sign::Drained, hint(&format!("kubectl drain of node {node}, or another eviction")))
        }
        "PreemptionByScheduler" => Finding::plain(Sign::Preempted, hint("preempted")),
        "DeletionByTaintManager" => {
            Finding::plain(Sign::Drained, hint(&format!("node {node} has a taint NoExecute")))
        }
        "DeletionByPodGC" => {
            let detail = "The node of this workspace is gone. It starts again on another by itself.";
            Finding::new(Sign::Drained, detail, hint(&format!("node {node} was removed")))
        }
        "TerminationByKubelet" => {
            let detail = "The node of this workspace ended it: it is shut down, or short of something. It starts \
                          again by itself.";
            Finding::new(Sign::Drained, detail, hint(&format!("node {node}")))
        }
        other => Finding::plain(Sign::FailedOnNode, hint(&words(other))),
    })
}
