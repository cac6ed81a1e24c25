//! Answers of the cluster's API to Usher itself, as causes of what could not be done.

use super::quote::words;
use super::refusal;
use super::sign::Sign;
use crate::{Cause, CauseCode};
use kube::core::Status;
use std::time::Duration;

/// What was asked, for the hint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    /// `create`, `patch`, `delete`, `list`, `watch`.
    pub(crate) verb: &'static str,
    /// `statefulsets.apps`.
    pub(crate) resource: &'static str,
    /// Where.
    pub(crate) namespace: &'a str,
    /// Which object; empty = all.
    pub(crate) name: &'a str,
}

/// A refusal (RFC 9110 §15.5 and §15.6) as a cause.
///
/// What a driver settles by looking again (409 on a create, 404 on a delete) it does not ask here for.
pub(crate) fn answered(call: &Call<'_>, status: &Status) -> Cause {
    let said = status.message.as_str();
    match status.code {
        401 => cause(
            CauseCode::NotPermitted,
            format!("the API server does not know Usher's credentials: {}", words(said)),
        ),
        403 if said.contains(" cannot ") => call.not_permitted(),
        400 | 403 | 404 | 413 | 422 | 500 => call.refused(status),
        409 => cause(CauseCode::Conflict, format!("{call}: {}", words(said))),
        429 => cause(CauseCode::ClusterBusy, format!("{call} was answered 429: {}", words(said))),
        code => cause(CauseCode::ClusterUnreachable, format!("{call} was answered {code}: {}", words(said))),
    }
}

/// No answer in time, or none that could be read: `what` says which.
pub(crate) fn silent(call: &Call<'_>, waited: Duration, what: &str) -> Cause {
    let hint = format!("{call} had no answer after {} ms: {}", waited.as_millis(), words(what));
    cause(CauseCode::ClusterUnreachable, hint)
}

fn cause(code: CauseCode, hint: String) -> Cause {
    Cause { code, detail: code.words().detail.to_owned(), hint }
}

impl Call<'_> {
    fn not_permitted(&self) -> Cause {
        let Self { verb, resource, namespace, .. } = self;
        let hint = format!(
            "let Usher's service account {verb} {resource} in namespace {namespace}: \
             kubectl auth can-i {verb} {resource} -n {namespace} --as system:serviceaccount:NAMESPACE:NAME"
        );
        cause(CauseCode::NotPermitted, hint)
    }

    fn refused(&self, status: &Status) -> Cause {
        let look = format!("{self} was answered {}", status.code);
        let found = refusal::of(&status.message, self.namespace, &look);
        match found {
            Some(found) if status.code == 422 && found.sign == Sign::StartRefused => {
                cause(CauseCode::SpecInvalid, found.hint)
            }
            Some(found) => found.cause(),
            None => cause(CauseCode::Conflict, look),
        }
    }
}

impl std::fmt::Display for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { verb, resource, namespace, name } = self;
        write!(f, "{verb} {resource} {name} in {namespace}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: u16, message: &str) -> (CauseCode, String) {
        let call = Call { verb: "create", resource: "statefulsets.apps", namespace: "ws", name: "alice" };
        let cause = answered(&call, &Status { code, ..Status::failure(message, "") });
        (cause.code, cause.hint)
    }

    #[test]
    fn every_answer_is_a_cause_with_what_was_asked() {
        use CauseCode::*;
        let at = "create statefulsets.apps alice in ws";
        let table = [
            (401, "Unauthorized", NotPermitted, "the API server does not know Usher's credentials: Unauthorized".to_owned()),
            (
                403,
                r#"statefulsets.apps is forbidden: User "system:serviceaccount:usher:usher" cannot create resource "statefulsets" in API group "apps" in the namespace "ws""#,
                NotPermitted,
                "let Usher's service account create statefulsets.apps in namespace ws: kubectl auth can-i create statefulsets.apps -n ws --as system:serviceaccount:NAMESPACE:NAME".to_owned(),
            ),
            (
                403,
                r#"statefulsets.apps "w" is forbidden: exceeded quota: q, requested: count/statefulsets.apps=1"#,
                QuotaExceeded,
                format!("raise the quota, or run fewer: q, requested: count/statefulsets.apps=1; {at} was answered 403"),
            ),
            (404, r#"namespaces "ws" not found"#, NamespaceMissing, format!("namespace ws does not exist; {at} was answered 404")),
            (
                400,
                r#"StatefulSet in version "v1" cannot be handled as a StatefulSet: strict decoding error: unknown field "spec.template.spec.containers[0].imagee""#,
                SpecInvalid,
                format!(r#"StatefulSet in version "v1" cannot be handled as a StatefulSet: strict decoding error: unknown field "spec.template.spec.containers[0].imagee"; {at} was answered 400"#),
            ),
            (409, "Operation cannot be fulfilled", Conflict, format!("{at}: Operation cannot be fulfilled")),
            (422, "the server rejected our request", SpecInvalid, format!("the server rejected our request; {at} was answered 422")),
            (429, "too many requests", ClusterBusy, format!("{at} was answered 429: too many requests")),
            (500, "etcdserver: leader changed", StartRefused, format!("etcdserver: leader changed; {at} was answered 500")),
            (504, "request did not complete", ClusterUnreachable, format!("{at} was answered 504: request did not complete")),
        ];
        for (code, message, wanted, hint) in table {
            assert_eq!(told(code, message), (wanted, hint), "{code} {message}");
        }
    }

    #[test]
    fn silence_is_told_with_how_long_it_lasted() {
        let call = Call { verb: "patch", resource: "statefulsets.apps", namespace: "ws", name: "alice" };
        let cause = silent(&call, Duration::from_millis(900), "deadline");
        assert_eq!(cause.code, CauseCode::ClusterUnreachable);
        assert_eq!(cause.hint, "patch statefulsets.apps alice in ws had no answer after 900 ms: deadline");
    }
}
