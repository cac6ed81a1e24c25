//! acme-dns: a small DNS server that only answers challenges, with an HTTP API of its own.
//!
//! `_acme-challenge` of a host is a CNAME to the name that was given at the registration. The server itself is not to be
//! had where this is tested; what is tested is that its documented requests and answers are kept to.

use super::FIND_TIMEOUT;
use super::error::DnsError;
use super::http::Api;
use super::lookup::{Lookup, told};
use config::{DnsProviderName, Secret};
use hickory_proto::rr::Name;
use http::{Method, StatusCode};
use serde_json::json;

/// One registration at an acme-dns server.
pub(super) struct AcmeDns {
    provider: DnsProviderName,
    api: Api,
    subdomain: String,
}

impl AcmeDns {
    /// # Errors
    /// The address or the secrets cannot be used.
    pub(super) fn new(
        provider: DnsProviderName,
        url: &str,
        username: &str,
        password: &Secret,
        subdomain: &str,
    ) -> Result<Self, DnsError> {
        let headers = [("x-api-user", username.to_owned()), ("x-api-key", password.reveal().to_owned())];
        match Api::new("url", url, &headers, password.reveal()) {
            Ok(api) => Ok(Self { provider, api, subdomain: subdomain.to_owned() }),
            Err((key, reason)) => Err(DnsError::Unusable { provider, key, reason }),
        }
    }

    /// Adds a text to the last one. Nothing takes it away again: the server keeps the last two texts, which are as many
    /// as one name needs.
    ///
    /// With a lookup, it is first seen that the name leads to the server.
    ///
    /// # Errors
    /// The name does not lead there, or the server does not do it.
    pub(super) async fn present(
        &self,
        lookup: Option<&Lookup>,
        name: &Name,
        text: &str,
    ) -> Result<(), DnsError> {
        if let Some(lookup) = lookup {
            self.expect_delegation(&lookup.place(name, FIND_TIMEOUT).await?.name, name)?;
        }
        let failed = |reason| DnsError::Api {
            provider: self.provider.clone(),
            at: self.api.place().to_owned(),
            name: told(name),
            reason,
        };
        let body = json!({ "subdomain": self.subdomain, "txt": text });
        match self.api.ask(Method::POST, "/update", Some(body)).await.map_err(failed)? {
            (StatusCode::OK, _) => Ok(()),
            (status, said) => {
                let said = self.api.told(&String::from_utf8_lossy(&said));
                Err(failed(format!("{status}: {said}{}", hint(status))))
            }
        }
    }

    fn expect_delegation(&self, end: &Name, name: &Name) -> Result<(), DnsError> {
        let first = end.iter().next().unwrap_or_default();
        if end != name && first.eq_ignore_ascii_case(self.subdomain.as_bytes()) {
            return Ok(());
        }
        let found =
            if end == name { "is no CNAME record".to_owned() } else { format!("leads to {}", told(end)) };
        let wanted = format!("{}.<the domain of the acme-dns server>.", self.subdomain);
        Err(DnsError::NotDelegated { provider: self.provider.clone(), name: told(name), found, wanted })
    }
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "; compare username, password and subdomain with the registration, and its `allowfrom` with this address"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_does_not_lead_to_the_server_says_which_record_to_make() {
        let provider = DnsProviderName::parse("home").unwrap();
        let password = Secret::new("geheim".to_owned());
        let server = AcmeDns::new(provider, "http://127.0.0.1", "user", &password, "8e57").unwrap();
        let name = |text: &str| Name::from_ascii(text).unwrap();
        let of = |end: &str| {
            let judged = server.expect_delegation(&name(end), &name("_acme-challenge.lab.test."));
            judged.map_err(|error| error.to_string())
        };
        let wanted = "dns_providers.home needs the record `_acme-challenge.lab.test. CNAME 8e57.<the domain of the acme-dns server>.`";
        assert_eq!(of("8E57.auth.test."), Ok(()));
        assert_eq!(
            of("_acme-challenge.lab.test."),
            Err(format!("_acme-challenge.lab.test is no CNAME record; {wanted}"))
        );
        assert_eq!(
            of("other.auth.test."),
            Err(format!("_acme-challenge.lab.test leads to other.auth.test; {wanted}"))
        );
    }
}
