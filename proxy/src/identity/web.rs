//! How an identity provider is asked: in bounded time, for an answer of bounded size, and never anybody else.
//!
//! Redirects are not followed and nothing is unpacked: what a provider says comes from where it was asked, and is no
//! larger than it looks.

mod names;

use certs::NoRoots;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use names::Names;
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use rustls::ClientConfig;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// How long an answer may take, from the first byte of the request to the last of the answer: longer than a person
/// looks at a blank page, and shorter than a browser waits.
const DEADLINE: Duration = Duration::from_secs(10);
/// The longest answer that is read, in bytes: the keys of the largest provider take some kilobytes.
const ANSWER: usize = 1 << 20;
/// How long a connection is kept for the next question.
const IDLE: Duration = Duration::from_secs(30);

/// Why a provider gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WebError {
    /// Nothing, or not all, in time.
    #[error("{at} did not answer within {DEADLINE:?}")]
    Silent {
        /// Scheme, host and port.
        at: String,
    },
    /// No connection, or it broke.
    #[error("{at} cannot be reached: {reason}")]
    Unreachable {
        /// Scheme, host and port.
        at: String,
        /// What the system or TLS says.
        reason: String,
    },
    /// The answer is longer than any that makes sense.
    #[error("the answer of {at} is longer than {ANSWER} bytes")]
    TooLong {
        /// Scheme, host and port.
        at: String,
    },
    /// What it would be sent could be read on the way.
    #[error("{at} is neither https nor on this machine, and is not asked")]
    Unsafe {
        /// Scheme, host and port.
        at: String,
    },
}

/// A client for one provider. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Web {
    client: Client<HttpsConnector<HttpConnector<Names>>, Full<Bytes>>,
}

impl Web {
    /// A client that believes the system's certificate authorities, or those of a file alone.
    ///
    /// # Errors
    /// There are none to believe.
    pub(crate) fn new(authority: Option<&Path>) -> Result<Self, NoRoots> {
        let tls =
            ClientConfig::builder().with_root_certificates(certs::roots(authority)?).with_no_client_auth();
        let mut http = HttpConnector::new_with_resolver(Names);
        // What is asked in clear is decided by `is_safe`.
        http.enforce_http(false);
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
        let connector = connector.wrap_connector(http);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_idle_timeout(IDLE).pool_max_idle_per_host(4);
        Ok(Self { client: builder.build(connector) })
    }

    /// Asks once; whatever status it is answered with.
    ///
    /// # Errors
    /// There was no answer, or none that will be read.
    pub(crate) async fn ask(&self, request: Request<Vec<u8>>) -> Result<Response<Vec<u8>>, WebError> {
        let at = place(request.uri());
        if !is_safe(request.uri()) {
            return Err(WebError::Unsafe { at });
        }
        let answered = tokio::time::timeout(DEADLINE, self.answer(request, &at)).await;
        answered.unwrap_or(Err(WebError::Silent { at }))
    }

    async fn answer(&self, request: Request<Vec<u8>>, at: &str) -> Result<Response<Vec<u8>>, WebError> {
        let broken = |reason: String| WebError::Unreachable { at: at.to_owned(), reason };
        let request = request.map(|body| Full::new(Bytes::from(body)));
        let (head, body) =
            self.client.request(request).await.map_err(|error| broken(chain(&error)))?.into_parts();
        let body = Limited::new(body, ANSWER).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                WebError::TooLong { at: at.to_owned() }
            } else {
                broken(chain(&*error))
            }
        })?;
        Ok(Response::from_parts(head, body.to_bytes().to_vec()))
    }
}

impl<'a> AsyncHttpClient<'a> for Web {
    type Error = WebError;
    type Future = BoxFuture<'a, Result<HttpResponse, WebError>>;

    fn call(&'a self, request: HttpRequest) -> Self::Future {
        self.ask(request).boxed()
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
    match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => is_here(),
        _ => false,
    }
}

/// Without path and query, which may hold what nobody should read in a log.
fn place(uri: &Uri) -> String {
    let scheme = uri.scheme_str().unwrap_or("?");
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{scheme}://{}{port}", uri.host().unwrap_or("?"))
}

/// An error with all that caused it.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_asked_in_clear() {
        for (uri, safe) in [
            ("https://id.example.org/token", true),
            ("https://127.0.0.1:8443/", true),
            ("http://localhost:4444/", true),
            ("http://idp.localhost/", true),
            ("http://127.0.0.1:4444/", true),
            ("http://[::1]:4444/", true),
            ("http://id.example.org/", false),
            ("http://127.0.0.1.example.org/", false),
            ("http://10.0.0.1/", false),
            ("/token", false),
            ("ftp://id.example.org/", false),
        ] {
            assert_eq!(is_safe(&uri.parse().unwrap()), safe, "{uri}");
        }
    }

    #[test]
    fn an_error_names_no_query() {
        let uri = "https://id.example.org:8443/token?code=secret".parse().unwrap();
        assert_eq!(place(&uri), "https://id.example.org:8443");
    }
}
