//! Whether certificates and listeners fit together.

use super::Placed;
use crate::layout::listeners::Bound;
use crate::model::{CertificateSource, Certificates, Challenge, ListenerProtocol};
use crate::names::{CertificateName, HostName, NamePattern};
use crate::reader::Table;
use std::collections::BTreeMap;

/// The certificates, seen beside what else the file says.
pub(super) fn fit(
    root: &Table<'_>,
    placed: BTreeMap<CertificateName, Placed<'_>>,
    listeners: &[Bound<'_>],
    hosts: (&HostName, &HostName),
) -> Option<Certificates> {
    let is_shown = listeners.iter().any(|bound| bound.listener.protocol == ListenerProtocol::Https);
    let answers_http = listeners.iter().any(|bound| bound.listener.protocol != ListenerProtocol::Https);
    let mut fits = true;
    let mut fault = |table: &Placed<'_>, problem: &str, accepted: &str| {
        fits = false;
        table.table.fault(problem, accepted);
    };
    for certificate in placed.values() {
        if !is_shown {
            fault(certificate, "no listener shows it", "protocol = \"https\" at a listener");
        }
        let by_http = matches!(&certificate.declared.source, CertificateSource::Acme(acme) if acme.challenge == Challenge::Http01);
        if by_http && !answers_http {
            let accepted =
                "a listener with protocol = \"redirect\" that is reached on port 80; or another challenge";
            fault(certificate, "the authority asks on port 80, where nobody answers", accepted);
        }
    }
    fits &= are_apart(&placed);
    fits &= !is_shown || are_covered(root, &placed, hosts);
    fits.then(|| placed.into_iter().map(|(name, placed)| (name, placed.declared)).collect())
}

/// Whether no two are for the same name.
fn are_apart(placed: &BTreeMap<CertificateName, Placed<'_>>) -> bool {
    let mut first: BTreeMap<&NamePattern, &CertificateName> = BTreeMap::new();
    let mut apart = true;
    for certificate in placed.values() {
        for (index, name) in certificate.declared.names.iter().enumerate() {
            let Some(other) = first.insert(name, &certificate.declared.name) else { continue };
            apart = false;
            let problem = format!("`{name}` is a name of the certificate `{other}`, too");
            let place = certificate.places.get(index).unwrap_or(&certificate.table);
            place.fault(problem, "each name at one certificate");
        }
    }
    apart
}

/// Whether there is a certificate for the portal and for the hosts of workspaces; one that says its names itself may be.
fn are_covered(
    root: &Table<'_>,
    placed: &BTreeMap<CertificateName, Placed<'_>>,
    (domain, portal): (&HostName, &HostName),
) -> bool {
    let mut names = placed.values().flat_map(|certificate| &certificate.declared.names);
    if placed.values().any(|certificate| certificate.declared.names.is_empty()) {
        return true;
    }
    let told = |problem: String| {
        root.fault(
            "certificates",
            problem,
            "a certificate with this name among its names: [certificates.NAME]",
        );
        false
    };
    if !names.clone().any(|name| name.covers(portal.as_str())) {
        return told(format!("there is none for the portal, `{portal}`"));
    }
    let workspaces = NamePattern::Wildcard(domain.clone());
    if !names.any(|name| *name == workspaces) {
        return told(format!("there is none for the hosts of workspaces, `{workspaces}`"));
    }
    true
}
