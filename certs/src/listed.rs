//! What an operator is shown of certificates.

use crate::certificate::Certificate;
use crate::inventory::Current;
use crate::state::{State, time, unix};
use crate::units::{Giver, Unit};
use config::{CertificateSource, DeclaredCertificate};
use serde::{Deserialize, Serialize};
use std::time::SystemTime;

/// One certificate, as `usher certs list` shows it. Times are UNIX seconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    /// `[certificates.NAME]`; with `per_host` and the host behind `--`.
    pub id: String,
    /// `acme`, `files`, `self-signed` or `secret`.
    pub source: String,
    /// What it is to be for; of files and Secrets what it is for.
    pub names: Vec<String>,
    /// What is served; none = nothing.
    pub served: Option<ListedCertificate>,
    /// When it is got or renewed; none = somebody else sees to it.
    pub next: Option<Next>,
    /// What failed last, by authority.
    pub failures: Vec<String>,
}

/// A certificate that is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedCertificate {
    /// SHA-256, hexadecimal.
    pub fingerprint: String,
    /// Who gave it: the name of an authority, `local` or `imported`.
    pub origin: String,
    /// From when on it is valid.
    pub not_before: u64,
    /// Until when it is valid.
    pub not_after: u64,
}

/// When a certificate is got or renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Next {
    /// Now.
    UnderWay,
    /// At this time; one that is past is as soon as possible.
    At(u64),
}

impl Listed {
    /// One of files or a Secret, and why what they have now is not served.
    pub(crate) fn given(
        declared: &DeclaredCertificate,
        certificate: Option<&Certificate>,
        refused: Option<&String>,
    ) -> Self {
        let source = match declared.source {
            CertificateSource::Secret(_) => "secret",
            _ => "files",
        };
        let own = certificate.map(Certificate::names).unwrap_or_default();
        let names = if declared.names.is_empty() { own } else { &declared.names };
        Self {
            id: declared.name.to_string(),
            source: source.to_owned(),
            names: names.iter().map(ToString::to_string).collect(),
            served: certificate.map(|certificate| ListedCertificate::of(certificate, source.to_owned())),
            next: None,
            failures: refused.into_iter().cloned().collect(),
        }
    }

    /// One that Usher gets.
    pub(crate) fn got(
        unit: &Unit,
        current: Option<&Current>,
        next: Next,
        (state, now): (Option<&State>, SystemTime),
    ) -> Self {
        let failures = state.into_iter().flat_map(|state| &state.authorities);
        // What an authority has said of these names may outlast what another one gave; then it is of no interest.
        let failures =
            failures.filter(|(_, standing)| !standing.by_its_word || time(standing.not_before) > now);
        Self {
            id: unit.id.clone(),
            source: if unit.giver == Giver::Local { "self-signed" } else { "acme" }.to_owned(),
            names: unit.names.iter().map(ToString::to_string).collect(),
            served: current
                .map(|current| ListedCertificate::of(&current.certificate, current.origin.to_string())),
            next: Some(next),
            failures: failures.map(|(name, standing)| format!("{name}: {}", standing.cause)).collect(),
        }
    }
}

impl ListedCertificate {
    fn of(certificate: &Certificate, origin: String) -> Self {
        Self {
            fingerprint: certificate.fingerprint().to_owned(),
            origin,
            not_before: unix(certificate.not_before()),
            not_after: unix(certificate.not_after()),
        }
    }
}
