//! One request to the API of a DNS provider.

use crate::roots::client_config;
use crate::told::with_causes;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::timeout;

/// Within which an answer must be there as a whole.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may be: a page of a hundred records takes some 50 KiB.
const ANSWER_MAX: usize = 64 * 1024;
/// How much of what an API says stands in an error.
const TOLD_MAX: usize = 256;

/// An API at one address, over https, or in clear on this machine. No redirect is followed: secrets go to nobody else.
pub(super) struct Api {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    /// Without the slash at its end.
    base: String,
    headers: Vec<(&'static str, HeaderValue)>,
    /// What must not stand in an error, also where the API repeats it.
    secret: String,
}

impl Api {
    /// # Errors
    /// The address or a header cannot be used, or the system has no certificate authorities; the key of the
    /// configuration, and the reason.
    pub(super) fn new(
        key: &'static str,
        base: &str,
        headers: &[(&'static str, String)],
        secret: &str,
    ) -> Result<Self, (&'static str, String)> {
        let base = base.trim_end_matches('/');
        let uri: Uri = base.parse().map_err(|_| (key, "it is no address".to_owned()))?;
        if !is_safe(&uri) {
            return Err((key, "it must begin with https:// (http:// on this machine alone)".to_owned()));
        }
        let headers = headers.iter().map(|(name, value)| {
            let mut value = HeaderValue::from_str(value).ok()?;
            value.set_sensitive(true);
            Some((*name, value))
        });
        let headers: Option<Vec<_>> = headers.collect();
        let headers = headers.ok_or((key, "the secrets for it cannot stand in a header".to_owned()))?;
        let tls = client_config(None).map_err(|error| (key, error.to_string()))?;
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().build();
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self { client, base: base.to_owned(), headers, secret: secret.to_owned() })
    }

    /// Scheme, host and port.
    pub(super) fn place(&self) -> &str {
        let host = self.base.find("://").map_or(0, |at| at + 3);
        let end = self.base[host..].find('/').map_or(self.base.len(), |at| host + at);
        &self.base[..end]
    }

    /// Asks once. The path begins with a slash and holds nothing that would have to be encoded.
    ///
    /// # Errors
    /// There is no answer in time, or none that is read; the reason.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<(StatusCode, Bytes), String> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if body.is_some() {
            request = request.header(http::header::CONTENT_TYPE, "application/json");
        }
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = request.body(Full::new(body)).map_err(|error| error.to_string())?;
        let answered = timeout(ANSWER_TIMEOUT, async {
            let (head, body) =
                self.client.request(request).await.map_err(|error| with_causes(&error))?.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    format!("its answer is longer than {ANSWER_MAX} bytes")
                } else {
                    with_causes(&*error)
                }
            })?;
            Ok((head.status, body.to_bytes()))
        });
        answered.await.unwrap_or_else(|_| Err(format!("no answer within {ANSWER_TIMEOUT:?}")))
    }

    /// What an API said, for an error: the beginning, in one line, without the secret.
    pub(super) fn told(&self, said: &str) -> String {
        let said = if self.secret.is_empty() { said.to_owned() } else { said.replace(&self.secret, "…") };
        let line: String = said.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
        let line = line.trim();
        if line.is_empty() { "it says nothing".to_owned() } else { line.chars().take(TOLD_MAX).collect() }
    }
}

/// Whether nobody on the way can read or change what is said.
fn is_safe(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let is_here = || {
        let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        address.map_or_else(
            |_| config::HostName::parse(host).is_ok_and(|name| name.is_localhost()),
            |address| address.is_loopback(),
        )
    };
    // Who writes a password there would find it in logs.
    let has_user = uri.authority().is_some_and(|authority| authority.as_str().contains('@'));
    match uri.scheme_str() {
        Some("https") => !host.is_empty() && !has_user && uri.query().is_none(),
        Some("http") => is_here() && !has_user && uri.query().is_none(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_asked_in_clear() {
        for (uri, safe) in [
            ("https://dns.example.org", true),
            ("https://dns.example.org:8443/client/v4", true),
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("http://localhost", true),
            ("http://dns.example.org", false),
            ("http://127.0.0.1.example.org", false),
            ("http://10.0.0.1", false),
            ("https://me:secret@dns.example.org", false),
            ("https://dns.example.org/?key=secret", false),
            ("ftp://dns.example.org", false),
            ("/v4", false),
        ] {
            assert_eq!(is_safe(&uri.parse().unwrap()), safe, "{uri}");
        }
    }

    #[test]
    fn what_an_api_says_is_told_short_and_without_the_secret() {
        let api = Api::new("api", "https://dns.example.org:8443/v4/", &[], "geheim").unwrap();
        assert_eq!(api.place(), "https://dns.example.org:8443");
        assert_eq!(api.told("token geheim\nis bad\u{1b}["), "token … is bad [");
        assert_eq!(api.told(" \n"), "it says nothing");
        assert_eq!(api.told(&"x".repeat(9_000)).len(), TOLD_MAX);
    }

    #[test]
    fn what_cannot_be_asked_is_found_at_once() {
        let of = |base, header: &str| {
            Api::new("api", base, &[("authorization", header.to_owned())], "").err().map(|(_, reason)| reason)
        };
        assert_eq!(of("https://dns.example.org", "Bearer a"), None);
        assert!(of("http://dns.example.org", "Bearer a").is_some());
        assert!(of("not an address", "Bearer a").is_some());
        let told = of("https://dns.example.org", "Bearer a\nb").unwrap();
        assert_eq!(told, "the secrets for it cannot stand in a header");
    }
}
