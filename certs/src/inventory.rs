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
pub(crate) struct Inventory {
    /// What the store has, by the unit's id; whether it can be served is another question.
    documents: BTreeMap<String, Document>,
    /// What is served of it.
    current: BTreeMap<String, Current>,
    /// What is served of it once it is valid: by our clock, which may be behind, that is later.
    coming: BTreeMap<String, Current>,
    /// Which versions were told as unfit.
    refused: BTreeMap<String, Version>,
    /// From files and Secrets.
    given: BTreeMap<CertificateName, Certificate>,
    /// What files and Secrets have that is not valid now, and is looked at again once it is.
    untimely: BTreeMap<CertificateName, Certificate>,
}

impl Inventory {
    /// The store has this, by the unit's id.
    pub(crate) fn put(&mut self, id: &str, document: Document) {
        self.documents.insert(id.to_owned(), document);
    }

    /// The store has it no more. What is served is served on.
    pub(crate) fn remove(&mut self, id: &str) {
        self.documents.remove(id);
        self.coming.remove(id);
        self.refused.remove(id);
    }

    /// A file or a Secret has this, for as long as it does not say otherwise.
    ///
    /// # Errors
    /// It cannot be served; what was served before is served on. One that is not valid now is [due](Self::due) once it is.
    pub(crate) fn give(
        &mut self,
        name: &CertificateName,
        wanted: &[NamePattern],
        certificate: Certificate,
        now: SystemTime,
    ) -> Result<(), Unfit> {
        self.untimely.remove(name);
        let checked = certificate.check(wanted, now);
        match &checked {
            Ok(()) => drop(self.given.insert(name.clone(), certificate)),
            Err(Unfit::NotYet { .. } | Unfit::Expired { .. }) => {
                drop(self.untimely.insert(name.clone(), certificate));
            }
            Err(_) => {}
        }
        checked
    }

    /// A file or a Secret has nothing that can be read. What is served is served on.
    pub(crate) fn withdraw(&mut self, name: &CertificateName) {
        self.untimely.remove(name);
    }

    /// What files and Secrets have that has become valid since it was given, with all of its chain, as whoever wrote it may
    /// have taken any: it is to be given again. A clock that was ahead called it expired.
    pub(crate) fn due(&self, now: SystemTime) -> Vec<(CertificateName, Certificate)> {
        let due = self
            .untimely
            .iter()
            .filter(|(_, certificate)| certificate.begins() <= now && now < certificate.ends());
        due.map(|(name, certificate)| (name.clone(), certificate.clone())).collect()
    }

    /// Whether something that the store has has become valid since it was [settled](Self::settle): Usher has put it there,
    /// and checked its chain.
    pub(crate) fn is_due(&self, now: SystemTime) -> bool {
        self.coming.values().any(|coming| coming.certificate.not_before() <= now)
    }

    /// That of a unit, if one is served.
    pub(crate) fn current(&self, id: &str) -> Option<&Current> {
        self.current.get(id)
    }

    /// The one that is served, or the one that will be once it is valid.
    pub(crate) fn newest(&self, id: &str) -> Option<&Current> {
        self.coming.get(id).or_else(|| self.current(id))
    }

    /// Whether the store has no more what is served of a unit and is good still: it was deleted there, or damaged.
    pub(crate) fn is_lost(&self, id: &str, now: SystemTime) -> bool {
        let is_kept = |newest: &Current| {
            self.documents.get(id).is_some_and(|document| document.version == newest.version)
        };
        // As it would be looked at when it is kept there again.
        let is_good = |newest: &Current| newest.certificate.check_from(&[], now).is_ok();
        self.newest(id).is_some_and(|newest| !is_kept(newest) && is_good(newest))
    }

    /// That of a file or Secret.
    pub(crate) fn given(&self, name: &CertificateName) -> Option<&Certificate> {
        self.given.get(name)
    }

    /// Looks at what the store has for these units, and takes what can be served in place of what was.
    pub(crate) fn settle(&mut self, units: &BTreeMap<String, Unit>, now: SystemTime) {
        self.current.retain(|id, _| units.contains_key(id));
        self.coming.retain(|id, _| units.contains_key(id));
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
            let known = self.coming.remove(id);
            let known = known.filter(|one| one.version == document.version && one.wanted == unit.names);
            match known.map_or_else(|| usable(document, &unit.names, now), Ok) {
                Ok(later) if later.certificate.not_before() > now && self.is_good(id, now) => {
                    self.coming.insert(id.clone(), later);
                }
                // One that is not valid yet is better than none: for whoever has the right time it may be.
                Ok(current) => {
                    tell(unit, &current);
                    self.current.insert(id.clone(), current);
                }
                Err(why) if self.refused.insert(id.clone(), document.version) != Some(document.version) => {
                    tracing::error!(
                        certificate.id = id,
                        document.name,
                        cause = why,
                        "a certificate that is kept cannot be served, and is replaced"
                    );
                }
                Err(_) => {}
            }
        }
    }

    /// Whether what is served of a unit has not ended.
    fn is_good(&self, id: &str, now: SystemTime) -> bool {
        self.current(id).is_some_and(|current| current.certificate.not_after() > now)
    }

    /// Has handshakes shown what there is, and metrics say until when.
    pub(crate) fn publish(
        &self,
        certificates: &Certificates,
        units: &BTreeMap<String, Unit>,
        (resolver, metrics): (&Resolver, &Metrics),
        now: SystemTime,
    ) {
        let now = unix(now);
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
            lives.entry(&unit.certificate).and_modify(|least| {
                *least = if *least == Life::default() { life } else { life.nearer(*least, now) }
            });
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
    certificate.check_from(&[], now).map_err(|error| with_causes(&error))?;
    let is_complete = certificate.check_from(wanted, now).is_ok();
    if shown(&certificate, wanted).is_empty() {
        let names: Vec<String> = certificate.names().iter().map(ToString::to_string).collect();
        return Err(format!("it is for {}", names.join(", ")));
    }
    if certificate.not_before() > now {
        tracing::warn!(
            document.name,
            certificate.fingerprint = certificate.fingerprint(),
            "a certificate is not valid yet by this machine's clock, which may be behind"
        );
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broken::{Case, Pair, Pki, cases, now, wanted};
    use crate::certificate::Unfit;
    use crate::document_kind::DocumentKind;
    use crate::units::Giver;
    use rcgen::date_time_ymd;
    use std::time::Duration;

    const DAY: Duration = Duration::from_hours(24);

    fn units() -> BTreeMap<String, Unit> {
        let certificate = CertificateName::parse("site").unwrap();
        let unit = Unit { id: "site".to_owned(), certificate, names: wanted(), giver: Giver::Local };
        BTreeMap::from([("site".to_owned(), unit)])
    }

    fn document(pki: &Pki, pair: &Pair, version: u64) -> (String, Document) {
        let (chain, key) = (pki.chain(pair), pair.key.serialize_pem());
        let certificate = Certificate::parse(chain.as_bytes(), key.as_bytes()).unwrap();
        let fingerprint = certificate.fingerprint().to_owned();
        let kept = Kept { certificate, origin: Origin::Local, obtained: now() };
        let name = DocumentKind::Certificate.name("site");
        (fingerprint, Document { name, version: Version(version), value: kept.write() })
    }

    #[test]
    fn what_is_kept_and_cannot_be_served_replaces_nothing_and_is_none_by_itself() {
        let (pki, units) = (Pki::new(), units());
        let (good, first) = document(&pki, &pki.good(), 1);
        for Case { name, chain, key, expected } in cases() {
            let mut value: serde_json::Value = serde_json::from_slice(&first.value).unwrap();
            value["chain"] = String::from_utf8_lossy(&chain).into();
            value["key"] = String::from_utf8_lossy(&key).into();
            let value = value.to_string().into_bytes();
            let second = Document { version: Version(2), value, ..first.clone() };
            // Names that are missing keep the others from nothing; a clock may be behind.
            let is_good = match expected {
                Ok(()) | Err(Unfit::NotYet { position: 1, .. }) => true,
                Err(Unfit::Names(missing)) => missing.len() < units["site"].names.len(),
                Err(_) => false,
            };
            for (before, left) in [(Some(first.clone()), Some(&good)), (None, None)] {
                let mut inventory = Inventory::default();
                for document in before.into_iter().chain([second.clone()]) {
                    inventory.put("site", document);
                    inventory.settle(&units, now());
                }
                let newest = inventory.newest("site").map(|current| current.certificate.fingerprint());
                assert_eq!(newest != left.map(String::as_str), is_good, "{name}: {newest:?}");
            }
        }
    }

    #[test]
    fn what_was_deleted_or_damaged_is_lost_for_as_long_as_it_could_be_kept_again() {
        let (units, case) =
            (units(), cases().into_iter().find(|case| case.name.ends_with("that has expired")));
        let Case { chain, key, .. } = case.expect("there is one");
        let certificate = Certificate::parse(&chain, &key).unwrap();
        let value = Kept { certificate, origin: Origin::Imported, obtained: now() }.write();
        let name = DocumentKind::Certificate.name("site");
        let first = Document { name: name.clone(), version: Version(1), value };
        let damaged = Document { name, version: Version(2), value: b"{}".to_vec() };
        // The leaf is good for longer than who signed it.
        let while_good = now() - DAY * 10;
        let mut inventory = Inventory::default();
        assert!(!inventory.is_lost("site", while_good));
        for after in [Some(damaged), None] {
            inventory.put("site", first.clone());
            inventory.settle(&units, while_good);
            assert!(!inventory.is_lost("site", while_good));
            match after {
                Some(document) => inventory.put("site", document),
                None => inventory.remove("site"),
            }
            inventory.settle(&units, while_good);
            assert!(inventory.is_lost("site", while_good) && !inventory.is_lost("site", now()));
        }
    }

    #[test]
    fn a_file_that_a_clock_called_expired_is_looked_at_again_once_that_is_right() {
        let pki = Pki::new();
        let pair = pki.good();
        let good =
            Certificate::parse(pki.chain(&pair).as_bytes(), pair.key.serialize_pem().as_bytes()).unwrap();
        let name = CertificateName::parse("site").unwrap();
        let mut inventory = Inventory::default();
        for wrong in [now() + 1000 * DAY, now() - 1000 * DAY] {
            inventory.give(&name, &wanted(), good.clone(), wrong).unwrap_err();
            assert!(inventory.due(wrong).is_empty() && inventory.given(&name).is_none());
            assert_eq!(inventory.due(now()).len(), 1, "{wrong:?}");
        }
        inventory.give(&name, &wanted(), good, now()).unwrap();
        assert!(inventory.due(now()).is_empty() && inventory.given(&name).is_some());
    }

    #[test]
    fn one_that_is_valid_later_is_served_later_or_where_there_is_no_other() {
        let (pki, units) = (Pki::new(), units());
        let names = ["lab.test", "*.lab.test"];
        let later = |day| pki.leaf(&names, |params| params.not_before = date_time_ymd(2027, 2, day));
        // Good until the first of March.
        let (good, first) = document(&pki, &pki.good(), 1);
        let (coming, second) = document(&pki, &later(1), 2);
        let of = |current: Option<&Current>| current.unwrap().certificate.fingerprint().to_owned();
        let mut inventory = Inventory::default();
        inventory.put("site", first);
        inventory.settle(&units, now());
        inventory.put("site", second.clone());
        for days in [0, 1, 16] {
            inventory.settle(&units, now() + DAY * days);
            assert_eq!(
                (of(inventory.current("site")), of(inventory.newest("site"))),
                (good.clone(), coming.clone())
            );
        }
        inventory.settle(&units, now() + DAY * 17);
        assert_eq!(
            (of(inventory.current("site")), of(inventory.newest("site"))),
            (coming.clone(), coming.clone())
        );

        let mut inventory = Inventory::default();
        inventory.put("site", second);
        inventory.settle(&units, now());
        assert_eq!(of(inventory.current("site")), coming);
    }
}
