//! What can be served at this moment, and what is served of it.

use crate::certificate::{Certificate, Unfit};
use crate::kept::{Kept, Origin};
use crate::metrics::{Life, Metrics};
use crate::resolver::{Resolver, Served};
use crate::schedule::Held;
use crate::state::unix;
use crate::store::{Document, Version};
use crate::told::with_causes;
use crate::units::Unit;
use config::{CertificateName, Certificates, NamePattern};
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

/// A certificate that is served.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    pub(crate) certificate: Certificate,
    pub(crate) origin: Origin,
    /// When it came.
    pub(crate) obtained: SystemTime,
    /// It is for all names that are wanted, so that no other is needed until it is renewed.
    pub(crate) is_complete: bool,
    /// For which names that was looked at.
    pub(crate) wanted: Vec<NamePattern>,
    pub(crate) version: Version,
}

impl Current {
    /// As the schedule sees it.
    pub(crate) fn held(&self) -> Held<'_> {
        let Self { certificate, obtained, .. } = self;
        Held {
            fingerprint: certificate.fingerprint(),
            since: *obtained,
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
        }
    }
}

/// All certificates that there are, by who gave them.
#[derive(Default)]
pub(crate) struct Shelf {
    /// What the store has, by the unit's id; whether it can be served is another question.
    documents: BTreeMap<String, Document>,
    /// What is served of it.
    current: BTreeMap<String, Current>,
    /// Which versions were told as unfit.
    refused: BTreeMap<String, Version>,
    /// From files and Secrets.
    given: BTreeMap<CertificateName, Certificate>,
}

impl Shelf {
    /// The store has this, by the unit's id.
    pub(crate) fn put(&mut self, id: &str, document: Document) {
        self.documents.insert(id.to_owned(), document);
    }

    /// The store has it no more. What is served is served on.
    pub(crate) fn remove(&mut self, id: &str) {
        self.documents.remove(id);
        self.refused.remove(id);
    }

    /// A file or a Secret has this, for as long as it does not say otherwise.
    ///
    /// # Errors
    /// It cannot be served; what was served before is served on.
    pub(crate) fn give(
        &mut self,
        name: &CertificateName,
        wanted: &[NamePattern],
        certificate: Certificate,
        now: SystemTime,
    ) -> Result<(), Unfit> {
        certificate.check(wanted, now)?;
        self.given.insert(name.clone(), certificate);
        Ok(())
    }

    /// That of a unit, if one is served.
    pub(crate) fn current(&self, id: &str) -> Option<&Current> {
        self.current.get(id)
    }

    /// That of a file or Secret.
    pub(crate) fn given(&self, name: &CertificateName) -> Option<&Certificate> {
        self.given.get(name)
    }

    /// Looks at what the store has for these units, and takes what can be served in place of what was.
    pub(crate) fn settle(&mut self, units: &BTreeMap<String, Unit>, now: SystemTime) {
        self.current.retain(|id, _| units.contains_key(id));
        for (id, unit) in units {
            let Some(document) = self.documents.get(id) else { continue };
            if let Some(current) = self.current.get_mut(id)
                && current.version == document.version
            {
                if current.wanted != unit.names {
                    // Whether it is for them; its dates are no question any more: it is served.
                    let begin = current.certificate.not_before();
                    current.is_complete = current.certificate.check(&unit.names, begin).is_ok();
                    current.wanted.clone_from(&unit.names);
                }
                continue;
            }
            match usable(document, &unit.names, now) {
                Ok(current) => {
                    tell(unit, &current);
                    self.current.insert(id.clone(), current);
                }
                Err(why) if self.refused.insert(id.clone(), document.version) != Some(document.version) => {
                    tracing::error!(
                        certificate.id = id,
                        document.name,
                        cause = why,
                        "a certificate that is kept cannot be served, and another is got in its place"
                    );
                }
                Err(_) => {}
            }
        }
    }

    /// Has handshakes shown what there is, and metrics say until when.
    pub(crate) fn publish(
        &self,
        certificates: &Certificates,
        units: &BTreeMap<String, Unit>,
        (resolver, metrics): (&Resolver, &Metrics),
    ) {
        let mut served = Served::default();
        let mut lives: BTreeMap<&CertificateName, Life> =
            certificates.keys().map(|name| (name, Life::default())).collect();
        for (name, certificate) in &self.given {
            let Some(declared) = certificates.get(name) else { continue };
            served.add(certificate.certified_key(), shown(certificate, &declared.names));
            lives.insert(name, life(certificate));
        }
        for (id, unit) in units {
            let Some(Current { certificate, .. }) = self.current.get(id) else { continue };
            served.add(certificate.certified_key(), shown(certificate, &unit.names));
            let life = life(certificate);
            lives
                .entry(&unit.certificate)
                .and_modify(|first| *first = if *first == Life::default() { life } else { life.min(*first) });
        }
        resolver.publish(served);
        for (name, life) in lives {
            metrics.lives(name.as_str(), life);
        }
    }
}

fn life(certificate: &Certificate) -> Life {
    Life { expiry: unix(certificate.not_after()), not_before: unix(certificate.not_before()) }
}

/// What a document has, if it can be served for some of these names at least.
fn usable(document: &Document, wanted: &[NamePattern], now: SystemTime) -> Result<Current, String> {
    let Kept { certificate, origin, obtained } = Kept::read(document).map_err(|error| with_causes(&error))?;
    // A name that was added to the configuration is no reason to serve none of the others meanwhile.
    certificate.check(&[], now).map_err(|error| error.to_string())?;
    let is_complete = certificate.check(wanted, now).is_ok();
    if shown(&certificate, wanted).is_empty() {
        let names: Vec<String> = certificate.names().iter().map(ToString::to_string).collect();
        return Err(format!("it is for {}", names.join(", ")));
    }
    Ok(Current {
        certificate,
        origin,
        obtained,
        is_complete,
        wanted: wanted.to_vec(),
        version: document.version,
    })
}

/// The names under which it is shown: those that are wanted and that it is for, or all of its own.
fn shown(certificate: &Certificate, wanted: &[NamePattern]) -> Vec<NamePattern> {
    let own: BTreeSet<&NamePattern> = certificate.names().iter().collect();
    match wanted {
        [] => certificate.names().to_vec(),
        _ => {
            let is_for = |name: &&NamePattern| {
                own.contains(name)
                    || (!name.is_wildcard() && own.iter().any(|own| own.covers(name.base().as_str())))
            };
            wanted.iter().filter(is_for).cloned().collect()
        }
    }
}

fn tell(unit: &Unit, current: &Current) {
    let left = current.certificate.not_after().duration_since(SystemTime::now()).unwrap_or_default();
    tracing::info!(
        certificate.id = unit.id,
        certificate.fingerprint = current.certificate.fingerprint(),
        certificate.origin = %current.origin,
        days_left = left.as_secs() / 86_400,
        "a certificate is served"
    );
}
