//! Why the cluster refuses to make something, from the words of its admission: a quota, a policy, a webhook.
//!
//! The same words stand in the events of a controller that may not make a pod and in answers to Usher itself.

use super::quote::{between, name, words};
use super::sign::{Finding, Sign};

/// The refusal in words; none = it only says that a predecessor is still there, which passes.
///
/// `look` is the command that shows more.
pub(super) fn of(said: &str, namespace: &str, look: &str) -> Option<Finding> {
    if said.contains("already exists") && said.contains("object is being deleted") {
        return None;
    }
    let found = quota(said).or_else(|| policy(said)).or_else(|| missing(said, namespace));
    Some(found.unwrap_or_else(|| other(said)).with(look))
}

fn quota(said: &str) -> Option<Finding> {
    if let Some((_, rest)) = said.split_once("exceeded quota: ") {
        let what = between(rest, "requested: ", "=").map(counted);
        let detail = match what {
            Some(what) => format!("No more may run now: the cluster's quota of {what} is used up."),
            None => Sign::QuotaExceeded.code().words().detail.to_owned(),
        };
        return Some(Finding::new(
            Sign::QuotaExceeded,
            detail,
            format!("raise the quota, or run fewer: {}", words(rest)),
        ));
    }
    let (_, rest) = said.split_once("failed quota: ")?;
    Some(Finding::plain(Sign::LimitsRequired, format!("set the template's resources: quota {}", words(rest))))
}

/// A counted resource as people name it.
fn counted(resource: &str) -> &'static str {
    match resource {
        _ if resource.ends_with("storage") || resource.contains("persistentvolumeclaims") => "volumes",
        _ if resource.ends_with("memory") => "memory",
        _ if resource.ends_with("cpu") => "CPUs",
        _ if resource.contains("gpu") => "GPUs",
        _ => "workspaces",
    }
}

fn policy(said: &str) -> Option<Finding> {
    if let Some((_, rest)) = said.split_once("violates PodSecurity ") {
        let (profile, rules) = rest.split_once(": ").unwrap_or((rest, ""));
        let hint = format!("profile {}: {}", name(profile), words(rules));
        return Some(Finding::plain(Sign::PodSecurity, hint));
    }
    if let Some(webhook) = between(said, "failed calling webhook \"", "\"") {
        let hint = format!("admission webhook \"{}\" does not answer: {}", name(webhook), words(said));
        return Some(Finding::plain(Sign::AdmissionUnavailable, hint));
    }
    let (who, verdict) =
        match said.split_once(" denied request: ").or_else(|| said.split_once(" denied the request: ")) {
            Some((before, verdict)) => (before, verdict),
            None if said.contains(" denied the request") => (said, ""),
            None => return None,
        };
    let from = who.find("ValidatingAdmissionPolicy ").or_else(|| who.find("admission webhook ")).unwrap_or(0);
    let detail = match words(verdict) {
        verdict if verdict.is_empty() => Sign::AdmissionRefused.code().words().detail.to_owned(),
        verdict => format!("A rule of the cluster refuses this workspace: {verdict}"),
    };
    Some(Finding::new(Sign::AdmissionRefused, detail, format!("refused by {}", words(&who[from..]))))
}

fn missing(said: &str, namespace: &str) -> Option<Finding> {
    if said.contains("looking up service account") || said.contains("serviceaccount \"") {
        let account = between(said, "serviceaccount \"", "\"").map(name).unwrap_or_default();
        let hint =
            format!("make service account \"{account}\" in namespace {namespace}, or correct the template");
        return Some(Finding::plain(Sign::ServiceAccountMissing, hint));
    }
    if let Some(class) = between(said, "no PriorityClass with name ", " was found") {
        let hint = format!("make priority class \"{}\", or correct the template's pod overlay", name(class));
        return Some(Finding::plain(Sign::PriorityClassMissing, hint));
    }
    let terminating = said.contains("because it is being terminated");
    if terminating || (said.contains("namespaces \"") && said.contains("not found")) {
        let state = if terminating { "is being deleted" } else { "does not exist" };
        return Some(Finding::plain(Sign::NamespaceMissing, format!("namespace {namespace} {state}")));
    }
    if said.contains(" cannot ") && said.contains(" resource \"") {
        return Some(Finding::plain(Sign::NotPermitted, format!("grant it: {}", words(said))));
    }
    None
}

fn other(said: &str) -> Finding {
    let sign = match said {
        _ if said.contains(" is invalid: ") || said.contains("unknown field ") => Sign::SpecInvalid,
        // Limit ranges and plug-ins that are not known here.
        _ if said.contains(" is forbidden: ") => Sign::AdmissionRefused,
        _ => Sign::StartRefused,
    };
    let said = words(
        said.split_once(" is forbidden: ")
            .or_else(|| said.split_once(" is invalid: "))
            .map_or(said, |(_, why)| why),
    );
    match sign {
        // The field's path is the operator's.
        Sign::SpecInvalid => Finding::plain(sign, said),
        _ => Finding::new(sign, format!("{} It says: {said}", sign.code().words().detail), said),
    }
}

impl Finding {
    fn with(mut self, look: &str) -> Self {
        self.hint = format!("{}; {look}", self.hint);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::Sign::*;
    use super::*;

    const TABLE: &[(&str, Sign, &str, &str)] = &[
        (
            r#"pods "w-0" is forbidden: exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0"#,
            QuotaExceeded,
            "No more may run now: the cluster's quota of workspaces is used up.",
            "raise the quota, or run fewer: q, requested: pods=1, used: pods=0, limited: pods=0",
        ),
        (
            r#"statefulsets.apps "w" is forbidden: exceeded quota: q, requested: count/statefulsets.apps=1, used: count/statefulsets.apps=9, limited: count/statefulsets.apps=9"#,
            QuotaExceeded,
            "No more may run now: the cluster's quota of workspaces is used up.",
            "raise the quota, or run fewer: q, requested: count/statefulsets.apps=1, used: count/statefulsets.apps=9, limited: count/statefulsets.apps=9",
        ),
        (
            r#"pods "w-0" is forbidden: exceeded quota: q, requested: limits.memory=2Gi, used: limits.memory=8Gi, limited: limits.memory=8Gi"#,
            QuotaExceeded,
            "No more may run now: the cluster's quota of memory is used up.",
            "raise the quota, or run fewer: q, requested: limits.memory=2Gi, used: limits.memory=8Gi, limited: limits.memory=8Gi",
        ),
        (
            r#"pods "w-0" is forbidden: failed quota: q: must specify limits.cpu for: c"#,
            LimitsRequired,
            "This workspace is not allowed to run without limits.",
            "set the template's resources: quota q: must specify limits.cpu for: c",
        ),
        (
            r#"pods "w-0" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false)"#,
            PodSecurity,
            "This workspace breaks the security rules of the cluster.",
            r#"profile "restricted:latest": allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false)"#,
        ),
        (
            r#"pods "w-0" is forbidden: error looking up service account f-sa/ghost: serviceaccount "ghost" not found"#,
            ServiceAccountMissing,
            "The account that this workspace runs under is missing.",
            r#"make service account "ghost" in namespace ws, or correct the template"#,
        ),
        (
            r#"pods "w-0" is forbidden: no PriorityClass with name ghost was found"#,
            PriorityClassMissing,
            "The priority that this workspace asks for does not exist.",
            r#"make priority class "ghost", or correct the template's pod overlay"#,
        ),
        (
            r#"pods "w-0" is forbidden: ValidatingAdmissionPolicy 'no-big' with binding 'no-big' denied request: workspaces must carry a cost centre"#,
            AdmissionRefused,
            "A rule of the cluster refuses this workspace: workspaces must carry a cost centre",
            "refused by ValidatingAdmissionPolicy 'no-big' with binding 'no-big'",
        ),
        (
            r#"admission webhook "check.example.org" denied the request: no label"#,
            AdmissionRefused,
            "A rule of the cluster refuses this workspace: no label",
            r#"refused by admission webhook "check.example.org""#,
        ),
        (
            r#"Internal error occurred: failed calling webhook "check.example.org": failed to call webhook: Post "https://u:p@hook/": dial tcp: connect: connection refused"#,
            AdmissionUnavailable,
            "The cluster could not check this workspace against its rules.",
            r#"admission webhook "check.example.org" does not answer: Internal error occurred: failed calling webhook "check.example.org": failed to call webhook: Post "https://***@hook/": dial tcp: connect: connection refused"#,
        ),
        (
            r#"Pod "w-0" is invalid: metadata.labels: Invalid value: "w-546fd89b9b": must be no more than 63 bytes"#,
            SpecInvalid,
            "The cluster does not accept what the template of this workspace asks for.",
            r#"metadata.labels: Invalid value: "w-546fd89b9b": must be no more than 63 bytes"#,
        ),
        (
            r#"pods "w-0" is forbidden: unable to create new content in namespace ws because it is being terminated"#,
            NamespaceMissing,
            "The place for workspaces in the cluster does not exist.",
            "namespace ws is being deleted",
        ),
        (
            r#"pods "w-0" is forbidden: maximum memory usage per Container is 1Gi, but limit is 2Gi"#,
            AdmissionRefused,
            "A rule of the cluster refuses this workspace. It says: maximum memory usage per Container is 1Gi, but limit is 2Gi",
            "maximum memory usage per Container is 1Gi, but limit is 2Gi",
        ),
        (
            "etcdserver: request timed out",
            StartRefused,
            "The cluster could not make this workspace. It says: etcdserver: request timed out",
            "etcdserver: request timed out",
        ),
    ];

    #[test]
    fn every_refusal_is_told_by_its_kind() {
        for (said, sign, detail, hint) in TABLE {
            let hint = format!("{hint}; look");
            assert_eq!(of(said, "ws", "look"), Some(Finding::new(*sign, *detail, hint)), "{said}");
        }
    }

    #[test]
    fn a_predecessor_that_is_still_ending_is_no_refusal() {
        assert_eq!(of(r#"object is being deleted: pods "w-0" already exists"#, "ws", "look"), None);
    }
}
