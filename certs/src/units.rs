//! What is to be had: one thing for each certificate of the configuration, or for each host of those made `per_host`.

use crate::document_kind::DocumentKind;
use crate::kept::Origin;
use crate::store::is_name;
use config::{AcmeSource, CertificateName, CertificateSource, Certificates, HostName, NamePattern};
use std::collections::{BTreeMap, BTreeSet};

/// One certificate that is got and renewed by Usher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Of its documents: the certificate's name, and with `per_host` the host behind it.
    pub(crate) id: String,
    /// Of which certificate of the configuration.
    pub(crate) certificate: CertificateName,
    /// What it is for.
    pub(crate) names: Vec<NamePattern>,
    /// Who gives it.
    pub(crate) giver: Giver,
}

/// Who gives a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Giver {
    /// An authority, by ACME.
    Acme(AcmeSource),
    /// Usher's own authority.
    Local,
}

impl Giver {
    /// Whether what came from there is as good as its own: what an operator has brought is.
    pub(crate) fn may_have_given(&self, origin: &Origin) -> bool {
        match (self, origin) {
            (_, Origin::Imported) | (Self::Local, Origin::Local) => true,
            (Self::Acme(source), Origin::Acme(name)) => {
                source.authorities.iter().any(|authority| authority.name == *name)
            }
            (Self::Acme(_), Origin::Local) | (Self::Local, Origin::Acme(_)) => false,
        }
    }
}

/// All of them, by id. Files and Secrets are given by somebody else, and are none.
pub(crate) fn units(certificates: &Certificates, hosts: &BTreeSet<HostName>) -> BTreeMap<String, Unit> {
    let mut units = BTreeMap::new();
    for declared in certificates.values() {
        let giver = match &declared.source {
            CertificateSource::Acme(source) => Giver::Acme(source.clone()),
            CertificateSource::SelfSigned => Giver::Local,
            CertificateSource::Files { .. } | CertificateSource::Secret(_) => continue,
        };
        let is_per_host = matches!(&giver, Giver::Acme(source) if source.per_host.is_some());
        let unit =
            |id: String, names| Unit { id, certificate: declared.name.clone(), names, giver: giver.clone() };
        if !is_per_host {
            units.insert(declared.name.to_string(), unit(declared.name.to_string(), declared.names.clone()));
            continue;
        }
        for host in known_hosts(&declared.names, hosts) {
            let id = format!("{}--{host}", declared.name);
            // A host of some 190 characters has no document.
            if is_name(&DocumentKind::Certificate.name(&id)) {
                units.insert(id.clone(), unit(id, vec![NamePattern::Host(host)]));
            }
        }
    }
    units
}

/// The hosts that are named, and those below a name with an asterisk that are known.
fn known_hosts(names: &[NamePattern], hosts: &BTreeSet<HostName>) -> BTreeSet<HostName> {
    let is_meant = |host: &&HostName| names.iter().any(|name| name.covers(host.as_str()));
    let named = names.iter().filter(|name| !name.is_wildcard()).map(|name| name.base().clone());
    hosts.iter().filter(is_meant).cloned().chain(named).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use config::Config;

    fn all(tables: &str, hosts: &[&str]) -> Vec<Unit> {
        let text = format!(
            "domain = 'lab.test'\nlisteners = [{{ address = '127.0.0.1:443', protocol = 'https' }}, {{ address = '127.0.0.1:80' }}]\n\
             access = {{ allow = 'true', template = \"'demo'\" }}\n{tables}\
             [templates.demo]\ncommand = ['demo', '{{port}}']\nconnect = 'port'\n"
        );
        let config = Config::parse("test", &text, &|_| None).unwrap_or_else(|findings| panic!("{findings}"));
        let hosts = hosts.iter().map(|host| HostName::parse(host).unwrap()).collect();
        units(&config.certificates, &hosts).into_values().collect()
    }

    fn of(tables: &str, hosts: &[&str]) -> Vec<(String, Vec<String>)> {
        let told = |unit: Unit| (unit.id, unit.names.iter().map(ToString::to_string).collect());
        all(tables, hosts).into_iter().map(told).collect()
    }

    fn giver(tables: &str) -> Giver {
        all(tables, &["lab.test"]).remove(0).giver
    }

    #[test]
    fn a_wildcard_is_one_certificate_whoever_there_is() {
        let units = of("[certificates.site]\nsource = 'self-signed'\n", &["alice.lab.test"]);
        assert_eq!(units, [("site".to_owned(), vec!["lab.test".to_owned(), "*.lab.test".to_owned()])]);
    }

    #[test]
    fn per_host_there_is_one_for_each_known_host_that_the_names_cover() {
        let tables = "[acme.le]\ndirectory = 'https://acme.test'\nterms_of_service_agreed = true\n\
             [certificates.people]\nsource = 'acme'\nchallenge = 'http-01'\nper_host = true\n";
        let hosts = ["alice.lab.test", "a.alice.lab.test", "elsewhere.test", "lab.test"];
        let ids: Vec<String> = of(tables, &hosts).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, ["people--alice.lab.test", "people--lab.test"]);
    }

    #[test]
    fn what_another_gave_than_is_asked_now_is_not_as_good() {
        let tables = "[acme.le]\ndirectory = 'https://acme.test'\nterms_of_service_agreed = true\n\
             [certificates.people]\nsource = 'acme'\nchallenge = 'http-01'\nper_host = true\n";
        let acme = giver(tables);
        let local = giver("[certificates.site]\nsource = 'self-signed'\n");
        let of = |name: &str| Origin::Acme(config::AuthorityName::parse(name).unwrap());
        for (giver, origin, expected) in [
            (&acme, of("le"), true),
            (&acme, of("staging"), false),
            (&acme, Origin::Local, false),
            (&acme, Origin::Imported, true),
            (&local, Origin::Local, true),
            (&local, of("le"), false),
            (&local, Origin::Imported, true),
        ] {
            assert_eq!(giver.may_have_given(&origin), expected, "{giver:?} {origin:?}");
        }
    }

    #[test]
    fn what_somebody_else_gives_is_not_got() {
        let units = of("[certificates.own]\nsource = 'files'\ncertificate = 'c'\nprivate_key = 'k'\n", &[]);
        assert_eq!(units, []);
    }
}
