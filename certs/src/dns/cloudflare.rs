//! Cloudflare's API, version 4.
//!
//! Tried against a server of our own that answers as Cloudflare documents it (List Zones; List, Create and Delete DNS
//! Record; October 2026), and against nothing else.

use super::error::DnsError;
use super::http::Api;
use super::lookup::{Lookup, told};
use super::{Change, FIND_TIMEOUT, TTL};
use config::{DnsProviderName, Secret};
use hickory_proto::rr::Name;
use http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// "Record already exists" and "An identical record already exists".
const THERE_ALREADY: [i64; 2] = [81057, 81058];
/// "Record does not exist".
const GONE_ALREADY: [i64; 1] = [81044];

/// The zones that one token may edit.
pub(super) struct Cloudflare {
    provider: DnsProviderName,
    api: Api,
}

/// The envelope of every answer.
#[derive(Deserialize)]
struct Answer<T> {
    success: bool,
    #[serde(default)]
    errors: Vec<Said>,
    result: Option<T>,
}

#[derive(Deserialize)]
struct Said {
    code: i64,
    message: String,
}

/// A zone, or a record without a text.
#[derive(Deserialize)]
struct Found {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    content: String,
}

impl Cloudflare {
    /// # Errors
    /// The address or the token cannot be used.
    pub(super) fn new(provider: DnsProviderName, api: &str, token: &Secret) -> Result<Self, DnsError> {
        let headers = [("authorization", format!("Bearer {}", token.reveal()))];
        match Api::new("api", api, &headers, token.reveal()) {
            Ok(api) => Ok(Self { provider, api }),
            Err((key, reason)) => Err(DnsError::Unusable { provider, key, reason }),
        }
    }

    /// Adds or deletes one TXT record, at the end of the CNAMEs of the name.
    ///
    /// # Errors
    /// The place is not found, or the API does not do it.
    pub(super) async fn change(
        &self,
        lookup: &Lookup,
        name: &Name,
        text: &str,
        change: Change,
    ) -> Result<(), DnsError> {
        let name = told(&lookup.place(name, FIND_TIMEOUT).await?.name).to_ascii_lowercase();
        let failed = |reason| DnsError::Api {
            provider: self.provider.clone(),
            at: self.api.place().to_owned(),
            name: name.clone(),
            reason,
        };
        let changed = async {
            let zone = self.zone(&name).await?;
            match change {
                Change::Present => self.add(&zone, &name, text).await,
                Change::Clear => self.remove(&zone, &name, text).await,
            }
        };
        changed.await.map_err(failed)
    }

    /// The id of the zone that a name is in: the longest of its ends that is a zone of this token.
    async fn zone(&self, name: &str) -> Result<String, String> {
        if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)) {
            return Err("a name like this is in no zone of Cloudflare".to_owned());
        }
        for end in ends(name) {
            let zones: Vec<Found> = self.asked(&format!("/zones?name={end}")).await?;
            if let Some(zone) = zones.into_iter().find(|zone| zone.name.eq_ignore_ascii_case(end)) {
                return id(zone);
            }
        }
        Err("the token sees no zone that the name is in; it needs Zone.DNS Edit on that zone".to_owned())
    }

    async fn add(&self, zone: &str, name: &str, text: &str) -> Result<(), String> {
        // A TXT record's content is a quoted string (RFC 1035 §5.1).
        let record = json!({ "type": "TXT", "name": name, "content": format!("\"{text}\""), "ttl": TTL });
        let path = format!("/zones/{zone}/dns_records");
        let added: Result<Option<Value>, _> =
            self.ask(Method::POST, &path, Some(record), &THERE_ALREADY).await;
        added.map(|_| ())
    }

    async fn remove(&self, zone: &str, name: &str, text: &str) -> Result<(), String> {
        let path = format!("/zones/{zone}/dns_records?type=TXT&name.exact={name}&per_page=100");
        let records: Vec<Found> = self.asked(&path).await?;
        // Older records have no quotes.
        let is_it = |record: &Found| {
            record.name.eq_ignore_ascii_case(name) && record.content.trim_matches('"') == text
        };
        for record in records.into_iter().filter(is_it) {
            let path = format!("/zones/{zone}/dns_records/{}", id(record)?);
            let _gone: Option<Value> = self.ask(Method::DELETE, &path, None, &GONE_ALREADY).await?;
        }
        Ok(())
    }

    /// What a GET finds.
    async fn asked<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let found = self.ask(Method::GET, path, None, &[]).await?;
        found.ok_or_else(|| "its answer has no result".to_owned())
    }

    /// Asks, and takes some of the API's errors for success: what was asked for is already so.
    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
        fine: &[i64],
    ) -> Result<Option<T>, String> {
        let (status, said) = self.api.ask(method, path, body).await?;
        let Ok(answer) = serde_json::from_slice::<Answer<T>>(&said) else {
            return Err(format!("{status}: {}", self.api.told(&String::from_utf8_lossy(&said))));
        };
        if answer.success {
            return Ok(answer.result);
        }
        if !answer.errors.is_empty() && answer.errors.iter().all(|error| fine.contains(&error.code)) {
            return Ok(None);
        }
        let errors = answer.errors.iter().map(|error| format!("{} ({})", error.message, error.code));
        Err(format!("{status}: {}", self.api.told(&errors.collect::<Vec<_>>().join(", "))))
    }
}

/// The ends of a name that may be a zone, the longest first: never a top-level domain.
fn ends(name: &str) -> impl Iterator<Item = &str> {
    let longer = std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, rest)| rest));
    longer.filter(|end| end.contains('.'))
}

/// The id of something, fit for a path.
fn id(found: Found) -> Result<String, String> {
    let is_fit =
        (1..=64).contains(&found.id.len()) && found.id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if is_fit { Ok(found.id) } else { Err("it names something by an id that cannot be one".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_looked_for_from_the_name_up_to_below_the_top() {
        let of = |name| ends(name).collect::<Vec<_>>();
        assert_eq!(
            of("_acme-challenge.lab.example.org"),
            ["_acme-challenge.lab.example.org", "lab.example.org", "example.org"]
        );
        assert!(of("org").is_empty());
    }

    #[test]
    fn an_id_leads_to_no_other_path() {
        let of = |id: &str| {
            super::id(Found { id: id.to_owned(), name: String::new(), content: String::new() }).is_ok()
        };
        assert!(of("023e105f4ecef8ad9ca31a8372d0c353"));
        for bad in ["", "..", "a/b", "a?b", "%2e", &"a".repeat(65)] {
            assert!(!of(bad), "{bad}");
        }
    }
}
