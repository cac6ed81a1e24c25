//! Warm workspaces: StatefulSets whose pods run before their users come, so that nobody waits for their start.
//!
//! A warm set is nobody's until it is claimed, by two writes. First the workspace's own StatefulSet, which stays at 0
//! replicas, names the warm one ([`CLAIMS`](super::names::CLAIMS)): since there is only one of its own, a workspace never has
//! two warm ones. Then the warm set names the workspace ([`CLAIMED_BY`](super::names::CLAIMED_BY)), with its `resourceVersion`: of
//! two workspaces that want it, one gets it. A claim is true only if both say so, each of the very object that the
//! other is. Neither write touches the pod; it learns whose it is by files that follow its annotations.
//!
//! All that is written down of a workspace stands on its own set, as it does for one that runs there: marks and stops
//! have one place and one version. To stop a claimed one is to take the name off the own set; the warm set, which
//! nobody names any more, is then removed with its pod, and never given to another. One that has its user's files stays
//! theirs and rests (`files`).
//!
//! The holder of the reaper's lease alone makes and removes warm sets. What another left half done it completes: a
//! claim that stays untrue becomes an ordinary start.

mod claim;
mod due;
mod files;
mod keep;
mod known;
mod metrics;

pub(in crate::kubernetes) use keep::keep;
pub(in crate::kubernetes) use known::{Body, Handle, WarmSets, is_warm, is_warm_name, named};
pub use metrics::WarmMetrics;

use super::{names, pods};
use config::{Runs, Template, TemplateName};
use ring::rand::{SecureRandom, SystemRandom};

/// How every name begins; no workspace has such a name, since its second part would begin with a hyphen.
const PREFIX: &str = "warm---";
/// How many characters tell the sets of one template apart, for good: a name that was given again would have the files
/// of those who had it before.
const RANDOM: usize = 10;

/// A name for a warm set of a template, which no other has, at most as long as a StatefulSet's may be.
fn new_name(template: &TemplateName) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut random = [0; RANDOM];
    SystemRandom::new().fill(&mut random).expect("the system gives random bytes");
    let suffix: String = random.iter().map(|byte| char::from(LETTERS[usize::from(byte % 32)])).collect();
    let template = template.as_str().to_ascii_lowercase().replace('_', "-");
    format!("{PREFIX}{template}-{suffix}")
}

/// The hash of a template's warm pods; none = it has none.
fn hash_of(template: &Template, namespace: &str) -> Option<String> {
    let Runs::Kubernetes(kept) = &template.runs else { return None };
    let made = (kept.warm.ready > 0).then(|| pods::warm_set("", template, namespace))?;
    made.ok()?.metadata.annotations?.remove(names::TEMPLATE_HASH)
}

/// The name of a warm set's only pod.
fn pod_name(set: &str) -> String {
    format!("{set}-0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::WorkspaceId;
    use std::collections::BTreeSet;

    #[test]
    fn no_workspace_has_the_name_of_a_warm_set() {
        for template in ["t", "A_b-C", "a23456789-123456789-123456789x"] {
            let template = TemplateName::parse(template).unwrap();
            let names: BTreeSet<String> = (0..100).map(|_| new_name(&template)).collect();
            assert!(names.len() > 95, "{names:?}");
            for name in names {
                assert!(WorkspaceId::parse(&name).is_err() && is_warm_name(&name), "{name}");
                assert!(name.len() <= 52, "{name}");
                assert!(
                    name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
                    "{name}"
                );
            }
        }
        for id in ["warm", "warm--alice", "alice"] {
            assert!(WorkspaceId::parse(id).is_ok() && !is_warm_name(id), "{id}");
        }
    }
}
