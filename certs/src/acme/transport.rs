//! How an authority is spoken to: every answer bounded in time and size, and what it says of when to come again.

use crate::roots::client_config;
use crate::schedule::{ASK_WINDOW, RETRY_AFTER_MAX};
use bytes::Bytes;
use config::Authority;
use http::header::RETRY_AFTER;
use http::uri::Scheme;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use std::cell::Cell;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

/// Within which an answer must be there as a whole.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer may be: a chain of ten certificates has some 30 KiB.
const ANSWER_MAX: usize = 1 << 20;

/// The way to one authority. Cheap to clone.
#[derive(Clone)]
pub(super) struct Transport {
    client: Client<HttpsConnector<HttpConnector>, BodyWrapper<Bytes>>,
    /// The directory is on this machine, and spoken to in cleartext; from any other no address is taken that is not https.
    is_cleartext: bool,
}

tokio::task_local! {
    /// Of each talk its own: several go on at a time over one way, and one's `Retry-After` is not the others'.
    static TOLD: Cell<Told>;
}

/// A talk with an authority, during which [`Transport::told`] knows what its last answer said.
pub(super) async fn talk<T>(talk: impl Future<Output = T>) -> T {
    TOLD.scope(Cell::default(), talk).await
}

/// What the last answer said beside its body.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Told {
    pub(super) status: Option<StatusCode>,
    /// RFC 9110 §10.2.3.
    pub(super) retry_after: Option<SystemTime>,
}

impl Told {
    /// It wants to be left alone.
    pub(super) fn is_busy(self) -> bool {
        matches!(self.status, Some(StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE))
    }

    /// It did what it was asked for.
    pub(super) fn is_done(self) -> bool {
        self.status.is_some_and(|status| status.is_success())
    }
}

impl Transport {
    /// # Errors
    /// Whom to trust cannot be read; in words.
    pub(super) fn new(authority: &Authority) -> Result<Self, String> {
        let config = client_config(authority.certificate_authority.as_deref())
            .map_err(|error| format!("the certificate_authority cannot be used: {error}"))?;
        // The configuration takes http for this machine alone.
        let connector =
            HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
        let is_cleartext = authority.directory.starts_with("http://");
        Ok(Self { client: Client::builder(TokioExecutor::new()).build(connector), is_cleartext })
    }

    /// What the last answer of this [`talk`] said.
    pub(super) fn told() -> Told {
        TOLD.try_with(Cell::get).unwrap_or_default()
    }

    fn tell(told: Told) {
        // Outside a talk nobody asks.
        let _nobody = TOLD.try_with(|last| last.set(told));
    }

    async fn answer(self, request: Request<BodyWrapper<Bytes>>) -> Result<BytesResponse, Error> {
        Self::tell(Told::default());
        if !self.is_cleartext && request.uri().scheme() != Some(&Scheme::HTTPS) {
            return Err(Error::Other("it leads to an address that is not https".into()));
        }
        // The client takes no window without a word of when to ask again, which an authority need not say (RFC 9773 §4.3).
        // By GET only that is asked, and the directory.
        let default_wait = (request.method() == Method::GET).then_some(ASK_WINDOW);
        let whole = async {
            let response =
                self.client.request(request).await.map_err(|error| Error::Other(Box::new(error)))?;
            let (mut parts, body) = response.into_parts();
            let told = Told { status: Some(parts.status), retry_after: retry_after(&parts.headers) };
            // Who reads it after us adds whatever stands there to the time.
            parts.headers.remove(RETRY_AFTER);
            let wait = told.retry_after.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
            if let Some(wait) = wait.or(default_wait) {
                parts.headers.insert(RETRY_AFTER, wait.min(RETRY_AFTER_MAX).as_secs().into());
            }
            let body = Limited::new(body, ANSWER_MAX).collect().await.map_err(Error::Other)?.to_bytes();
            Self::tell(told);
            Ok(BytesResponse { parts: Response::from_parts(parts, ()).into_parts().0, body: Box::new(body) })
        };
        let late = || Error::Other(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()).into());
        tokio::time::timeout(ANSWER_TIMEOUT, whole).await.unwrap_or_else(|_| Err(late()))
    }
}

impl HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        Box::pin(self.clone().answer(request))
    }
}

fn retry_after(headers: &http::HeaderMap) -> Option<SystemTime> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.parse::<u32>() {
        Ok(seconds) => Some(SystemTime::now() + Duration::from_secs(seconds.into())),
        Err(_) => httpdate::parse_http_date(text).ok(),
    }
}
