//! What files and Secrets have: taken in where it can be served; where it cannot, that is told and listed.

use super::Loop;
use super::watched::Looked;
use crate::Certificate;
use crate::files::Look;
use crate::told::with_causes;
use config::{CertificateName, CertificateSource};
use std::time::SystemTime;

impl Loop {
    pub(super) fn take_files(&mut self, Looked { name, look, key_is_open }: Looked) {
        match look {
            Look::Unchanged => return,
            Look::Changed(Ok(certificate)) => self.give(&name, certificate),
            Look::Changed(Err(error)) => {
                let error = with_causes(&error);
                tracing::error!(certificate.name = %name, error, "the files of a certificate cannot be used");
                self.inventory.withdraw(&name);
                self.refuse(&name, error);
            }
        }
        if key_is_open {
            tracing::warn!(certificate.name = %name, "others than its owner and a group may use the file of a private key");
        }
    }

    pub(super) fn take_secrets(&mut self) {
        let secrets = self.settings.secrets.borrow_and_update().clone();
        let certificates = self.settings.certificates.clone();
        for declared in certificates.values() {
            let CertificateSource::Secret(name) = &declared.source else { continue };
            let Some(pair) = secrets.get(name) else {
                if self.secrets.contains_key(name) || self.inventory.given(&declared.name).is_none() {
                    tracing::warn!(certificate.name = %declared.name, secret.name = name, "there is no such Secret of type kubernetes.io/tls");
                    self.inventory.withdraw(&declared.name);
                    self.refuse(
                        &declared.name,
                        format!("there is no Secret {name} of type kubernetes.io/tls"),
                    );
                }
                continue;
            };
            if self.secrets.get(name) == Some(pair) {
                continue;
            }
            match Certificate::parse(&pair.chain, &pair.key) {
                Ok(certificate) => self.give(&declared.name, certificate),
                Err(error) => {
                    let error = with_causes(&error);
                    tracing::error!(certificate.name = %declared.name, secret.name = name, error, "a Secret's certificate cannot be used");
                    self.inventory.withdraw(&declared.name);
                    self.refuse(&declared.name, error);
                }
            }
        }
        self.secrets = secrets;
        self.is_changed = true;
    }

    /// Gives again what has become valid.
    pub(super) fn take_what_is_due(&mut self, now: SystemTime) {
        for (name, certificate) in self.inventory.due(now) {
            self.give(&name, certificate);
        }
    }

    fn give(&mut self, name: &CertificateName, certificate: Certificate) {
        let Some(declared) = self.settings.certificates.get(name) else { return };
        let fingerprint = certificate.fingerprint().to_owned();
        let missing = self.inventory.given(name).map(|before| certificate.lacks(before.names()));
        self.is_changed = true;
        match self.inventory.give(name, &declared.names, certificate, SystemTime::now()) {
            Ok(()) => {
                tracing::info!(certificate.name = %name, certificate.fingerprint = fingerprint, "a certificate is served");
                if let Some(missing) = missing.filter(|missing| !missing.is_empty()) {
                    let missing = missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                    tracing::warn!(
                        certificate.name = %name, missing,
                        hint = "`names` says what it must be for: one for less replaces nothing then",
                        "a certificate is for less than the one before it"
                    );
                }
                self.refused.remove(name);
            }
            Err(error) => {
                let error = with_causes(&error);
                tracing::error!(
                    certificate.name = %name, certificate.fingerprint = fingerprint, error,
                    "a certificate cannot be served, and the one before is served on"
                );
                self.refuse(name, error);
            }
        }
    }

    fn refuse(&mut self, name: &CertificateName, why: String) {
        self.refused.insert(name.clone(), why);
        self.is_changed = true;
    }
}
